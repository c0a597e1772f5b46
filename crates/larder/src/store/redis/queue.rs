//! Calls that wait a moment for others, to be sent together.
//!
//! A call that begins while none is under way is sent at once. One that begins while others are under way waits here;
//! the first of those that wait starts a task, which sends them all once the tasks that are ready now have had their
//! turn. So nobody waits for a reply but his own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inner;
use crate::error::{Error, ErrorKind};

/// Calls of one kind.
#[derive(Debug)]
pub(super) struct Queue<T> {
    under_way: AtomicUsize,
    waiting: Mutex<Vec<T>>,
}

/// A call that is under way, for as long as it lives.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    count: &'a AtomicUsize,
    /// Whether no other call was under way when this one began.
    pub(super) is_alone: bool,
}

/// The duty to send what waits. Dropped undone, as by a runtime that ends, it lets go those who wait, and the next
/// call begins anew.
pub(super) struct Duty<T> {
    pub(super) inner: Arc<Inner>,
    queue: fn(&Inner) -> &Queue<T>,
    is_done: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }
    }
}

impl<T> Queue<T> {
    /// Notes that a call begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        UnderWay {
            is_alone: self.under_way.fetch_add(1, Ordering::Relaxed) == 0,
            count: &self.under_way,
        }
    }

    /// Returns what waits; nothing is taken while this is held.
    pub(super) fn waiting(&self) -> MutexGuard<'_, Vec<T>> {
        self.lock().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lock around what waits.
    pub(super) fn lock(&self) -> &Mutex<Vec<T>> {
        &self.waiting
    }

    /// Lets a call wait; returns whether it is the first, and its caller has to see to the sending.
    pub(super) fn push(&self, call: T) -> bool {
        let mut waiting = self.waiting();
        waiting.push(call);
        waiting.len() == 1
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Duty<T> {
    /// Takes on the duty for a queue.
    pub(super) fn new(inner: &Arc<Inner>, queue: fn(&Inner) -> &Queue<T>) -> Self {
        Self {
            inner: Arc::clone(inner),
            queue,
            is_done: false,
        }
    }

    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.is_done = true;
        std::mem::take(&mut *(self.queue)(&self.inner).waiting())
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        if !self.is_done {
            (self.queue)(&self.inner).waiting().clear();
        }
    }
}

/// What those are told who were let go.
pub(super) fn abandoned<E>(_: E) -> Error {
    let message = "the runtime that was to send the call has ended";
    Error::new(ErrorKind::Unavailable, message)
}
