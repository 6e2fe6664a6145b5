//! Gateways with a flaw, each of which fails the probes of that flaw and no other.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use steadfast_conformance::{Caller, Conformance, Report, ResponseBody, Subject, Upstream, Upstreams};
use steadfast_simulator::InProcess;
use tokio::sync::mpsc;
use tower::{BoxError, ServiceExt, service_fn};

/// The mistake of a gateway that only passes everything on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// It holds a stream back until its end.
    HoldsBack,
    /// Its call goes on without its caller.
    Detaches,
    DropsRetryAfter,
    DropsSystem,
    DropsEarlierTurns,
    DropsTools,
    DropsPictures,
    DropsSchema,
    DropsSettings,
    /// It repeats a failed call seven times at once.
    Hammers,
    /// Its errors are pages for people.
    SaysHtml,
    DropsEndMark,
    /// A broken stream ends in good order.
    Swallows,
    /// It knows ASCII alone.
    LosesCharacters,
    DropsUsage,
    /// An answer that was cut at the limit of tokens looks whole.
    HidesLimit,
    /// Each path is one of its own.
    KnowsEveryPath,
    /// It serves nothing.
    ServesNothing,
    /// It fails every request.
    IsDown,
    /// It asks the other provider for ever, once the first has failed.
    NeverReturns,
}

fn upstreams() -> Upstreams {
    Upstreams { primary: Upstream::new("primary"), backup: Upstream::new("backup") }
}

async fn report(flaw: Flaw) -> Report {
    let upstreams = upstreams();
    let primary = InProcess::new(upstreams.primary.provider()).transcript(&upstreams.primary.transcript());
    let backup = InProcess::new(upstreams.backup.provider()).transcript(&upstreams.backup.transcript());
    let has_failed = Arc::new(AtomicBool::new(false));
    let gateway = service_fn(move |request: Request<Full<Bytes>>| {
        let (primary, backup, has_failed) = (primary.clone(), backup.clone(), has_failed.clone());
        async move {
            if has_failed.load(Relaxed) {
                return backup.oneshot(request).await;
            }
            let response = relay(flaw, primary, request.clone()).await?;
            if flaw == Flaw::NeverReturns && response.status().is_server_error() {
                has_failed.store(true, Relaxed);
                return backup.oneshot(request).await;
            }
            Ok(response)
        }
    });
    let callers = ["chat", "chat-stream"].map(|name| Caller::of(name).unwrap());
    Conformance::new(Subject::new(gateway).model("gpt-4o")).upstreams(upstreams).callers(callers).run(|_| {}).await
}

fn failed(report: &Report) -> BTreeSet<String> {
    let failed = report.cases().iter().filter(|case| case.verdict.word() == "fail");
    failed.map(|case| case.name()).collect()
}

async fn relay(
    flaw: Flaw,
    primary: InProcess,
    request: Request<Full<Bytes>>,
) -> Result<Response<ResponseBody>, BoxError> {
    let (mut head, body) = request.into_parts();
    let mut body = body.collect().await?.to_bytes();
    if let Ok(mut json) = serde_json::from_slice::<Value>(&body) {
        spoil(flaw, &mut json);
        body = json.to_string().into();
    }
    match flaw {
        Flaw::LosesCharacters => {
            let text = std::str::from_utf8(&body).unwrap();
            body = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect::<String>().into();
        }
        Flaw::KnowsEveryPath => head.uri = "/v1/chat/completions".parse().unwrap(),
        Flaw::ServesNothing | Flaw::IsDown => {
            let is_down = flaw == Flaw::IsDown;
            let mut response = Response::new(whole("{}"));
            *response.status_mut() = if is_down { StatusCode::BAD_GATEWAY } else { StatusCode::NOT_FOUND };
            return Ok(response);
        }
        _ => {}
    }
    if flaw == Flaw::Detaches {
        return detached(primary, Request::from_parts(head, Full::new(body))).await;
    }
    let mut response = primary.clone().oneshot(Request::from_parts(head.clone(), Full::new(body.clone()))).await?;
    if flaw == Flaw::Hammers {
        for _ in 0..7 {
            if response.status().is_success() {
                break;
            }
            response = primary.clone().oneshot(Request::from_parts(head.clone(), Full::new(body.clone()))).await?;
        }
    }
    spoil_response(flaw, response).await
}

