//! Tags: what they are called, and the registers that they stand for.
//!
//! A *register* is a small record of the store; an entry carries a *stamp* of each register that it depends on, and is
//! valid as long as every one still has the stamped value (see [`judge`]). To invalidate a tag is to delete its register:
//! its next value is a new random number, so nothing that was stamped before can ever be valid again. Nothing compares
//! clocks or counts.
//!
//! Tags are paths with the separator `:`. The tag `user:123:photo` depends on the register of its own name, and on those
//! of the subtrees `user` and `user:123`, which `user:*` and `user:123:*` invalidate.

mod name;
mod rule;

pub use self::name::{MAX_TAG_BYTES, MAX_TAG_DEPTH, MAX_TAGS, Register};
pub(crate) use self::name::{Selector, registers};
pub use self::rule::RegisterState;
pub(crate) use self::rule::{Nonces, Verdict, judge, nonce, standing};
