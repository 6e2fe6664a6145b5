//! The task that makes a response.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use steadfast_stack::ResponseArchive;
use steadfast_stores::responses::StoredResponse;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{LEASE, SIGN_OF_LIFE, event_log::EventLog, object};
use crate::{
    api::conversation::{json::Fields, turn_events::TurnEvents},
    http::Answering,
};

/// The seconds before a store is asked again to keep an end. They are two minutes in all.
const WAITS: [u64; 15] = [1, 1, 2, 4, 8, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10];

/// A response as it is made.
pub(super) struct Run {
    pub(super) archive: ResponseArchive,
    /// The response as it began.
    pub(super) record: StoredResponse,
    pub(super) events: Option<Arc<EventLog>>,
    /// Cancelled once nobody wants the answer: the response has another end, or is deleted.
    pub(super) stop: CancellationToken,
}

/// The end of a run.
enum End {
    /// Its answer is there, and kept if it could be.
    Answered,
    /// It failed, with this last object.
    Failed(String),
    /// It has another end already.
    Unwanted,
}

impl Run {
    /// Makes the response.
    pub(super) async fn finish(self, asking: Answering<'static>, largest_event: usize) {
        match self.events(TurnEvents::new(asking), largest_event).await {
            End::Answered => {
                self.end_events(None);
                // It changes nothing where the answer is kept.
                let message = "the answer could not be kept: it is over `responses.max_response`, or the store failed";
                self.keep(&object::failed(&self.record.response, "server_error", message)).await;
            }
            End::Failed(object) => {
                self.keep(&object).await;
                self.end_events(Some(&object));
            }
            End::Unwanted => self.end_events(Some(&object::cancelled(&self.record.response))),
        }
    }

    /// Ends the events, with the last object of a response without an answer.
    fn end_events(&self, last: Option<&str>) {
        let Some(events) = &self.events else { return };
        if let Some(object) = last {
            events.push("response.failed", &format!(r#"{{"type":"response.failed","response":{object}}}"#));
        }
        events.end();
    }

    /// Reads the events of the answer to its end. Dropping them drops the call.
    async fn events(&self, mut events: TurnEvents<'static>, largest_event: usize) -> End {
        let mut signs = interval(SIGN_OF_LIFE);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one fires at once.
        signs.tick().await;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Unwanted,
                message = events.next(largest_event) => match message {
                    Some(message) => {
                        if let Some(end) = self.note(&message) {
                            return end;
                        }
                    }
                    None => return self.failed(None),
                },
                _ = signs.tick() => if self.is_unwanted().await {
                    return End::Unwanted;
                },
            }
        }
    }

    /// Says that this process lives. Returns whether nobody wants the answer: the response is deleted, or was cancelled
    /// at another gateway.
    async fn is_unwanted(&self) -> bool {
        let StoredResponse { owner, id, .. } = &self.record;
        // A store that is away may be back before the lease has ended.
        if self.archive.renew(owner, id, LEASE).await.unwrap_or(true) {
            return false;
        }
        // Its own answer may just have been kept.
        match self.archive.get(owner, id).await {
            Ok(found) => found.is_none_or(|found| object::is_cancelled(&found.response)),
            Err(_) => false,
        }
    }

    /// Notes a message. Returns the end of the run, if it is that.
    fn note(&self, message: &str) -> Option<End> {
        let fields = Fields::read(message)?;
        let kind = fields.text("type").unwrap_or_default();
        let end = match &*kind {
            // The log has begun with its own.
            "response.created" | "response.queued" => return None,
            "error" => return Some(self.failed(fields.get("error"))),
            "response.failed" | "response.cancelled" => {
                let object = fields.get("response").unwrap_or(&self.record.response);
                return Some(End::Failed(object::in_background(object.to_owned())));
            }
            "response.completed" | "response.incomplete" => Some(End::Answered),
            _ => None,
        };
        if let Some(events) = &self.events {
            events.push(&kind, message);
        }
        end
    }

    /// Returns the end of a call that failed with this error.
    fn failed(&self, error: Option<&str>) -> End {
        let fields = error.and_then(Fields::read);
        let text = |name: &str| fields.as_ref().and_then(|fields| fields.text(name));
        let code = text("code").unwrap_or_else(|| "server_error".to_owned());
        let reason = StatusCode::BAD_GATEWAY.canonical_reason().unwrap_or_default();
        let message = text("message").unwrap_or_else(|| reason.to_owned());
        End::Failed(object::failed(&self.record.response, &code, &message))
    }

    /// Keeps an end of the response, unless it has one.
    async fn keep(&self, object: &str) {
        let record = StoredResponse { response: object.to_owned(), ..self.record.clone() };
        if !keep(&self.archive, record).await {
            tracing::warn!(
                response = self.record.id,
                "response in the background without its end: its store stays away"
            );
        }
    }
}

/// Keeps an end of a response that runs, though its store is away for a while: nobody else has the answer. Returns
/// false if it stays away.
pub(crate) async fn keep(archive: &ResponseArchive, record: StoredResponse) -> bool {
    for wait in WAITS {
        if archive.end(record.clone()).await.is_ok() {
            return true;
        }
        sleep(Duration::from_secs(wait)).await;
    }
    archive.end(record).await.is_ok()
}
