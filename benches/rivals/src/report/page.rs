//! `BENCHMARKS.md`: the part of the report that users read first, between the words of its author.

use std::fmt::Write as _;

use super::{Finding, Section, findings};

const BEGIN: &str = "<!-- Written by benches/rivals, `report`: -->\n";
const END: &str = "<!-- Written by hand: -->\n";
/// The section whose aims are shown one by one, also where they are met.
const IN_FULL: &str = "What the stack promises, in numbers";

/// Returns a page with the figures of a run in the place of those that it has.
///
/// # Errors
///
/// The page has no place for them; the error says what marks it.
pub fn updated(page: &str, machine: &str, sections: &[Section]) -> Result<String, String> {
    let places = page.find(BEGIN).map(|at| at + BEGIN.len()).zip(page.find(END));
    let (begin, end) = places.filter(|(begin, end)| begin <= end).ok_or_else(|| format!("no {BEGIN} .. {END}"))?;
    Ok(format!("{}{}{}", &page[..begin], text(machine, sections), &page[end..]))
}

fn text(machine: &str, sections: &[Section]) -> String {
    let all: Vec<Finding> = sections.iter().flat_map(|section| section.findings.clone()).collect();
    let mut text = format!("{machine}\n## What we lose\n\n{}", findings::lost(&all, true));
    text.push_str("\n## What is met\n\n| part of the report | aims met |\n|---|---:|\n");
    for section in sections {
        let aims = || section.findings.iter().filter(|finding| finding.is_aim());
        if aims().count() > 0 {
            let met = aims().filter(|finding| !finding.is_lost()).count();
            let _ = writeln!(text, "| {} | {met} of {} |", section.title, aims().count());
        }
    }
    text.push_str("\n| | measured | aim |\n|---|---:|---:|\n");
    let promised = sections.iter().filter(|section| section.title == IN_FULL).flat_map(|section| &section.findings);
    findings::aims(&mut text, &promised.filter(|finding| !finding.is_lost()).collect::<Vec<_>>());
    for section in sections.iter().filter(|section| !section.brief.is_empty()) {
        let _ = write!(text, "\n{}", section.brief);
    }
    text.push('\n');
    text
}
