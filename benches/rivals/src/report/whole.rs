//! `benches/REPORT.md`: what is lost first, then all tables.

use std::fmt::Write as _;

use super::{Section, findings};
use crate::measure::Effort;

const BEGINS: &str = "# Report of the benchmarks

Written by one command, from the repository's root; [BENCHMARKS.md](../BENCHMARKS.md) says how to read it:

```sh
cargo run --release --features liter-llm --manifest-path benches/rivals/Cargo.toml -- report
```

The commands below run in `benches/rivals` where they name no other.

";

/// `failed` is what could not be measured.
pub fn text(machine: &str, effort: Effort, sections: &[Section], failed: &[String]) -> String {
    let mut text = BEGINS.to_owned();
    if effort == Effort::Quick {
        text.push_str("**This was a quick run, to see that it runs: its times are worth little, and no instructions were counted.**\n\n");
    }
    text.push_str(machine);
    for what in failed {
        let _ = writeln!(text, "- **Not measured: {}**", what.replace('\n', " "));
    }
    text.push('\n');
    let all: Vec<_> = sections.iter().flat_map(|section| section.findings.clone()).collect();
    text.push_str(&findings::summary(&all));
    for section in sections {
        let _ = write!(text, "\n## {}\n\nAgain: `{}`\n", section.title, section.repeat);
        let body = section.text.trim_matches('\n');
        let _ = write!(text, "\n{body}\n");
    }
    text
}
