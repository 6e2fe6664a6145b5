//! Virtual keys: who may call, and for what.
//!
//! A key is 32 random bytes, and the file has only its SHA-256: whoever reads the file can call with none of them. (A slow
//! hash is for what people think up; nobody guesses 256 random bits.) What a caller shows is hashed and compared with every
//! entry in constant time. A key has the limits of the features that it may use, and those of its own.
//!
//! ```yaml
//! keys:
//!   - name: team-search
//!     hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//!     features: [search, background]     # the first where a request names none; left out: any
//!     models: [gpt-4o, 'claude-*']       # left out: any
//!     requests_per_minute: 600           # this and the next four left out: no limit
//!     tokens_per_minute: 200000          # of prompts and answers together
//!     concurrency: 20                    # requests at once
//!     budget: { usd: 50, period: day }   # as under `budgets` in the configuration, with `at_cap` and `warn_at`
//!     expires: 2027-01-01                # refused from that day on, in UTC
//!   - name: operations
//!     hash: sha256:..
//!     admin: true                        # sees the decision records of all, and what each key has spent
//!   - name: support
//!     hash: sha256:..
//!     handoff: true                      # sees and answers what was handed to people, as an administrator may too
//! ```
//!
//! A key that has spent its budget gets what a provider's account would that has: status 429 with the time until it begins
//! anew, the type `insufficient_quota` from OpenAI's clients' point of view and `rate_limit_error` from Anthropic's (their
//! 402 `billing_error` is about the account's payment), and `x-should-retry: false`, for official clients repeat a
//! 429 otherwise.
//!
//! Requests per minute are counted before a request's body is read, on every path of a key but the look at one record;
//! concurrency and tokens by a [`Bulkhead`](steadfast::Bulkhead) of the key's own, which its requests bring along, so that a
//! call which outlives its caller keeps its place; a budget is a cap of the stack beside those of its
//! file, so that it is told of in events, metrics and alerts like any other. All of them go on over a reload that leaves
//! them as they were; a start begins anew, for it is this process that knows what was spent.

mod admin;
mod expiry;
mod file;
mod limits;
mod make;
mod rate;
#[cfg(test)]
mod tests;

use std::{
    error, fmt,
    future::poll_fn,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use steadfast::{
    BoxLlmService, LlmError, LlmRequest, LlmResponse, StackHandle,
    config::{ConfigError, FileWatch},
    layers::{budget::BudgetKey, bulkhead::CallerLimitReached},
};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tower::Service;

pub(crate) use self::{admin::list, make::Key as MakeKey};
use self::{expiry::Expiry, file::Contents, limits::Limits, rate::Rate};
use super::{lock::lock, memory::Share, wall_clock};
use crate::exit::Failure;

/// The keys of a file, as they are at the moment.
pub(crate) struct Keys {
    path: PathBuf,
    current: ArcSwap<Vec<Arc<Key>>>,
    /// Where their budgets are kept.
    stack: Option<StackHandle>,
    /// What was last in the file; held while it is read again.
    seen: Mutex<Contents>,
}

/// One caller.
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    hash: [u8; 32],
    features: Option<Vec<Box<str>>>,
    models: Option<Vec<Box<str>>>,
    rate: Option<Arc<Rate>>,
    limits: Option<Limits>,
    budget: Option<file::Budget>,
    expires: Option<Expiry>,
    pub(crate) admin: bool,
    handoff: bool,
    /// The part of the gateway's memory that the bodies of its requests have taken.
    pub(crate) memory: Arc<Share>,
}

/// Why a caller is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key was shown.
    NoKey,
    /// Nobody has the key that was shown.
    UnknownKey,
    /// The key has expired.
    Expired,
    /// The key is not for this feature.
    Feature,
    /// The key is not for this model.
    Model,
    /// There are no keys, and the request is from a web page of elsewhere.
    Origin,
    /// Only an administrator's key would do.
    NotAdmin,
    /// The key's rate is used up for so long.
    Rate(Duration),
    /// The key's tokens are used up for so long.
    Tokens(Duration),
    /// The key has as many requests in flight as it may.
    InFlight,
}

impl Denied {
    /// What this error says of the caller's key, where that is what it is about.
    pub(crate) fn of(error: &LlmError) -> Option<Self> {
        let source = error::Error::source(error)?;
        match source.downcast_ref::<CallerLimitReached>() {
            None => source.downcast_ref().copied(),
            Some(_) => Some(error.retry_after().map_or(Self::InFlight, Self::Tokens)),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "no key: send one of the gateway's in `Authorization: Bearer` or `x-api-key`",
            Self::UnknownKey => "the gateway does not know this key",
            Self::Expired => "this key has expired",
            Self::Feature => "this key is not for this feature",
            Self::Model => "this key is not for this model",
            Self::Origin => "web pages may only call a gateway that has keys",
            Self::NotAdmin => "only an administrator's key may see this",
            Self::Rate(_) => "this key's requests per minute are used up",
            Self::Tokens(_) => "this key's tokens per minute are used up",
            Self::InFlight => "this key has as many requests in flight as it may",
        })
    }
}

impl error::Error for Denied {}

