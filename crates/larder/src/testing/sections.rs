//! Checks what happened under a lock, after the fact.
//!
//! Holders write down their critical sections, and the resource that the lock guards writes down the fences that it
//! accepted. From both, a [`SectionHistory`] tells what a sound lock never does. It knows nothing of stores or guards,
//! so it serves the laws, and tests whose holders are processes that are stopped and killed.

/// A critical section, as its holder saw it, by a clock that all holders share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The fence of the grant.
    pub fence: u64,
    /// The place of the first attempt among all, if it is known: no two first attempts may have overlapped.
    pub ticket: Option<u64>,
    /// When the holder knew of its grant.
    pub enter_ns: u64,
    /// When it was about to give it up.
    pub exit_ns: u64,
    /// Whether the guarded resource accepted what the holder wrote; without a resource, `true`.
    pub accepted: bool,
}

/// What a sound lock never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// The resource accepted a fence after a greater one.
    OldFenceAccepted {
        /// The fence.
        fence: u64,
        /// The greatest before it.
        after: u64,
    },
    /// Two sections have one fence.
    RepeatedFence(u64),
    /// Two sections overlap, and the one that began later has no greater fence, though both were accepted.
    UnfencedOverlap(Section, Section),
    /// Two sections overlap.
    Overlap(Section, Section),
    /// A section that began after another had ended has no greater fence.
    FenceWentBack(Section, Section),
    /// The second was granted before the first, which had asked before it.
    Overtaken(Section, Section),
}

/// Sections in any order, and accepted fences in theirs.
#[derive(Debug, Clone, Default)]
pub struct SectionHistory {
    sections: Vec<Section>,
    accepted: Vec<u64>,
}

