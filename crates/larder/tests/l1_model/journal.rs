//! The journal: notes of changes, how they are read and applied, and how they get lost.

use crate::rules::Rule;
use crate::state::{Copied, KeyNote, MAX_STALENESS, Notes, Polling, State, Stream};
use crate::steps::{Step, Steps};

const EVERYTHING: Notes = Notes {
    all: true,
    register: false,
    key: KeyNote::Nothing,
};

impl Steps<'_> {
    /// Notes what a key holds now. Each of the notes that are read at once counts.
    pub(crate) fn note_key(&self, to: &mut State, id: u8) {
        let each = self.rules.hold(Rule::EachNoteCounts);
        to.pending.key = match to.pending.key {
            KeyNote::Holds(other) if each && other != id => KeyNote::Several,
            KeyNote::Several if each => KeyNote::Several,
            _ => KeyNote::Holds(id),
        };
    }

    /// Makes the next step of reading the journal: send, answer, apply, count.
    pub(crate) fn poll(&mut self) {
        let mut to = self.from;
        match to.poll {
            Polling::Idle => {
                to.poll = Polling::Sent;
                to.poll_age = 0;
                self.push(Step::SendPoll, to);
            }
            Polling::Sent => {
                let mut failed = to;
                failed.poll = Polling::Idle;
                self.push(Step::FailPoll, failed);
                self.answer_poll();
            }
            Polling::Answered(notes) if self.rules.is_broken(Rule::PollsCountWhenApplied) => {
                to.freshen();
                to.poll = Polling::Counted(notes);
                self.push(Step::CountPoll, to);
            }
            Polling::Answered(notes) => {
                self.apply(&mut to, notes);
                to.poll = Polling::Applied;
                if self.rules.is_broken(Rule::PollsCountFromSending) {
                    to.poll_age = 0;
                }
                self.push(Step::ApplyNotes, to);
            }
            Polling::Counted(notes) => {
                self.apply(&mut to, notes);
                to.poll = Polling::Idle;
                self.push(Step::ApplyNotes, to);
            }
            Polling::Applied => {
                to.freshen();
                to.poll = Polling::Idle;
                self.push(Step::CountPoll, to);
            }
        }
    }

    /// Reads the notes; a stream that is not whole is a gap, and is created.
    fn answer_poll(&mut self) {
        let mut to = self.from;
        let is_gap = match to.stream {
            Stream::Whole => false,
            Stream::Trimmed => self.rules.hold(Rule::TrimmedIsAGap),
            Stream::Missing => self.rules.hold(Rule::NoStreamIsAGap),
        };
        let notes = if is_gap { EVERYTHING } else { to.pending };
        to.poll = Polling::Answered(notes);
        to.pending = Notes::default();
        to.stream = Stream::Whole;
        self.push(Step::AnswerPoll, to);
    }

    /// Removes copies, and dooms what may have been read before.
    fn apply(&self, to: &mut State, notes: Notes) {
        if notes.all {
            to.copy = Copied::default();
            if self.rules.hold(Rule::GapsDoomMarkers) {
                to.doom_key();
            }
        }
        if notes.register {
            to.copy = Copied::default();
            if self.rules.hold(Rule::RegistersDoomMarkers) {
                to.doom_key();
            }
        }
        if notes.key == KeyNote::Nothing {
            return;
        }
        let is_same = notes.key == KeyNote::Holds(to.copy.id);
        let is_kept = is_same || to.copy.is_own && self.rules.is_broken(Rule::OwnCopiesGo);
        if !is_kept {
            to.copy = Copied::default();
        }
        if self.rules.hold(Rule::NotesDoomMarkers) {
            to.doom_key();
        }
    }

    /// Trims the stream, or loses it.
    pub(crate) fn lose_notes(&mut self) {
        let mut to = self.from;
        if to.losses == 0 {
            return;
        }
        to.losses -= 1;
        to.pending = Notes::default();
        to.stream = Stream::Missing;
        self.push(Step::LoseStream, to);
        if self.from.stream == Stream::Whole {
            to.stream = Stream::Trimmed;
            self.push(Step::Trim, to);
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self) {
        let mut to = self.from;
        to.tick();
        if self.rules.hold(Rule::FreshnessEnds) {
            to.fresh = to.fresh.saturating_sub(1);
        }
        self.push(Step::Tick, to);
    }
}

impl State {
    /// Lets copies be used for so long after the reading was sent.
    fn freshen(&mut self) {
        self.fresh = self.fresh.max(MAX_STALENESS - self.poll_age);
    }
}
