//! A call that has come in: who makes it, with which options, and the record of it.

use std::{mem::take, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use steadfast::{Dialect, LlmError};

use super::{
    GatewayState, body_kind,
    body_reader::BodyReader,
    door,
    failure::Failure,
    keys::{Allowance, Denial, Key},
    limit_heads, named_models,
    ownership::Ownership,
    records::{Entry, Outcome},
    refusal,
    request_options::RequestOptions,
};
use crate::limits::{Settings, answers::AnswerSpace};

/// A call that the door let in. Whatever it is for, it has its key, counts against the key's rate, and has a record.
pub(crate) struct Call {
    pub(crate) gateway: Arc<GatewayState>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dialect: Dialect,
    /// The caller's key; `None` if the gateway has no keys.
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) headers: HeaderMap,
    pub(crate) options: RequestOptions,
    pub(crate) entry: Entry,
}

impl Call {
    /// Opens the record of a call. Boxed: it moves along with each future that it goes through.
    pub(crate) fn new(
        gateway: &Arc<GatewayState>,
        dialect: Dialect,
        key: Option<Arc<Key>>,
        headers: HeaderMap,
        mut options: RequestOptions,
    ) -> Box<Self> {
        let mut entry = gateway.records.begin(dialect);
        if gateway.in_process {
            entry.set_embedded();
        }
        if let Some(key) = &key {
            entry.set_key(&key.name);
        }
        // Its end is nobody's failure.
        entry.set_own_time(options.timeout);
        entry.note(take(&mut options.notes));
        if let Some(note) = options.feature.as_deref().and_then(|feature| gateway.catalog.note_of_feature(feature)) {
            entry.note(vec![note.into()]);
        }
        let settings = gateway.lifecycle.current.load_full();
        Box::new(Self { gateway: gateway.clone(), settings, dialect, key, headers, options, entry })
    }

    /// Opens a body that may be compressed. Returns with it whether it is a form.
    ///
    /// # Errors
    ///
    /// Those of [`body_kind::opened_of_one_kind`].
    pub(crate) fn open(&mut self, body: Body) -> Result<(bool, Body), LlmError> {
        body_kind::opened_of_one_kind(&mut self.headers, body, &self.settings)
    }

    /// Returns a reader for its body.
    pub(crate) fn reader(&self) -> BodyReader<'_> {
        self.gateway.reader(&self.settings, self.key.as_ref())
    }

    /// Returns the ownership of its caller; `None` for one that may name any id.
    pub(crate) fn ownership(&self) -> Option<Ownership> {
        self.gateway.ownership(self.key.as_ref())
    }

    /// Returns a space for its answer in the gateway's memory.
    pub(crate) fn answer_space(&self) -> Arc<AnswerSpace> {
        self.gateway.memory.answers(self.key.as_ref().map(|key| &key.memory))
    }

    /// Returns true if its key is for some models alone.
    pub(crate) fn is_for_some_models(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.is_for_some_models())
    }

    /// Checks that its key is for a model.
    ///
    /// # Errors
    ///
    /// The key is for others.
    pub(crate) fn check_model(&self, model: Option<&str>) -> Result<(), Denial> {
        self.key.as_ref().map_or(Ok(()), |key| key.model(model))
    }

    /// Checks that its key is for all models that a body of JSON names.
    ///
    /// # Errors
    ///
    /// The key is for others, or a provider may choose the model by itself.
    pub(crate) async fn check_named_models(&self, json: &Bytes) -> Result<(), Failure> {
        named_models::check(self.key.as_ref(), json).await
    }

    /// Returns a whole answer whose bytes count against the gateway's memory until its caller has them.
    pub(crate) async fn counted(&self, space: Arc<AnswerSpace>, answer: Response<Body>) -> Response<Body> {
        match space.counted(answer).await {
            Ok(answer) => answer,
            Err(full) => self.fail(&full.into()),
        }
    }

    /// Writes what its record knows so far into the head of an answer.
    pub(crate) fn write_head(&self, headers: &mut HeaderMap) {
        self.write_head_of(None, headers);
    }

    /// Does so for an answer, or for the response to an error.
    fn write_head_of(&self, error: Option<&LlmError>, headers: &mut HeaderMap) {
        self.entry.write_headers(self.options.explain, headers);
        limit_heads::write(&self.allowance(), error, self.dialect, headers);
    }

    /// Returns its key's allowance.
    fn allowance(&self) -> Allowance {
        let feature = self.options.feature.clone().or_else(|| self.entry.feature());
        door::allowance(&self.gateway, self.key.as_ref(), feature.as_deref())
    }

    /// Returns the response to its failure.
    pub(crate) fn refuse(&self, failure: Failure) -> Response<Body> {
        match failure {
            Failure::Denied(denied) => {
                self.entry.denied(&denied);
                door::denial(&self.entry, &denied, &self.allowance(), self.dialect)
            }
            Failure::Body(error) => refusal::close_connection(error, self.fail(&error.error(&self.settings))),
            Failure::Error(error) => self.fail(&error),
        }
    }

    /// Returns the response to an error.
    pub(crate) fn fail(&self, error: &LlmError) -> Response<Body> {
        let is_refused = self.entry.failed(Outcome::Failed, error);
        let mut response = match Denial::of(error) {
            Some(denied) => refusal::deny(&denied, self.dialect),
            None => refusal::refuse_for(self.entry.reader(), error, self.dialect),
        };
        // A refusal has a line of its own.
        if !is_refused {
            log_failure(&self.entry, error, response.status());
        }
        self.write_head_of(Some(error), response.headers_mut());
        response
    }
}

/// Logs a failed request, up to a limit for each key and kind. It has the words of the provider's message that anybody
/// may read: the rest may repeat the prompt.
fn log_failure(entry: &Entry, error: &LlmError, status: StatusCode) {
    let Some(unsaid) = entry.next_failure_line(error.kind()) else { return };
    let words = error.public_message();
    tracing::warn!(
        request = entry.id(),
        http_status = status.as_u16(),
        key = entry.key().as_deref(),
        kind = error.kind().name(),
        status = error.status().map(|status| status.as_u16()),
        error = Some(words.as_str()).filter(|words| !words.is_empty()),
        provider = error.provider(),
        attempts = error.attempts().len(),
        unsaid = (unsaid > 0).then_some(unsaid),
        "request failed"
    );
}
