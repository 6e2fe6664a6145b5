//! Checks values of the right type for errors in meaning. One pass over each block finds all of them.

mod alerts;
mod cache;
mod deployments;
mod doors;
mod gateway;
mod handoff;
mod hedge;
mod lane;
mod ledger;
mod limits;
mod mirror;
mod origins;
mod recovery;
mod responses;
mod spend;
mod stores;
mod streams;
mod tiers;
mod validate;

use std::{collections::HashSet, fmt};

use super::Problem;
use super::{
    Config,
    report::Report,
    suggest::nearest,
    tree::{Node, Step},
};
use steadfast::{models::FamilyTable, providers::http::BaseUrl, settings::FaultReport};

/// The maximum number of tiers.
const TIERS: usize = 1_000;

/// Finds all errors in meaning. `priced` tells which models have a price besides those in the file, by the names of
/// provider and model.
pub(super) fn check(config: &Config, priced: &dyn Fn(&str, &str) -> bool, findings: &mut Findings<'_, '_>) {
    if config.tiers.len() > TIERS {
        findings.wrong("tiers", format!("there are more than {TIERS} tiers"));
        return;
    }
    tiers::check(config, findings);
    families(config, findings);
    lane::check(config, findings);
    doors::check(config, findings);
    limits::check(config, findings);
    cache::check(config, findings);
    spend::check(config, priced, findings);
    mirror::check(config, priced, findings);
    stores::check(config, findings);
    responses::check(config, findings);
    ledger::check(config, findings);
    alerts::check(config, findings);
    gateway::check(config, findings);
    handoff::check(config, findings);
    hedge::check(config, findings);
    streams::check(config, findings);
}

/// Checks the settings of model families.
fn families(config: &Config, findings: &mut Findings<'_, '_>) {
    let table = FamilyTable::builtin();
    findings.within("families", |findings| {
        for (model, facts) in &config.families {
            if let Err(error) = table.clone().with(model.as_str(), facts.clone()) {
                findings.within(model, |findings| findings.wrong(error.field(), error.problem()));
            }
        }
    });
}

/// Collects findings, and tracks the place in the text.
pub struct Findings<'a, 'b> {
    tree: &'a Node,
    report: &'a mut Report<'b>,
    path: Vec<Step>,
}

impl fmt::Debug for Findings<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Findings").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a, 'b> Findings<'a, 'b> {
    pub(super) fn new(tree: &'a Node, report: &'a mut Report<'b>) -> Self {
        Self { tree, report, path: Vec::new() }
    }

    /// Runs a check inside a value.
    pub fn within(&mut self, step: impl Into<Step>, look: impl FnOnce(&mut Self)) {
        self.path.push(step.into());
        look(self);
        self.path.pop();
    }

    /// Reports an error in this value.
    pub fn wrong(&mut self, step: impl Into<Step>, message: impl Into<String>) {
        self.wrong_name(step, message, None);
    }

    /// Returns a value's place, for a later check of the value against something else.
    pub fn place(&self, step: impl Into<Step>) -> Problem {
        let path: Vec<Step> = self.path.iter().cloned().chain([step.into()]).collect();
        self.report.problem(self.tree.place_of(&path))
    }

    /// Reports an error in this key, not in its value.
    fn wrong_key(&mut self, key: &str, message: impl Into<String>) {
        self.wrong(Step::Name(key.to_owned()), message);
    }

    /// Reports an error in the current value.
    pub fn wrong_here(&mut self, message: impl Into<String>) {
        if self.report.is_full() {
            return;
        }
        let place = self.tree.place_of(&self.path).clone();
        self.report.add(&place, message, None);
    }

    fn wrong_name(&mut self, step: impl Into<Step>, message: impl Into<String>, right: Option<&str>) {
        if self.report.is_full() {
            return;
        }
        self.path.push(step.into());
        let place = self.tree.place_of(&self.path).clone();
        self.path.pop();
        self.report.add(&place, message, right.map(str::to_owned));
    }

    /// Checks a list of tiers: each must exist, none may repeat, and the list must not be empty.
    fn chain(&mut self, key: impl Into<Step>, chain: &[String], config: &Config) {
        self.within(key, |findings| {
            if chain.is_empty() {
                findings.wrong_here("the list names no tier; name at least one");
            }
            for (at, name) in chain.iter().enumerate() {
                if findings.report.is_full() {
                    return;
                }
                if !findings.is_tier(at, name, config) {
                    continue;
                }
                if chain[..at].contains(name) {
                    findings.wrong(at, format!("the list names `{name}` twice; a tier is asked once"));
                }
            }
        });
    }

    fn is_tier(&mut self, step: impl Into<Step>, name: &str, config: &Config) -> bool {
        let names = || config.tiers.iter().map(|tier| tier.name.as_str());
        if names().any(|tier| tier == name) {
            return true;
        }
        let right = nearest(name, names());
        let mut message = format!("no tier is named `{name}`");
        if right.is_none() && !config.tiers.is_empty() {
            message = format!("{message}; there are {}", names().collect::<Vec<_>>().join(", "));
        }
        self.wrong_name(step, message, right);
        false
    }

    /// Checks that a kind of failure is one of these.
    fn one_of(&mut self, step: impl Into<Step>, kind: &str, kinds: &[&str]) {
        if kinds.contains(&kind) {
            return;
        }
        let right = nearest(kind, kinds.iter().copied());
        let mut message = format!("unknown kind of failure `{kind}`");
        if right.is_none() {
            message = format!("{message}; the kinds are {}", kinds.join(", "));
        }
        self.wrong_name(step, message, right);
    }

    /// Checks the names of a list's values: none empty, none twice.
    fn names<'n>(&mut self, what: &str, names: impl Iterator<Item = &'n str>) {
        let mut known = HashSet::new();
        for (at, name) in names.enumerate() {
            self.within(at, |findings| {
                if name.trim().is_empty() {
                    findings.wrong("name", format!("a {what} needs a name"));
                } else if known.contains(name) {
                    findings.wrong("name", format!("two {what}s are named `{name}`; give each a name of its own"));
                }
            });
            known.insert(name);
        }
    }

    /// Checks that a number is finite and not negative.
    fn not_negative(&mut self, key: &str, number: f64) {
        if !(number.is_finite() && number >= 0.0) {
            self.wrong(key, format!("`{key}` must be a number of 0 or more, not {number}"));
        }
    }

    /// Checks that a span of time is longer than zero.
    fn nonzero_time(&mut self, key: &str, span: Option<super::Span>) {
        FaultReport::nonzero_time(self, key, span);
    }

    fn at_least_one(&mut self, key: &str, number: Option<u64>, why: &str) {
        FaultReport::at_least_one(self, key, number, why);
    }

    /// Checks that requests can be sent to an address. The message never repeats the address: a webhook's address is
    /// its secret.
    fn http_url(&mut self, key: &str, url: &str) {
        match BaseUrl::parse(key, url) {
            _ if !url.contains("://") => self.wrong(key, format!("{key}: it must start with http:// or https://")),
            Err(error) => self.wrong(key, error.to_string()),
            Ok(_) => {}
        }
    }
}

#[doc(hidden)]
impl FaultReport for Findings<'_, '_> {
    fn within(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        Findings::within(self, key, look);
    }

    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        Findings::wrong(self, key, message);
    }

    fn wrong_key(&mut self, key: &str, message: impl Into<String>) {
        Findings::wrong_key(self, key, message);
    }

    fn wrong_here(&mut self, message: impl Into<String>) {
        Findings::wrong_here(self, message);
    }
}
