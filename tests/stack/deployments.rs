//! A tier of several deployments: load is spread, a failure goes to another one, and a reload keeps what is known.

use std::{collections::BTreeMap, time::Duration};

use steadfast::{
    BoxLlmService, ErrorKind, Event, LlmRequest, LlmResponse,
    events::{CircuitState, Operation},
    layers::balance::Availability,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Config, Environment, Format, Stack, StackHandle, Tier};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// A deployment that fails attracts so little that its circuit sees few failures.
const OPENS_AT_ONCE: &str = "circuit_breaker: { consecutive_failures: 1, cooldown: 60s }";

/// A tier `main` with these deployments, and a tier behind it.
fn config(deployments: &str) -> Config {
    config_with(deployments, "")
}

fn config_with(deployments: &str, further: &str) -> Config {
    let text = format!(
        "tiers:\n  - {{ name: main, provider: simulated, deployments: [{deployments}] }}\n  \
         - {{ name: spare, provider: simulated }}\n{further}"
    );
    Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn server(name: &str) -> Simulated {
    Simulated::new(name)
        .reply("All is well, as it was before.")
        .latency(50 * MILLISECOND)
        .pace(20 * MILLISECOND)
        .seed(7)
}

/// A stack over simulated servers for the deployments of these names.
fn stack_of(names: &[&str], config: Config) -> (Stack, Vec<SimulatedHandle>) {
    let servers: Vec<Simulated> = names.iter().map(|name| server(name)).collect();
    let handles = servers.iter().map(Simulated::handle).collect();
    let builder = names
        .iter()
        .zip(servers)
        .fold(Stack::builder().seed(11), |builder, (name, server)| builder.leaf(format!("main/{name}"), server));
    (builder.build(config).unwrap_or_else(|error| panic!("{error}")), handles)
}

async fn ask(llm: &BoxLlmService) -> LlmResponse {
    llm.clone().oneshot(LlmRequest::prompt("hello")).await.expect("an answer")
}

/// Returns the tier and the deployment that answered.
async fn served(llm: &BoxLlmService) -> (String, Option<String>) {
    let response = ask(llm).await;
    let by = response.served_by();
    let by = (by.tier.unwrap_or_default().to_owned(), by.deployment.map(str::to_owned));
    response.collect().await.expect("the whole answer");
    by
}

async fn tally(llm: &BoxLlmService, requests: u32) -> BTreeMap<(String, Option<String>), u32> {
    let mut tally = BTreeMap::new();
    for _ in 0..requests {
        *tally.entry(served(llm).await).or_default() += 1;
    }
    tally
}

fn state(handle: &StackHandle, deployment: &str) -> CircuitState {
    handle.circuit(&format!("main/{deployment}")).expect("a deployment's circuit").state()
}

#[tokio::test(start_paused = true)]
async fn load_is_spread_by_weight() {
    let (stack, _) = stack_of(&["east", "west"], config("{ name: east }, { name: west, weight: 3 }"));
    let tally = tally(&stack.service(), 2_000).await;
    let of = |name: &str| f64::from(tally[&("main".to_owned(), Some(name.to_owned()))]);
    assert_eq!(of("east") + of("west"), 2_000.0);
    // A quarter, within five standard deviations.
    assert!((of("east") - 500.0).abs() < 5.0 * (2_000.0 * 0.25 * 0.75_f64).sqrt(), "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_down_costs_no_request_and_its_circuit_opens_alone() {
    let (stack, servers) = stack_of(&["east", "west"], config_with("{ name: east }, { name: west }", OPENS_AT_ONCE));
    let (llm, handle) = (stack.service(), stack.handle());
    servers[1].fail(Fault::ServerError);
    for _ in 0..200 {
        assert_eq!(served(&llm).await, ("main".into(), Some("east".into())));
    }
    assert_eq!((state(&handle, "east"), state(&handle, "west")), (CircuitState::Closed, CircuitState::Open));
    assert_eq!(handle.circuit("main").unwrap().state(), CircuitState::Closed, "the tier works");
    let asked = servers[1].stats().calls;
    assert!(asked <= 10, "{asked}");
    let [_, west] = &handle.deployments("main")[..] else { panic!("there are two") };
    assert_eq!(west.status.availability, Availability::CircuitOpen);
    // It comes back by itself.
    servers[1].heal();
    sleep(70 * SECOND).await;
    let tally = tally(&llm, 400).await;
    assert!(tally[&("main".to_owned(), Some("west".to_owned()))] > 20, "{tally:?}");
    assert_eq!(state(&handle, "west"), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn when_all_are_down_the_next_tier_answers_and_the_record_lists_them() {
    let (stack, servers) = stack_of(&["east", "west"], config("{ name: east }, { name: west }"));
    let (llm, handle) = (stack.service(), stack.handle());
    servers.iter().for_each(|server| server.fail(Fault::ServerError));
    let response = ask(&llm).await;
    assert_eq!(response.served_by().tier, Some("spare"));
    let tried: Vec<_> = response.attempts().iter().map(|attempt| attempt.to_string()).collect();
    for name in ["east", "west"] {
        let listed = response.attempts().iter().filter(|attempt| attempt.deployment.as_deref() == Some(name)).count();
        assert!(listed >= 1, "{tried:?}");
    }
    drop(response);
    for _ in 0..30 {
        assert_eq!(served(&llm).await.0, "spare");
    }
    // Both circuits are open: the tier is passed over without a call.
    assert_eq!((state(&handle, "east"), state(&handle, "west")), (CircuitState::Open, CircuitState::Open));
    let calls = |servers: &[SimulatedHandle]| servers.iter().map(|server| server.stats().calls).sum::<u64>();
    let before = calls(&servers);
    assert_eq!(served(&llm).await.0, "spare");
    assert_eq!(calls(&servers), before);
    servers.iter().for_each(SimulatedHandle::heal);
    sleep(70 * SECOND).await;
    assert_eq!(served(&llm).await.0, "main", "the first probe brings the tier back");
}

#[tokio::test(start_paused = true)]
async fn the_attempts_of_a_request_bound_the_deployments_it_tries() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let list = names.map(|name| format!("{{ name: {name} }}")).join(", ");
    let (stack, servers) = stack_of(&names, config(&list));
    servers.iter().for_each(|server| server.fail(Fault::ServerError));
    let mut request = LlmRequest::prompt("hello");
    request.context_mut().attempts_left = 3;
    let outcome = stack.service().oneshot(request).await;
    let asked: u64 = servers.iter().map(|server| server.stats().calls).sum();
    assert!((1..=3).contains(&asked), "{asked} {outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_at_a_deployment_has_the_tiers_limits_of_time() {
    let mut config = config_with("{ name: east }, { name: west }", OPENS_AT_ONCE);
    config.tiers[0].timeout = Some(steadfast_stack::TierTimeout::Attempt(steadfast_stack::Span(2 * SECOND)));
    let (stack, servers) = stack_of(&["east", "west"], config);
    servers[0].fail(Fault::Hang);
    let llm = stack.service();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(served(&llm).await, ("main".into(), Some("west".into())));
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    }
    assert_eq!(state(&stack.handle(), "east"), CircuitState::Open, "a timeout is a failure");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_where_its_prefix_is_warm_unless_the_file_says_otherwise() {
    let list = "{ name: a }, { name: b }, { name: c }, { name: d }";
    for (further, stays) in [("", true), ("balance: { affinity: false }", false)] {
        let (stack, _) = stack_of(&["a", "b", "c", "d"], config_with(list, further));
        let llm = stack.service();
        let mut homes = BTreeMap::<String, u32>::new();
        for _ in 0..20 {
            let response = llm.clone().oneshot(LlmRequest::prompt("hello").with_session("mine")).await.unwrap();
            *homes.entry(response.served_by().deployment.unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(homes.len() == 1, stays, "{homes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_drains_a_deployment_and_a_tier() {
    let (stack, servers) = stack_of(&["east", "west"], config("{ name: east }, { name: west }"));
    let (llm, operator) = (stack.service(), stack.handle().acting_as("ana"));
    let mut heard = operator.events().subscribe();
    assert!(operator.drain("main/west").unwrap());
    assert!(!operator.drain("main/west").unwrap(), "it is drained already");
    for _ in 0..50 {
        assert_eq!(served(&llm).await, ("main".into(), Some("east".into())));
    }
    let told = std::iter::from_fn(|| heard.try_recv().ok()).find_map(|event| match event {
        Event::Operated { operation: Operation::DeploymentDrained { tier, deployment }, by, .. } => {
            Some(format!("{tier} {deployment} {}", by.unwrap_or_default()))
        }
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("main west ana"));
    // Over a reload too, even one that changes the other deployment.
    operator.reload(config("{ name: east, weight: 2 }, { name: west }, { name: north }")).unwrap();
    assert!(operator.deployments("main")[1].is_drained());
    assert!(operator.undrain("main/west").unwrap());
    operator.force_open("main/east").unwrap();
    assert_eq!(state(&operator, "east"), CircuitState::Open);
    assert_ne!(served(&llm).await.1.as_deref(), Some("east"));
    operator.drain("main").unwrap();
    assert_eq!(served(&llm).await.0, "spare");
    let error = operator.drain("main/wst").unwrap_err().to_string();
    assert!(error.contains("east, west, north"), "{error}");
    assert!(operator.drain("west").is_err(), "a deployment is named with its tier");
    assert_eq!(servers[0].stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_each_deployment_and_no_circuit_of_one_as_a_tier() {
    let list = "{ name: east, zone: us }, { name: west, weight: 3 }";
    let (stack, servers) = stack_of(&["east", "west"], config_with(list, OPENS_AT_ONCE));
    let (llm, handle) = (stack.service(), stack.handle());
    handle.status();
    servers[1].fail(Fault::ServerError);
    tally(&llm, 50).await;
    handle.force_open("main/east").unwrap();
    assert_eq!(served(&llm).await.0, "spare");
    sleep(MILLISECOND).await;
    let status = handle.status();
    let names: Vec<_> = status.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["main", "spare"]);
    let [east, west] = &status.tiers[0].deployments[..] else { panic!("{:?}", status.tiers[0]) };
    assert_eq!((east.zone.as_deref(), east.forced, east.availability), (Some("us"), Some("open"), "circuit open"));
    assert_eq!((west.weight, west.circuit, west.drained), (3.0, "open", false));
    assert!(west.until.is_some() && west.failed >= 1 && east.answered >= 40, "{west:?}");
    assert_eq!(status.tiers[0].health, steadfast_subscribers::TierHealth::Down, "none of its deployments serves");
    assert!(status.tiers[1].deployments.is_empty());
    // Without addresses and keys, in the page's own spelling.
    let json = serde_json::to_value(&status.tiers[0]).unwrap();
    assert_eq!(json["deployments"][1]["inFlight"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_known_of_deployments_that_stay() {
    let list = "{ name: east }, { name: west }";
    let (stack, servers) = stack_of(&["east", "west", "north"], config_with(list, OPENS_AT_ONCE));
    let (llm, handle) = (stack.service(), stack.handle());
    servers[1].fail(Fault::ServerError);
    tally(&llm, 50).await;
    assert_eq!(state(&handle, "west"), CircuitState::Open);
    let calls = servers[1].stats().calls;
    let known = handle.deployments("main")[0].status.answered;
    let open = llm.clone().oneshot(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    assert_eq!(open.served_by().deployment, Some("east"));

    let same = handle.reload(config_with(list, OPENS_AT_ONCE)).unwrap();
    assert_eq!(same.kept.len(), 2, "nothing has changed");

    let next = "{ name: north }, { name: east, weight: 2 }, { name: west }";
    let reload = handle.reload(config_with(next, OPENS_AT_ONCE)).unwrap();
    assert_eq!(reload.changed.iter().map(|name| &**name).collect::<Vec<_>>(), ["main"]);
    let now = handle.deployments("main");
    let names: Vec<_> = now.iter().map(|it| (it.status.name.to_string(), it.status.in_flight)).collect();
    assert_eq!(names, [("north".into(), 0), ("east".into(), 1), ("west".into(), 0)], "a stream is still under way");
    assert_eq!(now[1].status.answered, known);
    assert_eq!(now[0].status.availability, Availability::Returning, "a new one begins slowly");
    assert_eq!(now[2].status.availability, Availability::CircuitOpen);
    tally(&llm, 50).await;
    assert_eq!(servers[1].stats().calls, calls, "its circuit is still open");
    assert_eq!(open.text().await.unwrap(), "All is well, as it was before.");
    assert_eq!(handle.deployments("main")[1].status.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_when_all_deployments_go_at_a_reload_while_streams_run() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let (stack, servers) = stack_of(&["a", "b", "c", "d"], config("{ name: a }, { name: b }"));
    let (llm, handle) = (stack.service(), stack.handle());
    let mut clients = JoinSet::new();
    for client in 0..20_u32 {
        let llm = llm.clone();
        clients.spawn(async move {
            for number in 0..40_u32 {
                sleep(7 * client * MILLISECOND).await;
                let request = LlmRequest::prompt("hello").with_stream((client + number) % 2 == 0);
                let answer = llm.clone().oneshot(request).await.expect("no request is lost");
                let message = answer.collect().await.expect("no answer is cut");
                assert!(message.text().starts_with("All is well"));
            }
        });
    }
    for round in 0..60 {
        sleep(90 * MILLISECOND).await;
        let list = ["{ name: c }, { name: d }", "{ name: a }", "{ name: b }, { name: a }, { name: d }"][round % 3];
        handle.reload(config(list)).unwrap();
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client panics");
    }
    for server in servers {
        assert_eq!(server.stats().in_flight, 0);
    }
    assert!(handle.deployments("main").iter().all(|it| it.status.in_flight == 0));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn a_tier_becomes_one_of_deployments_and_back_without_a_loss() {
    let (stack, _) = stack_of(&["a", "b"], config("{ name: a }, { name: b }"));
    let (llm, handle) = (stack.service(), stack.handle());
    let old = llm.clone().oneshot(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    let plain = "tiers: [{ name: main, provider: simulated }, { name: spare, provider: simulated }]";
    handle.reload(Config::from_str(plain, Format::Yaml).unwrap()).unwrap();
    assert_eq!(served(&llm).await, ("main".into(), None));
    assert!(handle.deployments("main").is_empty());
    handle.reload(config("{ name: a }")).unwrap();
    assert_eq!(served(&llm).await, ("main".into(), Some("a".into())));
    assert_eq!(old.text().await.unwrap(), "All is well, as it was before.");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wrong_itself_is_sent_once() {
    let (stack, servers) = stack_of(&["a", "b"], config("{ name: a }, { name: b }"));
    servers.iter().for_each(|server| server.fail(Fault::BadRequest));
    let error = stack.service().oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(servers.iter().map(|server| server.stats().calls).sum::<u64>(), 1);
}

#[test]
fn what_is_common_stands_once_at_the_tier() {
    let text = "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    api_key: ${FIRST}
    headers: { x-team: search }
    deployments:
      - {}
      - { api_key: '${SECOND}', weight: 2.5, headers: { x-part: b } }
      - { at: aws, region: us-east-1, zone: us, tokens_per_minute: 400000 }
      - { at: aws, region: eu-west-1, requests_per_minute: 50, max_in_flight: 8 }
      - { at: vertex, project: my-project, location: us-east5, credential: metadata }
      - { base_url: 'https://gateway.example:8443/v1', name: relay }
";
    let config = Config::from_str(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    let tier = &config.tiers[0];
    assert_eq!(
        tier.deployment_names(),
        ["anthropic", "second", "aws-us-east-1", "aws-eu-west-1", "vertex-us-east5-my-project", "relay"]
    );
    let endpoints = tier.endpoints();
    let keys: Vec<_> = endpoints.iter().map(Tier::key_variables).collect();
    let none: [&str; 0] = [];
    assert_eq!(keys, [&["FIRST"][..], &["SECOND"], &none, &none, &none, &["FIRST"]]);
    assert_eq!(endpoints[1].headers.keys().collect::<Vec<_>>(), ["x-part", "x-team"]);
    assert!(endpoints.iter().all(|own| own.model.as_deref() == Some("claude-sonnet-4-5")));
    let missing: Vec<_> =
        config.missing_keys(&Environment::default()).into_iter().map(|key| key.tier.unwrap_or_default()).collect();
    assert_eq!(missing, ["sonnet/anthropic", "sonnet/second", "sonnet/relay"]);
    let doors = config.doors(&Environment::default());
    assert_eq!(doors[2].id, "us.anthropic.claude-sonnet-4-5-20250929-v1:0");
    assert_eq!(doors[3].id, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0");
}

#[test]
fn a_key_that_a_deployment_lacks_is_told_with_its_place() {
    let text =
        "tiers: [{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, deployments: [{ api_key: '${ONE}' },
        { api_key: '${TWO}' }] }]";
    let config = Config::from_str(text, Format::Yaml).unwrap();
    let environment: Environment = [("ONE", "secret-1")].into_iter().collect();
    let error = Stack::builder().environment(environment).build(config).unwrap_err().to_string();
    assert!(error.contains("tiers.sonnet.deployments.two.api_key") && error.contains("TWO"), "{error}");
    assert!(!error.contains("secret-1") && !error.contains("deployments.one"), "{error}");
}
