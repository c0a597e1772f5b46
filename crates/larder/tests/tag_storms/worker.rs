//! What each process does: many tasks that read, load, set, count, tag, delete and invalidate, and note what they did.
//!
//! The source of truth is time itself, by a clock that all processes share: a value that was computed is right as of the moment
//! at which its loader began, so each change makes all values older than its beginning wrong.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use larder::Cache;

use crate::losses::Losses;
use crate::moment::now;
use crate::plan::Plan;
use crate::record::{Counts, Event, Record, Recorder};

const TAGS: u64 = 32;
/// Tags are `group:tag`, and so many groups there are.
const GROUPS: u64 = 4;
const COUNTERS: u64 = 16;
/// Subjects that are no key.
const FIRST_COUNTER: u64 = 1 << 32;
const FIRST_OWN: u64 = 2 << 32;
const FIRST_TAG: u64 = 3 << 32;
const FIRST_GROUP: u64 = 4 << 32;
const ALL: u64 = 5 << 32;
/// A counter begins at the number of its value times this, so that increments do not change which value it is.
const COUNTS: u64 = 1 << 20;

/// The number of a value, and a body.
type Value = (u64, String);

/// A process of a storm.
struct Storm {
    cache: Cache,
    plan: Plan,
    process: u64,
    values: AtomicU64,
    done: AtomicU64,
    recorder: Recorder,
    /// Whether tags can be named by any pattern.
    can_list: bool,
    /// Of all values; random, so that it takes the room that it should.
    body: String,
}

