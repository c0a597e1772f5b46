//! The task that owns a socket: writes what callers queued, reads replies, hands them out.
//!
//! Replies come in the order of the commands, and each repeats the token of its command. The first one that does not
//! ends the connection with everything in flight on it: a reply that was cut, repeated, lost or made up can fail
//! calls, but never answer one with what belongs to another.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::connect::Socket;
use super::pipe::{Answer, Failure, Pipe, Reply, Waiting, now_ms};
use super::reply::{self, Code, Head, Parsed};
use super::request::Expect;

/// What one read may bring, and the size of the buffer between calls.
const READ_BYTES: usize = 64 << 10;
/// Bodies up to this size are copied, so that a small value does not keep a whole buffer alive.
const MAX_COPIED_BYTES: usize = 16 << 10;
/// A write buffer that grew beyond this is given back.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// So many calls in a row that time out in silence, and the connection counts as dead.
const MAX_SILENT_TIMEOUTS: u32 = 2;
/// Lines of statistics that are plausible.
const MAX_STAT_LINES: usize = 2000;

/// Runs one connection until it breaks.
pub(super) struct Driver {
    pipe: Arc<Pipe>,
    socket: Box<dyn Socket>,
    inbox: BytesMut,
    outbox: Vec<u8>,
    /// How much of the outbox is written.
    written: usize,
    /// What is to be answered, oldest first.
    sent: VecDeque<Waiting>,
    timer: Pin<Box<Sleep>>,
    timer_runs: bool,
    timer_is_polled: bool,
    silent_timeouts: u32,
    /// The batches of the last write: more than one tells of callers that come together.
    last_batches: usize,
    let_others_queue: bool,
}

impl Driver {
    pub(super) fn new(pipe: Arc<Pipe>, socket: Box<dyn Socket>) -> Self {
        Self {
            pipe,
            socket,
            // Twice as much, so that moving what is left to the front makes room again.
            inbox: BytesMut::with_capacity(2 * READ_BYTES),
            outbox: Vec::new(),
            written: 0,
            sent: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_runs: false,
            timer_is_polled: false,
            silent_timeouts: 0,
            last_batches: 0,
            let_others_queue: false,
        }
    }

