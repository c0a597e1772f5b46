//! Looking at what the broken store has.

use larder::store::{Examined, ExaminedRegister, Read, Register, RegisterState, Store as _};
use larder::testing::body;
use larder::{Namespace, Result};

use crate::flaws::Flaw;
use crate::layout::{Carried, carried, is_load};
use crate::store::{BrokenTags, State};

impl BrokenTags {
    pub(crate) async fn examine(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<Examined>> {
        let state = self.state.lock().await;
        let Some(entry) = self.lying(&state, namespace, key) else {
            return Ok(None);
        };
        let is_load = is_load(&entry.value);
        let is_readable = body(&entry.value).is_some();
        let is_hidden = match self.flaw {
            Flaw::ExaminesValid => self.get(&state, namespace, key).is_none(),
            Flaw::ExaminesNoLoads => is_load,
            Flaw::ExaminesReadable => !is_readable,
            _ => false,
        };
        if is_hidden {
            return Ok(None);
        }
        let carried: Vec<_> = match is_readable {
            true => carried(&entry.value)
                .into_iter()
                .filter(|it| it.register != Register::any())
                .collect(),
            false => Vec::new(),
        };
        let mut found = Examined::new(entry.value, entry.expires_at_ms);
        if !self.is(Flaw::BlamesNothing) {
            let examined = carried.iter().map(|it| {
                let register = it.register.clone();
                ExaminedRegister::new(register, self.standing(&state, namespace, it))
            });
            found.registers = examined.collect();
        }
        drop(state);
        if self.is(Flaw::ExaminesByCapture) {
            let registers: Vec<_> = carried.into_iter().map(|it| it.register).collect();
            self.capture(namespace, key, &registers).await?;
        }
        Ok(Some(found))
    }

    pub(crate) fn read(&self, state: &State, namespace: &Namespace, key: &[u8]) -> Read {
        if let Some(entry) = self.get(state, namespace, key) {
            return Read::Entry(entry);
        }
        let lying = self.lying(state, namespace, key);
        let is_entry = lying.is_some_and(|entry| !is_load(&entry.value));
        match self.flaw {
            Flaw::ReadsInvalidAsAbsent => Read::Absent,
            Flaw::ReadsAbsentAsInvalid => Read::Invalid,
            _ if is_entry => Read::Invalid,
            _ => Read::Absent,
        }
    }

    fn standing(&self, state: &State, namespace: &Namespace, carried: &Carried) -> RegisterState {
        let live = state.live.get(&self.id(namespace, &carried.register));
        match live.map(|live| &live.numbers) {
            _ if self.is(Flaw::BlamesEverything) => RegisterState::Missing,
            None => RegisterState::Missing,
            Some(_) if self.is(Flaw::BlamesTheMissing) => RegisterState::Same,
            Some(now) if now.hard != carried.hard => RegisterState::Changed,
            Some(now) if now.soft != carried.soft && !self.is(Flaw::BlamesTheHard) => {
                RegisterState::Stale
            }
            Some(_) => RegisterState::Same,
        }
    }
}
