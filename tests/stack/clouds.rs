//! One model behind three doors: a cloud that is down, throttles or refuses its credentials loses nothing, and the next
//! door gets the same prompt.
//!
//! The doors and Google's token server are the simulator's over HTTP in process, at the clouds' own hosts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmRequest, Wire,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_drill::{Drill, Scenario};
use steadfast_simulator::{Accounts, Cloud, InProcess};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{Service, ServiceExt, service_fn};

const EMAIL: &str = "simulated@project.iam.gserviceaccount.com";
/// A key made for tests alone.
const PRIVATE_KEY: &str = include_str!("../../crates/simulator/src/tests/service_account.pem");
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

const CLOUDS: [Cloud; 3] = [Cloud::Google, Cloud::Aws, Cloud::Azure];

fn tier(cloud: Cloud, key_file: &str) -> String {
    let rest = match cloud {
        Cloud::Google => {
            format!("at: vertex, project: my-project, location: global, credential: {{ service_account: {key_file} }}")
        }
        Cloud::Aws => {
            "at: aws, region: us-east-1, api: invoke, credential: { key_id: '${ID}', secret: '${SECRET}' }".into()
        }
        Cloud::Azure => "at: azure, resource: my-resource, api_key: '${AZURE_KEY}'".into(),
    };
    format!("  - {{ name: {}, provider: anthropic, model: claude-sonnet-4-5, {rest} }}\n", name(cloud))
}

fn name(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Google => "vertex",
        Cloud::Aws => "aws",
        Cloud::Azure => "azure",
    }
}

fn cloud_of(host: &str) -> Cloud {
    match host {
        // The token server is beside the doors.
        "oauth2.googleapis.com" => Cloud::Google,
        "aiplatform.googleapis.com" => Cloud::Google,
        "bedrock-runtime.us-east-1.amazonaws.com" => Cloud::Aws,
        "my-resource.services.ai.azure.com" => Cloud::Azure,
        host => panic!("no door is at {host}"),
    }
}

