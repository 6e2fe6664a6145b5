//! A report as one self-contained page for a browser: no script, nothing loaded, light and dark, for phones, keyboards
//! and screen readers.
//!
//! Its style extends the status page's. The plots are SVG of our own: swim lanes, steps and a logarithmic axis are a
//! few lines each.

mod plots;
mod scenario;
#[cfg(test)]
mod tests;
mod words;

use std::fmt::Write as _;

use steadfast_drill::{
    Report, SloMiss,
    report::{Baseline, ScenarioReport},
};
use steadfast_gateway::PAGE_STYLE;

use self::words::Text;

const STYLE: &str = include_str!("drill.css");

/// The policy: no script runs and nothing is loaded, whatever the page contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Returns the page of a report.
pub(crate) fn page(report: &Report) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>steadfast drill: {}</title>\n<style>\n{PAGE_STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        verdict(report),
        STYLE,
    );
    out.push_str(&head(report));
    out.push_str(&summary(report));
    for (place, scenario) in report.scenarios.iter().enumerate() {
        out.push_str(&scenario::section(scenario, place, &report.missed));
    }
    out.push_str(NOTES);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

const NOTES: &str = "<footer class=\"small\"><p>Simulated providers in virtual time, the same traffic for all three. \
<b>No resilience</b>: the first tier is called once. \
<b>Retry loop</b>: what most people write, three more attempts after 1, 2 and 4 seconds. \
<b>Attempts a request</b>: on the provider that is sick. \
<b>Recovery</b>: from the end of the last fault until the primary serves all again. \
<b>Time to the first token</b>: of answered requests; p50 and p99 are over the whole scenario. Shaded: something was wrong.</p></footer>\n";

fn verdict(report: &Report) -> String {
    let scenarios = |number: usize| if number == 1 { "scenario".to_owned() } else { format!("{number} scenarios") };
    match (report.missed.len(), failed(report)) {
        (0, _) => format!(
            "no target missed in {}",
            match report.scenarios.len() {
                1 => "one scenario".to_owned(),
                number => scenarios(number),
            }
        ),
        (1, _) => "one target missed".to_owned(),
        (missed, 1) => format!("{missed} targets missed in one scenario"),
        (missed, failed) => format!("{missed} targets missed in {}", scenarios(failed)),
    }
}

/// Returns the number of scenarios that missed a target.
fn failed(report: &Report) -> usize {
    report.scenarios.iter().filter(|scenario| missed_of(&report.missed, scenario).next().is_some()).count()
}

fn missed_of<'a>(missed: &'a [SloMiss], scenario: &'a ScenarioReport) -> impl Iterator<Item = &'a SloMiss> {
    missed.iter().filter(|missed| missed.scenario == scenario.name)
}

fn head(report: &Report) -> String {
    let (state, sign) = if report.missed.is_empty() { ("primary", "✓") } else { ("unavailable", "!") };
    let sum = |of: fn(&ScenarioReport) -> u64| report.scenarios.iter().map(of).sum::<u64>();
    let mut verdict = verdict(report);
    if let Some(first) = verdict.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let (requests, lost) = (sum(|scenario| scenario.requests), sum(|scenario| scenario.lost));
    let mut without = String::new();
    for name in baselines(report) {
        let lost: u64 =
            report.scenarios.iter().filter_map(|scenario| baseline(scenario, name)).map(|baseline| baseline.lost).sum();
        let _ = write!(without, "<div><dt>Lost, {}</dt><dd>{}</dd></div>", Text(name), words::count(lost));
    }
    format!(
        "<header><h1>steadfast drill</h1><p class=\"small\">seed {}</p></header>\n\
         <div id=\"badge\" data-state=\"{state}\"><span id=\"sign\" aria-hidden=\"true\">{sign}</span><div><p id=\"title\">{verdict}</p>\
         <p>{} requests in {} of simulated time</p></div></div>\n\
         <dl id=\"facts\"><div><dt>Answered</dt><dd>{}</dd></div><div><dt>Degraded</dt><dd>{}</dd></div>\
         <div><dt>Handed over</dt><dd>{}</dd></div><div><dt>Lost</dt><dd>{}</dd></div>{without}</dl>\n",
        report.seed,
        words::count(requests),
        words::span(report.scenarios.iter().map(|scenario| scenario.lasts_s).sum()),
        words::count(sum(|scenario| scenario.answered)),
        words::count(sum(|scenario| scenario.degraded)),
        words::count(sum(|scenario| scenario.handed_off)),
        words::count(lost),
    )
}

