//! Virtual keys: the callers and their permissions.
//!
//! A key is 32 random bytes, and the file has only its SHA-256: a reader of the file cannot call with it. (A slow hash
//! is for passwords; nobody can guess 256 random bits.) The gateway hashes the caller's key, finds entries by the first
//! eight bytes of the hash, and compares them in constant time: the bytes of a hash tell nothing of its key. A key has
//! the limits of the features that it may use, and those of its own.
//!
//! ```yaml
//! keys:
//!   - name: team-search
//!     features: [chat, summary]          # the first where a request names none; left out: any
//!     models: [gpt-4o, 'claude-*']       # left out: any
//!     requests_per_minute: 600           # this and the next four left out: no limit
//!     tokens_per_minute: 200000          # of prompts and answers together
//!     concurrency: 20                    # requests at once
//!     budget: { usd: 50, period: day }   # as under `budgets` in the configuration, with `at_cap` and `warn_at`
//!     expires: 2027-01-01                # refused from that day on, in UTC
//!     hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//!   - name: operations
//!     admin: true                        # sees the decision records of all, and what each key has spent
//!     hash: sha256:..
//!   - name: support
//!     handoff: true                      # sees and answers what was handed to people, as an administrator may too
//!     hash: sha256:..
//!   - name: chat-page
//!     objects: false                     # no files, batches and the like; `all`: other keys' too; left out: its own
//!     pass_through: true                 # unknown paths too, where the file has `lane: { other: pass }`
//!     hash: sha256:..
//! ...
//! ```
//!
//! **A file that is read while it is written** is a beginning of itself, in which the last entry may have lost its
//! limits. With `hash` last in each entry, as `steadfast key` prints it, such an entry is none, and the previous keys
//! stay. So they do where the file had an [end mark](EndMark) and has none any more. In a file without either, the last
//! entry may be open ([`Reading::is_open`]): it counts at once if it allows no more than the same key did before, else
//! once the file has rested for [`REST`]. A writer that pauses for longer is beyond us.
//!
//! A key that has spent its budget gets the response of a provider whose account is empty: status 429 with the time
//! until the next period, the type `insufficient_quota` in OpenAI's dialect and `rate_limit_error` in Anthropic's
//! (their 402 `billing_error` is about the account's payment), and `x-should-retry: false`, since official clients
//! repeat a 429 otherwise.
//!
//! The gateway counts requests per minute before it reads a request's body, on every path of a key but the lookup of
//! one record. A [`Bulkhead`](steadfast::Bulkhead) of the key's own counts concurrency and tokens; its requests carry
//! it, so that a call which outlives its caller keeps its permit. A budget is a cap of the stack beside those of its
//! file, with the same events, metrics and alerts. All of them survive a reload that leaves them unchanged; a restart
//! resets them, since the spending is in the process's memory.
//!
//! A key for a feature or model that the configuration does not have is an error of `steadfast check`. A server logs
//! it, at its start and at each reload, and serves the others: one caller's wrong name keeps nobody else out, and no
//! other key from being revoked.

mod admin;
mod expiry;
mod file;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod limits;
mod rate;
mod set;
#[cfg(test)]
mod tests;
mod virtual_key;

use std::{
    collections::{HashMap, HashSet},
    error, fmt,
    future::poll_fn,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, ready},
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use steadfast::{
    BoxLlmService, LlmError, LlmRequest, LlmResponse,
    error::ReachedLimit,
    layers::{budget::BudgetKey, bulkhead::CallerLimitReached},
};
use steadfast_stack::{Budget, Config, ConfigError, EndMark, FileWatch, StackHandle};
use tokio::time::{Instant, sleep};
use tower::Service;

pub(crate) use self::admin::list;
pub use self::virtual_key::VirtualKey;
use self::{
    expiry::Expiry,
    file::{Contents, Reading},
    limits::KeyLimits,
    rate::Rate,
    set::KeySet,
};
use crate::{error::ServeError, limits::memory::CallerShare, lock::lock, wall_clock};

/// The keys of a file, as of the last reload.
pub(crate) struct Keys {
    path: PathBuf,
    current: ArcSwap<KeySet>,
    /// The stack that keeps their budgets.
    stack: Option<StackHandle>,
    /// The last look at the file; locked during a reload.
    seen: Mutex<Look>,
    /// The number of looks that its watch should know of.
    readings: AtomicU64,
}

