//! The same traffic and the same provider, without steadfast.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower::Service;

use super::traffic::DrillRequest;
use steadfast::{LlmError, LlmRequest, LlmResponse};

/// The longest wait for an attempt, to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The waits of a typical retry loop.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The result of a request.
pub(super) struct BaselineOutcome {
    pub(super) answered: bool,
    /// The time to the first token, of the attempt that answered or else of the last one.
    pub(super) first_token: Option<Duration>,
}

/// A baseline in place of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaselineKind {
    /// One attempt.
    Resilience,
    /// Three more attempts after any failure.
    Failover,
}

impl BaselineKind {
    pub(super) const ALL: [Self; 2] = [Self::Resilience, Self::Failover];

    /// Returns the baseline's name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Resilience => "no resilience",
            Self::Failover => "retry loop",
        }
    }

    /// Calls the provider until it answers or all attempts are used up. A stream that has begun is not retried.
    pub(super) async fn ask<S>(self, mut provider: S, ask: &DrillRequest) -> BaselineOutcome
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
    {
        let begun = Instant::now();
        let mut waits = match self {
            Self::Resilience => [].iter(),
            Self::Failover => WAITS.iter(),
        };
        loop {
            let mut first_token = None;
            let attempt = async {
                let response = provider.call(ask.request()).await?;
                first_token = Some(begun.elapsed());
                response.collect().await
            };
            let answered = matches!(timeout(PATIENCE, attempt).await, Ok(Ok(_)));
            let read = ask.stream && first_token.is_some();
            match waits.next() {
                Some(wait) if !answered && !read => sleep(*wait).await,
                _ => return BaselineOutcome { answered, first_token },
            }
        }
    }
}
