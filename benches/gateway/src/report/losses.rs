//! The figures in which another does better, the worst first.

use std::fmt::Write as _;

use crate::{
    contestants::STEADFAST,
    dialect::Mode,
    load::Shape,
    measure::{Cell, Row},
    trials::{LIMITS, ends::End},
};

/// One figure of a contestant, with its name.
struct Figure {
    what: String,
    value: f64,
    more_is_better: bool,
}

/// The table; nothing where no other does better.
pub(super) fn table(rows: &[Row]) -> String {
    let Some(own) = rows.iter().find(|row| row.contestant.name == STEADFAST) else { return String::new() };
    let ours = figures(own);
    let mut losses: Vec<(f64, String)> = Vec::new();
    let others = rows.iter().filter(|row| row.contestant.is_gateway() && row.contestant.is_tried());
    for row in others.filter(|row| row.contestant.name != STEADFAST) {
        for theirs in figures(row) {
            let Some(ours) = ours.iter().find(|figure| figure.what == theirs.what) else { continue };
            let times = if theirs.more_is_better { theirs.value / ours.value } else { ours.value / theirs.value };
            if times.is_nan() || times < MATTERS {
                continue;
            }
            let times = if times.is_finite() { times } else { f64::INFINITY };
            let shown = if times.is_finite() { format!("{times:.2}") } else { "-".to_owned() };
            let name = row.contestant.name;
            losses.push((
                times,
                format!("| {} | {name} | {} | {} | {shown} |\n", theirs.what, number(ours.value), number(theirs.value)),
            ));
        }
    }
    if losses.is_empty() {
        return String::new();
    }
    losses.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut text = String::from(
        "\n### Where another does better, the worst first\n\n| | who | steadfast | theirs | times |\n|---|---|---:|---:|---:|\n",
    );
    for (_, line) in losses {
        let _ = write!(text, "{line}");
    }
    text
}

/// Less is the noise of a run.
const MATTERS: f64 = 1.05;

fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// All that is compared. What failed is not: who refuses is quick.
fn figures(row: &Row) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |what: String, value: f64, more_is_better| figures.push(Figure { what, value, more_is_better });
    for (mode, down) in
        [(Mode::Plain, false), (Mode::Stream, false), (Mode::Picture, false), (Mode::Plain, true), (Mode::Stream, true)]
    {
        for connections in [1, 16, 128] {
            let cell = Cell { shape: Shape { mode, connections, fresh: false }, down };
            let Some(median) = row.median(cell).filter(|median| median.failed < 0.01 && median.per_second > 0.0) else {
                continue;
            };
            let name = cell.name();
            add(format!("requests/s, {name}"), median.per_second, true);
            add(format!("p99 ms, {name}"), median.p99, false);
            add(format!("CPU µs for each request, {name}"), median.cpu, false);
        }
    }
    let megabytes = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    if let Some(memory) = row.trials.memory {
        add("MB at rest".to_owned(), megabytes(memory.idle), false);
        add("MB with 128 callers".to_owned(), megabytes(memory.loaded), false);
        add("MB after them".to_owned(), megabytes(memory.recovered), false);
    }
    for (limit, rate) in LIMITS.iter().zip(row.trials.open.iter().flat_map(|open| &open.sustained)) {
        add(format!("requests/s at random with a p99 within {limit} ms"), rate.unwrap_or_default(), true);
    }
    if let Some(paced) = row.trials.paced.filter(|paced| paced.failed == 0) {
        add("ms to the first piece of a paced stream, p99".to_owned(), paced.first_p99, false);
        add("ms of the longest gap of a paced stream, p99".to_owned(), paced.gap_p99, false);
    }
    for seen in &row.trials.faults {
        let whole = seen.ends[End::Whole as usize];
        let name = seen.fault.name();
        add(format!("whole answers while the first provider {name}"), whole as f64, true);
    }
    figures
}
