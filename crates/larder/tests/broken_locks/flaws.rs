//! Lock stores that are wrong in one way each.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use larder::lock::{
    Answer, Ask, HolderStatus, Listener, LockStatus, LockStore, MAX_WAITERS, Owner, Rate, Taken,
};
use larder::store::{Expiry, Memory, Store, Write};
use larder::testing::sealed;
use larder::{Clock, ErrorKind, Glob, Key, Namespace, Result};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the locks are sound.
    None,
    /// One holder more than there are permits.
    GrantsToOneMore,
    /// Whether a lock is free is checked first, and the grant is made later.
    ChecksThenGrants,
    /// Goes on with an attempt whose caller gave up.
    GrantsLater,
    /// The first number of permits counts for ever.
    RemembersPermits,
    /// A holder that asks again is told that somebody holds it.
    RefusesItsHolder,
    /// A holder that asks again gets a longer lease.
    RenewsWhenAsked,
    /// A holder that asks again gets another fence.
    RefencesWhenAsked,
    /// Leases do not end.
    ForgetsExpiry,
    /// Leases end a little early.
    EndsEarly,
    /// A long TTL is taken for a date.
    TakesTtlsForDates,
    /// Fences start again when the lock was given up.
    RestartsFences,
    /// Every second grant has the fence of the one before.
    RepeatsFences,
    /// Releases whoever holds it.
    ReleasesForAnyone,
    /// A release that finds nothing says that it did.
    AlwaysReleases,
    /// A release that finds nothing still adds a free permit.
    FreesTwice,
    /// A release frees all permits.
    FreesAll,
    /// Extends whoever holds it.
    ExtendsForAnyone,
    /// Adds the extension to what is left.
    AddsExtensions,
    /// Says that it evicted, and did not.
    EvictsNothing,
    /// Evicts one holder of many.
    EvictsOne,
    /// Whoever asks first when it is free gets it.
    HasNoOrder,
    /// Who asks again goes to the end.
    SendsToTheEnd,
    /// Who only tries is put in the queue, too.
    QueuesEveryone,
    /// The dead keep their places.
    KeepsTheDead,
    /// Each dead waiter costs a heartbeat of its own.
    BuriesOneByOne,
    /// A waiter that gives up keeps its place.
    KeepsTheCancelled,
    /// Barging takes what is held.
    BargesIntoTheHeld,
    /// Nobody can barge in.
    ForbidsBarging,
    /// The times that waiters are told are too short.
    PromisesTooMuch,
    /// No bell rings.
    IsDeaf,
    /// The queue has no end.
    TakesEveryWaiter,
    /// Lists all names ever seen.
    ListsTheIdle,
    /// Lists whatever the pattern.
    ListsEverything,
    /// Looks at so many names as were asked for, in use or not.
    LimitsTooSoon,
    /// Shows how long leases last in place of what is left of them.
    ShowsTtls,
    /// Hold times come the oldest first.
    ReversesHoldTimes,
    /// Every release adds a hold time.
    InventsHoldTimes,
    /// Spaces and names are glued together.
    GluesSpaces,
    /// Names end at their first zero byte.
    CStrings,
    /// What stands in braces is the name.
    KeepsBracesOnly,
    /// Clearing a cache frees the locks.
    ClearsLocks,
    /// Locks are kept as entries of the cache.
    WritesEntries,
    /// Buckets hold one more.
    HoldsOneMore,
    /// What is there is taken though it is not enough.
    TakesSome,
    /// Whether there is enough is checked first, and taken later.
    ChecksThenTakes,
    /// Buckets fill at the turn of each interval.
    CountsByWindow,
    /// The times that callers of limiters are told are too short.
    HurriesTakers,
    /// Says that it has no limiters, and has.
    Modest,
    /// Says that it has locks, and has none.
    Boastful,
}

/// Sound locks with a flaw. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct BrokenLocks {
    inner: Arc<dyn LockStore>,
    entries: Memory,
    flaw: Flaw,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    names: BTreeSet<(Namespace, Vec<u8>)>,
    permits: HashMap<Vec<u8>, u32>,
    /// By name, the true fences in their order, or since the last release.
    fences: HashMap<Vec<u8>, Vec<u64>>,
    windows: HashMap<(Vec<u8>, u64), u64>,
}

