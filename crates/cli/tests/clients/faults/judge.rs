//! Verdicts, from the observations of a client and the providers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use steadfast::providers::simulated::SimulatedHandle;

use crate::{
    faults::{
        cases::{Caller, Commit, FALLBACK, Key, Mix, PRIMARY, World, canonical},
        scenarios::SCENARIOS,
    },
    upstream::Upstream,
};

/// A client's observations of one request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outcome {
    /// The text of the answer, or what had come of it when it broke.
    pub(crate) text: String,
    /// The class of the error; `None`: the client took the answer for whole.
    pub(crate) error: Option<String>,
    /// True if the error is of the client's own type, not one that slipped through from below.
    pub(crate) own: bool,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    pub(crate) model: Option<String>,
    /// The reason for the end.
    pub(crate) finish: Option<String>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) took_ms: u64,
    /// Signs of life before the answer, where the client can see them.
    #[serde(default)]
    pub(crate) signs: Option<u64>,
}

impl Outcome {
    /// Returns whether the client has the whole answer, and its end mark.
    fn is_whole(&self) -> bool {
        let ended = matches!(self.finish.as_deref(), Some("end_turn" | "stop" | "completed" | "STOP"));
        self.error.is_none() && self.own && self.text == canonical() && ended
    }
}

/// The observations of one case.
pub(crate) struct Seen<'a> {
    /// Without the healthy one at the end.
    outcomes: &'a [Outcome],
    primary: SimulatedHandle,
    fallback: SimulatedHandle,
}

/// The beginning of an answer that a request has itself.
const BEGUN: &str = "word-1";

type Verdict = Result<(), String>;

fn ensure(is: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if is { Ok(()) } else { Err(wrong()) }
}

impl Seen<'_> {
    /// Every request has the whole answer.
    pub(crate) fn answered(&self) -> Verdict {
        self.outcomes
            .iter()
            .try_for_each(|outcome| ensure(outcome.is_whole(), || format!("no whole answer: {outcome:?}")))
    }

    pub(crate) fn answered_by_primary(&self) -> Verdict {
        self.answered()?;
        self.outcomes.iter().try_for_each(|outcome| is_of(outcome, PRIMARY))
    }

    pub(crate) fn answered_by_fallback(&self) -> Verdict {
        self.answered()?;
        self.outcomes.iter().try_for_each(|outcome| is_of(outcome, FALLBACK))
    }

    pub(crate) fn first_answered_by_fallback(&self) -> Verdict {
        Seen { outcomes: &self.outcomes[..1], primary: self.primary.clone(), fallback: self.fallback.clone() }
            .answered_by_fallback()
    }

    pub(crate) fn last_answered_by_primary(&self) -> Verdict {
        self.outcomes.last().map_or(Ok(()), |outcome| is_of(outcome, PRIMARY))
    }

    /// Every request ends with an error of the client's own, with this status and a word of the provider's reason.
    pub(crate) fn refused(&self, status: u16, reasons: &[&str]) -> Verdict {
        self.outcomes.iter().try_for_each(|outcome| {
            let told = reasons.iter().any(|reason| outcome.message.contains(reason));
            let is = outcome.error.is_some() && outcome.own && outcome.status == Some(status) && told;
            ensure(is, || format!("not refused as it should be: {outcome:?}"))
        })
    }

    /// The second request ends with the root error, not with that of the tier that could not take it over.
    pub(crate) fn second_tells_of_the_broken_stream(&self) -> Verdict {
        let second = &self.outcomes[1];
        let masked = second.status == Some(400) || second.message.contains("prefill");
        // More than once by an SDK that was told how long to wait, and came back then.
        let asked = self.fallback.stats().failed_by.get("no_prefill") > Some(&0);
        let is = second.error.is_some() && second.own && !masked && asked;
        ensure(is, || format!("the root error is masked: {second:?}"))
    }

    /// The answer came with the tokens that it took.
    pub(crate) fn usage(&self) -> Verdict {
        self.outcomes.iter().try_for_each(|outcome| {
            let is = outcome.output_tokens == Some(60) && outcome.input_tokens.is_some_and(|tokens| tokens > 0);
            ensure(is, || format!("no usage: {outcome:?}"))
        })
    }

    pub(crate) fn took_less_than(&self, limit: Duration) -> Verdict {
        self.outcomes.iter().try_for_each(|outcome| {
            ensure(Duration::from_millis(outcome.took_ms) < limit, || format!("too late: {outcome:?}"))
        })
    }

    pub(crate) fn primary_calls(&self, least: u64, most: u64) -> Verdict {
        let calls = self.primary.stats().calls;
        ensure((least..=most).contains(&calls), || format!("the primary was asked {calls} times"))
    }

    pub(crate) fn fallback_calls(&self, least: u64, most: u64) -> Verdict {
        let calls = self.fallback.stats().calls;
        ensure((least..=most).contains(&calls), || format!("the fallback was asked {calls} times"))
    }

    /// At most so many attempts at the primary within so long of the first.
    pub(crate) fn at_most(&self, most: usize, within: Duration) -> Verdict {
        let times = self.primary.arrivals();
        let early = times.iter().filter(|time| **time - times[0] < within).count();
        ensure(early <= most, || format!("the primary was asked {early} times in {within:?}"))
    }

    /// At least so long between the first two attempts at the primary.
    pub(crate) fn first_gap(&self, least: Duration) -> Verdict {
        let times = self.primary.arrivals();
        let gap = times.get(1).map(|second| *second - times[0]);
        ensure(gap.is_some_and(|gap| gap >= least), || format!("the primary was asked again after {gap:?}"))
    }

    /// Checks that a primary that is down gets calls until its circuit opens, and then one probe for a request at most.
    pub(crate) fn dead_attempts_are_few(&self) -> Verdict {
        let dead = self.primary.stats().failed;
        let most = self.fallback.stats().calls + 5;
        ensure(dead <= most, || format!("{dead} attempts at a primary that was down, in {most} requests and 5"))
    }

    /// Each request has the whole answer, or an error of the client's own: no short answer passes for a whole one.
    /// Gives whether any was an error.
    fn honest(&self) -> Result<bool, String> {
        for outcome in self.outcomes {
            let whole = canonical();
            // A request with a beginning of its own gets the rest.
            let is_part = [Some(&*whole), whole.strip_prefix(BEGUN)].into_iter().flatten();
            let is_part = is_part.into_iter().any(|whole| whole.starts_with(&outcome.text));
            let told = outcome.error.is_some() && outcome.own && is_part;
            ensure(outcome.is_whole() || told, || {
                format!("a short answer, or no error of the client's own: {outcome:?}")
            })?;
        }
        Ok(self.outcomes.iter().any(|outcome| outcome.error.is_some()))
    }
}