/// Spoils a request.
fn spoil(flaw: Flaw, json: &mut Value) {
    let fields = json.as_object_mut().unwrap();
    let mut drop_all = |names: &[&str]| names.iter().for_each(|name| _ = fields.remove(*name));
    match flaw {
        Flaw::DropsTools => drop_all(&["tools", "tool_choice"]),
        Flaw::DropsSchema => drop_all(&["response_format"]),
        Flaw::DropsSettings => drop_all(&["temperature", "stop"]),
        Flaw::DropsSystem | Flaw::DropsEarlierTurns | Flaw::DropsPictures => {
            let Some(turns) = fields.get_mut("messages").and_then(Value::as_array_mut) else { return };
            match flaw {
                Flaw::DropsSystem => turns.retain(|turn| turn["role"] != "system"),
                Flaw::DropsEarlierTurns => _ = turns.drain(..turns.len() - 1),
                _ => turns.iter_mut().filter_map(|turn| turn["content"].as_array_mut()).for_each(|parts| {
                    parts.retain(|part| part["type"] != "image_url");
                }),
            }
        }
        _ => {}
    }
}

async fn spoil_response(flaw: Flaw, response: Response<ResponseBody>) -> Result<Response<ResponseBody>, BoxError> {
    let (mut head, body) = response.into_parts();
    match flaw {
        Flaw::DropsRetryAfter => _ = head.headers.remove(header::RETRY_AFTER),
        Flaw::SaysHtml if !head.status.is_success() => {
            return Ok(Response::from_parts(head, whole("<html><h1>Oops</h1></html>")));
        }
        _ => {}
    }
    let body = match flaw {
        Flaw::HoldsBack => whole(body.collect().await?.to_bytes()),
        Flaw::DropsEndMark => edited(body, |text| text.replace("data: [DONE]\n\n", "")),
        Flaw::DropsUsage => edited(body, |text| text.replace("\"usage\"", "\"cost\"")),
        Flaw::HidesLimit => edited(body, |text| text.replace("\"length\"", "\"stop\"")),
        Flaw::Swallows if head.headers[header::CONTENT_TYPE].as_bytes().starts_with(b"text/event-stream") => {
            swallowed(body)
        }
        _ => body,
    };
    Ok(Response::from_parts(head, body))
}

fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Edits each piece: the simulated provider sends an event in one.
fn edited(body: ResponseBody, edit: fn(&str) -> String) -> ResponseBody {
    let piece = move |frame: Frame<Bytes>| {
        frame.map_data(|data| std::str::from_utf8(&data).map_or_else(|_| data.clone(), |text| edit(text).into()))
    };
    body.map_frame(piece).boxed_unsync()
}

/// Ends a stream that breaks as if it were whole.
fn swallowed(mut body: ResponseBody) -> ResponseBody {
    const END: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\
                       \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let is_broken = frame.is_err();
            let frame = frame.unwrap_or_else(|_| Frame::data(Bytes::from_static(END.as_bytes())));
            if sender.send(Ok(frame)).is_err() || is_broken {
                break;
            }
        }
    });
    received(receiver)
}

/// Makes a call that goes on when its caller leaves.
async fn detached(primary: InProcess, request: Request<Full<Bytes>>) -> Result<Response<ResponseBody>, BoxError> {
    let calling = tokio::spawn(async move {
        let (head, mut body) = primary.oneshot(request).await?.into_parts();
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let _ = sender.send(frame);
            }
        });
        Ok::<_, BoxError>(Response::from_parts(head, received(receiver)))
    });
    calling.await?
}

fn received(mut receiver: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>) -> ResponseBody {
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    UnsyncBoxBody::new(StreamBody::new(frames))
}

/// The cases that fail a gateway that only passes everything on to one provider.
const OF_ONE_PROVIDER: &[&str] = &[
    "faults/S01 chat",
    "faults/S01 chat-stream",
    "faults/S02 chat",
    "faults/S02 chat-stream",
    "faults/S03 chat",
    "faults/S03 chat-stream",
    "faults/S04 chat",
    "faults/S04 chat-stream",
    "faults/S05 chat",
    "faults/S05 chat-stream",
    "faults/S06 chat",
    "faults/S06 chat-stream",
    "faults/S07 chat",
    "faults/S07 chat-stream",
    "faults/S08 chat",
    "faults/S09 chat",
    "faults/S09 chat-stream",
    "faults/S10 chat",
    "faults/S10 chat-stream",
    "faults/S11 chat-stream",
    "faults/S12 chat",
    "faults/S12 chat-stream",
    "faults/S14 chat",
    "faults/S15 chat",
    "faults/S15 chat-stream",
    "faults/S16 chat",
    "faults/S16 chat-stream",
];

