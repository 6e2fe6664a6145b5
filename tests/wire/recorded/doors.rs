//! The exchanges that were recorded at the doors of clouds, each through a leaf at that door. The recorded body goes
//! out as it was recorded, to the recorded path, and the recorded answer is what the vendor's SDK read.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use steadfast::{
    BoxLlmService, Dialect, LlmRequest,
    providers::{
        Anthropic, Gemini, OpenAi,
        credentials::{Credentials, Token},
        http::AwsApi,
    },
};
use tower::service_fn;

use crate::{
    recorded::{call, oracle, read, server},
    recordings::{Exchange, Recordings, folders},
};

/// A request as it left.
type Sent = Arc<Mutex<Option<(String, Bytes)>>>;

const PROJECT: &str = "a-project";

/// Returns the part of a path behind a mark, up to the next slash or colon.
fn part<'a>(path: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = path.split_once(mark)?;
    rest.split(['/', '?']).next()
}

/// Returns the model as the path spells it, without its percent signs.
fn model_of(exchange: &Exchange) -> String {
    let path = &exchange.request.path;
    let model = match exchange.kind.as_str() {
        "bedrock" => part(path, "/model/"),
        "vertex" => part(path, "/models/").map(|model| model.rsplit_once(':').map_or(model, |(model, _)| model)),
        _ => None,
    };
    model.map_or_else(|| exchange.model.clone(), |model| model.replace("%3A", ":").replace("%40", "@"))
}

/// Returns the location of a recorded path. Recorders have replaced some by a word of theirs.
fn location(path: &str) -> &str {
    let location = part(path, "/locations/").unwrap_or("global");
    let is_real = location == "global" || location.ends_with(|last: char| last.is_ascii_digit());
    if is_real { location } else { "global" }
}

/// Returns the leaf at the door of an exchange, over a transport that gives the recorded answer in pieces.
fn leaf(exchange: &Exchange, sent: &Sent) -> Result<BoxLlmService, Box<dyn std::error::Error>> {
    let (kept, answer) = (sent.clone(), (exchange.status, exchange.headers.clone(), exchange.body.clone()));
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (kept, (status, headers, body)) = (kept.clone(), answer.clone());
        async move {
            let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
            let asked = request.into_body().collect().await?.to_bytes();
            *kept.lock().unwrap() = Some((path, asked));
            let pieces = server::pieces(&body, &mut fastrand::Rng::with_seed(body.len() as u64));
            let pieces: Vec<_> = pieces
                .into_iter()
                .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(body.slice_ref(piece))))
                .collect();
            let mut response = Response::new(StreamBody::new(stream::iter(pieces)));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok::<_, Infallible>(response)
        }
    });
    let (path, model) = (&exchange.request.path, model_of(exchange));
    let token = || Credentials::token(Token::bearer("a-token"));
    let version = |path: &str| path.split('/').nth(1).unwrap_or("v1").to_owned();
    Ok(match (exchange.kind.as_str(), exchange.dialect) {
        ("bedrock", _) => BoxLlmService::new(
            Anthropic::on_aws("us-east-1")?
                .aws_api(AwsApi::Invoke)?
                .credentials(Credentials::token(Token::aws("AKIDEXAMPLE", "secret", None)))
                .model(model)
                .transport(transport),
        ),
        ("vertex", Dialect::Anthropic) => BoxLlmService::new(
            Anthropic::on_vertex(PROJECT, location(path))?
                .api_version(&version(path))?
                .credentials(token())
                .model(model)
                .transport(transport),
        ),
        ("vertex", _) if path.contains("/projects/") => BoxLlmService::new(
            Gemini::on_vertex(PROJECT, location(path))?
                .api_version(&version(path))?
                .credentials(token())
                .model(model)
                .transport(transport),
        ),
        ("vertex", _) => BoxLlmService::new(
            Gemini::on_vertex_express("a-key").api_version(&version(path))?.model(model).transport(transport),
        ),
        (_, Dialect::Anthropic) => {
            BoxLlmService::new(Anthropic::on_azure("RESOURCE")?.key("a-key").model(model).transport(transport))
        }
        _ => {
            let mut leaf = OpenAi::on_azure("RESOURCE")?.key("a-key").model(model);
            if let Some(deployment) = part(path, "/deployments/") {
                let version = path.split_once("api-version=").map_or("2024-10-21", |(_, version)| version);
                leaf = leaf.deployment(deployment)?.api_version(version)?;
            }
            // The name in the body, if there is one, is not the deployment's.
            BoxLlmService::new(leaf.transport(transport))
        }
    })
}

/// Returns the recorded request, with the stream that its path asks for.
fn request(exchange: &Exchange) -> LlmRequest {
    let request = exchange.request();
    let by_path = ["streamRawPredict", "invoke-with-response-stream", "streamGenerateContent"];
    match by_path.iter().any(|method| exchange.request.path.contains(method)) {
        true => request.with_stream(true),
        false => request,
    }
}

/// Returns the path in the spelling of the door, where recorders have changed it or the server takes several.
fn recorded_path(exchange: &Exchange) -> String {
    let path = &exchange.request.path;
    match exchange.kind.as_str() {
        "bedrock" => path.replace(':', "%3A"),
        "vertex" => {
            let mut path = path.replace("%40", "@");
            for (mark, name) in [("/projects/", PROJECT), ("/locations/", location(&exchange.request.path))] {
                if let Some(there) = part(&path, mark).map(str::to_owned) {
                    path = path.replacen(&format!("{mark}{there}"), &format!("{mark}{name}"), 1);
                }
            }
            // Some clients ask for another form of the answer, which a leaf does not.
            path.split('?').next().unwrap_or_default().to_owned()
        }
        _ => path.split('?').next().unwrap_or_default().to_owned(),
    }
}

