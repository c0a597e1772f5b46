//! Single flight: at most one load of a key runs in this process, and every caller who asks meanwhile waits for it.
//!
//! The flight owns the load: it runs in a task of its own, so dropping the first caller hangs nobody, and a panic or a
//! cancelled task is an error for all waiters. A change of the key makes the flight unjoinable ([`Flights::forget`]);
//! those who wait already began before the change and get what it loads.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::DefaultHashBuilder;
use tokio::sync::{Notify, SetOnce, watch};

use super::loading::Claim;
use super::nesting::LoadId;
use super::remember::RememberError;
use crate::error::{Error, ErrorKind};
use crate::tag::{Register, Selector};

const SHARDS: usize = 16;
/// The most callers that may wait for one load.
const MAX_WAITERS: usize = 100_000;

/// What a load came to: `Ok(None)` when a bulk loader returned nothing for the key.
pub(super) type Outcome<V, E> = Result<Option<Arc<V>>, RememberError<E>>;

type AnyFlight = Arc<dyn Any + Send + Sync>;
/// What tells flights of one key apart: their types, and the schema version they load.
type Flavor = (TypeId, u32);
type Shard = HashMap<Box<[u8]>, Vec<Slot>>;

/// A flight that can be joined.
#[derive(Debug)]
struct Slot {
    flavor: Flavor,
    depends: Depends,
    /// A refresh is waited for only by those who have no value.
    is_refresh: bool,
    flight: AnyFlight,
}

/// What the value of a flight depends on.
#[derive(Debug, Clone)]
pub(super) enum Depends {
    /// On these registers.
    On(Arc<[Register]>),
    /// Its loader decides while it runs.
    Unknown,
}

impl Depends {
    fn on_any_of(&self, selectors: &[Selector]) -> bool {
        let is_meant = |register| selectors.iter().any(|it| it.means(register));
        match self {
            Self::On(own) => own.iter().any(is_meant),
            Self::Unknown => true,
        }
    }
}

/// The flights of a cache that can be joined, by key, types and schema version.
#[derive(Debug)]
pub(super) struct Flights {
    shards: [Mutex<Shard>; SHARDS],
    /// Counts flights under way, joinable or not.
    active: AtomicUsize,
    /// Counts moments: the beginnings of calls and of what is sent to the store, in their order.
    moments: AtomicU64,
    /// Woken when none is under way any more.
    ended: Notify,
    hasher: DefaultHashBuilder,
}

/// One load.
#[derive(Debug)]
pub(super) struct Flight<V, E> {
    id: LoadId,
    state: Mutex<FlightState<V, E>>,
    landed: Notify,
    standing: Arc<Standing>,
}

/// Since when callers may take the value of a flight for theirs: it must have begun after any change of before the call.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When the load began in the store; 0: it has not.
    begun: AtomicU64,
    claim: SetOnce<Claim>,
    proof: watch::Sender<Proof>,
}

/// What the store said about what may have overtaken a load.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// Nothing had at this moment.
    Stands(u64),
    /// It is being asked.
    Asking,
    Overtaken,
}

impl Default for Proof {
    fn default() -> Self {
        Self::Stands(0)
    }
}

impl Standing {
    /// Notes that the load begins; before anything is sent.
    pub(super) fn begin(&self, flights: &Flights) {
        self.begun.store(flights.moment(), SeqCst);
    }

    /// Notes what the store has granted.
    pub(super) fn claim(&self, claim: Claim) {
        drop(self.claim.set(claim));
    }

    /// Returns whether a call that began at `since` may join without asking anybody.
    fn is_open_to(&self, since: u64) -> bool {
        match self.begun.load(SeqCst) {
            0 => true,
            begun => since < begun,
        }
    }

    /// Returns what is known for a call that began at `since`; `None`: the store must be asked, which this is the
    /// first one to find out.
    fn verdict(&self, since: u64) -> Option<Proof> {
        let mut verdict = None;
        self.proof.send_if_modified(|proof| {
            verdict = match *proof {
                Proof::Stands(at) if since >= at => None,
                known => Some(known),
            };
            if verdict.is_none() {
                *proof = Proof::Asking;
            }
            verdict.is_none()
        });
        verdict
    }
}

/// Publishes what the store said; dropped before, that the load is overtaken.
struct Question(Arc<Standing>, Proof);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.proof.send_replace(self.1);
    }
}

#[derive(Debug)]
struct FlightState<V, E> {
    waiters: usize,
    outcome: Option<Outcome<V, E>>,
}

