use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{ServingState, Status, TierHealth, TierSetup, machine::Machine};
use steadfast::{
    CacheReason, Degradation, DegradedReason, ErrorKind,
    events::{CachedAnswer, CircuitReason, CircuitState, Event, RequestEnded, RequestOutcome},
    ledger::{Attempt, Next, Stop},
};

const SECOND: Duration = Duration::from_secs(1);
/// 2026-06-15 06:00:00 UTC.
const SIX: Duration = Duration::from_secs(1_781_503_200);

/// A machine, and a time scale for its events: seconds since six o'clock.
struct Board {
    start: Instant,
    machine: Machine,
}

impl Board {
    fn new() -> Self {
        let start = Instant::now();
        Self { start, machine: Machine::new("a".into(), start) }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + SECOND * u32::try_from(seconds).unwrap()
    }

    fn switch(&mut self, from: &str, to: &str, at: u64) {
        let event = Event::ModelSwitched {
            chain: "a".into(),
            first: "a".into(),
            from: from.into(),
            to: to.into(),
            reason: ErrorKind::Server,
            failure: None,
            at: self.at(at),
        };
        self.machine.event(&event);
    }

    fn recover(&mut self, from: &str, after: u64, at: u64) {
        let after = Duration::from_secs(after);
        let event =
            Event::ModelRecovered { chain: "a".into(), from: from.into(), to: "a".into(), after, at: self.at(at) };
        self.machine.event(&event);
    }

    fn all_failed(&mut self, at: u64) {
        let event = Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at: self.at(at) };
        self.machine.event(&event);
        self.request("a", at, |ended| refused(ended, ErrorKind::CircuitOpen));
    }

    fn request(&mut self, tier: &str, at: u64, change: impl FnOnce(&mut RequestEnded)) {
        let mut ended = answered(tier.into(), self.at(at));
        change(&mut ended);
        self.machine.event(&Event::RequestEnded(ended));
    }

    fn status(&self, at: u64) -> Status {
        self.machine.status(self.at(at), SIX + Duration::from_secs(at))
    }

    /// Returns the state, the tier that serves, and for how many seconds.
    fn who(&self, at: u64) -> (ServingState, String, f64) {
        let status = self.status(at);
        (status.state, status.active_tier, status.since_seconds)
    }
}

fn answered(tier: Arc<str>, at: Instant) -> RequestEnded {
    RequestEnded {
        request_id: None,
        status: None,
        task: None,
        feature: None,
        caller: None,
        chain: None,
        tier: Some(tier),
        provider: None,
        model: None,
        served_model: None,
        route: None,
        outcome: RequestOutcome::Answered,
        failures: None,
        stream: false,
        possible_repeat: false,
        degraded: None,
        first_token: SECOND,
        served_in: SECOND,
        took: SECOND,
        usage: None,
        cost: None,
        cost_without_route: None,
        delivered: None,
        cached: None,
        at,
    }
}

fn failure(tier: Option<&str>, kind: ErrorKind) -> Attempt {
    Attempt {
        tier: tier.map(Into::into),
        deployment: None,
        provider: None,
        model: None,
        begun: Instant::now(),
        took: SECOND,
        failure: Some(kind),
        status: None,
        message: "".into(),
        retry_after: None,
        timeout: None,
        usage: None,
        next: Next::FailedOver,
    }
}

#[tokio::test(start_paused = true)]
async fn it_begins_with_the_primary_and_knows_nothing() {
    let board = Board::new();
    let status = board.status(90);
    assert_eq!((status.state, status.since_seconds, status.since.as_str()), {
        (ServingState::Untried, 90.0, "2026-06-15T06:00:00Z")
    });
    assert_eq!((status.active_tier.as_str(), status.primary_tier.as_str()), ("a", "a"));
    assert_eq!((status.failovers_last_hour, status.lost_events, status.last_recovery_seconds), (0, 0, None));
    let [tier] = &status.tiers[..] else { panic!("{status:?}") };
    assert_eq!((tier.circuit, tier.calls, tier.failure_rate, tier.latency), ("closed", 0, 0.0, None));
}

