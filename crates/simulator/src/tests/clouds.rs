//! The clouds' own SDKs call the doors: their signatures are verified, and they decode what was planned.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{LazyLock, Mutex},
};

use super::*;

pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const EMAIL: &str = "simulated@project.iam.gserviceaccount.com";

/// Every client with a door, the cloud, a good key, and its names for the end of a text and of a tool call.
const CLIENTS: [(&str, Cloud, &str, [&str; 2]); 12] = [
    ("bedrock", Cloud::Aws, SECRET, ["end_turn", "tool_use"]),
    ("bedrock_token", Cloud::Aws, "good", ["end_turn", "tool_use"]),
    ("mantle", Cloud::Aws, SECRET, ["end_turn", "tool_use"]),
    ("mantle_chat", Cloud::Aws, "good", ["stop", "tool_calls"]),
    ("vertex", Cloud::Google, "good", ["end_turn", "tool_use"]),
    ("foundry", Cloud::Azure, "good", ["end_turn", "tool_use"]),
    ("azure", Cloud::Azure, "good", ["stop", "tool_calls"]),
    ("azure_v1", Cloud::Azure, "good", ["stop", "tool_calls"]),
    ("azure_responses", Cloud::Azure, "good", ["completed", "completed"]),
    ("gemini", Cloud::Google, "good", ["STOP", "STOP"]),
    ("converse", Cloud::Aws, SECRET, ["end_turn", "tool_use"]),
    ("invoke", Cloud::Aws, SECRET, ["end_turn", "tool_use"]),
];

/// The SDKs, started once for all tests: to import them takes longer than to call them.
struct Sdks {
    to: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

static SDKS: LazyLock<Option<Mutex<Sdks>>> = LazyLock::new(|| Sdks::start().map(Mutex::new));

impl Sdks {
    /// Starts the SDKs, which end with the tests. Returns `None` where they are not installed.
    fn start() -> Option<Self> {
        let named = std::env::var("STEADFAST_SDK_CLOUDS");
        let python = named.clone().unwrap_or_else(|_| "python3".to_owned());
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests");
        let mut command = Command::new(&python);
        command.arg(format!("{tests}/clouds.py")).arg(EMAIL).arg(format!("{tests}/service_account.pem"));
        // No profile of the machine's, no proxy, no credential of its environment.
        command.env_remove("AWS_PROFILE").env("NO_PROXY", "127.0.0.1").env("AWS_EC2_METADATA_DISABLED", "false");
        if named.is_err() {
            command.stderr(Stdio::null());
        }
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok().and_then(|child| {
            let mut lines = BufReader::new(child.stdout?).lines();
            lines.next().is_some().then_some(Self { to: child.stdin?, lines })
        });
        if started.is_none() {
            assert!(named.is_err(), "{python} has not the clouds' SDKs");
            eprintln!("skipped: {python} has not the clouds' SDKs (STEADFAST_SDK_CLOUDS)");
        }
        started
    }
}

/// The SDKs as the clients of a server.
struct SdkClients {
    sdks: &'static Mutex<Sdks>,
    base_url: String,
}

impl SdkClients {
    fn of(server: &SimulatedServer) -> Option<Self> {
        let sdks = tokio::task::block_in_place(|| SDKS.as_ref())?;
        Some(Self { sdks, base_url: server.base_url() })
    }

