//! The requests that a provider got, word for word.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::request::Parts;

/// A request as it reached a provider.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The path, without the query.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for ReceivedRequest {
    /// Writes the length of the body, never its words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest").field("path", &self.path).field("bytes", &self.body.len()).finish()
    }
}

/// The newest requests that a provider got, to be compared with what a gateway's caller sent.
///
/// Clones are the same transcript. [`InProcess::transcript`](super::InProcess::transcript) and
/// [`SimulatedServer::start_with_transcript`](super::SimulatedServer::start_with_transcript) write into it.
///
/// ```
/// use steadfast::{LlmRequest, providers::{OpenAi, Simulated}};
/// use steadfast_simulator::{InProcess, Transcript};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let transcript = Transcript::new(1);
/// let provider = InProcess::new(Simulated::new("gpt")).transcript(&transcript);
/// for words in ["Is it raining?", "And tomorrow?"] {
///     let leaf = OpenAi::new("key").model("gpt-4o").transport(provider.clone());
///     leaf.oneshot(LlmRequest::prompt(words)).await.unwrap();
/// }
/// let [request] = &transcript.requests()[..] else { panic!("the newest request alone") };
/// assert_eq!(request.path, "/v1/chat/completions");
/// let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
/// assert_eq!(body["messages"][0]["content"], "And tomorrow?");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Transcript {
    requests: Arc<Mutex<VecDeque<ReceivedRequest>>>,
    most: usize,
}

impl Transcript {
    /// Creates a transcript of this many requests at most; an older one goes for a newer one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { requests: Arc::default(), most }
    }

    /// Returns the requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Forgets all requests.
    pub fn clear(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Writes a request down.
    pub(super) fn write(&self, parts: &Parts, body: &Bytes) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == self.most {
            requests.pop_front();
        }
        if self.most > 0 {
            requests.push_back(ReceivedRequest { path: parts.uri.path().to_owned(), body: body.clone() });
        }
    }
}
