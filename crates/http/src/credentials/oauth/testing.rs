//! Token servers in process, for the tests of sources: they answer by a function, and keep what they were asked.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{Debug, Write},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;

use crate::{
    InvalidConfig,
    credentials::{Credentials, Identity, Machine},
    internal::base64,
    protocol::RequestBody,
};

/// A request that a server got.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    /// A header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The fields of its form, or of its query.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let pairs = if self.body.is_empty() { query } else { &self.body };
        pairs
            .split('&')
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(k, v)| (k.into(), decoded(v)))
            .collect()
    }

    /// The claims of the JWT in the form's field `assertion`.
    pub(crate) fn claims(&self) -> serde_json::Value {
        let jwt = &self.form()["assertion"];
        let part = jwt.split('.').nth(1).expect("three parts").replace('-', "+").replace('_', "/");
        serde_json::from_slice(&base64::decode(&part).expect("base64url")).expect("JSON")
    }
}

/// The inverse of the encoding of forms (WHATWG URL, section 5.1).
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 16).expect("two digits")
            }
            other => other,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// An answer of a server.
pub(crate) enum Reply {
    Answer(Response<String>),
    /// It answers after this time.
    Late(Duration, Response<String>),
    /// It takes the request, and never answers.
    Hang,
    /// It cannot be reached.
    Down,
}

/// A JSON answer.
pub(crate) fn json(status: u16, body: &str) -> Reply {
    reply(status, "application/json; charset=utf-8", body, &[])
}

pub(crate) fn reply(status: u16, content_type: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
    let mut answer = Response::builder().status(status).header("content-type", content_type);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    Reply::Answer(answer.body(body.to_owned()).expect("an answer"))
}

/// A server. Clones share the record.
#[derive(Clone)]
pub(crate) struct Server {
    answer: Arc<dyn Fn(&Asked) -> Reply + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default() }
    }

    /// A server that gives a token, in Google's and Entra ID's form.
    pub(crate) fn giving(token: &str, seconds: u64) -> Self {
        let body = format!(r#"{{"access_token":"{token}","expires_in":{seconds},"token_type":"Bearer"}}"#);
        Self::new(move |_| json(200, &body))
    }

    /// A server that no test may ask.
    pub(crate) fn unasked() -> Self {
        Self::new(|asked| panic!("{} was asked", asked.url))
    }

    /// The answer to a request that another server got.
    pub(crate) fn reply(&self, asked: &Asked) -> Reply {
        (self.answer)(asked)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "requests");
        asked[0].clone()
    }

    fn transport(&self) -> BoxCloneSyncService<Request<RequestBody>, Response<Full<Bytes>>, io::Error> {
        let server = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<RequestBody>| {
            let (head, body) = request.into_parts();
            let body = body.collect().now_or_never().expect("it is there").expect("it cannot fail").to_bytes();
            let body = String::from_utf8(body.to_vec()).expect("UTF-8");
            let asked = Asked { method: head.method, url: head.uri.to_string(), headers: head.headers, body };
            server.asked.lock().expect("no panic").push(asked.clone());
            let reply = server.reply(&asked);
            async move {
                match reply {
                    Reply::Answer(answer) => Ok(answer.map(|body| Full::new(body.into()))),
                    Reply::Late(time, answer) => {
                        tokio::time::sleep(time).await;
                        Ok(answer.map(|body| Full::new(body.into())))
                    }
                    Reply::Hang => std::future::pending().await,
                    Reply::Down => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                }
            }
        }))
    }
}

/// A machine with these variables, token servers and metadata addresses.
pub(crate) fn machine(variables: &[(&str, &str)], servers: &Server, metadata: &Server) -> Machine {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Machine::new()
        .variables(move |name| Ok(variables.get(name).cloned()))
        .transport(servers.transport())
        .metadata_transport(metadata.transport())
}

/// Fetches a token's text and its life in seconds.
pub(crate) async fn token(credentials: &Credentials) -> (String, u64) {
    let token = credentials.get().await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_no_secret(&token);
    let Identity::Bearer(text) = &token.identity else { panic!("no bearer") };
    let life = token.life().expect("an end").as_secs_f64().round();
    (text.to_string(), life as u64)
}

/// Fetches no token, and returns the error's message and true if it is a mistake of the configuration.
pub(crate) async fn failure(credentials: &Credentials) -> (String, bool) {
    let error = credentials.get().await.map(|_| "a token").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Credentials);
    assert_no_secret(&error);
    assert_no_secret(credentials);
    let mut told = error.to_string();
    let mut cause = error.source();
    let mut is_setup = None;
    while let Some(inner) = cause {
        let _ = write!(told, "\n{inner}");
        if let Some(inner) = inner.downcast_ref::<Arc<super::SourceError>>() {
            is_setup = Some(inner.is_setup);
        } else if let Some(inner) = inner.downcast_ref::<super::SourceError>() {
            is_setup = Some(inner.is_setup);
        }
        cause = inner.source();
    }
    assert_no_secret(&told);
    (error.to_string(), is_setup.expect("a source's error"))
}

/// Returns the message of a mistake that is found at once.
pub(crate) fn mistake(made: Result<Credentials, InvalidConfig>) -> String {
    let error = made.map(|_| "credentials").unwrap_err();
    assert_no_secret(&error);
    assert_no_secret(&error.to_string());
    error.to_string()
}

/// Every secret of these tests has this mark, in plain or in base64.
pub(crate) const MARK: &str = "s3cr3t";

/// Looks for the marks of secrets in an item's `Debug`.
pub(crate) fn assert_no_secret(item: &(impl Debug + ?Sized)) {
    let text = format!("{item:?}");
    let key = include_str!("../google/testdata/key.b64");
    let line = key.lines().nth(5).expect("a key has lines");
    // The second is the start of a JWT that is signed with the key, or of any other.
    for secret in [MARK, "eyJ", line, &line[..30], "czNjcjN0", "MzY3IzdA", "M2NyM3"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}
