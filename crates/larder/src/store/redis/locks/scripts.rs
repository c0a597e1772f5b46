//! The scripts of locks.

use crate::redis_conn::Script;

/// A script behind the functions that all share.
macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("../../lua/lock_common.lua"),
            include_str!(concat!("../../lua/lock_", $name, ".lua"))
        ))
    };
}

pub(super) static ACQUIRE: Script = script!("acquire");
pub(super) static EXTEND: Script = script!("extend");
pub(super) static RELEASE: Script = script!("release");
pub(super) static EVICT: Script = script!("evict");
pub(super) static LOOK: Script = script!("look");
pub(super) static TAKE: Script = script!("take");
