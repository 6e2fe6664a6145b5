//! The tables of the trials.

use std::fmt::Write as _;

use super::{MB, missing, short};
use crate::{
    contestants::DIRECT,
    measure::Row,
    trials::{LIMITS, ends::End, faults::Fault, paced},
};

/// All of them; nothing where nothing was measured.
pub(super) fn tables(rows: &[Row]) -> String {
    [open(rows), memory(rows), paced(rows), faults(rows), cores(rows)].concat()
}

/// A head, the lines of those that have any, and those that are missing; nothing without lines.
fn table(rows: &[Row], head: &str, line: impl Fn(&Row) -> Option<String>) -> String {
    let lines: Vec<String> = rows.iter().filter_map(&line).collect();
    if lines.is_empty() {
        return String::new();
    }
    let columns = head.lines().next_back().map_or(1, |line| line.matches('|').count() - 1);
    let mut text = format!("\n{head}\n{}", lines.concat());
    let without = |row: &Row| row.contestant.is_tried() && line(row).is_none();
    text.push_str(&missing(rows, columns, without));
    // One that starts, but did not come to this table's measurement.
    for row in rows.iter().filter(|row| without(row) && row.missing().is_none()) {
        if let Some(problem) = row.trials.problems.first() {
            let _ = writeln!(text, "| {} | {}{}", row.contestant.name, short(problem), " |".repeat(columns - 1));
        }
    }
    text
}

fn open(rows: &[Row]) -> String {
    let head = "### Requests a second that arrive at random and are served in time\n\n\
         The highest rate that was seen to keep the p99 within the limit, from each request's arrival.\n\n\
         | | p99 ≤ 1 ms | p99 ≤ 5 ms | p99 ≤ 10 ms |\n|---|---:|---:|---:|";
    table(rows, head, |row| {
        let open = row.trials.open.as_ref()?;
        let rate = |limit: f64| {
            let at = LIMITS.iter().position(|one| *one == limit)?;
            open.sustained.get(at).copied().flatten()
        };
        let rate = |limit| rate(limit).map_or("none".to_owned(), |rate| format!("{rate:.0}"));
        Some(format!("| {} | {} | {} | {} |\n", row.contestant.name, rate(1.0), rate(5.0), rate(10.0)))
    })
}

fn memory(rows: &[Row]) -> String {
    let head = "### Memory, MB resident\n\n| | at rest | with 128 callers, at most | 5 s later |\n|---|---:|---:|---:|";
    table(rows, head, |row| {
        let memory = row.trials.memory?;
        let [idle, loaded, recovered] = [memory.idle, memory.loaded, memory.recovered].map(|bytes| bytes as f64 / MB);
        Some(format!("| {} | {idle:.1} | {loaded:.1} | {recovered:.1} |\n", row.contestant.name))
    })
}

fn paced(rows: &[Row]) -> String {
    let head = format!(
        "### {} streams at once of 64 pieces, 20 ms apart\n\n\
         Of *direct* the times themselves, of the others what they add to them, in ms.\n\n\
         | | first piece: p50 | p99 | longest gap: p50 | p99 | failed |\n|---|---:|---:|---:|---:|---:|",
        paced::AT_ONCE
    );
    let direct = rows.iter().find(|row| row.contestant.name == DIRECT).and_then(|row| row.trials.paced);
    table(rows, &head, |row| {
        let own = row.trials.paced?;
        let over =
            if row.contestant.name == DIRECT { paced::PacedStreams::default() } else { direct.unwrap_or_default() };
        let name = row.contestant.name;
        if own.streams == 0 {
            return Some(format!("| {name} | - | - | - | - | {} of {} |\n", own.failed, own.failed));
        }
        Some(format!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {} |\n",
            own.first_p50 - over.first_p50,
            own.first_p99 - over.first_p99,
            own.gap_p50 - over.gap_p50,
            own.gap_p99 - over.gap_p99,
            if own.failed > 0 { format!("{} of {}", own.failed, own.failed + own.streams) } else { "-".to_owned() },
        ))
    })
}

/// The ends that callers saw, with a table for each fault.
fn faults(rows: &[Row]) -> String {
    let mut text = String::new();
    for fault in Fault::ALL {
        let names: String = End::ALL.iter().map(|end| format!(" {} |", end.name())).collect();
        let head = format!(
            "### The first provider {}\n\n| |{names} p50 s | at most s | asked the second |\n|---|{}",
            fault.name(),
            "---:|".repeat(End::ALL.len() + 3),
        );
        text.push_str(&table(rows, &head, |row| {
            let seen = row.trials.faults.iter().find(|seen| seen.fault == fault)?;
            let counts: String = seen
                .ends
                .iter()
                .map(|count| if *count > 0 { format!(" {count} |") } else { " - |".to_owned() })
                .collect();
            let name = row.contestant.name;
            Some(format!("| {name} |{counts} {:.2} | {:.2} | {} |\n", seen.p50, seen.most, seen.second))
        }));
    }
    text
}

fn cores(rows: &[Row]) -> String {
    let Some(any) = rows.iter().find_map(|row| row.trials.cores) else { return String::new() };
    let how = if any.is_apart() {
        "\"Times\" is by requests a second; the load and the provider have a core each besides."
    } else {
        "**The load and the provider share these two cores**, so that \"times\" is by requests for a second of CPU time; with \
         four cores it is by requests a second."
    };
    let mut text = format!(
        "\n### Two cores with two workers beside one with one, 64 connections\n\n{how}\n\n\
         | | one: requests/s | CPU µs/request | two: requests/s | CPU µs/request | times |\n|---|---:|---:|---:|---:|---:|\n"
    );
    for row in rows {
        let Some(cores) = row.trials.cores else { continue };
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.0} | {:.1} | {:.2} |",
            row.contestant.name,
            cores.one.per_second,
            cores.one.cpu,
            cores.two.per_second,
            cores.two.cpu,
            cores.scale(),
        );
    }
    text
}
