//! Deletion of answers by their owner.
//!
//! Only the answer itself names its owner, so this reads all answers, a few at a time.

use super::Postgres;
use steadfast::{
    layers::cache::{Answer, AnswerOwner},
    store::StoreError,
};

/// The number of answers that one step reads.
const STEP: i64 = 64;
const LOOK: &str = "SELECT key, answer, ticket FROM steadfast_idempotency
    WHERE key > $1 AND answer IS NOT NULL ORDER BY key LIMIT $2";
const FORGET: &str = "DELETE FROM steadfast_idempotency WHERE key = $1 AND ticket = $2";

impl Postgres {
    /// Returns the number of deleted answers.
    pub(super) async fn delete_owner(&self, owner: &AnswerOwner) -> Result<u64, StoreError> {
        const WHAT: &str = "forgetting answers";
        let (mut after, mut gone) = (Vec::new(), 0);
        loop {
            let client = self.client(WHAT).await?;
            let failed = |cause| self.failed(WHAT, cause);
            let rows = client.query(LOOK, &[&after, &STEP]).await.map_err(failed)?;
            for row in &rows {
                after = row.try_get::<_, Vec<u8>>(0).map_err(failed)?;
                let (bytes, ticket): (&[u8], i64) = (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
                if Answer::from_bytes(bytes).is_ok_and(|answer| answer.is_of(owner)) {
                    gone += client.execute(FORGET, &[&after, &ticket]).await.map_err(failed)?;
                }
            }
            if rows.len() < STEP as usize {
                return Ok(gone);
            }
        }
    }
}
