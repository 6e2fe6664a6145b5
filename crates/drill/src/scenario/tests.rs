use super::*;

fn of(faults: &str) -> Result<Scenario, ConfigError> {
    Scenario::from_yaml(&format!("name: x\nlasts: 1h\nfaults:\n  - {faults}\n"))
}

#[test]
fn those_that_come_with_the_crate_can_be_read_and_say_what_they_are() {
    let scenarios = Scenario::builtin();
    for (scenario, (name, _)) in scenarios.iter().zip(BUILTIN) {
        assert_eq!(scenario.name(), *name);
        assert!(!scenario.about().is_empty(), "{name}");
        assert!(scenario.expect().is_empty(), "{name}: targets are the user's");
        scenario.hits(&scenario.with_deployments(&crate::default_config())).unwrap();
    }
    let mut names: Vec<_> = scenarios.iter().map(Scenario::name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), scenarios.len());
    assert_eq!(Scenario::named("d5a").unwrap().lasts(), Duration::from_secs(1800));
    assert!(Scenario::named("no-such").is_none());
    assert_eq!(Scenario::nearest("all-down-hor"), Some("all-down-hour"));
}

#[test]
fn every_fault_of_the_documentation_can_be_written() {
    for fault in [
        "server_error",
        "bad_gateway",
        "unavailable",
        "overloaded",
        "rate_limited",
        "{ rate_limited_for: 30s }",
        "come_back_later",
        "quota_exhausted",
        "unauthorized",
        "bad_request",
        "content_filter",
        "context_length",
        "{ status: 530 }",
        "html",
        "refused",
        "no_address",
        "hang",
        "{ slow: 30s }",
        "empty",
        "{ truncated_after: 5 }",
        "{ malformed_after: 5 }",
        "no_end_mark",
        "{ cut_after: 5 }",
        "{ error_event_after: 5 }",
        "{ stall_after: 5 }",
        "keep_alives_only",
        "{ capacity: 2/s }",
        "[overloaded, { status: 503 }, { slow: 1m }]",
    ] {
        let read = of(&format!("{{ from: 1m, to: 2m, fault: {fault} }}"));
        assert!(read.is_ok(), "{fault}: {}", read.unwrap_err());
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
    // The faults, the marked text, and the message.
    for (faults, marked, said) in [
        ("{ from: 20m, to: 10m, fault: hang }", "10m", "before it begins (20m)"),
        ("{ from: 20m, to: 2h, fault: hang }", "2h", "after the scenario (1h)"),
        ("{ from: 1m, to: 2m, fault: hang, share: 150% }", "150%", "0 to 1"),
        ("{ from: 1m, to: 2m, fault: hang, share: 1.5 }", "1.5", "0 to 1"),
        ("{ from: 1m, to: 2m, falt: hang }", "falt", "unknown key `falt`"),
        ("{ from: 1m, to: 2m, fault: hangs }", "hangs", "`hangs`"),
        ("{ from: 1m, to: 2m, fault: { slow: 30 } }", "30", "with its unit"),
        ("{ from: 1m, to: 2m, fault: { status: 200 } }", "200", "from 300 to 599"),
        ("{ from: 1m, fault: hang }", "{ from", "`to` is missing"),
        ("{ from: 1m, to: 2m, fault: hang, every: 10s }", "{ from", "`wave` is missing"),
        ("{ from: 1m, to: 2m, fault: hang, every: 10s, wave: 20s }", "20s", "no longer than `every`"),
        ("{ from: 1m, to: 2m, at: store, fault: overloaded }", "overloaded", "only the faults `refused`"),
        ("{ from: 1m, to: 2m, at: [store, all], fault: hang }", "[store", "a window of its own"),
        ("{ from: 1m, to: 2m, at: store, fault: [refused, hang] }", "[refused", "one fault at a time"),
        ("{ from: 1m, to: 2m, at: store, fault: hang, share: 50% }", "50%", "for all callers"),
        ("{ from: 1m, to: 2m, at: store, fault: hang, features: [chat] }", "[chat]", "for all callers"),
        ("{ from: 1m, to: 2m, fault: [hang, { capacity: 2/s }] }", "[hang", "a capacity counts all calls"),
    ] {
        let error = of(faults).unwrap_err();
        let problem = &error.problems()[0];
        assert_eq!(problem.line, 4, "{error}");
        let rest = &problem.snippet[problem.column - 1..];
        assert!(rest.starts_with(marked), "{faults}: {error}");
        assert!(error.to_string().contains(said), "{faults}: {error}");
    }
}

#[test]
fn what_surrounds_the_faults_is_checked_too() {
    for (text, line, said) in [
        ("lasts: 1h", 1, "`name` is missing"),
        ("name: x", 1, "`lasts` is missing"),
        ("name: x y\nlasts: 1h", 1, "letters, digits"),
        ("name: x\nlasts: 0s", 2, "longer than zero"),
        ("name: x\nlasts: 90d", 2, "31 days"),
        ("name: x\nlasts: 1h\nrequests: { rate: 2 }", 3, "such as 2/s"),
        ("name: x\nlasts: 1h\nrequests: { rate: 0/s }", 3, "no request arrives"),
        ("name: x\nlasts: 24h\nrequests: { rate: 100/s }", 3, "lower the `rate`"),
        ("name: x\nlasts: 1h\nrequests: { features: { chat: -1 } }", 3, "above 0"),
        ("name: x\nlasts: 1h\nrequests: { bursts: [{ from: 5m, to: 4m, rate: 1/s }] }", 3, "the burst ends (4m)"),
        ("name: x\nlasts: 1h\nclock: \"25:00\"", 3, "\"06:20\""),
        ("name: x\nlasts: 1h\nproviders: { p99: 100ms }", 3, "less than `p50`"),
        ("name: x\nlasts: 1h\nexpect: [lots=0]", 3, "answered, served, lost"),
        ("name: x\nlasts: 1h\n  - broken", 2, "a span of time"),
        ("", 1, "`name` is missing"),
    ] {
        let error = Scenario::from_yaml(text).unwrap_err();
        assert_eq!(error.problems()[0].line, line, "{text:?}: {error}");
        assert!(error.to_string().contains(said), "{text:?}: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = Scenario::from_yaml(
        "name: x\nlasts: 1h\nfaults:\n  - { from: 2m, to: 1m, fault: hang }\n  - { from: 9m, to: 3m, fault: hang }\n",
    )
    .unwrap_err();
    assert_eq!(error.problems().iter().map(|problem| problem.line).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_fault_is_at_the_tiers_that_it_names() {
    let config = crate::default_config();
    for (at, tiers, store) in [
        ("", vec![0], false),
        (", at: primary", vec![0], false),
        (", at: fallbacks", vec![1], false),
        (", at: all", vec![0, 1], false),
        (", at: backup", vec![1], false),
        (", at: [backup, primary]", vec![0, 1], false),
        (", at: store", vec![], true),
    ] {
        let scenario = of(&format!("{{ from: 1m, to: 2m, fault: hang{at} }}")).unwrap();
        let hits = scenario.hits(&config).unwrap();
        assert_eq!((&hits[0].tiers, hits[0].store), (&tiers, store), "{at}");
    }
    for (at, marked, said) in [
        ("bakcup", "bakcup", "did you mean `backup`"),
        ("[primary, bakcup]", "bakcup", "did you mean `backup`"),
        ("nobody", "nobody", "`primary`, `deployment`, `fallbacks`, `all`, `store`"),
        ("sorry", "sorry", "calls no provider"),
    ] {
        let scenario = of(&format!("{{ from: 1m, to: 2m, fault: hang, at: {at} }}")).unwrap();
        let error = scenario.hits(&config).err().unwrap();
        let problem = &error.problems()[0];
        assert!(problem.line == 4 && problem.snippet[problem.column - 1..].starts_with(marked), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}
