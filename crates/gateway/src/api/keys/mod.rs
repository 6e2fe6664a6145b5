//! Virtual keys: the callers and their permissions, in a file or in the durable store ([`stored`]).
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
//! A **stored key** has the same entry, as JSON, with `hashes` in place of `hash`: several secrets, each with its end.
//! [`orders`] change it. The keys of both sources are put together after each change ([`Keys::publish`]).
//!
//! A key that has spent its budget gets the response of a provider whose account is empty: status 429 with the time
//! until the next period, the type `insufficient_quota` in OpenAI's dialect and `rate_limit_error` in Anthropic's
//! (their 402 `billing_error` is about the account's payment), and `x-should-retry: false`, since official clients
//! repeat a 429 otherwise.
//!
//! The gateway counts requests per minute before it reads a request's body, on every path of a key but the lookups of
//! one record and of the key itself. A [`Bulkhead`](steadfast::Bulkhead) of the key's own counts concurrency and
//! tokens; its requests carry it, so that a call which outlives its caller keeps its permit. A budget is a cap of the
//! stack beside those of its file, with the same events, metrics and alerts. All of them survive a reload that leaves
//! them unchanged. A restart resets them, but for a budget where the configuration has a `ledger`, and for rates where
//! it has a shared store: there all replicas count the limits of a key together.
//!
//! A key for a feature or model that the configuration does not have is an error of `steadfast check`. A server logs
//! it, at its start and at each reload, and serves the others: one caller's wrong name keeps nobody else out, and no
//! other key from being revoked.

mod allowance;
mod budget;
mod denial;
mod entry;
mod expiry;
mod file;
mod file_keys;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod key;
mod limits;
mod orders;
mod report;
mod set;
mod stored;
mod teams;
#[cfg(test)]
mod tests;
mod tokens;
mod virtual_key;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::poll_fn,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    task::{Poll, ready},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};
use steadfast::{BoxLlmService, LlmError, LlmRequest, LlmResponse, layers::budget::BudgetKey, request::Team};
use steadfast_internal::wall_clock;
use steadfast_stack::{Budget, Config, ConfigError, FileWatch, StackHandle};
use tower::Service;

pub(crate) use self::{
    allowance::Allowance,
    budget::is_of_a_key,
    denial::{Denial, KeyHash},
    key::Key,
    orders::{Document, KeyOrderError, MadeKey, history},
};
use self::{
    entry::KeyRecord, file::KeyFileError, file_keys::FileKeys, key::CallUse, set::KeySet, stored::StoredKeys,
    tokens::Tokens,
};
pub use self::{file::key_documents, orders::make_key, virtual_key::VirtualKey};
use crate::{error::ServeError, lock::lock};

/// The callers' keys, of a file, of the durable store, or of both.
pub(crate) struct Keys {
    file: Option<FileKeys>,
    stored: Option<StoredKeys>,
    tokens: Option<Tokens>,
    /// The keys of each source; locked while they are put together.
    sources: Mutex<Sources>,
    current: ArcSwap<KeySet>,
    /// The stack that keeps their budgets.
    stack: Option<StackHandle>,
}

/// The keys of each source.
#[derive(Debug, Default)]
struct Sources {
    file: Vec<Arc<KeyRecord>>,
    stored: Vec<Arc<KeyRecord>>,
    /// The stored keys that do not count, with the reasons.
    passed_over: PassedOver,
}

/// The names of keys that do not count, with the reasons.
type PassedOver = BTreeMap<Box<str>, String>;

