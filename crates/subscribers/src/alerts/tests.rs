use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::testing::{answered, failed};
use steadfast::{
    ErrorKind, Event,
    events::{CircuitReason, CircuitState, RequestEnded, RequestOutcome},
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
        self.on(Event::ModelSwitched { first, from, to, reason: ErrorKind::Server, failure: None, at: self.now });
    }

    fn recovered(&mut self, from: &str, to: &str) {
        let (from, to) = (from.into(), to.into());
        self.on(Event::ModelRecovered { from, to, after: MINUTE, at: self.now });
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
    desk.switched("gpt", "canned");
    desk.pass(MINUTE * 126);
    assert_eq!(desk.said(), ["failover sonnet firing"]);
    desk.recovered("canned", "sonnet");
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
    desk.on(Event::ModelSwitched { first, from, to, reason: ErrorKind::CircuitOpen, failure: None, at: desk.now });
    assert_eq!(desk.said[0].summary, "gpt serves in place of sonnet (circuit_open: quota used up)");
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
    assert_eq!(desk.said[1].severity, Severity::Critical);
    desk.said();
    desk.engine.set_rules(Rules::new());
    desk.switched("sonnet", "gpt");
    assert_eq!(desk.said[0].severity, Severity::Warning, "the rule's own again");
}

#[tokio::test(start_paused = true)]
async fn when_all_tiers_fail_it_is_said_at_once_and_once() {
    let mut desk = Desk::new(Rules::new());
    for _ in 0..50 {
        let at = desk.now;
        desk.on(Event::AllTiersFailed { feature: Some("chat".into()), reason: ErrorKind::Timeout, at });
        desk.pass(MINUTE);
    }
    assert_eq!(desk.said(), ["all_tiers_failed  firing"]);
    desk.pass(MINUTE * 5);
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
