//! The chains on the board: which tier serves each, and how its requests have fared.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{ServingState, recent::Recent};
use crate::chains::{Chains, Change, chain_of, first_asked};
use steadfast::events::RequestEnded;

/// A chain of tiers, with the requests that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSetup {
    /// The id, as events have it.
    pub id: Arc<str>,
    /// The first tier.
    pub first: Arc<str>,
    /// The requests: `default`, `model NAME`, `feature NAME`, `route NAME`.
    pub names: Vec<String>,
}

/// The requests that take one list of tiers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChainStatus {
    /// The id, by which events, the log, metrics and alerts name it: the first tier, with the requests behind it if
    /// another chain before it begins there, such as `sonnet (feature code)`.
    pub id: String,
    /// The tier that they ask first.
    pub first: String,
    /// The requests, as the file names them: `default`, `model gpt-*`, `feature code`, `route simple`. Empty where
    /// requests begin there otherwise: by the tier's name, in a session, or since no tier before it can carry them. At
    /// most 32, with a sign after them.
    pub names: Vec<String>,
    /// The state of service for these requests.
    pub state: ServingState,
    /// The tier that serves now; while nothing does, the one that did so last.
    pub active_tier: String,
    /// The id of its model.
    pub active_model: String,
    /// The time of the last change of the state.
    pub since: String,
    /// The same in seconds before now.
    pub since_seconds: f64,
    /// The seconds since the last request ended; `None` before the first.
    pub asked_seconds_ago: Option<f64>,
    /// The requests within the last minute that were answered or failed.
    pub ended: u64,
    /// The number of those that failed.
    pub failed: u64,
    /// The seconds for which other tiers than the first have served, the current time included.
    pub fallback_seconds: f64,
}

/// The records of all chains.
#[derive(Debug)]
pub(super) struct ChainRecords {
    serving: Chains,
    records: Vec<ChainRecord>,
    /// The chains that the file names.
    configured: usize,
}

#[derive(Debug)]
pub(super) struct ChainRecord {
    pub(super) id: Arc<str>,
    pub(super) first: Arc<str>,
    names: Vec<String>,
    /// The time from which the present tier serves.
    since: Instant,
    /// The end of the last request.
    asked: Option<Instant>,
    requests: Recent,
    last_answer: Option<Instant>,
    /// Requests since the last answer that only their callers' own limits ended.
    impatient: u32,
    /// True if a check has shown since the last request that another tier works.
    is_checked: bool,
    /// True if people took the last request in the place of a model.
    by_people: bool,
    was_away: Duration,
}

/// More chains than callers begin at by naming a tier.
const MOST: usize = 64;
/// The most names of one chain that are shown.
const NAMES: usize = 32;
/// Chains asked within this time count for the state of the whole.
const LATELY: Duration = Duration::from_secs(5 * 60);
/// The number of requests in a row, ended by their callers' own limits, that shows trouble.
const IMPATIENT: u32 = 5;
/// An answer within this time shows that at least one tier works.
const RECENT: Duration = Duration::from_secs(10);

impl ChainRecords {
    pub(super) fn new(primary: &Arc<str>, now: Instant) -> Self {
        let first = ChainRecord::new(primary.clone(), primary.clone(), vec!["default".into()], now);
        Self { serving: Chains::default(), records: vec![first], configured: 1 }
    }

    /// Replaces the chains that the file names. Those that remain keep their data.
    pub(super) fn configure(&mut self, chains: Vec<ChainSetup>, is_tier: impl Fn(&str) -> bool, now: Instant) {
        let mut before = std::mem::take(&mut self.records);
        for ChainSetup { id, first, mut names } in chains {
            let more = names.len().saturating_sub(NAMES);
            names.truncate(NAMES);
            if more > 0 {
                names.push(format!("… and {more} more"));
            }
            let known = before.iter().position(|record| record.id == id && record.first == first);
            let mut record = match known {
                Some(place) => before.swap_remove(place),
                None => ChainRecord::new(id, first, Vec::new(), now),
            };
            record.names = names;
            self.records.push(record);
        }
        self.configured = self.records.len();
        before.retain(|record| is_tier(&record.first));
        before.iter_mut().for_each(|record| record.names.clear());
        self.records.append(&mut before);
        self.serving.retain(is_tier);
    }

    pub(super) fn switched(&mut self, id: &Arc<str>, first: &Arc<str>, to: &Arc<str>, at: Instant) {
        self.serving.switched(id, first, to, at);
        self.record(id, first);
        self.note_change(id, at, None);
    }

    /// Takes the report that a chain's first tier serves again, `after` so long.
    pub(super) fn recovered(&mut self, id: &Arc<str>, first: &Arc<str>, after: Duration, at: Instant) {
        // The switch's event may be lost.
        let was_away = self.serving.away(id).map_or(after, |(_, since)| at.saturating_duration_since(since));
        self.serving.recovered(id);
        self.record(id, first);
        self.note_change(id, at, Some(was_away));
        self.clear_failures(first);
    }

