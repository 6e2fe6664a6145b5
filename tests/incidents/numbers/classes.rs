//! Numbers 14 and 15: every shape of failure has its class, and what no repeat can mend is not repeated where it came
//! from.
//!
//! The recorded exchanges, where they are there, are read by `tests/wire/recorded` too, against classes of its own.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use steadfast::{
    BoxLlmService, ErrorKind, FallbackLayer, LlmError, LlmRequest, RetryWithJitterLayer, TimeoutLayer,
    providers::{Anthropic, Canned, Gemini, OpenAi},
};
use tower::{Layer, ServiceBuilder, ServiceExt};

const TABLE: &str = include_str!("classes.txt");

/// One answer, and the class that it must have.
struct Row {
    provider: &'static str,
    status: StatusCode,
    headers: HeaderMap,
    class: &'static str,
    body: Bytes,
    line: usize,
    /// The incident that it is from.
    incident: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut comment = "";
    for (number, line) in TABLE.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            comment = line.trim_start_matches(['#', ' ']);
            continue;
        }
        let fields: Vec<_> = line.splitn(5, '|').map(str::trim).collect();
        let [provider, status, headers, class, body] = fields[..] else { panic!("line {}", number + 1) };
        let body = body.replace("\\n", "\n");
        let mut map = HeaderMap::new();
        for (name, value) in headers.split(';').filter_map(|header| header.split_once(':')) {
            map.insert(name.trim().parse::<HeaderName>().unwrap(), value.trim().parse().unwrap());
        }
        map.insert(
            "content-type",
            HeaderValue::from_static(match body.as_bytes().first() {
                Some(b'<') => "text/html",
                Some(b'd' | b':') => "text/event-stream",
                Some(b'e') if body.starts_with("event:") => "text/event-stream",
                _ => "application/json",
            }),
        );
        let incident = comment.split([' ', ':']).next().filter(|word| word.starts_with('D'));
        let status = status.parse::<u16>().unwrap().try_into().unwrap();
        rows.push(Row { provider, status, headers: map, class, body: body.into(), line: number + 1, incident });
        comment = "";
    }
    rows
}

impl Row {
    fn is_stream(&self) -> bool {
        self.headers["content-type"] == "text/event-stream"
    }

    /// The leaf of its provider, which gets this answer to everything, and how often it was asked.
    fn leaf(&self) -> (BoxLlmService, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, status, headers, body) = (asked.clone(), self.status, self.headers.clone(), self.body.clone());
        let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
            counted.fetch_add(1, SeqCst);
            let mut response = Response::new(Full::new(body.clone()));
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let leaf = match self.provider {
            "anthropic" => BoxLlmService::new(Anthropic::new("key").model("m").transport(transport)),
            "gemini" => BoxLlmService::new(Gemini::new("key").model("m").transport(transport)),
            "openai" | "azure" => BoxLlmService::new(OpenAi::new("key").model("m").transport(transport)),
            _ => {
                let leaf = OpenAi::compatible("server", "http://server.example/v1").unwrap();
                BoxLlmService::new(leaf.key("key").model("m").transport(transport))
            }
        };
        (leaf, asked)
    }

    fn request(&self) -> LlmRequest {
        LlmRequest::prompt("hello").with_stream(self.is_stream())
    }
}

/// The failure of an answer, whenever it shows.
async fn failure(
    llm: impl tower::Service<LlmRequest, Response = steadfast::LlmResponse, Error = LlmError>,
    request: LlmRequest,
) -> Option<LlmError> {
    match llm.oneshot(request).await {
        Ok(response) => response.collect().await.err(),
        Err(error) => Some(error),
    }
}

#[tokio::test(start_paused = true)]
async fn every_shape_of_failure_has_its_class() {
    let rows = rows();
    let (mut providers, mut incidents) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
    let mut wrong = Vec::new();
    for row in &rows {
        *providers.entry(row.provider).or_default() += 1;
        *incidents.entry(row.incident.unwrap_or_default()).or_default() += 1;
        let found = failure(row.leaf().0, row.request()).await;
        let class = found.as_ref().map_or("an answer", |error| error.kind().name());
        if class != row.class {
            wrong.push(format!("classes.txt:{}: {} in place of {}: {found:?}", row.line, class, row.class));
        }
    }
    println!(
        "number 14: {} bodies, {} in the right class, by provider {providers:?}",
        rows.len(),
        rows.len() - wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() >= 150, "{}", rows.len());
    assert!(providers.values().all(|bodies| *bodies >= 10), "{providers:?}");
    for incident in ["D2", "D10", "D15", "D17", "D19"] {
        assert!(incidents.contains_key(incident), "{incident}");
    }
}

/// The kinds that no repeat can mend.
const FINAL: [ErrorKind; 8] = [
    ErrorKind::QuotaExhausted,
    ErrorKind::Auth,
    ErrorKind::InvalidRequest,
    ErrorKind::ContextLength,
    ErrorKind::ContentPolicy,
    ErrorKind::Refusal,
    ErrorKind::TooLarge,
    ErrorKind::NotFound,
];

#[tokio::test(start_paused = true)]
async fn what_no_repeat_can_mend_is_sent_once_however_the_layers_are_stacked() {
    let (mut once, mut repeated, mut retries) = (0, 0, 0);
    for row in rows() {
        let final_class = FINAL.iter().any(|kind| kind.name() == row.class);
        for with_backup in [false, true] {
            let (leaf, asked) = row.leaf();
            let tier = ServiceBuilder::new()
                .layer(RetryWithJitterLayer::new().seed(1))
                .layer(TimeoutLayer::new(Duration::from_secs(30)))
                .service(leaf);
            let total = TimeoutLayer::new(Duration::from_secs(90));
            let llm = match with_backup {
                true => {
                    let fallback = FallbackLayer::new("primary").tier("canned", Canned::text("later"));
                    BoxLlmService::new(total.layer(fallback.layer(tier)))
                }
                false => BoxLlmService::new(total.layer(tier)),
            };
            let _answer_or_failure = failure(llm, row.request()).await;
            let asked = asked.load(SeqCst);
            if final_class {
                once += 1;
                retries += asked - 1;
                assert_eq!(asked, 1, "classes.txt:{}: {} was repeated", row.line, row.class);
            } else {
                repeated += usize::from(asked > 1);
            }
        }
    }
    println!(
        "number 15: {once} failures that no repeat can mend: {retries} repeats; of the others {repeated} were repeated"
    );
    assert!(once >= 100 && repeated >= 100, "{once} and {repeated}");
}