fn is_of(outcome: &Outcome, model: &str) -> Verdict {
    ensure(outcome.model.as_deref() == Some(model), || format!("not an answer of {model}: {outcome:?}"))
}

/// The end of a case.
enum Cell {
    /// The best possible end.
    Pass,
    /// With an error that its client hears of.
    Error,
    Wrong(String),
}

/// All verdicts of one client.
pub(crate) struct Table {
    cells: BTreeMap<(&'static str, Commit, Caller), Cell>,
    /// The further problems.
    beside: Vec<String>,
}

impl Table {
    pub(crate) fn of(world: &World, outcomes: Vec<(String, Vec<Outcome>)>) -> Self {
        let outcomes: BTreeMap<String, Vec<Outcome>> = outcomes.into_iter().collect();
        let nothing = Vec::new();
        let of = |case: &str| outcomes.get(case).unwrap_or(&nothing);
        let cells = world.keys().map(|key| {
            let verdict = verdict(world, key, of(&key.name()));
            ((key.scenario.id, key.commit, key.caller), verdict.unwrap_or_else(Cell::Wrong))
        });
        let cells = cells.collect();
        let long = world.held().filter_map(|(caller, name)| match &of(&name)[..] {
            [outcome] if outcome.is_whole() && outcome.signs != Some(0) => None,
            other => Some(format!("a long answer that is held back, {caller:?}: {other:?}")),
        });
        Self { cells, beside: long.collect() }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.beside.is_empty() && !self.cells.values().any(|cell| matches!(cell, Cell::Wrong(_)))
    }

    /// Returns each case with its end, as judges of `conformance/` give them.
    pub(crate) fn cases(&self) -> Vec<Value> {
        let case = |((id, commit, caller), cell): (&(&str, Commit, Caller), &Cell)| {
            let (result, why) = match cell {
                Cell::Pass => ("pass", ""),
                Cell::Error => ("told", ""),
                Cell::Wrong(why) => ("fail", &**why),
            };
            json!({ "name": format!("{id} {} {}", caller.name(), commit.name()), "result": result, "why": why })
        };
        self.cells.iter().map(case).collect()
    }

    /// Checks that a client alone gets over what passes, and has no answer where its provider has none.
    pub(crate) fn assert_alone(&self) {
        for ((id, commit, caller), cell) in &self.cells {
            let mended = match *id {
                "S03" | "S05" => !matches!(caller.protocol(), Upstream::Gemini),
                "S04" | "S06" | "S07" | "S08" | "S09" | "S12" | "S16" => false,
                _ => continue,
            };
            assert_eq!(matches!(cell, Cell::Pass), mended, "{id} {caller:?} {commit:?}\n{self}");
        }
    }