    fn note_change(&mut self, id: &Arc<str>, at: Instant, was_away: Option<Duration>) {
        if let Some(record) = self.records.iter_mut().find(|record| record.id == *id) {
            record.since = at;
            record.asked = record.asked.max(Some(at));
            record.was_away = record.was_away.saturating_add(was_away.unwrap_or_default());
        }
    }

    pub(super) fn lost(&mut self) {
        self.serving.lost();
    }

    /// Takes a request. `failed` is true if it shows trouble; `None` if it shows nothing of the service. Without a
    /// fallback there is one tier, without a name: the primary.
    #[inline]
    pub(super) fn ended(&mut self, primary: &Arc<str>, ended: &RequestEnded, failed: Option<bool>) {
        if let Some(change) = self.serving.ended(ended) {
            self.changed(change, ended.at);
        }
        let Some(failed) = failed else { return };
        let first = first_asked(ended).unwrap_or(primary);
        let Some(record) = self.record(ended.chain.as_ref().unwrap_or(first), first) else { return };
        record.asked = Some(ended.at);
        record.is_checked = false;
        if failed {
            return record.requests.record_failure(ended.at);
        }
        record.requests.record_answers(ended.at, 1);
        record.last_answer = Some(ended.at);
        record.impatient = 0;
        record.by_people = ended.task.is_some() && ended.tier.as_ref() != Some(first);
    }

    #[cold]
    fn changed(&mut self, change: Change, at: Instant) {
        match change {
            Change::Away { chain, since, .. } => self.note_change(&chain, since, None),
            Change::Home { chain, since, .. } => {
                self.note_change(&chain, at, Some(at.saturating_duration_since(since)));
            }
        }
    }

    /// Takes so many plain answers like this one, of its first tier, the last of them at this time.
    pub(super) fn answers(&mut self, like: &RequestEnded, primary: &Arc<str>, last: Instant, number: u64) {
        let first = like.tier.as_ref().unwrap_or(primary);
        if let Some(record) = self.record(like.chain.as_ref().unwrap_or(first), first) {
            (record.asked, record.last_answer) = (Some(last), Some(last));
            (record.impatient, record.by_people) = (0, false);
            record.requests.record_answers(last, number);
        }
    }

    /// Returns the time until which plain answers like this one change nothing but counts, if they do.
    pub(super) fn until(&mut self, like: &RequestEnded, primary: &Arc<str>) -> Option<Instant> {
        if !self.serving.is_quiet() {
            return None;
        }
        let first = like.tier.as_ref().unwrap_or(primary);
        self.record(like.chain.as_ref().unwrap_or(first), first)?.requests.until()
    }

    /// Counts a request that its caller's own limit ended. Returns whether there were so many in a row that it shows
    /// trouble.
    pub(super) fn count_impatient(&mut self, ended: &RequestEnded, first: &Arc<str>) -> bool {
        self.record(chain_of(ended).unwrap_or(first), first).is_some_and(|record| {
            record.impatient += 1;
            record.impatient >= IMPATIENT
        })
    }

    /// Takes the report that every tier failed a request, where no other tells of requests.
    pub(super) fn all_failed(&mut self, at: Instant) {
        let primary = &mut self.records[0];
        primary.asked = Some(at);
        primary.requests.record_failure(at);
    }

    /// Forgets those reports: the requests themselves say which chain they took.
    #[cold]
    pub(super) fn forget_all_failed(&mut self) {
        let is_away = self.serving.away(&self.records[0].id).is_some();
        let primary = &mut self.records[0];
        primary.requests = Recent::new();
        primary.asked = primary.asked.filter(|_| is_away);
    }

    /// Takes a check that this tier has answered: of the chain of all tiers, that is one that works.
    pub(super) fn checked(&mut self, tier: &str) {
        self.records[0].is_checked = true;
        self.clear_failures(tier);
    }

    /// Forgets the failures of the requests that this tier would serve, which works again.
    pub(super) fn clear_failures(&mut self, tier: &str) {
        for record in &mut self.records {
            let serves = self.serving.away(&record.id).is_some_and(|(to, _)| **to == *tier);
            if serves || *record.first == *tier {
                record.requests.clear_failures();
            }
        }
    }

    /// Returns the tier that serves a chain.
    pub(super) fn active<'a>(&'a self, record: &'a ChainRecord) -> &'a Arc<str> {
        self.serving.away(&record.id).map_or(&record.first, |(to, _)| to)
    }

    #[inline]
    fn record(&mut self, id: &Arc<str>, first: &Arc<str>) -> Option<&mut ChainRecord> {
        let place = self.records.iter().position(|record| Arc::ptr_eq(&record.id, id));
        let place = place.or_else(|| self.place_of_text(id, first))?;
        Some(&mut self.records[place])
    }

