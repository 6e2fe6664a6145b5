use serde_json::json;
use steadfast_drill::Report;

use super::*;

/// An outage of forty minutes in an hour, served by the second tier, under names that an enemy chose.
fn report(tier: &str, missed: bool) -> Report {
    let sick = |minute: u32| (20..50).contains(&minute);
    let timeline: Vec<_> = (0..60)
        .map(|minute| {
            let (first, second, lost) = match minute {
                20 => (40, 75, 5),
                minute if sick(minute) => (0, 120, 0),
                _ => (120, 0, 0),
            };
            json!({
                "from_s": minute * 60, "requests": 120, "by_tier": [first, second, 0], "attempts": [first + 1, second, 0], "lost": lost,
                "refused": 0, "p50_ms": if sick(minute) { 640.0 } else { 820.0 }, "p99_ms": if minute == 20 { 31_000.0 } else { 2_400.0 },
                "circuits": [if minute == 49 { "half-open" } else if sick(minute) { "open" } else { "closed" }, "closed", "-"],
                "cost": if sick(minute) { 0.02 } else { 0.07 },
            })
        })
        .collect();
    let baseline = |name: &str, amplification: f64| {
        let timeline: Vec<_> =
            (0..60).map(|minute| if sick(minute) { (minute * 60, 10, 110) } else { (minute * 60, 120, 0) }).collect();
        json!({
            "name": name, "answered": 3_900, "lost": 3_300, "attempts": 7_200, "amplification": amplification, "p50_ms": 810.0, "p99_ms": 67_000.0,
            "timeline": timeline,
        })
    };
    let level = |name: &str, level: &str, answered: u64| json!({ "name": name, "level": level, "attempts": answered + 9, "failures": 9, "answered": answered, "cost": 1.5 });
    let missed = if missed { json!([{ "scenario": "half-hour", "slo": "lost=0", "found": "5" }]) } else { json!([]) };
    serde_json::from_value(json!({
        "version": 1, "seed": 7, "missed": missed,
        "scenarios": [{
            "name": "quiet", "about": "Nothing happens.", "source": "", "lasts_s": 60.0, "clock_s": null, "requests": 0, "answered": 0,
            "degraded": 0, "handed_off": 0, "refused": 0, "lost": 0, "cut": 0, "amplification": 1.0, "recovery_s": null, "p50_ms": 0.0,
            "p99_ms": 0.0, "cost": 0.0, "tiers": [], "timeline": [], "events": [], "baselines": [],
        }, {
            "name": "half-hour", "about": "The primary answers 529 for half an hour. It proves that another tier serves.",
            "source": "status page", "lasts_s": 3600.0, "clock_s": 22_800.0, "requests": 7_200, "answered": 3_640, "degraded": 3_555,
            "handed_off": 0, "refused": 0, "lost": 5, "cut": 0, "amplification": 1.04, "recovery_s": 16.0, "p50_ms": 780.0, "p99_ms": 2_600.0,
            "cost": 3.1, "tiers": [level(tier, "full", 3_640), level("gpt-4o", "reduced", 3_555), level("canned", "canned", 0)],
            "timeline": timeline, "baselines": [baseline("no resilience", 1.0), baseline("retry loop", 3.77)],
            "events": [{ "at_s": 1_200.0, "what": format!("fault begins: overloaded at {tier}") },
                { "at_s": 1_204.5, "what": "circuit opens" },
                { "at_s": 3_000.0, "what": format!("fault ends: overloaded at {tier}") }],
        }],
    }))
    .unwrap()
}

#[test]
fn the_page_says_what_the_report_says() {
    let page = page(&report("sonnet", true));
    for said in [
        "One target missed",
        "missed lost=0",
        "Missed: lost=0, found 5",
        "half-hour",
        "50.5 %",
        "3,555",
        "7,200",
        "06:40:05",
        "Requests by the tier that answered: 50.5 % by sonnet, 49.3 % by gpt-4o; 5 lost.",
        "The circuit of sonnet is open 48.3 % of the time.",
        "1.04<small>1 / 3.77</small>",
        "16 s",
        "$3.10",
        "seed 7",
    ] {
        assert!(page.contains(said), "{said} is missing");
    }
    let fault = "<rect class=\"fault\" x=\"200.0\" width=\"300.0\" height=\"100\"/>";
    assert_eq!(page.matches(fault).count(), 3, "behind requests, latency and cost");
    let rows: Vec<_> = page
        .match_indices("<th scope=\"row\"><a href=\"#s")
        .map(|(at, found)| page[at + found.len()..].chars().next())
        .collect();
    assert_eq!(rows, [Some('1'), Some('0')], "what missed a target comes first");
    assert!(super::page(&report("sonnet", false)).contains("No target missed in 2 scenarios"));
}

#[test]
fn a_hostile_name_is_text() {
    let hostile = "</style><script>alert(1)</script>\"><img src=x onerror='alert(1)'>\u{202e}\u{1b}[2J&amp;";
    let page = page(&report(hostile, true));
    let calm = super::page(&report("sonnet", true));
    for sign in ["<script", "<img", "<style", "</style", "'alert", "\u{202e}", "\u{1b}"] {
        assert_eq!(page.matches(sign).count(), calm.matches(sign).count(), "{sign}");
    }
    assert_eq!(page.matches('<').count(), calm.matches('<').count(), "it adds no element");
    assert_eq!(page.matches('"').count(), calm.matches('"').count(), "and ends no attribute");
    assert!(page.contains("&lt;/style&gt;&lt;script&gt;") && page.contains("&amp;amp;"));
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    let page = page(&report("sonnet", false));
    for refused in ["<script", "<link", "src=", "url(", "@import", "http://", "https://", "onclick", "style=\""] {
        assert!(!page.contains(refused), "{refused}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn every_plot_can_be_read_without_seeing_and_every_element_is_closed() {
    let page = page(&report("sonnet", true));
    let body = page.split_once("<body>").unwrap().1;
    for svg in body.split("<svg").skip(1) {
        let head = svg.split_once('>').unwrap().0;
        assert!(head.contains("role=\"img\" aria-label=\"") || head.contains("aria-hidden"), "{head}");
    }
    for element in [
        "section", "figure", "svg", "div", "table", "tr", "td", "th", "ol", "li", "ul", "details", "dl", "span", "p",
        "main",
    ] {
        let begun = body.matches(&format!("<{element}>")).count() + body.matches(&format!("<{element} ")).count();
        assert_eq!(begun, body.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert!(!body.contains("NaN") && !body.contains("inf"));
}

#[test]
fn a_report_of_nothing_is_a_page_too() {
    let nothing: Report =
        serde_json::from_value(json!({ "version": 1, "seed": 1, "missed": [], "scenarios": [] })).unwrap();
    assert!(page(&nothing).contains("No target missed in 0 scenarios"));
}
