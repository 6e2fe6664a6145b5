//! The whole gateway without a socket: a stack as a file describes it, providers that follow a script, and time that
//! stands still until somebody waits. What a test measures is exact.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use steadfast::providers::simulated::{Simulated, SimulatedHandle};
use steadfast_simulator::InProcess;
use steadfast_stack::{Environment, Format, Loader, Stack, StackHandle};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, ServiceExt, service_fn};

use crate::{
    api::{Catalog, GatewayState, Keys, Routes, router},
    http::Handler,
    limits::Settings,
    tests::harness::{Answer, MESSAGES, addressed, spelled},
};

/// The hosts of the tiers' requests.
pub(super) const ANTHROPIC: &str = "api.anthropic.com";
pub(super) const OPENAI: &str = "api.openai.com";

/// Two tiers of two houses, one attempt each, so that what is counted is failover.
pub(super) const TWO: &str = "
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-6, retry: { max_attempts: 1 } }
  - { name: backup, provider: openai, model: gpt-4o, retry: { max_attempts: 1 } }
";

/// The reverse order: each protocol takes its turn as the primary's.
pub(super) const TURNED: &str = "
tiers:
  - { name: backup, provider: openai, model: gpt-4o, retry: { max_attempts: 1 } }
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-6, retry: { max_attempts: 1 } }
";

/// A provider.
#[derive(Clone)]
enum Host {
    Simulated(InProcess),
    Scripted(Scripted),
}

/// A provider that answers with exactly these bytes, and remembers what it was sent.
#[derive(Clone, Default)]
pub(super) struct Scripted {
    said: Arc<Mutex<Script>>,
}

/// A provider's own way to answer.
type Act = Box<dyn FnMut(&Seen) -> Reply + Send>;

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    act: Option<Act>,
    seen: Vec<Seen>,
}

/// A request that a provider received.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) at: Instant,
}

/// A provider's answer.
#[derive(Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<(Duration, Bytes)>,
    cut: bool,
    /// The time before the head.
    head_after: Duration,
}

impl Reply {
    /// A whole body.
    pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, pieces: vec![(Duration::ZERO, body.into())], cut: false, head_after: Duration::ZERO }
    }

    /// A stream in these pieces, one after the other at once.
    pub(super) fn stream<B: Into<Bytes>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let headers = vec![("content-type", "text/event-stream; charset=utf-8".to_owned())];
        let pieces = pieces.into_iter().map(|piece| (Duration::ZERO, piece.into())).collect();
        Self { status: 200, headers, pieces, cut: false, head_after: Duration::ZERO }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Waits this long before each piece.
    pub(super) fn every(mut self, wait: Duration) -> Self {
        self.pieces.iter_mut().for_each(|(before, _)| *before = wait);
        self
    }

    /// Sends nothing at all for this time.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.head_after = wait;
        self
    }

    /// Waits this long before the first piece alone.
    pub(super) fn first_after(mut self, wait: Duration) -> Self {
        self.pieces[0].0 = wait;
        self
    }

    /// Waits this long before the last piece alone.
    pub(super) fn last_after(mut self, wait: Duration) -> Self {
        self.pieces.last_mut().unwrap().0 = wait;
        self
    }

    /// The connection breaks after the last piece.
    pub(super) fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    fn response(self) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let end = self.cut.then(|| Err(BoxError::from("connection reset by peer")));
        let pieces = self.pieces.into_iter().map(Ok).chain(end);
        let body = stream::unfold(pieces, |mut pieces| async {
            let (wait, bytes) = match pieces.next()? {
                Ok(piece) => piece,
                Err(broken) => return Some((Err(broken), pieces)),
            };
            sleep(wait).await;
            Some((Ok(Frame::data(bytes)), pieces))
        });
        let mut response = Response::new(StreamBody::new(body).boxed_unsync());
        *response.status_mut() = self.status.try_into().unwrap();
        for (name, value) in self.headers {
            response.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
        }
        response
    }
}

impl Scripted {
    /// The replies in order; the last one for ever.
    pub(super) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let said = Script { replies: replies.into_iter().collect(), ..Script::default() };
        Self { said: Arc::new(Mutex::new(said)) }
    }

    /// Answers each request by what it is.
    pub(super) fn acting(act: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let said = Script { act: Some(Box::new(act)), ..Script::default() };
        Self { said: Arc::new(Mutex::new(said)) }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.said.lock().unwrap().seen.clone()
    }

    fn reply(&self, seen: Seen) -> Reply {
        let mut said = self.said.lock().unwrap();
        said.seen.push(seen.clone());
        let acted = said.act.as_mut().map(|act| act(&seen));
        let reply = acted.or_else(|| match said.replies.len() {
            1 => said.replies.front().cloned(),
            _ => said.replies.pop_front(),
        });
        reply.expect("a reply")
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let reply = self.reply(Seen {
            path: head.uri.path_and_query().unwrap().to_string(),
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
            at: Instant::now(),
        });
        sleep(reply.head_after).await;
        reply.response()
    }
}

/// The gateway and the providers behind it.
pub(super) struct House {
    router: Router,
    /// The connection of all requests, if they have one in common.
    connection: Option<(Routes, <Routes as Handler>::Connection)>,
    pub(super) gateway: Arc<GatewayState>,
    pub(super) stack: StackHandle,
    simulated: HashMap<&'static str, SimulatedHandle>,
}

/// A builder of houses.
pub(super) struct Plan {
    config: String,
    hosts: HashMap<&'static str, Host>,
    simulated: HashMap<&'static str, SimulatedHandle>,
    keys: Option<Keys>,
    settings: Settings,
}