    #[cold]
    fn place_of_text(&mut self, id: &Arc<str>, first: &Arc<str>) -> Option<usize> {
        if let Some(place) = self.records.iter().position(|record| record.id == *id) {
            // The next lookup then compares the allocation and not the text.
            self.records[place].id = id.clone();
            return Some(place);
        }
        if self.records.len() >= self.configured + MOST {
            return None;
        }
        self.records.push(ChainRecord::new(id.clone(), first.clone(), Vec::new(), Instant::now()));
        Some(self.records.len() - 1)
    }

    /// Returns the state of the whole, since when, and the chain that has it: the worst of those that
    /// were asked for lately, or else of the last one.
    pub(super) fn state(
        &self,
        now: Instant,
        is_degraded: impl Fn(&str) -> bool,
    ) -> (ServingState, Instant, &ChainRecord) {
        let last = self.records.iter().filter_map(|record| record.asked).max();
        let is_late = |record: &&ChainRecord| {
            record.asked.is_some_and(|asked| now.saturating_duration_since(asked) < LATELY || Some(asked) == last)
        };
        let asked = self.records.iter().filter(is_late).map(|record| {
            let (state, since) = self.state_of(record, now, &is_degraded);
            (state, since, record)
        });
        let asked: Vec<_> = asked.collect();
        let primary = &self.records[0];
        // Of several in one state the one that the file names first.
        let Some(worst) = asked.iter().rev().max_by_key(|(state, ..)| state.severity()) else {
            return (ServingState::Untried, primary.since, primary);
        };
        let (state, since, record) = *worst;
        let is_partly =
            state == ServingState::Unavailable && asked.iter().any(|(state, ..)| *state != ServingState::Unavailable);
        match state {
            ServingState::Primary => {
                let since = asked.iter().map(|(_, since, _)| *since).max().unwrap_or(since);
                (state, since, primary)
            }
            _ if is_partly => (ServingState::Failing, since, record),
            _ => (state, since, record),
        }
    }

    fn state_of(
        &self,
        record: &ChainRecord,
        now: Instant,
        is_degraded: impl Fn(&str) -> bool,
    ) -> (ServingState, Instant) {
        if record.asked.is_none() {
            return (ServingState::Untried, record.since);
        }
        let answers = record.last_answer.is_some_and(|last| now.saturating_duration_since(last) < RECENT);
        if let Some(since) = record.requests.unanswered().filter(|_| !answers && !record.is_checked) {
            return (ServingState::Unavailable, since);
        }
        if let Some(since) = record.requests.failing(now) {
            return (ServingState::Failing, since);
        }
        let away = self.serving.away(&record.id);
        let state = match away {
            _ if record.by_people => ServingState::People,
            _ if is_degraded(self.active(record)) => ServingState::Degraded,
            Some(_) => ServingState::Fallback,
            None => ServingState::Primary,
        };
        (state, record.since)
    }

    /// Returns the status of each chain: those of the file, and those that were asked.
    pub(super) fn statuses(
        &self,
        now: Instant,
        is_degraded: impl Fn(&str) -> bool,
        model: impl Fn(&Arc<str>) -> String,
        date: impl Fn(Instant) -> String,
    ) -> Vec<ChainStatus> {
        let status = |record: &ChainRecord| {
            let (state, since) = self.state_of(record, now, &is_degraded);
            let active = self.active(record);
            let [ended, failed] = record.requests.counts(now);
            let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
            ChainStatus {
                id: record.id.as_ref().into(),
                first: record.first.as_ref().into(),
                names: record.names.clone(),
                state,
                active_tier: active.as_ref().into(),
                active_model: model(active),
                since: date(since),
                since_seconds: ago(since),
                asked_seconds_ago: record.asked.map(ago),
                ended,
                failed,
                fallback_seconds: self.time_away(record, now).iter().sum::<Duration>().as_secs_f64(),
            }
        };
        let is_shown = |(place, record): &(usize, &ChainRecord)| *place < self.configured || record.asked.is_some();
        self.records.iter().enumerate().filter(is_shown).map(|(_, record)| status(record)).collect()
    }

    /// Returns the longest times for which other tiers than the first have served a chain: past, and current.
    pub(super) fn longest_away(&self, now: Instant) -> [Duration; 2] {
        let times = self.records.iter().map(|record| self.time_away(record, now));
        times.max_by_key(|[past, current]| *past + *current).unwrap_or_default()
    }

    fn time_away(&self, record: &ChainRecord, now: Instant) -> [Duration; 2] {
        let current = self.serving.away(&record.id).map(|(_, since)| now.saturating_duration_since(since));
        [record.was_away, current.unwrap_or_default()]
    }
}

impl ChainRecord {
    fn new(id: Arc<str>, first: Arc<str>, names: Vec<String>, now: Instant) -> Self {
        Self {
            id,
            first,
            names,
            since: now,
            asked: None,
            requests: Recent::new(),
            last_answer: None,
            impatient: 0,
            is_checked: false,
            by_people: false,
            was_away: Duration::ZERO,
        }
    }
}
