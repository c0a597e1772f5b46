//! A failover to a replica that has not heard of the last changes: the known limit, and what narrows it.

use crate::rules::Rule;
use crate::state::{ANY, Changes, FailingOver, Failover, LEARNT, SUBTREE, State};
use crate::steps::{Step, Steps};

impl Steps<'_> {
    /// The replica falls behind at some moment, and is the master from some later moment on. Then those who remember
    /// what they have invalidated, and what they are about to, do it again.
    pub(crate) fn fail_over(&mut self) {
        let mut to = self.from;
        let failover = to.failover;
        match failover.at {
            FailingOver::Start if failover.left == 0 => {}
            FailingOver::Start => {
                to.failover.at = FailingOver::Behind;
                to.failover.registers = to.registers;
                to.failover.slot = to.slot;
                to.failover.lease = to.lease;
                self.push(Step::FallBehind, to);
            }
            FailingOver::Behind => {
                (to.registers, to.slot, to.lease) =
                    (failover.registers, failover.slot, failover.lease);
                to.failover = Failover {
                    made: failover.made,
                    at: FailingOver::Over,
                    ..Failover::default()
                };
                if self.rules.hold(Rule::InvalidationsAreMadeAgain) {
                    to.failover.withdrawn = to.returned & INVALIDATED;
                    to.returned &= !INVALIDATED;
                } else {
                    to.failover = Failover::default();
                }
                self.push(Step::FailOver, to);
            }
            FailingOver::Over => {
                to.change(ANY);
                to.failover.at = FailingOver::MakingAgain;
                self.push(Step::ChangeAnyAgain, to);
            }
            FailingOver::MakingAgain => {
                for register in SUBTREE..=LEARNT {
                    if failover.made & 1 << register != 0 {
                        to.registers[register] = 0;
                    }
                }
                to.returned |= failover.withdrawn;
                to.failover = Failover::default();
                self.push(Step::DeleteRegistersAgain, to);
            }
        }
    }
}

/// The bits of invalidations.
const INVALIDATED: Changes = 0b1100;

impl State {
    /// Remembers that a register is being invalidated, for as long as a failover may come.
    pub(crate) fn remember_made(&mut self, register: usize) {
        if self.failover != Failover::default() {
            self.failover.made |= 1 << register;
        }
    }

    /// Notes that an invalidation has returned; after a failover, it counts when it was made again.
    pub(crate) fn note_made(&mut self, change: Changes) {
        match self.failover.at {
            FailingOver::Start | FailingOver::Behind => self.returned |= change,
            FailingOver::Over | FailingOver::MakingAgain => self.failover.withdrawn |= change,
        }
    }
}
