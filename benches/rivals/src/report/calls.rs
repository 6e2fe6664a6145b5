//! Costs per call.

use std::fmt::Write as _;

use super::{Finding, Section, number};
use crate::{
    contestants::{
        BARE, BREAKER, BULKHEAD, Contestant, FALLBACK, FULL, HEDGE, NOTHING, OBSERVED, ON_LLM, OPEN, OUR_FIVE,
        OUR_THREE, OURS, PENDING, READY, RETRY, TIMEOUT,
    },
    measure::{
        spread,
        timing::{Rounds, minus},
    },
};

/// The tables, in the order in which they are shown.
pub const GROUPS: [&str; 11] =
    [READY, PENDING, TIMEOUT, BULKHEAD, RETRY, BREAKER, FALLBACK, HEDGE, OPEN, FULL, OBSERVED];

/// The results of each contestant, in the contestants' order; a measurement that was not made is empty.
#[derive(Debug, Default)]
pub struct Figures {
    pub times: Vec<Rounds>,
    pub instructions: Vec<f64>,
    pub allocations: Vec<f64>,
}

/// A row as it is shown: what a contestant adds to the bare service, or all that it takes where there is none.
#[derive(Clone, Debug)]
pub struct Row {
    pub group: &'static str,
    pub name: String,
    pub nanos: Option<f64>,
    half: Option<(f64, f64)>,
    pub instructions: Option<f64>,
    pub allocations: Option<f64>,
}

pub fn rows(contestants: &[&Contestant], figures: &Figures) -> Vec<Row> {
    let row = |(at, contestant): (usize, &&Contestant)| {
        let base = bare_of(contestants, at);
        let added = |of: &[f64]| of.get(at).map(|figure| figure - base.map_or(0.0, |base| of[base]));
        let time = figures.times.get(at).map(|rounds| match base {
            Some(base) => spread(&minus(rounds, &figures.times[base])),
            None => spread(rounds),
        });
        Row {
            group: contestant.group,
            name: contestant.name.clone(),
            nanos: time.map(|time| time.median),
            half: time.map(|time| (time.low, time.high)),
            instructions: added(&figures.instructions),
            allocations: added(&figures.allocations),
        }
    };
    contestants.iter().enumerate().map(row).collect()
}

/// The bare service on the same types: the last one before the contestant in its group. A refusal never reaches it, so
/// that there it is no cost to take off; and what watches is measured against the five.
fn bare_of(contestants: &[&Contestant], at: usize) -> Option<usize> {
    let group = contestants[at].group;
    if [OPEN, FULL, OBSERVED].contains(&group) || contestants[at].name.starts_with(BARE) {
        return None;
    }
    (0..at).rev().find(|i| contestants[*i].group == group && contestants[*i].name.starts_with(BARE))
}

pub fn section(rows: &[Row]) -> Section {
    let mut text = String::new();
    for group in GROUPS {
        table(&mut text, group, rows);
    }
    Section {
        title: "Costs per call".to_owned(),
        repeat: "cargo run --release --features liter-llm -- calls [TABLE]".to_owned(),
        text,
        findings: findings(rows),
        ..Section::default()
    }
}

fn table(text: &mut String, group: &'static str, rows: &[Row]) {
    let within: Vec<&Row> = rows.iter().filter(|row| row.group == group).collect();
    if within.is_empty() {
        return;
    }
    let what = if [OPEN, FULL, OBSERVED].contains(&group) { "in all" } else { "added to the bare service" };
    let _ = writeln!(text, "\n### {group}: {what}, per call\n");
    let ours = ours_in(group, "");
    let _ = writeln!(
        text,
        "| | CPU ns | half of the rounds | instructions | allocations | {ours} / it: time | instructions |"
    );
    text.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
    for row in &within {
        let bare = row.name.starts_with(BARE);
        let name = if bare && what != "in all" { format!("*{} (in all)*", row.name) } else { row.name.clone() };
        let ours = beside(rows, row).filter(|_| !bare);
        let ratio = |of: fn(&Row) -> Option<f64>| {
            let ratio = ours.and_then(of).zip(of(row)).map(|(ours, theirs)| ours / theirs);
            ratio.filter(|ratio| ratio.is_finite() && *ratio > 0.0).map_or("-".into(), |ratio| format!("{ratio:.2}"))
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            row.nanos.map_or("-".into(), |nanos| format!("{nanos:.1}")),
            row.half.map_or("-".into(), |(low, high)| format!("{low:.1} to {high:.1}")),
            row.instructions.map_or("-".into(), |figure| format!("{figure:.0}")),
            row.allocations.map_or("-".into(), |figure| format!("{figure:.2}")),
            ratio(|row| row.nanos),
            ratio(|row| row.instructions),
        );
    }
}

