//! The tables, in Markdown.

use std::fmt::Write as _;

use crate::{
    contestants::NGINX,
    dialect::Mode,
    load::Shape,
    measure::{CONNECTIONS, Cell, Figures, Row},
    result::Measured,
    soak::Soak,
    targets::{self, Aim},
};

const MB: f64 = 1024.0 * 1024.0;

/// Everything, in Markdown.
pub fn markdown(result: &Measured) -> String {
    let (rows, soak) = (&result.rows[..], result.soak.as_ref());
    let mut text = format!("{}\n\n{}\n", result.how, result.machine);
    text.push_str(&aims(rows, soak));
    for mode in [Mode::Plain, Mode::Stream] {
        for down in [false, true] {
            text.push_str(&table(rows, mode, down));
        }
    }
    text.push_str(&kept_and_new(rows));
    if let Some(soak) = soak {
        text.push_str(&of_soak(soak));
    }
    text.push_str("\n### Who\n\n");
    for row in rows {
        let version = if row.version.is_empty() { String::new() } else { format!(" ({})", row.version) };
        let _ = match &row.absent {
            Some(why) => writeln!(text, "- {}: absent: {why}", row.contestant.name),
            None => writeln!(text, "- {}{version}: {}", row.contestant.name, row.contestant.what),
        };
        if let Some(failure) = &row.failure {
            let _ = writeln!(text, "  - its first failure: {failure}");
        }
    }
    text
}

/// Returns the table of aims, the lost first.
fn aims(rows: &[Row], soak: Option<&Soak>) -> String {
    let targets = targets::of(rows, soak);
    if targets.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("\n### Aims, those that are missed first\n\n| | measured | aim | |\n|---|---:|---:|---|\n");
    for target in targets {
        let aim = match target.aim {
            Aim::AtLeast(aim) => format!("≥ {aim}"),
            Aim::AtMost(aim) => format!("≤ {aim}"),
        };
        let reached = if target.is_reached() { "reached" } else { "**missed**" };
        let _ = writeln!(text, "| {} | {:.2} | {aim} | {reached} |", target.what, target.measured);
    }
    text
}

fn table(rows: &[Row], mode: Mode, down: bool) -> String {
    let state = if down { "the first provider down" } else { "both providers up" };
    let mut text = format!(
        "\n### {}, {state}\n\n| | connections | requests/s | / nginx | p50 ms | p99 ms | CPU µs/request | / nginx | peak MB | failed | asked the first provider |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        match mode {
            Mode::Plain => "Whole answers",
            Mode::Stream => "Streams of 64 pieces",
        }
    );
    let mut any = false;
    for connections in CONNECTIONS {
        let cell = Cell { shape: Shape { mode, connections, fresh: false }, down };
        let nginx = rows.iter().find(|row| row.contestant.name == NGINX).and_then(|row| row.median(cell));
        for row in rows {
            let Some(figures) = row.median(cell) else { continue };
            any = true;
            let ratio = |of: fn(&Figures) -> f64| {
                let ratio =
                    nginx.map(|nginx| of(&figures) / of(&nginx)).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let shown = |value: f64, text: String| if value > 0.0 { text } else { "-".to_owned() };
            let _ = writeln!(
                text,
                "| {} | {connections} | {:.0} | {} | {:.3} | {:.3} | {} | {} | {} | {} | {:.0}% |",
                row.contestant.name,
                figures.per_second,
                ratio(|f| f.per_second),
                figures.p50,
                figures.p99,
                shown(figures.cpu, format!("{:.1}", figures.cpu)),
                ratio(|f| f.cpu),
                shown(figures.peak, format!("{:.1}", figures.peak / MB)),
                shown(figures.failed, format!("{:.1}%", figures.failed * 100.0)),
                figures.asked * 100.0,
            );
        }
    }
    if any { text } else { String::new() }
}

/// A stream that waits for a delayed acknowledgement shows here: 40 ms more on a connection that is kept.
fn kept_and_new(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n### A stream on a connection that is kept, and on a new one\n\n| | kept: p50 ms | p99 ms | new: p50 ms | p99 ms |\n|---|---:|---:|---:|---:|\n",
    );
    let kept = Cell { shape: Shape { fresh: false, ..Cell::FRESH.shape }, down: false };
    let mut any = false;
    for row in rows {
        if let (Some(kept), Some(new)) = (row.median(kept), row.median(Cell::FRESH)) {
            any = true;
            let name = row.contestant.name;
            let _ = writeln!(text, "| {name} | {:.3} | {:.3} | {:.3} | {:.3} |", kept.p50, kept.p99, new.p50, new.p99);
        }
    }
    if any { text } else { String::new() }
}

pub fn of_soak(soak: &Soak) -> String {
    let mut text = format!(
        "\n### Soak: 16 callers of whole answers and 16 of streams, for {:.0} s\n\n{} requests, {} failed. Memory \
         in the second half grew by {:.1} MB/h.\n\n| after s | MB resident | files open |\n|---:|---:|---:|\n",
        soak.length(),
        soak.requests,
        soak.failures,
        soak.slope() / MB
    );
    let step = (soak.samples.len() / 10).max(1);
    for sample in soak.samples.iter().step_by(step) {
        let files = if sample.open_files > 0 { sample.open_files.to_string() } else { "-".to_owned() };
        let _ = writeln!(text, "| {:.0} | {:.1} | {files} |", sample.at, sample.bytes as f64 / MB);
    }
    text
}