/// Returns the names of the baselines, in the order of the report.
fn baselines(report: &Report) -> impl Iterator<Item = &str> {
    let first = report.scenarios.iter().find(|scenario| !scenario.baselines.is_empty());
    first.into_iter().flat_map(|scenario| scenario.baselines.iter().map(|baseline| baseline.name.as_str()))
}

fn baseline<'a>(scenario: &'a ScenarioReport, name: &str) -> Option<&'a Baseline> {
    scenario.baselines.iter().find(|baseline| baseline.name == name)
}

/// Returns a table with a row for each scenario, those with missed targets first.
fn summary(report: &Report) -> String {
    let mut rows: Vec<(usize, &ScenarioReport)> = report.scenarios.iter().enumerate().collect();
    rows.sort_by_key(|(_, scenario)| missed_of(&report.missed, scenario).next().is_none());
    let names: Vec<&str> = baselines(report).collect();
    let small = if names.is_empty() {
        String::new()
    } else {
        let names: Vec<String> = names.iter().map(|name| Text(name).to_string()).collect();
        format!("<p class=\"small\">In small print: {}.</p>\n", names.join(" / "))
    };
    let mut out = format!(
        "<section aria-labelledby=\"summary\">\n<div class=\"heading\"><h2 id=\"summary\">Scenarios</h2>{small}</div>\n"
    );
    out.push_str("<table class=\"folds figures summary\"><thead><tr><th scope=\"col\">Scenario</th>");
    for head in HEADS {
        let _ = write!(out, "<th scope=\"col\" class=\"number\">{head}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for (place, scenario) in rows {
        let _ = write!(out, "<tr><th scope=\"row\"><a href=\"#s{place}\">{}</a>", Text(&scenario.name));
        for missed in missed_of(&report.missed, scenario) {
            let _ = write!(out, " <span class=\"tag\" data-circuit=\"open\">missed {}</span>", Text(&missed.slo));
        }
        out.push_str("</th>");
        for (head, cell) in HEADS.iter().zip(cells(scenario, &names)) {
            let _ = write!(out, "<td class=\"number\" data-label=\"{head}\">{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n</section>\n");
    out
}

const HEADS: [&str; 8] =
    ["Requests", "Answered", "Degraded", "Handed over", "Lost", "Attempts a request", "Recovery", "p99"];

fn cells(scenario: &ScenarioReport, names: &[&str]) -> [String; 8] {
    // Our figure, and the baselines' in small print.
    let beside = |ours: String, of: &dyn Fn(&Baseline) -> String| {
        let theirs: Vec<String> =
            names.iter().map(|name| baseline(scenario, name).map_or_else(|| words::NOTHING.to_owned(), of)).collect();
        if theirs.is_empty() { ours } else { format!("{ours}<small>{}</small>", theirs.join(" / ")) }
    };
    let lost = words::count(scenario.lost);
    let lost = if scenario.lost > 0 { format!("<b class=\"bad\">{lost}</b>") } else { lost };
    [
        words::count(scenario.requests),
        beside(words::percent(scenario.answered, scenario.requests), &|baseline| {
            words::percent(baseline.answered, baseline.answered + baseline.lost)
        }),
        words::count(scenario.degraded),
        words::count(scenario.handed_off),
        beside(lost, &|baseline| words::count(baseline.lost)),
        beside(words::times(scenario.amplification), &|baseline| words::times(baseline.amplification)),
        words::recovery(scenario.recovery_s),
        beside(words::millis(scenario.p99_ms), &|baseline| words::millis(baseline.p99_ms)),
    ]
}