impl Keys {
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = file::contents(path);
        let keys = file::read(path, &text, &[])?;
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(keys), stack: None, seen: Mutex::new(text) })
    }

    /// Has the keys' budgets kept by this stack, which serves them.
    ///
    /// # Errors
    ///
    /// One cannot be kept.
    pub(crate) fn kept_by(mut self, stack: StackHandle) -> Result<Self, Failure> {
        stack.set_budgets(file::budgets(&self.current.load())).map_err(|error| self.wrong(&error))?;
        self.stack = Some(stack);
        Ok(self)
    }

    fn wrong(&self, error: &ConfigError) -> file::Wrong {
        file::Wrong::new(&self.path, error)
    }

    /// Reads the file again and says in the log what came of it. A file that is wrong changes nothing.
    pub(crate) fn reload(&self) {
        self.read_again(|_, _| true);
    }

    /// Reads the file again whenever it changes.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<FileWatch, ConfigError> {
        let keys = Arc::downgrade(self);
        FileWatch::file(&*self.path, move || {
            if let Some(keys) = keys.upgrade() {
                // What SIGHUP had read already is not said twice.
                keys.read_again(|seen, now| seen != now);
            }
        })
    }

    fn read_again(&self, wanted: impl FnOnce(&Contents, &Contents) -> bool) {
        let mut seen = lock(&self.seen);
        let now = file::contents(&self.path);
        if !wanted(&seen, &now) {
            return;
        }
        *seen = now;
        match self.replace(&seen) {
            Ok(count) => tracing::info!(count, "the keys were read again"),
            Err(problem) => tracing::warn!(%problem, "the keys stay as they were"),
        }
    }

    fn replace(&self, text: &Contents) -> Result<usize, file::Wrong> {
        let keys = file::read(&self.path, text, &self.current.load())?;
        // First, so that nobody spends before there is a cap.
        if let Some(stack) = &self.stack {
            stack.set_budgets(file::budgets(&keys)).map_err(|error| self.wrong(&error))?;
        }
        let count = keys.len();
        self.current.store(Arc::new(keys));
        Ok(count)
    }

    /// Who calls, by the key in `Authorization: Bearer` or `x-api-key`: Claude Code may send both.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Arc<Key>, Denied> {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let own = headers.get_all("x-api-key").iter().filter_map(|value| Some(value.to_str().ok()?.trim()));
        let mut denied = Denied::NoKey;
        for shown in bearer.chain(own).filter(|shown| !shown.is_empty()) {
            match self.find(shown) {
                Some(key) if key.is_expired(wall_clock::since_1970()) => denied = Denied::Expired,
                Some(key) => return Ok(key),
                None if denied == Denied::NoKey => denied = Denied::UnknownKey,
                None => {}
            }
        }
        Err(denied)
    }

    fn find(&self, shown: &str) -> Option<Arc<Key>> {
        let hash: [u8; 32] = Sha256::digest(shown).into();
        let keys = self.current.load();
        // All of them, whether or not one has matched.
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(key.clone());
            }
        }
        found
    }
}

impl Key {
    /// Whether its limits count what is in a request.
    pub(crate) fn reads_requests(&self) -> bool {
        self.limits.is_some() || self.budget.is_some()
    }

    /// The feature that a request counts as, where it may.
    pub(crate) fn feature(&self, named: Option<Box<str>>) -> Result<Option<Box<str>>, Denied> {
        match (&self.features, named) {
            (None, named) => Ok(named),
            (Some(allowed), None) => Ok(allowed.first().cloned()),
            (Some(allowed), Some(named)) if allowed.contains(&named) => Ok(Some(named)),
            _ => Err(Denied::Feature),
        }
    }

    /// Whether the key is for this model.
    pub(crate) fn model(&self, named: Option<&str>) -> Result<(), Denied> {
        let Some(allowed) = &self.models else { return Ok(()) };
        let fits = |pattern: &str| match (pattern.strip_suffix('*'), named) {
            (_, None) => false,
            (Some(start), Some(named)) => named.starts_with(start),
            (None, Some(named)) => named == pattern,
        };
        if allowed.iter().any(|pattern| fits(pattern)) { Ok(()) } else { Err(Denied::Model) }
    }

    /// Takes a place for work that calls no model, among those that the key's concurrency allows.
    pub(crate) fn place(&self) -> Result<Option<limits::Place>, Denied> {
        self.limits.as_ref().map_or(Ok(None), Limits::place)
    }

    /// Counts a request.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denied> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now).map_err(Denied::Rate))
    }

    /// Whether it may see and answer what was handed to people.
    pub(crate) fn is_reviewer(&self) -> bool {
        self.admin || self.handoff
    }

    fn is_expired(&self, since_1970: Duration) -> bool {
        self.expires.is_some_and(|expiry| expiry.is_over(since_1970))
    }
}

/// Calls the service on behalf of a key, within its limits, and under its name for the caps that count by it.
pub(crate) async fn call(
    key: Option<Arc<Key>>,
    service: &Mutex<BoxLlmService>,
    mut request: LlmRequest,
) -> Result<LlmResponse, LlmError> {
    let own = || lock(service);
    if let Some(key) = &key {
        request = request.extension(BudgetKey(key.name.clone()));
        if let Some(limits) = &key.limits {
            request = request.extension(limits.own.clone());
        }
    }
    poll_fn(|cx| own().poll_ready(cx)).await?;
    let answering = own().call(request);
    answering.await
}

/// What the stack calls the cap of a key.
fn cap_name(key: &str) -> String {
    format!("{CAPS}{key}")
}

const CAPS: &str = "key ";

/// Whether a cap is a key's own.
pub(crate) fn is_of_a_key(cap: &str) -> bool {
    cap.starts_with(CAPS)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).field("keys", &self.current.load().len()).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
