//! A leaf that always gives the same answer: the last tier of a fallback.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use crate::{Degradation, DegradedReason, LlmError, LlmRequest, LlmResponse, chat::Message, request::WORST_LEVEL};

/// A leaf that always gives the same answer, at once, marked as [degraded](LlmResponse::degraded).
///
/// Clones share the answer.
///
/// ```
/// use steadfast::{LlmRequest, providers::Canned};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let response = Canned::text("Please try again in a minute.").oneshot(LlmRequest::prompt("hello")).await.unwrap();
/// assert_eq!(response.degraded().unwrap().level, 5);
/// assert_eq!(response.text().await.unwrap(), "Please try again in a minute.");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Canned {
    answer: Arc<Message>,
    provider: Arc<str>,
    model: Arc<str>,
}

impl Canned {
    /// Creates a leaf that answers with this text.
    pub fn text(text: impl Into<String>) -> Self {
        let mut message = Message::assistant(text);
        message.finish = Some(crate::chat::FinishReason::Stop);
        Self { answer: Arc::new(message), provider: "canned".into(), model: "canned".into() }
    }
}

impl Service<LlmRequest> for Canned {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        let response = LlmResponse::from_message((*self.answer).clone());
        let degraded = Degradation::new(WORST_LEVEL, DegradedReason::Order);
        ready(Ok(response.with_model(self.provider.clone(), self.model.clone()).with_degraded(degraded)))
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn it_answers_every_request_the_same_and_says_who_it_is() {
        let canned = Canned::text("later");
        for request in [LlmRequest::prompt("a"), LlmRequest::prompt("b").with_stream(true)] {
            let response = canned.clone().oneshot(request).await.unwrap();
            assert_eq!(response.degraded().unwrap().level, 5);
            assert_eq!(response.served_by().to_string(), "canned (canned, 1 attempt)");
            let message = response.collect().await.unwrap();
            assert_eq!((message.text().as_str(), message.finish), ("later", Some(crate::chat::FinishReason::Stop)));
        }
    }
}
