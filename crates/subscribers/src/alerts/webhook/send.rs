use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use super::{Target, queue::Queue};
use steadfast_webhook::{Backoff, Sender};

/// Sends the alerts of a queue, one after the other.
pub(super) struct AlertSender {
    pub(super) target: Target,
    pub(super) sender: Sender,
    pub(super) queue: Arc<Queue>,
}

impl AlertSender {
    pub(super) async fn run(mut self) {
        loop {
            let alert = self.queue.next().await;
            let body = self.target.format.body(&alert);
            let sent = self.deliver(body, alert.rule.name()).await;
            self.queue.count(sent);
        }
    }

    /// Returns whether the webhook accepted the message.
    async fn deliver(&mut self, body: Bytes, rule: &'static str) -> bool {
        let mut attempt = 1;
        loop {
            let Err(failure) = self.sender.post(self.target.request(body.clone())).await else { return true };
            let wait = failure.retry_after.and_then(|requested| self.sender.wait_after(attempt, requested));
            let (host, problem) = (self.target.host(), failure.problem);
            let status = failure.status.map(|status| status.as_u16());
            let Some(wait) = wait else {
                tracing::warn!(event = "alert_not_sent", rule, host, status, attempt, problem);
                return false;
            };
            tracing::debug!(event = "alert_delayed", rule, host, status, attempt, problem);
            sleep(wait).await;
            attempt += 1;
        }
    }
}

pub(super) const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
    // An alert is not worth a longer wait.
    longest_requested: Duration::from_secs(300),
};