/// A look at the file.
#[derive(Debug)]
struct Look {
    text: Contents,
    /// The mark of the last text that was right.
    mark: EndMark,
    /// The time since which this text has its last entry held back.
    held: Option<Instant>,
}

/// The time for which a file must rest until an entry counts that may be the beginning of a longer one.
const REST: Duration = Duration::from_secs(5);
/// The same at the start, which waits for it.
const REST_AT_START: Duration = Duration::from_secs(2);

/// A caller's key.
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    hash: [u8; 32],
    features: Option<Arc<[Box<str>]>>,
    models: Option<Arc<[Box<str>]>>,
    rate: Option<Arc<Rate>>,
    limits: Option<KeyLimits>,
    budget: Option<file::Budget>,
    expires: Option<Expiry>,
    pub(crate) admin: bool,
    handoff: bool,
    objects: ObjectRight,
    /// True if it may ask for paths that the gateway does not know.
    pass_through: bool,
    /// The memory that the bodies of its requests take.
    pub(crate) memory: Arc<CallerShare>,
}

/// The objects of the account that a key may name, such as files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum ObjectRight {
    /// None: the paths of objects are closed.
    None,
    /// The objects that it has made.
    #[default]
    Own,
    /// All.
    All,
}

/// The reason for which a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// No key was shown.
    NoKey,
    /// The key is unknown.
    UnknownKey(KeyHash),
    /// The key of this name has expired.
    Expired(Arc<str>),
    /// The key is for these features alone.
    Feature(Arc<[Box<str>]>),
    /// The key is for these models alone.
    Model(Arc<[Box<str>]>),
    /// The gateway has no keys, and the request comes from a foreign web page.
    Origin,
    /// The gateway has no keys, and the request calls it by a name that is not this machine's.
    Host,
    /// Only an administrator's key would do for this path.
    NotAdmin(Box<str>),
    /// Only a reviewer's key would do for this path.
    NotReviewer(Box<str>),
    /// The key is for no objects.
    Objects,
    /// Only a key with `pass_through` would do for this path, which the gateway does not know.
    NotPassed(Box<str>),
    /// The key's rate is used up for this long; the number is its limit.
    Rate(Duration, NonZeroU32),
    /// The key's tokens are used up for this long, or are always too few; the number is their limit, if it is known.
    Tokens(Option<Duration>, Option<NonZeroU32>),
    /// The key has as many requests in flight as it may: this number, if it is known.
    InFlight(Option<NonZeroU32>),
}

/// The beginning of a key's hash. It finds the key's entry in a file, and does not give the key away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash([u8; 4]);

impl KeyHash {
    pub(crate) fn of(shown: &str) -> Self {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(shown).into();
        Self([a, b, c, d])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{:08x}", u32::from_be_bytes(self.0))
    }
}

impl Denial {
    /// Returns the denial in an error, if it is about the caller's key.
    pub(crate) fn of(error: &LlmError) -> Option<Self> {
        let source = error::Error::source(error)?;
        match source.downcast_ref::<CallerLimitReached>() {
            None => source.downcast_ref().cloned(),
            Some(_) => Some(match error.reached_limit() {
                Some(ReachedLimit::Tokens) => Self::Tokens(error.retry_after(), None),
                _ => Self::InFlight(None),
            }),
        }
    }

