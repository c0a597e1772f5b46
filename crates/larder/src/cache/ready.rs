//! A future that is either done already or boxed: so that an answer from the local tier allocates nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

/// The future of a call that the local tier may have answered at once.
#[must_use = "futures do nothing unless awaited"]
pub struct MaybeReady<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<T>),
    Slow(BoxFuture<'a, T>),
}

impl<'a, T> MaybeReady<'a, T> {
    pub(crate) fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }

    pub(crate) fn slow(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(State::Slow(Box::pin(future)))
    }
}

impl<T> Unpin for MaybeReady<'_, T> {}

impl<T> Future for MaybeReady<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(value) => Poll::Ready(
                value
                    .take()
                    .expect("a future is not polled after it is done"),
            ),
            State::Slow(future) => future.as_mut().poll(context),
        }
    }
}

impl<T> std::fmt::Debug for MaybeReady<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "MaybeReady::Ready",
            State::Slow(_) => "MaybeReady::Slow",
        })
    }
}
