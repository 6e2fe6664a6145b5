//! The tables, in markdown.

use crate::{
    contestants::{BARE, Contestant, GROUPS, OBSERVED, ON_LLM, OURS, PENDING, READY},
    throughput::{self, Rate, Shared},
    timing::{Rounds, Spread, minus, spread},
};

/// What is known of each contestant, in the contestants' order; a measurement that was not made is empty.
#[derive(Debug, Default)]
pub struct Figures {
    pub times: Vec<Rounds>,
    pub instructions: Vec<f64>,
    pub allocations: Vec<f64>,
}

/// One table for each group: what each contestant adds to the bare service on the same request and answer.
pub fn per_call(contestants: &[Contestant], figures: &Figures) {
    for group in GROUPS {
        println!("\n### {group}: added to the bare service, per call\n");
        println!("| | CPU ns | half of the rounds | instructions | allocations |");
        println!("|---|---:|---:|---:|---:|");
        for (at, contestant) in contestants.iter().enumerate().filter(|(_, c)| c.group == group) {
            // A refusal never reaches the bare service, so that there it is no cost to take off, only a yardstick.
            let base = if refused(group) { None } else { bare_of(contestants, contestant) };
            let base = base.filter(|base| *base != at);
            let added = |of: &[f64]| of.get(at).map(|figure| figure - base.map_or(0.0, |base| of[base]));
            let time = figures.times.get(at).map(|rounds| match base {
                Some(base) => spread(&minus(rounds, &figures.times[base])),
                None => spread(rounds),
            });
            let name = if contestant.name.starts_with(BARE) {
                format!("*{} (in all)*", contestant.name)
            } else {
                contestant.name.clone()
            };
            println!(
                "| {name} | {} | {} | {} | {} |",
                time.map_or("-".into(), |time| format!("{:.1}", time.median)),
                time.map_or("-".into(), |time| format!("{:.1} to {:.1}", time.low, time.high)),
                added(&figures.instructions).map_or("-".into(), |figure| format!("{figure:.0}")),
                added(&figures.allocations).map_or("-".into(), |figure| format!("{figure:.2}")),
            );
        }
    }
}

fn refused(group: &str) -> bool {
    group == crate::contestants::OPEN || group == crate::contestants::FULL
}

/// The bare service on the same types: the last one before the contestant in its group.
fn bare_of(contestants: &[Contestant], contestant: &Contestant) -> Option<usize> {
    let at = contestants.iter().position(|c| c.id() == contestant.id())?;
    (0..=at).rev().find(|i| contestants[*i].group == contestant.group && contestants[*i].name.starts_with(BARE))
}

pub fn shared(contestants: &[Shared], rounds: &[Vec<Rate>]) {
    for group in throughput::GROUPS {
        println!("\n### {group}\n");
        println!("| | million calls/s by CPU time | half of the rounds | by the wall |");
        println!("|---|---:|---:|---:|");
        for (contestant, rounds) in contestants.iter().zip(rounds).filter(|(c, _)| c.group == group) {
            let cpu = by_cpu(rounds);
            let wall = spread(&rounds.iter().map(|rate| rate.wall).collect::<Vec<_>>());
            println!(
                "| {} | {:.2} | {:.2} to {:.2} | {:.2} |",
                contestant.name,
                cpu.median / 1e6,
                cpu.low / 1e6,
                cpu.high / 1e6,
                wall.median / 1e6
            );
        }
    }
    println!("\n### Ratios of calls per second (at least 1 is wanted)\n");
    println!("| | by CPU time |");
    println!("|---|---:|");
    for (group, rival) in [(throughput::BREAKER, "recloser"), (throughput::BULKHEAD, "tower's ConcurrencyLimit")] {
        for rival in [rival.to_owned(), format!("{rival}{ON_LLM}")] {
            let rate = |name: &str| {
                let at = contestants.iter().position(|c| c.group == group && c.name == name)?;
                Some(by_cpu(&rounds[at]).median)
            };
            if let (Some(ours), Some(theirs)) = (rate(throughput::OURS), rate(&rival)) {
                println!("| {group}: steadfast / {rival} | {:.2} |", ours / theirs);
            }
        }
    }
}

fn by_cpu(rounds: &[Rate]) -> Spread {
    spread(&rounds.iter().map(|rate| rate.cpu).collect::<Vec<_>>())
}

/// What the tables come to: our five against theirs.
pub fn ratios(contestants: &[Contestant], figures: &Figures) {
    println!("\n### Ratios of what is added (less is better)\n");
    println!("| steadfast's five / | CPU time | instructions |");
    println!("|---|---:|---:|");
    for group in [READY, PENDING] {
        for rival in ["tower-resilience's five", "tower's three"] {
            for rival in [rival.to_owned(), format!("{rival}{ON_LLM}")] {
                let find = |name: &str| contestants.iter().position(|c| c.group == group && c.name == name);
                let (Some(ours), Some(theirs)) = (find(OURS), find(&rival)) else { continue };
                let base = |at: usize| bare_of(contestants, &contestants[at]);
                let (Some(our_base), Some(their_base)) = (base(ours), base(theirs)) else { continue };
                let ratio = |of: &[f64]| (of[ours] - of[our_base]) / (of[theirs] - of[their_base]);
                let medians: Vec<f64> = figures.times.iter().map(|rounds| spread(rounds).median).collect();
                let shown = |of: &[f64]| if of.is_empty() { "-".to_owned() } else { format!("{:.3}", ratio(of)) };
                println!("| {rival}, {group} | {} | {} |", shown(&medians), shown(&figures.instructions));
            }
        }
    }
}

/// What it costs to watch: each in all against the five alone, the subscribers' time included (at most 2 is wanted).
pub fn watched(contestants: &[Contestant], figures: &Figures) {
    let group = || contestants.iter().enumerate().filter(|(_, contestant)| contestant.group == OBSERVED);
    let Some((alone, _)) = group().next() else { return };
    println!("\n### Ratios of all that is done (at most 2 is wanted)\n");
    println!("| / {} | CPU time | half of the rounds | instructions |", contestants[alone].name);
    println!("|---|---:|---:|---:|");
    for (at, contestant) in group().skip(1) {
        let time = figures.times.get(at).map(|rounds| {
            let ratios: Rounds = rounds.iter().zip(&figures.times[alone]).map(|(all, alone)| all / alone).collect();
            spread(&ratios)
        });
        let instructions = figures.instructions.get(at).map(|all| all / figures.instructions[alone]);
        println!(
            "| {} | {} | {} | {} |",
            contestant.name,
            time.map_or("-".into(), |time| format!("{:.2}", time.median)),
            time.map_or("-".into(), |time| format!("{:.2} to {:.2}", time.low, time.high)),
            instructions.map_or("-".into(), |ratio| format!("{ratio:.2}")),
        );
    }
}
