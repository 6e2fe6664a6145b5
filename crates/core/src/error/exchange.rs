//! The exchange with a provider that ended in a failure.

use std::{any::Any, borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::StatusCode;

use super::{ErrorKind, LlmError};
use crate::{Dialect, usage::Usage};

/// The facts about the exchange with a provider. A refusal on this side has none.
#[derive(Clone, Default)]
pub(super) struct Exchange {
    pub(super) status: Option<StatusCode>,
    code: Option<Box<str>>,
    request_id: Option<Box<str>>,
    should_retry: Option<bool>,
    /// True if the provider calls the request invalid, and names no fault in it.
    unexplained: bool,
    /// True if no API wrote the answer.
    page: bool,
    /// True if the server lacks a part that the request cannot do without.
    lack: bool,
    callers_own: bool,
    /// True if the caller's own key, which was refused, has worked before.
    key_has_worked: bool,
    /// True if the provider refused what the caller named or brought: its model, its credentials.
    pub(super) named_by_caller: bool,
    refused: Vec<OmittedParameter>,
    dialect: Option<Dialect>,
    raw: Option<Bytes>,
    /// The provider's answer, of a type of a room above.
    answer: Option<Arc<dyn Any + Send + Sync>>,
    /// The tokens that the answer took.
    pub(super) usage: Option<Usage>,
    pub(super) network: NetworkFacts,
}

/// The facts about no exchange.
pub(super) static NONE: Exchange = Exchange {
    status: None,
    code: None,
    request_id: None,
    should_retry: None,
    unexplained: false,
    page: false,
    lack: false,
    callers_own: false,
    key_has_worked: false,
    named_by_caller: false,
    refused: Vec::new(),
    dialect: None,
    raw: None,
    answer: None,
    usage: None,
    network: NetworkFacts { connection: None, is_local: false },
};

/// The facts of a failed connection that a circuit's evidence needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct NetworkFacts {
    /// The number of the connection.
    pub connection: Option<u64>,
    /// True if this machine's network failed.
    pub is_local: bool,
}

/// A parameter that the request omits from here on, since its model refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct OmittedParameter {
    /// The parameter's place in a body of the provider's dialect.
    pub path: Cow<'static, str>,
    /// True if the model takes the parameter from no caller.
    pub lasting: bool,
}

