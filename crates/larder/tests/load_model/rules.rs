//! The rules of loads and flights, each of which can be broken.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Registers are captured before the value is computed.
    CaptureBeforeCompute,
    /// The mark is left before the value is computed.
    MarkBeforeCompute,
    /// Only the load whose token is in the mark may store.
    TokensAreCompared,
    /// A lease that is renewed must still be there.
    RenewalsCreateNothing,
    /// A mark that is sent again has another token.
    MarksAreNotRepeated,
    /// A set removes the mark.
    SetsRemoveMarks,
    /// A delete removes the mark.
    DeletesRemoveMarks,
    /// Who comes later than the load's beginning asks the store before it joins.
    JoinsAsk,
    /// It asks for the mark, not for the registers only.
    JoinsAskForTheMark,
    /// Of a load that may learn of tags, it asks whether there was any invalidation.
    JoinsAskForAny,
    /// Of a load without a mark, which replaces an entry, it asks for the registers as well.
    JoinsAskForRegisters,
    /// An answer counts for those who came before it was asked.
    ProofsCountFromTheQuestion,
    /// A beginning counts for those who came before anything was sent.
    BeginningsCountBeforeTheyAreSent,
    /// A load that waited in vain may store nothing.
    VainWaitsStoreNothing,
    /// A load that failed keeps the old value under its old stamps.
    OldValuesKeepTheirStamps,
    /// Who finds another's mark waits.
    MarksAreWaitedFor,
    /// A mark ends with its lease.
    MarksEnd,
    /// A flight that lands says that nobody can join it any more, also when it had nothing to load.
    LandingsAreClaimed,
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

    /// Returns whether the right to store is kept apart from the slot.
    pub(crate) fn keep_leases_apart(self) -> bool {
        matches!(
            self.broken,
            Some(Rule::SetsRemoveMarks | Rule::DeletesRemoveMarks)
        )
    }
}