impl Keys {
    /// Loads the keys of a file.
    ///
    /// # Errors
    ///
    /// The file is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self, ServeError> {
        Ok(Self::of_file(FileKeys::load(path, true)?))
    }

    /// Loads the keys of a file beside a store or callers by token. The file may have none.
    ///
    /// # Errors
    ///
    /// The file is wrong.
    pub(crate) fn load_beside_others(path: &Path) -> Result<Self, ServeError> {
        Ok(Self::of_file(FileKeys::load(path, false)?))
    }

    fn of_file(file: FileKeys) -> Self {
        let sources = Sources { file: file.records(), ..Sources::default() };
        let current = ArcSwap::from_pointee(KeySet::new(sources.file.clone(), &KeySet::default()));
        Self { file: Some(file), stored: None, tokens: None, sources: Mutex::new(sources), current, stack: None }
    }

    /// Creates an empty set of keys, to which a store is added.
    pub(crate) fn none() -> Self {
        let current = ArcSwap::from_pointee(KeySet::default());
        Self { file: None, stored: None, tokens: None, sources: Mutex::default(), current, stack: None }
    }

    /// Waits until a file has rested that was changed a moment ago, and whose last entry may be the beginning of a
    /// longer one.
    pub(crate) async fn settle(path: &Path) {
        FileKeys::settle(path).await;
    }

    /// Keeps the keys' budgets in this stack.
    ///
    /// # Errors
    ///
    /// The stack cannot keep a budget.
    pub(crate) fn with_budgets_in(mut self, stack: StackHandle) -> Result<Self, ServeError> {
        stack.set_budgets(self.budgets()).map_err(|error| match &self.file {
            Some(file) => ServeError::from(KeyFileError::new(&file.path, error)),
            None => ServeError::invalid(format_args!("{error}")),
        })?;
        let teams = &self.current.load().teams;
        teams.set(&stack.config().gateway);
        stack.share_limits(teams.shared.clone());
        self.stack = Some(stack);
        Ok(self)
    }

    /// Checks that the configuration has the features and models that the keys name.
    ///
    /// # Errors
    ///
    /// A name is unknown; the error has all of them, with their places.
    pub(crate) fn check_names(&self, config: &Config) -> Result<(), ServeError> {
        let problems: Vec<String> = self.unknown_names(config).iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(()) } else { Err(ServeError::Invalid(problems.join("\n"))) }
    }

    fn unknown_names(&self, config: &Config) -> Vec<KeyFileError> {
        self.file.as_ref().map(|file| file.unknown_names(config)).unwrap_or_default()
    }

    /// Follows a reload of the configuration: teams may have other limits, a stored key may count again, and names may
    /// be gone.
    pub(crate) fn follow_configuration(&self) {
        if let Some(stack) = &self.stack {
            self.current.load().teams.set(&stack.config().gateway);
        }
        if !lock(&self.sources).passed_over.is_empty() {
            match self.publish(|_| {}) {
                Ok(lists) => drop(self.log_changes(lists)),
                Err(problem) => tracing::warn!(%problem, "keys not reloaded; the previous ones stay"),
            }
        }
        self.warn_of_names();
    }

    /// Logs the names that the configuration does not have.
    pub(crate) fn warn_of_names(&self) {
        self.warn_of_file_names();
        let names = lock(&self.sources).stored.iter().map(|record| record.entry.name.to_string()).collect::<Vec<_>>();
        self.warn_of_stored_names(&names);
    }

    fn warn_of_file_names(&self) {
        let Some(stack) = &self.stack else { return };
        for problem in self.unknown_names(&stack.config()) {
            warn_of_name(None, &problem);
        }
    }

    /// Does so for stored keys of these names.
    fn warn_of_stored_names(&self, names: &[String]) {
        let Some(stack) = &self.stack else { return };
        let (config, current) = (stack.config(), self.current.load());
        for key in names.iter().filter_map(|name| current.named(name)) {
            for problem in key.record.unknown_names(&config) {
                warn_of_name(Some(&key.name), &problem);
            }
        }
    }

    /// Returns the caps of the keys, and of the limits for callers by token, for the stack.
    pub(crate) fn budgets(&self) -> Vec<Budget> {
        self.caps(self.current.load().records())
    }

    /// Returns the caps if these are the keys.
    fn caps<'a>(&self, records: impl IntoIterator<Item = &'a Arc<KeyRecord>>) -> Vec<Budget> {
        let of_tokens = self.tokens.iter().flat_map(Tokens::caps);
        caps(records).into_iter().chain(of_tokens).collect()
    }

    /// Reads the file again and logs the outcome. A file that is wrong changes nothing. Stored keys are read whole at
    /// their next turn.
    pub(crate) fn reload(&self) {
        if let Some(stored) = &self.stored {
            stored.read_again();
        }
        if let Some(file) = &self.file {
            file.readings.fetch_add(1, Relaxed);
        }
        self.look(true);
    }

    /// Reads the file again whenever it changes; `None` if there is no file.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    pub(crate) fn watch(self: &Arc<Self>) -> Option<Result<FileWatch, ConfigError>> {
        let path = self.file.as_ref()?.path.clone();
        let (keys, readers) = (Arc::downgrade(self), Arc::downgrade(self));
        let readings = move || readers.upgrade().map_or(0, |keys| keys.readings());
        let look = move || {
            if let Some(keys) = keys.upgrade() {
                keys.look(false);
            }
        };
        Some(FileWatch::file_with_readings(&*path, readings, look))
    }

    /// Returns the number of looks at the file that its watch should know of.
    fn readings(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.readings.load(Relaxed))
    }

    /// Looks at the file; an `order` reads the same text again too.
    fn look(&self, order: bool) {
        let Some(file) = &self.file else { return };
        let take_over = |records| {
            let lists = self.publish(|sources| sources.file = records)?;
            self.log_changes(lists);
            Ok::<_, ConfigError>(())
        };
        if file.look(order, take_over) {
            self.warn_of_file_names();
        }
    }

    /// Puts the keys of all sources together after a change. The file's come first: a stored key with a name or a hash
    /// of theirs does not count, and is named in the log. Returns the names of keys that are new, changed and gone.
    ///
    /// # Errors
    ///
    /// The stack cannot keep a budget. Nothing changes then.
    fn publish(&self, change: impl FnOnce(&mut Sources)) -> Result<[Vec<String>; 3], ConfigError> {
        let mut sources = lock(&self.sources);
        let (file, stored) = (sources.file.clone(), sources.stored.clone());
        change(&mut sources);
        let before = self.current.load_full();
        let (mut records, mut passed_over) = sources.merged();
        // First, so that no key spends without a cap.
        if let Some(stack) = &self.stack
            && let Err(problem) = stack.set_budgets(self.caps(&records))
        {
            // A file is taken over whole or not at all; of stored keys each counts by itself.
            let of_file = sources.file.len();
            let unkept = without_room(stack, &records[of_file..]);
            records.retain(|record| !unkept.contains_key(&record.entry.name));
            if unkept.is_empty() || stack.set_budgets(self.caps(&records)).is_err() {
                (sources.file, sources.stored) = (file, stored);
                return Err(problem);
            }
            passed_over.extend(unkept);
        }
        for (key, problem) in passed_over.iter().filter(|(key, problem)| sources.passed_over.get(*key) != Some(problem))
        {
            stored::warn_of_key(key, problem);
        }
        sources.passed_over = passed_over;
        let now = KeySet::new(records, &before);
        let lists = changes(&before, &now);
        if let Some(tokens) = &self.tokens {
            tokens.forget(&now);
        }
        self.current.store(Arc::new(now));
        Ok(lists)
    }

    /// Logs the names of keys that are new, changed and gone. Returns the first two.
    fn log_changes(&self, lists: [Vec<String>; 3]) -> Vec<String> {
        let [added, changed, removed] = lists.each_ref().map(|names| (!names.is_empty()).then(|| in_words(names)));
        tracing::info!(count = self.current.load().list.len(), added, changed, removed, "keys reloaded");
        let [added, changed, _] = lists;
        [added, changed].concat()
    }

    /// Returns the caller's key, from `Authorization: Bearer` or a protocol's own header, or `in_query`, where the
    /// caller's protocol has a key there. Claude Code may send the first two.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, in_query: Option<&str>) -> Result<Arc<Key>, Denial> {
        // Before the keys: who is unknown among those that were read is unknown for good.
        let is_unread = self.is_unread();
        let (current, now) = (self.current.load(), wall_clock::since_1970());
        let mut denied = Denial::NoKey;
        for shown in shown(headers).chain(in_query.filter(|shown| !shown.is_empty())) {
            let digest = Sha256::digest(shown).into();
            let found = match current.find(&digest, now) {
                Ok(None) => self.of_token(shown, &digest, &current, now),
                found => found.map(|key| key.cloned()),
            };
            match found {
                Ok(Some(key)) => return Ok(key),
                Ok(None) if denied == Denial::NoKey && is_unread => denied = Denial::KeysAway,
                Ok(None) if denied == Denial::NoKey => denied = Denial::UnknownKey(KeyHash::of(shown)),
                Ok(None) => {}
                Err(problem) => denied = problem,
            }
        }
        Err(denied)
    }

    /// Returns the allowance of a key for calls of this feature.
    pub(crate) fn allowance(&self, key: &Key, feature: Option<&str>) -> Allowance {
        let caps = self.stack.as_ref().map(|stack| stack.spend_of_call(&key.name, key.team.as_deref(), feature));
        let [requests, tokens] = key.levels();
        Allowance { requests, tokens, caps: caps.unwrap_or_default() }
    }

    /// Returns true if nobody has a key.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.load().list.is_empty()
    }

    /// Returns true until the stored keys are known.
    pub(crate) fn is_unread(&self) -> bool {
        self.stored.as_ref().is_some_and(StoredKeys::is_unread)
    }

    /// Returns what is missing before callers can be known.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        if self.is_unread() {
            return Some("the store of the callers' keys cannot be read, nor a copy of it");
        }
        self.tokens.as_ref()?.missing().filter(|_| self.is_empty())
    }

    /// Returns what is in the way of some callers: a store that fails, an identity provider that could not be read.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let store = self.stored.as_ref().and_then(StoredKeys::trouble).map(|trouble| trouble.to_string());
        let issuer = self.tokens.as_ref().and_then(Tokens::missing).map(str::to_owned);
        store.into_iter().chain(issuer).collect()
    }
}