    /// Returns the time after which the key may ask again, if it is known.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Rate(wait, _) => Some(*wait),
            Self::Tokens(wait, _) => *wait,
            _ => None,
        }
    }

    /// Returns the key's limit and its value, as the file of keys spells them.
    pub(crate) fn limit(&self) -> Option<String> {
        match self {
            Self::Feature(allowed) => Some(format!("features: {}", allowed.join(", "))),
            Self::Model(allowed) => Some(format!("models: {}", allowed.join(", "))),
            Self::Rate(_, limit) => Some(format!("requests_per_minute: {limit}")),
            Self::Tokens(_, limit) => Some(format!("tokens_per_minute: {}", (*limit)?)),
            Self::InFlight(limit) => Some(format!("concurrency: {}", (*limit)?)),
            Self::NotAdmin(path) => Some(format!("admin: true, for {path}")),
            Self::NotReviewer(path) => Some(format!("handoff: true, for {path}")),
            Self::Objects => Some("objects: false".to_owned()),
            Self::NotPassed(path) => Some(format!("pass_through: true, for {path}")),
            Self::NoKey | Self::UnknownKey(_) | Self::Expired(_) | Self::Origin | Self::Host => None,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => {
                "no key: send one of the gateway's in `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `api-key`"
            }
            Self::UnknownKey(_) => "the gateway does not know this key",
            Self::Expired(_) => "this key has expired",
            Self::Feature(_) => "this key is not for this feature",
            Self::Model(_) => "this key is not for this model",
            Self::Origin => {
                "web pages may only call a gateway that has keys, or that lists their origin under `gateway.cors`"
            }
            Self::Host => {
                "without keys this gateway answers only to names of this machine, such as localhost or its address: give it \
                 keys, list the origin under `gateway.cors`, or start it with --insecure-no-auth"
            }
            Self::NotAdmin(_) => "only an administrator's key may see this",
            Self::NotReviewer(_) => "only a reviewer's key may see this",
            Self::Objects => "this key is not for files, batches and other objects",
            Self::NotPassed(_) => {
                "this key is not for paths that the gateway does not know: it needs `pass_through: true`, or the path \
                 under `lane.other`"
            }
            Self::Rate(..) => "this key's requests per minute are used up",
            Self::Tokens(None, _) => "the request alone is over this key's tokens per minute",
            Self::Tokens(..) => "this key's tokens per minute are used up",
            Self::InFlight(_) => "this key has reached its limit of requests in flight",
        })
    }
}

impl error::Error for Denial {}

