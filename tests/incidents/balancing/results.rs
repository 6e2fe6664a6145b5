//! The seeds of a run, and the table of its results: the median over the seeds, the worst, and whose it is.

use std::{fmt::Write as _, future::Future, ops::Range};

use tokio::runtime::Builder;

/// The seeds of a plain run.
const SEEDS: u64 = 3;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: use a whole number")))
}

/// Returns the seeds of this run: `STEADFAST_SEED` alone, or the first `STEADFAST_SEEDS`.
pub(super) fn seeds() -> Range<u64> {
    match number("STEADFAST_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("STEADFAST_SEEDS").unwrap_or(SEEDS),
    }
}

/// Returns true for a run of the full size.
pub(super) fn is_full() -> bool {
    std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full")
}

/// Returns the seeds for the other balancers, which take most of the time and hold nothing: one in a plain run.
pub(super) fn rivals_seeds() -> Range<u64> {
    let all = seeds();
    if is_full() { all } else { all.start..all.start + 1 }
}

/// Runs a part of a simulation in virtual time of its own.
pub(super) fn simulate<F: Future>(part: F) -> F::Output {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(part)
}

/// A promise about a figure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn is_kept(self, value: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// The figures of one test.
pub(super) struct Results {
    title: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    bound: Bound,
    /// Each with its seed.
    values: Vec<(f64, u64)>,
}

impl Results {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, name: impl Into<String>, bound: Bound, seed: u64, value: f64) {
        let name = name.into();
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.push((value, seed)),
            None => self.rows.push(Row { name, bound, values: vec![(value, seed)] }),
        }
    }

    /// Prints the table, and fails if a figure of a seed breaks its promise.
    pub(super) fn judge(mut self) {
        let mut text = format!("\n{}\n| | median | worst | seed | bound |\n|---|---:|---:|---:|---|\n", self.title);
        let mut broken = Vec::new();
        for row in &mut self.rows {
            row.values.sort_by(|one, other| one.0.total_cmp(&other.0));
            let median = row.values[row.values.len() / 2].0;
            let (worst, bound) = match row.bound {
                Bound::AtLeast(least) => (row.values.first(), format!("≥ {least}")),
                Bound::AtMost(most) => (row.values.last(), format!("≤ {most}")),
                Bound::None => (row.values.last(), String::new()),
            };
            let (worst, seed) = worst.unwrap();
            writeln!(text, "| {} | {median:.3} | {worst:.3} | {seed} | {bound} |", row.name).unwrap();
            let breaks = row.values.iter().filter(|(value, _)| !row.bound.is_kept(*value));
            broken.extend(breaks.map(|(value, seed)| format!("{}: {value:.3} with STEADFAST_SEED={seed}", row.name)));
        }
        println!("{text}");
        assert!(broken.is_empty(), "{}: {broken:#?}", self.title);
    }
}