impl SectionHistory {
    /// Adds a section.
    pub fn section(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Adds the fence of a write that the guarded resource accepted, after those before it.
    pub fn accepted(&mut self, fence: u64) {
        self.accepted.push(fence);
    }

    /// Returns how many sections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sections.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// Returns what must not happen whatever becomes of holders: stopped, killed, or cut off for longer than a lease.
    #[must_use]
    pub fn fence_violations(&self) -> Vec<Violation> {
        let mut found = self.old_fences_accepted();
        found.extend(self.repeated_fences());
        let accepted = |section: &Section| section.accepted;
        let overlaps = self.overlaps(accepted).into_iter();
        found.extend(
            overlaps
                .filter(|(first, later)| later.fence <= first.fence)
                .map(|(first, later)| Violation::UnfencedOverlap(first, later)),
        );
        found
    }

    /// Returns what must not happen while no lease ends before its section does: for one holder at a time.
    #[must_use]
    pub fn exclusion_violations(&self) -> Vec<Violation> {
        let mut found = self.fence_violations();
        let overlaps = self.overlaps(|_| true).into_iter();
        found.extend(overlaps.map(|(first, later)| Violation::Overlap(first, later)));
        found.extend(self.fences_that_went_back());
        found
    }

    /// Returns which grants were not in the order of the first attempts, as far as it is known. Waiters that gave up or
    /// died have no section and are not missed.
    #[must_use]
    pub fn order_violations(&self) -> Vec<Violation> {
        let by_grant = self.sorted_by(|section| section.fence);
        let mut latest: Option<Section> = None;
        let mut found = Vec::new();
        for section in by_grant.into_iter().filter(|s| s.ticket.is_some()) {
            match latest {
                Some(before) if before.ticket > section.ticket => {
                    found.push(Violation::Overtaken(section, before));
                }
                _ => latest = Some(section),
            }
        }
        found
    }

    fn old_fences_accepted(&self) -> Vec<Violation> {
        let mut greatest = 0;
        let mut found = Vec::new();
        for &fence in &self.accepted {
            if fence < greatest {
                let after = greatest;
                found.push(Violation::OldFenceAccepted { fence, after });
            }
            greatest = greatest.max(fence);
        }
        found
    }

    fn repeated_fences(&self) -> Vec<Violation> {
        let sorted = self.sorted_by(|section| section.fence);
        let pairs = sorted.windows(2);
        pairs
            .filter(|pair| pair[0].fence == pair[1].fence)
            .map(|pair| Violation::RepeatedFence(pair[0].fence))
            .collect()
    }

    /// Returns the pairs of overlapping sections among those that count, the one that began first before the other.
    fn overlaps(&self, counts: impl Fn(&Section) -> bool) -> Vec<(Section, Section)> {
        let mut live: Vec<Section> = Vec::new();
        let mut found = Vec::new();
        let by_enter = self.sorted_by(|section| section.enter_ns);
        for section in by_enter.into_iter().filter(counts) {
            live.retain(|other| other.exit_ns > section.enter_ns);
            found.extend(live.iter().map(|&other| (other, section)));
            live.push(section);
        }
        found
    }

    fn fences_that_went_back(&self) -> Vec<Violation> {
        let by_exit = self.sorted_by(|section| section.exit_ns);
        let mut ended = by_exit.into_iter().peekable();
        let mut greatest: Option<Section> = None;
        let mut found = Vec::new();
        for section in self.sorted_by(|section| section.enter_ns) {
            while let Some(before) = ended.next_if(|other| other.exit_ns <= section.enter_ns) {
                greatest = greatest.filter(|g| g.fence > before.fence).or(Some(before));
            }
            if let Some(before) = greatest.filter(|before| before.fence >= section.fence) {
                found.push(Violation::FenceWentBack(before, section));
            }
        }
        found
    }

    fn sorted_by<K: Ord>(&self, key: impl FnMut(&Section) -> K) -> Vec<Section> {
        let mut sorted = self.sections.clone();
        sorted.sort_by_key(key);
        sorted
    }
}

impl Extend<Section> for SectionHistory {
    fn extend<I: IntoIterator<Item = Section>>(&mut self, sections: I) {
        self.sections.extend(sections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(fence: u64, enter_ns: u64, exit_ns: u64) -> Section {
        Section {
            fence,
            ticket: None,
            enter_ns,
            exit_ns,
            accepted: true,
        }
    }

    fn ticket(fence: u64, ticket: u64) -> Section {
        Section {
            ticket: Some(ticket),
            ..section(fence, fence, fence + 1)
        }
    }

    fn history(sections: &[Section], accepted: &[u64]) -> SectionHistory {
        let mut history = SectionHistory::default();
        history.extend(sections.iter().copied());
        accepted.iter().for_each(|&fence| history.accepted(fence));
        history
    }

    #[test]
    fn a_sound_history_has_no_violations() {
        let sections = [section(9, 20, 30), section(3, 0, 10), section(7, 10, 20)];
        let sound = history(&sections, &[3, 3, 7, 9, 9]);
        assert_eq!(sound.exclusion_violations(), []);
        assert_eq!(sound.order_violations(), []);
        assert_eq!(sound.len(), 3);
        assert!(!sound.is_empty());
    }

    #[test]
    fn an_old_fence_that_was_accepted_is_found() {
        let broken = history(&[], &[3, 7, 3, 9, 8]);
        let old = |fence, after| Violation::OldFenceAccepted { fence, after };
        assert_eq!(broken.fence_violations(), [old(3, 7), old(8, 9)]);
    }

    #[test]
    fn a_repeated_fence_is_found() {
        let broken = history(&[section(3, 0, 10), section(3, 20, 30)], &[]);
        assert_eq!(broken.fence_violations(), [Violation::RepeatedFence(3)]);
    }

    #[test]
    fn an_overlap_with_a_smaller_fence_is_found_unless_it_was_refused() {
        let (first, later) = (section(7, 0, 20), section(3, 10, 30));
        let found = history(&[first, later], &[]).fence_violations();
        assert_eq!(found, [Violation::UnfencedOverlap(first, later)]);
        let refused = Section {
            accepted: false,
            ..later
        };
        assert_eq!(history(&[first, refused], &[]).fence_violations(), []);
    }

    #[test]
    fn an_overlap_with_growing_fences_breaks_exclusion_only() {
        let (first, later) = (section(3, 0, 20), section(7, 10, 30));
        let late = history(&[later, first], &[3, 7]);
        assert_eq!(late.fence_violations(), []);
        let found = late.exclusion_violations();
        assert_eq!(found, [Violation::Overlap(first, later)]);
    }

    #[test]
    fn a_long_section_overlaps_each_within_it() {
        let sections = [section(1, 0, 100), section(2, 10, 20), section(3, 30, 40)];
        let found = history(&sections, &[]).exclusion_violations();
        let overlap = |inner: usize| Violation::Overlap(sections[0], sections[inner]);
        assert_eq!(found, [overlap(1), overlap(2)]);
    }

    #[test]
    fn a_fence_that_went_back_is_found() {
        let (first, between, later) = (section(9, 0, 10), section(10, 11, 12), section(5, 20, 30));
        let found = history(&[first, between, later], &[]).exclusion_violations();
        assert_eq!(found, [Violation::FenceWentBack(between, later)]);
    }

    #[test]
    fn a_grant_out_of_order_is_found() {
        let sections = [ticket(1, 0), ticket(2, 2), ticket(3, 1), ticket(4, 3)];
        let found = history(&sections, &[]).order_violations();
        assert_eq!(found, [Violation::Overtaken(sections[2], sections[1])]);
        let unknown = [ticket(1, 5), section(2, 7, 8), ticket(3, 6)];
        assert_eq!(history(&unknown, &[]).order_violations(), []);
    }
}