/// Returns our row in a table, beside a rival of this name.
fn ours_in(group: &str, rival: &str) -> &'static str {
    match group {
        READY | PENDING if rival.starts_with("tower's three") => OUR_THREE,
        READY | PENDING | OBSERVED => OUR_FIVE,
        BREAKER if rival.ends_with("window") => "steadfast, window",
        _ => OURS,
    }
}

/// Ours beside a rival's of the same.
fn beside<'a>(rows: &'a [Row], rival: &Row) -> Option<&'a Row> {
    let ours = ours_in(rival.group, &rival.name);
    rows.iter().find(|row| row.group == rival.group && row.name == ours && row.name != rival.name)
}

fn findings(rows: &[Row]) -> Vec<Finding> {
    let mut findings = aims(rows);
    for rival in rows.iter().filter(|row| {
        let name = row.name.as_str();
        row.group != OBSERVED && ![BARE, NOTHING, "steadfast"].iter().any(|other| name.starts_with(other))
    }) {
        let Some(ours) = beside(rows, rival) else { continue };
        let what = format!("{}, per call", rival.group);
        let mut add = |unit: &str, ours: Option<f64>, theirs: Option<f64>| {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                findings.push(Finding::cost(&what, &rival.name, unit, ours, theirs));
            }
        };
        add("instructions", ours.instructions, rival.instructions);
        add("CPU ns", ours.nanos, rival.nanos);
        add("allocations", ours.allocations, rival.allocations);
    }
    findings
}

fn aims(rows: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let find = |group: &str, name: &str| rows.iter().find(|row| row.group == group && row.name == name);
    for group in [READY, PENDING] {
        let Some(five) = find(group, OUR_FIVE) else { continue };
        if let Some(allocations) = five.allocations.filter(|_| group == READY) {
            findings.push(Finding::at_most("the five, healthy: heap allocations", allocations, 0.0));
        }
        for (rival, aim) in [("tower-resilience's five", 0.3), ("tower's three", 2.0)] {
            for rival in [rival.to_owned(), format!("{rival}{ON_LLM}")] {
                let Some(theirs) = find(group, &rival) else { continue };
                let mut add = |unit: &str, ours: Option<f64>, theirs: Option<f64>| {
                    if let (Some(ours), Some(theirs)) = (ours, theirs) {
                        let what = format!("what the five add / what {rival} add, {group}, {unit}");
                        findings.push(Finding::at_most(what, ours / theirs, aim));
                    }
                };
                add("instructions", five.instructions, theirs.instructions);
                add("CPU time", five.nanos, theirs.nanos);
            }
        }
    }
    for (group, name) in [(OPEN, "steadfast, with the next tier's answer"), (FULL, OURS)] {
        if let Some(nanos) = find(group, name).and_then(|row| row.nanos) {
            findings.push(Finding::at_most(format!("{group}: {name}, ns"), nanos, 1000.0));
        }
    }
    if let (Some(alone), Some(all)) = (find(OBSERVED, OUR_FIVE), find(OBSERVED, "and observe, status and metrics")) {
        let mut add = |unit: &str, all: Option<f64>, alone: Option<f64>| {
            if let (Some(all), Some(alone)) = (all, alone) {
                findings.push(Finding::at_most(
                    format!("the five with all that watches / alone, {unit}"),
                    all / alone,
                    2.0,
                ));
            }
        };
        add("instructions", all.instructions, alone.instructions);
        add("CPU time", all.nanos, alone.nanos);
    }
    findings
}

/// A word on tower-resilience's full bulkhead, which is in no table of costs per call.
pub fn refusal_by_timer(took: std::time::Duration) -> String {
    format!(
        "\ntower-resilience's full bulkhead is not in the table: it refuses through a timer, and its caller hears of it after \
         {} µs.\n",
        number(Some(took.as_secs_f64() * 1e6))
    )
}