impl LlmError {
    /// The HTTP status of the provider's answer. A failure inside a 200 has status 200.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.exchange().status
    }

    /// The provider's own code or type of the error.
    pub fn code(&self) -> Option<&str> {
        self.0.exchange().code.as_deref()
    }

    /// The provider's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.exchange().request_id.as_deref()
    }

    /// The provider's `x-should-retry`: `Some(false)` forbids a retry, `Some(true)` permits one.
    pub fn should_retry(&self) -> Option<bool> {
        self.0.exchange().should_retry
    }

    /// Marks a statement that the request is invalid as one that names no fault in it.
    #[doc(hidden)]
    pub fn note_unexplained(&mut self) {
        self.0.exchange_mut().unexplained = true;
    }

    /// Returns true if the provider calls the request invalid (400, 422) in words that nobody here knows, and names no
    /// field of it: the fault may be the provider's.
    pub fn is_unexplained(&self) -> bool {
        self.0.exchange().unexplained
    }

    /// Marks a failure of what is the caller's own: a key that the provider refused, a body that broke off.
    #[doc(hidden)]
    pub fn blame_caller(&mut self) {
        self.0.exchange_mut().callers_own = true;
    }

    /// Marks a refusal of the caller's own key as one of a key that has worked before.
    #[doc(hidden)]
    pub fn note_worked_key(&mut self) {
        self.0.exchange_mut().key_has_worked = true;
    }

    /// Returns true if the provider refused the caller's own key, which has worked before.
    pub(crate) fn is_of_worked_key(&self) -> bool {
        self.0.exchange().key_has_worked
    }

    /// Returns true if what failed is the caller's own: its key, or a body that broke off. The provider is not at
    /// fault.
    #[doc(hidden)]
    pub fn is_callers_own(&self) -> bool {
        self.0.exchange().callers_own
    }

    /// Returns true if the provider refused the caller's own key, which a `CallerTransport` sent (feature `http`). No
    /// other tier, whose key is not the caller's, is asked, unless the caller's key has worked at that leaf before.
    pub fn is_about_callers_key(&self) -> bool {
        self.0.exchange().callers_own && self.kind() == ErrorKind::Auth
    }

    /// Sets the parameters that the model refused, if the request can be sent again without them.
    #[doc(hidden)]
    pub fn refuse(&mut self, parameters: Vec<OmittedParameter>) {
        self.0.exchange_mut().refused = parameters;
    }

    /// The parameters that the model refused, if the request can be sent again without them.
    #[doc(hidden)]
    pub fn refused(&self) -> &[OmittedParameter] {
        &self.0.exchange().refused
    }

    /// Notes that the server lacks a part that the request cannot do without: another tier may have it.
    #[doc(hidden)]
    pub fn note_lack(&mut self) {
        self.0.exchange_mut().lack = true;
    }

    /// Returns true if the server lacks a part that the request cannot do without.
    pub(crate) fn is_lack(&self) -> bool {
        self.0.exchange().lack
    }

    /// Marks the failure as one of a page.
    #[doc(hidden)]
    pub fn of_page(mut self, is_page: bool) -> Self {
        if is_page {
            self.0.exchange_mut().page = true;
        }
        self
    }

    /// Returns true if no API wrote the answer: it is a page of a proxy or a firewall, or empty.
    pub fn is_page(&self) -> bool {
        self.0.exchange().page
    }

    /// The provider's error body, byte for byte, for a caller of the same [dialect](Self::dialect).
    pub fn raw(&self) -> Option<&Bytes> {
        self.0.exchange().raw.as_ref()
    }

    /// The dialect of the provider that failed and of [`raw`](Self::raw); `None` if no provider was asked.
    pub fn dialect(&self) -> Option<Dialect> {
        self.0.exchange().dialect
    }

    /// Sets the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.exchange_mut().status = Some(status);
        self
    }

    /// Sets the provider's own code or type of the error, cut at 200 bytes.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Box<str>>) -> Self {
        self.0.exchange_mut().code = Some(label(code.into()));
        self
    }

    /// Sets the provider's id of the request, cut at 200 bytes.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.0.exchange_mut().request_id = Some(label(id.into()));
        self
    }

    /// Sets the provider's `x-should-retry`.
    #[must_use]
    pub fn with_should_retry(mut self, should: bool) -> Self {
        self.0.exchange_mut().should_retry = Some(should);
        self
    }

    /// Sets the provider's error body.
    #[must_use]
    pub fn with_raw(mut self, raw: Bytes) -> Self {
        self.0.exchange_mut().raw = Some(raw);
        self
    }

    /// Keeps the provider's answer, which counts as this failure.
    #[doc(hidden)]
    pub fn with_answer(mut self, answer: impl Any + Send + Sync) -> Self {
        if matches!(self.kind(), ErrorKind::EmptyAnswer | ErrorKind::ContentPolicy | ErrorKind::Refusal) {
            self.0.exchange_mut().answer = Some(Arc::new(answer));
        }
        self
    }

    /// Sets the tokens of an answer that counts as this failure: the provider charges for it all the same.
    #[doc(hidden)]
    pub fn with_usage(mut self, usage: Option<Usage>) -> Self {
        if usage.is_some() {
            self.0.exchange_mut().usage = usage;
        }
        self
    }

    /// Returns the tokens of an answer that counts as this failure.
    #[doc(hidden)]
    pub fn usage(&self) -> Option<Usage> {
        self.0.exchange().usage
    }

    pub(super) fn forget_raw(&mut self) {
        if let Some(exchange) = &mut self.0.exchange {
            exchange.raw = None;
        }
    }

    #[doc(hidden)]
    pub fn forget_answer(&mut self) {
        if let Some(exchange) = &mut self.0.exchange {
            exchange.answer = None;
        }
    }

    /// Takes the provider's answer that counts as this failure.
    #[doc(hidden)]
    pub fn take_answer<A: Any + Clone + Send + Sync>(&mut self) -> Option<A> {
        self.0.exchange.as_mut()?.answer.take()?.downcast().ok().map(Arc::unwrap_or_clone)
    }

    /// Sets the dialect of the provider that failed.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.0.exchange_mut().dialect = Some(dialect);
        self
    }
}

/// Bytes of a code or id that are kept: an error goes into logs, and a longer text is not a name.
const LABEL: usize = 200;

/// Cuts a provider's label at the length of a name.
fn label(text: Box<str>) -> Box<str> {
    if text.len() <= LABEL {
        return text;
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LABEL).last().unwrap_or_default();
    format!("{}...", &text[..end]).into()
}
