//! placeholder
mod clock;
mod codec;
mod envelope;
mod error;
mod glob;
mod key;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod ttl;
pub use clock::{Clock, ManualClock};
pub use codec::{Codec, Compression};
pub use error::{Error, ErrorKind, Result};
pub use glob::Glob;
pub use key::{Key, KeyRef, Namespace};
pub use ttl::{TimeLeft, Ttl, format_duration, parse_duration};