/// How a caller takes part in a flight.
pub(super) enum Entered<V: 'static, E: 'static> {
    /// It must run the load.
    Leads(Pilot<V, E>, Waiter<V, E>),
    /// It waits for another's.
    Joins(Waiter<V, E>),
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            active: AtomicUsize::new(0),
            moments: AtomicU64::new(1),
            ended: Notify::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        lock(&self.shards[index])
    }

    /// Returns whether a flight of this key, schema version and these types can be joined at once.
    pub(super) fn is_joinable<V: 'static, E: 'static>(&self, key: &[u8], schema: u32) -> bool {
        let wanted = (TypeId::of::<Flight<V, E>>(), schema);
        self.shard(key).get(key).is_some_and(|flights| {
            let joinable = |slot: &Slot| slot.flavor == wanted && !slot.is_refresh;
            flights.iter().any(joinable)
        })
    }

    /// Joins the flight of this key, schema version and these types, if there is one.
    ///
    /// # Errors
    /// As [`Flights::enter`].
    pub(super) fn join<V, E>(&self, key: &[u8], schema: u32) -> Result<Option<Waiter<V, E>>, Error>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let wanted = (TypeId::of::<Flight<V, E>>(), schema);
        let shard = self.shard(key);
        let mut slots = shard.get(key).into_iter().flatten();
        let present = slots.find(|slot| slot.flavor == wanted);
        let flight =
            present.and_then(|slot| Arc::clone(&slot.flight).downcast::<Flight<V, E>>().ok());
        flight.map(|flight| flight.join()).transpose()
    }

    /// Joins the flight of this key, schema version and these types, or starts one.
    ///
    /// # Errors
    /// `Overloaded`: too many wait for it already.
    pub(super) fn enter<V, E>(
        self: &Arc<Self>,
        key: &[u8],
        schema: u32,
        (depends, is_refresh): (&Depends, bool),
    ) -> Result<Entered<V, E>, Error>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let wanted = (TypeId::of::<Flight<V, E>>(), schema);
        let mut shard = self.shard(key);
        let present = shard
            .get(key)
            .and_then(|flights| flights.iter().find(|slot| slot.flavor == wanted));
        let present =
            present.and_then(|slot| Arc::clone(&slot.flight).downcast::<Flight<V, E>>().ok());
        if let Some(flight) = present {
            return flight.join().map(Entered::Joins);
        }
        let state = FlightState {
            waiters: 0,
            outcome: None,
        };
        let flight = Arc::new(Flight {
            id: LoadId::new(key),
            state: Mutex::new(state),
            landed: Notify::new(),
            standing: Arc::default(),
        });
        self.active.fetch_add(1, SeqCst);
        shard.entry(key.into()).or_default().push(Slot {
            flavor: wanted,
            depends: depends.clone(),
            is_refresh,
            flight: Arc::clone(&flight) as _,
        });
        drop(shard);
        let joined = flight.join();
        let pilot = Pilot {
            flights: Arc::clone(self),
            key: key.into(),
            flight,
        };
        Ok(Entered::Leads(pilot, joined?))
    }

    /// Returns a moment that is later than all others so far.
    pub(super) fn moment(&self) -> u64 {
        self.moments.fetch_add(1, SeqCst)
    }

    /// Returns whether no load is under way. See `Inflight::quiet`.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.active.load(SeqCst) == 0
    }

    /// Returns how many loads are under way.
    pub(super) fn under_way(&self) -> usize {
        self.active.load(SeqCst)
    }

    /// Waits until no load is under way. Cancel-safe.
    pub(super) async fn idle(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.is_idle() {
                return;
            }
            ended.await;
        }
    }

    /// Lets nobody join the flights of this key any more.
    pub(super) fn forget(&self, key: &[u8]) {
        self.shard(key).remove(key);
    }

    /// Lets nobody join this flight any more.
    fn retire<V, E>(&self, key: &[u8], flight: &Arc<Flight<V, E>>) {
        retire(&mut self.shard(key), key, flight);
    }

    /// Returns the keys with flights that can be joined, in no order.
    pub(super) fn keys(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(lock(shard).keys().filter(|key| wanted(key)).cloned());
        }
        keys
    }

    /// Lets nobody join the flights whose values depend on what is meant, or may do so.
    pub(super) fn forget_depending(&self, selectors: &[Selector]) {
        for shard in &self.shards {
            lock(shard).retain(|_, flights| {
                flights.retain(|slot| !slot.depends.on_any_of(selectors));
                !flights.is_empty()
            });
        }
    }

    /// Lets nobody join any flight of the present.
    pub(super) fn forget_all(&self) {
        for shard in &self.shards {
            lock(shard).clear();
        }
    }
}

