use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::testing::{answered, failed};
use steadfast::{
    ErrorKind, Event, LlmError, LlmRequest, LlmResponse, TimeoutLayer,
    events::{CircuitReason, CircuitState, Failure, RequestEnded, RequestOutcome},
    ledger::Next,
    prices::Usd,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// An engine with a clock.
struct Desk {
    engine: AlertEngine,
    now: Instant,
    said: Vec<Alert>,
}

impl Desk {
    fn new(rules: Rules) -> Self {
        Self { engine: AlertEngine::new(rules), now: Instant::now(), said: Vec::new() }
    }

    fn on(&mut self, event: Event) {
        self.said.extend(self.engine.on(&event, self.now));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + SECOND * 10).min(until);
            self.said.extend(self.engine.tick(self.now));
        }
    }

    fn said(&mut self) -> Vec<String> {
        let line = |alert: Alert| {
            let again = if alert.repeated { " again" } else { "" };
            format!("{} {} {}{again}", alert.rule, alert.key, alert.state)
        };
        std::mem::take(&mut self.said).into_iter().map(line).collect()
    }

    fn switched(&mut self, from: &str, to: &str) {
        // One chain: it begins at sonnet, or where a test begins.
        let first = if from == "gpt" { "sonnet" } else { from };
        let (first, from, to) = (first.into(), from.into(), to.into());
        self.on(Event::ModelSwitched {
            chain: Arc::clone(&first),
            first,
            from,
            to,
            reason: ErrorKind::Server,
            failure: None,
            at: self.now,
        });
    }

    fn recovered(&mut self, from: &str, to: &str) {
        let (from, to) = (from.into(), to.into());
        self.on(Event::ModelRecovered { chain: Arc::clone(&to), from, to, after: MINUTE, at: self.now });
    }

    fn ended(&mut self, tier: Option<&str>, outcome: RequestOutcome, failures: &[(&str, ErrorKind)]) {
        let failures: Vec<_> = failures.iter().map(|(tier, kind)| failed(tier, *kind, Next::FailedOver)).collect();
        self.on(Event::RequestEnded(RequestEnded {
            tier: tier.map(Into::into),
            provider: None,
            outcome,
            failures: (!failures.is_empty()).then(|| Arc::from(failures)),
            took: SECOND,
            at: self.now,
            ..answered("", "", "")
        }));
    }
}

#[tokio::test(start_paused = true)]
async fn one_switch_is_one_alert_and_its_resolution_however_far_it_goes() {
    let mut desk = Desk::new(Rules::new());
    desk.switched("sonnet", "gpt");
    desk.pass(MINUTE * 30);
    let (first, from, to) = ("sonnet".into(), "gpt".into(), "canned".into());
    desk.on(Event::ModelSwitched {
        chain: Arc::clone(&first),
        first,
        from,
        to,
        reason: ErrorKind::Server,
        failure: None,
        at: desk.now,
    });
    desk.pass(MINUTE * 126);
    assert_eq!(desk.said(), ["failover sonnet firing"]);
    desk.recovered("canned", "sonnet");
    desk.pass(MINUTE);
    assert_eq!(desk.said[0].fields.last().unwrap(), &("lasted", "2 h 36 min".to_owned()));
    assert_eq!(desk.said(), ["failover sonnet resolved"]);
    desk.pass(MINUTE * 60);
    assert!(desk.said().is_empty() && !desk.engine.is_firing());
}

#[tokio::test(start_paused = true)]
async fn a_switch_past_an_open_circuit_says_why_it_is_open() {
    let mut desk = Desk::new(Rules::new());
    for reason in [CircuitReason::Quota, CircuitReason::ProbeFailed] {
        let (circuit, from, to) = ("sonnet".into(), CircuitState::Closed, CircuitState::Open);
        desk.on(Event::CircuitChanged { circuit, from, to, reason, failure: None, at: desk.now });
    }
    let (first, from, to) = ("sonnet".into(), "sonnet".into(), "gpt".into());
    desk.on(Event::ModelSwitched {
        chain: Arc::clone(&first),
        first,
        from,
        to,
        reason: ErrorKind::CircuitOpen,
        failure: None,
        at: desk.now,
    });
    assert_eq!(desk.said[0].summary, "gpt serves in place of sonnet (circuit_open: quota used up)");
}