impl Sources {
    /// Iterates over the stored keys that do not count, with the reasons.
    fn passed_over(&self) -> impl Iterator<Item = (Arc<KeyRecord>, &str)> {
        let reason = |record: &Arc<KeyRecord>| Some((record.clone(), &**self.passed_over.get(&record.entry.name)?));
        self.stored.iter().filter_map(reason)
    }

    /// Returns the keys that count, and the stored ones that do not.
    fn merged(&self) -> (Vec<Arc<KeyRecord>>, PassedOver) {
        let mut names: HashSet<&str> = self.file.iter().map(|record| &*record.entry.name).collect();
        let hashes = self.file.iter().flat_map(|record| &record.hashes);
        let mut digests: HashSet<[u8; 32]> = hashes.map(|hash| hash.digest).collect();
        let (mut records, mut passed_over) = (self.file.clone(), PassedOver::new());
        for record in &self.stored {
            let has_own = record.hashes.iter().all(|hash| !digests.contains(&hash.digest));
            if has_own && names.insert(&record.entry.name) {
                digests.extend(record.hashes.iter().map(|hash| hash.digest));
                records.push(record.clone());
            } else {
                let problem = "another key has its name or its hash";
                passed_over.insert(record.entry.name.clone(), problem.to_owned());
            }
        }
        (records, passed_over)
    }
}

