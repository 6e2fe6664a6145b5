//! Idempotency keys for the tests of every store.

use std::{sync::Arc, time::Duration};

use super::quota::AnswerQuota;
use steadfast::layers::{
    cache::Answer,
    idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, Ticket},
};

pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const INPUT: Fingerprint = Fingerprint::from_bytes([0; 32]);

pub(crate) fn key(number: u8) -> IdempotencyKey {
    IdempotencyKey::from_bytes([number; 32])
}

pub(crate) fn answer() -> Arc<Answer> {
    Arc::new(Answer::of_text("hello".to_owned(), Duration::MAX))
}

/// Returns the size of such a record in the store.
pub(crate) fn taken() -> u64 {
    let taken = AnswerQuota::default().size_of(&answer().to_bytes());
    taken.unwrap().unsigned_abs()
}

pub(crate) async fn win(store: &impl IdempotencyStore, number: u8) -> Ticket {
    match store.claim(&key(number), &INPUT, LONG).await.unwrap() {
        Claim::Won(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn complete_claim(store: &impl IdempotencyStore, number: u8) {
    let ticket = win(store, number).await;
    assert!(store.complete(&key(number), ticket, answer(), LONG).await.unwrap());
}

pub(crate) async fn is_done(store: &impl IdempotencyStore, number: u8) -> bool {
    matches!(store.claim(&key(number), &INPUT, LONG).await.unwrap(), Claim::Done(_))
}
