//! The request's side: the whole conversation in the place of a kept response's id.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use memchr::memmem;
use steadfast::{Dialect, ErrorKind, LlmError, LlmRequest, Wire, store::GuardError};
use steadfast_stack::{Continuation, ResponseArchive, StackHandle};
use steadfast_stores::responses::{ResponseOrigin, ResponsePath, ResponseState, StoredResponse};

use super::{
    PREFIX, READS, Turn, TurnRecord,
    items::{self, Item},
    json::{Fields, list, list_of, quote},
    new_id, owner_of,
};
use crate::{
    api::{GatewayState, body_error::BodyError, keys::Key, large_body::beside, ownership::unknown_response},
    limits::Settings,
};

/// The largest number of references to items in a request that are looked up.
const MAX_REFERENCES: usize = 64;

/// Begins a turn: returns the request with the whole conversation, and the turn for its answer. A request that neither
/// continues a kept response nor is kept has no turn.
///
/// # Errors
///
/// The request continues a response that this caller does not have, the conversation is over a limit, or the store
/// cannot be reached.
pub(crate) async fn begin(
    gateway: &GatewayState,
    (archive, stack): (ResponseArchive, StackHandle),
    key: Option<&Arc<Key>>,
    settings: &Settings,
    request: LlmRequest,
) -> Result<(LlmRequest, Option<Box<Turn>>), LlmError> {
    let Some(wire) = request.wire().filter(|wire| wire.dialect() == Dialect::Responses) else {
        return Ok((request, None));
    };
    let owner = owner_of(key);
    let state = ProviderState::of(wire);
    let no_memory = |full| BodyError::OutOfMemory(full).error(settings);
    let mut memory = gateway.turn_memory(key);
    let (mut path, mut references, mut earlier) = (Vec::new(), HashMap::new(), 0);
    let wanted = wanted(wire);
    if state.own.is_some() || !wanted.is_empty() {
        let _permit = READS.acquire().await;
        if let Some(id) = &state.own {
            path = read_path(&archive, &owner, id, settings).await?;
        }
        references = read_references(&archive, &owner, wanted, settings.body).await;
        earlier = path.iter().map(StoredResponse::size).sum();
        earlier += references.values().map(|found| found.item.len()).sum::<usize>();
        memory.grow(earlier + wire.body().len()).map_err(no_memory)?;
    }

    let size = wire.body().len() + earlier;
    let parts = Parts { wire: wire.clone(), path, references, state, max_response: archive.max_response() };
    let assembly = beside(size, move || parts.assemble()).await??;
    let Assembly { whole, short, record, previous } = assembly;
    let mut request = request;
    if let Some(whole) = whole {
        if whole.len() > settings.body {
            return Err(too_long(settings));
        }
        memory.grow(whole.len()).map_err(no_memory)?;
        let whole = memory.into_body(whole);
        request = request.with_wire_body(whole.clone())?;
        if let Some(Short { account, body }) = short {
            let continuation = Continuation { account: account.into(), whole, body: Bytes::from(body) };
            request = request.with_extension(continuation);
        }
    }
    // A compaction is no response.
    let record = record.filter(|_| !request.is_compaction()).and_then(|(input, items)| {
        let mut memory = gateway.turn_memory(key);
        // Without memory the answer is its provider's alone, and nothing else is lost.
        memory.grow(input.len()).ok()?;
        Some(TurnRecord { id: new_id(PREFIX)?, input, items, memory, is_in_background: false })
    });
    let session = request.session().map(str::to_owned);
    let has_part = record.is_some() || previous.is_some();
    let turn = has_part.then(|| Box::new(Turn { archive, stack, owner, session, previous, record }));
    Ok((request, turn))
}

/// The state that a request refers to.
struct ProviderState {
    /// The gateway's id of the response that it continues.
    own: Option<String>,
    /// True if a part of the conversation is a provider's alone.
    is_foreign: bool,
}

impl ProviderState {
    fn of(wire: &Wire) -> Self {
        let field = |name: &str| wire.field(name).filter(|value| *value != b"null");
        let previous = field("previous_response_id").map(|id| serde_json::from_slice::<String>(id).unwrap_or_default());
        let is_own = previous.as_deref().is_some_and(super::is_own);
        let is_foreign = field("conversation").is_some() || previous.is_some() && !is_own;
        Self { own: previous.filter(|_| is_own), is_foreign }
    }
}

