//! The callers' view while a provider is down.

use std::fmt::Write as _;

use super::{Finding, Section};
use crate::outage::{Came, Fault, OURS, SCALE};

pub fn section(outages: &[(Fault, Vec<Came>)]) -> Section {
    let mut section = Section {
        title: "In an outage".to_owned(),
        repeat: "cargo run --release --features liter-llm -- outage".to_owned(),
        text: format!(
            "Two requests a second; the primary is down for five minutes to more than six, in five runs, and then well \
             again, the backup is well. A healthy answer takes 0.5 s, an error 0.2 s; attempts have 30 s, circuits \
             open with five failures (seatbelt: with a tenth of at least five calls) and stay open for 60 s \
             (steadfast: for 1, 2, 4 and then 8 s, or for twice what a call waited in vain). It runs {SCALE} times \
             as fast, so that a hundredth of a second is what can be told apart. Dead attempts are those at the \
             primary while it was down; added is to the latency of requests that began in the outage; recovery is \
             from its end to the last request that the primary did not answer.\n"
        ),
        ..Section::default()
    };
    for (fault, came) in outages {
        let what = match fault {
            Fault::Errors => "errors",
            Fault::Silence => "silence",
        };
        let text = &mut section.text;
        let _ = writeln!(
            text,
            "\n### The primary answers with {what}\n\n| | requests | lost | dead attempts | added p50 s | added p99 s | recovery s, mean | longest |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|"
        );
        for one in came {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.0} | {:.1} | {:.1} | {} |",
                one.who,
                one.requests,
                one.lost,
                one.dead,
                one.added_p50,
                one.added_p99,
                one.recovery.map_or("never | -".to_owned(), |(mean, most)| format!("{mean:.0} | {most:.0}")),
            );
        }
        let Some(ours) = came.iter().find(|one| one.who == OURS) else { continue };
        section.findings.push(Finding::at_most(format!("outage of {what}: requests lost"), ours.lost as f64, 0.0));
        for rival in came.iter().filter(|one| one.who != OURS) {
            let mut add = |what_of: &str, unit: &str, ours: f64, theirs: f64| {
                section.findings.push(Finding::cost(
                    format!("outage of {what}: {what_of}"),
                    rival.who,
                    unit,
                    ours,
                    theirs,
                ));
            };
            add("dead attempts", "", ours.dead, rival.dead);
            // A time below a tenth of a second is the machine's timers.
            add("added p50", "s", (ours.added_p50 - 0.2).max(0.0), rival.added_p50.max(0.1));
            add("added p99", "s", (ours.added_p99 - 0.2).max(0.0), rival.added_p99.max(0.1));
            if let (Some((ours, _)), Some((theirs, _))) = (ours.recovery, rival.recovery) {
                add("recovery, mean", "s", ours, theirs.max(0.5));
            }
        }
    }
    section
}
