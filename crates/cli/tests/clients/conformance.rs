//! Our own gateway before the probes that any other one gets, in virtual time: a primary of each protocol, a backup of
//! another one, and each way to treat a stream that breaks.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use steadfast_conformance::{Caller, Conformance, Report, Subject, Upstream, Upstreams};
use steadfast_gateway::Gateway;
use steadfast_simulator::InProcess;
use steadfast_stack::{Environment, Format, Loader, Stack};
use tower::{BoxError, Service, ServiceExt, service_fn};

const PRIMARY: &str = "primary.test";
const BACKUP: &str = "backup.test";

/// A protocol, and a tier of it at a host.
const PROTOCOLS: [(&str, &str, &str); 4] = [
    ("messages", "provider: anthropic", ""),
    ("chat", "provider: openai, api: chat", "/v1"),
    ("responses", "provider: openai, api: responses", "/v1"),
    ("gemini", "provider: gemini", "/v1beta"),
];

/// Models whose windows the table knows, the backup's larger.
fn model(protocol: &str, is_backup: bool) -> &'static str {
    match (protocol, is_backup) {
        ("messages", false) => "claude-sonnet-4-5",
        ("messages", true) => "claude-haiku-4-5",
        ("gemini", false) => "gemini-2.5-flash",
        ("gemini", true) => "gemini-2.5-pro",
        (_, false) => "gpt-4o",
        (_, true) => "gpt-4.1",
    }
}

fn config(primary: usize, stream: &str) -> String {
    let tier = |name: &str, host: &str, at: usize, window: u32| {
        let (protocol, provider, path) = PROTOCOLS[at % PROTOCOLS.len()];
        let model = model(protocol, name == "backup");
        format!(
            "- {{ name: {name}, {provider}, model: {model}, base_url: 'https://{host}{path}', api_key: '${{KEY}}', \
             context_window: {window}, prefill: true }}\n"
        )
    };
    let tiers = tier("primary", PRIMARY, primary, 128_000) + &tier("backup", BACKUP, primary + 1, 1_000_000);
    format!("tiers:\n{tiers}stream: {{ {stream} }}\n")
}

async fn report(config: &str, callers: &[Caller]) -> Report {
    let upstreams = Upstreams { primary: Upstream::new("primary"), backup: Upstream::new("backup") };
    let [primary, backup] = [&upstreams.primary, &upstreams.backup]
        .map(|upstream| InProcess::new(upstream.provider()).transcript(&upstream.transcript()));
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let mut provider = match request.uri().host() {
            Some(PRIMARY) => primary.clone(),
            _ => backup.clone(),
        };
        provider.call(request)
    });
    let environment: Environment = [("KEY", "sk-of-the-provider")].into_iter().collect();
    let config = Loader::new().environment(environment.clone()).text(config, Format::Yaml).unwrap();
    let stack = Stack::builder().environment(environment).transport(transport).seed(5).build(config).unwrap();
    let gateway = Gateway::builder_of(&stack).build();
    let subject = service_fn(move |mut request: Request<Full<Bytes>>| {
        let gateway = gateway.clone();
        async move {
            request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("gateway.test"));
            let response = gateway.oneshot(request).await?;
            Ok::<_, BoxError>(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        }
    });
    Conformance::new(Subject::new(subject)).upstreams(upstreams).callers(callers.iter().copied()).run(|_| {}).await
}

/// Returns the names of the cases with this verdict.
fn with(report: &Report, word: &str) -> BTreeSet<String> {
    report.cases().iter().filter(|case| case.verdict.word() == word).map(|case| case.name()).collect()
}

/// The ways to treat a stream that breaks: with the probes that fail, and those that tell of a failure.
///
/// A stream that is held back to its end comes late, by the operator's will: one of two minutes later than the probes
/// wait. An end without its mark is no text to go on with, and the backup of S14 takes no begun answer.
const STREAMS: [(&str, &[&str], &[&str]); 3] = [
    ("commit: complete", &["ends/early", "cancellation/reading"], &[]),
    ("on_break: continue", &[], &["faults/S11", "faults/S14"]),
    ("on_break: fail", &[], &["faults/S08", "faults/S09", "faults/S10", "faults/S11", "faults/S14"]),
];

/// Returns the cases of the callers' streams for these probes.
fn of_streams(probes: &[&str], callers: &[Caller]) -> BTreeSet<String> {
    let streams = callers.iter().filter(|caller| caller.is_streamed);
    streams.flat_map(|caller| probes.iter().map(move |probe| format!("{probe} {caller}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn our_gateway_passes_the_probes() {
    // Each way meets each primary with two callers; with STEADFAST_JUDGE=full, with all of them.
    let is_full = std::env::var_os("STEADFAST_JUDGE").is_some_and(|extent| extent == "full");
    for (primary, (protocol, ..)) in PROTOCOLS.into_iter().enumerate() {
        for (at, (stream, failed, told)) in STREAMS.into_iter().enumerate() {
            let pair = (primary * STREAMS.len() + at) * 2 % Caller::ALL.len();
            let callers = if is_full { &Caller::ALL[..] } else { &Caller::ALL[pair..pair + 2] };
            let report = report(&config(primary, stream), callers).await;
            assert_eq!(with(&report, "fail"), of_streams(failed, callers), "{protocol}, {stream}\n{report}");
            let mut told = of_streams(told, callers);
            // Of OpenAI's Chat Completions, a reason for stopping and an end in good order are an end.
            told.retain(|case| protocol != "chat" || !case.starts_with("faults/S11"));
            // Codex never repeats a 429, so a request of its protocol waits for the limit once its stream has begun.
            let waits = callers.iter().filter(|caller| caller.name() == "responses-stream");
            told.extend(waits.map(|caller| format!("outages/all-limited {caller}")));
            assert_eq!(with(&report, "told"), told, "{protocol}, {stream}\n{report}");
            assert_eq!(report.count("skip"), 0, "{protocol}, {stream}\n{report}");
        }
    }
}
