//! Every recorded exchange with Bedrock that has a body of Converse, or one of Messages in InvokeModel: read by
//! `providers::bedrock` and the decoder of Messages, in pieces cut anywhere, and held against the readings of boto3 and
//! of Anthropic's client for Bedrock ([`oracle`]).

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use steadfast::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest,
    chat::Message,
    providers::{
        bedrock::{converse, event_stream::Decoder, invoke},
        codec::{self, Codec},
    },
};

use super::{
    oracle::{self, Verdict},
    read,
    server::pieces,
};
use crate::recordings::{Exchange, Recordings, Request, base64};

#[derive(Deserialize)]
struct Record<'a> {
    id: String,
    provider: String,
    #[serde(default)]
    api: String,
    request: RecordedRequest,
    #[serde(borrow)]
    response: RecordedResponse<'a>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    path: String,
}

#[derive(Deserialize)]
struct RecordedResponse<'a> {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    body_base64: Option<String>,
}

/// The reason why an exchange is not compared.
fn skipped(record: &Record<'_>) -> Option<&'static str> {
    // An inference profile names its model's vendor too.
    let of_anthropic = record.request.path.contains("anthropic");
    match record.api.as_str() {
        _ if record.response.status != 200 => Some("an error answer: the leaf reads its head"),
        "converse" | "converse-stream" => None,
        "invoke" | "invoke-with-response-stream" if of_anthropic => None,
        "invoke" | "invoke-with-response-stream" => Some("InvokeModel with another vendor's body"),
        _ => Some("no chat"),
    }
}

/// An exchange as the leaf sees it behind the door: an answer of Messages.
fn exchange(record: &Record<'_>, body: Bytes, is_sse: bool) -> Exchange {
    Exchange {
        id: record.id.clone(),
        kind: "bedrock".to_owned(),
        provider: "anthropic".to_owned(),
        server: "bedrock".to_owned(),
        dialect: Dialect::Anthropic,
        stream: is_sse,
        model: "unrecorded".to_owned(),
        request: Request { path: record.request.path.clone(), headers: HeaderMap::new(), body: None },
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body,
        is_sse,
    }
}

async fn to() -> codec::Exchange {
    let request: LlmRequest = Chat::new([Message::user("hello")]).into();
    Codec::new(Dialect::Anthropic).key("key").model("claude").encode(&request).await.expect("a request")
}

fn head(record: &Record<'_>) -> converse::AnswerHead {
    let id = record.response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amzn-requestid"));
    match id.and_then(|(_, id)| id.as_str()) {
        Some(id) => converse::AnswerHead::default().id(id),
        None => converse::AnswerHead::default(),
    }
}

/// The server-sent events of a stream that comes in these pieces, up to its failure.
async fn events(record: &Record<'_>, pieces: Vec<Bytes>) -> Vec<Result<Bytes, String>> {
    let body = stream::iter(pieces.into_iter().map(Ok));
    let error =
        |piece: Result<Bytes, _>| piece.map_err(|error: Box<dyn std::error::Error + Send + Sync>| error.to_string());
    match record.api.as_str() {
        "converse-stream" => converse::sse(body, head(record)).map(error).collect().await,
        _ => invoke::sse(body).map(error).collect().await,
    }
}

async fn message(events: Vec<Result<Bytes, String>>) -> Result<Message, LlmError> {
    let response = to().await.stream_sse(stream::iter(events)).await?;
    Ok(read(response).await?.message)
}

fn cut(body: &[u8], rng: &mut fastrand::Rng) -> Vec<Bytes> {
    pieces(body, rng).into_iter().map(Bytes::copy_from_slice).collect()
}

/// Reads a stream in pieces, and cut at any place: then it is broken, unless the answer had ended.
async fn streamed(record: &Record<'_>, body: &[u8], wrong: &mut Vec<String>) -> (Bytes, Result<Message, LlmError>) {
    let mut rng = fastrand::Rng::with_seed(body.len() as u64);
    let sse = events(record, cut(body, &mut rng)).await;
    let joined: Vec<u8> = sse.iter().flatten().flat_map(|piece| piece.iter().copied()).collect();
    let failed = sse.iter().find_map(|piece| piece.as_ref().err()).cloned();
    let came = message(sse).await;
    if let (Some(error), true) = (failed, came.is_ok()) {
        wrong.push(format!("the stream fails behind its answer: {error}"));
    }
    let mut ends: Vec<usize> = (0..10).map(|_| rng.usize(..body.len())).collect();
    let mut decoder = Decoder::default();
    decoder.push(Bytes::copy_from_slice(body));
    while let Ok(Some(_)) = decoder.next_message() {
        ends.push(body.len() - decoder.buffered());
    }
    for end in ends.into_iter().filter(|end| *end < body.len()) {
        let cut = message(events(record, cut(&body[..end], &mut rng)).await).await;
        match (&came, cut) {
            // Only the usage was missing.
            (Ok(whole), Ok(cut)) if whole.content == cut.content && whole.finish == cut.finish => {}
            (Ok(_), Err(error)) if error.kind() == ErrorKind::StreamBroken => {}
            (Err(_), Err(_)) => {}
            (_, cut) => wrong.push(format!("cut at byte {end} of {}: {cut:?}", body.len())),
        }
    }
    (joined.into(), came)
}

async fn whole(record: &Record<'_>, body: &[u8]) -> (Bytes, Result<Message, LlmError>) {
    let body = match record.api.as_str() {
        "converse" => match converse::answer(body, &head(record)) {
            Ok(body) => Bytes::from(body),
            Err(error) => return (Bytes::new(), Err(error)),
        },
        _ => Bytes::copy_from_slice(body),
    };
    let came = match to().await.answer(body.clone()) {
        Ok(response) => read(response).await.map(|came| came.message),
        Err(error) => Err(error),
    };
    (body, came)
}

/// Returns true for the API before Messages, whose answers have a `completion`.
fn is_completion(body: &[u8]) -> bool {
    let first = body.strip_prefix(b"data: ").unwrap_or(body).split(|byte| *byte == b'\n').next().unwrap_or_default();
    [first, body]
        .into_iter()
        .any(|json| serde_json::from_slice::<Value>(json).is_ok_and(|answer| answer["completion"].is_string()))
}

#[derive(Default)]
struct Sum {
    exchanges: usize,
    skipped: BTreeMap<&'static str, usize>,
    compared: usize,
    equal: usize,
    rules: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Sum {
    async fn take(&mut self, record: &Record<'_>, reading: Option<&oracle::Reading>) {
        self.exchanges += 1;
        if let Some(reason) = skipped(record) {
            *self.skipped.entry(reason).or_default() += 1;
            return;
        }
        let Some(reading) = reading else {
            *self.skipped.entry("without a line of the oracle").or_default() += 1;
            return;
        };
        let mut wrong = Vec::new();
        let (exchange, came) = match (&record.response.body_base64, record.response.body) {
            (Some(base), _) => {
                let (sse, came) = streamed(record, &base64(base), &mut wrong).await;
                (exchange(record, sse, true), came)
            }
            (None, Some(body)) => {
                let (body, came) = whole(record, body.get().as_bytes()).await;
                (exchange(record, body, false), came)
            }
            (None, None) => {
                *self.skipped.entry("no answer").or_default() += 1;
                return;
            }
        };
        if is_completion(&exchange.body) {
            *self.skipped.entry("InvokeModel with a text completion").or_default() += 1;
            return;
        }
        self.compared += 1;
        match oracle::compare(&exchange, reading, came.as_ref()) {
            Verdict::Equal if wrong.is_empty() => self.equal += 1,
            Verdict::Equal => {}
            Verdict::Excepted(rules) => rules.into_iter().for_each(|rule| *self.rules.entry(rule).or_default() += 1),
            Verdict::Silent => wrong.push("the SDK says nothing".to_owned()),
            Verdict::Different(what) => wrong.extend(what),
        }
        self.wrong.extend(wrong.into_iter().map(|what| format!("{}: {what}", record.id)));
    }
}

/// The texts of all recordings of Bedrock below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("bedrock")).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).expect("a file")).collect()
}

#[tokio::test]
async fn what_bedrock_answered_is_read_as_by_its_sdks() {
    let folders = crate::recordings::folders();
    let seen = std::env::var_os("STEADFAST_FIXTURES").is_none();
    let mut sum = Sum::default();
    for folder in &folders {
        let texts = texts(folder);
        let Some(file) = oracle::file(folder).filter(|_| !texts.is_empty()) else { continue };
        let recordings = Recordings::read(folder).unwrap_or_else(|error| panic!("{error}"));
        let readings = oracle::read(&file, &recordings).unwrap_or_else(|error| panic!("{error}"));
        for text in &texts {
            let record: Record<'_> = serde_json::from_str(text).expect("a recording");
            if record.provider == "bedrock" {
                sum.take(&record, readings.get(&record.id)).await;
            }
        }
    }
    if sum.exchanges == 0 {
        println!("skipped: no recordings of Bedrock beside the repository");
        return;
    }
    let Sum { exchanges, skipped, compared, equal, rules, wrong } = sum;
    wrong.iter().for_each(|what| println!("{what}"));
    skipped.iter().for_each(|(reason, count)| println!("{count:>6} skipped: {reason}"));
    rules.iter().for_each(|(rule, count)| println!("{count:>6} excepted: {rule}"));
    let excepted: usize = rules.values().sum();
    println!("bedrock: {exchanges} exchanges, {compared} compared, {equal} equal, {excepted} excepted");
    let good = equal + excepted;
    assert!(if seen { good == compared } else { good * 1000 >= compared * 995 }, "read as the SDKs read it");
}

/// Converts all recorded requests of Messages. Returns lines of an id and a body of Converse.
fn converted() -> Vec<String> {
    let (mut lines, mut refused) = (Vec::new(), BTreeMap::<String, usize>::new());
    for folder in crate::recordings::folders() {
        let recordings = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
        let exchanges = recordings.exchanges.iter().filter(|exchange| exchange.dialect == Dialect::Anthropic);
        // Those that Anthropic refuses may be wrong for Converse too.
        for exchange in exchanges.filter(|exchange| !exchange.status.is_client_error()) {
            let Some(body) = &exchange.request.body else { continue };
            match converse::request(body) {
                Ok(request) => {
                    let body: &RawValue = serde_json::from_slice(&request.body).expect("it writes JSON");
                    lines.push(format!("{{\"id\":\"{}\",\"body\":{body}}}", exchange.id).replace('\n', " "));
                }
                Err(error) => {
                    let named = matches!(error.kind(), ErrorKind::UnsupportedFeature | ErrorKind::InvalidRequest);
                    assert!(named, "{}: {error}", exchange.id);
                    let feature = error.message().split(" (").next().unwrap_or_default().to_owned();
                    *refused.entry(feature).or_default() += 1;
                }
            }
        }
    }
    if !lines.is_empty() {
        println!("converse: {} requests of Messages converted, {refused:?} refused", lines.len());
    }
    lines
}

/// AWS's own model of the service, by botocore in the interpreter that `STEADFAST_SDK_PYTHON` names. A machine's own
/// may be of another year: it would refuse newer fields.
#[test]
fn every_messages_request_has_a_form_that_botocore_takes() {
    let lines = converted();
    if lines.is_empty() {
        println!("skipped: no recordings beside the repository");
        return;
    }
    let Some(python) = std::env::var_os("STEADFAST_SDK_PYTHON") else {
        println!("skipped: STEADFAST_SDK_PYTHON names no python with botocore");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/recorded/converse_requests.py");
    let mut child = std::process::Command::new(&python)
        .arg(script)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python");
    let mut input = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, lines.join("\n").as_bytes()));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("no panic").expect("it reads all");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "each request follows AWS's model of the service");
}