#[tokio::test(start_paused = true)]
async fn a_switch_and_the_way_back_are_told_with_their_times() {
    let mut board = Board::new();
    board.switch("a", "b", 100);
    board.switch("b", "c", 130);
    let status = board.status(150);
    assert_eq!(board.who(150), (ServingState::Fallback, "c".into(), 20.0));
    assert_eq!((status.time_on_fallback.current_seconds, status.time_on_fallback.total_seconds), (50.0, 50.0));
    board.recover("c", 60, 160);
    let status = board.status(200);
    assert_eq!(board.who(200), (ServingState::Primary, "a".into(), 40.0));
    assert_eq!((status.time_on_fallback.current_seconds, status.time_on_fallback.total_seconds), (0.0, 60.0));
    assert_eq!((status.last_recovery_seconds, status.failovers_last_hour), (Some(60.0), 2));
    let switches: Vec<_> =
        status.recent_switches.iter().map(|s| (s.from.as_str(), s.to.as_str(), s.reason, s.seconds_ago)).collect();
    assert_eq!(switches, [("c", "a", "recovered", 40.0), ("b", "c", "server", 70.0), ("a", "b", "server", 100.0)]);
    assert_eq!(status.recent_switches[2].at, "2026-06-15T06:01:40Z");
    // The next stay adds up.
    board.switch("a", "b", 300);
    assert_eq!(board.status(310).time_on_fallback.total_seconds, 70.0);
}

#[tokio::test(start_paused = true)]
async fn the_failovers_of_the_last_hour_are_counted_and_memory_is_bounded() {
    let mut board = Board::new();
    for at in 0..10_000 {
        board.switch("a", "b", at);
        board.recover("b", 0, at);
        board.machine.event(&Event::CircuitChanged {
            circuit: format!("key/{at}").into(),
            from: CircuitState::Closed,
            to: CircuitState::Open,
            reason: CircuitReason::Failures,
            failure: None,
            at: board.at(at),
        });
    }
    let status = board.status(9_999);
    assert!((3540..=3600).contains(&status.failovers_last_hour), "{}", status.failovers_last_hour);
    assert_eq!((status.recent_switches.len(), status.tiers.len()), (20, 65));
    assert_eq!(board.status(9_999 + 3_660).failovers_last_hour, 0);
}

#[tokio::test(start_paused = true)]
async fn a_tier_is_shown_with_its_circuit_and_its_rates() {
    let mut board = Board::new();
    for at in 0..4 {
        let failures = [
            failure(Some("a"), ErrorKind::Server),
            // Nothing was sent, or the request itself was at fault.
            failure(Some("a"), ErrorKind::CircuitOpen),
            failure(Some("b"), ErrorKind::InvalidOutput),
        ];
        board.request("b", at, |ended| {
            ended.failures = Some(Arc::new(failures));
            ended.served_in = SECOND * 2;
        });
    }
    board.request("b", 4, |ended| {
        (ended.outcome, ended.stream) = (RequestOutcome::Broken(ErrorKind::StreamBroken), true);
    });
    // The tier that would have served is unknown.
    board.request("b", 4, |ended| (ended.outcome, ended.tier) = (RequestOutcome::Abandoned, None));
    board.request("b", 4, |ended| {
        let failures = [failure(None, ErrorKind::Timeout)];
        (ended.outcome, ended.tier) = (RequestOutcome::Failed(ErrorKind::Timeout), None);
        ended.failures = Some(Arc::new(failures));
    });
    board.machine.event(&Event::CircuitChanged {
        circuit: "a".into(),
        from: CircuitState::Closed,
        to: CircuitState::Open,
        reason: CircuitReason::Throttled,
        failure: None,
        at: board.at(5),
    });
    let status = board.status(10);
    let [a, b] = &status.tiers[..] else { panic!("{status:?}") };
    assert_eq!((a.name.as_str(), a.calls, a.failures, a.failure_rate), ("a", 5, 5, 1.0));
    assert_eq!((a.circuit, a.circuit_reason.as_deref()), ("open", Some("throttled")));
    assert_eq!(a.circuit_since.as_deref(), Some("2026-06-15T06:00:05Z"));
    assert_eq!((b.name.as_str(), b.calls, b.failures, b.circuit), ("b", 9, 1, "closed"));
    let latency = b.latency.unwrap();
    assert!((1.7..=2.3).contains(&(latency.p50_ms / 1e3)) && (latency.mean_ms - 1800.0).abs() < 1.0, "{latency:?}");
    // Five minutes later it has left the window.
    assert_eq!(board.status(400).tiers[1].calls, 0);
}

