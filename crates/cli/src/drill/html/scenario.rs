//! A scenario's section: its events and figures, in plots and in words.

use std::fmt::Write as _;

use steadfast_drill::{
    SloMiss,
    report::{Bucket, ScenarioReport, TimelineEvent},
};

use super::{
    missed_of,
    plots::{self, Band, COLOURS, Label, Lane, Layer, Times},
    words::{self, Text},
};

/// The section of a scenario. `place` is its number, for links to it.
pub(super) fn section(report: &ScenarioReport, place: usize, missed: &[SloMiss]) -> String {
    let mut out = String::new();
    let name = Text(&report.name);
    let _ = write!(
        out,
        "<section id=\"s{place}\" aria-labelledby=\"h{place}\">\n<div class=\"heading\"><h2 id=\"h{place}\">{name}</h2>"
    );
    out.push_str("<a class=\"small\" href=\"#summary\">All scenarios</a></div>\n");
    let _ = writeln!(out, "<p class=\"about\">{}</p>", Text(&report.about));
    let mut facts = vec![format!("lasts {}", words::span(report.lasts_s))];
    if !report.source.is_empty() {
        facts.push(format!("source: {}", Text(&report.source)));
    }
    let _ = writeln!(out, "<p class=\"small\">{}</p>", facts.join(" · "));
    for note in report.recorded.iter().flat_map(|recorded| &recorded.notes) {
        let _ = writeln!(out, "<p class=\"small\">{}</p>", Text(note));
    }
    for missed in missed_of(missed, report) {
        let _ = writeln!(out, "<p class=\"verdict\">Missed: {}, found {}</p>", Text(&missed.slo), Text(&missed.found));
    }
    out.push_str(&beside(report));
    if !report.timeline.is_empty() {
        let begins = report.timeline.iter().map(|bucket| bucket.from_s);
        let times = Times::new(begins, report.lasts_s, report.clock_s).with_faults(faults(report));
        let _ = writeln!(
            out,
            "<div class=\"plots\">\n{}{}{}{}{}{}</div>",
            requests(report, &times),
            latency(report, &times),
            circuits(report, &times),
            losses(report, &times),
            cost(report, &times),
            tiers(report)
        );
    }
    out.push_str(&events(report));
    if !report.timeline.is_empty() {
        out.push_str(&table(report));
    }
    out.push_str("</section>\n");
    out
}

/// Returns the stretches of time with a fault: from its start among the events to its end, or to the scenario's.
/// Overlapping ones are merged.
fn faults(report: &ScenarioReport) -> impl Iterator<Item = (f64, f64)> {
    let said = |event: &TimelineEvent, word: &str| event.what.strip_prefix(word).map(str::to_owned);
    let mut stretches: Vec<(f64, f64)> = Vec::new();
    for (place, event) in report.events.iter().enumerate() {
        let Some(name) = said(event, "fault begins: ") else { continue };
        let mut after = report.events[place..].iter();
        let end = after.find(|event| said(event, "fault ends: ").as_ref() == Some(&name));
        let to = end.map_or(report.lasts_s, |end| end.at_s);
        match stretches.last_mut() {
            Some(last) if event.at_s <= last.1 => last.1 = last.1.max(to),
            _ => stretches.push((event.at_s, to)),
        }
    }
    stretches.into_iter()
}

/// Returns the scenario's figures, with the baselines' below.
fn beside(report: &ScenarioReport) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, cells: [String; 8]| {
        let labels =
            ["Answered", "Degraded", "Handed over", "Refused", "Lost", "Attempts a request", "First token p50", "p99"];
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", Text(name));
        for (label, cell) in labels.iter().zip(cells) {
            let _ = write!(rows, "<td class=\"number\" data-label=\"{label}\">{cell}</td>");
        }
        rows.push_str("</tr>\n");
    };
    row(
        "steadfast",
        [
            words::percent(report.answered, report.requests),
            words::count(report.degraded),
            words::count(report.handed_off),
            words::count(report.refused),
            words::count(report.lost),
            words::times(report.amplification),
            words::millis(report.p50_ms),
            words::millis(report.p99_ms),
        ],
    );
    for baseline in &report.baselines {
        let none = || words::NOTHING.to_owned();
        row(
            &baseline.name,
            [
                words::percent(baseline.answered, baseline.answered + baseline.lost),
                none(),
                none(),
                none(),
                words::count(baseline.lost),
                words::times(baseline.amplification),
                words::millis(baseline.p50_ms),
                words::millis(baseline.p99_ms),
            ],
        );
    }
    format!(
        "<table class=\"folds figures\"><caption class=\"unseen\">With steadfast, and without</caption>\
         <thead><tr><th scope=\"col\">{} requests</th><th scope=\"col\" class=\"number\">Answered</th>\
         <th scope=\"col\" class=\"number\">Degraded</th><th scope=\"col\" class=\"number\">Handed over</th>\
         <th scope=\"col\" class=\"number\">Refused</th><th scope=\"col\" class=\"number\">Lost</th>\
         <th scope=\"col\" class=\"number\">Attempts a request</th><th scope=\"col\" class=\"number\">First token p50</th>\
         <th scope=\"col\" class=\"number\">p99</th></tr></thead><tbody>\n{rows}</tbody></table>\n",
        words::count(report.requests)
    )
}

