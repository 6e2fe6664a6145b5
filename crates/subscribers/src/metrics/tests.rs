use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::{Instant, advance};

use super::*;
use crate::testing::{answered, failed, mirrored};
use steadfast::{
    BulkheadLayer, ErrorKind,
    events::{Caller, CircuitReason, ComparisonSkipReason, RequestOutcome},
    ledger::{Next, Stop},
    prices::{Price, Usd},
};

mod ops;

const SECOND: Duration = Duration::from_secs(1);

/// A scrape's series with their values.
struct Page(BTreeMap<String, f64>);

impl Page {
    fn of(page: &PrometheusHandle) -> Self {
        let text = page.render();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        Self(lines.map(read).collect())
    }

    /// Returns the sum of the metric's series that have all these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is = |series: &str| {
            let (of, rest) = series.split_once('{').unwrap_or((series, ""));
            let has = |label: &&str| rest.trim_end_matches('}').split(',').any(|one| one == *label);
            of == name && labels.iter().all(has)
        };
        self.0.iter().filter(|(series, _)| is(series)).map(|(_, value)| value).sum()
    }

    /// Returns the label names of each metric.
    fn labels(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut all = BTreeMap::<&str, BTreeSet<&str>>::new();
        for series in self.0.keys() {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let names = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split('=').next());
            all.entry(name).or_default().extend(names.filter(|name| !name.is_empty()));
        }
        all
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(|series| series.split('{').next().expect("never empty")).collect()
    }
}

fn recorded() -> (Metrics, PrometheusHandle) {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets).unwrap();
    }
    let recorder = builder.build_recorder();
    let page = recorder.handle();
    (Metrics::with_recorder(recorder), page)
}

fn switched(from: &str, to: &str) -> Event {
    let (from, to) = (from.into(), to.into());
    Event::ModelSwitched {
        chain: "sonnet".into(),
        first: "sonnet".into(),
        from,
        to,
        reason: ErrorKind::Server,
        failure: None,
        at: Instant::now(),
    }
}

fn recovered(from: &str, to: &str, after: Duration) -> Event {
    Event::ModelRecovered { chain: to.into(), from: from.into(), to: to.into(), after, at: Instant::now() }
}

fn circuit(name: &str, to: CircuitState) -> Event {
    let (from, reason) = (CircuitState::Closed, CircuitReason::Failures);
    Event::CircuitChanged { circuit: name.into(), from, to, reason, failure: None, at: Instant::now() }
}

