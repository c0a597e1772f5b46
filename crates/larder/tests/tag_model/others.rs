//! Steps of those who count, add tags, or invalidate by pattern.

use crate::rules::Rule;
use crate::state::{ANY, Editor, Globber, Globbing, Kind, LEARNT, Numbers, SUBTREE, Slot, TAG};
use crate::steps::{COUNT, GLOB, Step, Steps};

impl Steps<'_> {
    /// Counts: over a valid entry, that changes nothing here; else the count begins anew, without tags.
    pub(crate) fn count(&mut self) {
        let mut to = self.from;
        let is_value = to.slot.kind == Kind::Value;
        if to.counts_left == 0 || (is_value && self.is_valid(&to.slot, &to.registers)) {
            return;
        }
        to.counts_left -= 1;
        if is_value && self.rules.is_broken(Rule::CountsJudge) {
            to.slot.stamps = Numbers::default();
            return self.push(Step::Count, to);
        }
        to.begin(COUNT, None);
        to.slot = Slot {
            kind: Kind::Value,
            ..Slot::default()
        };
        if self.rules.hold(Rule::CountsRemoveMarks) {
            to.lease = 0;
        }
        to.returned |= COUNT;
        self.push(Step::Count, to);
    }

    /// Adds a tag to the entry, by three steps.
    pub(crate) fn edit(&mut self) {
        let editor = self.from.editor;
        if editor.left == 0 {
            return;
        }
        let reads_first = self.rules.is_broken(Rule::EditsCaptureFirst);
        let is_time_to_read = editor.has_captured || (reads_first && !editor.has_read);
        if editor.has_captured && editor.has_read {
            self.write_tagged();
        } else if is_time_to_read {
            self.read_to_tag();
        } else {
            self.capture_tags();
        }
    }

    fn capture_tags(&mut self) {
        let mut to = self.from;
        for register in [SUBTREE, TAG] {
            to.editor.stamps[register] = self.capture(&mut to, register);
        }
        to.editor.has_captured = true;
        self.push(Step::CaptureTags, to);
    }

    fn read_to_tag(&mut self) {
        let mut to = self.from;
        let is_there = to.slot.kind == Kind::Value
            && (self.is_valid(&to.slot, &to.registers) || self.rules.is_broken(Rule::EditsJudge));
        if is_there {
            to.editor.has_read = true;
            to.editor.seen = to.slot.stamps;
        } else {
            to.editor = edited(to.editor);
        }
        self.push(Step::ReadToTag, to);
    }

    /// Writes the entry back. That it is the same is told by its stamps here: one that differs in nothing may be taken
    /// for it, as if it had been read in its place.
    fn write_tagged(&mut self) {
        let mut to = self.from;
        if to.slot.kind == Kind::Value && to.slot.stamps == to.editor.seen {
            for register in [SUBTREE, TAG] {
                to.slot.stamps[register] = to.editor.stamps[register];
            }
        }
        to.editor = edited(to.editor);
        self.push(Step::WriteTagged, to);
    }

    /// Invalidates by pattern: the register of all invalidations is changed, names are listed, each of these goes.
    pub(crate) fn glob(&mut self) {
        let globber = self.from.globber;
        let mut to = self.from;
        let changes_first = self.rules.hold(Rule::GlobsChangeAnyFirst);
        match globber.at {
            Globbing::Start if globber.left == 0 => {}
            Globbing::Start => {
                to.begin(GLOB, Some(LEARNT));
                if changes_first {
                    to.change(ANY);
                }
                to.globber.at = Globbing::Begun;
                self.push(Step::BeginGlob, to);
            }
            Globbing::Begun => {
                to.globber.has_found = to.registers[LEARNT] != 0;
                to.globber.at = Globbing::Listed;
                self.push(Step::List, to);
            }
            Globbing::Listed => {
                if !changes_first {
                    to.change(ANY);
                }
                if globber.has_found {
                    to.registers[LEARNT] = 0;
                }
                to.globber = Globber {
                    left: globber.left - 1,
                    ..Globber::default()
                };
                to.returned |= GLOB;
                self.push(Step::DeleteListed, to);
            }
        }
    }
}

/// Returns the editor after an attempt.
fn edited(editor: Editor) -> Editor {
    Editor {
        left: editor.left - 1,
        ..Editor::default()
    }
}
