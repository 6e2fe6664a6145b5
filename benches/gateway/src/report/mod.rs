//! The tables, in Markdown.

mod cells;
mod losses;
mod trials;

use std::fmt::Write as _;

use crate::{
    dialect::Mode,
    measure::Row,
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
    text.push_str(&losses::table(rows));
    for mode in [Mode::Plain, Mode::Stream] {
        for down in [false, true] {
            text.push_str(&cells::table(rows, mode, down));
        }
    }
    text.push_str(&cells::added(rows));
    text.push_str(&cells::pictures(rows));
    text.push_str(&cells::translated(rows));
    text.push_str(&cells::kept_and_new(rows));
    text.push_str(&trials::tables(rows));
    if let Some(soak) = soak {
        text.push_str(&of_soak(soak));
    }
    text.push_str("\n### Who\n\n");
    for row in rows {
        let version = if row.version.is_empty() { String::new() } else { format!(" ({})", row.version) };
        let _ = match &row.absent {
            Some(why) => writeln!(text, "- {}: absent: {}", row.contestant.name, one_line(why)),
            None => writeln!(text, "- {}{version}: {}", row.contestant.name, row.contestant.what),
        };
        if let Some(failure) = &row.failure {
            let _ = writeln!(text, "  - its first failure: {}", one_line(failure));
        }
        if let Some(died) = &row.died {
            let _ = writeln!(text, "  - it ended by itself: {}", one_line(died));
        }
        for problem in &row.trials.problems {
            let _ = writeln!(text, "  - not measured: {}", one_line(problem));
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

/// A row that says why a contestant has no figures in a table of so many columns, for each that has none.
fn missing(rows: &[Row], columns: usize, belongs: impl Fn(&Row) -> bool) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| belongs(row)) {
        if let Some(why) = row.missing() {
            let _ = writeln!(text, "| {} | {}{}", row.contestant.name, short(&why), " |".repeat(columns - 1));
        }
    }
    text
}

/// The begin of a reason, which the list of contestants has in full, as one cell.
fn short(why: &str) -> String {
    let line: String = why.chars().map(|char| if char.is_control() || char == '|' { ' ' } else { char }).collect();
    match line.char_indices().nth(90) {
        Some((end, _)) => format!("{} ..", line[..end].trim_end()),
        None => line,
    }
}

/// A text of others without what would end the line or colour it.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// A figure, or a dash where there is none.
fn shown(value: f64, text: String) -> String {
    if value > 0.0 { text } else { "-".to_owned() }
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