/// Reads the conversation up to a response.
async fn read_path(
    archive: &ResponseArchive,
    owner: &str,
    id: &str,
    settings: &Settings,
) -> Result<Vec<StoredResponse>, LlmError> {
    match archive.path(owner, id, settings.body).await {
        Ok(ResponsePath::Whole(path)) => match path.last().and_then(without_answer) {
            Some(status) => Err(unanswered(id, &status)),
            None => Ok(path),
        },
        Ok(ResponsePath::Unknown) => Err(unknown_response(id)),
        Ok(ResponsePath::TooLong) => Err(too_long(settings)),
        Err(failure) => Err(store_failure(failure)),
    }
}

/// Returns the status of a response that has no answer to continue.
fn without_answer(last: &StoredResponse) -> Option<String> {
    let status = match last.state {
        ResponseState::Running => "in_progress".to_owned(),
        ResponseState::Lost => "failed".to_owned(),
        ResponseState::Ended => Fields::read(&last.response)?.text("status")?,
    };
    (!matches!(&*status, "completed" | "incomplete")).then_some(status)
}

/// Returns the error of a request that continues a response without an answer.
fn unanswered(id: &str, status: &str) -> LlmError {
    let message = format!(
        "`previous_response_id`: the response '{id}' is {status}; only one that is completed or incomplete can be \
         continued"
    );
    LlmError::new(ErrorKind::InvalidRequest, message)
}

/// Returns the ids of the items that a request refers to, as many as are looked up.
fn wanted(wire: &Wire) -> Vec<String> {
    if memmem::find(wire.body(), b"item_reference").is_none() {
        return Vec::new();
    }
    let input = wire.field("input").and_then(|input| std::str::from_utf8(input).ok()).and_then(list);
    let ids = input.unwrap_or_default().into_iter().filter_map(|item| items::reference(item.get()));
    ids.take(MAX_REFERENCES).collect()
}

/// A kept item that a request refers to.
struct Referenced {
    item: String,
    /// True if a model wrote it, so that its provider knows it by the same id.
    is_output: bool,
    origin: Option<ResponseOrigin>,
}

/// Reads the kept items of these ids. A reference to any other item is for the provider to judge, and so is one behind
/// this many bytes of responses.
async fn read_references(
    archive: &ResponseArchive,
    owner: &str,
    wanted: Vec<String>,
    bytes: usize,
) -> HashMap<String, Referenced> {
    let (mut found, mut read) = (HashMap::new(), 0);
    for id in &wanted {
        // Most requests refer to items of one response.
        if found.contains_key(id) || read > bytes {
            continue;
        }
        let Ok(Some(response)) = archive.with_item(owner, id).await else { continue };
        read += response.size();
        let wanted = wanted.clone();
        let items = beside(response.size(), move || items_of(&response, &wanted)).await.unwrap_or_default();
        for (id, item) in items {
            found.entry(id).or_insert(item);
        }
    }
    found
}

/// Returns those items of a response that are wanted, by their ids.
fn items_of(response: &StoredResponse, wanted: &[String]) -> Vec<(String, Referenced)> {
    let input = list(&response.input).unwrap_or_default().into_iter().map(|item| (item.get(), false));
    let output = items::output(&response.response).into_iter().map(|item| (item, true));
    let named = output.chain(input).filter_map(|(item, is_output)| {
        let id = items::id_of(item).filter(|id| wanted.contains(id))?;
        Some((id, Referenced { item: item.to_owned(), is_output, origin: response.origin.clone() }))
    });
    named.collect()
}

/// Everything of which a request is put together.
struct Parts {
    wire: Wire,
    path: Vec<StoredResponse>,
    references: HashMap<String, Referenced>,
    state: ProviderState,
    max_response: usize,
}

/// A request that is put together.
struct Assembly {
    /// The body with the whole conversation; `None` if that is the caller's own.
    whole: Option<Vec<u8>>,
    /// The body for the account that keeps the conversation.
    short: Option<Short>,
    /// The items to keep, and their ids.
    record: Option<(String, Vec<String>)>,
    previous: Option<String>,
}

struct Short {
    account: String,
    body: Vec<u8>,
}

