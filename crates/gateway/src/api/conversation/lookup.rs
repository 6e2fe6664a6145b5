//! The paths of kept responses.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode, Uri};
use serde_json::json;
use steadfast::Dialect;
use steadfast_stack::ResponseArchive;
use steadfast_stores::responses::{ResponsePath, ResponseState, StoredResponse};

use super::{
    READS, background, items,
    json::{Fields, list, list_of},
    owner_of,
};
use crate::api::{GatewayState, body_error::BodyError, keys::Key, query::pairs, refusal, stored_responses::unknown};

type Caller = Option<Extension<Arc<Key>>>;

/// Returns a kept response as its caller received it.
pub(crate) async fn retrieve(
    State(gateway): State<Arc<GatewayState>>,
    key: Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let Some((archive, _)) = gateway.archive() else { return unknown(Path(id)).await };
    let query = pairs(&uri).unwrap_or_default();
    let asks_for_events = query.iter().any(|[name, value]| name == "stream" && value != "false");
    let permit = READS.acquire().await;
    let found = match find(&archive, key.clone(), id).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    if asks_for_events {
        drop(permit);
        return events(&gateway, &found, &query);
    }
    answer(&gateway, key, as_it_is(&gateway, found))
}

/// Returns the object of a response as far as it has come.
fn as_it_is(gateway: &GatewayState, found: StoredResponse) -> String {
    match found.state {
        // The gateway that makes it may have lost its store alone.
        ResponseState::Lost if !gateway.runs.make(&found.id) => background::lost(&found.response),
        _ => found.response,
    }
}

/// Returns the events of a response in the background, behind the one that the query names.
fn events(gateway: &GatewayState, found: &StoredResponse, query: &[[String; 2]]) -> Response<Body> {
    let wrong = |message: &str| refusal::of_responses(StatusCode::BAD_REQUEST, Some("unsupported_parameter"), message);
    if !background::is_in_background(&found.response) {
        return wrong("`stream`: this gateway returns a kept response whole; leave `stream` out");
    }
    let kept = gateway.runs.events(&found.id).and_then(|events| Some((events.last()?, events)));
    let Some((last, events)) = kept else {
        return wrong(
            "`stream`: the events of a response are kept by the gateway that makes it, if `stream` was true in its \
             request, and for five minutes after its end; leave `stream` out",
        );
    };
    let from = match query.iter().find(|[name, _]| name == "starting_after") {
        None => 0,
        Some([_, number]) => match number.parse::<usize>().ok().filter(|number| *number <= last) {
            Some(number) => number + 1,
            None => return wrong(&format!("`starting_after` is the number of an event, from 0 to {last}")),
        },
    };
    background::event_stream(&events, from, gateway.lifecycle.current.load().keep_alive)
}

/// Returns a body that counts against `gateway.memory` until it is sent.
fn answer(gateway: &GatewayState, key: Caller, body: String) -> Response<Body> {
    let mut memory = gateway.turn_memory(key.as_ref().map(|Extension(key)| key));
    match memory.grow(body.len()) {
        Ok(()) => refusal::json(StatusCode::OK, memory.into_body(body)),
        Err(full) => {
            let settings = gateway.lifecycle.current.load();
            refusal::refuse(&BodyError::OutOfMemory(full).error(&settings), Dialect::Responses)
        }
    }
}

/// Deletes a kept response. Neither it nor a response that continues it can be continued afterwards.
pub(crate) async fn delete(
    State(gateway): State<Arc<GatewayState>>,
    key: Caller,
    Path(id): Path<String>,
) -> Response<Body> {
    let Some((archive, _)) = gateway.archive() else { return unknown(Path(id)).await };
    let owner = owner_of(key.as_ref().map(|Extension(key)| key));
    match archive.delete(&owner, &id).await {
        Ok(true) => {
            gateway.runs.forget(&owner, &id);
            let body = json!({"id": id, "object": "response", "deleted": true});
            refusal::json(StatusCode::OK, body.to_string())
        }
        Ok(false) => unknown(Path(id)).await,
        Err(_) => no_store(),
    }
}

