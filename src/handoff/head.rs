//! Decisions about a task that need only its head.

use super::{Claimant, DeskError, TaskClaim, TaskId, TaskState};

/// A task's state without its contents.
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

    /// Returns an error if the task can no longer be answered.
    pub(crate) fn check_open(&self, now: u64) -> Result<(), DeskError> {
        let task = self.id;
        match &self.answered {
            Some((by, at)) => Err(DeskError::AlreadyAnswered { task, by: by.clone(), at: *at }),
            None if self.expires_at <= now => Err(DeskError::Expired { task, at: self.expires_at }),
            None => Ok(()),
        }
    }

    /// Returns an error if the task can no longer be answered, or another claim holds.
    pub(crate) fn check_free_for(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.check_open(now)?;
        match &self.claim {
            Some(claim) if claim.by != *by && now < claim.until => {
                Err(DeskError::ClaimedByAnother { task: self.id, by: claim.by.clone(), until: claim.until })
            }
            _ => Ok(()),
        }
    }

    /// Returns an error unless this claimant holds the claim.
    pub(crate) fn check_held_by(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.check_free_for(by, now)?;
        let held = self.claim.as_ref().is_some_and(|claim| claim.by == *by);
        if held { Ok(()) } else { Err(DeskError::NotClaimed { task: self.id }) }
    }

    /// Returns the claim, if it still holds.
    pub(crate) fn claim_at(&self, now: u64) -> Option<TaskClaim> {
        self.claim.clone().filter(|claim| now < claim.until && self.answered.is_none())
    }
}
