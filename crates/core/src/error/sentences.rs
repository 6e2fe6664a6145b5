//! The sentences of errors, for whoever reads them.
//!
//! | reader | can | hears |
//! |---|---|---|
//! | programmer | change the program and its stack | this crate's types and settings |
//! | operator | change the gateway's file, accounts and keys | the file's settings |
//! | caller | change its request, send it again, ask the operator | headers, and what of the request to change |
//!
//! A caller also hears which faults are its own. A key, an account or a model of the owner's that a provider refuses is
//! the owner's fault: to the caller it is a bad gateway, not its own 401. Where several tiers failed, no single
//! provider's words stand for all.

use http::StatusCode;

use super::{ErrorKind, LlmError, Reader, TimeoutLimit, Told, attempt::StepName, chain::Chain};

impl LlmError {
    /// Returns the error in the words for this reader. `translate::encode_error`
    /// encodes it for that reader too: a caller gets neither the words of a single provider where several tiers failed,
    /// nor a 401 for a key that is not its own.
    #[must_use]
    pub fn for_reader(&self, reader: Reader) -> Self {
        let mut error = self.clone();
        error.0.reader = reader;
        let told = error.told();
        if reader == Reader::Caller && (told == Told::OwnersFault || Chain::of(&error).is_some()) {
            error.forget_raw();
        }
        error
    }

    /// Returns the failure as its reader's protocol is to encode it.
    #[doc(hidden)]
    pub fn told(&self) -> Told {
        let kind = self.kind_for_caller();
        if self.0.reader != Reader::Caller {
            return Told::Kind(kind);
        }
        let Some(chain) = Chain::of(self) else {
            return if self.is_owners_fault() { Told::OwnersFault } else { Told::Kind(kind) };
        };
        match kind {
            _ if chain.kinds().all(is_owners) => Told::OwnersFault,
            // A status of the first provider's servers says nothing of the others.
            kind if is_of_servers(kind) => Told::AllFailed,
            kind => Told::Kind(kind),
        }
    }

    /// Returns true if a provider refused what is the owner's: its key, its account, its model or its way there.
    fn is_owners_fault(&self) -> bool {
        // Without a model no provider was asked. An earlier response, say, that is not found has another status.
        let is_model = self.model().is_some() && self.status().is_none_or(|status| status != StatusCode::BAD_REQUEST);
        let is_theirs = self.kind() != ErrorKind::NotFound || is_model;
        is_owners(self.kind()) && is_theirs && !self.is_callers_own() && !self.0.exchange().named_by_caller
    }

    /// Marks a refusal of what the caller itself named or brought: its model, its credentials.
    #[doc(hidden)]
    pub fn note_named_by_caller(&mut self) {
        self.0.exchange_mut().named_by_caller = true;
    }

    /// Returns what happened, without the provider's words.
    pub(super) fn what(&self) -> String {
        let reader = self.0.reader;
        if reader != Reader::Caller {
            return self.kind().what().to_owned();
        }
        if self.is_owners_fault() {
            let tier = self.attempts().last().map(|step| format!("the tier {}: ", StepName(step))).unwrap_or_default();
            return format!("{tier}{}", self.kind().owners_fault());
        }
        match self.kind() {
            ErrorKind::BulkheadFull => "too many requests".to_owned(),
            ErrorKind::Auth => "your key was refused".to_owned(),
            kind => kind.what().to_owned(),
        }
    }

    /// Returns true if the provider's words may stand in the text: those about the owner's key or account may name it.
    pub(super) fn may_quote(&self) -> bool {
        let is_about_account = matches!(self.kind(), ErrorKind::Auth | ErrorKind::QuotaExhausted);
        self.0.reader != Reader::Caller || !(is_about_account && self.is_owners_fault())
    }

    /// Returns what the reader can do.
    pub(super) fn advice(&self) -> &'static str {
        let kind = self.kind();
        match self.0.reader {
            Reader::Caller if self.is_owners_fault() => FOR_OWNER,
            Reader::Caller if kind == ErrorKind::Timeout => match self.timeout() {
                Some(out) if out.by_caller => MORE_TIME,
                Some(out) => limit_to_caller(out.limit),
                None => AGAIN,
            },
            Reader::Caller => kind.advice_to_caller(),
            // No limit is named where the provider gave up.
            _ if kind == ErrorKind::Timeout && self.timeout().is_none() => "repeat the request, or add a tier",
            Reader::Operator if kind == ErrorKind::Timeout => limit_to_operator(self.timeout().map(|out| out.limit)),
            Reader::Operator => kind.advice_to_operator(),
            Reader::Programmer => kind.advice(),
        }
    }

    /// Returns what the reader can do about a chain of tiers that failed.
    pub(super) fn advice_for(&self, chain: &Chain<'_>) -> String {
        match self.0.reader {
            Reader::Caller if self.told() == Told::OwnersFault => FOR_OWNER.to_owned(),
            Reader::Caller => {
                let first = chain.kinds().next().unwrap_or(ErrorKind::Other);
                let is_one = chain.kinds().all(|kind| kind == first);
                // The advice for one tier holds for all where it is about the request.
                if is_one && !is_of_servers(first) { first.advice_to_caller() } else { AGAIN }.to_owned()
            }
            _ => chain.advice(),
        }
    }
}

