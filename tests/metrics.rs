//! The metrics of an outage, as a scrape shows them.

mod common;

use std::time::Duration;

use common::outage::{BEFORE, LASTS, MINUTE, PER_SECOND, Stack};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use steadfast::subscribers::metrics::{METRICS, Metrics};
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
    let text = page.render();
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
    let _following = stack.events.follow(metrics);

    // A scrape every 15 s: the counter grows while the outage lasts, and one state of the circuit is 1.
    let (scrapes, start) = (page.clone(), stack.start);
    let scraping = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            sleep(Duration::from_secs(15)).await;
            handle.sample();
            let states = sum(&scrapes, "steadfast_circuit_state", &[r#"tier="sonnet""#]);
            assert_eq!(states, 1.0);
            seen.push((start.elapsed(), sum(&scrapes, "steadfast_fallback_seconds_total", &[])));
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
    // Five to trip, those under way, and a probe a minute.
    assert!((150.0..250.0).contains(&failures), "{failures}");
    assert!(is("steadfast_refusals_total", &[r#"kind="circuit_open""#]) >= by_gpt - failures);
    assert!(is("steadfast_circuit_transitions_total", &[r#"state="open""#]) >= 150.0);
    assert_eq!(is("steadfast_circuit_state", &[r#"tier="sonnet""#, r#"state="closed""#]), 1.0);
    assert_eq!(is("steadfast_first_token_seconds_count", &[]), all);
    assert!(is("steadfast_tokens_total", &[r#"type="output""#, r#"tier="gpt""#]) > 0.0);
    assert_eq!(is("steadfast_permits", &[r#"feature="chat""#]), 2000.0);
    assert_eq!(is("steadfast_events_lost_total", &[]), 0.0);
    assert_eq!(u64::from(PER_SECOND) * (BEFORE + LASTS + MINUTE * 4).as_secs(), report.requests);
}