impl Plan {
    /// Providers that both say the same.
    pub(super) fn of(config: &str) -> Self {
        let plan = Self {
            config: config.to_owned(),
            hosts: HashMap::new(),
            simulated: HashMap::new(),
            keys: None,
            settings: Settings::default(),
        };
        plan.simulated(ANTHROPIC, Simulated::new("a").reply("Hello from afar"))
            .simulated(OPENAI, Simulated::new("o").reply("Hello from afar"))
    }

    pub(super) fn simulated(mut self, host: &'static str, provider: Simulated) -> Self {
        self.simulated.insert(host, provider.handle());
        self.hosts.insert(host, Host::Simulated(InProcess::new(provider)));
        self
    }

    pub(super) fn scripted(mut self, host: &'static str, provider: &Scripted) -> Self {
        self.hosts.insert(host, Host::Scripted(provider.clone()));
        self
    }

    pub(super) fn keys(mut self, keys: Option<Keys>) -> Self {
        self.keys = keys;
        self
    }

    pub(super) fn build(self) -> House {
        let variables = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "SECOND_KEY", "AWS_ID", "AWS_SECRET"];
        let user_file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/stack/authorized_user.json");
        let variables = variables.map(|name| (name, format!("sk-{name}"))).into_iter();
        let environment: Environment = variables.chain([("USER_FILE", user_file.to_owned())]).collect();
        let loader = Loader::new().environment(environment.clone());
        let config = loader.text(&self.config, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let hosts = self.hosts;
        let transport = service_fn(move |request: Request<Full<Bytes>>| {
            let host = hosts[request.uri().authority().unwrap().as_str()].clone();
            async move {
                match host {
                    Host::Simulated(mut provider) => provider.call(request).await,
                    Host::Scripted(provider) => Ok(provider.answer(request).await),
                }
            }
        });
        let stack = Stack::builder().environment(environment).transport(transport).seed(5).build(config).unwrap();
        let handle = stack.handle();
        let catalog = Catalog::Stack(handle.clone());
        let gateway = Arc::new(GatewayState::new(stack.service(), catalog, self.keys, self.settings));
        let connection = None;
        House { router: router(gateway.clone()), connection, gateway, stack: handle, simulated: self.simulated }
    }
}

impl House {
    pub(super) fn provider(&self, host: &'static str) -> &SimulatedHandle {
        &self.simulated[host]
    }

    /// Returns the number of calls to this provider.
    pub(super) fn calls(&self, host: &'static str) -> u64 {
        self.provider(host).stats().calls
    }

    /// Sends all requests on one connection, as a client does that keeps it.
    pub(super) fn on_one_connection(mut self) -> Self {
        let routes = Routes::new(self.gateway.clone(), self.router.clone());
        let connection = routes.connection();
        self.connection = Some((routes, connection));
        self
    }

    /// A request to one of the protocols, in its own spelling, and its answer to the end.
    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answered {
        self.send("POST", &addressed(path, body), headers, spelled(path, body).to_string()).await
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        self.send("GET", path, headers, String::new()).await
    }

    pub(super) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Answered {
        let begun = Instant::now();
        let (head, mut body) = self.begin(method, path, headers, body).await.into_parts();
        let first = begun.elapsed();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            pieces.push((begun.elapsed(), String::from_utf8(bytes.into()).unwrap()));
        }
        let text = pieces.iter().map(|(_, piece)| &**piece).collect();
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: text };
        Answered { answer, head: first, took: begun.elapsed(), pieces }
    }

    /// The answer's head, and its body for the test to read.
    pub(super) async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if path.starts_with(MESSAGES) && headers.iter().all(|(name, _)| *name != "anthropic-version") {
            request = request.header("anthropic-version", "2023-06-01");
        }
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = request.body(Body::from(body)).unwrap();
        match &self.connection {
            Some((routes, connection)) => routes.answer(connection, request).await,
            None => self.router.clone().oneshot(request).await.unwrap(),
        }
    }

    /// Returns the gateway's record of its last request.
    pub(super) fn record(&self) -> Value {
        self.gateway.records.newest(1, |_| true)[0].json(true)
    }

    /// The tiers of the last request's record, in the order in which they were asked or passed over.
    pub(super) fn steps(&self) -> Vec<String> {
        let record = self.record();
        let tier = |step: &Value| step["tier"].as_str().unwrap().to_owned();
        record["steps"].as_array().unwrap().iter().map(tier).collect()
    }
}

/// A whole answer and when it came.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// The time from the request to the response's head.
    pub(super) head: Duration,
    pub(super) took: Duration,
    /// The pieces of its body, each with its time after the request.
    pub(super) pieces: Vec<(Duration, String)>,
}

impl std::ops::Deref for Answered {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.answer
    }
}

impl Answered {
    /// Asserts that the answer is the provider's, whole and unchanged.
    pub(super) fn assert_clean(&self, case: &str) {
        assert_eq!((self.status, self.text().as_str()), (200, "Hello from afar"), "{case}: {self:?}");
        let stream = self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        assert!(!stream || self.is_whole(), "{case}: {}", self.body);
        // A response without one has `"error": null`.
        let errors = ["\"error\":{", "\"type\":\"error\""];
        assert!(!errors.iter().any(|error| self.body.contains(error)), "{case}: {}", self.body);
    }

    /// Asserts an error of this status in the dialect of the path.
    pub(super) fn assert_error(&self, path: &str, status: u16, case: &str) {
        assert_eq!(self.status, status, "{case}: {}", self.body);
        assert!(self.json()["error"]["message"].is_string(), "{case}: {}", self.body);
        assert_eq!(self.json()["type"] == "error", path.starts_with(MESSAGES), "{case}: {}", self.body);
    }
}
