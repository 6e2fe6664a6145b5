//! Calls per second of one shared service.

use std::fmt::Write as _;

use super::{Finding, Section};
use crate::{
    contestants::{BARE, ON_LLM, OURS},
    measure::threads::{BREAKER, BULKHEAD, GROUPS, Row, TASKS},
};

pub fn section(rows: &[Row]) -> Section {
    let mut section = Section {
        title: "Calls per second, with one thread and with two".to_owned(),
        repeat: "cargo run --release --features liter-llm -- threads".to_owned(),
        text: format!(
            "{TASKS} tasks share one service. By CPU time is what the wall would show if the machine did nothing else. Whoever \
             keeps something that all calls write to loses by a second thread.\n"
        ),
        ..Section::default()
    };
    for group in GROUPS {
        let text = &mut section.text;
        let _ = writeln!(
            text,
            "\n### {group}\n\n| | 1 thread: million calls/s by CPU time | by the wall | 2 threads: by CPU time | by the wall | \
             2 threads / 1, by CPU time |\n|---|---:|---:|---:|---:|---:|"
        );
        let within = || rows.iter().filter(move |row| row.group == group);
        for row in within() {
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                row.name,
                row.by_cpu[0] / 1e6,
                row.by_wall[0] / 1e6,
                row.by_cpu[1] / 1e6,
                row.by_wall[1] / 1e6,
                row.by_cpu[1] / row.by_cpu[0]
            );
        }
        let Some(ours) = within().find(|row| row.name == OURS) else { continue };
        for rival in within().filter(|row| row.name != OURS && !row.name.starts_with(BARE)) {
            let (mine, theirs) = (ours.by_cpu[1] / 1e6, rival.by_cpu[1] / 1e6);
            let what = format!("{group}, 2 threads, calls per second");
            section.findings.push(Finding::rate(&what, &rival.name, "M/s", mine, theirs));
            let wanted = match group {
                BREAKER => format!("recloser{ON_LLM}"),
                BULKHEAD => format!("tower's ConcurrencyLimit{ON_LLM}"),
                _ => continue,
            };
            if rival.name == wanted {
                section.findings.push(Finding::at_least(format!("{what} / {wanted}'s"), mine / theirs, 1.0));
            }
        }
    }
    section
}