impl Keys {
    /// # Errors
    ///
    /// The file of keys is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self, ServeError> {
        let text = file::contents(path);
        let Reading { keys, mark, .. } = file::read(path, &text, &KeySet::default())?;
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(KeySet::new(keys)),
            stack: None,
            seen: Mutex::new(Look { text, mark, held: None }),
            readings: AtomicU64::new(0),
        })
    }

    /// Waits until a file has rested that was changed a moment ago, and whose last entry may be the beginning of a
    /// longer one: a start has no earlier keys to go by.
    pub(crate) async fn settle(path: &Path) {
        for _ in 0..5 {
            let text = file::contents(path);
            let is_open = file::read(path, &text, &KeySet::default()).is_ok_and(|reading| reading.is_open);
            let changed = std::fs::metadata(path).and_then(|facts| facts.modified());
            let changed = changed.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let age = wall_clock::since_1970().saturating_sub(changed);
            if !is_open || age >= REST_AT_START {
                return;
            }
            sleep(REST_AT_START - age).await;
        }
    }

    /// Keeps the keys' budgets in this stack.
    ///
    /// # Errors
    ///
    /// The stack cannot keep a budget.
    pub(crate) fn with_budgets_in(mut self, stack: StackHandle) -> Result<Self, ServeError> {
        stack.set_budgets(file::budgets(&self.current.load().list)).map_err(|error| self.file_error(&error))?;
        self.stack = Some(stack);
        Ok(self)
    }

    /// Checks that the configuration has the features and models that the keys name.
    ///
    /// # Errors
    ///
    /// A name is unknown; the error has all of them, with their places.
    pub(crate) fn check_names(&self, config: &Config) -> Result<(), ServeError> {
        let problems = file::unknown_names(&self.path, &lock(&self.seen).text, config);
        if problems.is_empty() {
            return Ok(());
        }
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Err(ServeError::Invalid(problems.join("\n")))
    }

    /// Logs the names that the configuration does not have.
    pub(crate) fn warn_of_names(&self) {
        if let Some(stack) = &self.stack {
            self.warn_of(&lock(&self.seen).text, stack);
        }
    }

    fn warn_of(&self, text: &Contents, stack: &StackHandle) {
        for problem in file::unknown_names(&self.path, text, &stack.config()) {
            tracing::warn!(%problem, "a key names what the configuration does not have");
        }
    }

    /// Returns the caps of the keys, for the stack.
    pub(crate) fn budgets(&self) -> Vec<Budget> {
        file::budgets(&self.current.load().list)
    }

    fn file_error(&self, error: &ConfigError) -> file::KeyFileError {
        file::KeyFileError::new(&self.path, error)
    }

    /// Reads the file again and logs the outcome. A file that is wrong changes nothing.
    pub(crate) fn reload(&self) {
        self.readings.fetch_add(1, Relaxed);
        self.look(true);
    }

    /// Reads the file again whenever it changes.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<FileWatch, ConfigError> {
        let (keys, readers) = (Arc::downgrade(self), Arc::downgrade(self));
        FileWatch::file_with_readings(
            &*self.path,
            move || readers.upgrade().map_or(0, |keys| keys.readings.load(Relaxed)),
            move || {
                if let Some(keys) = keys.upgrade() {
                    keys.look(false);
                }
            },
        )
    }

    /// Reads the file; an `order` reads the same text again too.
    fn look(&self, order: bool) {
        let mut seen = lock(&self.seen);
        let text = file::contents(&self.path);
        let held = seen.held.filter(|_| seen.text == text);
        let has_rested = held.is_some_and(|since| since.elapsed() >= REST);
        // A change that SIGHUP has read already is not logged twice.
        if seen.text == text && !order && !has_rested {
            if held.is_some() {
                // The watch looks again.
                self.readings.fetch_add(1, Relaxed);
            }
            return;
        }
        (seen.text, seen.held) = (text, None);
        match self.replace(&seen, has_rested) {
            Ok(Replacement { mark, count, changes, held_back }) => {
                let [added, changed, removed] = changes.map(|names| (!names.is_empty()).then(|| names.join(", ")));
                tracing::info!(count, added, changed, removed, "keys reloaded");
                if let Some(key) = held_back {
                    tracing::warn!(
                        event = "key_held_back",
                        key = &*key,
                        seconds = REST.as_secs(),
                        "the file's last entry may still be written: it counts once the file has rested; a last line \
                         `...` marks the end"
                    );
                    seen.held = held.or_else(|| Some(Instant::now()));
                    self.readings.fetch_add(1, Relaxed);
                }
                seen.mark = mark;
                if let Some(stack) = &self.stack {
                    self.warn_of(&seen.text, stack);
                }
            }
            Err(problem) => tracing::warn!(%problem, "keys not reloaded; the previous ones stay"),
        }
    }

    fn replace(&self, seen: &Look, has_rested: bool) -> Result<Replacement, file::KeyFileError> {
        let before = self.current.load_full();
        let Reading { mut keys, mark, is_open } = file::read(&self.path, &seen.text, &before)?;
        let mark = mark.after(seen.mark).map_err(|problem| file::KeyFileError::new(&self.path, problem))?;
        let held_back = if is_open && !has_rested { before.hold_back_last(&mut keys) } else { None };
        // First, so that no key spends without a cap.
        if let Some(stack) = &self.stack {
            stack.set_budgets(file::budgets(&keys)).map_err(|error| self.file_error(&error))?;
        }
        let (count, changes) = (keys.len(), changes(&before.list, &keys));
        self.current.store(Arc::new(KeySet::new(keys)));
        Ok(Replacement { mark, count, changes, held_back })
    }

    /// Returns the caller's key, from `Authorization: Bearer` or a protocol's own header, or `in_query`, where the
    /// caller's protocol has a key there. Claude Code may send the first two.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, in_query: Option<&str>) -> Result<Arc<Key>, Denial> {
        let mut denied = Denial::NoKey;
        for shown in shown(headers).chain(in_query.filter(|shown| !shown.is_empty())) {
            match self.find(shown) {
                Some(key) if key.is_expired(wall_clock::since_1970()) => denied = Denial::Expired(key.name.clone()),
                Some(key) => return Ok(key),
                None if denied == Denial::NoKey => denied = Denial::UnknownKey(KeyHash::of(shown)),
                None => {}
            }
        }
        Err(denied)
    }

    fn find(&self, shown: &str) -> Option<Arc<Key>> {
        self.current.load().find(&Sha256::digest(shown).into()).cloned()
    }
}