impl Parts {
    fn assemble(self) -> Result<Assembly, LlmError> {
        let Self { wire, path, references, state, max_response } = self;
        let invalid = |what: &'static str| LlmError::new(ErrorKind::InvalidRequest, what);
        let body = std::str::from_utf8(wire.body()).map_err(|_| invalid("the body is not UTF-8"))?;
        let is_stored = Fields::read(body).is_some_and(|fields| !fields.has("store", "false"));
        let input = wire.field("input").map(|input| std::str::from_utf8(input).unwrap_or_default());
        let input = input.map(str::trim).filter(|input| *input != "null");
        let own: Vec<String> = match input {
            None => Vec::new(),
            Some(text) if text.starts_with('"') => vec![items::of_text(text)],
            Some(text) => match list(text) {
                Some(items) => items.into_iter().map(|item| item.get().to_owned()).collect(),
                // A provider of the dialect refuses it in its own words.
                None => return Ok(Assembly { whole: None, short: None, record: None, previous: None }),
            },
        };
        let resolved: Vec<InputItem> = own.into_iter().map(|item| resolve(item, &references)).collect();
        let is_foreign = state.is_foreign || resolved.iter().any(|item| matches!(item, InputItem::Unknown(_)));

        let continues = state.own.is_some() || !references.is_empty();
        let (mut whole, mut short) = (None, None);
        if continues {
            let mut sent: Vec<String> = Vec::new();
            for turn in &path {
                let input = list(&turn.input).unwrap_or_default();
                let earlier = input.into_iter().map(|item| item.get()).chain(items::output(&turn.response));
                sent.extend(earlier.filter_map(items::to_sendable).map(|item| item.into_owned()));
            }
            sent.extend(resolved.iter().filter_map(InputItem::to_send));
            let input = list_of(sent.iter().map(String::as_str));
            let mut values: Vec<(&'static str, &[u8])> = vec![("input", input.as_bytes())];
            if state.own.is_some() {
                values.push(("previous_response_id", b"null"));
            }
            whole = Some(wire.with_fields(&values)?.body().to_vec());
            short = origin(&path, &references).map(|origin| short_form(&wire, &state, origin)).transpose()?;
        }
        let record = (is_stored && !is_foreign).then(|| {
            let items: Vec<Item> = resolved.iter().map(|item| items::normalize(item.json())).collect();
            let ids = items.iter().filter_map(|item| item.id.clone()).collect();
            (items::join(&items), ids)
        });
        let record = record.filter(|(input, _): &(String, Vec<String>)| input.len() <= max_response);
        Ok(Assembly { whole, short, record, previous: state.own })
    }
}

/// An item of the request.
enum InputItem {
    /// The caller's own.
    Own(String),
    /// A kept one in the place of a reference.
    Kept(String),
    /// A reference to an item that is not kept.
    Unknown(String),
}

impl InputItem {
    fn json(&self) -> &str {
        let (Self::Own(item) | Self::Kept(item) | Self::Unknown(item)) = self;
        item
    }

    /// Returns the item as a provider gets it. The caller's own is sent as it is.
    fn to_send(&self) -> Option<String> {
        match self {
            Self::Own(item) | Self::Unknown(item) => Some(item.clone()),
            Self::Kept(item) => items::to_sendable(item).map(|item| item.into_owned()),
        }
    }
}

fn resolve(item: String, references: &HashMap<String, Referenced>) -> InputItem {
    let Some(id) = items::reference(&item) else { return InputItem::Own(item) };
    match references.get(&id) {
        Some(found) => InputItem::Kept(found.item.clone()),
        None => InputItem::Unknown(item),
    }
}

/// Returns the account that keeps everything to which the request refers, with its id of the response to continue.
fn origin(path: &[StoredResponse], references: &HashMap<String, Referenced>) -> Option<ResponseOrigin> {
    let origin = match path.last() {
        Some(last) => last.origin.clone()?,
        // References alone: the body names no response.
        None => ResponseOrigin { id: String::new(), ..references.values().next()?.origin.clone()? },
    };
    // The provider gave ids of its own to the items of a request, which nobody here knows.
    let is_there =
        |found: &Referenced| found.is_output && found.origin.as_ref().is_some_and(|own| own.account == origin.account);
    references.values().all(is_there).then_some(origin)
}

/// Returns the caller's own body with the account's id.
fn short_form(wire: &Wire, state: &ProviderState, origin: ResponseOrigin) -> Result<Short, LlmError> {
    let body = match state.own {
        Some(_) => wire.with_fields(&[("previous_response_id", quote(&origin.id).as_bytes())])?.body().to_vec(),
        None => wire.body().to_vec(),
    };
    Ok(Short { account: origin.account, body })
}

fn too_long(settings: &Settings) -> LlmError {
    let (responses, bytes) = (ResponseArchive::MAX_PATH, settings.body);
    let message = format!(
        "the conversation of `previous_response_id` is over the gateway's limits of {responses} responses and {bytes} \
         bytes (`gateway.max_body`); send its newer part as `input`"
    );
    LlmError::new(ErrorKind::TooLarge, message)
}

/// Returns the error of a store that cannot be read: the same request may work later.
fn store_failure(_: GuardError) -> LlmError {
    const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
    let message = "the store of responses did not answer, so `previous_response_id` cannot be looked up; repeat the \
                   request";
    LlmError::new(ErrorKind::Store, message).with_retry_after(RETRY_AFTER)
}
