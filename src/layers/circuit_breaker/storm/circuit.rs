//! The part of a circuit's machine that concerns storms: suspicion, opening, calm.

use std::time::Duration;

use super::detector::CALM;
use crate::{
    internal::sync::atomic::Ordering,
    layers::circuit_breaker::{
        evidence::Cause,
        settle::Late,
        state::{Admission, Circuit, Core, Transition, nanos},
        word::{Reason, Tag},
    },
};

impl Circuit {
    /// Returns whether it is open because of a storm of invalid requests.
    pub(crate) fn is_in_storm(&self) -> bool {
        let word = self.load();
        word.tag() == Tag::Open && word.reason() == Reason::InvalidRequests
    }

    /// Returns whether an invalid request that was settled just now may not be its caller's mistake.
    pub(crate) fn doubts_the_invalid(&self) -> bool {
        self.lock().storm.is_doubtful()
    }

    /// Records the caller, while that is needed.
    pub(crate) fn meet(&self, caller: u64) {
        self.lock().storm.meet(caller);
    }

    /// Removes a request that was rightly called invalid.
    pub(crate) fn withdraw(&self, fingerprint: u64) {
        self.lock().storm.withdraw(fingerprint);
    }

    pub(crate) fn suspect_storm(
        &self,
        admission: Admission,
        fingerprint: Option<u64>,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        if self.load().generation() != admission.generation {
            return Err(Late);
        }
        let caller = admission.prompt.map(|_| admission.caller);
        let others = self.calm.swap(0, Ordering::AcqRel);
        // Where nothing else is left, a refusal of ours would only hide what the provider says.
        if core.storm.observe(fingerprint, caller, at, u64::from(others)) && !admission.is_only_way {
            core.last = Cause::default();
            let until = at.saturating_add(nanos(self.settings.cooldown(0, core.last, Duration::ZERO, 0.0)));
            return Ok(Some(self.open(&mut core, Reason::InvalidRequests, at, until)));
        }
        self.update(|word| word.with_suspect(true));
        Ok(None)
    }

    /// Counts a call that ended well while a storm is suspected; enough of them end the suspicion.
    pub(crate) fn calm_down(&self, generation: u32) {
        if self.calm.fetch_add(1, Ordering::AcqRel) + 1 < CALM {
            return;
        }
        let mut core = self.lock();
        // An invalid request may have come in between.
        if self.load().generation() == generation && self.calm.load(Ordering::Acquire) >= CALM {
            self.forget_storm(&mut core);
            self.update(|word| word.with_suspect(false));
        }
    }

    pub(crate) fn forget_storm(&self, core: &mut Core) {
        core.storm.clear();
        self.calm.store(0, Ordering::Release);
    }
}
