//! A simulated world whose oracle knows when a provider is sick, and two rules that have to find out.
//!
//! Each run is one trouble of one kind, at one load, from one seed: either the provider is sick (it answers with
//! errors, or not at all), or it is well and something else is not: one connection ends, a moment of errors, this
//! machine's network, one caller's prompts. A rule is measured by two figures: how long the sick is not noticed, and
//! how long the well is shut out. [`former`] has the rule of before: five failed calls in a row, one look a minute.

mod former;
mod world;

use std::{fmt::Write as _, time::Duration};

use self::world::{Figures, Load, Rule, Trouble, measure};

/// Requests a second, callers, and runs for each trouble.
const LOADS: [Load; 6] = [
    Load { rate: 0.1, callers: 1, runs: 6, longest: 3_000 },
    Load { rate: 0.1, callers: 10, runs: 6, longest: 3_000 },
    Load { rate: 1.0, callers: 3, runs: 4, longest: 3_000 },
    Load { rate: 10.0, callers: 1, runs: 3, longest: 3_000 },
    Load { rate: 10.0, callers: 100, runs: 3, longest: 3_000 },
    Load { rate: 200.0, callers: 1_000, runs: 1, longest: 3_000 },
];

/// A provider that fails many at once shows five facts only after four moments of 60 ms, of calls that began after the
/// first was known, 200 ms before: what it costs to tell a moment's trouble from a lasting one.
const MOMENTS: Duration = Duration::from_millis(4 * 60 + 200);

#[test]
fn the_well_are_shut_out_a_tenth_as_long_and_the_sick_are_noticed_as_soon() {
    let mut table = String::from("load, callers, trouble: shut out s, before -> now; unnoticed s; calls to the sick\n");
    let (mut before, mut now) = (Figures::default(), Figures::default());
    let mut late = Vec::new();
    for load in LOADS {
        for trouble in Trouble::ALL {
            let old = measure(Rule::Former, load, trouble);
            let new = measure(Rule::Causes, load, trouble);
            let line = format!(
                "{:>5}/s {:>4} {trouble:?}: {:.1} -> {:.1}; {:.2} -> {:.2}; {} -> {}",
                load.rate, load.callers, old.shut_out, new.shut_out, old.unnoticed, new.unnoticed, old.dead, new.dead
            );
            if trouble.is_sickness() && new.unnoticed > 1.2 * old.unnoticed + MOMENTS.as_secs_f64() {
                late.push(line.clone());
            }
            writeln!(table, "{line}").expect("a string");
            before += old;
            now += new;
        }
    }
    writeln!(table, "all: {before:?}\n  -> {now:?}").expect("a string");
    println!("{table}");
    assert!(late.is_empty(), "noticed too late:\n{}\n{table}", late.join("\n"));
    assert!(now.unnoticed <= 1.2 * before.unnoticed, "{table}");
    assert!(10.0 * now.shut_out <= before.shut_out, "{table}");
}

/// The outages of `BENCHMARKS.md`: two requests a second for some minutes, and healthy answers take half a second.
#[test]
fn service_is_back_within_seconds_of_a_provider_that_failed_for_minutes() {
    let load = Load { rate: 2.0, callers: 10, runs: 40, longest: 500 };
    for (trouble, most) in [(Trouble::Errors, 5.0), (Trouble::Silence, 14.0)] {
        let mean = |rule| measure(rule, load, trouble).recovery / load.runs as f64;
        let (former, now) = (mean(Rule::Former), mean(Rule::Causes));
        println!("{trouble:?}: back after {former:.1} s before, {now:.1} s now, in the mean of {}", load.runs);
        assert!(now <= most, "{trouble:?}: {now}");
    }
}
