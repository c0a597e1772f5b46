//! Commands on their way.

use redis::Cmd;

use super::script::Script;

/// One command on its way to a slot.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The slot of all its keys.
    pub(crate) slot: u16,
    /// Calls with the same number share a connection and keep their order.
    pub(crate) lane: u64,
    /// The command.
    pub(crate) command: Cmd,
    /// The script that it runs, if it does.
    pub(crate) script: Option<&'static Script>,
}

impl Call {
    /// Creates a plain command.
    pub(crate) fn new(slot: u16, command: Cmd) -> Self {
        Self {
            slot,
            lane: 0,
            command,
            script: None,
        }
    }

    /// Creates a run of a script.
    pub(crate) fn script(slot: u16, script: &'static Script, command: Cmd) -> Self {
        Self {
            script: Some(script),
            ..Self::new(slot, command)
        }
    }

    /// Chooses the lane.
    pub(crate) fn lane(mut self, lane: u64) -> Self {
        self.lane = lane;
        self
    }
}
