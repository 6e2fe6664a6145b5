//! Decisions about a task that need only its head.

use super::{Claimant, DeskError, TaskClaim, TaskId, TaskState};

/// A task's state without its contents: what a [`TaskStore`](super::TaskStore) decides by.
#[derive(Clone, Debug)]
pub struct TaskHead {
    /// The task.
    pub id: TaskId,
    /// The creation time, in Unix milliseconds.
    pub created_at: u64,
    /// The end of the time for an answer, in Unix milliseconds.
    pub expires_at: u64,
    /// The newest claim, expired or not.
    pub claim: Option<TaskClaim>,
    /// The author of the answer and its time, in Unix milliseconds.
    pub answered: Option<(Claimant, u64)>,
}

impl TaskHead {
    /// Returns the state at this time, in Unix milliseconds.
    pub fn state(&self, now: u64) -> TaskState {
        TaskState::at(now, self.expires_at, self.claim.as_ref(), self.answered.is_some())
    }

    /// Checks that the task can still be answered.
    ///
    /// # Errors
    ///
    /// Returns [`DeskError::AlreadyAnswered`] or [`DeskError::Expired`].
    pub fn check_open(&self, now: u64) -> Result<(), DeskError> {
        let task = self.id;
        match &self.answered {
            Some((by, at)) => Err(DeskError::AlreadyAnswered { task, by: by.clone(), at: *at }),
            None if self.expires_at <= now => Err(DeskError::Expired { task, at: self.expires_at }),
            None => Ok(()),
        }
    }

    /// Checks that the task can still be answered and no other claim holds.
    ///
    /// # Errors
    ///
    /// Returns the error of [`check_open`](Self::check_open), or [`DeskError::ClaimedByAnother`].
    pub fn check_free_for(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.check_open(now)?;
        match &self.claim {
            Some(claim) if claim.by != *by && now < claim.until => {
                Err(DeskError::ClaimedByAnother { task: self.id, by: claim.by.clone(), until: claim.until })
            }
            _ => Ok(()),
        }
    }

    /// Checks that this claimant holds the claim.
    ///
    /// # Errors
    ///
    /// Returns the error of [`check_free_for`](Self::check_free_for), or [`DeskError::NotClaimed`].
    pub fn check_held_by(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        self.check_free_for(by, now)?;
        let held = self.claim.as_ref().is_some_and(|claim| claim.by == *by);
        if held { Ok(()) } else { Err(DeskError::NotClaimed { task: self.id }) }
    }

    /// Returns the claim, if it still holds.
    pub fn claim_at(&self, now: u64) -> Option<TaskClaim> {
        self.claim.clone().filter(|claim| now < claim.until && self.answered.is_none())
    }
}