/// The result of a reload.
struct Replacement {
    mark: EndMark,
    /// The number of keys.
    count: usize,
    /// The names of the keys that are new, changed and gone.
    changes: [Vec<String>; 3],
    /// The name of the key whose entry does not count yet.
    held_back: Option<Arc<str>>,
}

/// Returns the names of the keys that are new, changed and gone.
fn changes(before: &[Arc<Key>], now: &[Arc<Key>]) -> [Vec<String>; 3] {
    let before: HashMap<&str, &Key> = before.iter().map(|key| (&*key.name, &**key)).collect();
    let names: HashSet<&str> = now.iter().map(|key| &*key.name).collect();
    let [mut added, mut changed] = [Vec::new(), Vec::new()];
    for key in now {
        match before.get(&*key.name) {
            None => added.push(key.name.to_string()),
            Some(before) if !key.is_as(before) => changed.push(key.name.to_string()),
            Some(_) => {}
        }
    }
    let mut removed: Vec<String> =
        before.keys().filter(|name| !names.contains(*name)).map(|&name| name.into()).collect();
    removed.sort_unstable();
    [added, changed, removed]
}

impl Key {
    /// Returns whether it has the same hash, permissions and limits as another.
    fn is_as(&self, other: &Self) -> bool {
        let limits = |key: &Self| {
            let own = key.limits.as_ref().map(|limits| (limits.concurrency, limits.tokens_per_minute));
            (key.rate.as_ref().map(|rate| rate.per_minute), own, key.budget.clone(), key.expires)
        };
        let may = |key: &Self| {
            let rights = (key.admin, key.handoff, key.objects, key.pass_through);
            (key.features.clone(), key.models.clone(), rights)
        };
        self.hash == other.hash && may(self) == may(other) && limits(self) == limits(other)
    }

    /// Returns whether another key allows all that this one does.
    fn is_within(&self, other: &Self) -> bool {
        // No rest: a new field is a right or a limit, and belongs here.
        let Self {
            name: _,
            hash: _,
            features,
            models,
            rate,
            limits,
            budget,
            expires,
            admin,
            handoff,
            objects,
            pass_through,
            memory: _,
        } = self;
        let names = |own: &Option<Arc<[Box<str>]>>, others: &Option<Arc<[Box<str>]>>| match (own, others) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => own.iter().all(|name| others.iter().any(|other| covers(other, name))),
        };
        let own = limits.as_ref().map(|limits| (limits.concurrency, limits.tokens_per_minute)).unwrap_or_default();
        let others = other.limits.as_ref();
        let others = others.map(|limits| (limits.concurrency, limits.tokens_per_minute)).unwrap_or_default();
        let per_minute = |rate: &Option<Arc<Rate>>| rate.as_ref().map(|rate| rate.per_minute);
        names(features, &other.features)
            && names(models, &other.models)
            && is_at_most(per_minute(rate), per_minute(&other.rate), |own, other| own <= other)
            && is_at_most(own.0, others.0, |own, other| own <= other)
            && is_at_most(own.1, others.1, |own, other| own <= other)
            && is_at_most(budget.as_ref(), other.budget.as_ref(), file::Budget::is_within)
            && is_at_most(*expires, other.expires, |own, other| own.at <= other.at)
            && *admin <= other.admin
            && *handoff <= other.handoff
            && *objects <= other.objects
            && *pass_through <= other.pass_through
    }

    /// Returns whether its limits need the content of a request.
    pub(crate) fn reads_requests(&self) -> bool {
        self.limits.is_some() || self.budget.is_some()
    }

    /// Returns the feature of a request, if the key may use it.
    pub(crate) fn feature(&self, named: Option<Box<str>>) -> Result<Option<Box<str>>, Denial> {
        match (&self.features, named) {
            (None, named) => Ok(named),
            (Some(allowed), None) => Ok(allowed.first().cloned()),
            (Some(allowed), Some(named)) if allowed.contains(&named) => Ok(Some(named)),
            (Some(allowed), Some(_)) => Err(Denial::Feature(allowed.clone())),
        }
    }

    /// Returns the names and patterns of the models that the key is for; `None` for any.
    pub(crate) fn models(&self) -> Option<&[Box<str>]> {
        self.models.as_deref()
    }

    /// Returns true if there are models that the key is not for.
    pub(crate) fn is_for_some_models(&self) -> bool {
        self.models.is_some()
    }

    /// Checks that the key is for this model.
    pub(crate) fn model(&self, named: Option<&str>) -> Result<(), Denial> {
        let Some(allowed) = &self.models else { return Ok(()) };
        let fits = |pattern: &str| named.is_some_and(|named| covers(pattern, named));
        if allowed.iter().any(|pattern| fits(pattern)) { Ok(()) } else { Err(Denial::Model(allowed.clone())) }
    }

    /// Checks that the key is for objects.
    pub(crate) fn objects(&self) -> Result<(), Denial> {
        if self.objects == ObjectRight::None { Err(Denial::Objects) } else { Ok(()) }
    }

    /// Returns true if it may name its own objects only.
    pub(crate) fn owns_objects(&self) -> bool {
        !self.admin && self.objects != ObjectRight::All
    }

    /// Checks that the key is for a path that the gateway does not know, and that no list has.
    pub(crate) fn passes(&self, path: &str) -> Result<(), Denial> {
        if self.admin || self.pass_through { Ok(()) } else { Err(Denial::NotPassed(path.into())) }
    }

    /// Takes a permit for work that calls no model, within the key's concurrency.
    pub(crate) fn permit(&self) -> Result<Option<limits::ConcurrencyPermit>, Denial> {
        self.limits.as_ref().map_or(Ok(None), KeyLimits::permit)
    }

    /// Counts a request against the key's rate.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denial> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now).map_err(|wait| Denial::Rate(wait, rate.per_minute)))
    }

    /// Returns whether the key may see and answer tasks.
    pub(crate) fn is_reviewer(&self) -> bool {
        self.admin || self.handoff
    }

    fn is_expired(&self, since_1970: Duration) -> bool {
        self.expires.is_some_and(|expiry| expiry.is_over(since_1970))
    }
}

