//! The tables, in markdown.

use crate::{
    contestants::{BARE, Contestant, GROUPS},
    throughput::{self, Shared},
    timing::{Rounds, minus, spread},
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
        for (at, contestant) in contestants
            .iter()
            .enumerate()
            .filter(|(_, c)| c.group == group)
        {
            // A refusal never reaches the bare service, so that there it is no cost to take off, only a yardstick.
            let base = if refused(group) {
                None
            } else {
                bare_of(contestants, contestant)
            };
            let base = base.filter(|base| *base != at);
            let added = |of: &[f64]| {
                of.get(at)
                    .map(|figure| figure - base.map_or(0.0, |base| of[base]))
            };
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
                time.map_or("-".into(), |time| format!(
                    "{:.1} to {:.1}",
                    time.low, time.high
                )),
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
    (0..=at).rev().find(|i| {
        contestants[*i].group == contestant.group && contestants[*i].name.starts_with(BARE)
    })
}

pub fn shared(contestants: &[Shared], rounds: &[Rounds]) {
    for group in throughput::GROUPS {
        println!("\n### {group}\n");
        println!("| | million calls/s | half of the rounds |");
        println!("|---|---:|---:|");
        for (contestant, rounds) in contestants
            .iter()
            .zip(rounds)
            .filter(|(c, _)| c.group == group)
        {
            let rate = spread(rounds);
            println!(
                "| {} | {:.2} | {:.2} to {:.2} |",
                contestant.name,
                rate.median / 1e6,
                rate.low / 1e6,
                rate.high / 1e6
            );
        }
    }
}