/// The bodies that arrived at each door, by the number in their prompt.
type Arrived = Arc<Mutex<BTreeMap<(usize, &'static str), Vec<u8>>>>;

/// Three doors, their accounts, and a stack over them whose first door is the first of these clouds.
struct Doors {
    accounts: Accounts,
    handles: BTreeMap<Cloud, SimulatedHandle>,
    arrived: Arrived,
    stack: Stack,
    _folder: Folder,
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's folder for such.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Doors {
    fn open(order: [Cloud; 3], test: &str) -> Self {
        let accounts = Accounts::new()
            .aws_keys("AKIDEXAMPLE", SECRET)
            .token(Cloud::Azure, "an azure key")
            .service_account(EMAIL, PRIVATE_KEY);
        let folder = std::env::temp_dir().join(format!("steadfast-doors-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = Folder(folder);
        let key_file = folder.0.join("key.json");
        let key = json!({ "type": "service_account", "client_email": EMAIL, "private_key": PRIVATE_KEY,
            "private_key_id": "1", "token_uri": "https://oauth2.googleapis.com/token", "project_id": "p" });
        std::fs::write(&key_file, key.to_string()).unwrap();
        let tiers: String = order.iter().map(|cloud| tier(*cloud, key_file.to_str().unwrap())).collect();
        let file = format!("tiers:\n{tiers}fallback: same_model\n");
        let environment: Environment =
            [("ID", "AKIDEXAMPLE"), ("SECRET", SECRET), ("AZURE_KEY", "an azure key")].into_iter().collect();
        let provider = |cloud| (cloud, Simulated::new(name(cloud)).reply(format!("It rains at {}.", name(cloud))));
        let providers: BTreeMap<_, _> = CLOUDS.map(provider).into();
        let handles = providers.iter().map(|(cloud, provider)| (*cloud, provider.handle())).collect();
        let doors: BTreeMap<_, _> = providers
            .into_iter()
            .map(|(cloud, provider)| (cloud, InProcess::new(provider).accounts(&accounts)))
            .collect();
        let arrived = Arrived::default();
        let book = Arc::clone(&arrived);
        let transport = service_fn(move |request: http::Request<Full<Bytes>>| {
            let cloud = cloud_of(request.uri().host().expect("an absolute address"));
            let (mut door, book) = (doors[&cloud].clone(), Arc::clone(&book));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a whole body").to_bytes();
                let text = String::from_utf8_lossy(&body);
                let number = text.split("prompt number ").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
                if let Some(number) = number {
                    book.lock().unwrap().insert((number, name(cloud)), body.to_vec());
                }
                door.call(http::Request::from_parts(parts, Full::new(body))).await
            }
        });
        let config = Config::from_str(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let stack = Stack::builder().environment(environment).transport(transport).seed(5).build(config);
        let stack = stack.unwrap_or_else(|error| panic!("{error}"));
        Self { accounts, handles, arrived, stack, _folder: folder }
    }

    /// Asks so many times at once, and returns the doors that answered.
    async fn ask(&self, numbers: std::ops::Range<usize>) -> Vec<String> {
        let llm = self.stack.service();
        let asked = numbers.map(|number| {
            let llm = llm.clone();
            async move {
                let request = LlmRequest::from(Wire::new(Dialect::Anthropic, text(number)).unwrap());
                let answer = llm.oneshot(request).await.unwrap_or_else(|error| panic!("{number} is lost: {error}"));
                let tier = answer.served_by().tier.expect("a tier").to_owned();
                let text = answer.text().await.unwrap_or_else(|error| panic!("{number} is lost: {error}"));
                assert_eq!(text, format!("It rains at {tier}."));
                tier
            }
        });
        join_all(asked).await
    }

    fn body_at(&self, number: usize, cloud: Cloud) -> Option<Vec<u8>> {
        self.arrived.lock().unwrap().get(&(number, name(cloud))).cloned()
    }
}

/// A request with what doors handle with care: tools, a cached system prompt, an earlier call with its result, letters
/// outside of ASCII, numbers with their own spelling.
fn body(number: usize) -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "temperature": 0.30,
        "stream": number.is_multiple_of(2),
        "system": [{ "type": "text", "text": "Sei höflich. ☂", "cache_control": { "type": "ephemeral" } }],
        "tools": [{ "name": "weather", "description": "The weather \u{1f327}", "input_schema": schema }],
        "tool_choice": { "type": "auto" },
        "messages": [
            { "role": "user", "content": "How is the weather?" },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "toolu_1", "name": "weather", "input": { "city": "Tromsø" } },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain" },
                { "type": "text", "text": format!("This is prompt number {number}.") },
            ] },
        ],
    })
}

/// Its text, with a number and a space that no encoder would write.
fn text(number: usize) -> String {
    body(number).to_string().replace(":0.3,", ": 0.30,")
}

/// The text of a body without the door's own fields, in its own order and spelling.
fn prompt_of(body: &[u8]) -> BTreeMap<String, Box<serde_json::value::RawValue>> {
    let mut fields: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_slice(body).unwrap();
    for own in ["model", "stream", "anthropic_version"] {
        fields.remove(own);
    }
    fields
}