/// Returns a body without the fields that are a door's own.
fn without_own(body: &[u8], kind: &str) -> Vec<u8> {
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let fields: &[&str] = match kind {
        "azure" => &["model"],
        _ => &["model", "stream", "anthropic_version"],
    };
    if let Some(object) = json.as_object_mut() {
        fields.iter().for_each(|field| {
            object.remove(*field);
        });
    }
    json.to_string().into_bytes()
}

#[derive(Default)]
struct Row {
    exchanges: usize,
    requests: usize,
    identical: usize,
    equal: usize,
    excepted: usize,
    silent: usize,
}

/// Returns the differences of one exchange.
async fn judge(exchange: &Exchange, reading: Option<&oracle::Reading>, row: &mut Row) -> Vec<String> {
    let mut wrong = Vec::new();
    row.exchanges += 1;
    let sent = Sent::default();
    let leaf = match leaf(exchange, &sent) {
        Ok(leaf) => leaf,
        Err(error) => return vec![format!("there is no such door: {error}")],
    };
    let came = match call(leaf, request(exchange)).await {
        Ok(response) => read(response).await,
        Err(error) => Err(error),
    };
    if let Some(reading) = reading {
        match oracle::compare(exchange, reading, came.as_ref().map(|came| &came.message)) {
            oracle::Verdict::Equal => row.equal += 1,
            oracle::Verdict::Excepted(_) => row.excepted += 1,
            oracle::Verdict::Silent => row.silent += 1,
            oracle::Verdict::Different(differences) => wrong.extend(differences),
        }
    }
    let Some((path, body)) = sent.lock().unwrap().take() else {
        if exchange.wire().is_some() {
            wrong.push("nothing was sent".to_owned());
        }
        return wrong;
    };
    // The inference API of Azure's first models had a path of its own.
    let is_own = !exchange.request.path.starts_with("/models/") && !exchange.request.path.contains("/unrecorded");
    let expected = recorded_path(exchange);
    let path = if exchange.kind == "bedrock" { &*path } else { path.split('?').next().unwrap_or_default() };
    if is_own && path != expected {
        wrong.push(format!("the path {path} in place of {expected}"));
    }
    if let Some(recorded) = exchange.request.body.as_ref().filter(|_| exchange.wire().is_some()) {
        row.requests += 1;
        row.identical += usize::from(body == *recorded);
        if body != *recorded && without_own(&body, &exchange.kind) != without_own(recorded, &exchange.kind) {
            wrong.push("the request's body differs in more than the door's own fields".to_owned());
        }
        // A body that names no model and asks for no stream has nothing to be changed.
        let json: Value = serde_json::from_slice(recorded).unwrap_or_default();
        let has_own = json.get("model").is_some() || json.get("stream").is_some();
        if !has_own && exchange.dialect != Dialect::OpenAi && exchange.kind != "azure" && body != *recorded {
            wrong.push("the request's bytes".to_owned());
        }
    }
    wrong
}

fn of_folder(folder: &Path) -> Vec<Exchange> {
    let read = |recordings: Result<Recordings, String>| recordings.unwrap_or_else(|error| panic!("{error}")).exchanges;
    let is_claude = |exchange: &Exchange| {
        let body = exchange.request.body.as_deref().unwrap_or_default();
        memchr::memmem::find(body, b"anthropic_version").is_some()
    };
    let mut exchanges = Vec::new();
    for kind in ["azure", "vertex"] {
        exchanges.extend(read(Recordings::read(&folder.join(kind))));
    }
    exchanges.extend(read(Recordings::at_bedrock(&folder.join("bedrock"))).into_iter().filter(is_claude));
    exchanges
}

#[tokio::test]
async fn exchanges_at_the_doors_of_clouds_go_through_their_leaves_without_loss() {
    let folder = folders().into_iter().find(|folder| folder.join("vertex").is_dir() && folder.join("bedrock").is_dir());
    let Some(folder) = folder else {
        println!("skipped: no recordings of clouds beside the repository");
        return;
    };
    let all = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
    let readings =
        oracle::file(&folder).map(|file| oracle::read(&file, &all).unwrap_or_else(|error| panic!("{error}")));
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut wrong = Vec::new();
    for exchange in of_folder(&folder) {
        let reading = readings.as_ref().and_then(|readings| readings.get(&exchange.id));
        let row = rows.entry(exchange.kind.clone()).or_default();
        wrong.extend(judge(&exchange, reading, row).await.into_iter().map(|what| format!("{}: {what}", exchange.id)));
    }
    println!(
        "{:10} {:>9} {:>8} {:>10} {:>7} {:>9} {:>7}",
        "door", "exchanges", "requests", "same bytes", "equal", "excepted", "silent"
    );
    for (kind, Row { exchanges, requests, identical, equal, excepted, silent }) in &rows {
        println!("{kind:10} {exchanges:>9} {requests:>8} {identical:>10} {equal:>7} {excepted:>9} {silent:>7}");
    }
    wrong.iter().for_each(|what| println!("{what}"));
    assert!(wrong.is_empty(), "{} differences", wrong.len());
}
