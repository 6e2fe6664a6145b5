//! Checks that a scrape contains every name and label of the dashboard and the alert rules.

use std::process::Command;

use serde_json::Value;

use tower::Layer as _;

use super::*;
use crate::status::DeploymentStatus;
use steadfast::{
    BudgetLayer, CacheHandle, CacheReason, Degradation, DegradedReason,
    chat::Usage,
    events::{CachedAnswer, Operation},
    layers::budget::{Cap, Period},
};

/// Renders a scrape after every kind of event.
fn full_page() -> Page {
    let (metrics, page) = recorded();
    let prices = PriceTable::empty();
    let price = |dollars| Price::dollars(dollars, dollars).unwrap();
    let prices = prices.with("claude", price(3.0)).with("gpt-4o", price(4.0));
    let budget = BudgetLayer::new(prices.clone()).cap(Cap::new("all", Usd::from_nanos(9), Period::Day));
    let mut metrics = metrics.tier("sonnet").tier("gpt").prices(prices).bulkhead(BulkheadLayer::new().handle());
    let handle = metrics.handle();
    let broken = RequestOutcome::Broken(ErrorKind::StreamBroken);
    let unanswered = RequestOutcome::Failed(ErrorKind::Server);
    let refused = [failed("sonnet", ErrorKind::CircuitOpen, Next::FailedOver)];
    let at = Instant::now();
    let (cap, limit) = ("all".into(), Usd::from_nanos(2));
    let events = [
        Event::RequestEnded(RequestEnded {
            caller: Some(Arc::new(Caller { team: Some("search".into()), ..Caller::default() })),
            ..answered("sonnet", "anthropic", "claude")
        }),
        Event::RequestEnded(rescued()),
        Event::RequestEnded(RequestEnded {
            failures: Some(refused.into()),
            degraded: Some(Degradation::new(5, DegradedReason::Order)),
            ..rescued()
        }),
        Event::RequestEnded(RequestEnded {
            route: Some("short".into()),
            possible_repeat: true,
            cost_without_route: Some(Usd::from_nanos(9_000_000)),
            ..answered("gpt", "openai", "gpt-4o")
        }),
        Event::RequestEnded(RequestEnded {
            cached: Some(Box::new(CachedAnswer {
                why: CacheReason::Fresh,
                age: SECOND,
                saved: Some(Usd::from_nanos(9_000_000)),
            })),
            ..answered("gpt", "cached", "gpt-4o")
        }),
        Event::RequestEnded(RequestEnded { outcome: broken, ..answered("gpt", "openai", "gpt-4o") }),
        Event::RequestEnded(RequestEnded { outcome: unanswered, ..rescued() }),
        switched("sonnet", "gpt"),
        recovered("gpt", "sonnet", SECOND),
        circuit("sonnet", CircuitState::Open),
        Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at },
        Event::BudgetReached { cap, key: None, percent: 80, spent: limit, reserved: limit, limit, resets_at: at, at },
        Event::Operated { operation: Operation::TierDrained { tier: "sonnet".into() }, by: None, at },
        Event::Operated { operation: Operation::LevelPinned { level: 2, feature: None }, by: None, at },
        Event::HandedOver(steadfast::events::HandedOver {
            task: "task_1".into(),
            feature: None,
            step: steadfast::events::HandoffStep::Queued { reason: "timeout".into() },
            at,
        }),
        Event::Mirrored(mirrored(RequestOutcome::Failed(ErrorKind::Server))),
        Event::Mirrored(mirrored(RequestOutcome::Answered)),
        Event::NotCompared { feature: None, why: ComparisonSkipReason::Full, at },
        Event::Hedged { tier: "sonnet".into(), to: "gpt".into(), won: true, after: SECOND, at },
        Event::Reloaded { kept: 1, changed: 1, settings: Arc::default(), at },
        Event::StoreChanged { store: "idempotency".into(), available: false, at },
        Event::CredentialsFailed { source: "the AWS profile".into(), problem: "".into(), usable: true, at },
        Event::ReloadRefused { problem: "".into(), at },
        Event::CallerHeldApart { circuit: "sonnet".into(), caller: None, failure: None, at },
        Event::UsageReplaced {
            provider: "anthropic".into(),
            model: Some("claude".into()),
            reported: Usage::new(1_000_000_000, 1),
            counted: Usage::new(9, 1),
            at,
        },
    ];
    events.iter().for_each(|event| metrics.event(event));
    handle.set_budgets(vec![budget.handle()]);
    handle.set_cache(Some(CacheHandle::default()));
    handle.record_deployments(vec![("sonnet".into(), deployment("east", 3))]);
    handle.sample();
    Page::of(&page)
}

