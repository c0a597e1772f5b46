//! The connection to Redis that stores and backends share: one server, sentinels or a cluster behind one [`Link`].
//!
//! It knows commands, slots and servers; nothing of entries or jobs. What must hold:
//! - a call ends in time, however servers fail;
//! - a command is never sent twice, unless a server has said that it did not execute the first;
//! - a lost, paused or moved server is found again without a restart of the application.

mod call;
mod endpoint;
mod failure;
mod link;
mod map;
mod node;
mod refresh;
mod script;
mod slot;
mod subscriber;
mod supervise;

pub(crate) use self::call::Call;
pub(crate) use self::endpoint::{Template, TlsFiles};
pub(crate) use self::link::{Link, Topology};
pub(crate) use self::node::{Limits, Node};
pub(crate) use self::refresh::text;
pub(crate) use self::script::Script;
pub(crate) use self::slot::{SLOTS, slot};
pub(crate) use self::subscriber::{Heard, Subscriber};
