use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Alert, AlertState, Origin, Rule, Severity};

/// The alerts that fire.
#[derive(Debug, Default)]
pub(super) struct Board {
    firing: Vec<Firing>,
    /// Severities that differ from the rule's own.
    severities: Vec<(Rule, Severity)>,
    origin: Origin,
}

/// An alert that fires.
#[derive(Debug)]
pub(super) struct Firing {
    pub(super) alert: Alert,
    /// The last time the condition held.
    pub(super) last: Instant,
    /// The time of the last message about it.
    reported_at: Instant,
    /// The level reached; a higher one is worth another message.
    level: u8,
    /// The time at which the condition ended, if nothing since has shown that it holds, and the words for that.
    ended: Option<(Instant, String)>,
}

/// The subject, summary and fields of an alert.
pub(super) struct AlertContent {
    pub(super) severity: Severity,
    pub(super) summary: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Board {
    /// Replaces severities of rules, for alerts that begin from now on.
    pub(super) fn set_severities(&mut self, severities: Vec<(Rule, Severity)>) {
        self.severities = severities;
    }

    /// Replaces the origin, for alerts that begin from now on. One that fires keeps its id to its end.
    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Records that the condition holds. Returns an alert if that is news.
    pub(super) fn fire(
        &mut self,
        rule: Rule,
        key: &Arc<str>,
        level: u8,
        now: Instant,
        content: impl FnOnce() -> AlertContent,
    ) -> Option<Alert> {
        let place = self.firing.iter().position(|firing| firing.is(rule, key));
        if let Some(firing) = place.map(|place| &mut self.firing[place]) {
            firing.last = now;
            if level <= firing.level {
                return None;
            }
        } else if self.is_full(rule) {
            return None;
        }
        let AlertContent { severity, summary, fields } = content();
        let own = self.severities.iter().find(|(of, _)| *of == rule);
        // The severity of this rule's second share stays critical.
        let severity = own.filter(|_| rule != Rule::FallbackShare || level == 0).map_or(severity, |own| own.1);
        let state = AlertState::Firing;
        let (key, origin) = (key.clone(), self.origin.clone());
        let alert = Alert { rule, key, severity, state, summary, fields, since: now, at: now, repeated: false, origin };
        match place.map(|place| &mut self.firing[place]) {
            Some(firing) => {
                let alert = Alert { since: firing.alert.since, origin: firing.alert.origin.clone(), ..alert };
                (firing.alert, firing.level, firing.reported_at) = (alert.clone(), level, now);
                Some(alert)
            }
            None => {
                let (last, reported_at, ended) = (now, now, None);
                self.firing.push(Firing { alert: alert.clone(), last, reported_at, level, ended });
                Some(alert)
            }
        }
    }

    /// Records that the condition has ended, unless it soon holds again.
    pub(super) fn end_if_it_lasts(&mut self, rule: Rule, key: &str, now: Instant, summary: impl FnOnce() -> String) {
        if let Some(firing) = self.firing.iter_mut().find(|firing| firing.is(rule, key)) {
            firing.ended = Some((now, summary()));
        }
    }

    /// Adds a detail to an alert that fires.
    pub(super) fn add_field(&mut self, rule: Rule, key: &str, field: (&'static str, String)) {
        if let Some(firing) = self.firing.iter_mut().find(|firing| firing.is(rule, key)) {
            firing.alert.fields.push(field);
        }
    }

    /// Records that a condition which seemed to have ended holds, if its alert fires.
    pub(super) fn goes_on(&mut self, rule: Rule, key: &str) {
        if let Some(firing) = self.firing.iter_mut().find(|firing| firing.is(rule, key)) {
            firing.ended = None;
        }
    }

    /// Records that the condition has ended. Returns an alert if it was firing.
    pub(super) fn resolve(
        &mut self,
        rule: Rule,
        key: &str,
        now: Instant,
        summary: impl FnOnce() -> String,
    ) -> Option<Alert> {
        let place = self.firing.iter().position(|firing| firing.is(rule, key))?;
        let mut firing = self.firing.remove(place);
        let ended = firing.ended.as_ref().map_or(now, |(at, _)| *at);
        let lasted = ended.saturating_duration_since(firing.alert.since);
        firing.alert.fields.push(("lasted", Span(lasted).to_string()));
        let state = AlertState::Resolved;
        let summary = firing.ended.map_or_else(summary, |(_, summary)| summary);
        Some(Alert { state, summary, at: now, repeated: false, ..firing.alert })
    }

    pub(super) fn find(&self, rule: Rule, key: &str) -> Option<&Firing> {
        self.firing.iter().find(|firing| firing.is(rule, key))
    }

    /// Returns whether no other alert has room. A cap with many keys leaves room for the other rules.
    fn is_full(&self, rule: Rule) -> bool {
        let budgets = || self.firing.iter().filter(|firing| firing.alert.rule == Rule::Budget).count();
        self.firing.len() == MOST || rule == Rule::Budget && budgets() == MOST / 2
    }

    pub(super) fn is_empty(&self) -> bool {
        self.firing.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Firing> {
        self.firing.iter_mut()
    }
}

impl Firing {
    fn is(&self, rule: Rule, key: &str) -> bool {
        self.alert.rule == rule && &*self.alert.key == key
    }

    /// Returns when its condition ended, if it seems to have.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.ended.as_ref().map(|(at, _)| *at)
    }

    /// Returns one alert that is due for repetition.
    pub(super) fn repeat(&mut self, every: Duration, now: Instant) -> Option<Alert> {
        if now.saturating_duration_since(self.reported_at) < every {
            return None;
        }
        self.reported_at = now;
        Some(Alert { at: now, repeated: true, ..self.alert.clone() })
    }
}

/// A span of time in words: `2 h 36 min`, `45 s`.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => write!(f, "{seconds} s"),
            (0, minutes, 0) => write!(f, "{minutes} min"),
            (0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (hours, 0, _) => write!(f, "{hours} h"),
            (hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

/// More alerts than anyone could read at a time.
const MOST: usize = 128;