impl BrokenLocks {
    pub(crate) fn new(entries: &Memory, flaw: Flaw) -> Self {
        Self {
            inner: entries.lock_store().expect("memory has locks"),
            entries: entries.clone(),
            flaw,
            seen: Arc::default(),
        }
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn clock(&self) -> Clock {
        self.entries.clock()
    }

    /// Frees every lock.
    pub(crate) async fn free_all(&self) -> Result<()> {
        let names = self.seen.lock().unwrap().names.clone();
        for (space, name) in names {
            self.inner.evict(&space, &name).await?;
        }
        Ok(())
    }

    /// Returns the space and the name to use.
    fn place(&self, space: &Namespace, name: &[u8]) -> (Namespace, Vec<u8>) {
        let place = match self.flaw {
            Flaw::GluesSpaces => {
                let glued = space
                    .to_string()
                    .replace("%3A", ":")
                    .replace("::leases", "");
                let name = [glued.as_bytes(), b":", name].concat();
                (Namespace::new("glued", "", 1), name)
            }
            Flaw::CStrings => {
                let first = name.split(|byte| *byte == 0).next();
                (space.clone(), first.unwrap_or_default().to_vec())
            }
            Flaw::KeepsBracesOnly => {
                let tag = name.split(|byte| *byte == b'{').nth(1);
                let tag = tag.and_then(|rest| rest.split(|byte| *byte == b'}').next());
                let tag = tag.filter(|tag| !tag.is_empty());
                (space.clone(), tag.unwrap_or(name).to_vec())
            }
            _ => (space.clone(), name.to_vec()),
        };
        self.seen.lock().unwrap().names.insert(place.clone());
        place
    }

    async fn status(&self, space: &Namespace, name: &[u8]) -> Result<Option<LockStatus>> {
        let mut listed = self.inner.list(space, &Glob::all(), usize::MAX).await?;
        listed.retain(|status| status.name.as_bytes() == name);
        Ok(listed.pop())
    }

    async fn holders(&self, space: &Namespace, name: &[u8]) -> Result<Vec<HolderStatus>> {
        let status = self.status(space, name).await?;
        Ok(status.map(|status| status.holders).unwrap_or_default())
    }

    /// Returns the attempt that is made in place of one.
    async fn ask(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Ask> {
        let mut made = ask.clone();
        match self.flaw {
            Flaw::GrantsToOneMore => made.permits += 1,
            Flaw::RemembersPermits => {
                let mut seen = self.seen.lock().unwrap();
                made.permits = *seen.permits.entry(name.to_vec()).or_insert(ask.permits);
            }
            Flaw::ForgetsExpiry => made.ttl_ms = u64::MAX / 4,
            Flaw::EndsEarly => made.ttl_ms -= 1,
            Flaw::TakesTtlsForDates if ask.ttl_ms >= 30 * DAY_MS => made.ttl_ms = 1,
            Flaw::HasNoOrder => made.barge = true,
            Flaw::ForbidsBarging => made.barge = false,
            Flaw::QueuesEveryone => made.heartbeat_ms = Some(DAY_MS),
            Flaw::KeepsTheDead => made.heartbeat_ms = ask.heartbeat_ms.map(|_| DAY_MS),
            Flaw::BuriesOneByOne => {
                let waiters = self.status(space, name).await?.map_or(0, |s| s.waiters);
                made.heartbeat_ms = ask.heartbeat_ms.map(|ms| ms * (waiters + 1));
            }
            _ => {}
        }
        Ok(made)
    }

    /// Does what is wrong before the attempt is made; `Some`: it is not made.
    async fn before(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Option<Answer>> {
        if matches!(self.flaw, Flaw::None | Flaw::TakesEveryWaiter) {
            return Ok(None);
        }
        let busy = Answer::Busy {
            ahead: 0,
            retry_ms: 1,
        };
        let holders = self.holders(space, name).await?;
        let is_holder = holders.iter().any(|h| h.owner == ask.owner.as_str());
        match self.flaw {
            Flaw::RefusesItsHolder if is_holder => return Ok(Some(busy)),
            Flaw::ChecksThenGrants if !holders.is_empty() && !is_holder => return Ok(Some(busy)),
            Flaw::ChecksThenGrants => {
                tokio::time::sleep(Duration::from_micros(200)).await;
                self.inner.evict(space, name).await?;
            }
            Flaw::RefencesWhenAsked if is_holder => {
                self.inner.release(space, name, &ask.owner, None).await?;
            }
            Flaw::SendsToTheEnd if !is_holder && !holders.is_empty() => {
                self.inner.release(space, name, &ask.owner, None).await?;
            }
            Flaw::BargesIntoTheHeld if ask.barge => {
                self.inner.evict(space, name).await?;
            }
            Flaw::RenewsWhenAsked if is_holder => {
                let owner = &ask.owner;
                self.inner.extend(space, name, owner, ask.ttl_ms).await?;
            }
            Flaw::GrantsLater => tokio::time::sleep(Duration::from_millis(2)).await,
            Flaw::WritesEntries => {
                let text = space.to_string();
                let prefix = text.split(':').next().unwrap_or_default();
                let cache = Namespace::new(prefix, "cache", 1);
                let write = Write::put(name, sealed(b"locked"), Expiry::Never);
                self.entries.write_many(&cache, &[write]).await?;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Returns the fence that is told in place of the true one.
    fn fence(&self, name: &[u8], fence: u64) -> u64 {
        let mut seen = self.seen.lock().unwrap();
        let fences = seen.fences.entry(name.to_vec()).or_default();
        if !fences.contains(&fence) {
            fences.push(fence);
        }
        let at = fences.iter().position(|known| *known == fence);
        let number = at.unwrap_or_default() as u64;
        match self.flaw {
            Flaw::RestartsFences => number + 1,
            Flaw::RepeatsFences => number / 2 + 1,
            _ => fence,
        }
    }

    fn told(&self, name: &[u8], answer: Answer) -> Answer {
        match answer {
            Answer::Granted { fence, left_ms } => Answer::Granted {
                fence: self.fence(name, fence),
                left_ms,
            },
            Answer::Busy { ahead, retry_ms } if self.is(Flaw::PromisesTooMuch) => Answer::Busy {
                ahead,
                retry_ms: retry_ms - retry_ms / 8,
            },
            busy @ Answer::Busy { .. } => busy,
        }
    }

    async fn acquire_at(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        if let Some(answer) = self.before(space, name, ask).await? {
            return Ok(answer);
        }
        let made = self.ask(space, name, ask).await?;
        match self.inner.acquire(space, name, &made).await {
            Err(error)
                if self.is(Flaw::TakesEveryWaiter) && error.kind() == ErrorKind::Overloaded =>
            {
                Ok(Answer::Busy {
                    ahead: MAX_WAITERS as u64,
                    retry_ms: 1,
                })
            }
            answer => Ok(self.told(name, answer?)),
        }
    }

    /// Frees the permit of some holder.
    async fn release_any(&self, space: &Namespace, name: &[u8]) -> Result<bool> {
        let holders = self.holders(space, name).await?;
        let Some(holder) = holders.first() else {
            return Ok(false);
        };
        let owner = Owner::from_text(&holder.owner);
        self.inner.release(space, name, &owner, None).await
    }

    fn take_by_window(&self, name: &[u8], rate: &Rate, tokens: u64) -> Taken {
        let window = self.clock().now_ms() / rate.interval_ms;
        let mut seen = self.seen.lock().unwrap();
        let used = seen.windows.entry((name.to_vec(), window)).or_default();
        let allowed = *used + tokens <= rate.burst;
        if allowed {
            *used += tokens;
        }
        Taken {
            allowed,
            remaining: rate.burst - *used,
            retry_after_ms: u64::from(!allowed) * 34,
        }
    }
}

#[async_trait]
impl LockStore for BrokenLocks {
    async fn acquire(&self, space: &Namespace, name: &[u8], ask: &Ask) -> Result<Answer> {
        let (space, name) = self.place(space, name);
        if self.is(Flaw::GrantsLater) {
            let (locks, ask) = (self.clone(), ask.clone());
            let attempt = async move { locks.acquire_at(&space, &name, &ask).await };
            return tokio::spawn(attempt).await.expect("it does not panic");
        }
        self.acquire_at(&space, &name, ask).await
    }

    async fn extend(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        ttl_ms: u64,
    ) -> Result<bool> {
        let (space, name) = self.place(space, name);
        let holders = self.holders(&space, &name).await?;
        let mut owner = owner.clone();
        let mut ttl_ms = ttl_ms;
        match self.flaw {
            Flaw::ExtendsForAnyone => {
                if let Some(holder) = holders.first() {
                    owner = Owner::from_text(&holder.owner);
                }
            }
            Flaw::AddsExtensions => {
                ttl_ms += holders.first().map_or(0, |holder| holder.left_ms);
            }
            Flaw::TakesTtlsForDates if ttl_ms >= 30 * DAY_MS => ttl_ms = 1,
            _ => {}
        }
        self.inner.extend(&space, &name, &owner, ttl_ms).await
    }

    async fn release(
        &self,
        space: &Namespace,
        name: &[u8],
        owner: &Owner,
        held_ms: Option<u64>,
    ) -> Result<bool> {
        let (space, name) = self.place(space, name);
        let holders = self.holders(&space, &name).await?;
        let is_holder = holders.iter().any(|h| h.owner == owner.as_str());
        let mut held_ms = held_ms;
        match self.flaw {
            Flaw::KeepsTheCancelled if !is_holder => return Ok(false),
            Flaw::ReleasesForAnyone if !is_holder => return self.release_any(&space, &name).await,
            Flaw::AlwaysReleases if !is_holder => return Ok(true),
            Flaw::FreesTwice if !is_holder => {
                self.release_any(&space, &name).await?;
            }
            Flaw::FreesAll => {
                self.inner.evict(&space, &name).await?;
                return Ok(is_holder);
            }
            Flaw::RestartsFences => {
                self.seen.lock().unwrap().fences.remove(&name);
            }
            Flaw::InventsHoldTimes => held_ms = held_ms.or(Some(0)),
            _ => {}
        }
        self.inner.release(&space, &name, owner, held_ms).await
    }

    async fn evict(&self, space: &Namespace, name: &[u8]) -> Result<u64> {
        let (space, name) = self.place(space, name);
        match self.flaw {
            Flaw::EvictsNothing => Ok(self.holders(&space, &name).await?.len() as u64),
            Flaw::EvictsOne => Ok(u64::from(self.release_any(&space, &name).await?)),
            _ => self.inner.evict(&space, &name).await,
        }
    }

    async fn hold_times(&self, space: &Namespace, name: &[u8]) -> Result<Vec<u64>> {
        let (space, name) = self.place(space, name);
        let mut times = self.inner.hold_times(&space, &name).await?;
        if self.is(Flaw::ReversesHoldTimes) {
            times.reverse();
        }
        Ok(times)
    }

    async fn list(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        let all = Glob::all();
        let pattern = if self.is(Flaw::ListsEverything) {
            &all
        } else {
            pattern
        };
        let mut listed = self.inner.list(space, pattern, limit).await?;
        let names = self.seen.lock().unwrap().names.clone();
        let mut names = names
            .into_iter()
            .filter(|(seen_in, name)| seen_in == space && pattern.matches(name))
            .map(|(_, name)| Key::from(name));
        match self.flaw {
            Flaw::LimitsTooSoon => {
                let looked_at: Vec<_> = names.take(limit).collect();
                listed.retain(|status| looked_at.contains(&status.name));
            }
            Flaw::ListsTheIdle => {
                names.by_ref().for_each(|name| {
                    if listed.iter().all(|status| status.name != name) {
                        listed.push(LockStatus {
                            name,
                            holders: Vec::new(),
                            waiters: 0,
                        });
                    }
                });
            }
            Flaw::ShowsTtls => {
                for holder in listed.iter_mut().flat_map(|status| &mut status.holders) {
                    holder.left_ms += holder.held_ms;
                }
            }
            _ => {}
        }
        Ok(listed)
    }

    async fn take(
        &self,
        space: &Namespace,
        name: &[u8],
        rate: &Rate,
        tokens: u64,
    ) -> Result<Taken> {
        let (space, name) = self.place(space, name);
        let mut rate = *rate;
        match self.flaw {
            Flaw::HoldsOneMore => rate.burst += 1,
            Flaw::CountsByWindow => return Ok(self.take_by_window(&name, &rate, tokens)),
            Flaw::ChecksThenTakes => {
                let mut there = self.inner.take(&space, &name, &rate, 0).await?;
                there.allowed = there.remaining >= tokens;
                tokio::time::sleep(Duration::from_micros(200)).await;
                if there.allowed {
                    self.inner.take(&space, &name, &rate, tokens).await?;
                }
                return Ok(there);
            }
            _ => {}
        }
        let mut taken = self.inner.take(&space, &name, &rate, tokens).await?;
        if self.is(Flaw::TakesSome) && !taken.allowed {
            let rest = taken.remaining;
            self.inner.take(&space, &name, &rate, rest).await?;
        }
        if self.is(Flaw::HurriesTakers) {
            taken.retry_after_ms -= taken.retry_after_ms / 8;
        }
        Ok(taken)
    }

    fn is_fair(&self) -> bool {
        self.inner.is_fair()
    }

    async fn listen(&self, space: &Namespace, name: &[u8], owner: &Owner) -> Listener {
        let (space, name) = self.place(space, name);
        if self.is(Flaw::IsDeaf) {
            return Listener::deaf();
        }
        self.inner.listen(&space, &name, owner).await
    }
}