impl<V, E> Flight<V, E> {
    fn join(self: &Arc<Self>) -> Result<Waiter<V, E>, Error> {
        let mut state = self.lock();
        if state.waiters >= MAX_WAITERS {
            let message = format!("{MAX_WAITERS} callers wait for this load already");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        state.waiters += 1;
        Ok(Waiter(Arc::clone(self)))
    }

    fn land(&self, outcome: Outcome<V, E>) {
        self.lock().outcome.get_or_insert(outcome);
        self.landed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, FlightState<V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller who waits for a flight.
pub(super) struct Waiter<V, E>(Arc<Flight<V, E>>);

impl<V, E> Waiter<V, E> {
    /// Waits for the outcome. The last waiter gets it for itself, not a copy. Cancel-safe.
    pub(super) async fn outcome(self) -> Outcome<V, E> {
        loop {
            let mut landed = std::pin::pin!(self.0.landed.notified());
            landed.as_mut().enable();
            if let Some(outcome) = self.take() {
                return outcome;
            }
            landed.await;
        }
    }

    /// Returns whether the value may be taken by a call that began at `since`: nothing has changed the key between the
    /// beginning of the load and that of the call. `ask` asks the store about it, once for all who wait meanwhile, and in
    /// a task of its own: whoever waits may stop to.
    pub(super) async fn is_fit_for<F>(
        &self,
        flights: &Arc<Flights>,
        since: u64,
        ask: impl Fn(Claim) -> F,
    ) -> bool
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let standing = &self.0.standing;
        let mut proof = standing.proof.subscribe();
        loop {
            if standing.is_open_to(since) {
                return true;
            }
            let claim = standing.claim.wait().await;
            if standing.is_open_to(since) {
                // It has begun anew meanwhile.
                return true;
            }
            match standing.verdict(since) {
                Some(Proof::Stands(_)) => return true,
                Some(Proof::Overtaken) => return false,
                // The sender is in the flight that this waits for.
                Some(Proof::Asking) => drop(proof.changed().await),
                None => {
                    let sent = flights.moment();
                    let question = Question(Arc::clone(standing), Proof::Overtaken);
                    let answer = ask(claim.clone());
                    tokio::spawn(async move {
                        let mut question = question;
                        if answer.await {
                            question.1 = Proof::Stands(sent);
                        }
                    });
                }
            }
        }
    }

    /// Returns which load it waits for.
    pub(super) fn id(&self) -> &LoadId {
        &self.0.id
    }

    /// Returns whether a call that began at `since` may take the value without asking anybody.
    pub(super) fn is_open_to(&self, since: u64) -> bool {
        self.0.standing.is_open_to(since)
    }

    /// Lets nobody join its flight any more.
    pub(super) fn retire(&self, flights: &Flights, key: &[u8]) {
        flights.retire(key, &self.0);
    }

    fn take(&self) -> Option<Outcome<V, E>> {
        let mut state = self.0.lock();
        if state.waiters == 1 {
            state.outcome.take()
        } else {
            state.outcome.clone()
        }
    }
}

impl<V, E> Drop for Waiter<V, E> {
    fn drop(&mut self) {
        self.0.lock().waiters -= 1;
    }
}

/// The duty to land a flight; dropping it without an outcome lands it with an error.
pub(super) struct Pilot<V: 'static, E: 'static> {
    flights: Arc<Flights>,
    key: Box<[u8]>,
    flight: Arc<Flight<V, E>>,
}

impl<V: 'static, E: 'static> Pilot<V, E> {
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn id(&self) -> &LoadId {
        &self.flight.id
    }

    /// Returns whether this process has no other flight of the key: of another type, or another schema version.
    pub(super) fn is_alone(&self) -> bool {
        let this = Arc::as_ptr(&self.flight).cast::<()>();
        let shard = self.flights.shard(&self.key);
        let mut slots = shard.get(&self.key).into_iter().flatten();
        slots.all(|slot| Arc::as_ptr(&slot.flight).cast::<()>() == this)
    }

    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.flight.standing
    }

    /// Lets nobody join any more, if nobody waits; returns whether that is so.
    pub(super) fn is_abandoned(&self) -> bool {
        // Whoever joins holds the shard.
        let mut shard = self.flights.shard(&self.key);
        if self.flight.lock().waiters > 0 {
            return false;
        }
        retire(&mut shard, &self.key, &self.flight);
        true
    }

    /// Ends the flight: nobody can join any more, everybody who waits gets the outcome.
    pub(super) fn land(self, outcome: Outcome<V, E>) {
        self.close();
        self.flight.land(outcome);
    }

    fn close(&self) {
        self.flights.retire(&self.key, &self.flight);
    }
}

impl<V: 'static, E: 'static> Drop for Pilot<V, E> {
    fn drop(&mut self) {
        self.close();
        if self.flights.active.fetch_sub(1, SeqCst) == 1 {
            self.flights.ended.notify_waiters();
        }
        self.flight.standing.claim(Claim::LANDED);
        let cancelled = Error::new(ErrorKind::Load, "the load was cancelled").retryable(true);
        self.flight.land(Err(RememberError::Cache(cancelled)));
    }
}

/// Takes a flight out of those that can be joined.
fn retire<V, E>(shard: &mut Shard, key: &[u8], flight: &Arc<Flight<V, E>>) {
    if let Some(flights) = shard.get_mut(key) {
        let this = Arc::as_ptr(flight).cast::<()>();
        flights.retain(|slot| Arc::as_ptr(&slot.flight).cast::<()>() != this);
        if flights.is_empty() {
            shard.remove(key);
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
