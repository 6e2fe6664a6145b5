//! WebSockets of `/v1/responses`: one turn is one call of the pipeline.
//!
//! A client sends `response.create` with the fields of a request, and gets the events of a stream, each as a message
//! (OpenAI's guide to its WebSocket mode, and the Open Responses specification, "WebSocket"). Each turn goes through the
//! [reception](super::reception) as a `POST` of its own: with the key, the rates, the deadline, the failover and the
//! record of one. A turn that fails ends with an `error` message, and the socket goes on.
//!
//! | message | what follows |
//! |---|---|
//! | `response.create` | the events of the answer, or an `error` |
//! | the same while a turn runs | it waits; until then nothing more is read |
//! | `response.cancel` | the turn that runs ends with an `error` of the code `response_cancelled` |
//! | `generate: false` in a turn | no call: an empty response, whose id the next turn may continue |
//! | any other type, or no JSON | an `error`; the turn that runs goes on |
//!
//! | close code | why |
//! |---|---|
//! | 1000 | the caller closes |
//! | 1001 | the gateway stops |
//! | 1002, 1007 | what came is no WebSocket, or no UTF-8 |
//! | 1003 | a binary message came |
//! | 1008 | two pings in a row had no answer |
//! | 1009 | a message is over `gateway.max_body` |
//! | 1013 | the gateway has no memory for a message |
//!
//! A socket holds its place among `gateway.connections`. After an hour it ends with the code
//! `websocket_connection_limit_reached`, between two turns, as OpenAI's do. What a connection remembers is its last
//! response ([`Chain`](super::conversation::Chain)).

mod metered;
mod session;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use steadfast::Dialect;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub(crate) use self::session::Session;
use super::{GatewayState, door, refusal};
use crate::http::Upgrade;

/// Returns whether a request asks for a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).map_or(&[][..], HeaderValue::as_bytes);
    upgrade.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// Opens a WebSocket, or refuses it.
pub(crate) fn open(gateway: &Arc<GatewayState>, request: &Request<Body>) -> Response<Body> {
    let headers = request.headers();
    let key = match door::authorize(gateway, request.uri(), headers) {
        Ok(key) => key,
        Err(denied) => return door::deny(gateway, &denied, None, Dialect::Responses),
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let message = "this gateway speaks version 13 of the WebSocket protocol";
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, message);
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    if request.extensions().get::<OnUpgrade>().is_none() {
        return refuse(StatusCode::UPGRADE_REQUIRED, "no WebSocket can be opened here: use POST, with `stream: true`");
    }
    let nonce = headers.get(header::SEC_WEBSOCKET_KEY).filter(|nonce| nonce.len() == 24);
    let Some(accept) = nonce.and_then(|nonce| HeaderValue::from_str(&derive_accept_key(nonce.as_bytes())).ok()) else {
        return refuse(StatusCode::BAD_REQUEST, "`Sec-WebSocket-Key` must be 16 bytes in base64");
    };
    let session = Session::new(gateway.clone(), headers, key);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response.extensions_mut().insert(Upgrade::new(move |stream, ahead| session.run(stream, ahead)));
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = refusal::of_responses(status, Some("websocket_not_supported"), message);
    if status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    response
}
