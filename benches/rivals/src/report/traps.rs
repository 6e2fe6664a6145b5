//! Mistakes that libraries like this one make.

use std::fmt::Write as _;

use super::{Finding, Section};
use crate::traps::{Found, OURS};

pub fn section(found: &[Found]) -> Section {
    let mut section = Section {
        title: "Traps".to_owned(),
        repeat: "cargo run --release --features liter-llm -- traps [TRAP]".to_owned(),
        text: "Mistakes that were found in libraries of this kind, as small programs, each run against all that it applies to. Each \
               row is a sentence that is true of who passes; a program that panics or hangs has failed. `-- trap TRAP WHO` runs one.\n\n"
            .to_owned(),
        ..Section::default()
    };
    let mut who: Vec<&str> = Vec::new();
    for (name, _) in found.iter().flat_map(|trap| &trap.verdicts) {
        if !who.contains(name) {
            who.push(name);
        }
    }
    who.sort_by_key(|name| (*name != OURS, *name));
    let text = &mut section.text;
    let _ = writeln!(text, "| | trap | {} |\n|---|---|{}", who.join(" | "), "---|".repeat(who.len()));
    for trap in found {
        let _ = write!(text, "| {} | `{}` |", trap.says, trap.id);
        for name in &who {
            let verdict = trap.verdicts.iter().find(|(of, _)| of == name).map(|(_, verdict)| verdict.passes);
            let _ = write!(text, " {} |", verdict.map_or("", |passes| if passes { "passes" } else { "**fails**" }));
        }
        text.push('\n');
    }
    text.push_str("\nWhat was seen:\n\n| trap | who | |\n|---|---|---|\n");
    for trap in found {
        for (name, verdict) in &trap.verdicts {
            let verb = if verdict.passes { "passes" } else { "**fails**" };
            let _ = writeln!(text, "| `{}` | {name} | {verb}: {} |", trap.id, verdict.seen);
        }
    }
    for trap in found {
        for (_, verdict) in trap.verdicts.iter().filter(|(name, _)| *name == OURS) {
            section.findings.push(Finding::Aim {
                what: format!("trap: {}", trap.says),
                measured: if verdict.passes { "passes" } else { "fails" }.to_owned(),
                wanted: "passes".to_owned(),
                met: verdict.passes,
            });
        }
    }
    section
}