#[tokio::test(start_paused = true)]
async fn the_state_says_when_answers_are_less_than_asked_for_and_when_there_are_none() {
    let mut board = Board::new();
    let canned = |ended: &mut RequestEnded| {
        ended.degraded = Some(Degradation::new(5, DegradedReason::Order));
        ended.failures = Some(Arc::new([failure(Some("a"), ErrorKind::CircuitOpen)]));
    };
    board.request("a", 10, |_| {});
    board.switch("a", "canned", 20);
    board.request("canned", 21, canned);
    assert_eq!(board.who(25), (ServingState::Degraded, "canned".into(), 5.0));
    // One feature has no tier left, but others are answered.
    board.all_failed(26);
    assert_eq!(board.who(27).0, ServingState::Failing);
    board.request("canned", 28, canned);
    assert_eq!(board.who(60).0, ServingState::Degraded, "an answer came after it");
    board.all_failed(61);
    board.all_failed(62);
    assert_eq!(board.who(65), (ServingState::Unavailable, "canned".into(), 4.0));
    board.request("b", 70, |_| {});
    assert_eq!(board.who(71).0, ServingState::Failing, "another chain is served");
    board.request("canned", 72, canned);
    assert_eq!(board.who(100).0, ServingState::Degraded);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_was_lost_is_seen_by_the_primarys_answers() {
    let mut board = Board::new();
    board.switch("a", "b", 10);
    // The request began before the switch, or no event was lost: neither proves anything.
    board.request("a", 11, |ended| ended.took = SECOND * 5);
    board.request("a", 20, |_| {});
    assert_eq!(board.who(20).0, ServingState::Fallback);
    board.machine.lost(7);
    board.request("a", 21, |ended| ended.took = SECOND * 15);
    assert_eq!(board.who(21).0, ServingState::Fallback);
    board.request("a", 30, |_| {});
    assert_eq!(board.who(30), (ServingState::Primary, "a".into(), 0.0));
    let status = board.status(30);
    assert_eq!((status.time_on_fallback.total_seconds, status.lost_events), (20.0, 7));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_whose_switch_was_lost_still_adds_its_time() {
    let mut board = Board::new();
    board.machine.lost(1);
    board.recover("b", 25, 40);
    let status = board.status(50);
    assert_eq!((status.time_on_fallback.total_seconds, status.last_recovery_seconds), (25.0, Some(25.0)));
}

#[tokio::test(start_paused = true)]
async fn another_chain_that_switches_counts_until_it_is_back() {
    let mut board = Board::new();
    let (first, from, to) = ("small".into(), "small".into(), "smaller".into());
    let (reason, at) = (ErrorKind::Server, board.at(10));
    board.machine.event(&Event::ModelSwitched {
        chain: Arc::clone(&first),
        first,
        from,
        to,
        reason,
        failure: None,
        at,
    });
    assert_eq!(board.who(15), (ServingState::Fallback, "smaller".into(), 5.0));
    board.switch("a", "b", 20);
    let event = Event::ModelRecovered {
        chain: "small".into(),
        from: "smaller".into(),
        to: "small".into(),
        after: SECOND,
        at: board.at(25),
    };
    board.machine.event(&event);
    assert_eq!(board.who(30), (ServingState::Fallback, "b".into(), 10.0));
    assert_eq!((board.status(30).recent_switches.len(), board.status(30).last_recovery_seconds), (3, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn an_outage_goes_on_over_a_reload_that_leaves_the_primary_and_who_serves() {
    let mut board = Board::new();
    board.switch("a", "b", 10);
    board.request("b", 11, |_| {});
    board.machine.event(&Event::Reloaded { kept: 2, changed: 0, settings: Arc::default(), at: board.at(20) });
    let now = board.at(20);
    board.machine.change_tiers("a".into(), vec!["e".into(), "b".into()], now);
    assert_eq!(board.who(25), (ServingState::Fallback, "b".into(), 15.0));
    assert_eq!(board.status(25).time_on_fallback.total_seconds, 15.0);

    // Another primary, or a missing active tier: from here on the primary serves.
    let now = board.at(30);
    board.machine.change_tiers("c".into(), vec!["b".into(), "d".into()], now);
    let status = board.status(31);
    let names: Vec<_> = status.tiers.iter().map(|tier| (tier.name.as_str(), tier.calls)).collect();
    assert_eq!(names, [("c", 0), ("b", 1), ("d", 0)]);
    assert_eq!((status.active_tier.as_str(), status.primary_tier.as_str()), ("c", "c"));
    assert_eq!(status.time_on_fallback.total_seconds, 0.0, "that of a chain that is no more went with it");
}

#[tokio::test(start_paused = true)]
async fn as_json_it_has_the_names_that_pages_read() {
    let mut board = Board::new();
    board.switch("a", "b", 10);
    board.request("b", 11, |ended| ended.model = Some("model-of-b".into()));
    let json = serde_json::to_value(board.status(20)).unwrap();
    assert_eq!(json["state"], "fallback");
    assert_eq!((&json["activeTier"], &json["primaryTier"]), (&"b".into(), &"a".into()));
    assert_eq!((&json["activeModel"], &json["tiers"][1]["model"]), (&"model-of-b".into(), &"model-of-b".into()));
    assert_eq!((&json["primaryModel"], &json["tiers"][0]["model"]), (&"a".into(), &serde_json::Value::Null));
    assert_eq!((&json["tiers"][1]["health"], &json["requests"]["ended"]), (&"ok".into(), &1.into()));
    assert_eq!((&json["since"], &json["sinceSeconds"]), (&"2026-06-15T06:00:10Z".into(), &10.0.into()));
    assert_eq!(json["tiers"][1]["failureRate"], 0.0);
    assert!(json["tiers"][1]["latency"]["p95Ms"].is_f64());
    assert_eq!(json["recentSwitches"][0]["secondsAgo"], 10.0);
    assert_eq!(json["timeOnFallback"]["currentSeconds"], 10.0);
    for key in ["failoversLastHour", "lastRecoverySeconds", "lostEvents"] {
        assert!(!json[key].is_null() || key == "lastRecoverySeconds", "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_wrong_or_set_moves_the_dates_alone() {
    let mut board = Board::new();
    board.request("a", 5, |_| {});
    board.switch("a", "b", 10);
    board.request("b", 11, |_| {});
    board.machine.event(&Event::CircuitChanged {
        circuit: "a".into(),
        from: CircuitState::Closed,
        to: CircuitState::Open,
        reason: CircuitReason::Failures,
        failure: None,
        at: board.at(12),
    });
    let shown = |since_1970: u64| {
        let status = board.machine.status(board.at(20), Duration::from_secs(since_1970));
        let mut json = serde_json::to_value(status).unwrap();
        let pointers =
            ["/since", "/chains/0/since", "/recentSwitches/0/at", "/tiers/0/circuitSince", "/chains/1/since"];
        let dates = pointers.map(|pointer| json.pointer_mut(pointer).unwrap().take());
        (json.to_string(), dates)
    };
    // Ten, ten, ten, eight and twenty seconds before.
    let at_six = shown(SIX.as_secs() + 20);
    for (since_1970, [ten, eight, twenty]) in [
        (SIX.as_secs() + 20, ["2026-06-15T06:00:10Z", "2026-06-15T06:00:12Z", "2026-06-15T06:00:00Z"]),
        (4_102_444_805, ["2099-12-31T23:59:55Z", "2099-12-31T23:59:57Z", "2099-12-31T23:59:45Z"]),
        // A machine without a clock begins in 1970, and no date is before that.
        (9, ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "1970-01-01T00:00:00Z"]),
        (0, ["1970-01-01T00:00:00Z"; 3]),
    ] {
        let dates = [ten, ten, ten, eight, twenty].map(Into::into);
        assert_eq!(shown(since_1970), (at_six.0.clone(), dates), "{since_1970}");
    }
}

fn refused(ended: &mut RequestEnded, kind: ErrorKind) {
    let failures = [failure(Some("a"), kind), Attempt { next: Next::Stopped(Stop::Kind), ..failure(Some("a"), kind) }];
    (ended.outcome, ended.tier) = (RequestOutcome::Failed(kind), None);
    ended.failures = Some(Arc::new(failures));
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_turn_the_state_though_every_circuit_is_closed() {
    let mut board = Board::new();
    board.request("a", 10, |_| {});
    // A status that no rule covers, twice at the primary and nowhere else.
    board.request("a", 12, |ended| refused(ended, ErrorKind::Overloaded));
    assert_eq!(board.who(13), (ServingState::Failing, "a".into(), 1.0));
    let status = board.status(13);
    assert_eq!((status.tiers[0].circuit, status.tiers[0].health), ("closed", TierHealth::Failing));
    assert_eq!((status.requests.ended, status.requests.failed), (2, 1));
    assert_eq!(board.who(25), (ServingState::Unavailable, "a".into(), 13.0), "nobody was answered for ten seconds");
    assert_eq!(board.who(3600).0, ServingState::Unavailable, "silence shows nothing");
    board.request("a", 3601, |_| {});
    assert_eq!(board.who(3601).0, ServingState::Primary);
    assert_eq!(board.status(3601).tiers[0].health, TierHealth::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_requests_that_fails_turns_the_state_between_those_that_are_answered() {
    let mut board = Board::new();
    for at in 0..40 {
        match at % 10 {
            0 => board.request("a", at, |ended| refused(ended, ErrorKind::Server)),
            _ => board.request("a", at, |_| {}),
        }
    }
    assert_eq!(board.who(40), (ServingState::Failing, "a".into(), 20.0), "3 of 21 were too many");
    board.request("a", 99, |_| {});
    assert_eq!(board.who(101).0, ServingState::Primary, "a minute later they are forgotten");
}

#[tokio::test(start_paused = true)]
async fn what_is_the_callers_own_turns_nothing() {
    let mut board = Board::new();
    let own = [
        ErrorKind::InvalidRequest,
        ErrorKind::ContextLength,
        ErrorKind::Budget,
        ErrorKind::BulkheadFull,
        ErrorKind::Deadline,
        ErrorKind::Refusal,
    ];
    for kind in own {
        for at in 0..10 {
            board.request("a", at, |ended| {
                (ended.outcome, ended.tier) = (RequestOutcome::Failed(kind), None);
                ended.failures = Some(Arc::new([failure(Some("a"), kind)]));
            });
        }
        assert_eq!((board.who(30).0, board.status(30).requests.ended), (ServingState::Untried, 0), "{kind}");
        assert_eq!(board.status(30).tiers[0].health, TierHealth::Ok, "{kind}");
    }
}

/// Makes one of the events that many requests and a failing primary send.
fn some_event(random: &mut fastrand::Rng, names: &[Arc<str>; 2], at: Instant) -> Event {
    let circuit = names[0].clone();
    match random.u32(0..60) {
        0 => return Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at },
        1 => {
            let ([from, to], first) = (names.clone(), names[0].clone());
            return Event::ModelSwitched {
                chain: Arc::clone(&first),
                first,
                from,
                to,
                reason: ErrorKind::Server,
                failure: None,
                at,
            };
        }
        2 => {
            let [to, from] = names.clone();
            return Event::ModelRecovered { chain: Arc::clone(&to), from, to, after: SECOND, at };
        }
        3 => {
            let [from, to] = [CircuitState::HalfOpen, CircuitState::Closed];
            return Event::CircuitChanged { circuit, from, to, reason: CircuitReason::Recovered, failure: None, at };
        }
        _ => {}
    }
    let mut ended = answered(names[usize::from(random.u32(0..10) == 0)].clone(), at);
    ended.served_in = Duration::from_micros(random.u64(100..10_000_000));
    ended.model = (random.u32(0..10) > 0).then(|| names[1].clone());
    match random.u32(0..40) {
        0 => refused(&mut ended, ErrorKind::Server),
        1 => ended.outcome = RequestOutcome::Broken(ErrorKind::Server),
        2 => ended.degraded = Some(Degradation::new(3, DegradedReason::SteppedDown)),
        3 => ended.failures = Some(Arc::new([failure(Some("a"), ErrorKind::RateLimited)])),
        4 => ended.cached = Some(Box::new(CachedAnswer { why: CacheReason::Fresh, age: SECOND, saved: None })),
        5 => ended.tier = None,
        _ => {}
    }
    Event::RequestEnded(ended)
}

#[tokio::test(start_paused = true)]
async fn events_together_are_what_they_are_one_by_one() {
    let (mut random, names) = (fastrand::Rng::with_seed(7), ["a", "b"].map(Arc::from));
    let (start, mut now) = (Instant::now(), Instant::now());
    let [mut together, mut one_by_one] = [(); 2].map(|()| Machine::new("a".into(), start));
    for round in 0..2000 {
        let longest = if random.bool() { 10 } else { 2000 };
        let events: Vec<_> = std::iter::repeat_with(|| {
            now += Duration::from_millis(random.u64(0..longest));
            // The events of several threads are not quite in order.
            let at = now.max(start + SECOND) - Duration::from_millis(random.u64(0..3));
            some_event(&mut random, &names, at)
        })
        .take(round % 60)
        .collect();
        if random.u32(0..20) == 0 {
            together.lost(1);
            one_by_one.lost(1);
        }
        together.events(&events);
        events.iter().for_each(|event| one_by_one.event(event));
        let statuses = [&together, &one_by_one].map(|machine| machine.status(now, SIX));
        assert_eq!(statuses[0], statuses[1], "in round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_fails_calls_is_not_ok_though_others_answer_for_it_and_is_once_its_circuit_has_recovered() {
    let mut board = Board::new();
    for at in 10..13 {
        board.request("b", at, |ended| ended.failures = Some(Arc::new([failure(Some("a"), ErrorKind::RateLimited)])));
    }
    let health = |board: &Board, at| board.status(at).tiers.iter().map(|tier| tier.health).collect::<Vec<_>>();
    assert_eq!(health(&board, 15), [TierHealth::Failing, TierHealth::Ok]);
    assert_eq!(board.who(15).0, ServingState::Fallback, "three in a row came past the first tier");
    let change = |board: &mut Board, to, reason, at| {
        let (circuit, from, at) = ("a".into(), CircuitState::HalfOpen, board.at(at));
        board.machine.event(&Event::CircuitChanged { circuit, from, to, reason, failure: None, at });
    };
    change(&mut board, CircuitState::Open, CircuitReason::Failures, 15);
    assert_eq!(health(&board, 16), [TierHealth::Down, TierHealth::Ok]);
    board.request("a", 17, |ended| refused(ended, ErrorKind::CircuitOpen));
    assert_eq!(board.who(40).0, ServingState::Unavailable);
    // A probe is no request.
    change(&mut board, CircuitState::Closed, CircuitReason::Recovered, 50);
    assert_eq!((health(&board, 51), board.who(51).0), (vec![TierHealth::Ok; 2], ServingState::Fallback));
    for at in 52..55 {
        board.request("a", at, |_| {});
    }
    assert_eq!(board.who(55).0, ServingState::Primary);
}

#[tokio::test(start_paused = true)]
async fn a_setup_is_refused_until_a_call_is_answered() {
    use crate::testing::failed;
    let refused = |kind| failed("a", kind, Next::FailedOver);
    for (kind, setup) in [(ErrorKind::Auth, TierSetup::KeyRefused), (ErrorKind::NotFound, TierSetup::ModelUnknown)] {
        let mut board = Board::new();
        board.machine.name_tiers(vec!["b".into()]);
        let setups = |board: &Board, at| board.status(at).tiers.iter().map(|tier| tier.setup).collect::<Vec<_>>();
        let ready = |board: &Board, at| board.status(at).ready;
        assert!(ready(&board, 0), "no request was made");
        let fail = |board: &mut Board, at| {
            board.request("a", at, |ended| {
                (ended.tier, ended.outcome) = (None, RequestOutcome::Failed(kind));
                ended.failures = Some(vec![refused(kind)].into());
            });
        };
        fail(&mut board, 1);
        assert_eq!(setups(&board, 1), [setup, TierSetup::Untried]);
        assert!(!ready(&board, 1) && !ready(&board, 60), "{kind}");
        assert!(ready(&board, 61), "a request may try");
        fail(&mut board, 70);
        assert!(!ready(&board, 70));
        // Another tier serves.
        board.request("b", 71, |ended| ended.failures = Some(vec![refused(kind)].into()));
        assert_eq!(setups(&board, 71), [setup, TierSetup::Works]);
        assert!(ready(&board, 71));
        // What has worked is an outage from then on.
        board.request("a", 72, |_| {});
        fail(&mut board, 73);
        assert_eq!(setups(&board, 73), [TierSetup::Works; 2]);
        assert!(ready(&board, 73));
        // A reload has changed it.
        board.machine.reset_circuits(&["a".into()]);
        assert_eq!(setups(&board, 74), [TierSetup::Untried, TierSetup::Works]);
    }
}