#[tokio::test(start_paused = true)]
async fn a_gateway_of_one_provider_fails_only_where_a_second_one_is_asked_for() {
    let report = report(Flaw::None).await;
    let wanted: BTreeSet<String> = OF_ONE_PROVIDER.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(failed(&report), wanted, "{report}");
    let told: Vec<String> =
        report.cases().iter().filter(|case| case.verdict.word() == "told").map(|case| case.name()).collect();
    assert_eq!(told, ["faults/S08 chat-stream", "faults/S14 chat-stream"], "{report}");
    assert_eq!(report.count("skip"), 0, "{report}");
}

#[tokio::test(start_paused = true)]
async fn each_flaw_fails_its_own_probes() {
    let both = |names: &[&'static str]| -> Vec<String> {
        names.iter().flat_map(|name| ["chat", "chat-stream"].map(|caller| format!("{name} {caller}"))).collect()
    };
    let base: BTreeSet<String> = OF_ONE_PROVIDER.iter().map(|name| (*name).to_owned()).collect();
    let cases: [(Flaw, Vec<String>, &[&str]); 16] = [
        (
            Flaw::HoldsBack,
            vec![],
            &[
                "ends/early chat-stream",
                "cancellation/reading chat-stream",
                // Nothing had begun, so that another provider could have answered.
                "faults/S08 chat-stream",
                "faults/S14 chat-stream",
            ],
        ),
        (Flaw::Detaches, both(&["cancellation/waiting"]), &["cancellation/reading chat-stream"]),
        (Flaw::DropsRetryAfter, both(&["outages/all-limited"]), &[]),
        (Flaw::DropsSystem, vec![], &["translation/system chat"]),
        (
            Flaw::DropsEarlierTurns,
            both(&["translation/result"]),
            &["translation/system chat", "translation/turns chat"],
        ),
        (Flaw::DropsTools, both(&["ends/call"]), &["translation/tool chat"]),
        (Flaw::DropsPictures, vec![], &["translation/picture chat"]),
        (Flaw::DropsSchema, vec![], &["translation/schema chat"]),
        (Flaw::DropsSettings, vec![], &["translation/settings chat"]),
        (Flaw::Hammers, both(&["errors/refused", "outages/all-down", "faults/S13"]), &[]),
        (
            Flaw::SaysHtml,
            both(&[
                "errors/json",
                "errors/field",
                "errors/refused",
                "outages/all-down",
                "outages/all-limited",
                "faults/S13",
            ]),
            &[],
        ),
        (
            Flaw::DropsEndMark,
            vec![],
            &[
                "ends/stop chat-stream",
                "ends/length chat-stream",
                "ends/call chat-stream",
                "translation/result chat-stream",
            ],
        ),
        (Flaw::Swallows, vec![], &["faults/S08 chat-stream", "faults/S14 chat-stream"]),
        (Flaw::LosesCharacters, both(&["translation/result"]), &["translation/scripts chat"]),
        (Flaw::DropsUsage, both(&["ends/usage"]), &["faults/S11 chat"]),
        (Flaw::HidesLimit, both(&["ends/length"]), &[]),
    ];
    for (flaw, pairs, single) in cases {
        let report = report(flaw).await;
        let more: BTreeSet<String> = failed(&report).difference(&base).cloned().collect();
        let wanted: BTreeSet<String> = pairs.into_iter().chain(single.iter().map(|name| (*name).to_owned())).collect();
        assert_eq!(more, wanted, "{flaw:?}:\n{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_serves_nothing_passes_nothing() {
    let report = report(Flaw::ServesNothing).await;
    assert_eq!(report.count("skip"), report.cases().len(), "{report}");
    assert!(report.cases()[0].verdict.why().contains("does not offer"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_down_fails_once_for_each_caller() {
    let report = report(Flaw::IsDown).await;
    let wanted = ["chat", "chat-stream"].map(|caller| format!("ends/stop {caller}"));
    assert_eq!(failed(&report), BTreeSet::from(wanted), "{report}");
    assert_eq!((report.count("skip"), report.is_served()), (report.cases().len() - 2, false), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_never_returns_to_its_first_provider_fails_where_it_left_it() {
    let report = report(Flaw::NeverReturns).await;
    // 429 is no outage to it, and 500 is: answered, and never again by the first.
    let left = "faults/S03 chat".to_owned();
    assert!(failed(&report).contains(&left), "{report}");
    let why = report.cases().iter().find(|case| case.name() == left).unwrap().verdict.why();
    assert!(why.contains("did not go back to its first provider"), "{report}");
    let later = report.cases().iter().skip_while(|case| case.name() != "faults/S04 chat");
    assert!(later.clone().count() > 20 && later.into_iter().all(|case| case.verdict.word() == "skip"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_path_that_nobody_has_is_no_answer() {
    let report = report(Flaw::KnowsEveryPath).await;
    assert!(failed(&report).contains("errors/path chat"), "{report}");
}