/// Returns whether a name or a pattern matches all that another does.
fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

/// Returns whether a limit, of which there may be none, is at most another.
fn is_at_most<T>(own: Option<T>, other: Option<T>, at_most: impl FnOnce(T, T) -> bool) -> bool {
    match (own, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(other)) => at_most(own, other),
    }
}

/// Calls the service within a key's limits, and under its name for caps by key. An answer without content that no tier
/// bettered is the caller's all the same: the provider sent it under a good status.
pub(crate) async fn call(
    key: Option<Arc<Key>>,
    service: &Mutex<BoxLlmService>,
    mut request: LlmRequest,
) -> Result<LlmResponse, LlmError> {
    if let Some(key) = &key {
        request = request.with_extension(BudgetKey(key.name.clone()));
        if let Some(limits) = &key.limits {
            request = request.with_extension(limits.own.clone());
        }
    }
    let mut request = Some(request);
    let calling = poll_fn(|cx| {
        let mut service = lock(service);
        ready!(service.poll_ready(cx))?;
        let request = request.take().expect("polled after it was ready");
        Poll::Ready(Ok::<_, LlmError>(service.call(request)))
    });
    let answered = calling.await?.await.or_else(LlmResponse::from_failed_answer);
    answered.map_err(|error| match key.and_then(|key| key.limits.as_ref()?.denial(&error)) {
        Some(denied) => error.with_source(denied),
        None => error,
    })
}

/// Iterates over the keys that a caller shows, whoever's they are.
pub(crate) fn shown(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let own = OWN_HEADERS.into_iter().flat_map(|name| headers.get_all(name));
    bearer.chain(own.filter_map(|value| Some(value.to_str().ok()?.trim()))).filter(|shown| !shown.is_empty())
}

/// The headers that hold a key alone: Anthropic's, Google's and Azure's.
const OWN_HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Returns the name of a key's cap in the stack.
fn cap_name(key: &str) -> String {
    format!("{CAP_PREFIX}{key}")
}

const CAP_PREFIX: &str = "key ";

/// Returns whether a cap is a key's own.
pub(crate) fn is_of_a_key(cap: &str) -> bool {
    cap.starts_with(CAP_PREFIX)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).field("keys", &self.current.load().list.len()).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
