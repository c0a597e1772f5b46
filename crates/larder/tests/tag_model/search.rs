//! Breadth first, through everything that can happen.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::rules::Rules;
use crate::state::State;
use crate::steps::{Step, Steps, Wrong};

/// More states than this are a mistake in the model.
const MAX_STATES: usize = 12_000_000;

/// A hash of a few fast instructions for many small numbers.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u8(number as u8);
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// How a state was reached first.
#[derive(Debug, Clone, Copy)]
struct Origin {
    from: u32,
    step: Option<Step>,
}

/// What an exploration came to.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// The first thing that went wrong, and the shortest way there.
    pub(crate) wrong: Option<(Wrong, Vec<Step>)>,
}

/// Explores all that follows from a state, until something is wrong.
pub(crate) fn explore(rules: Rules, start: State) -> Explored {
    let mut seen: HashSet<State, BuildHasherDefault<Mix>> = HashSet::default();
    let mut states = vec![start];
    let mut origins = vec![Origin {
        from: 0,
        step: None,
    }];
    seen.insert(start);
    let mut next = Vec::new();
    let mut at = 0;
    while at < states.len() {
        let mut steps = Steps {
            rules,
            from: states[at],
            next: &mut next,
        };
        steps.all();
        for (step, state, wrong) in next.drain(..) {
            if let Some(wrong) = wrong {
                let mut way = way_to(&origins, at);
                way.push(step);
                return Explored {
                    states: states.len(),
                    wrong: Some((wrong, way)),
                };
            }
            if seen.insert(state) {
                states.push(state);
                origins.push(Origin {
                    from: at as u32,
                    step: Some(step),
                });
            }
        }
        assert!(states.len() < MAX_STATES, "the model has too many states");
        at += 1;
    }
    Explored {
        states: states.len(),
        wrong: None,
    }
}

fn way_to(origins: &[Origin], mut at: usize) -> Vec<Step> {
    let mut way = Vec::new();
    while let Some(step) = origins[at].step {
        way.push(step);
        at = origins[at].from as usize;
    }
    way.reverse();
    way
}
