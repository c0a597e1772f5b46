//! What may be wrong with a store that keeps registers.

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the store is sound.
    None,
    /// A capture returns numbers that it does not keep.
    CapturesNothing,
    /// Every capture changes the numbers.
    RenewsOnCapture,
    /// An invalidation deletes nothing.
    KeepsRegisters,
    /// An invalidation leaves the last of several registers alone.
    ForgetsTheLast,
    /// A register that is created again has its first numbers, as a counter that starts again.
    RepeatsNumbers,
    /// Every register was there.
    AlwaysHad,
    /// No register was there.
    NeverHad,
    /// Invalidations leave the register of all of them alone.
    ForgetsAny,
    /// Invalidations of what is not there leave it alone.
    ForgetsAnyOfNothing,
    /// Writes change it, too.
    MovesAnyWithWrites,
    /// Entries that note its stamp depend on it.
    JudgesAny,
    /// An invalidation is for all namespaces.
    MixesNamespaces,
    /// An invalidation is also for all names that begin so.
    InvalidatesByPrefix,
    /// Names of registers end at their first zero byte.
    CStrings,
    /// Clearing leaves the registers.
    KeepsRegistersOnClear,
    /// Registers are gone an hour after they were created.
    ForgetsRegisters,
    /// An invalidation returns before it is made.
    InvalidatesLater,
    /// A register that is missing invalidates nothing.
    TakesMissingForValid,
    /// A larger number than the live one is valid, as if numbers were versions.
    ComparesByOrder,
    /// Only the first register of an entry counts.
    JudgesTheFirst,
    /// Writes take the numbers of now in place of those that were captured.
    Restamps,
    /// Reads look at no register.
    ReadsAnything,
    /// Conditions look at no register.
    ConditionsOnAnything,
    /// Deletes look at no register.
    DeletesAnything,
    /// Touches look at no register, and revive.
    TouchesAnything,
    /// Increments lose the stamps.
    UnstampsCounters,
    /// Listings look at no register.
    ListsAnything,
    /// `Keep` keeps the expiry of an invalid entry.
    KeepsDeadExpiry,
    /// Soft invalidations are hard.
    SoftIsHard,
    /// Hard invalidations are soft.
    HardIsSoft,
    /// Soft invalidations do nothing.
    SoftIsNothing,
    /// What was invalidated softly once is stale for ever.
    StaysSoft,
    /// Stamped puts do not expire.
    StampedForEver,
    /// Loads under way are read.
    ReadsLoads,
    /// Loads under way are listed.
    ListsLoads,
    /// For conditions, loads under way are entries.
    TakesLoadsForEntries,
    /// Deletes count loads under way.
    DeletesLoads,
    /// Touches apply to loads under way.
    TouchesLoads,
    /// `Keep` over a load under way keeps the end of its lease.
    KeepsLeases,
    /// What was loaded expires with the lease.
    EndsWithLeases,
    /// Puts leave the load under way.
    PutsSpareLoads,
    /// Deletes leave the load under way.
    DeletesSpareLoads,
    /// Clearing leaves loads under way.
    ClearsSpareLoads,
    /// Whoever asks may load.
    GrantsTwice,
    /// Loads are granted over valid entries.
    GrantsOverEntries,
    /// Loads are refused over invalid entries and loads.
    RefusesOverDead,
    /// Whether a load is granted is checked first, and its mark is left later.
    ChecksThenGrants,
    /// Any loader may store its value.
    IgnoresTokens,
    /// Leases of loads do not end.
    ForgetsLeases,
    /// Nobody can keep a load going.
    RenewsNoLease,
    /// Listings of registers end after their first page.
    EndsRegistersEarly,
    /// Listings of registers ignore the pattern.
    ListsEveryRegister,
    /// Listings of keys by register end after their first page.
    EndsKeysEarly,
    /// Listings of keys by register list those of all.
    ListsEveryKey,
    /// Keys are listed by register without their size.
    ForgetsSizes,
    /// Cursors are positions, and must be in bounds.
    TrustsCursors,
    /// Only what is valid is shown to whoever examines it.
    ExaminesValid,
    /// Reads find nothing where something is invalid.
    ReadsInvalidAsAbsent,
    /// Reads find something invalid where nothing is.
    ReadsAbsentAsInvalid,
    /// Marks of loads are not shown.
    ExaminesNoLoads,
    /// What is examined depends on nothing.
    BlamesNothing,
    /// What is examined has lost every register.
    BlamesEverything,
    /// A register that is there again is the same to whoever examines it.
    BlamesTheMissing,
    /// What stale entries depend on is the same.
    BlamesTheHard,
    /// Examining an entry captures its registers.
    ExaminesByCapture,
    /// What cannot be read is not shown.
    ExaminesReadable,
    /// What was cleared is shown as if it was not.
    ExaminesCleared,
    /// What is under the same key of another namespace is shown.
    ExaminesElsewhere,
    /// Storing an entry clears no register of suspicion.
    SuspectsForEver,
    /// Any suspicion will do to end a register.
    MixesSuspicions,
    /// Registers that end by themselves are suspected, and ended, too.
    RetiresShortLives,
    /// Walks remove nothing.
    TidiesNothing,
    /// Walks tell nothing of loads under way.
    OverlooksLoads,
    /// Says that it has no registers, and has.
    Modest,
    /// Says that it lists them, and does not.
    Boastful,
}
