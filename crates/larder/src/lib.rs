//! placeholder
mod clock;
mod codec;
#[cfg(feature = "config")]
pub mod config;
mod envelope;
mod error;
mod glob;
mod key;
pub mod store;
mod ttl;
pub use clock::{Clock, ManualClock};
pub use codec::{Codec, Compression};
pub use error::{Error, ErrorKind, Result};
pub use glob::Glob;
pub use key::{Key, KeyRef, Namespace};
pub use ttl::{TimeLeft, Ttl, format_duration, parse_duration};
