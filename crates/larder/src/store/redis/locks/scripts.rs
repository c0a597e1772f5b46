//! The scripts of locks.

use crate::redis_conn::Script;

/// A script: what is often enough, the functions that all share, and the rest.
macro_rules! script {
    ($($name:literal)? .. $rest:literal) => {
        Script::new(concat!(
            $(include_str!(concat!("../../lua/lock_", $name, ".lua")),)?
            include_str!("../../lua/lock_common.lua"),
            include_str!(concat!("../../lua/lock_", $rest, ".lua"))
        ))
    };
}

pub(super) static ACQUIRE: Script = script!("acquire_free".."acquire");
pub(super) static EXTEND: Script = script!(.."extend");
pub(super) static RELEASE: Script = script!("release_only".."release");
pub(super) static EVICT: Script = script!(.."evict");
pub(super) static LOOK: Script = script!(.."look");
pub(super) static TAKE: Script = script!(.."take");
