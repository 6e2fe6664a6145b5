use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use super::{Target, queue::Queue};
use crate::webhook::{self, Outcome, Transport, Waits};

/// Sends the alerts of a queue, one after the other.
pub(super) struct Sender {
    target: Target,
    transport: Transport,
    attempts: u32,
    timeout: Duration,
    random: fastrand::Rng,
    queue: Arc<Queue>,
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

    /// Returns whether the webhook accepted the message.
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
            sleep(WAITS.after(attempt, floor, &mut self.random)).await;
            attempt += 1;
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Outcome {
        let request = self.target.request(body);
        webhook::post(&mut self.transport, request, self.timeout).await
    }
}

const WAITS: Waits = Waits {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
    // An alert is not worth a longer wait.
    longest_asked: Duration::from_secs(300),
};
