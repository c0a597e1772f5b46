//! Walking the entries that depend on registers, and ending registers that nothing carries any more.

use bytes::Bytes;

use super::disk::{Disk, is_due};
use super::fault::{Attempt, Effort};
use super::name::{Address, Digest};
use super::record::{self, Found};
use super::register::Kept;
use super::registers::address;
use super::sweep::State;
use super::walk::{Step, Walk};
use crate::envelope;
use crate::store::{Register, Retirement, TidyPage};
use crate::tag::Verdict;

impl Disk {
    /// Makes one step over `limit` files, in the order of hashes; the cursor is the hash of the last one.
    pub(super) fn tidy(
        &self,
        namespace: Digest,
        cursor: Option<&Bytes>,
        (limit, removes): (usize, bool),
        effort: Effort<'_>,
    ) -> Attempt<TidyPage> {
        let after = cursor.map(Digest::from_cursor).transpose()?;
        let (mut page, mut looked) = (TidyPage::default(), 0);
        for step in Walk::new(&self.layout, namespace, after)? {
            let Step::Entry(key) = step? else {
                continue;
            };
            self.tidy_one(&Address { namespace, key }, removes, effort, &mut page)?;
            looked += 1;
            if looked >= limit.max(1) {
                page.next = Some(key.hex().into());
                break;
            }
        }
        Ok(page)
    }

    fn tidy_one(
        &self,
        address: &Address,
        removes: bool,
        effort: Effort<'_>,
        page: &mut TidyPage,
    ) -> Attempt<()> {
        let now_ms = self.clock.now_ms();
        let look = record::peek(&self.layout, address, |head, front| {
            (is_due(head.expires_at_ms, now_ms), front.clone())
        })?;
        // One that went away, or is damaged, carries nothing.
        let Found::Whole((is_due, front)) = look else {
            return Ok(());
        };
        if !envelope::has_stamps(&front) {
            return Ok(());
        }
        if !is_due && self.judge(address.namespace, &front, effort)? != Verdict::Invalid {
            page.carried.extend(envelope::registers(&front));
            return Ok(());
        }
        let was_removed = match removes {
            true => matches!(self.remove_if_due(address)?, State::Due | State::Invalid),
            false => true,
        };
        page.removed += u64::from(was_removed && !envelope::is_load(&front));
        Ok(())
    }

    /// Takes a step towards the end of registers; returns to which it applied.
    ///
    /// Who stores an entry looks at its registers first, under the lock of the entry. So a suspicion waits for all who
    /// hold such a lock: whoever has not seen it has stored his entry when this returns, and the walk that follows meets it.
    pub(super) fn retire(
        &self,
        namespace: Digest,
        registers: &[Register],
        step: Retirement,
        effort: Effort<'_>,
    ) -> Attempt<Vec<bool>> {
        let retire = |register: &Register| self.retire_one(namespace, register, step, effort);
        let retired: Vec<bool> = registers.iter().map(retire).collect::<Attempt<_>>()?;
        if matches!(step, Retirement::Suspect(_)) && retired.contains(&true) {
            for stripe in 0..=u8::MAX {
                self.locks.stripe(&self.layout, stripe, effort)?;
            }
        }
        Ok(retired)
    }

    fn retire_one(
        &self,
        namespace: Digest,
        register: &Register,
        step: Retirement,
        effort: Effort<'_>,
    ) -> Attempt<bool> {
        let now_ms = self.clock.now_ms();
        let apply = |kept: Kept| {
            let until_ms = step.apply(kept.until_ms, now_ms)?;
            Some(Kept { until_ms, ..kept })
        };
        let applies = || {
            let present = self.read_register(namespace, register, effort)?;
            Ok(present.and_then(apply).is_some())
        };
        // Looked at without the lock first: most registers are in use.
        if step == Retirement::Look || !applies()? {
            return applies();
        }
        self.under_register_lock(&address(namespace, register), effort, || {
            Ok(applies()? && self.change(namespace, register, effort, apply)?)
        })
    }
}
