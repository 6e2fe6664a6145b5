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
//!     team: search                       # who pays, in the log, the ledger and its bills
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
//! file, with the same events, metrics and alerts. All of them survive a reload that leaves them unchanged. A restart
//! resets them, but for a budget where the configuration has a `ledger`.
//!
//! A key for a feature or model that the configuration does not have is an error of `steadfast check`. A server logs
//! it, at its start and at each reload, and serves the others: one caller's wrong name keeps nobody else out, and no
//! other key from being revoked.

mod budget;
mod denial;
mod expiry;
mod file;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod key;
mod limits;
mod rate;
mod report;
mod set;
#[cfg(test)]
mod tests;
mod virtual_key;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::poll_fn,
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
use steadfast::{BoxLlmService, LlmError, LlmRequest, LlmResponse, layers::budget::BudgetKey, request::Team};
use steadfast_stack::{Budget, Config, ConfigError, EndMark, FileWatch, StackHandle};
use tokio::time::{Instant, sleep};
use tower::Service;

pub use self::virtual_key::VirtualKey;
pub(crate) use self::{
    budget::is_of_a_key,
    denial::{Denial, KeyHash},
    key::Key,
};
use self::{
    file::{Contents, Reading},
    set::KeySet,
};
use crate::{error::ServeError, lock::lock, wall_clock};

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
        stack.set_budgets(caps(&self.current.load().list)).map_err(|error| self.file_error(&error))?;
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
        caps(&self.current.load().list)
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
            stack.set_budgets(caps(&keys)).map_err(|error| self.file_error(&error))?;
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

/// Returns the caps of these keys, for the stack.
fn caps(keys: &[Arc<Key>]) -> Vec<Budget> {
    keys.iter().filter_map(|key| key.budget.as_ref().map(|budget| budget.cap(&key.name))).collect()
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

/// Calls the service within a key's limits, and under its name for caps by key. An answer without content that no tier
/// bettered is the caller's all the same: the provider sent it under a good status.
pub(crate) async fn call(
    key: Option<Arc<Key>>,
    service: &Mutex<BoxLlmService>,
    mut request: LlmRequest,
) -> Result<LlmResponse, LlmError> {
    if let Some(key) = &key {
        request = request.with_extension(BudgetKey(key.name.clone()));
        if let Some(team) = &key.team {
            request = request.with_extension(Team(team.clone()));
        }
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

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).field("keys", &self.current.load().list.len()).finish()
    }
}