/// Returns true for a refusal that is about the owner's key, account, model or network, unless the caller named or
/// brought them.
fn is_owners(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Auth | ErrorKind::QuotaExhausted | ErrorKind::NotFound | ErrorKind::Blocked)
}

/// Returns true for a failure of servers, whose status is any of many, or of the owner.
fn is_of_servers(kind: ErrorKind) -> bool {
    is_owners(kind) || matches!(kind, ErrorKind::Server | ErrorKind::Other)
}

/// Returns what a caller can do about a limit of the gateway's, with the setting in its file.
fn limit_to_caller(limit: TimeoutLimit) -> &'static str {
    match limit {
        TimeoutLimit::Deadline => {
            "give the request more time by `x-steadfast-timeout-ms`; the most is `timeout` in the gateway's file"
        }
        TimeoutLimit::ByteIdle => {
            "send the request again later; the limit is `tiers[..].timeout.idle` in the gateway's file"
        }
        TimeoutLimit::ProgressIdle => {
            "send the request again later; the limit is `tiers[..].timeout.progress` in the gateway's file"
        }
        TimeoutLimit::Total | TimeoutLimit::FirstToken | TimeoutLimit::Silence => {
            "send the request again later; the limit is `tiers[..].timeout` in the gateway's file"
        }
    }
}

/// Returns the setting of the file that an operator can raise.
fn limit_to_operator(limit: Option<TimeoutLimit>) -> &'static str {
    match limit {
        Some(TimeoutLimit::Deadline) => "raise the file's `timeout`, or add a tier",
        Some(TimeoutLimit::ByteIdle) => "raise the tier's `timeout: { idle }`, or add a tier",
        Some(TimeoutLimit::ProgressIdle) => "raise the tier's `timeout: { progress }`, or add a tier",
        Some(TimeoutLimit::FirstToken) => "raise the tier's `timeout: { first_token }`, or add a tier",
        Some(TimeoutLimit::Total | TimeoutLimit::Silence) | None => "raise the tier's `timeout`, or add a tier",
    }
}

const AGAIN: &str = "send the request again later";
const MORE_TIME: &str = "give the request more time by `x-steadfast-timeout-ms`";
const FOR_OWNER: &str = "only the gateway's operator can repair this";