/// A request that sonnet failed twice before gpt answered it.
fn rescued() -> RequestEnded {
    let failures = [
        failed("sonnet", ErrorKind::Server, Next::Retried { after: SECOND }),
        failed("sonnet", ErrorKind::Server, Next::FailedOver),
    ];
    RequestEnded { failures: Some(failures.into()), first_token: SECOND * 3, ..answered("gpt", "openai", "gpt-4o") }
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_features_holds_for_mirrored_requests_too() {
    let (metrics, page) = recorded();
    let mut metrics = metrics.feature_limit(1);
    for feature in ["chat", "code", "search"] {
        let feature = Some(feature.into());
        metrics.event(&Event::NotCompared { feature, why: ComparisonSkipReason::Full, at: Instant::now() });
    }
    let page = Page::of(&page);
    for (feature, times) in [(r#"feature="chat""#, 1.0), (r#"feature="other""#, 2.0)] {
        assert_eq!(page.sum("steadfast_mirror_not_compared_total", &[feature]), times, "{feature}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirrored_request_is_counted_by_both_its_sides() {
    let (mut metrics, page) = recorded();
    metrics.event(&Event::Mirrored(mirrored(RequestOutcome::Answered)));
    metrics.event(&Event::Mirrored(mirrored(RequestOutcome::Failed(ErrorKind::Timeout))));
    let (feature, at) = (Some("chat".into()), Instant::now());
    for (why, times) in
        [(ComparisonSkipReason::Full, 3), (ComparisonSkipReason::Refused, 2), (ComparisonSkipReason::Unpaired, 1)]
    {
        (0..times).for_each(|_| metrics.event(&Event::NotCompared { feature: feature.clone(), why, at }));
    }
    let page = Page::of(&page);
    let is = |name: &str, labels: &[&str], value: f64| assert_eq!(page.sum(name, labels), value, "{name} {labels:?}");
    is("steadfast_mirrored_requests_total", &[r#"feature="chat""#, r#"primary="answered""#], 2.0);
    is("steadfast_mirrored_requests_total", &[r#"candidate="answered""#, r#"agrees="yes""#], 1.0);
    is("steadfast_mirrored_requests_total", &[r#"candidate="failed""#, r#"agrees="unknown""#], 1.0);
    for (reason, times) in [(r#"reason="full""#, 3.0), (r#"reason="refused""#, 2.0), (r#"reason="unpaired""#, 1.0)] {
        is("steadfast_mirror_not_compared_total", &[r#"feature="chat""#, reason], times);
    }
    is("steadfast_mirror_errors_total", &[r#"side="candidate""#, r#"kind="timeout""#], 1.0);
    is("steadfast_mirror_errors_total", &[r#"side="primary""#], 0.0);
    is("steadfast_mirror_first_token_seconds_count", &[r#"side="primary""#], 2.0);
    is("steadfast_mirror_first_token_seconds_count", &[r#"side="candidate""#], 1.0);
    is("steadfast_mirror_cost_nanodollars_total", &[r#"side="primary""#], 2_000_000.0);
    is("steadfast_mirror_cost_nanodollars_total", &[r#"side="candidate""#], 3_000_000.0);
    assert_eq!(page.sum("steadfast_requests_total", &[]), 0.0, "it is told as a request elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_counted_for_who_served_it_and_who_failed_it() {
    let (mut metrics, page) = recorded();
    metrics.event(&Event::RequestEnded(answered("sonnet", "anthropic", "claude")));
    metrics.event(&Event::RequestEnded(rescued()));
    let page = Page::of(&page);
    let is = |name: &str, labels: &[&str], value: f64| assert_eq!(page.sum(name, labels), value, "{name} {labels:?}");
    is("steadfast_requests_total", &[r#"feature="chat""#, r#"outcome="answered""#], 2.0);
    is("steadfast_attempts_total", &[r#"tier="sonnet""#], 3.0);
    is("steadfast_attempts_total", &[r#"tier="gpt""#, r#"model="gpt-4o""#], 1.0);
    is("steadfast_attempt_failures_total", &[r#"tier="sonnet""#, r#"kind="server""#], 2.0);
    is("steadfast_retries_total", &[r#"tier="sonnet""#], 1.0);
    is("steadfast_dead_attempts_total", &[r#"tier="sonnet""#], 2.0);
    is("steadfast_rescued_requests_total", &[r#"tier="gpt""#, r#"by="fallback""#, r#"stream="true""#], 1.0);
    is("steadfast_tokens_total", &[r#"tier="gpt""#, r#"type="input""#], 1000.0);
    is("steadfast_cost_nanodollars_total", &[r#"tier="sonnet""#], 4_500_000.0);
    // The caller's wait, and the tier's own time.
    is("steadfast_first_token_seconds_sum", &[r#"tier="gpt""#], 3.0);
    is("gen_ai_client_operation_time_to_first_chunk_seconds_sum", &[r#"tier="gpt""#], 1.0);
    is("steadfast_request_duration_seconds_count", &[r#"tier="gpt""#, r#"outcome="answered""#], 1.0);
    // From the start of the attempt that served to the end, without the failures before it.
    is("gen_ai_client_operation_duration_seconds_sum", &[r#"tier="gpt""#, r#"gen_ai_provider_name="openai""#], 1.0);
    is("gen_ai_client_operation_duration_seconds_sum", &[r#"error_type="server""#], 1.0);
    is("gen_ai_client_token_usage_sum", &[r#"gen_ai_token_type="output""#], 200.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_this_side_is_no_attempt_but_the_request_was_rescued() {
    let (mut metrics, page) = recorded();
    let refused = failed("sonnet", ErrorKind::CircuitOpen, Next::FailedOver);
    let skipped = failed("small", ErrorKind::ContextLength, Next::Skipped);
    let request = RequestEnded { failures: Some([refused, skipped].into()), ..answered("gpt", "openai", "gpt-4o") };
    metrics.event(&Event::RequestEnded(request));
    let unasked = failed("small", ErrorKind::UnsupportedFeature, Next::Skipped);
    let request = RequestEnded { failures: Some([unasked].into()), ..answered("gpt", "openai", "gpt-4o") };
    metrics.event(&Event::RequestEnded(request));
    let page = Page::of(&page);
    assert_eq!(page.sum("steadfast_attempts_total", &[]), 2.0);
    assert_eq!(page.sum("steadfast_refused_calls_total", &[r#"tier="sonnet""#, r#"kind="circuit_open""#]), 1.0);
    assert_eq!(page.sum("steadfast_dead_attempts_total", &[]), 0.0);
    assert_eq!(
        page.sum("steadfast_rescued_requests_total", &[]),
        1.0,
        "a tier that cannot carry a request fails nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_break_or_are_left_are_told_apart() {
    let (mut metrics, page) = recorded();
    let unserved = RequestEnded { tier: None, provider: None, model: None, stream: false, ..answered("", "", "") };
    let attempts = [
        failed("sonnet", ErrorKind::Timeout, Next::FailedOver),
        failed("gpt", ErrorKind::Server, Next::Stopped(Stop::LastTier)),
    ];
    for (request, outcome) in [
        (
            RequestEnded { failures: Some(attempts.into()), ..unserved.clone() },
            RequestOutcome::Failed(ErrorKind::Timeout),
        ),
        (answered("gpt", "openai", "gpt-4o"), RequestOutcome::Broken(ErrorKind::StreamBroken)),
        (answered("gpt", "openai", "gpt-4o"), RequestOutcome::Abandoned),
        (unserved, RequestOutcome::Abandoned),
    ] {
        metrics.event(&Event::RequestEnded(RequestEnded { outcome, ..request }));
    }
    let page = Page::of(&page);
    let is = |name: &str, labels: &[&str], value: f64| assert_eq!(page.sum(name, labels), value, "{name} {labels:?}");
    is("steadfast_requests_total", &[r#"outcome="failed""#], 1.0);
    is("steadfast_requests_total", &[r#"outcome="broken""#], 1.0);
    is("steadfast_requests_total", &[r#"outcome="abandoned""#], 2.0);
    is("steadfast_request_errors_total", &[r#"kind="timeout""#], 1.0);
    is("steadfast_truncated_streams_total", &[r#"tier="gpt""#, r#"kind="stream_broken""#], 1.0);
    is("steadfast_attempts_total", &[], 4.0);
    is("steadfast_attempt_failures_total", &[r#"tier="gpt""#], 2.0);
    is("steadfast_dead_attempts_total", &[], 2.0);
    is("steadfast_rescued_requests_total", &[], 0.0);
}

#[tokio::test(start_paused = true)]
async fn exactly_one_state_of_a_circuit_is_1_after_any_sequence() {
    let mut random = fastrand::Rng::with_seed(39);
    let (metrics, page) = recorded();
    let mut metrics = metrics.tier("a").tier("b");
    let states = [CircuitState::Closed, CircuitState::Open, CircuitState::HalfOpen];
    let mut last = BTreeMap::from([("a", CircuitState::Closed), ("b", CircuitState::Closed)]);
    for _ in 0..200 {
        for (tier, state) in &last {
            let page = Page::of(&page);
            let name = format!("state=\"{}\"", state.to_string().replace('-', "_"));
            let tier = format!("tier=\"{tier}\"");
            assert_eq!(page.sum("steadfast_circuit_state", &[&tier]), 1.0);
            assert_eq!(page.sum("steadfast_circuit_state", &[&tier, &name]), 1.0);
        }
        let (tier, state) = (if random.bool() { "a" } else { "b" }, states[random.usize(..3)]);
        metrics.event(&circuit(tier, state));
        last.insert(tier, state);
    }
    assert_eq!(Page::of(&page).sum("steadfast_circuit_transitions_total", &[]), 200.0);
}

#[tokio::test(start_paused = true)]
async fn seconds_on_fallback_grow_while_the_outage_lasts_and_are_exact_at_its_end() {
    let (metrics, page) = recorded();
    let mut metrics = metrics.tier("sonnet");
    let (handle, begun) = (metrics.handle(), Instant::now());
    let seconds = |labels: &[&str]| Page::of(&page).sum("steadfast_fallback_seconds_total", labels);
    let on = || Page::of(&page).sum("steadfast_on_fallback", &[r#"from="sonnet""#]);
    assert_eq!((seconds(&[]), on()), (0.0, 0.0));
    metrics.event(&switched("sonnet", "gpt"));
    for elapsed in 1..=40 {
        advance(Duration::from_millis(1500)).await;
        handle.sample();
        handle.clone().sample();
        assert_eq!(seconds(&[r#"to="gpt""#]), f64::from(elapsed * 3 / 2), "nothing is counted twice");
    }
    metrics.event(&switched("gpt", "canned"));
    advance(SECOND * 5).await;
    metrics.event(&recovered("canned", "sonnet", begun.elapsed()));
    advance(SECOND * 100).await;
    handle.sample();
    assert_eq!(seconds(&[r#"from="sonnet""#, r#"to="gpt""#]), 60.0);
    assert_eq!(seconds(&[r#"from="sonnet""#, r#"to="canned""#]), 5.0);
    assert_eq!(on(), 0.0);
    let page = Page::of(&page);
    assert_eq!(page.sum("steadfast_recovery_seconds_sum", &[r#"tier="sonnet""#]), 65.0);
    assert_eq!(page.sum("steadfast_fallback_activations_total", &[r#"reason="server""#]), 2.0);
}

#[tokio::test(start_paused = true)]
async fn many_short_stays_on_a_fallback_are_as_long_as_one() {
    let (mut metrics, page) = recorded();
    let seconds = || Page::of(&page).sum("steadfast_fallback_seconds_total", &[]);
    for stay in 1..=50_u32 {
        metrics.event(&switched("sonnet", "gpt"));
        advance(Duration::from_millis(300)).await;
        metrics.event(&recovered("gpt", "sonnet", Duration::from_millis(300)));
        advance(SECOND).await;
        // The sum so far, in whole seconds.
        assert_eq!(seconds(), f64::from(stay * 3 / 10), "after {stay} stays of 0.3 s");
    }
    // A stay whose switch was among the lost events counts too.
    metrics.event(&recovered("gpt", "sonnet", Duration::from_millis(2700)));
    metrics.event(&recovered("gpt", "sonnet", Duration::from_millis(300)));
    assert_eq!(seconds(), 18.0);
}

#[tokio::test(start_paused = true)]
async fn a_switch_or_return_among_the_lost_events_is_made_up_for() {
    let (mut metrics, page) = recorded();
    metrics.event(&recovered("gpt", "sonnet", SECOND * 9));
    assert_eq!(Page::of(&page).sum("steadfast_fallback_seconds_total", &[]), 9.0);

    metrics.event(&switched("sonnet", "gpt"));
    advance(SECOND * 10).await;
    metrics.lost(17);
    metrics.event(&Event::RequestEnded(answered("gpt", "openai", "gpt-4o")));
    let begun = Instant::now();
    advance(SECOND * 3).await;
    metrics.event(&Event::RequestEnded(answered("sonnet", "anthropic", "claude")));
    advance(SECOND * 50).await;
    metrics.handle().sample();
    let page = Page::of(&page);
    assert_eq!(page.sum("steadfast_events_lost_total", &[]), 17.0);
    assert_eq!(page.sum("steadfast_on_fallback", &[]), 0.0, "served by sonnet since {begun:?}");
    assert_eq!(page.sum("steadfast_fallback_seconds_total", &[]), 19.0);
}

#[tokio::test(start_paused = true)]
async fn after_lost_events_the_state_is_read_from_the_circuit_itself() {
    let (metrics, page) = recorded();
    let layer = steadfast::CircuitBreakerLayer::new("sonnet");
    let breaker = layer.handle();
    let mut metrics = metrics.circuit(breaker.clone());
    let open = || Page::of(&page).sum("steadfast_circuit_state", &[r#"state="open""#]);
    assert_eq!(open(), 0.0);
    breaker.force_open();
    metrics.lost(1);
    assert_eq!(open(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_team_costs_is_said_by_the_model_that_answered() {
    let (mut metrics, page) = recorded();
    let mut end = |team: Option<&str>, served: Option<&str>| {
        let caller = Caller { key: Some("k".into()), team: team.map(Into::into), session: None };
        let request = answered("sonnet", "anthropic", "claude");
        let served_model = served.map(Into::into);
        metrics.event(&Event::RequestEnded(RequestEnded { caller: Some(Arc::new(caller)), served_model, ..request }));
    };
    end(Some("search"), None);
    end(Some("search"), Some("claude-2"));
    end(None, None);
    for number in 0..100 {
        end(Some(&format!("team {number}")), None);
    }
    let page = Page::of(&page);
    let sum = |labels: &[&str]| page.sum("steadfast_team_cost_nanodollars_total", labels);
    let each = page.sum("steadfast_cost_nanodollars_total", &[]) / 103.0;
    assert_eq!(sum(&[r#"team="search""#, r#"model="claude""#]), each);
    assert_eq!(sum(&[r#"team="search""#, r#"model="claude-2""#]), each);
    assert_eq!(sum(&[r#"team="other""#]), each * 37.0, "the first 64 have their own");
    assert_eq!(sum(&[]), each * 102.0, "a key without a team has none");
}

#[tokio::test(start_paused = true)]
async fn what_a_fallback_costs_more_or_less_is_said() {
    let (metrics, page) = recorded();
    let each = |dollars| Price::dollars(dollars, dollars).unwrap();
    let prices = PriceTable::empty().with("claude", each(3.0)).with("gpt-4o", each(4.0)).with("haiku", each(1.0));
    let mut metrics = metrics.tier("sonnet").prices(prices.clone());
    let mut end = |request: &RequestEnded| {
        let cost = prices.cost(None, request.model.as_deref().unwrap(), &request.usage.unwrap());
        metrics.event(&Event::RequestEnded(RequestEnded { cost, ..request.clone() }));
    };
    // The failure names no model, but sonnet's earlier answer does.
    end(&answered("sonnet", "anthropic", "claude"));
    end(&rescued());
    end(&RequestEnded { failures: rescued().failures, ..answered("haiku", "anthropic", "haiku") });
    let page = Page::of(&page);
    let sum = |name: &str, label: &str| page.sum(name, &[label]);
    assert_eq!(sum("steadfast_fallback_extra_cost_nanodollars_total", r#"tier="gpt""#), 1_100_000.0);
    assert_eq!(sum("steadfast_fallback_saved_cost_nanodollars_total", r#"tier="gpt""#), 0.0);
    assert_eq!(sum("steadfast_fallback_saved_cost_nanodollars_total", r#"tier="haiku""#), 2_200_000.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_route_saves_is_what_the_request_says_of_it() {
    let (metrics, page) = recorded();
    let mut metrics = metrics.tier("sonnet");
    let mut end = |route: &str, cost, cost_without_route: Option<u64>| {
        let cost_without_route = cost_without_route.map(Usd::from_nanos);
        let request = RequestEnded {
            route: Some(route.into()),
            cost: Some(Usd::from_nanos(cost)),
            cost_without_route,
            ..answered("haiku", "anthropic", "haiku")
        };
        metrics.event(&Event::RequestEnded(request));
    };
    end("small", 1000, Some(5000));
    end("small", 2000, Some(5000));
    end("dear", 7000, Some(5000));
    end("unknown", 1000, None);
    let page = Page::of(&page);
    let saved = |route: &str| page.sum("steadfast_route_saved_cost_nanodollars_total", &[route]);
    assert_eq!((saved(r#"route="small""#), saved(r#"route="dear""#)), (7000.0, 0.0));
    assert_eq!(page.sum("steadfast_route_saved_cost_nanodollars_total", &[]), 7000.0);
}

#[tokio::test(start_paused = true)]
async fn a_cap_for_each_key_has_one_series_and_tells_of_the_key_that_has_spent_the_most() {
    let (mut metrics, page) = recorded();
    let begun = Instant::now();
    let hour = |n: u32| begun + SECOND * 3600 * n;
    let reached = |key: u64, dollars: f64, hours: u32| Event::BudgetReached {
        cap: "each".into(),
        key: Some(format!("key-{key}").into()),
        percent: 80,
        spent: Usd::from_dollars(dollars - 1.0).unwrap(),
        reserved: Usd::from_dollars(1.0).unwrap(),
        limit: Usd::from_dollars(10.0).unwrap(),
        resets_at: hour(hours),
        at: begun,
    };
    for key in 0..1000 {
        metrics.event(&reached(key, if key == 500 { 9.0 } else { 8.0 }, 1));
    }
    let spent = || {
        let page = Page::of(&page);
        let series = page.names().iter().filter(|name| **name == "steadfast_budget_spent_dollars").count();
        let dollars = |what: &str| page.sum(&format!("steadfast_budget_{what}_dollars"), &[r#"cap="each""#]);
        (series, dollars("spent"), dollars("reserved"))
    };
    assert_eq!(spent(), (1, 8.0, 1.0));
    // One key's amount of the next hour stays, although another key's last hour ends after it.
    metrics.event(&reached(7, 8.5, 2));
    let reset = |n| Event::BudgetReset { cap: "each".into(), key: Some("key-500".into()), at: hour(n) };
    metrics.event(&reset(1));
    assert_eq!(spent(), (1, 7.5, 1.0));
    metrics.event(&reset(2));
    assert_eq!(spent(), (1, 0.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn features_that_callers_invent_share_one_series() {
    let (metrics, page) = recorded();
    let mut metrics = metrics.feature_limit(3);
    for n in 0..1000 {
        let request =
            RequestEnded { feature: Some(format!("f{n}").into()), ..answered("sonnet", "anthropic", "claude") };
        metrics.event(&Event::RequestEnded(request));
        let mut request = answered("sonnet", "anthropic", "claude");
        request.model = Some(format!("model-{n}").into());
        metrics.event(&Event::RequestEnded(request));
    }
    let page = Page::of(&page);
    let features = page.names().iter().filter(|name| **name == "steadfast_requests_total").count();
    assert_eq!(features, 3 + 1);
    assert_eq!(page.sum("steadfast_requests_total", &[r#"feature="other""#]), 998.0);
    let models = page.names().iter().filter(|name| **name == "steadfast_attempts_total").count();
    assert!(models <= 66, "{models}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_well_is_recorded_like_the_first_of_its_kind() {
    let unstreamed = RequestEnded { stream: false, feature: None, usage: None, ..answered("gpt", "openai", "gpt-4o") };
    let refused = |kind| RequestEnded {
        failures: Some([failed("sonnet", kind, Next::FailedOver)].into()),
        ..answered("gpt", "openai", "gpt-4o")
    };
    let after_refusals = [ErrorKind::CircuitOpen, ErrorKind::BulkheadFull].map(refused);
    for request in [answered("sonnet", "anthropic", "claude"), unstreamed].into_iter().chain(after_refusals) {
        let pages = [1, 5].map(|times| {
            let (mut metrics, page) = recorded();
            let others = [answered("sonnet", "openai", "claude"), answered("haiku", "anthropic", "claude")];
            for other in others.map(Event::RequestEnded) {
                metrics.event(&other);
                metrics.event(&other);
            }
            let before = Page::of(&page);
            (0..times).for_each(|_| metrics.event(&Event::RequestEnded(request.clone())));
            let grown = |(series, value): (String, f64)| {
                let added = value - before.0.get(&series).copied().unwrap_or_default();
                (series, added)
            };
            Page::of(&page).0.into_iter().map(grown).collect::<BTreeMap<_, _>>()
        });
        let [once, often] = pages;
        assert!(once.values().filter(|value| **value > 0.0).count() > 4);
        for (series, value) in once {
            assert_eq!(often[&series], value * 5.0, "{series}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_like_one_before_costs_no_allocation() {
    // The recorder's own cost does not count: this one takes values and keeps nothing.
    let mut metrics = Metrics::with_recorder(Keeps::default());
    let events = [
        Event::RequestEnded(answered("sonnet", "anthropic", "claude")),
        Event::RequestEnded(rescued()),
        circuit("sonnet", CircuitState::Open),
    ];
    events.iter().for_each(|event| metrics.event(event));
    for event in &events {
        let measured = allocation_counter::measure(|| metrics.event(event));
        assert_eq!(measured.count_total, 0, "{event:?}");
    }
}

/// A recorder whose handles do nothing with a value but take it.
#[derive(Default)]
struct Keeps(Arc<std::sync::atomic::AtomicU64>);

impl Recorder for Keeps {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> Counter {
        Counter::from_arc(self.0.clone())
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.0.clone())
    }
    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn queues_and_permits_are_read_from_the_bulkheads() {
    let (metrics, page) = recorded();
    let bulkhead = BulkheadLayer::new().feature("chat", 20);
    let handle = metrics.bulkhead(bulkhead.handle()).handle();
    handle.sample();
    let read = |name: &str| Page::of(&page).sum(name, &[r#"feature="chat""#]);
    assert_eq!(["steadfast_permits", "steadfast_permits_in_use", "steadfast_queue_depth"].map(read), [20.0, 0.0, 0.0]);
    bulkhead.handle().set_limit("chat", 7).unwrap();
    handle.sample();
    assert_eq!(read("steadfast_permits"), 7.0);
}