#[tokio::test(start_paused = true)]
async fn an_alert_has_the_cause_in_its_first_sentence() {
    let mut desk = Desk::new(Rules::new());
    let unavailable =
        LlmError::new(ErrorKind::Server, "Service unavailable").with_status(StatusCode::SERVICE_UNAVAILABLE);
    let failure = Some(Failure::of_error(&unavailable, Some("sf-1".into()), desk.now));
    let at = desk.now;
    let mut switched = |first: &str, to: &str, reason| {
        let (first, from, to, failure) = (first.into(), first.into(), to.into(), failure.clone());
        desk.on(Event::ModelSwitched { chain: Arc::clone(&first), first, from, to, reason, failure, at });
    };
    switched("sonnet", "gpt", ErrorKind::Server);
    switched("opus", "gpt-5", ErrorKind::CircuitOpen);
    let refused = LlmError::new(ErrorKind::Auth, "invalid x-api-key").with_status(StatusCode::UNAUTHORIZED);
    let failure = Some(Failure::of_error(&refused, None, desk.now));
    let (circuit, from, to) = ("haiku".into(), CircuitState::Closed, CircuitState::Open);
    desk.on(Event::CircuitChanged { circuit, from, to, reason: CircuitReason::Auth, failure, at });
    let summaries: Vec<_> = desk.said.iter().map(|alert| alert.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "gpt serves in place of sonnet (server 503: Service unavailable)",
            "gpt-5 serves in place of opus (circuit_open; server 503: Service unavailable)",
            "the key of haiku is refused (auth 401: invalid x-api-key)",
        ]
    );
    for detail in [("status", "503"), ("error", "Service unavailable"), ("request_id", "sf-1")] {
        assert!(desk.said[0].fields.contains(&(detail.0, detail.1.to_owned())), "{detail:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_three_switches_in_ten_minutes_are_flapping() {
    let mut desk = Desk::new(Rules::new().failover(false));
    for _ in 0..3 {
        desk.switched("sonnet", "gpt");
        desk.recovered("gpt", "sonnet");
        desk.pass(MINUTE);
    }
    assert!(desk.said().is_empty(), "three are not more than three");
    desk.switched("sonnet", "gpt");
    desk.recovered("gpt", "sonnet");
    assert_eq!(desk.said(), ["failovers  firing"]);
    desk.pass(MINUTE * 7);
    assert!(desk.said().is_empty());
    desk.pass(MINUTE * 2);
    assert_eq!(desk.said(), ["failovers  resolved"]);

    // Four in eleven minutes are not four in ten.
    let mut desk = Desk::new(Rules::new().failover(false));
    for _ in 0..20 {
        desk.switched("sonnet", "gpt");
        desk.recovered("gpt", "sonnet");
        desk.pass(Duration::from_secs(220));
    }
    assert!(desk.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_failure_rate_needs_more_than_its_share_of_more_than_its_least() {
    let failed = RequestOutcome::Failed(ErrorKind::Server);
    let mut desk = Desk::new(Rules::new());
    for n in 0..100 {
        desk.ended(Some("a"), if n < 10 { failed } else { RequestOutcome::Answered }, &[]);
    }
    assert!(desk.said().is_empty(), "a hundred are not more than a hundred");
    desk.ended(Some("a"), RequestOutcome::Answered, &[]);
    assert_eq!(desk.said[0].summary, "9.9 % of 101 requests failed");
    assert_eq!(desk.said[0].severity, Severity::Critical);
    assert_eq!(desk.said(), ["failure_rate  firing"]);
    // 10 of 201 are below 5 %, which the engine reports after a minute.
    (0..100).for_each(|_| desk.ended(Some("a"), RequestOutcome::Answered, &[]));
    desk.pass(SECOND * 50);
    assert!(desk.said().is_empty());
    desk.ended(Some("a"), RequestOutcome::Broken(ErrorKind::StreamBroken), &[]);
    desk.pass(SECOND * 50);
    assert!(desk.said().is_empty(), "11 of 202: it was above for a moment");
    desk.pass(SECOND * 20);
    assert!(desk.said().is_empty());
    (0..100).for_each(|_| desk.ended(Some("a"), RequestOutcome::Answered, &[]));
    desk.pass(SECOND * 60);
    assert_eq!(desk.said(), ["failure_rate  resolved"]);
    // An hour later the window is empty.
    desk.pass(MINUTE * 62);
    (0..100).for_each(|_| desk.ended(Some("a"), failed, &[]));
    assert!(desk.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistakes_and_goodbyes_are_no_failures() {
    let mut desk = Desk::new(Rules::new());
    for _ in 0..1000 {
        desk.ended(None, RequestOutcome::Failed(ErrorKind::InvalidRequest), &[]);
        desk.ended(None, RequestOutcome::Failed(ErrorKind::Budget), &[]);
        desk.ended(None, RequestOutcome::Abandoned, &[]);
    }
    assert!(desk.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_ill_shows_even_if_another_answers() {
    let mut desk = Desk::new(Rules::new().tier_failure_rate(0.05, 100, MINUTE * 60).unwrap());
    for n in 0..200 {
        match n % 10 {
            0 => desk.ended(Some("gpt"), RequestOutcome::Answered, &[("sonnet", ErrorKind::Server)]),
            _ => desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]),
        }
    }
    assert_eq!(desk.said(), ["tier_failure_rate sonnet firing"]);
}

#[tokio::test(start_paused = true)]
async fn answers_of_fallbacks_are_a_warning_above_one_share_and_wake_somebody_above_another() {
    let mut desk = Desk::new(Rules::new().failover(false).fallback_share(0.05, Some(0.2), 20, MINUTE * 10).unwrap());
    let by_fallback = |desk: &mut Desk| {
        desk.ended(Some("gpt"), RequestOutcome::Answered, &[("sonnet", ErrorKind::CircuitOpen)]);
    };
    // Repeats at the same tier, unanswered requests and callers' own mistakes do not count.
    for _ in 0..19 {
        desk.ended(Some("sonnet"), RequestOutcome::Answered, &[("sonnet", ErrorKind::Server)]);
        desk.ended(None, RequestOutcome::Failed(ErrorKind::InvalidRequest), &[("sonnet", ErrorKind::InvalidRequest)]);
    }
    by_fallback(&mut desk);
    assert!(desk.said().is_empty(), "twenty are not more than twenty");
    by_fallback(&mut desk);
    assert_eq!(desk.said[0].summary, "9.5 % of 21 answers came from fallbacks");
    assert_eq!(desk.said[0].severity, Severity::Warning);
    assert_eq!(desk.said(), ["fallback_share  firing"]);
    by_fallback(&mut desk);
    by_fallback(&mut desk);
    assert!(desk.said().is_empty(), "17.4 % are a warning still, and it was said");
    by_fallback(&mut desk);
    assert_eq!((desk.said[0].severity, desk.said[0].since), (Severity::Critical, desk.now), "20.8 %");
    assert_eq!(desk.said(), ["fallback_share  firing"]);
    // It resolves after a minute below the first share.
    (0..80).for_each(|_| desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]));
    desk.pass(MINUTE * 2);
    assert_eq!(desk.said(), ["fallback_share  resolved"]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_serves_in_a_primarys_place_is_a_fallback_though_nothing_failed_before_it() {
    let mut desk = Desk::new(Rules::none().fallback_share(0.5, None, 2, MINUTE).unwrap());
    desk.switched("sonnet", "gpt");
    (0..3).for_each(|_| desk.ended(Some("gpt"), RequestOutcome::Answered, &[]));
    assert_eq!(desk.said[0].severity, Severity::Warning, "no share is a page");
    assert_eq!(desk.said(), ["fallback_share  firing"]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_has_the_severity_that_it_is_given() {
    let rules = Rules::new().severity(Rule::Failover, Severity::Warning).severity(Rule::Failover, Severity::Critical);
    let mut desk = Desk::new(rules.severity(Rule::FallbackShare, Severity::Critical));
    desk.switched("sonnet", "gpt");
    assert_eq!(desk.said[0].severity, Severity::Critical);
    desk.recovered("gpt", "sonnet");
    desk.pass(MINUTE);
    assert_eq!(desk.said[1].severity, Severity::Critical);
    desk.said();
    desk.engine.set_rules(Rules::new());
    desk.switched("sonnet", "gpt");
    assert_eq!(desk.said[0].severity, Severity::Warning, "the rule's own again");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_all_tiers_is_said_once_and_ends_with_an_answer() {
    let mut desk = Desk::new(Rules::new());
    for _ in 0..50 {
        let at = desk.now;
        desk.on(Event::AllTiersFailed { feature: Some("chat".into()), reason: ErrorKind::Timeout, at });
        desk.pass(MINUTE);
    }
    assert_eq!(desk.said(), ["all_tiers_failed  firing"]);
    desk.pass(MINUTE * 30);
    assert!(desk.said().is_empty(), "that nobody asks is no answer");
    desk.ended(Some("gpt"), RequestOutcome::Answered, &[]);
    desk.pass(SECOND * 20);
    assert!(desk.said[0].fields.contains(&("requests", "50".to_owned())));
    assert_eq!(desk.said(), ["all_tiers_failed  resolved"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_over_when_its_tier_answers_a_later_request() {
    let mut desk = Desk::new(Rules::new());
    desk.ended(Some("gpt"), RequestOutcome::Answered, &[("sonnet", ErrorKind::Auth)]);
    desk.ended(None, RequestOutcome::Failed(ErrorKind::Auth), &[("sonnet", ErrorKind::Auth)]);
    assert_eq!(desk.said(), ["key_refused sonnet firing"]);
    desk.ended(Some("gpt"), RequestOutcome::Answered, &[]);
    desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]);
    assert!(desk.said().is_empty(), "that one was under way before");
    desk.pass(SECOND * 5);
    desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]);
    assert_eq!(desk.said(), ["key_refused sonnet resolved"]);

    // A circuit's own reason counts too.
    for (to, reason) in [(CircuitState::Open, CircuitReason::Auth), (CircuitState::Closed, CircuitReason::Recovered)] {
        let (circuit, from) = ("sonnet".into(), CircuitState::HalfOpen);
        desk.on(Event::CircuitChanged { circuit, from, to, reason, failure: None, at: desk.now });
    }
    assert_eq!(desk.said(), ["key_refused sonnet firing", "key_refused sonnet resolved"]);
}

#[tokio::test(start_paused = true)]
async fn each_share_of_a_budget_is_said_and_one_end() {
    let mut desk = Desk::new(Rules::new());
    let dollars = |n| Usd::from_dollars(n).unwrap();
    let reached = |desk: &mut Desk, percent: u8| {
        let (at, cap) = (desk.now, "all".into());
        let [spent, reserved, limit] = [percent.min(95), percent - percent.min(95), 100].map(|n| dollars(f64::from(n)));
        desk.on(Event::BudgetReached { cap, key: None, percent, spent, reserved, limit, resets_at: at + MINUTE, at });
    };
    reached(&mut desk, 80);
    reached(&mut desk, 80);
    assert_eq!(desk.said[0].summary, "80 % of the cap all is used: $80.00 of $100.00");
    assert_eq!(desk.said[0].severity, Severity::Warning);
    desk.pass(MINUTE);
    reached(&mut desk, 100);
    assert_eq!((desk.said[1].severity, desk.said[1].since), (Severity::Critical, desk.said[0].since));
    assert_eq!(desk.said[1].summary, "100 % of the cap all is used: $95.00 spent and $5.00 reserved of $100.00");
    let at = desk.now;
    desk.on(Event::BudgetReset { cap: "all".into(), key: None, at });
    desk.on(Event::BudgetReset { cap: "all".into(), key: None, at });
    assert_eq!(desk.said(), ["budget all firing", "budget all firing", "budget all resolved"]);

    let mut desk = Desk::new(Rules::new().budget(Some(100)));
    reached(&mut desk, 80);
    assert!(desk.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_many_keys_reach_leaves_room_for_other_alerts() {
    let mut desk = Desk::new(Rules::new());
    for key in 0..1000 {
        let (at, key) = (desk.now, Some(format!("key-{key}").into()));
        let [spent, reserved, limit] = [Usd::ZERO; 3];
        desk.on(Event::BudgetReached {
            cap: "each".into(),
            key,
            percent: 80,
            spent,
            reserved,
            limit,
            resets_at: at,
            at,
        });
    }
    let said = desk.said();
    assert_eq!((said.len(), said[0].as_str()), (64, "budget each (key-0) firing"));
    desk.switched("sonnet", "gpt");
    let (at, key) = (desk.now, Some("key-0".into()));
    desk.on(Event::BudgetReset { cap: "each".into(), key, at });
    assert_eq!(desk.said(), ["failover sonnet firing", "budget each (key-0) resolved"]);
}

#[tokio::test(start_paused = true)]
async fn other_rules_go_on_from_what_was_counted_and_from_what_fires() {
    let mut desk = Desk::new(Rules::new());
    for _ in 0..3 {
        desk.switched("sonnet", "gpt");
        desk.recovered("gpt", "sonnet");
    }
    desk.said();
    desk.engine.set_rules(Rules::new().failover(false).failovers(4, MINUTE * 10).unwrap());
    desk.switched("sonnet", "gpt");
    assert!(desk.said().is_empty(), "four are not more than four");
    desk.recovered("gpt", "sonnet");
    desk.switched("sonnet", "gpt");
    assert_eq!(desk.said(), ["failovers  firing"]);
    desk.engine.set_rules(Rules::none());
    desk.switched("gpt", "canned");
    desk.pass(MINUTE * 2);
    assert_eq!(desk.said(), ["failovers  resolved"]);
    // Alerts that began under other rules end normally.
    let mut desk = Desk::new(Rules::new());
    desk.switched("sonnet", "gpt");
    desk.engine.set_rules(Rules::none());
    desk.recovered("gpt", "sonnet");
    desk.pass(MINUTE);
    assert_eq!(desk.said(), ["failover sonnet firing", "failover sonnet resolved"]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_is_said_again_only_if_asked() {
    let mut desk = Desk::new(Rules::new().repeat(MINUTE * 60).unwrap());
    desk.switched("sonnet", "gpt");
    desk.pass(MINUTE * 150);
    desk.recovered("gpt", "sonnet");
    desk.pass(MINUTE * 150);
    let expected = [
        "failover sonnet firing",
        "failover sonnet firing again",
        "failover sonnet firing again",
        "failover sonnet resolved",
    ];
    assert_eq!(desk.said(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_off_says_nothing() {
    let mut desk = Desk::new(Rules::none());
    for _ in 0..200 {
        let at = desk.now;
        desk.switched("sonnet", "gpt");
        desk.recovered("gpt", "sonnet");
        desk.on(Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at });
        desk.ended(None, RequestOutcome::Failed(ErrorKind::Auth), &[("sonnet", ErrorKind::Auth)]);
        let ([spent, reserved, limit], cap) = ([Usd::ZERO; 3], "c".into());
        desk.on(Event::BudgetReached { cap, key: None, percent: 100, spent, reserved, limit, resets_at: at, at });
    }
    desk.pass(MINUTE);
    assert!(desk.said().is_empty() && !desk.engine.is_firing());
}

#[test]
fn rules_refuse_nonsense() {
    for share in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(Rules::new().failure_rate(share, 1, MINUTE).is_err(), "{share}");
    }
    assert!(Rules::new().failovers(3, Duration::ZERO).unwrap_err().to_string().starts_with("failovers: "));
    assert!(Rules::new().repeat(Duration::ZERO).is_err());
    for (share, page) in [(0.0, None), (0.2, Some(0.2)), (0.2, Some(0.1)), (0.2, Some(1.0)), (0.2, Some(f64::NAN))] {
        assert!(Rules::new().fallback_share(share, page, 1, MINUTE).is_err(), "{share} {page:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_return_among_the_lost_events_is_made_up_for() {
    let mut desk = Desk::new(Rules::new());
    desk.switched("sonnet", "gpt");
    desk.pass(MINUTE);
    desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]);
    desk.engine.lost();
    assert_eq!(desk.said(), ["failover sonnet firing"], "in a gradual return the primary serves some");
    desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]);
    assert_eq!(desk.said(), ["failover sonnet resolved"]);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_whatever_names_come() {
    let mut desk = Desk::new(Rules::new().tier_failure_rate(0.05, 100, MINUTE).unwrap());
    for n in 0..10_000 {
        desk.switched(&format!("t{n}"), "x");
        desk.ended(Some(&format!("t{n}")), RequestOutcome::Answered, &[(&format!("k{n}"), ErrorKind::Auth)]);
    }
    assert!(desk.said().len() <= 128);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_request_costs_the_engine_no_allocation() {
    let mut engine = AlertEngine::new(Rules::new().fallback_share(0.05, Some(0.2), 20, MINUTE).unwrap());
    let desk = Desk::new(Rules::new());
    let event = Event::RequestEnded(RequestEnded { at: desk.now, ..answered("sonnet", "anthropic", "claude") });
    engine.on(&event, desk.now);
    let measured = allocation_counter::measure(|| drop(engine.on(&event, desk.now)));
    assert_eq!(measured.count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_reload_and_a_store_that_is_away_warn_until_they_are_mended() {
    let mut desk = Desk::new(Rules::new());
    let at = desk.now;
    desk.on(Event::ReloadRefused { problem: "é".repeat(10 << 20).into(), at });
    desk.on(Event::StoreChanged { store: "idempotency".into(), available: false, at });
    let problem = desk.said[0].fields[0].1.clone();
    assert!(problem.ends_with('…') && problem.chars().count() == 501, "a text of any length is cut with a sign");
    assert_eq!(desk.said(), ["reload_refused  firing", "store_away idempotency firing"]);
    desk.pass(MINUTE * 120);
    desk.on(Event::Reloaded { kept: 1, changed: 1, settings: Arc::from([]), at });
    desk.on(Event::StoreChanged { store: "idempotency".into(), available: true, at });
    assert_eq!(desk.said(), ["reload_refused  resolved", "store_away idempotency resolved"]);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_renewed_warn_and_page_once_they_have_ended() {
    let at = Instant::now();
    let mut engine = AlertEngine::new(Rules::new());
    let source: Arc<str> = "the AWS profile `work`".into();
    let failed = |usable| {
        let problem = "AWS STS cannot be reached".into();
        Event::CredentialsFailed { source: source.clone(), problem, usable, at }
    };
    let mut on = |event| {
        let alerts = engine.on(&event, at).into_iter();
        alerts.map(|alert| (alert.rule, alert.severity, alert.state, alert.summary)).collect::<Vec<_>>()
    };
    let of = |severity, state, summary: &str| vec![(Rule::Credentials, severity, state, summary.to_owned())];
    let warning =
        of(Severity::Warning, AlertState::Firing, "the credentials of the AWS profile `work` are not renewed");
    assert_eq!(on(failed(true)), warning);
    assert_eq!(on(failed(true)), []);
    let page = of(Severity::Critical, AlertState::Firing, "the credentials of the AWS profile `work` have ended");
    assert_eq!(on(failed(false)), page);
    let over = of(Severity::Critical, AlertState::Resolved, "the credentials of the AWS profile `work` are renewed");
    assert_eq!(on(Event::CredentialsRenewed { source: source.clone(), at }), over);
}

#[tokio::test(start_paused = true)]
async fn ids_are_one_for_replicas_and_another_for_each_deployment() {
    let id = |source: &str, instance: &str| {
        let mut desk = Desk::new(Rules::new());
        desk.engine.set_origin(Origin::new(source, instance));
        desk.switched("sonnet", "gpt");
        // A reload's new name is for alerts that begin then.
        desk.engine.set_origin(Origin::of("renamed"));
        desk.recovered("gpt", "sonnet");
        desk.pass(MINUTE * 2);
        let ids: Vec<_> = desk.said.iter().map(Alert::id).collect();
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "the end has the beginning's id");
        ids[0].clone()
    };
    assert_eq!(id("production", "pod-1"), id("production", "pod-2"));
    assert_ne!(id("production", "pod-1"), id("staging", "pod-1"));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_serves_again_for_a_moment_ends_nothing() {
    let mut desk = Desk::new(Rules::new());
    desk.switched("sonnet", "gpt");
    desk.pass(MINUTE * 5);
    for _ in 0..5 {
        // Another replica may still switch: one answer here is no end.
        desk.recovered("gpt", "sonnet");
        desk.pass(SECOND * 30);
        desk.switched("sonnet", "gpt");
        desk.pass(SECOND * 30);
    }
    assert_eq!(desk.said(), ["failover sonnet firing", "failovers  firing"]);
    desk.recovered("gpt", "sonnet");
    desk.pass(SECOND * 50);
    assert!(desk.said().is_empty());
    desk.pass(SECOND * 10);
    assert_eq!(desk.said[0].fields.last().unwrap(), &("lasted", "10 min".to_owned()), "until it served again");
    assert_eq!(desk.said(), ["failover sonnet resolved"]);
}

/// Requests at a steady pace, of which the first in each `failing` come to nothing: the seconds until the page.
fn page_after(every: Duration, seconds: std::ops::Range<u64>, share: f64, lasts: Duration) -> Option<u64> {
    let mut desk = Desk::new(Rules::none().all_tiers_failed(TOTAL_FAILURE).unwrap());
    let (begun, mut random) = (desk.now, fastrand::Rng::with_seed(7));
    while desk.now < begun + lasts {
        let second = (desk.now - begun).as_secs();
        let outage = seconds.contains(&second) && random.f64() < share;
        match outage {
            true => {
                let at = desk.now;
                desk.on(Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at });
                desk.ended(None, RequestOutcome::Failed(ErrorKind::Server), &[("sonnet", ErrorKind::Server)]);
            }
            false => desk.ended(Some("sonnet"), RequestOutcome::Answered, &[]),
        }
        if !desk.said.is_empty() {
            return Some(second - seconds.start);
        }
        desk.now += every;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn an_outage_pages_within_seconds_and_an_unlucky_moment_does_not() {
    let each = |milliseconds| Duration::from_millis(milliseconds);
    // The time between requests, and the longest time until the page.
    for (every, longest) in [(each(10), 7), (each(100), 7), (each(1000), 7), (SECOND * 10, 10), (MINUTE * 20, 1200)] {
        let begins = every.as_secs().max(10) * 6;
        let lasts = Duration::from_secs(begins) + every * 3 + MINUTE;
        let after = page_after(every, begins..u64::MAX, 1.0, lasts).unwrap_or_else(|| panic!("no page: {every:?}"));
        assert!(after <= longest, "{every:?}: {after} s");
        // Requests that fail within a moment, and a single one however thin the traffic is.
        assert_eq!(page_after(every, begins..begins + 2, 1.0, lasts), None, "{every:?}");
    }
    // A third of the requests, those of a feature, within a minute; one in a hundred, never.
    assert!(page_after(each(100), 120..u64::MAX, 0.33, MINUTE * 4).is_some_and(|after| after < 60));
    assert_eq!(page_after(each(100), 120..u64::MAX, 0.01, MINUTE * 60), None);
}

#[tokio::test(start_paused = true)]
async fn the_page_of_an_outage_names_the_cause() {
    let mut desk = Desk::new(Rules::new());
    for _ in 0..3 {
        let at = desk.now;
        desk.on(Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at });
        let mut steps = vec![failed("sonnet", ErrorKind::Server, Next::FailedOver)];
        steps[0].status = Some(StatusCode::SERVICE_UNAVAILABLE);
        steps[0].message = "Service unavailable".to_owned().into();
        steps.extend((0..6).map(|n| failed(&format!("t{n}"), ErrorKind::CircuitOpen, Next::FailedOver)));
        desk.on(Event::RequestEnded(RequestEnded {
            request_id: Some("sf-7".into()),
            tier: None,
            outcome: RequestOutcome::Failed(ErrorKind::Server),
            failures: Some(steps.into()),
            at,
            ..answered("", "", "")
        }));
        desk.pass(SECOND * 10);
    }
    assert_eq!(
        desk.said[0].summary,
        "every tier failed 2 requests within 10 s (server); for one: sonnet server 503: Service unavailable, \
         t0 circuit_open, t1 circuit_open, t2 circuit_open, and 3 more"
    );
    assert!(desk.said[0].fields.contains(&("request_id", "sf-7".to_owned())));
    assert_eq!(desk.said[0].severity, Severity::Critical);
}

#[tokio::test(start_paused = true)]
async fn a_slow_tier_is_a_warning_that_names_it() {
    let mut desk = Desk::new(Rules::new());
    let served = |desk: &mut Desk, tier: &str, stream: bool, served_in: Duration| {
        let ended = RequestEnded { stream, served_in, took: served_in, at: desk.now, ..answered(tier, "", "") };
        desk.on(Event::RequestEnded(ended));
    };
    for _ in 0..20 {
        served(&mut desk, "sonnet", true, SECOND * 19);
        served(&mut desk, "sonnet", false, SECOND * 119);
        served(&mut desk, "gpt", true, SECOND * 2);
    }
    assert!(desk.said().is_empty(), "all are within the limits");
    for _ in 0..11 {
        served(&mut desk, "sonnet", true, SECOND * 21);
    }
    assert_eq!(
        desk.said[0].summary,
        "21.6 % of 51 calls to sonnet within 5 min were slow: no first token after 20 s, no whole answer after 2 min, \
         or a limit ran out; the last took 21 s"
    );
    assert_eq!(desk.said[0].severity, Severity::Warning);
    assert_eq!(desk.said(), ["slow sonnet firing"]);
    desk.pass(MINUTE * 8);
    assert_eq!(desk.said(), ["slow sonnet resolved"]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_are_slow_unless_their_callers_wait_was_short() {
    let hangs = || tower::service_fn(|_: LlmRequest| std::future::pending::<Result<LlmResponse, LlmError>>());
    let own = TimeoutLayer::new(SECOND * 3).layer(hangs()).oneshot(LlmRequest::prompt("?")).await;
    let callers = LlmRequest::prompt("?").with_timeout(SECOND);
    let callers = TimeoutLayer::new(SECOND * 3).layer(hangs()).oneshot(callers).await;
    for (ended, slow) in [(own, true), (callers, false)] {
        let limit = ended.unwrap_err().timeout();
        assert!(limit.is_some());
        let mut desk = Desk::new(Rules::none().slow(SLOWNESS).unwrap());
        for _ in 0..6 {
            let mut step = failed("sonnet", ErrorKind::Timeout, Next::FailedOver);
            step.timeout = limit;
            let at = desk.now;
            let ended = RequestEnded { failures: Some([step].into()), at, ..answered("gpt", "", "") };
            desk.on(Event::RequestEnded(ended));
        }
        assert_eq!(desk.said() == ["slow sonnet firing"], slow, "{limit:?}");
    }
}