    fn ask(&self, client: &str, method: &str, key: impl Into<Value>, tools: bool) -> Value {
        let asked = json!([self.base_url, client, method, key.into(), tools]);
        tokio::task::block_in_place(|| {
            let mut sdks = self.sdks.lock().unwrap();
            writeln!(sdks.to, "{asked}").unwrap();
            serde_json::from_str(&sdks.lines.next().unwrap().unwrap()).unwrap()
        })
    }
}

/// A key made for these tests alone.
pub(crate) const PRIVATE_KEY: &str = include_str!("service_account.pem");

fn accounts() -> Accounts {
    let mut accounts = Accounts::new().aws_keys("AKIDEXAMPLE", SECRET).service_account(EMAIL, PRIVATE_KEY);
    for cloud in [Cloud::Aws, Cloud::Azure, Cloud::Google] {
        accounts = accounts.token(cloud, "good").token_for(cloud, "old", Duration::ZERO);
    }
    accounts
}

/// A server for each cloud, since clouds share paths.
async fn of_cloud(cloud: Cloud) -> (SimulatedServer, Accounts) {
    let accounts = accounts().only(cloud);
    (SimulatedServer::start_with(provider(), &accounts).await.unwrap(), accounts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clouds_own_sdks_decode_what_was_planned() {
    for cloud in [Cloud::Aws, Cloud::Azure, Cloud::Google] {
        let (server, _) = of_cloud(cloud).await;
        let Some(sdks) = SdkClients::of(&server) else { return };
        for (client, _, key, [stop, stop_of_call]) in CLIENTS.into_iter().filter(|client| client.1 == cloud) {
            for method in ["whole", "streamed"] {
                server.handle().plan_calls::<String>([]);
                let said = sdks.ask(client, method, key, false);
                let got = (&said["text"], &said["calls"], &said["stop"]);
                assert_eq!(got, (&json!("Hello from afar"), &json!([]), &json!(stop)), "{client} {method}: {said}");
                if let Some(model) = said["model"].as_str() {
                    assert!(model.starts_with("claude-haiku-4-5"), "{client}: {model}");
                }
                server.handle().plan_calls([("weather", json!({ "city": "Oslo" }))]);
                let said = sdks.ask(client, method, key, true);
                let calls = json!([["weather", { "city": "Oslo" }]]);
                let got = (&said["text"], &said["calls"], &said["stop"]);
                assert_eq!(got, (&json!(""), &calls, &json!(stop_of_call)), "{client} {method}: {said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_the_sdks_own_classes() {
    let aws = [
        (Fault::ServerError, 500, "InternalServerError", "InternalServerException"),
        (Fault::Unavailable, 503, "InternalServerError", "ServiceUnavailableException"),
        (Fault::RateLimited { retry_after: None }, 429, "RateLimitError", "ThrottlingException"),
        (Fault::Unauthorized, 403, "PermissionDeniedError", "UnrecognizedClientException"),
        (Fault::ContextLength, 400, "BadRequestError", "ValidationException"),
    ];
    let status_of = |cloud, fault: &Fault| match fault {
        Fault::Unauthorized if cloud != Cloud::Aws => (401, "AuthenticationError"),
        Fault::Unauthorized => (403, "PermissionDeniedError"),
        Fault::ServerError => (500, "InternalServerError"),
        Fault::Unavailable => (503, "InternalServerError"),
        Fault::RateLimited { .. } => (429, "RateLimitError"),
        _ => (400, "BadRequestError"),
    };
    for cloud in [Cloud::Aws, Cloud::Azure, Cloud::Google] {
        let (server, _) = of_cloud(cloud).await;
        let Some(sdks) = SdkClients::of(&server) else { return };
        for (client, _, key, _) in CLIENTS.into_iter().filter(|client| client.1 == cloud) {
            for (fault, _, _, exception) in &aws {
                for method in ["whole", "streamed"] {
                    server.handle().fail_next(1, fault);
                    let said = sdks.ask(client, method, key, false);
                    let (status, class) = status_of(cloud, fault);
                    assert_eq!(said["status"], status, "{client} {fault}: {said}");
                    let class = match client {
                        "converse" | "invoke" => {
                            assert_eq!(said["message"], *exception, "{client} {fault}: {said}");
                            // botocore makes the class of the exception that its model has.
                            continue;
                        }
                        "gemini" => {
                            if status < 500 {
                                "ClientError"
                            } else {
                                "ServerError"
                            }
                        }
                        // The Bedrock client has a class of its own for it.
                        _ if fault == &Fault::Unavailable
                            && client != "azure"
                            && !client.starts_with("azure_")
                            && !client.ends_with("_chat") =>
                        {
                            "ServiceUnavailableError"
                        }
                        _ => class,
                    };
                    assert_eq!(said["error"], class, "{client} {fault}: {said}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_and_old_tokens_are_refused_as_the_clouds_do() {
    for cloud in [Cloud::Aws, Cloud::Azure, Cloud::Google] {
        let (server, accounts) = of_cloud(cloud).await;
        let Some(sdks) = SdkClients::of(&server) else { return };
        let of_cloud: Vec<_> = CLIENTS.into_iter().filter(|client| client.1 == cloud).collect();
        let refused = if cloud == Cloud::Aws { 403 } else { 401 };
        for (client, _, key, _) in &of_cloud {
            for wrong in ["wrong", "old"] {
                let said = sdks.ask(client, "whole", wrong, false);
                assert_eq!(said["status"], refused, "{client} {wrong}: {said}");
            }
            if *key == SECRET {
                for hour in [3600, -3600] {
                    accounts.clock_ahead(hour);
                    let said = sdks.ask(client, "streamed", *key, false);
                    assert_eq!(said["status"], 403, "{client}: {said}");
                }
                accounts.clock_ahead(240);
            }
            assert_eq!(sdks.ask(client, "whole", *key, false)["text"], "Hello from afar", "{client}");
            accounts.clock_ahead(0);
        }
        accounts.revoke(cloud);
        for (client, _, key, _) in &of_cloud {
            assert_eq!(sdks.ask(client, "whole", *key, false)["status"], refused, "{client}");
        }
        accounts.restore(cloud);
        for (client, _, key, _) in &of_cloud {
            assert_eq!(sdks.ask(client, "whole", *key, false)["text"], "Hello from afar", "{client}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_token_servers_issue_opens_the_doors() {
    for (client, cloud, doors) in [
        ("identity", Cloud::Aws, ["converse", "invoke"]),
        ("instance", Cloud::Aws, ["invoke", "converse"]),
        ("google_account", Cloud::Google, ["vertex", "gemini"]),
        ("google_user", Cloud::Google, ["gemini", "vertex"]),
    ] {
        let accounts = accounts().grant(Cloud::Aws, "a workload's token").grant(Cloud::Google, "a user's");
        let server = SimulatedServer::start_with(provider(), &accounts).await.unwrap();
        let Some(sdks) = SdkClients::of(&server) else { return };
        let token = sdks.ask(client, "token", Value::Null, false);
        assert!(token.is_string() || token.is_array(), "{client}: {token}");
        for door in doors {
            let said = sdks.ask(door, "streamed", token.clone(), false);
            assert_eq!(said["text"], "Hello from afar", "{client} {door}: {said}");
        }
        assert_eq!(accounts.issued(cloud), 1, "{client}");
        accounts.expire(cloud);
        let said = sdks.ask(doors[0], "whole", token, false);
        let expected = if cloud == Cloud::Aws { 403 } else { 401 };
        assert_eq!(said["status"], expected, "{client}: {said}");
        let token = sdks.ask(client, "token", Value::Null, false);
        assert_eq!(sdks.ask(doors[0], "whole", token, false)["text"], "Hello from afar", "{client}");
        for fault in [TokenFault::Unavailable, TokenFault::Refused] {
            accounts.token_fault(Some(fault));
            let said = sdks.ask(client, "token", Value::Null, false);
            // An instance without credentials is a list of nothing there.
            assert!(said.get("error").is_some(), "{client} {fault:?}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_and_cuts_in_binary_streams_are_raised() {
    let (server, _) = of_cloud(Cloud::Aws).await;
    let Some(sdks) = SdkClients::of(&server) else { return };
    for client in ["converse", "invoke", "bedrock"] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..5 {
            server.handle().fail_next(1, &Fault::ErrorEventAfter(2));
            let said = sdks.ask(client, "streamed", SECRET, false);
            assert!(said["error"].is_string(), "{client}: {said}");
            seen.insert(said["message"].as_str().unwrap_or_default().to_owned());
        }
        if client != "bedrock" {
            // The API reference has one more for InvokeModel.
            assert_eq!(seen.len(), if client == "invoke" { 5 } else { 4 }, "{client}: {seen:?}");
            assert!(seen.iter().all(|name| name.ends_with("Exception")), "{client}: {seen:?}");
        }
        for fault in [Fault::CutAfter(2), Fault::MalformedAfter(1), Fault::MalformedAfter(1)] {
            server.handle().fail_next(1, &fault);
            let said = sdks.ask(client, "streamed", SECRET, false);
            assert!(said["error"].is_string(), "{client} {fault}: {said}");
        }
        assert_eq!(sdks.ask(client, "streamed", SECRET, false)["text"], "Hello from afar");
    }
}