impl ErrorKind {
    /// Returns the failure.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::RateLimited => "rate limited",
            Self::Overloaded => "the provider is overloaded",
            Self::Timeout => "timed out",
            Self::Connect => "could not connect",
            Self::Server => "the provider failed",
            Self::StreamBroken => "the stream broke",
            Self::Malformed => "the answer is malformed",
            Self::EmptyAnswer => "the answer is empty",
            Self::CircuitOpen => "the circuit is open",
            Self::BulkheadFull => "the bulkhead refused the request",
            Self::QuotaExhausted => "the quota is used up",
            Self::ContextLength => "the request is longer than the context window",
            Self::TooLarge => "the request is too large",
            Self::ContentPolicy => "refused by the content policy",
            Self::Refusal => "the model declined",
            Self::InvalidRequest => "the request is invalid",
            Self::UnsupportedFeature => "this provider cannot carry the request",
            Self::InvalidOutput => "the answer does not have the requested shape",
            Self::Auth => "the key was refused",
            Self::NotFound => "not found",
            Self::Blocked => "a firewall or proxy blocked the request",
            Self::Budget => "a spending cap refused the request",
            Self::Deadline => "no useful time is left before the deadline",
            Self::OutOfService => "taken out of service by hand",
            Self::IdempotencyConflict => "the idempotency key belongs to another request",
            Self::Store => "a store of this service failed",
            Self::Credentials => "no valid credentials for the provider",
            Self::Exhausted => "nothing is left to try",
            Self::Other => "the call failed",
        }
    }

    /// Returns the failure as one of what is the owner's.
    fn owners_fault(self) -> &'static str {
        match self {
            Self::Auth => "the provider refused the gateway's own key",
            Self::QuotaExhausted => "the credit of the gateway's own account is used up",
            Self::NotFound => "the provider does not know the model or the path that the gateway asks for",
            kind => kind.what(),
        }
    }

    /// Returns what a programmer can do.
    fn advice(self) -> &'static str {
        match self {
            Self::RateLimited => "slow down, raise the limit, or add a tier",
            Self::Overloaded => "wait, or add a tier of another provider",
            Self::Timeout => "raise the limit named above, or add a tier",
            Self::Connect => "check the base URL, DNS, proxy and network",
            Self::Server => "see its status page; a tier of another provider covers this",
            Self::StreamBroken => "ask for `Buffer` or `Restart`, or repeat the request",
            Self::Malformed => "check that the base URL points at the provider's API",
            Self::EmptyAnswer => "repeat the request, or leave more room for output tokens",
            Self::CircuitOpen => "wait for its next probe, or add a tier",
            Self::BulkheadFull => "raise the feature's limits, or send fewer at once",
            Self::QuotaExhausted => "add credit or raise the spending limit",
            Self::ContextLength => "shorten it, or add a tier with a larger window",
            Self::TooLarge => "shorten it",
            Self::ContentPolicy | Self::Refusal | Self::InvalidRequest => "change the request",
            Self::UnsupportedFeature => "change the request, or use another tier",
            Self::InvalidOutput => "relax the schema, or use a stronger model",
            Self::Auth => "check the provider's API key",
            Self::NotFound => "check the model's name and the base URL",
            Self::Blocked => {
                "check the firewall or proxy in front of the provider; a tier elsewhere may take the request"
            }
            Self::Budget => "raise the cap, or wait for its reset",
            Self::Deadline => "raise the deadline",
            Self::OutOfService => "undrain a tier, or unpin the level",
            Self::IdempotencyConflict => "send the same request, or another key",
            Self::Store => "see its log; the request may be sent again later",
            Self::Credentials => "check their source; a tier of another provider covers this",
            Self::Exhausted => "raise the attempts, or add a tier",
            Self::Other => "see the cause",
        }
    }

    /// Returns what an operator can do, in the words of the gateway's file.
    fn advice_to_operator(self) -> &'static str {
        match self {
            Self::Timeout => limit_to_operator(None),
            Self::StreamBroken => "set `stream: { commit: complete }`, or send the request again",
            Self::BulkheadFull => "raise the limits under `features`, or send fewer at once",
            Self::Auth => "check the tier's `api_key`",
            Self::NotFound => "check the tier's `model` and `base_url`",
            Self::Malformed => "check that the tier's `base_url` points at the provider's API",
            Self::Connect => "check the tier's `base_url`, and this machine's DNS, proxy and network",
            Self::Budget => "raise the cap under `budgets`, or wait for its reset",
            Self::Exhausted => "raise `retry: { max_attempts }`, or add a tier",
            Self::Other => "see the log",
            kind => kind.advice(),
        }
    }

    /// Returns what a caller can do.
    fn advice_to_caller(self) -> &'static str {
        match self {
            Self::RateLimited | Self::BulkheadFull => "send fewer requests at once, or wait",
            Self::StreamBroken => {
                "send the request again; with the header `x-steadfast-commit: complete` an answer comes whole or not at \
                 all"
            }
            Self::EmptyAnswer => "send the request again, with more room for output tokens",
            Self::ContextLength => "shorten it, or ask for a model with a larger window",
            Self::TooLarge => "shorten it",
            Self::ContentPolicy | Self::Refusal | Self::InvalidRequest => "change the request",
            Self::UnsupportedFeature => "change the request, or ask for another model",
            Self::InvalidOutput => "relax the schema, or ask for a stronger model",
            Self::Auth => "check your key",
            Self::NotFound => "check the model's name",
            Self::Budget => "ask for a shorter answer or a higher cap, or wait for the cap's reset",
            Self::Deadline => MORE_TIME,
            Self::IdempotencyConflict => "send the same request, or another key",
            Self::QuotaExhausted => FOR_OWNER,
            Self::Overloaded
            | Self::Timeout
            | Self::Connect
            | Self::Server
            | Self::Malformed
            | Self::CircuitOpen
            | Self::Blocked
            | Self::OutOfService
            | Self::Store
            | Self::Credentials
            | Self::Exhausted
            | Self::Other => AGAIN,
        }
    }

    /// Returns the owner's remedy if each of several tiers failed like this: a further tier would not help.
    pub(super) fn advice_to_all(self) -> &'static str {
        match self {
            Self::RateLimited => "slow down, or raise the limits",
            Self::Overloaded => "wait",
            Self::Timeout => "raise the limits of time",
            Self::Connect => "check this machine's network, DNS and proxy",
            Self::Server | Self::StreamBroken => "see the providers' status pages",
            Self::CircuitOpen => "wait for the next probe",
            Self::QuotaExhausted => "add credit or raise the spending limits",
            Self::Auth => "check the providers' API keys",
            Self::Credentials => "check the sources of the credentials",
            Self::NotFound => "check the models' names and the base URLs",
            Self::Malformed => "check that the base URLs point at the providers' APIs",
            Self::Exhausted => "raise the attempts",
            _ => self.advice(),
        }
    }

    /// Returns the thing that an owner must repair, for a failure that names one; the tier's name follows.
    pub(super) fn mend(self) -> Option<&'static str> {
        match self {
            Self::Auth => Some("check the API key"),
            Self::Credentials => Some("check the credentials"),
            Self::NotFound => Some("check the model's name and the base URL"),
            Self::QuotaExhausted => Some("add credit to the account"),
            Self::Malformed => Some("check the base URL"),
            _ => None,
        }
    }
}