fn requests(report: &ScenarioReport, times: &Times) -> String {
    let of =
        |value: &dyn Fn(&Bucket) -> u64| report.timeline.iter().map(|bucket| value(bucket) as f64).collect::<Vec<_>>();
    let mut layers: Vec<Layer<'_>> = Vec::new();
    for (at, tier) in report.tiers.iter().enumerate() {
        let values = of(&|bucket| bucket.by_tier.get(at).copied().unwrap_or(0));
        layers.push(Layer { label: Label { name: &tier.name, class: format!("f{}", at % COLOURS) }, values });
    }
    if report.refused > 0 {
        layers.push(Layer {
            label: Label { name: "refused", class: "refusals".to_owned() },
            values: of(&|bucket| bucket.refused),
        });
    }
    layers.push(Layer { label: Label { name: "lost", class: "failed".to_owned() }, values: of(&|bucket| bucket.lost) });
    let shares: Vec<String> = report
        .tiers
        .iter()
        .filter(|tier| tier.answered > 0)
        .map(|tier| format!("{} by {}", words::percent(tier.answered, report.requests), tier.name))
        .collect();
    let label =
        format!("Requests by the tier that answered: {}; {} lost.", shares.join(", "), words::count(report.lost));
    let tooltips: Vec<String> = report.timeline.iter().map(|bucket| tooltip(report, bucket)).collect();
    plots::stack("Requests by tier", &label, &layers, |value| words::count(value.round() as u64), &tooltips, times)
}

/// Returns a piece of time's requests, in a line.
fn tooltip(report: &ScenarioReport, bucket: &Bucket) -> String {
    let mut text =
        format!("{}: {} requests", words::moment(bucket.from_s, report.clock_s), words::count(bucket.requests));
    for (tier, answered) in report.tiers.iter().zip(&bucket.by_tier).filter(|(_, answered)| **answered > 0) {
        let _ = write!(text, ", {} {}", tier.name, words::count(*answered));
    }
    if bucket.lost > 0 {
        let _ = write!(text, ", lost {}", words::count(bucket.lost));
    }
    text
}

fn latency(report: &ScenarioReport, times: &Times) -> String {
    let line = |name, class: &str, of: fn(&Bucket) -> f64| {
        let values = report.timeline.iter().map(of).collect();
        Layer { label: Label { name, class: format!("line {class}") }, values }
    };
    let lines = [line("p50", "s0", |bucket| bucket.p50_ms), line("p99", "s1", |bucket| bucket.p99_ms)];
    let worst = report.timeline.iter().map(|bucket| bucket.p99_ms).fold(0.0, f64::max);
    let label = format!(
        "Time to the first token: p50 {}, p99 {} over all; the worst p99 of a piece of time is {}.",
        words::millis(report.p50_ms),
        words::millis(report.p99_ms),
        words::millis(worst)
    );
    plots::latencies("Time to the first token", &label, &lines, times)
}

fn circuits(report: &ScenarioReport, times: &Times) -> String {
    let state = |bucket: &Bucket, at: usize| bucket.circuits.get(at).map_or("", String::as_str).to_owned();
    let lanes: Vec<Lane<'_>> = report
        .tiers
        .iter()
        .enumerate()
        // People, canned and cached answers have none.
        .filter(|(at, _)| report.timeline.iter().any(|bucket| !band(&state(bucket, *at)).class.is_empty()))
        .map(|(at, tier)| {
            let bands: Vec<Band> = report.timeline.iter().map(|bucket| band(&state(bucket, at))).collect();
            let open = bands.iter().filter(|band| band.class == "open").count();
            let share = words::percent(open as u64, bands.len() as u64);
            Lane {
                name: &tier.name,
                label: format!("The circuit of {} is open {share} of the time.", tier.name),
                bands,
            }
        })
        .collect();
    if lanes.is_empty() {
        return String::new();
    }
    let legend = [("closed", "closed"), ("half-open", "half-open"), ("open", "open")];
    plots::lanes("Circuits", &legend, &lanes, times)
}

/// A circuit's state. Its height says the same as its colour.
fn band(state: &str) -> Band {
    let (class, height) = match state {
        "closed" => ("closed", 0.2),
        "half-open" => ("half-open", 0.6),
        "open" => ("open", 1.0),
        _ => ("", 0.0),
    };
    Band { class, height, strength: 1.0 }
}

