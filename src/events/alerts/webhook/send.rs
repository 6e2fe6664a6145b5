use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};

use super::{Target, Transport, queue::Queue};
use crate::{retry_after, wall_clock};

/// Sends the alerts of a queue, one after the other.
pub(super) struct Sender {
    target: Target,
    transport: Transport,
    attempts: u32,
    timeout: Duration,
    random: fastrand::Rng,
    queue: Arc<Queue>,
}

/// What came of an attempt.
enum Outcome {
    Taken,
    /// It may be taken later, not before so long.
    Later(&'static str, Option<StatusCode>, Duration),
    Refused(StatusCode),
}

impl Sender {
    pub(super) fn new(
        target: Target,
        transport: Transport,
        attempts: u32,
        timeout: Duration,
        random: fastrand::Rng,
        queue: Arc<Queue>,
    ) -> Self {
        Self { target, transport, attempts, timeout, random, queue }
    }

    pub(super) async fn run(mut self) {
        loop {
            let alert = self.queue.next().await;
            let body = self.target.format.body(&alert);
            let taken = self.deliver(body, alert.rule.name()).await;
            self.queue.count(taken);
        }
    }

    /// Whether the webhook took it.
    async fn deliver(&mut self, body: Bytes, rule: &'static str) -> bool {
        let mut attempt = 1;
        loop {
            let (problem, status, floor) = match self.attempt(body.clone()).await {
                Outcome::Taken => return true,
                Outcome::Later(problem, status, floor) => (problem, status, Some(floor)),
                Outcome::Refused(status) => ("it was refused", Some(status), None),
            };
            let (host, status) = (self.target.host(), status.map(|status| status.as_u16()));
            let Some(floor) = floor.filter(|_| attempt < self.attempts) else {
                tracing::warn!(event = "alert_not_sent", rule, host, status, attempt, problem);
                return false;
            };
            tracing::debug!(event = "alert_delayed", rule, host, status, attempt, problem);
            sleep(self.wait(attempt, floor)).await;
            attempt += 1;
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Outcome {
        let request = self.target.request(body);
        let transport = &mut self.transport;
        let answer = timeout(self.timeout, async { transport.ready().await?.call(request).await });
        let response = match answer.await {
            Err(_) => return Outcome::Later("no answer in time", None, Duration::ZERO),
            // What the error says may quote the URL.
            Ok(Err(_)) => return Outcome::Later("no answer", None, Duration::ZERO),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        match status {
            status if status.is_success() => Outcome::Taken,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => later(status, response.headers()),
            status if status.is_server_error() => later(status, response.headers()),
            status => Outcome::Refused(status),
        }
    }

    /// The wait after an attempt: half of the backoff, and up to the other half at random, above what was asked for.
    fn wait(&mut self, attempt: u32, floor: Duration) -> Duration {
        let backoff = FIRST_WAIT.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_WAIT);
        let random = backoff.mul_f64(self.random.f64() / 2.0);
        if floor.is_zero() { backoff / 2 + random } else { floor.min(LONGEST_ASKED) + random }
    }
}

fn later(status: StatusCode, headers: &http::HeaderMap) -> Outcome {
    let asked = retry_after::from_headers(headers, None, wall_clock::now());
    Outcome::Later("it was put off", Some(status), asked.unwrap_or_default())
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Beyond this, an alert is not worth waiting for: the attempts are spent sooner.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