    /// Goes on until the socket has nothing more to give or to take. An error is the end.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        while let Poll::Ready(read) = self.poll_read(cx) {
            read?;
        }
        while let Poll::Ready(written) = self.poll_write(cx) {
            written?;
        }
        self.check_deadlines(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 4 {
            self.inbox.reserve(READ_BYTES);
        }
        let read = pin!(self.socket.read_buf(&mut self.inbox));
        match ready!(read.poll(cx)) {
            Ok(0) => Poll::Ready(Err("the server closed the connection")),
            Ok(_) => {
                self.silent_timeouts = 0;
                Poll::Ready(self.take_replies())
            }
            Err(_) => Poll::Ready(Err("reading from the connection failed")),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        if self.written == self.outbox.len() && !self.take_queue(cx) {
            return Poll::Pending;
        }
        let socket = Pin::new(&mut self.socket);
        match ready!(socket.poll_write(cx, &self.outbox[self.written..])) {
            Ok(written) if written > 0 => {
                self.written += written;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err("writing to the connection failed")),
        }
    }

    /// Takes what callers have queued; `false`: there is nothing yet, and the task will be woken.
    fn take_queue(&mut self, cx: &mut Context<'_>) -> bool {
        let mut queue = self.pipe.queue();
        if queue.batches.is_empty() {
            queue.driver = Some(cx.waker().clone());
            return false;
        }
        // Where several tasks were just answered, those that are still to run get to queue before the write.
        if self.last_batches > 1 && !self.let_others_queue {
            self.let_others_queue = true;
            cx.waker().wake_by_ref();
            return false;
        }
        self.let_others_queue = false;
        self.last_batches = queue.callers();
        self.outbox.clear();
        self.outbox.shrink_to(MAX_KEPT_BYTES);
        self.written = 0;
        queue.registers.clear();
        std::mem::swap(&mut self.outbox, &mut queue.bytes);
        self.sent.extend(queue.batches.drain(..));
        true
    }

    /// Hands out every reply that is whole.
    fn take_replies(&mut self) -> Result<(), &'static str> {
        let mut taken = 0;
        let mut done = 0;
        let outcome = loop {
            match reply::parse(&self.inbox[taken..]) {
                Ok(Parsed::Whole(head)) if head.body.len() > MAX_COPIED_BYTES => {
                    self.inbox.advance(taken);
                    taken = 0;
                    let whole = self.inbox.split_to(head.len).freeze();
                    let body = whole.slice(head.body.clone());
                    match self.accept(&head, body) {
                        Ok(commands) => done += commands,
                        Err(reason) => break Err(reason),
                    }
                }
                Ok(Parsed::Whole(head)) => {
                    let body = &self.inbox[taken..][head.body.clone()];
                    let body = Bytes::copy_from_slice(body);
                    taken += head.len;
                    match self.accept(&head, body) {
                        Ok(commands) => done += commands,
                        Err(reason) => break Err(reason),
                    }
                }
                Ok(Parsed::Partial(len)) => {
                    self.inbox.advance(taken);
                    self.inbox.reserve(len.saturating_sub(self.inbox.len()));
                    break Ok(());
                }
                Err(reply::Malformed) => break Err("the server sent what is no reply"),
            }
        };
        if done > 0 {
            self.pipe.give_room(done);
        }
        outcome
    }

    /// Adds a reply to the oldest batch; returns the room that is free again once the batch is complete.
    fn accept(&mut self, head: &Head, body: Bytes) -> Result<usize, &'static str> {
        let Some(batch) = self.sent.front_mut() else {
            return Err("the server answered a question that nobody asked");
        };
        let complete = check(batch, head)?;
        if head.code != Code::End {
            batch.replies.push(Reply {
                code: head.code,
                cas: head.cas,
                ttl_s: head.ttl_s,
                body,
            });
        }
        if !complete {
            return Ok(0);
        }
        let room = batch.room();
        if let Some(batch) = self.sent.pop_front() {
            batch.answer(Ok(()));
        }
        Ok(room)
    }

    /// Tells callers whose time is over. One timer serves all: it runs to the first deadline that it knew of.
    fn check_deadlines(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        if !self.timer_runs && !self.sent.is_empty() {
            self.start_timer();
        }
        // A timer that was polled once wakes this task by itself.
        while self.timer_runs && (!self.timer_is_polled || self.timer.is_elapsed()) {
            self.timer_is_polled = true;
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.timer_runs = false;
            self.take_stuck();
            let now = now_ms();
            for batch in &mut self.sent {
                if batch.deadline_ms > now {
                    continue;
                }
                if let Answer::Caller(caller) = std::mem::replace(&mut batch.answer, Answer::Nobody)
                {
                    let _ = caller.send(Err(Failure::Timeout));
                    self.silent_timeouts += 1;
                }
            }
            if self.silent_timeouts >= MAX_SILENT_TIMEOUTS {
                return Err("the server fell silent");
            }
            self.start_timer();
        }
        Ok(())
    }

    fn start_timer(&mut self) {
        let waited_for = self.sent.iter().filter(|batch| batch.is_waited_for());
        let Some(first) = waited_for.map(|batch| batch.deadline_ms).min() else {
            return;
        };
        let wait = Duration::from_millis(first.saturating_sub(now_ms()).max(1));
        self.timer.as_mut().reset(Instant::now() + wait);
        self.timer_runs = true;
        self.timer_is_polled = false;
    }

    /// Takes what was queued behind a write that does not get on, so that its deadlines are seen.
    fn take_stuck(&mut self) {
        let mut queue = self.pipe.queue();
        queue.registers.clear();
        self.outbox.append(&mut queue.bytes);
        self.sent.extend(queue.batches.drain(..));
    }

    /// Ends the connection and fails everything in flight.
    fn end(&mut self, reason: &'static str) {
        let queued = self.pipe.close();
        for batch in self.sent.drain(..).chain(queued) {
            batch.answer(Err(Failure::Lost(reason)));
        }
    }
}

/// Refuses a reply that cannot belong to the batch; returns whether it is the last one.
fn check(batch: &Waiting, head: &Head) -> Result<bool, &'static str> {
    let received = batch.replies.len();
    let expected = match (batch.expect, head.code) {
        (_, Code::Refused) => return Err("the server did not take a command"),
        (Expect::Meta, Code::Pong | Code::Stat | Code::End) => false,
        // Errors come without a token.
        (Expect::Meta, Code::TooLarge | Code::OutOfMemory) => true,
        (Expect::Meta, _) => head.opaque == Some(batch.first_token + received as u64),
        (Expect::Pong, code) => code == Code::Pong,
        (Expect::Stats, Code::End) => return Ok(true),
        (Expect::Stats, Code::Stat) if received < MAX_STAT_LINES => return Ok(false),
        (Expect::Stats, _) => false,
    };
    if expected {
        Ok(received + 1 == batch.commands)
    } else {
        Err("the server answered another question")
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        match driver.advance(cx) {
            Ok(()) => Poll::Pending,
            Err(reason) => {
                driver.end(reason);
                Poll::Ready(())
            }
        }
    }
}

/// Also when the task is aborted, or its runtime shuts down: nobody is left waiting.
impl Drop for Driver {
    fn drop(&mut self) {
        self.end("the connection was given up");
    }
}
