//! The scripts of the store.

use crate::redis_conn::Script;

/// A script behind the functions that all share.
macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("../lua/frame.lua"),
            include_str!(concat!("../lua/", $name, ".lua"))
        ))
    };
}

pub(super) static WRITE: Script = script!("write");
pub(super) static INCREMENT: Script = script!("increment");
pub(super) static ZSET_ADD: Script = script!("zset_add");
pub(super) static ZSET_REMOVE: Script = script!("zset_remove");
pub(super) static ZSET_READ: Script = script!("zset_read");
pub(super) static RECLAIM: Script = script!("reclaim");
pub(super) static PURGE: Script = script!("purge");
pub(super) static RECLAIM_REGISTERS: Script = script!("reclaim_registers");
pub(super) static RETIRE: Script = script!("retire");
pub(super) static CAPTURE: Script = script!("capture");
pub(super) static PUT: Script = script!("put");
pub(super) static BEGIN_LOAD: Script = script!("begin_load");
pub(super) static SOFTEN: Script = script!("soften");
pub(super) static JOURNAL: Script = script!("journal");

#[cfg(test)]
mod tests {
    use crate::store::REGISTER_GRACE_MS;

    #[test]
    fn scripts_keep_registers_as_long_as_other_stores_do() {
        let line = format!("local GRACE_MS = {REGISTER_GRACE_MS}\n");
        assert!(include_str!("../lua/frame.lua").contains(&line));
    }

    #[test]
    fn scripts_keep_journals_as_long_as_commands_do() {
        let line = format!("local MAX_RECORDS = {}\n", super::super::notes::MAX_RECORDS);
        assert!(include_str!("../lua/frame.lua").contains(&line));
    }
}
