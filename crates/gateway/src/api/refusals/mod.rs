//! Refusals: requests that a limit or a missing permission ends, and no failure of a provider.
//!
//! [`Refusal::of`] and [`Refusal::of_denial`] alone say what a refusal is. A counter, a line of the log and the
//! request's record tell it. The reason and the scope are the counter's labels, so that their number is fixed; the log
//! and the record name the key and its limit. Of each reason and key the log has one line in ten seconds. So it has ten
//! of each kind of failure and key: a caller makes as many as it likes.

mod reason;
#[cfg(test)]
mod tests;

use std::{
    array,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use steadfast::ErrorKind;
use steadfast_subscribers::LineLimit;
use tokio::time::Instant;

pub(crate) use self::reason::{OwnTime, Refusal, RefusalReason, RefusalScope};
use super::keys::KeyHash;
use crate::lock::lock;

/// The counter's name.
pub(crate) const REFUSALS_METRIC: &str = "steadfast_refusals_total";
/// The value of `event` in the log's lines.
pub(crate) const REFUSED_EVENT: &str = "request_refused";

/// The counter and the log of refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    counts: [AtomicU64; SERIES.len()],
    lines: Mutex<Lines>,
    /// The refusals of each key for its share of what others want too.
    shares: Mutex<BTreeMap<(Arc<str>, RefusalReason), u64>>,
}

/// The most series of keys' shares; those beyond are counted in the total alone.
const MOST_SHARES: usize = 1024;

/// The counter's series, all of which exist from the start.
const SERIES: [(RefusalReason, RefusalScope); 49] = {
    use RefusalReason::*;
    use RefusalScope as Of;
    [
        (KeyMissing, Of::Key),
        (KeyUnknown, Of::Key),
        (KeyExpired, Of::Key),
        (KeyPaused, Of::Key),
        (Token, Of::Key),
        (KeysAway, Of::Gateway),
        (Origin, Of::Gateway),
        (Permission, Of::Key),
        (Feature, Of::Key),
        (Model, Of::Key),
        (RequestsPerMinute, Of::Key),
        (RequestsPerMinute, Of::Team),
        (RequestsPerMinute, Of::Feature),
        (RequestsPerMinute, Of::Tier),
        (TokensPerMinute, Of::Key),
        (TokensPerMinute, Of::Team),
        (TokensPerMinute, Of::Feature),
        (TokensPerMinute, Of::Tier),
        (Concurrency, Of::Key),
        (Concurrency, Of::Team),
        (Concurrency, Of::Feature),
        (Concurrency, Of::Tier),
        (Budget, Of::Key),
        (Budget, Of::Feature),
        (Budget, Of::Team),
        (Budget, Of::Gateway),
        (Budget, Of::Tier),
        (RequestsShare, Of::Team),
        (RequestsShare, Of::Feature),
        (RequestsShare, Of::Tier),
        (TokensShare, Of::Team),
        (TokensShare, Of::Feature),
        (TokensShare, Of::Tier),
        (ConcurrencyShare, Of::Team),
        (ConcurrencyShare, Of::Feature),
        (ConcurrencyShare, Of::Tier),
        (BudgetShare, Of::Feature),
        (BudgetShare, Of::Team),
        (BudgetShare, Of::Gateway),
        (BudgetShare, Of::Tier),
        (BudgetReserved, Of::Key),
        (BudgetReserved, Of::Feature),
        (BudgetReserved, Of::Team),
        (BudgetReserved, Of::Gateway),
        (BudgetReserved, Of::Tier),
        (Deadline, Of::Caller),
        (Memory, Of::Gateway),
        (BodySize, Of::Gateway),
        (Connections, Of::Gateway),
    ]
};

impl Default for Refusals {
    fn default() -> Self {
        let counts = array::from_fn(|_| AtomicU64::new(0));
        Self { counts, lines: Mutex::default(), shares: Mutex::default() }
    }
}

impl Refusals {
    /// Counts a refusal, and logs it unless a line of the same reason and key is younger than [`SPAN`].
    pub(crate) fn report(&self, refusal: &Refusal, key: Option<Arc<str>>, request: &str, status: StatusCode) {
        let Refusal { reason, scope, .. } = *refusal;
        if let Some(place) = SERIES.iter().position(|series| *series == (reason, scope)) {
            self.counts[place].fetch_add(1, Relaxed);
        }
        if let Some(key) = key.as_ref().filter(|_| reason.is_of_share()) {
            let mut shares = lock(&self.shares);
            let series = (key.clone(), reason);
            if shares.len() < MOST_SHARES || shares.contains_key(&series) {
                *shares.entry(series).or_default() += 1;
            }
        }
        let who = match (key, refusal.shown) {
            (Some(name), _) => Who::Key(name),
            (None, Some(hash)) => Who::Unknown(hash),
            (None, None) => Who::Nobody,
        };
        let Some(unsaid) = lock(&self.lines).next((Why::Refusal(reason, scope), who.clone()), Instant::now()) else {
            return;
        };
        tracing::warn!(
            event = REFUSED_EVENT,
            reason = reason.name(),
            scope = scope.name(),
            key = who.name(),
            key_hash = refusal.shown.map(tracing::field::display),
            limit = refusal.limit.as_deref(),
            request,
            http_status = status.as_u16(),
            unsaid = (unsaid > 0).then_some(unsaid),
            "request refused"
        );
    }