/// Returns a deployment with so many answers.
fn deployment(name: &'static str, answered: u64) -> DeploymentStatus {
    let circuit = steadfast::CircuitBreakerLayer::new(name);
    let layer = steadfast::BalanceLayer::new();
    let only = steadfast::layers::balance::Deployment::new(name, ());
    let balance = layer.layer(steadfast::layers::balance::Deployments::new([only]).unwrap());
    let mut status = DeploymentStatus::new(&balance.handle().deployments()[0], &circuit.handle());
    status.answered = answered;
    status
}

#[tokio::test(start_paused = true)]
async fn deployments_have_series_of_their_own_up_to_a_bound_and_count_on_over_a_return() {
    let (metrics, page) = recorded();
    let handle = metrics.handle();
    let calls = |page: &Page, labels: &[&str]| page.sum("steadfast_deployment_calls_total", labels);
    handle.record_deployments(vec![("main".into(), deployment("east", 3)), ("main".into(), deployment("west", 5))]);
    handle.record_deployments(vec![("main".into(), deployment("east", 7))]);
    let now = Page::of(&page);
    assert_eq!(calls(&now, &[r#"deployment="east""#, r#"outcome="answered""#]), 7.0);
    assert_eq!(calls(&now, &[r#"deployment="west""#]), 5.0);
    assert_eq!(now.sum("steadfast_deployment_serves", &[r#"deployment="east""#]), 1.0);
    assert_eq!(now.sum("steadfast_deployment_serves", &[r#"deployment="west""#]), 0.0, "it is gone");
    // One that comes back counts from zero.
    handle.record_deployments(vec![("main".into(), deployment("east", 2))]);
    assert_eq!(calls(&Page::of(&page), &[r#"deployment="east""#]), 9.0);
    let many = (0..300).map(|number: u32| {
        let mut status = deployment("x", 1);
        status.name = format!("d{number}");
        ("many".into(), status)
    });
    handle.record_deployments(many.collect());
    let now = Page::of(&page);
    assert_eq!(calls(&now, &[r#"tier="many""#, r#"deployment="other""#]), 100.0);
    assert_eq!(calls(&now, &[r#"tier="many""#]), 300.0);
}

/// Returns the series that an expression selects: each name, with its label matchers.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for prefix in ["steadfast_", "gen_ai_"] {
        for (at, _) in expression.match_indices(prefix) {
            // The match is in the middle of another name or of a label's.
            if expression[..at].ends_with(is_name)
                || expression[..at].ends_with(['(', ' ']) && is_grouping(expression, at)
            {
                continue;
            }
            let rest = &expression[at..];
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            let matchers = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let labels = matchers.map(|(inside, _)| labels_of(inside)).unwrap_or_default();
            found.push((name.to_owned(), labels));
        }
    }
    found
}

/// Returns the labels in `a="x",b!~"y|z"`.
fn labels_of(matchers: &str) -> Vec<String> {
    let mut outside = String::new();
    for (number, part) in matchers.split('"').enumerate() {
        if number % 2 == 0 {
            outside.push_str(part);
        }
    }
    let names = outside.split(',').map(|label| label.trim().trim_end_matches(['=', '!', '~']).to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// Returns whether the place is inside of `by (..)`.
fn is_grouping(expression: &str, at: usize) -> bool {
    let Some(open) = expression[..at].rfind('(') else { return false };
    expression[..open].trim_end().ends_with(" by") && !expression[open..at].contains(')')
}

/// Returns the labels in every `by (..)`.
fn groupings(expression: &str) -> Vec<String> {
    let inside = expression.split(" by (").skip(1).filter_map(|rest| rest.split(')').next());
    inside.flat_map(|labels| labels.split(',').map(|label| label.trim().to_owned())).collect()
}

/// Returns the labels in `{{label}}` or `{{ $labels.label }}`.
fn templates(text: &str) -> Vec<String> {
    let inside = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let names = inside.map(|name| name.trim().trim_start_matches("$labels.").to_owned());
    names.filter(|name| !name.starts_with("$value")).collect()
}

/// Checks an expression, and the texts filled in from it, against the scrape. Returns the metrics that it uses.
fn check(expression: &str, texts: &[&str], page: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let selected = selectors(expression);
    assert!(!selected.is_empty(), "no metric in {expression}");
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        let count = |wanted| expression.chars().filter(|c| *c == wanted).count();
        assert_eq!(count(open), count(close), "{expression}");
    }
    let grouped = groupings(expression);
    for (name, labels) in &selected {
        let there = page.get(&**name).unwrap_or_else(|| panic!("{name} is not in the scrape: {expression}"));
        // Prometheus adds the scrape's job.
        for label in labels.iter().chain(grouped.iter().filter(|label| *label != "job")) {
            assert!(there.contains(&**label), "{name} has no label {label}: {expression}");
        }
    }
    for label in texts.iter().flat_map(|text| templates(text)) {
        assert!(grouped.contains(&label), "{label} is not in the result of {expression}");
    }
    selected.into_iter().map(|(name, _)| name).collect()
}

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../ops/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The series of the gateway's own, with their labels: it writes them beside those of this package.
const OF_THE_GATEWAY: [(&str, &[&str]); 3] = [
    ("steadfast_refusals_total", &["reason", "scope"]),
    ("steadfast_share_refusals_total", &["key", "reason"]),
    ("steadfast_handoff_tasks", &["state"]),
];

fn all_labels(page: &Page) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut there = page.labels();
    for (name, labels) in OF_THE_GATEWAY {
        there.entry(name).or_default().extend(labels);
    }
    there
}

#[tokio::test(start_paused = true)]
async fn the_dashboard_uses_what_a_scrape_has_and_leaves_nothing_out() {
    let page = full_page();
    let there = all_labels(&page);
    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let mut used = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()).chain(annotations) {
        let text = target["legendFormat"].as_str().or_else(|| target["titleFormat"].as_str()).unwrap();
        used.extend(check(target["expr"].as_str().unwrap(), &[text], &there));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().filter(|one| one["type"] == "query") {
        let query = variable["definition"].as_str().unwrap();
        let inside = query.strip_prefix("label_values(").unwrap().trim_end_matches(')');
        let (name, label) = inside.split_once(", ").unwrap();
        assert!(there[name].contains(label), "{query}");
    }
    // Every panel has a place, and no two share a number.
    let numbers: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(numbers.len(), panels.len());
    for metric in METRICS {
        let name = metric.name.replace('.', "_");
        assert!(used.iter().any(|used| used.starts_with(&name)), "{name} is on no panel");
    }
}

#[tokio::test(start_paused = true)]
async fn the_alert_rules_use_what_a_scrape_has() {
    let page = full_page();
    let there = all_labels(&page);
    let rules = file("prometheus-rules.yml");
    let mut checked = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let field = |name: &str| rule.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
        let (expression, summary) = (field("expr:").unwrap(), field("summary:").unwrap());
        check(expression, &[summary], &there);
        checked += 1;
    }
    assert!(checked >= 20, "{checked}");
}

/// Runs the ten incidents of `prometheus-rules.test.yml` by Prometheus' own tool.
#[test]
fn each_incident_raises_its_alert() {
    let folder = format!("{}/../../ops", env!("CARGO_MANIFEST_DIR"));
    let promtool = |arguments: &[&str]| Command::new("promtool").args(arguments).current_dir(&folder).output();
    let Ok(checked) = promtool(&["check", "rules", "prometheus-rules.yml"]) else {
        return eprintln!("skipped: there is no promtool");
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let tested = promtool(&["test", "rules", "prometheus-rules.test.yml"]).unwrap();
    let said = [tested.stdout, tested.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(tested.status.success(), "{said}");
    // Each rule is in an incident.
    let (rules, tests) = (file("prometheus-rules.yml"), file("prometheus-rules.test.yml"));
    for rule in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {rule}\n")), "{rule} is in no incident");
    }
}

#[tokio::test(start_paused = true)]
async fn every_metric_of_the_table_is_in_a_scrape_with_its_labels_and_help() {
    let (metrics, text) = recorded();
    drop(metrics);
    let page = full_page();
    let there = all_labels(&page);
    for metric in METRICS {
        let name = metric.name.replace('.', "_");
        let labels: BTreeSet<String> = metric.labels.iter().map(|label| label.replace('.', "_")).collect();
        let found = there.iter().find(|(series, labels_there)| {
            series.starts_with(&name) && labels.iter().all(|label| labels_there.contains(&**label))
        });
        assert!(found.is_some(), "{name} {labels:?}");
        assert!(!metric.help.is_empty() && metric.buckets.is_empty() == (metric.kind != MetricKind::Histogram));
        assert!(metric.buckets.is_sorted());
    }
    assert!(text.render().contains("steadfast_events_lost_total 0"));
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
}
