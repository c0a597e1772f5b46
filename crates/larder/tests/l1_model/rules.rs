//! The rules of the local tier, each of which can be broken.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A marker is set before the read is sent.
    MarkersComeFirst,
    /// The marker of a load lasts until its value was stored and inserted.
    MarkersLast,
    /// The note of a key dooms its markers.
    NotesDoomMarkers,
    /// The note of a register dooms all markers.
    RegistersDoomMarkers,
    /// A gap dooms all markers.
    GapsDoomMarkers,
    /// A stream that is not there is a gap.
    NoStreamIsAGap,
    /// A stream that was trimmed is a gap.
    TrimmedIsAGap,
    /// What was read counts from when the reading was sent.
    PollsCountFromSending,
    /// It counts when it was applied.
    PollsCountWhenApplied,
    /// Copies are used only for some time after the last reading.
    FreshnessEnds,
    /// An own change is applied before it returns.
    OwnChangesAreAppliedFirst,
    /// An own set is not inserted if anything overlapped it.
    SetsHeedOthers,
    /// What is stale is not inserted.
    StaleIsNotInserted,
    /// The note comes after the change, or with it.
    NotesFollowChanges,
    /// Of the notes of a key that are read at once each counts, for they may come in another order than its changes.
    EachNoteCounts,
    /// The note of a key removes a copy with another write id, whoever made it.
    OwnCopiesGo,
    /// Where nobody tells, the life of a copy counts from when its read was sent.
    LivesCountFromSending,
}

/// What holds in an exploration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) broken: Option<Rule>,
}

impl Rules {
    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    pub(crate) fn is_broken(self, rule: Rule) -> bool {
        !self.hold(rule)
    }
}