/// Returns the plot of lost requests, with and without steadfast, as a share of the requests that arrived in that time.
fn losses(report: &ScenarioReport, times: &Times) -> String {
    if report.baselines.is_empty() {
        return String::new();
    }
    let share = |lost: u64, of: u64| {
        let share = if of == 0 { 0.0 } else { lost as f64 / of as f64 };
        // A single request among thousands is visible too.
        Band { class: "failed", height: if lost > 0 { share.max(0.08) } else { 0.0 }, strength: 1.0 }
    };
    let ours = report.timeline.iter().map(|bucket| share(bucket.lost, bucket.requests)).collect();
    let label = |name: &str, lost: u64| format!("{name}: {} lost.", words::count(lost));
    let mut lanes = vec![Lane { name: "steadfast", label: label("steadfast", report.lost), bands: ours }];
    for baseline in &report.baselines {
        let bands = baseline.timeline.iter().map(|(_, answered, lost)| share(*lost, answered + lost)).collect();
        lanes.push(Lane { name: &baseline.name, label: label(&baseline.name, baseline.lost), bands });
    }
    plots::lanes("Lost, with and without", &[("share that is lost", "failed")], &lanes, times)
}

fn cost(report: &ScenarioReport, times: &Times) -> String {
    if report.cost <= 0.0 {
        return "<figure><figcaption><h3>Cost</h3></figcaption><p class=\"small\">None of these models has a known price.</p></figure>\n"
            .to_owned();
    }
    let values = report.timeline.iter().map(|bucket| bucket.cost).collect();
    let label = format!("Cost of the answers: {} in all.", words::usd(report.cost));
    let layer = Layer { label: Label { name: "", class: "f0".to_owned() }, values };
    let title = format!("Cost at list prices, {} in all", words::usd(report.cost));
    plots::stack(&title, &label, &[layer], words::usd, &[], times)
}

fn tiers(report: &ScenarioReport) -> String {
    let mut rows = String::new();
    for (at, tier) in report.tiers.iter().enumerate() {
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\"><svg class=\"sign\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect width=\"10\" height=\"10\" class=\"f{}\"/></svg>{}</th>\
             <td data-label=\"Level\">{}</td><td class=\"number\" data-label=\"Attempts\">{}</td><td class=\"number\" data-label=\"Failed\">{}</td>\
             <td class=\"number\" data-label=\"Answered\">{}</td><td class=\"number\" data-label=\"Cost\">{}</td></tr>",
            at % COLOURS,
            Text(&tier.name),
            Text(&tier.level),
            words::count(tier.attempts),
            words::count(tier.failures),
            words::count(tier.answered),
            words::usd(tier.cost)
        );
    }
    format!(
        "<div><h3>Tiers</h3>\n<table class=\"folds figures\"><caption class=\"unseen\">What each tier did</caption><thead><tr><th scope=\"col\">Tier</th>\
         <th scope=\"col\">Level</th><th scope=\"col\" class=\"number\">Attempts</th><th scope=\"col\" class=\"number\">Failed</th>\
         <th scope=\"col\" class=\"number\">Answered</th><th scope=\"col\" class=\"number\">Cost</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn events(report: &ScenarioReport) -> String {
    if report.events.is_empty() {
        return String::new();
    }
    let mut items = String::new();
    for event in &report.events {
        let _ = writeln!(
            items,
            "<li><time>{}</time> {}</li>",
            words::moment(event.at_s, report.clock_s),
            Text(&event.what)
        );
    }
    format!(
        "<div class=\"happened\"><h3>Events</h3>\n<ol class=\"events\" tabindex=\"0\" role=\"list\" aria-label=\"Events of {}\">\n{items}</ol></div>\n",
        Text(&report.name)
    )
}

/// Returns the timeline as a table, for readers who cannot see plots or want the numbers.
fn table(report: &ScenarioReport) -> String {
    let mut head = String::from("<th scope=\"col\">From</th><th scope=\"col\">Requests</th>");
    for tier in &report.tiers {
        let _ = write!(head, "<th scope=\"col\">{}</th>", Text(&tier.name));
    }
    head.push_str("<th scope=\"col\">Lost</th><th scope=\"col\">p50</th><th scope=\"col\">p99</th><th scope=\"col\">Circuits</th>");
    let mut rows = String::new();
    for bucket in &report.timeline {
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td>",
            words::moment(bucket.from_s, report.clock_s),
            words::count(bucket.requests)
        );
        for answered in &bucket.by_tier {
            let _ = write!(rows, "<td>{}</td>", words::count(*answered));
        }
        let _ = writeln!(
            rows,
            "<td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            words::count(bucket.lost),
            words::millis(bucket.p50_ms),
            words::millis(bucket.p99_ms),
            Text(&bucket.circuits.join(", "))
        );
    }
    format!(
        "<details><summary>The timeline as a table</summary>\n<div class=\"wide-table\" tabindex=\"0\" role=\"region\" aria-label=\"The timeline of {0}\">\
         <table class=\"figures\"><caption class=\"unseen\">The timeline of {0}</caption><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div></details>\n",
        Text(&report.name)
    )
}
