//! The rules that the protocol rests on, each of which can be broken.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Registers are captured before the value is computed.
    CaptureBeforeCompute,
    /// The mark is left before the value is computed.
    MarkBeforeCompute,
    /// Whether the mark is there is found out in the same step that stores.
    CommitsAreAtomic,
    /// A lease that is renewed must still be there.
    RenewalsCreateNothing,
    /// The subtrees of a tag are stamped, too.
    SubtreesAreStamped,
    /// A register that is created again has a number that it never had.
    NumbersAreNew,
    /// A capture that is sent again offers other numbers.
    CapturesAreNotRepeated,
    /// A mark that is sent again has another token.
    MarksAreNotRepeated,
    /// Each load has a token of its own.
    TokensAreNew,
    /// Only the loader whose token is in the mark may store.
    TokensAreCompared,
    /// A set removes the mark.
    SetsRemoveMarks,
    /// A delete removes the mark.
    DeletesRemoveMarks,
    /// A clear removes the mark.
    ClearsRemoveMarks,
    /// A count that begins anew removes the mark.
    CountsRemoveMarks,
    /// For counts, an invalid entry is absent.
    CountsJudge,
    /// Tags are added to valid entries only.
    EditsJudge,
    /// They are captured before the entry is read.
    EditsCaptureFirst,
    /// A register that is missing makes the entry invalid.
    MissingIsInvalid,
    /// Numbers must be equal, not only there.
    NumbersAreEqual,
    /// All registers of an entry count.
    AllRegistersCount,
    /// The mark counts only while its stamps are valid.
    MarksAreJudged,
    /// An invalidation changes the register of all of them before the others go.
    AnyChangesFirst,
    /// It does so always.
    AnyChangesAlways,
    /// A change of that register that is sent again has another number.
    AnyIsNotRepeated,
    /// What a load learns of is only stamped if there was no invalidation since it began.
    LearntIsChecked,
    /// That is asked after the capture of what it learnt of.
    LearntIsCheckedLast,
    /// It is compared with what was found before the value was computed.
    AnyIsCapturedFirst,
    /// An invalidation returns when the register is gone.
    InvalidationsWait,
    /// An invalidation by pattern changes the register of all of them before it looks which there are.
    GlobsChangeAnyFirst,
    /// After a failover, invalidations are made again, and count as made from then on.
    InvalidationsAreMadeAgain,
}

/// What holds in an exploration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    broken: Option<Rule>,
    /// Whether states are told apart although it can never matter.
    is_exact: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        broken: None,
        is_exact: false,
    };
    /// The same, without making one of states that differ in nothing that matters.
    pub(crate) const ALL_EXACTLY: Self = Self {
        is_exact: true,
        ..Self::ALL
    };

    pub(crate) fn without(rule: Rule) -> Self {
        Self {
            broken: Some(rule),
            is_exact: false,
        }
    }

    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// Returns whether what was lost never counts again: numbers of entries, and loaders without their mark.
    pub(crate) fn can_merge(self) -> bool {
        use Rule::{
            AnyChangesAlways, AnyChangesFirst, AnyIsCapturedFirst, AnyIsNotRepeated,
            CaptureBeforeCompute, InvalidationsWait, LearntIsChecked, LearntIsCheckedLast,
            SubtreesAreStamped,
        };
        match self.broken {
            None => !self.is_exact,
            Some(AnyChangesAlways | AnyChangesFirst | AnyIsCapturedFirst | AnyIsNotRepeated) => {
                true
            }
            Some(CaptureBeforeCompute | InvalidationsWait | SubtreesAreStamped) => true,
            Some(LearntIsChecked | LearntIsCheckedLast) => true,
            Some(_) => false,
        }
    }

    pub(crate) fn is_broken(self, rule: Rule) -> bool {
        !self.hold(rule)
    }
}