/// Logs a name that the configuration does not have. A file's problem names its key and its place.
fn warn_of_name(key: Option<&str>, problem: &dyn fmt::Display) {
    tracing::warn!(key, %problem, "a key names what the configuration does not have");
}

/// Returns names for a line of the log, which is not to be as long as a database.
fn in_words(names: &[String]) -> String {
    match names.get(..20).filter(|_| names.len() > 20) {
        None => names.join(", "),
        Some(first) => format!("{} and {} more", first.join(", "), names.len() - first.len()),
    }
}

/// Returns the keys whose budgets the stack cannot keep.
fn without_room(stack: &StackHandle, records: &[Arc<KeyRecord>]) -> PassedOver {
    match (stack.check_budgets(&caps(records)), records) {
        (Ok(()), _) | (_, []) => PassedOver::new(),
        (Err(problem), [one]) => [(one.entry.name.clone(), problem.to_string())].into(),
        // Each half again: few of many have one.
        (Err(_), many) => {
            let (some, others) = many.split_at(many.len() / 2);
            let mut unkept = without_room(stack, some);
            unkept.extend(without_room(stack, others));
            unkept
        }
    }
}

/// Returns the caps of these keys, for the stack.
fn caps<'a>(records: impl IntoIterator<Item = &'a Arc<KeyRecord>>) -> Vec<Budget> {
    records.into_iter().filter_map(|record| record.cap()).collect()
}

/// Returns the names of the keys that are new, changed and gone.
fn changes(before: &KeySet, now: &KeySet) -> [Vec<String>; 3] {
    let [mut added, mut changed] = [Vec::new(), Vec::new()];
    for key in &now.list {
        match before.named(&key.name) {
            None => added.push(key.name.to_string()),
            Some(before) if Arc::ptr_eq(before, key) || before.record == key.record => {}
            Some(_) => changed.push(key.name.to_string()),
        }
    }
    let gone = before.list.iter().filter(|key| now.named(&key.name).is_none());
    let mut removed: Vec<String> = gone.map(|key| key.name.to_string()).collect();
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
    let call_use = key.as_ref().map(|key| key.enter());
    if let Some(key) = &key {
        request = request.with_extension(BudgetKey(key.name.clone()));
        if let Some(team) = &key.team {
            request = request.with_extension(Team(team.clone()));
        }
        if let Some(limits) = call_use.as_ref().and_then(CallUse::limits) {
            request = request.with_extension(limits);
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
    answered.map_err(|error| match key.and_then(|key| call_use?.denial(&key, &error)) {
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
    let own = OWN_HEADERS.iter().flat_map(|name| headers.get_all(name));
    bearer.chain(own.filter_map(|value| Some(value.to_str().ok()?.trim()))).filter(|shown| !shown.is_empty())
}

/// The headers that hold a key alone: Anthropic's, Google's and Azure's.
static OWN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
];

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.as_ref().map(|file| &file.path);
        f.debug_struct("Keys")
            .field("path", &path)
            .field("keys", &self.current.load().list.len())
            .finish_non_exhaustive()
    }
}