fn assert_same_prompt(one: &[u8], other: &[u8]) {
    let (one, other) = (prompt_of(one), prompt_of(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, value) in &one {
        assert_eq!(value.get(), other[name].get(), "{name}");
    }
}

/// Each cloud in turn is the first door.
fn orders() -> [[Cloud; 3]; 3] {
    let [a, b, c] = CLOUDS;
    [[a, b, c], [b, c, a], [c, a, b]]
}

const REQUESTS: usize = 20;

async fn survives(test: &str, fail: impl Fn(&Doors, Cloud)) {
    for order in orders() {
        let doors = Doors::open(order, test);
        let [first, second, _] = order;
        let healthy = doors.ask(0..REQUESTS).await;
        assert!(healthy.iter().all(|tier| tier == name(first)), "{healthy:?}");
        for number in 0..REQUESTS {
            let arrived = doors.body_at(number, first).expect("it arrived");
            // The caller's own bytes, but for the door's fields.
            assert_same_prompt(&arrived, text(number).as_bytes());
        }

        fail(&doors, first);
        let answered = doors.ask(REQUESTS..2 * REQUESTS).await;
        assert!(answered.iter().all(|tier| tier == name(second)), "{first:?}: {answered:?}");
        let mut at_both = 0;
        for number in REQUESTS..2 * REQUESTS {
            let there = doors.body_at(number, second).expect("it arrived");
            if let Some(here) = doors.body_at(number, first) {
                assert_same_prompt(&here, &there);
                at_both += 1;
            }
            assert_same_prompt(&there, text(number).as_bytes());
        }
        assert!(at_both > 0, "the first door was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn one_cloud_down_loses_nothing() {
    survives("down", |doors, first| doors.handles[&first].fail(Fault::Refused)).await;
    survives("edge", |doors, first| doors.handles[&first].fail(Fault::Status(503))).await;
    survives("error", |doors, first| doors.handles[&first].fail(Fault::ErrorEventAfter(0))).await;
}

#[tokio::test(start_paused = true)]
async fn one_region_that_throttles_loses_nothing() {
    survives("throttled", |doors, first| doors.handles[&first].fail(Fault::RateLimited { retry_after: None })).await;
    survives("overloaded", |doors, first| doors.handles[&first].fail(Fault::Overloaded)).await;
}

#[tokio::test(start_paused = true)]
async fn revoked_credentials_of_one_cloud_lose_nothing() {
    survives("revoked", |doors, first| doors.accounts.revoke(first)).await;
}

/// An account without access to a model is told by the first door, and answered by the second.
#[tokio::test(start_paused = true)]
async fn a_model_that_was_never_granted_loses_nothing() {
    survives("closed", |doors, first| {
        let number = REQUESTS - 1;
        let body: Value = serde_json::from_slice(&doors.body_at(number, first).unwrap()).unwrap();
        // The id is in the body, or else in the address.
        for id in ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5@20250929"] {
            doors.accounts.close_model(first, id);
        }
        doors.accounts.close_model(first, body["model"].as_str().unwrap_or_default());
    })
    .await;
}

/// The drills of a cloud, in virtual time, with a file of three doors.
#[test]
fn drills_of_one_cloud_lose_nothing() {
    let tiers: String = [Cloud::Aws, Cloud::Google, Cloud::Azure].map(|cloud| tier(cloud, "key.json")).concat();
    let tiers = tiers.replace("{ service_account: key.json }", "metadata");
    let file = format!("tiers:\n{tiers}fallback: same_model\n");
    let config = Config::from_str(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    let names = ["one-cloud-down", "region-throttles", "credentials-revoked"];
    let scenarios = names.map(|name| Scenario::named(name).expect("one of the crate's own"));
    let report = Drill::new(&config).unwrap().run(&scenarios).unwrap();
    for scenario in &report.scenarios {
        let name = &scenario.name;
        assert_eq!((scenario.lost, scenario.refused, scenario.degraded), (0, 0, 0), "{name}");
        assert_eq!(scenario.answered, scenario.requests, "{name}");
        assert!(scenario.baselines.iter().all(|baseline| baseline.lost > 100), "{name}");
    }
}

/// One token serves all callers; when it has ended, one more is fetched for all of them.
#[tokio::test(start_paused = true)]
async fn an_ended_token_is_renewed_once_for_all() {
    let doors = Doors::open(CLOUDS, "renewed");
    doors.ask(0..REQUESTS).await;
    assert_eq!(doors.accounts.issued(Cloud::Google), 1);
    doors.accounts.expire(Cloud::Google);
    let answered = doors.ask(REQUESTS..2 * REQUESTS).await;
    assert!(answered.iter().all(|tier| tier == "vertex"), "{answered:?}");
    assert_eq!(doors.accounts.issued(Cloud::Google), 2);
}

/// A machine whose clock is an hour off signs by the door's clock after one refusal.
#[tokio::test(start_paused = true)]
async fn a_clock_an_hour_off_is_corrected_by_the_doors_date() {
    for seconds in [3600, -3600] {
        let doors = Doors::open([Cloud::Aws, Cloud::Azure, Cloud::Google], "clock");
        doors.accounts.clock_ahead(seconds);
        let answered = doors.ask(0..REQUESTS).await;
        assert!(answered.iter().all(|tier| tier == "aws"), "{seconds}: {answered:?}");
    }
}
