//! A report as text.

use std::{fmt::Write as _, time::Duration};

use steadfast_drill::{
    Report, Scenario,
    report::{Baseline, Bucket, RecordedReport, ScenarioReport, TierReport},
};

use crate::{table::Table, terminal::on_a_line};

/// The number of events that are shown.
const EVENTS: usize = 12;

/// Returns the list of scenarios.
pub(super) fn list(scenarios: &[Scenario]) -> String {
    let mut table = Table::new(["name", "lasts", "what happens"]);
    for scenario in scenarios {
        table.row([scenario.name().to_owned(), span(scenario.lasts().as_secs_f64()), on_a_line(scenario.about())]);
    }
    table.to_string()
}

/// Returns the missed targets.
pub(super) fn missed(report: &Report) -> String {
    let line = |missed: &steadfast_drill::SloMiss| {
        format!("missed: {} in {}: {}", missed.slo, on_a_line(&missed.scenario), missed.found)
    };
    report.missed.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the whole report.
pub(super) fn report(report: &Report, took: Duration) -> String {
    let mut text = String::new();
    for scenario in &report.scenarios {
        one(scenario, &mut text);
    }
    let sum = |of: fn(&ScenarioReport) -> u64| report.scenarios.iter().map(of).sum::<u64>();
    let (requests, lost, while_well) = (sum(|one| one.requests), sum(|one| one.lost), sum(|one| one.lost_while_well));
    let hours: f64 = report.scenarios.iter().map(|scenario| scenario.lasts_s).sum();
    let _ = writeln!(
        text,
        "{}, {} in {:.1} s; {requests} requests, {lost} lost, {while_well} of them while a model was well; seed {}",
        match report.scenarios.len() {
            1 => "1 scenario".to_owned(),
            several => format!("{several} scenarios"),
        },
        span(hours),
        took.as_secs_f64(),
        report.seed,
    );
    text
}

fn one(scenario: &ScenarioReport, text: &mut String) {
    let recorded = scenario.recorded.as_ref();
    let source = if scenario.source.is_empty() { String::new() } else { format!(" ({})", on_a_line(&scenario.source)) };
    let _ = writeln!(text, "{}: {}{source}\n", scenario.name, on_a_line(&scenario.about));
    for note in recorded.iter().flat_map(|recorded| &recorded.notes) {
        let _ = writeln!(text, "  note: {}", on_a_line(note));
    }
    if recorded.is_some_and(|recorded| !recorded.notes.is_empty()) {
        text.push('\n');
    }
    let mut table = Table::new([
        "",
        "requests",
        "answered",
        "degraded",
        "handed off",
        "refused",
        "lost",
        "while well",
        "p50",
        "p99",
        "amplification",
        "switches",
        "recovery",
    ]);
    table.row([
        if recorded.is_some() { "this file" } else { "steadfast" }.to_owned(),
        scenario.requests.to_string(),
        scenario.answered.to_string(),
        scenario.degraded.to_string(),
        scenario.handed_off.to_string(),
        scenario.refused.to_string(),
        scenario.lost.to_string(),
        scenario.lost_while_well.to_string(),
        time(scenario.p50_ms),
        time(scenario.p99_ms),
        format!("{:.2}", scenario.amplification),
        scenario.switches.to_string(),
        scenario.recovery_s.map_or_else(|| "not yet".to_owned(), |seconds| format!("{seconds:.1} s")),
    ]);
    for baseline in &scenario.baselines {
        let none = || "-".to_owned();
        let of_log = recorded.filter(|_| baseline.name == "recorded");
        let counted = |of: fn(&RecordedReport) -> u64| of_log.map_or_else(none, |recorded| of(recorded).to_string());
        table.row([
            baseline.name.clone(),
            of_log.map_or(baseline.answered + baseline.lost, |recorded| recorded.requests).to_string(),
            of_log.map_or(baseline.answered, |recorded| recorded.answered).to_string(),
            counted(|recorded| recorded.degraded),
            counted(|recorded| recorded.handed_off),
            counted(|recorded| recorded.refused),
            baseline.lost.to_string(),
            none(),
            time(baseline.p50_ms),
            time(baseline.p99_ms),
            format!("{:.2}", baseline.amplification),
            none(),
            none(),
        ]);
    }
    indented(&table.to_string(), text);
    text.push('\n');
    if let Some(recorded) = recorded {
        indented(&served_by(scenario, recorded), text);
        text.push('\n');
    }
    timeline(scenario, text);
    events(scenario, text);
    text.push('\n');
}

/// Returns the requests that each tier answered, as recorded and by this file.
fn served_by(scenario: &ScenarioReport, recorded: &RecordedReport) -> String {
    let answered = |tiers: &[TierReport], name: &str| {
        tiers.iter().find(|tier| tier.name == name).map_or_else(|| "-".to_owned(), |tier| tier.answered.to_string())
    };
    let gone = recorded.tiers.iter().filter(|tier| scenario.tiers.iter().all(|own| own.name != tier.name));
    let mut table = Table::new(["served by", "recorded", "this file"]);
    for TierReport { name, .. } in scenario.tiers.iter().chain(gone) {
        table.row([on_a_line(name), answered(&recorded.tiers, name), answered(&scenario.tiers, name)]);
    }
    table.to_string()
}

/// Returns a character for each piece of time: the tier that served most, the first tier's circuit, and the other
/// requests.
fn timeline(scenario: &ScenarioReport, text: &mut String) {
    let line = |of: &dyn Fn(&Bucket) -> char| scenario.timeline.iter().map(of).collect::<String>();
    let mut lines = vec![("served by".to_owned(), line(&served)), ("circuit".to_owned(), line(&circuit))];
    lines.extend(scenario.baselines.iter().map(|baseline| (baseline.name.clone(), without(baseline))));
    let (begin, end) = (clock(scenario, 0.0), clock(scenario, scenario.lasts_s));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let blank = scenario.timeline.len().saturating_sub(begin.len() + end.len());
    let _ = writeln!(text, "  {:width$}  {begin}{:blank$}{end}", "", "");
    for (name, line) in lines {
        let _ = writeln!(text, "  {name:width$}  {line}");
    }
    let tiers =
        scenario.tiers.iter().enumerate().map(|(place, tier)| format!("{} {}", sign(place), on_a_line(&tier.name)));
    let signs = ["! some lost", "~ no request", "- closed", "x open", "? half-open", "= all answered"];
    let key: Vec<String> = tiers.chain(signs.map(str::to_owned)).collect();
    let _ = writeln!(text, "  {:width$}  {}\n", "", key.join(" · "));
}

/// Returns the tier at this index.
fn sign(place: usize) -> char {
    "123456789abcdefghijklmnopqrstuvwyz".chars().nth(place).unwrap_or('+')
}

fn served(bucket: &Bucket) -> char {
    let most = bucket.by_tier.iter().enumerate().max_by_key(|(place, answered)| (**answered, usize::MAX - place));
    match most {
        _ if bucket.lost > 0 => '!',
        Some((place, answered)) if *answered > 0 => sign(place),
        _ => '~',
    }
}

fn circuit(bucket: &Bucket) -> char {
    match bucket.circuits.first().map(String::as_str) {
        Some("closed") => '-',
        Some("open") => 'x',
        Some("half-open") => '?',
        _ => ' ',
    }
}

fn without(baseline: &Baseline) -> String {
    let sign = |(_, answered, lost): &(f64, u64, u64)| match (answered, lost) {
        (0, 0) => '~',
        (_, 0) => '=',
        _ => '!',
    };
    baseline.timeline.iter().map(sign).collect()
}

/// Returns the first and the last events, without a circuit's vain attempts.
fn events(scenario: &ScenarioReport, text: &mut String) {
    let in_vain = |what: &str| what.contains(": half-open (") || what.ends_with("(the probe failed)");
    let told: Vec<_> = scenario.events.iter().filter(|event| !in_vain(&event.what)).collect();
    let left_out = told.len().saturating_sub(EVENTS);
    for (place, event) in told.iter().enumerate() {
        if left_out > 0 && place == EVENTS / 2 {
            let _ = writeln!(text, "  ..        and {left_out} more, which --json has");
        }
        if left_out == 0 || !(EVENTS / 2..EVENTS / 2 + left_out).contains(&place) {
            let _ = writeln!(text, "  {}  {}", clock(scenario, event.at_s), on_a_line(&event.what));
        }
    }
}

/// Returns a moment: the scenario's time of day, or the time since its start.
fn clock(scenario: &ScenarioReport, at_s: f64) -> String {
    let seconds = (scenario.clock_s.unwrap_or_default() + at_s).max(0.0) as u64;
    let hours = if scenario.clock_s.is_some() { seconds / 3600 % 24 } else { seconds / 3600 };
    format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
}

fn time(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

fn span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds:.0}s"),
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}

fn indented(table: &str, text: &mut String) {
    for line in table.lines() {
        let _ = writeln!(text, "  {line}");
    }
}
