//! The metrics of an outage, as a scrape shows them.

use std::time::Duration;

use crate::common::outage::{BEFORE, LASTS, MINUTE, PER_SECOND, Stack};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use steadfast_subscribers::metrics::{METRICS, Metrics};
use tokio::time::sleep;

/// Metrics, and the page that they are on.
fn recorded() -> (Metrics, PrometheusHandle) {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets).unwrap();
    }
    let recorder = builder.build_recorder();
    let page = recorder.handle();
    (Metrics::with_recorder(recorder), page)
}

/// The sum of the series that begin with a name and have all these labels.
fn sum(page: &PrometheusHandle, name: &str, labels: &[&str]) -> f64 {
    sum_of(&page.render(), name, labels)
}

/// The same of a page that is there already: to make one is dear.
fn sum_of(text: &str, name: &str, labels: &[&str]) -> f64 {
    let series = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    let wanted = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
    wanted.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(start_paused = true)]
async fn the_incident_of_2026_06_15_is_measured_right() {
    let (metrics, page) = recorded();
    let stack = Stack::incident();
    let metrics = metrics.tier("sonnet").tier("gpt").bulkhead(stack.bulkhead.clone()).circuit(stack.circuit.clone());
    let handle = metrics.handle();
    let _subscription = stack.events.follow(metrics);

    // A scrape every 15 s: the counter grows while the outage lasts, and one state of the circuit is 1.
    let (scrapes, start) = (page.clone(), stack.start);
    let scraping = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            sleep(Duration::from_secs(15)).await;
            handle.sample();
            let page = scrapes.render();
            assert_eq!(sum_of(&page, "steadfast_circuit_state", &[r#"tier="sonnet""#]), 1.0);
            seen.push((start.elapsed(), sum_of(&page, "steadfast_fallback_seconds_total", &[])));
            if start.elapsed() > BEFORE + LASTS + MINUTE * 3 {
                return seen;
            }
        }
    });
    let report = stack.run(BEFORE + LASTS + MINUTE * 4, true).await;
    assert_eq!(report.lost, 0);
    let grown = scraping.await.unwrap();
    for pair in grown.windows(2) {
        let ((before, then), (at, now)) = (pair[0], pair[1]);
        if before > BEFORE + Duration::from_secs(10) && at < BEFORE + LASTS {
            assert!((14.0..=16.0).contains(&(now - then)), "{now} - {then} at {at:?}");
        }
    }

    let is = |name: &str, labels: &[&str]| sum(&page, name, labels);
    // Switched at the first answer of the backup, back within one cooldown of the end.
    let left = report.first_served_by("gpt", BEFORE).unwrap();
    let back = report.first_served_by("sonnet", BEFORE + LASTS).unwrap();
    let away = (back - left).as_secs_f64();
    let seconds = is("steadfast_fallback_seconds_total", &[r#"from="sonnet""#, r#"to="gpt""#]);
    println!("156 min of outage: {seconds} s on the fallback ({away:.1} s by the answers)");
    assert!((LASTS.as_secs_f64()..LASTS.as_secs_f64() + 61.0).contains(&seconds), "{seconds}");
    assert!((seconds - away).abs() <= 1.5, "{seconds} and {away}");
    let recovery = is("steadfast_recovery_seconds_sum", &[r#"tier="sonnet""#]);
    assert!((recovery - seconds).abs() < 1.0, "{recovery}");
    assert_eq!(is("steadfast_recovery_seconds_count", &[]), 1.0);
    assert_eq!(is("steadfast_fallback_activations_total", &[r#"from="sonnet""#, r#"to="gpt""#]), 1.0);
    assert_eq!(is("steadfast_on_fallback", &[]), 0.0);

    let all = report.requests as f64;
    assert_eq!(is("steadfast_requests_total", &[r#"feature="chat""#, r#"outcome="answered""#]), all);
    assert_eq!(is("steadfast_requests_total", &[]), all);
    let by_gpt = report.served["gpt"] as f64;
    assert_eq!(is("steadfast_rescued_requests_total", &[r#"by="fallback""#, r#"stream="true""#]), by_gpt);
    let failures = is("steadfast_attempt_failures_total", &[r#"tier="sonnet""#, r#"kind="server""#]);
    let attempts = is("steadfast_attempts_total", &[]);
    assert_eq!(attempts, all + failures);
    assert_eq!(is("steadfast_dead_attempts_total", &[r#"tier="sonnet""#]), failures);
    // Five to trip, those under way, and the probes: of each eighth second at first, and of each minute at last.
    assert!((150.0..300.0).contains(&failures), "{failures}");
    assert!(is("steadfast_refused_calls_total", &[r#"kind="circuit_open""#]) >= by_gpt - failures);
    assert!(is("steadfast_circuit_transitions_total", &[r#"state="open""#]) >= 150.0);
    assert_eq!(is("steadfast_circuit_state", &[r#"tier="sonnet""#, r#"state="closed""#]), 1.0);
    assert_eq!(is("steadfast_first_token_seconds_count", &[]), all);
    assert!(is("steadfast_tokens_total", &[r#"type="output""#, r#"tier="gpt""#]) > 0.0);
    assert_eq!(is("steadfast_permits", &[r#"feature="chat""#]), 2000.0);
    assert_eq!(is("steadfast_events_lost_total", &[]), 0.0);
    assert_eq!(u64::from(PER_SECOND) * (BEFORE + LASTS + MINUTE * 4).as_secs(), report.requests);
}

mod reloads {
    //! A stack that is reloaded.

    use steadfast_stack::{Config, Format, Stack};
    use tokio::task::yield_now;

    use super::*;

    fn config(text: &str) -> Config {
        Config::from_str(text, Format::Yaml).unwrap()
    }

    const BEFORE: &str = "
    tiers:
      - { name: sonnet, provider: simulated }
      - { name: gpt, provider: simulated }
    features: { chat: { concurrency: 20 } }
    ";

    /// Sonnet's circuit differs, gpt is gone, and there is a cap.
    const AFTER: &str = "
    tiers:
      - { name: opus, provider: simulated, model: opus }
      - { name: sonnet, provider: simulated, circuit_breaker: { consecutive_failures: 9 } }
    features: { chat: { concurrency: 5 } }
    prices: { opus: { input: 1, output: 1 } }
    budgets: [{ name: all, usd: 2, period: day }]
    ";

    fn state(page: &PrometheusHandle, tier: &str) -> Vec<f64> {
        let tier = format!("tier=\"{tier}\"");
        let of = |state: &str| sum(page, "steadfast_circuit_state", &[&tier, &format!("state=\"{state}\"")]);
        ["closed", "open", "half_open"].map(of).into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reload_brings_is_measured_and_what_it_takes_away_is_not() {
        let (metrics, text) = recorded();
        let stack = Stack::from_config(config(BEFORE)).unwrap();
        let handle = stack.handle();
        let metrics = metrics.stack(handle.clone());
        let sampled = metrics.handle();
        let _subscription = handle.events().follow(metrics);
        for circuit in handle.circuits().values() {
            circuit.force_open();
        }
        yield_now().await;
        sampled.sample();
        let page = &text;
        assert_eq!((state(page, "sonnet"), state(page, "gpt")), (vec![0.0, 1.0, 0.0], vec![0.0, 1.0, 0.0]));
        assert_eq!(sum(page, "steadfast_permits", &["feature=\"chat\""]), 20.0);
        assert_eq!(sum(page, "steadfast_budget_limit_dollars", &[]), 0.0);

        handle.reload(config(AFTER)).unwrap();
        yield_now().await;
        sampled.sample();
        let page = &text;
        assert_eq!(state(page, "opus"), [1.0, 0.0, 0.0]);
        assert_eq!(state(page, "sonnet"), [1.0, 0.0, 0.0], "its circuit is another one");
        assert_eq!(state(page, "gpt"), [0.0; 3], "it is gone, and its circuit is not open for ever");
        assert_eq!(sum(page, "steadfast_permits", &["feature=\"chat\""]), 5.0);
        assert_eq!(sum(page, "steadfast_budget_limit_dollars", &["cap=\"all\""]), 2.0);
        assert!(handle.prices().price(None, "opus").is_some() && handle.budgets().len() == 1);
        assert_eq!(sum(page, "steadfast_on_fallback", &["from=\"opus\""]), 0.0);
        assert!(page.render().contains("\nsteadfast_on_fallback{"));
        // The metrics watch the current circuit.
        handle.circuits()["sonnet"].force_open();
        yield_now().await;
        assert_eq!(state(&text, "sonnet"), [0.0, 1.0, 0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_cache_came_to_is_measured_and_goes_on_over_reloads() {
        use tower::ServiceExt as _;

        let (metrics, text) = recorded();
        let file = "
    tiers: [{ name: sonnet, provider: simulated, model: opus }]
    prices: { opus: { input: 1000, output: 1000 } }
    cache: { ttl: 1m }
    ";
        let stack = Stack::from_config(config(file)).unwrap();
        let handle = stack.handle();
        let metrics = metrics.stack(handle.clone());
        let sampled = metrics.handle();
        let _subscription = handle.events().follow(metrics);
        let ask = async |text: &str| {
            let request = steadfast::LlmRequest::prompt(text).with_feature("chat");
            stack.service().oneshot(request).await.unwrap().collect().await.unwrap();
        };
        let page = async || {
            yield_now().await;
            sampled.sample();
            text.clone()
        };
        let results = |page: &PrometheusHandle| {
            ["hit", "miss", "bypass"]
                .map(|result| sum(page, "steadfast_cache_requests_total", &[&format!("result=\"{result}\"")]))
        };
        assert_eq!(results(&page().await), [0.0; 3]);
        for question in ["a", "a", "b", "a"] {
            ask(question).await;
        }
        let seen = page().await;
        assert_eq!(results(&seen), [2.0, 2.0, 0.0]);
        let why = ["feature=\"chat\"", "why=\"fresh\""];
        assert_eq!(sum(&seen, "steadfast_cached_answers_total", &why), 2.0);
        assert_eq!(
            (sum(&seen, "steadfast_cache_answers", &[]), sum(&seen, "steadfast_cache_kept_total", &[])),
            (2.0, 2.0)
        );
        assert!(sum(&seen, "steadfast_cache_bytes", &[]) > 100.0);
        let (paid, saved) = ("steadfast_cost_nanodollars_total", "steadfast_cache_saved_cost_nanodollars_total");
        assert!(sum(&seen, paid, &[]) > 0.0);
        assert!(
            sum(&seen, saved, &["feature=\"chat\""]) >= sum(&seen, paid, &[]) / 2.0,
            "two of four were not paid for"
        );
        assert_eq!(handle.status().cache.unwrap().hits, 2);

        handle.reload(config(&file.replace("1m", "2m"))).unwrap();
        ask("a").await;
        assert_eq!(results(&page().await), [3.0, 2.0, 0.0], "it is the same cache");
        let forgotten = handle.acting_as("ana").forget_answers(Some("chat"));
        assert_eq!(forgotten, Some((2, 0)));
        assert_eq!(handle.forget_answers(None), Some((0, 0)));
        assert_eq!(sum(&page().await, "steadfast_operations_total", &["operation=\"forget\""]), 2.0);
        handle.reload(config(BEFORE)).unwrap();
        assert_eq!((handle.forget_answers(None), handle.status().cache), (None, None));
        handle.reload(config(file)).unwrap();
        ask("a").await;
        assert_eq!(results(&page().await), [3.0, 3.0, 0.0], "a new one is counted on");
    }
}
