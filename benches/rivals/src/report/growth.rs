//! Costs that should not grow.

use std::fmt::Write as _;

use super::{Finding, Section, number};
use crate::{
    contestants::{Contestant, DEPLOYMENTS, GROWTH, IN_FLIGHT, OURS},
    measure::{spread, timing::Rounds},
};

/// More than this, from the smallest to the largest, is growth.
const FLAT: f64 = 1.25;
/// The most nanoseconds of a choice, over a tier of one deployment.
const CHOICE: f64 = 60.0;

pub fn section(contestants: &[&Contestant], times: &[Rounds], instructions: &[f64]) -> Section {
    let mut section = Section {
        title: "What grows".to_owned(),
        repeat: "cargo run --release --features liter-llm -- growth".to_owned(),
        text:
            "Per call and in all, with so many of each around it. Each figure is of a new service, called 200 times. Where \
             it chooses among deployments, nearly each of them has answered before. Among one there is no choice: its \
             growth is counted from two.\n"
                .to_owned(),
        ..Section::default()
    };
    for group in GROWTH {
        table(&mut section, group, contestants, times, instructions);
    }
    section
}

fn table(section: &mut Section, group: &str, contestants: &[&Contestant], times: &[Rounds], instructions: &[f64]) {
    let mut names: Vec<&str> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    for (name, size) in contestants.iter().filter(|c| c.group == group).filter_map(|c| c.sized()) {
        if !names.contains(&name) {
            names.push(name);
        }
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    let text = &mut section.text;
    let _ = write!(text, "\n### {group}\n\n| |");
    for size in &sizes {
        let _ = write!(text, " {size}: instructions | ns |");
    }
    let _ = writeln!(text, " last / first |\n|---|{}---:|", "---:|".repeat(2 * sizes.len()));
    // Among one there is no choice.
    let from = usize::from(group == DEPLOYMENTS);
    for name in names {
        let _ = write!(text, "| {name} |");
        let mut row: Vec<f64> = Vec::new();
        let mut row_nanos: Vec<f64> = Vec::new();
        for size in &sizes {
            let at = contestants.iter().position(|c| c.group == group && c.sized() == Some((name, *size)));
            let counted = at.and_then(|at| instructions.get(at)).copied();
            let nanos = at.and_then(|at| times.get(at)).map(|rounds| spread(rounds).median);
            let _ = write!(
                text,
                " {} | {} |",
                counted.map_or("-".into(), |n| format!("{n:.0}")),
                nanos.map_or("-".into(), |n| format!("{n:.0}")),
            );
            row.extend(counted.or(nanos));
            row_nanos.extend(nanos);
        }
        let growth = row.get(from).zip(row.last()).map(|(first, last)| last / first);
        let _ = writeln!(text, " {} |", number(growth));
        let ours = name == OURS || ([DEPLOYMENTS, IN_FLIGHT].contains(&group) && name.starts_with(OURS));
        if let Some(growth) = growth.filter(|_| ours) {
            let (first, last) = (sizes.get(from).unwrap_or(&0), sizes.last().unwrap_or(&0));
            let what = format!("cost of a call with {last} {group} / with {first}: {name}");
            section.findings.push(Finding::at_most(what, growth, FLAT));
            if group == DEPLOYMENTS
                && let [alone, chosen @ ..] = &row_nanos[..]
            {
                let most = chosen.iter().fold(0.0, |most: f64, nanos| most.max(nanos - alone));
                let what = format!("a choice among {first} to {last} {group}, over a tier of one, the most ns: {name}");
                section.findings.push(Finding::at_most(what, most, CHOICE));
            }
        }
    }
}
