//! The responses that the gateway keeps for callers of `/v1/responses` (`responses: { keep }`).
//!
//! # What is kept
//!
//! A [`Turn`] is one request of a conversation. Its items, the response as the caller received it and the id of its
//! predecessor are written before the last event goes out, so that the next request finds them. The caller knows the
//! response by the gateway's own id, which [`rewrite`] puts in the place of the provider's; all other bytes pass.
//!
//! - `store: false` keeps nothing and rewrites nothing.
//! - A conversation whose beginning only a provider knows (its own `previous_response_id`, `conversation`, an unknown
//!   `item_reference`) is not kept either, so that its ids stay the provider's.
//! - Only answers that end as `completed` or `incomplete` are kept. A stream that breaks, or whose caller leaves, keeps
//!   nothing: its id is unknown afterwards. A response in the [`background`] is kept from its beginning on.
//! - A store that fails is reported by its guard, and the answer goes out. A whole answer then has its provider's id. A
//!   stream's id is out already, and unknown to the next request.
//!
//! # How a conversation goes on
//!
//! [`Turn::begin`] replaces a known `previous_response_id` by the whole conversation: the items of all turns before, in
//! `input`. Any tier serves that, and every layer sees what it costs. The account that keeps the conversation itself
//! gets the caller's own bytes with its own id, as a [`Continuation`]; the stack decides that for each attempt.
//! Items go without the ids by which a provider would look for them. Thoughts without their sealed content stay behind:
//! no provider accepts one.

mod background;
mod chain;
mod items;
mod json;
mod lookup;
mod own_items;
mod recorder;
mod request;
mod rewrite;
#[cfg(test)]
mod tests;
mod turn_events;

pub(crate) use self::{
    background::{Beginning, Order, runs::Runs},
    chain::{Chain, ChainRefusal, EndedResponse, Link, warm_up_id},
    lookup::{cancel, delete, input_items, retrieve},
    own_items::{ItemIds, item_ids, without_ids},
    recorder::Recorder,
    request::begin,
    turn_events::{TurnEvents, error_message},
};

use std::sync::Arc;

use bytes::Bytes;
use steadfast_internal::hex;
use steadfast_stack::{ResponseArchive, StackHandle};

use tokio::sync::Semaphore;

use super::{Catalog, GatewayState, keys::Key};
use crate::limits::memory::{FREE_BODY, OutOfMemory, Reservation};

/// The beginning of the gateway's ids, by which it knows them from a provider's.
const PREFIX: &str = "resp_sf_";
/// The random bytes of an id.
const RANDOM: usize = 24;

/// One request of a conversation, and what its answer needs.
pub(crate) struct Turn {
    archive: ResponseArchive,
    stack: StackHandle,
    owner: String,
    session: Option<String>,
    /// The gateway's id of the response that the request continues.
    previous: Option<String>,
    /// The record of the response; `None` if it is not kept.
    record: Option<TurnRecord>,
}

/// The part of a response's record that is known before the answer.
struct TurnRecord {
    id: String,
    /// The items of the request, as a JSON list.
    input: String,
    /// The ids of the items.
    items: Vec<String>,
    memory: TurnMemory,
    /// True for a response in the background, which is kept already.
    is_in_background: bool,
}

/// The memory that a record takes until it is written: a part of `gateway.memory`.
struct TurnMemory(Reservation);

impl TurnMemory {
    /// Grows to this many bytes.
    fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        if bytes <= FREE_BODY { Ok(()) } else { self.0.grow(bytes) }
    }

    /// Returns these bytes; dropping the last copy of them returns the memory.
    fn into_body(self, body: impl Into<Bytes>) -> Bytes {
        self.0.into_body(body.into())
    }
}

/// Permits to read whole conversations: so many of them are in memory before their memory is reserved.
static READS: Semaphore = Semaphore::const_new(4);

impl GatewayState {
    /// Returns an empty reservation for a caller's conversation.
    fn turn_memory(&self, key: Option<&Arc<Key>>) -> TurnMemory {
        TurnMemory(self.memory.reservation(key.map(|key| &key.memory)))
    }

    /// Returns the kept responses, and the stack that keeps them.
    pub(crate) fn archive(&self) -> Option<(ResponseArchive, StackHandle)> {
        match &self.catalog {
            Catalog::Stack(stack) => Some((stack.responses()?, stack.clone())),
            Catalog::Listed(_) => None,
        }
    }
}

/// Returns the name under which a caller's responses are kept.
fn owner_of(key: Option<&Arc<Key>>) -> String {
    key.map(|key| key.name.to_string()).unwrap_or_default()
}

/// Returns whether an id has the form of the gateway's own.
pub(crate) fn is_own(id: &str) -> bool {
    let digits = id.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 2 * RANDOM && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns a new id with this beginning, which nobody guesses; `None` if the system has no randomness.
fn new_id(prefix: &str) -> Option<String> {
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).ok()?;
    Some(prefix.to_owned() + &hex::encode(&random))
}
