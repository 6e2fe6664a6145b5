//! Recorded traffic through a stack around a program's own HTTP client: the provider gets the caller's bytes, and the
//! caller the provider's.

#[path = "../../../../tests/common/recordings.rs"]
#[allow(dead_code, reason = "this suite takes the exchanges alone")]
pub(crate) mod recordings;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use steadfast::{
    BoxLlmService, Dialect, RetryWithJitterLayer,
    providers::{Anthropic, Gemini, OpenAi},
};
use steadfast_gateway::HttpLlmLayer;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use self::recordings::{Exchange, Recordings, folders};

/// The caller's own credentials.
const CREDENTIALS: &str = "Bearer sk-of-the-caller";

/// The leaf of the exchange's protocol: the primary. Its address and key stay unused.
fn primary(exchange: &Exchange) -> BoxLlmService {
    match exchange.dialect {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("unused")),
        Dialect::Gemini => BoxLlmService::new(Gemini::new("unused")),
        Dialect::Responses => BoxLlmService::new(OpenAi::new("unused").responses()),
        _ => BoxLlmService::new(OpenAi::new("unused")),
    }
}

/// The caller's request.
fn request(exchange: &Exchange, body: Bytes) -> Request<Full<Bytes>> {
    let url = match exchange.dialect {
        Dialect::Anthropic => "https://provider.test/v1/messages".to_owned(),
        Dialect::Gemini if exchange.stream => {
            let alt = if exchange.is_sse { "?alt=sse" } else { "" };
            format!("https://provider.test/v1beta/models/{}:streamGenerateContent{alt}", exchange.model)
        }
        Dialect::Gemini => format!("https://provider.test/v1beta/models/{}:generateContent", exchange.model),
        Dialect::Responses => "https://provider.test/v1/responses".to_owned(),
        _ => "https://provider.test/v1/chat/completions".to_owned(),
    };
    let mut request = Request::post(url).body(Full::new(body)).unwrap();
    *request.headers_mut() = exchange.request.headers.clone();
    request.headers_mut().insert("authorization", CREDENTIALS.parse().unwrap());
    // The recorders' client wrote it for a body on its way.
    request.headers_mut().remove("content-encoding");
    request
}

/// The bytes that each side got.
struct Exchanged {
    sent: Option<Bytes>,
    authorization: Option<String>,
    status: u16,
    received: Bytes,
}

async fn exchange_through_the_layer(exchange: &Exchange, body: Bytes) -> Exchanged {
    let sent: Arc<Mutex<Option<(Bytes, String)>>> = Arc::default();
    let (status, headers, answer) = (exchange.status, exchange.headers.clone(), exchange.body.clone());
    let note = sent.clone();
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let (note, headers, answer) = (note.clone(), headers.clone(), answer.clone());
        async move {
            let authorization = request.headers()["authorization"].to_str()?.to_owned();
            *note.lock().unwrap() = Some((request.into_body().collect().await?.to_bytes(), authorization));
            let mut response = Response::new(Full::new(answer));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            // They belong to the recorded connection.
            for name in ["content-length", "transfer-encoding", "content-encoding", "connection"] {
                response.headers_mut().remove(name);
            }
            Ok::<_, BoxError>(response)
        }
    });
    let stack = RetryWithJitterLayer::new().max_attempts(1).layer(primary(exchange));
    let response = HttpLlmLayer::new(stack).layer(client).oneshot(request(exchange, body)).await.unwrap();
    let status = response.status().as_u16();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    let (sent, authorization) = sent.lock().unwrap().take().unzip();
    Exchanged { sent, authorization, status, received }
}

/// The ways in which the caller's bytes may differ from the provider's, as the crate promises.
#[derive(PartialEq)]
enum Received {
    Identical,
    /// Only in the mark at the end of a stream, which the protocol requires once.
    EndMark,
    /// The provider reported an error, or nothing, under status 200: the caller receives an error.
    ErrorInside200,
    Other,
}

impl Received {
    fn of(exchange: &Exchange, exchanged: &Exchanged) -> Self {
        let (was, got) = (&exchange.body, &exchanged.received);
        if (exchanged.status, got) == (exchange.status.as_u16(), was) {
            Self::Identical
        } else if exchange.is_sse && without_end_mark(was) == without_end_mark(got) {
            Self::EndMark
        } else if exchange.status == 200 && (exchanged.status >= 400 || has_error(got)) {
            Self::ErrorInside200
        } else {
            Self::Other
        }
    }
}

fn without_end_mark(stream: &Bytes) -> String {
    let stream = String::from_utf8_lossy(stream);
    let stream = stream.trim_end().trim_end_matches("data: [DONE]").trim_end();
    stream.trim_end_matches("event: data").trim_end().to_owned()
}

/// Returns true if the last event of a stream is an error.
fn has_error(stream: &Bytes) -> bool {
    let stream = String::from_utf8_lossy(stream);
    let last = stream.lines().rfind(|line| line.starts_with("data: "));
    last.is_some_and(|data| data.starts_with("data: {") && data.contains("\"error\""))
}

#[tokio::test(start_paused = true)]
async fn recorded_traffic_goes_through_byte_for_byte() {
    if folders().is_empty() {
        println!("skipped: no recordings beside the repository");
    }
    for folder in folders() {
        let (mut exchanges, mut identical, mut end_marks, mut errors) = (0, 0, 0, 0);
        let mut wrong = Vec::new();
        for exchange in Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}")).exchanges {
            let Some(body) = exchange.request.body.clone().filter(|_| exchange.wire().is_some()) else { continue };
            exchanges += 1;
            let exchanged = exchange_through_the_layer(&exchange, body.clone()).await;
            if exchanged.sent != Some(body) || exchanged.authorization.as_deref() != Some(CREDENTIALS) {
                wrong.push(format!("{}: the request", exchange.id));
                continue;
            }
            match Received::of(&exchange, &exchanged) {
                Received::Identical => identical += 1,
                Received::EndMark => end_marks += 1,
                Received::ErrorInside200 => errors += 1,
                Received::Other => {
                    let received = String::from_utf8_lossy(&exchanged.received);
                    wrong.push(format!("{}: {} {received:.120}", exchange.id, exchanged.status));
                }
            }
        }
        println!(
            "through the layer: {exchanges} exchanges, {identical} byte-identical, \
             {end_marks} but for the end mark, {errors} errors inside a 200"
        );
        assert!(exchanges > 0, "there are exchanges in {}", folder.display());
        assert!(wrong.is_empty(), "{} of {exchanges}:\n{}", wrong.len(), wrong.join("\n"));
        assert!(errors * 40 < exchanges, "{errors} of {exchanges} are errors");
    }
}