    /// Returns the number of a key's failures of this kind without a line since the last, if this one may have a line.
    pub(crate) fn next_failure_line(&self, kind: ErrorKind, key: Option<Arc<str>>) -> Option<u64> {
        self.next_line(Why::Failure(kind), key)
    }

    /// The same for a reviewer's orders that were refused.
    pub(crate) fn next_order_line(&self, key: Arc<str>) -> Option<u64> {
        self.next_line(Why::Order, Some(key))
    }

    fn next_line(&self, why: Why, key: Option<Arc<str>>) -> Option<u64> {
        let who = key.map_or(Who::Nobody, Who::Key);
        lock(&self.lines).next((why, who), Instant::now())
    }

    /// Returns the counter in Prometheus' format. The listener counts the `connections` that it refused.
    pub(crate) fn metrics(&self, connections: u64) -> String {
        let name = REFUSALS_METRIC;
        let mut text = format!(
            "# HELP {name} Requests refused on this side, by the reason and by whose limit it is.\n# TYPE {name} counter\n"
        );
        for ((reason, scope), count) in SERIES.iter().zip(&self.counts) {
            let count = if *reason == RefusalReason::Connections { connections } else { count.load(Relaxed) };
            let (reason, scope) = (reason.name(), scope.name());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}{{reason=\"{reason}\",scope=\"{scope}\"}} {count}");
        }
        let name = "steadfast_share_refusals_total";
        let _ = writeln!(
            text,
            "# HELP {name} Refusals of a key that holds its share, while others want the rest.\n# TYPE {name} counter"
        );
        for ((key, reason), count) in &*lock(&self.shares) {
            let key = key.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(text, "{name}{{key=\"{key}\",reason=\"{}\"}} {count}", reason.name());
        }
        text
    }
}

/// The refused caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// The key of this name.
    Key(Arc<str>),
    Unknown(KeyHash),
    /// A caller without a key.
    Nobody,
}

impl Who {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Key(name) => Some(name),
            Self::Unknown(_) | Self::Nobody => None,
        }
    }
}

/// The reason for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    Refusal(RefusalReason, RefusalScope),
    Failure(ErrorKind),
    /// A reviewer's order was refused.
    Order,
}

impl Why {
    /// Returns the number of lines in a [`SPAN`].
    fn lines(self) -> u32 {
        match self {
            Self::Refusal(..) => 1,
            Self::Failure(_) | Self::Order => FAILURE_LINES,
        }
    }
}

type Subject = (Why, Who);

/// The limits of the log's lines, one for each reason and key, with the time of its last use.
#[derive(Debug)]
struct Lines {
    limits: HashMap<Subject, (LineLimit, Instant)>,
    /// The limit of all unknown keys together: a caller may invent as many as it likes.
    unknown: LineLimit,
    /// The limit of what has no room.
    rest: LineLimit,
    swept: Option<Instant>,
}

/// The time in which a reason and a key have one line.
const SPAN: Duration = Duration::from_secs(10);
/// The lines of a key's failures of one kind in a [`SPAN`], as unknown paths have them.
const FAILURE_LINES: u32 = 10;
/// The lines that all unknown keys have in a [`SPAN`].
const UNKNOWN_LINES: u32 = 10;
/// The most limits that are kept.
const MOST_LIMITS: usize = 1024;

impl Default for Lines {
    fn default() -> Self {
        let (unknown, rest) = (LineLimit::new(UNKNOWN_LINES, SPAN), LineLimit::new(UNKNOWN_LINES, SPAN));
        Self { limits: HashMap::new(), unknown, rest, swept: None }
    }
}

impl Lines {
    /// Returns the number of refusals without a line since the last one, if this one may have a line.
    fn next(&mut self, subject: Subject, now: Instant) -> Option<u64> {
        if !self.limits.contains_key(&subject) && self.limits.len() >= MOST_LIMITS {
            self.sweep(now);
            if self.limits.len() >= MOST_LIMITS {
                return self.rest.next(now);
            }
        }
        let (is_unknown, lines) = (matches!(subject.1, Who::Unknown(_)), subject.0.lines());
        let (limit, last) = self.limits.entry(subject).or_insert_with(|| (LineLimit::new(lines, SPAN), now));
        *last = now;
        let unsaid = limit.next(now)?;
        let more = if is_unknown { self.unknown.next(now)? } else { 0 };
        Some(unsaid + more)
    }

    /// Forgets the limits that nobody has met for a [`SPAN`]. It does so once in one: a flood must not pay each time.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SPAN) {
            self.swept = Some(now);
            self.limits.retain(|_, (_, last)| now.saturating_duration_since(*last) < SPAN);
        }
    }
}