/// Cancels a response in the background. Cancelling it again changes nothing; one with another end stays as it is.
pub(crate) async fn cancel(
    State(gateway): State<Arc<GatewayState>>,
    key: Caller,
    Path(id): Path<String>,
) -> Response<Body> {
    let Some((archive, _)) = gateway.archive() else { return unknown(Path(id)).await };
    let wrong = |message: &str| refusal::of_responses(StatusCode::BAD_REQUEST, Some("unsupported_operation"), message);
    loop {
        let _permit = READS.acquire().await;
        let found = match find(&archive, key.clone(), id.clone()).await {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        if !background::is_in_background(&found.response) {
            return wrong("`cancel`: the response was not made with `background: true`");
        }
        if found.state == ResponseState::Ended {
            let status = Fields::read(&found.response).and_then(|fields| fields.text("status")).unwrap_or_default();
            return match &*status {
                "cancelled" => answer(&gateway, key, found.response),
                _ => wrong(&format!("`cancel`: the response is {status} already")),
            };
        }
        let object = background::cancelled(&found.response);
        match archive.end(StoredResponse { response: object.clone(), ..found }).await {
            Ok(true) => {
                gateway.runs.stop(&id);
                return answer(&gateway, key, object);
            }
            // It has just ended.
            Ok(false) => {}
            Err(_) => return no_store(),
        }
    }
}

/// The part of a list that a caller asks for.
struct Page {
    limit: usize,
    is_ascending: bool,
    after: Option<String>,
}

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

impl Page {
    /// Reads a query. Parameters that concern other fields of the items, such as `include`, change nothing.
    fn of(uri: &Uri) -> Result<Self, String> {
        let mut page = Self { limit: DEFAULT_LIMIT, is_ascending: false, after: None };
        for [name, value] in pairs(uri)? {
            match (&*name, &*value) {
                ("limit", number) => {
                    let limit = number.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    page.limit = limit.ok_or_else(|| format!("`limit` is a number from 1 to {MAX_LIMIT}"))?;
                }
                ("order", "asc") => page.is_ascending = true,
                ("order", "desc") => page.is_ascending = false,
                ("order", _) => return Err("`order` is asc or desc".to_owned()),
                ("after", _) => page.after = Some(value),
                _ => {}
            }
        }
        Ok(page)
    }
}

/// Lists the input of a kept response: the items of the conversation before it, and of its own request.
pub(crate) async fn input_items(
    State(gateway): State<Arc<GatewayState>>,
    key: Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let Some((archive, _)) = gateway.archive() else { return unknown(Path(id)).await };
    let wrong = |message: &str| refusal::of_responses(StatusCode::BAD_REQUEST, Some("invalid_value"), message);
    let Page { limit, is_ascending, after } = match Page::of(&uri) {
        Ok(page) => page,
        Err(problem) => return wrong(&problem),
    };
    let owner = owner_of(key.as_ref().map(|Extension(key)| key));
    let bytes = gateway.lifecycle.current.load().body;
    let _permit = READS.acquire().await;
    let path = match archive.path(&owner, &id, bytes).await {
        Ok(ResponsePath::Whole(path)) => path,
        // A part of the conversation is deleted, or it is over a limit: the response's own request is there.
        Ok(ResponsePath::Unknown | ResponsePath::TooLong) => match find(&archive, key.clone(), id).await {
            Ok(found) => vec![found],
            Err(refused) => return refused,
        },
        Err(_) => return no_store(),
    };
    let mut all: Vec<&str> = Vec::new();
    for (at, response) in path.iter().enumerate() {
        all.extend(list(&response.input).unwrap_or_default().into_iter().map(|item| item.get()));
        if at + 1 < path.len() {
            all.extend(items::output(&response.response));
        }
    }
    if !is_ascending {
        all.reverse();
    }
    let first = match after {
        None => 0,
        Some(after) => match all.iter().position(|item| items::id_of(item).as_deref() == Some(&after)) {
            Some(at) => at + 1,
            None => return wrong("`after` is no item of this response"),
        },
    };
    let page: Vec<&str> = all[first..].iter().copied().take(limit).collect();
    let id_of = |item: Option<&&str>| json!(item.and_then(|item| items::id_of(item))).to_string();
    let body = format!(
        r#"{{"object":"list","data":{},"first_id":{},"last_id":{},"has_more":{}}}"#,
        list_of(page.iter().copied()),
        id_of(page.first()),
        id_of(page.last()),
        first + page.len() < all.len(),
    );
    answer(&gateway, key, body)
}

async fn find(archive: &ResponseArchive, key: Caller, id: String) -> Result<StoredResponse, Response<Body>> {
    let owner = owner_of(key.as_ref().map(|Extension(key)| key));
    match archive.get(&owner, &id).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(unknown(Path(id)).await),
        Err(_) => Err(no_store()),
    }
}

fn no_store() -> Response<Body> {
    let message = "the store of responses did not answer; repeat the request";
    let mut response = refusal::of_responses(StatusCode::SERVICE_UNAVAILABLE, Some("server_error"), message);
    response.headers_mut().remove("x-should-retry");
    response
}
