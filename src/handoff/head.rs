//! What a task's head alone decides.

use super::{Claimant, DeskError, TaskClaim, TaskId, TaskState};

/// What is known of a task without a word of it: by it all is decided.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: TaskId,
    pub(crate) created_at: u64,
    pub(crate) expires_at: u64,
    pub(crate) claim: Option<TaskClaim>,
    pub(crate) answered: Option<(Claimant, u64)>,
}

impl Head {
    pub(crate) fn state(&self, now: u64) -> TaskState {
        TaskState::at(now, self.expires_at, self.claim.as_ref(), self.answered.is_some())
    }

    /// Refused where it may not be answered any more.
    pub(crate) fn open(&self, now: u64) -> Result<(), DeskError> {
        let task = self.id;
        match &self.answered {
            Some((by, at)) => Err(DeskError::AlreadyAnswered { task, by: by.clone(), at: *at }),
            None if self.expires_at <= now => Err(DeskError::Expired { task, at: self.expires_at }),
            None => Ok(()),
        }
    }

    /// Refused where it may not be answered, or while somebody else is at it.
    pub(crate) fn free_for(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.open(now)?;
        match &self.claim {
            Some(claim) if claim.by != *by && now < claim.until => {
                Err(DeskError::ClaimedByAnother { task: self.id, by: claim.by.clone(), until: claim.until })
            }
            _ => Ok(()),
        }
    }

    /// Refused where it is not claimed by them.
    pub(crate) fn held_by(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.free_for(by, now)?;
        let held = self.claim.as_ref().is_some_and(|claim| claim.by == *by);
        if held { Ok(()) } else { Err(DeskError::NotClaimed { task: self.id }) }
    }

    /// The claim, where it holds.
    pub(crate) fn claim_at(&self, now: u64) -> Option<TaskClaim> {
        self.claim.clone().filter(|claim| now < claim.until && self.answered.is_none())
    }
}
