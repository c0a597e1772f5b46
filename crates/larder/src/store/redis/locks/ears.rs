//! Hears who is called: a release publishes the owner whose turn it may be, on the channel of the lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::lease::{Bells, Listener, Owner};
use crate::redis_conn::{Heard, Link, Subscriber};

/// How long a listener waits for the server to confirm. Without the confirmation it listens all the same.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(200);

/// The waiters of this process.
#[derive(Debug)]
pub(in super::super) struct Ears {
    bells: Arc<Bells>,
    subscriber: Subscriber,
}

impl Ears {
    pub(in super::super) fn new(link: Link) -> Self {
        let bells = Arc::<Bells>::default();
        let rung = Arc::clone(&bells);
        let subscriber = Subscriber::new(link, move |heard| match heard {
            Heard::Message { channel, payload } => {
                rung.ring(channel, &String::from_utf8_lossy(payload));
            }
            Heard::Gap => rung.ring_all(),
        });
        Self { bells, subscriber }
    }

    /// Begins to listen on a channel.
    pub(super) async fn listen(&self, channel: &[u8], owner: &Owner) -> Listener {
        let listener = self.bells.listen(channel, owner);
        let subscription = self.subscriber.subscribe(channel);
        // Too late is no failure: who waits asks again by itself.
        let _ = timeout(CONFIRMED_WITHIN, subscription.confirmed()).await;
        listener.keep(subscription)
    }
}
