//! Whole stacks under random faults, in virtual time, from seeds.
//!
//! Each seed is a stack (tiers, settings, policies; from a file or made by hand), providers that fail in their ways for
//! some minutes, callers who ask, wait, read and leave, and an operator who interferes. First everything goes wrong
//! that may (safety: what must hold for every request), then nothing any longer (liveness: the stack must come back by
//! itself).
//!
//! The same seed is the same run, to the byte of its event log. How to use it:
//!
//! ```text
//! cargo test --test incidents simulation                                     # some seeds
//! STEADFAST_SEEDS=10000 cargo test --release --test incidents simulation     # many
//! STEADFAST_SEED=1234 cargo test --test incidents simulation -- --nocapture  # one, that failed
//! STEADFAST_SEED=1234 STEADFAST_LOG=log.txt cargo test ..          # with its whole event log
//! ```

mod books;
mod by_hand;
mod caller;
mod draw;
mod faults;
mod invariants;
mod operations;
mod opinions;
mod plan;
mod provider;
mod recovery;
mod retries;
mod run;
mod steps;
mod traffic;
mod world;

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    panic::catch_unwind,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use tokio::time::Instant;

use self::run::{Report, simulate};

/// A number that takes some seconds without optimisation.
const SEEDS: u64 = 24;
/// One seed in so many is run twice.
const TWICE: u64 = 8;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn no_request_is_lost_whatever_goes_wrong() {
    let one = number("STEADFAST_SEED");
    let first = one.or_else(|| number("STEADFAST_FIRST_SEED")).unwrap_or(0);
    let seeds = if one.is_some() { 1 } else { number("STEADFAST_SEEDS").unwrap_or(SEEDS) };
    let threads = thread::available_parallelism().map_or(2, usize::from).min(seeds as usize);
    let (begun, next) = (Instant::now(), AtomicU64::new(first));
    let work = || {
        let (mut failed, mut requests, mut calls) = (Vec::new(), 0, 0);
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + seeds {
                return (failed, requests, calls);
            }
            let report = catch_unwind(|| simulate(seed));
            let Ok(mut report) = report else {
                failed.push((seed, format!("seed {seed}: it panicked\n  {}\n", replay(seed))));
                continue;
            };
            (requests, calls) = (requests + report.requests, calls + report.calls);
            if one.is_some() || seed.is_multiple_of(TWICE) {
                report.violations.extend(not_the_same(&report.log, &simulate(seed).log).map(|wrong| (None, wrong)));
            }
            if let (Some(_), Ok(file)) = (one, env::var("STEADFAST_LOG")) {
                std::fs::write(file, &report.log).expect("the event log is written");
            }
            if !report.violations.is_empty() {
                failed.push((seed, story(&report)));
            }
        }
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).collect()
    });
    let (requests, calls) =
        done.iter().fold((0, 0), |(asked, called), (_, more, calls)| (asked + more, called + calls));
    let mut failed: Vec<(u64, String)> = done.into_iter().flat_map(|(failed, ..)| failed).collect();
    failed.sort();
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {took:.1} s ({:.1} a second), {requests} requests, {calls} calls to providers",
        seeds as f64 / took
    );
    let stories: String = failed.iter().take(10).map(|(_, story)| story.as_str()).collect();
    let which: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {which:?}\n{stories}", failed.len());
}

/// The first line in which two event logs differ.
fn not_the_same(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let (mut one, mut other) = (one.lines(), other.lines());
    loop {
        match (one.next(), other.next()) {
            (a, b) if a != b => return Some(format!("run twice, the event logs differ: {a:?}, {b:?}")),
            (None, None) => return Some("run twice, the event logs differ in their ends of lines".to_owned()),
            _ => {}
        }
    }
}

/// Returns the story of the wronged requests, and the command that shows it again.
fn story(report: &Report) -> String {
    let Report { seed, log, violations, .. } = report;
    let mut story = format!("seed {seed}:\n");
    for (request, what) in violations.iter().take(8) {
        let _ = writeln!(story, "  {}{what}", request.map(|id| format!("request r{id}: ")).unwrap_or_default());
    }
    if violations.len() > 8 {
        let _ = writeln!(story, "  and {} more", violations.len() - 8);
    }
    let wronged: BTreeSet<usize> = violations.iter().filter_map(|(request, _)| *request).take(3).collect();
    for id in wronged {
        let _ = writeln!(story, "  what happened to r{id}:");
        let name = format!("r{id}");
        for line in log.lines().filter(|line| line.split_whitespace().nth(1) == Some(&name)) {
            let _ = writeln!(story, "    {line}");
        }
    }
    let _ = writeln!(story, "  {}", replay(*seed));
    story
}

/// One command that runs it again.
fn replay(seed: u64) -> String {
    format!("STEADFAST_SEED={seed} STEADFAST_LOG=simulation.log cargo test --test incidents simulation -- --nocapture")
}