/// Takes part in a storm: until `plan.operations` are done.
pub(crate) async fn take_part(
    cache: Cache,
    plan: Plan,
    process: usize,
    losses: Option<Losses>,
    heard: impl Fn(u64),
) -> Record {
    let storm = Arc::new(Storm {
        can_list: cache.tag_names().await.is_ok(),
        cache,
        plan,
        process: process as u64,
        values: AtomicU64::new(1),
        done: AtomicU64::new(0),
        recorder: Recorder::default(),
        body: (0..plan.body_bytes)
            .map(|_| fastrand::alphanumeric())
            .collect(),
    });
    let spawn = |task| tokio::spawn(work(Arc::clone(&storm), task));
    let mut tasks: Vec<_> = (0..plan.tasks).map(spawn).collect();
    if let Some(losses) = losses {
        let storm = Arc::clone(&storm);
        // What it does blocks.
        tasks.push(tokio::task::spawn_blocking(move || {
            lose(&storm, losses);
        }));
    }
    while tasks.iter().any(|task| !task.is_finished()) {
        heard(storm.done.load(SeqCst));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    if plan.max_staleness_ms > 0 {
        let counts = storm.cache.stats().await.unwrap().process;
        storm.count(|of_storm| of_storm.local_hits = counts.local_hits);
    }
    storm.recorder.take()
}

/// Loses a register for every so many operations.
fn lose(storm: &Storm, mut losses: Losses) {
    let mut strikes = 0;
    while storm.goes_on() {
        let due = storm.done.load(SeqCst) / storm.plan.loss_every;
        if strikes >= due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        strikes += 1;
        let lost = u64::from(losses.strike());
        storm.recorder.count(|counts| counts.lost += lost);
    }
}

async fn work(storm: Arc<Storm>, task: u64) {
    let own = Own::new(storm.process, task);
    let mut latest = 0;
    while storm.goes_on() {
        storm.done.fetch_add(1, SeqCst);
        storm.count(|counts| counts.operations += 1);
        let rarely = 5 * storm.plan.invalidate_every;
        match fastrand::u64(..rarely) {
            0 => storm.invalidate_rarely().await,
            1..=5 => storm.invalidate().await,
            _ => {}
        }
        match fastrand::u32(..1000) {
            0..550 => storm.get(&storm.any_key(), true).await,
            550..850 => storm.remember().await,
            850..900 => storm.learn().await,
            900..930 => storm.set(&storm.key(), Tag::some()).await,
            930..940 => storm.add().await,
            940..945 => storm.delete().await,
            945..960 => latest = storm.set_own(own).await,
            960..970 => storm.tag_own(own, latest).await,
            970..985 => storm.increment().await,
            985..990 => storm.set_counter().await,
            _ => drop(storm.cache.has(&storm.key().name).await.unwrap()),
        }
        if fastrand::u8(..16) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A key, and what changes of it are about.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    subject: u64,
}

/// A key that only one task writes, and all read.
#[derive(Debug, Clone, Copy)]
struct Own(u64);

impl Own {
    fn new(process: u64, task: u64) -> Self {
        Self(process << 8 | task)
    }

    fn target(self) -> Target {
        Target {
            name: format!("own:{}", self.0),
            subject: FIRST_OWN + self.0,
        }
    }
}

/// A tag of the storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u64);

impl Tag {
    fn any() -> Self {
        Self(fastrand::u64(..TAGS))
    }

    /// Returns one or two.
    fn some() -> Vec<Self> {
        let mut tags = vec![Self::any()];
        if fastrand::bool() {
            tags.push(Self::any());
        }
        tags
    }

    fn name(self) -> String {
        format!("g{}:t{}", self.0 % GROUPS, self.0)
    }

    fn subjects(self) -> [u64; 2] {
        [FIRST_TAG + self.0, FIRST_GROUP + self.0 % GROUPS]
    }
}

fn names(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(|tag| tag.name()).collect()
}

/// Takes as long as a load may take.
async fn compute() {
    match fastrand::u8(..8) {
        0 => tokio::time::sleep(Duration::from_micros(fastrand::u64(..3000))).await,
        1..4 => tokio::task::yield_now().await,
        _ => {}
    }
}

impl Storm {
    fn goes_on(&self) -> bool {
        self.done.load(SeqCst) < self.plan.operations
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        self.recorder.count(count);
    }

    /// Some keys are used far more often than others, as in life.
    fn key(&self) -> Target {
        let rank = (self.plan.keys as f64).powf(fastrand::f64());
        let subject = rank as u64 - 1;
        Target {
            name: format!("key:{subject}"),
            subject,
        }
    }

    fn any_key(&self) -> Target {
        match fastrand::u8(..16) {
            0 => {
                let process = fastrand::u64(..self.plan.processes);
                Own::new(process, fastrand::u64(..self.plan.tasks)).target()
            }
            _ => self.key(),
        }
    }

    fn counter() -> Target {
        let counter = fastrand::u64(..COUNTERS);
        Target {
            name: format!("counter:{counter}"),
            subject: FIRST_COUNTER + counter,
        }
    }

    /// Returns the number of a value that nobody else has.
    fn new_value(&self) -> u64 {
        self.process << 32 | self.values.fetch_add(1, SeqCst)
    }

    /// Notes what a value is right about as of a moment.
    fn depends(&self, value: u64, target: &Target, tags: &[Tag], since: u64) {
        for subject in [target.subject, ALL] {
            self.recorder.note(Event::Depends(value, subject, since));
        }
        self.depends_on(value, tags, since);
    }

    fn depends_on(&self, value: u64, tags: &[Tag], since: u64) {
        for subject in tags.iter().flat_map(|tag| tag.subjects()) {
            self.recorder.note(Event::Depends(value, subject, since));
        }
    }

    /// Makes a change that returns whether it did something, and notes when it did.
    async fn change(
        &self,
        subject: u64,
        change: impl Future<Output = larder::Result<bool>>,
    ) -> bool {
        let began = now();
        let is_done = change.await.unwrap();
        if is_done {
            self.recorder.note(Event::Changed(subject, began, now()));
        }
        is_done
    }

    async fn get(&self, target: &Target, counts: bool) {
        let began = now();
        let found: Option<Value> = self.cache.get(&target.name).await.unwrap();
        if counts {
            self.count_read(found.is_some());
        }
        if let Some((value, _)) = found {
            self.recorder.note(Event::Read(value, began));
        }
    }

    fn count_read(&self, is_hit: bool) {
        self.count(|counts| {
            counts.reads += 1;
            counts.hits += u64::from(is_hit);
        });
    }

    /// Remembers a key with tags that are known before.
    async fn remember(self: &Arc<Self>) {
        let (target, tags) = (self.key(), Tag::some());
        let (storm, to_load) = (Arc::clone(self), target.clone());
        let known = names(&tags);
        let mine = Arc::new(AtomicU64::new(0));
        let loaded = Arc::clone(&mine);
        let began = now();
        let load = move || async move { Ok(storm.load(&to_load, &tags, &loaded).await) };
        let remembered: Result<Value, larder::RememberError<std::io::Error>> =
            self.cache.remember(&target.name, load).tags(known).await;
        self.remembered(remembered.unwrap(), &mine, began);
    }

    /// Remembers a key with a tag that is known before, and one that only the loader names.
    async fn learn(self: &Arc<Self>) {
        let (target, tags) = (self.key(), [Tag::any(), Tag::any()]);
        let (storm, to_load) = (Arc::clone(self), target.clone());
        let mine = Arc::new(AtomicU64::new(0));
        let loaded = Arc::clone(&mine);
        let began = now();
        let load = move |context: larder::cache::LoadContext| async move {
            let value = storm.load(&to_load, &tags, &loaded).await;
            context.tag(tags[1].name());
            Ok(value)
        };
        let known = names(&tags[..1]);
        let remembered: Result<Value, larder::RememberError<std::io::Error>> = self
            .cache
            .remember_with(&target.name, load)
            .tags(known)
            .await;
        self.remembered(remembered.unwrap(), &mine, began);
    }

    /// What loaders do.
    async fn load(&self, target: &Target, tags: &[Tag], loaded: &AtomicU64) -> Value {
        let value = self.new_value();
        loaded.store(value, SeqCst);
        self.depends(value, target, tags, now());
        compute().await;
        (value, self.body.clone())
    }

    fn remembered(&self, (value, _): Value, mine: &AtomicU64, began: u64) {
        self.count_read(value != mine.load(SeqCst));
        self.recorder.note(Event::Remembered(value, began));
    }

    /// Sets a key; what is set is as new as the end of the set.
    async fn set(&self, target: &Target, tags: Vec<Tag>) {
        let value = self.new_value();
        self.write(target, &tags, value).await;
    }

    async fn write(&self, target: &Target, tags: &[Tag], value: u64) {
        let body = (value, self.body.clone());
        let set = self.cache.set(&target.name, &body).tags(names(tags));
        let set = async { set.await.map(|()| true) };
        self.change(target.subject, set).await;
        self.depends(value, target, tags, now());
    }

    async fn add(&self) {
        let (target, tags, value) = (self.key(), Tag::some(), self.new_value());
        let body = (value, self.body.clone());
        let add = self.cache.add(&target.name, &body).tags(names(&tags));
        if self.change(target.subject, async { add.await }).await {
            self.depends(value, &target, &tags, now());
        }
    }

    async fn delete(&self) {
        let target = match fastrand::u8(..8) {
            0 => Self::counter(),
            _ => self.key(),
        };
        // Even if nothing was there, a load that began before stores nothing.
        let delete = async { self.cache.delete(&target.name).await.map(|_| true) };
        self.change(target.subject, delete).await;
        match target.subject {
            FIRST_COUNTER.. => self.increment_of(&target).await,
            _ => self.get(&target, false).await,
        }
    }

    async fn set_own(&self, own: Own) -> u64 {
        let value = self.new_value();
        self.write(&own.target(), &Tag::some(), value).await;
        value
    }

    /// Adds a tag to the value that this task has set last, if it is still there.
    async fn tag_own(&self, own: Own, latest: u64) {
        let (target, tag) = (own.target(), Tag::any());
        let added = self.cache.add_tags(&target.name, [tag.name()]).await;
        if added.unwrap() {
            let since = now();
            for subject in tag.subjects() {
                self.recorder.note(Event::Tagged(latest, subject, since));
            }
        }
    }

    /// Counts with a value that keeps its tags.
    async fn increment(&self) {
        self.increment_of(&Self::counter()).await;
    }

    async fn increment_of(&self, target: &Target) {
        let began = now();
        let count = self.cache.increment(&target.name, 1).await.unwrap();
        // One that began anew depends on nothing.
        if let Some(value @ 1..) = u64::try_from(count).ok().map(|count| count / COUNTS) {
            self.recorder.note(Event::Read(value, began));
        }
    }

    async fn set_counter(&self) {
        let (target, tags, value) = (Self::counter(), Tag::some(), self.new_value());
        let count = i64::try_from(value * COUNTS).unwrap();
        let set = self.cache.set(&target.name, &count).tags(names(&tags));
        let set = async { set.await.map(|()| true) };
        self.change(target.subject, set).await;
        self.depends(value, &target, &tags, now());
    }

    async fn invalidate(&self) {
        let tag = Tag::any();
        if self.plan.max_staleness_ms > 0 && fastrand::u8(..8) == 0 {
            // What is stale may still be read.
            self.cache.mark_stale_tags([tag.name()]).await.unwrap();
        }
        let name = match fastrand::u8(..8) {
            // The same, found by a pattern that is no subtree.
            0 if self.can_list => format!("g?:t{}", tag.0),
            _ => tag.name(),
        };
        self.invalidate_name(tag.subjects()[0], name).await;
    }

    /// Invalidates a group of tags, or clears.
    async fn invalidate_rarely(&self) {
        if fastrand::u8(..4) == 0 {
            let clear = async { self.cache.clear().await.map(|()| true) };
            self.change(ALL, clear).await;
            return self.get(&self.any_key(), false).await;
        }
        let group = fastrand::u64(..GROUPS);
        self.invalidate_name(FIRST_GROUP + group, format!("g{group}:*"))
            .await;
    }

    async fn invalidate_name(&self, subject: u64, name: String) {
        let invalidate = self.cache.invalidate_tags([name]);
        self.change(subject, async { invalidate.await.map(|_| true) })
            .await;
        self.count(|counts| counts.invalidations += 1);
        // At once: those are the reads that find what slipped through.
        for _ in 0..2 {
            self.get(&self.any_key(), false).await;
        }
        self.increment().await;
    }
}

/// Plays the part of a process that a parent started.
pub(crate) async fn play(kind: crate::Kind, dir: &Path, process: usize) {
    let plan = Plan::load(dir);
    let store = kind.open(dir).await;
    let cache = crate::storm::cache(store, dir, plan);
    let losses = (plan.loss_every > 0 && process == 0).then(|| kind.losses(dir));
    crate::say("ready");
    crate::told();
    let record = take_part(cache, plan, process, losses, crate::say).await;
    record.save(&crate::storm::record_of(dir, process));
}