    fn count(&self, of: Commit, is: fn(&Cell) -> bool) -> usize {
        self.cells.iter().filter(|((_, commit, _), cell)| *commit == of && is(cell)).count()
    }
}

fn verdict(world: &World, key: Key, outcomes: &[Outcome]) -> Result<Cell, String> {
    let asked = key.scenario.requests.len();
    let [own @ .., alive] = outcomes else { return Err("the client said nothing".to_owned()) };
    ensure(own.len() == asked, || format!("{} outcomes of {asked}", own.len()))?;
    ensure(alive.is_whole(), || format!("a healthy request afterwards failed: {alive:?}"))?;
    let [primary, fallback] = world.providers(&key.name());
    let seen = Seen { outcomes: own, primary, fallback };
    if world.mix() == Mix::Alone {
        return alone(&seen, key);
    }
    if !key.scenario.after_commit || key.commit == Commit::Complete || !key.caller.is_streamed() {
        match world.mix() {
            Mix::Deployments => key.scenario.pass_of_deployments(&seen)?,
            _ => (key.scenario.pass)(&seen)?,
        }
        return Ok(Cell::Pass);
    }
    if key.commit == Commit::Continue {
        return gone_on_with(&seen, key);
    }
    // The caller has seen the first token: what breaks then is told, and nobody else is asked behind its back.
    let told = seen.honest()?;
    // A later request may begin at the other deployment, and what that refuses without a reason gets a second opinion.
    let later = if world.mix() == Mix::Deployments { 2 * (asked as u64 - 1) } else { 0 };
    seen.fallback_calls(0, later)?;
    let whole = key.scenario.id == "S11" && world.primary_of(&key.name()) == Upstream::Chat;
    ensure(told != whole, || format!("{:?}", seen.outcomes))?;
    Ok(if told { Cell::Error } else { Cell::Pass })
}

/// The client has the whole answer, or the provider's own refusal where that is the best end, or it hears of the fault.
fn alone(seen: &Seen<'_>, key: Key) -> Result<Cell, String> {
    let best = if key.scenario.id == "S13" { (key.scenario.pass)(seen) } else { seen.answered() };
    match best {
        Ok(()) => Ok(Cell::Pass),
        Err(_) => seen.honest().map(|_| Cell::Error),
    }
}

/// Another call went on with what broke after the first token, and the message stayed the one that it was.
fn gone_on_with(seen: &Seen<'_>, key: Key) -> Result<Cell, String> {
    let told = seen.honest()?;
    // An end without its mark is no text to go on with, and one fallback takes no begun answer.
    if told {
        ensure(matches!(key.scenario.id, "S11" | "S14"), || format!("told as an error: {:?}", seen.outcomes))?;
        return Ok(Cell::Error);
    }
    seen.outcomes.iter().try_for_each(|outcome| is_of(outcome, PRIMARY))?;
    Ok(Cell::Pass)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: BTreeSet<(Commit, Caller)> =
            self.cells.keys().map(|(_, commit, caller)| (*commit, *caller)).collect();
        write!(f, "{:<50}", "fault")?;
        for (commit, caller) in &columns {
            write!(f, " | {} {}", commit.name(), caller.name())?;
        }
        writeln!(f)?;
        let faults: BTreeMap<_, _> = SCENARIOS.iter().map(|scenario| (scenario.id, scenario.fault)).collect();
        for (id, fault) in faults {
            write!(f, "{:<50}", format!("{id} {fault}"))?;
            for (commit, caller) in &columns {
                let word = match &self.cells[&(id, *commit, *caller)] {
                    Cell::Pass => "pass",
                    Cell::Error => "told",
                    Cell::Wrong(_) => "FAIL",
                };
                write!(f, " | {word}")?;
            }
            writeln!(f)?;
        }
        for ((id, commit, caller), cell) in &self.cells {
            if let Cell::Wrong(why) = cell {
                writeln!(f, "{id} {caller:?} {commit:?}: {why}")?;
            }
        }
        for wrong in &self.beside {
            writeln!(f, "{wrong}")?;
        }
        let all = |of| self.count(of, |_| true);
        let passed = |commit| self.count(commit, |cell| matches!(cell, Cell::Pass));
        let told = self.count(Commit::Default, |cell| matches!(cell, Cell::Error));
        let honest = passed(Commit::Default) + told;
        writeln!(
            f,
            "faults: {} of {} with commit complete; {honest} of {} honest with commit first_token ({told} told as errors); \
             {} of {} whole where another call goes on",
            passed(Commit::Complete),
            all(Commit::Complete),
            all(Commit::Default),
            passed(Commit::Continue),
            all(Commit::Continue),
        )
    }
}
