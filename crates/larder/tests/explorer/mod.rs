//! Breadth first, through everything that can happen in a model; shared by the models of the protocol.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// More states than this are a mistake in the model.
const MAX_STATES: usize = 12_000_000;

/// What can happen.
pub(crate) trait Model {
    type State: Copy + Eq + Hash;
    type Step: Copy + Debug;
    /// Why a state must not be.
    type Wrong: Copy + Debug;

    /// Collects all steps from a state.
    fn steps(&self, from: &Self::State, next: &mut Vec<Next<Self>>);

    /// Returns what is wrong with states that lead to no end, if anything is.
    fn stuck(&self) -> Option<Self::Wrong> {
        None
    }

    fn is_end(&self, _state: &Self::State) -> bool {
        true
    }
}

/// A step, where it leads, and what is wrong there.
pub(crate) type Next<M> = (
    <M as Model>::Step,
    <M as Model>::State,
    Option<<M as Model>::Wrong>,
);

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
struct Origin<T> {
    from: u32,
    step: Option<T>,
}

/// What an exploration came to.
#[derive(Debug)]
pub(crate) struct Explored<M: Model + ?Sized> {
    pub(crate) states: usize,
    /// The first thing that went wrong, and the shortest way there.
    pub(crate) wrong: Option<(M::Wrong, Vec<M::Step>)>,
}

/// All states that were met, in the order in which they were.
struct Graph<M: Model> {
    states: Vec<M::State>,
    origins: Vec<Origin<M::Step>>,
    /// From which state to which, if that is to be known.
    edges: Option<Vec<(u32, u32)>>,
}

impl<M: Model> Graph<M> {
    fn way_to(&self, mut at: usize) -> Vec<M::Step> {
        let mut way = Vec::new();
        while let Some(step) = self.origins[at].step {
            way.push(step);
            at = self.origins[at].from as usize;
        }
        way.reverse();
        way
    }

    /// Meets all that follows, until something is wrong.
    fn grow(&mut self, model: &M) -> Option<(M::Wrong, Vec<M::Step>)> {
        let mut seen: HashMap<M::State, u32, BuildHasherDefault<Mix>> = HashMap::default();
        seen.insert(self.states[0], 0);
        let mut next = Vec::new();
        let mut at = 0;
        while at < self.states.len() {
            model.steps(&self.states[at], &mut next);
            for (step, state, wrong) in next.drain(..) {
                if let Some(wrong) = wrong {
                    let mut way = self.way_to(at);
                    way.push(step);
                    return Some((wrong, way));
                }
                let count = self.states.len() as u32;
                let reached = match seen.entry(state) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        self.states.push(state);
                        self.origins.push(Origin {
                            from: at as u32,
                            step: Some(step),
                        });
                        *new.insert(count)
                    }
                };
                if let Some(edges) = &mut self.edges {
                    edges.push((at as u32, reached));
                }
            }
            assert!(
                self.states.len() < MAX_STATES,
                "the model has too many states"
            );
            at += 1;
        }
        None
    }

    /// Returns the first state from which nothing leads to an end.
    fn first_stuck(&mut self, model: &M) -> Option<usize> {
        let mut edges = self.edges.take().unwrap_or_default();
        edges.sort_unstable_by_key(|(_, to)| *to);
        let mut ends: Vec<_> = self
            .states
            .iter()
            .map(|state| model.is_end(state))
            .collect();
        let mut open: Vec<_> = (0..ends.len()).filter(|at| ends[*at]).collect();
        while let Some(at) = open.pop() {
            let first = edges.partition_point(|(_, to)| (*to as usize) < at);
            let into = edges[first..].iter();
            for (from, _) in into.take_while(|(_, to)| *to as usize == at) {
                let from = *from as usize;
                if !std::mem::replace(&mut ends[from], true) {
                    open.push(from);
                }
            }
        }
        ends.iter().position(|leads| !leads)
    }
}

/// Explores all that follows from a state, until something is wrong.
pub(crate) fn explore<M: Model>(model: &M, start: M::State) -> Explored<M> {
    let origin = Origin {
        from: 0,
        step: None,
    };
    let stuck = model.stuck();
    let mut graph = Graph::<M> {
        states: vec![start],
        origins: vec![origin],
        edges: stuck.map(|_| Vec::new()),
    };
    let mut wrong = graph.grow(model);
    if let (None, Some(stuck)) = (&wrong, stuck) {
        let first = graph.first_stuck(model);
        wrong = first.map(|at| (stuck, graph.way_to(at)));
    }
    Explored {
        states: graph.states.len(),
        wrong,
    }
}
