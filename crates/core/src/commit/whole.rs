//! Whole answers that a provider sends as a stream of events.

use std::{future::poll_fn, task::Poll};

use super::{EmptyTurn, FRAMES_A_POLL};
use crate::{
    LlmBody, LlmError, LlmRequest, StreamEvent,
    body::{Accumulator, FailedAnswer, HeldMemory},
};

/// Reads a stream to its end, for a caller that asked for a whole answer: its time and its next tier hold until then.
#[doc(hidden)]
pub async fn whole(mut body: LlmBody, request: &LlmRequest, mut memory: HeldMemory) -> Result<LlmBody, LlmError> {
    let mut message = Accumulator::default();
    let (mut bytes, mut frames) = (0, 0_usize);
    while let Some(frame) = body.frame().await {
        for event in frame?.events() {
            bytes = if matches!(event, StreamEvent::Restarted { .. }) { 0 } else { bytes + event.size() };
            message.push(event);
        }
        memory.cover(bytes, false).await?;
        frames += 1;
        if frames.is_multiple_of(FRAMES_A_POLL) {
            // A flood must not keep a timeout from being polled.
            turn().await;
        }
    }
    let message = message.finish();
    let failure = EmptyTurn::of(&message)
        .and_then(|turn| turn.failure(Some(request), || FailedAnswer::Whole(message.clone(), None)));
    match failure {
        Some(error) => Err(error),
        None => {
            memory.leave(bytes);
            Ok(LlmBody::from_message(message))
        }
    }
}

/// Lets the task's other futures have a turn.
async fn turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
