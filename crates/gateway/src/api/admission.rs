//! The right of a caller to the objects that its request to a model names.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use steadfast::{Dialect, LlmError, LlmRequest, Wire};

use super::{
    GatewayState,
    conversation::{ItemIds, is_own, item_ids, without_ids},
    keys::Key,
    large_body::beside,
    ownership::{AnswerIds, Names, Ownership, Scope, unknown_item, unknown_response},
};

/// The largest number of items of kept responses that are looked up for a request.
const MAX_KEPT: usize = 64;

/// Checks that the objects in a request are its caller's. Returns the request, and the ids that its answer will give;
/// `None` for a caller that may name any id.
///
/// # Errors
///
/// An object is another caller's or nobody's, the request has too many, or the store cannot be read.
pub(crate) async fn admit(
    gateway: &GatewayState,
    key: Option<&Arc<Key>>,
    request: LlmRequest,
) -> Result<(LlmRequest, Option<AnswerIds>), LlmError> {
    let Some(ownership) = gateway.ownership(key) else { return Ok((request, None)) };
    let Some(wire) = request.wire() else { return Ok((request, None)) };
    let scope = Scope::Conversation(wire.dialect());
    let body = wire.body().clone();
    let mut names = beside(body.len(), move || Names::of(scope, &body)).await??;
    let is_lasting = wire.field("store") != Some(b"false".as_slice());
    let answer = AnswerIds::new(ownership.clone(), scope, is_lasting);
    if wire.dialect() != Dialect::Responses {
        ownership.check(&names.ids, wire.dialect()).await?;
        return Ok((request, Some(answer)));
    }
    let keeps = gateway.archive().is_some();
    // The archive knows the owner of a kept response.
    let previous = previous(wire).filter(|id| !(keeps && is_own(id)));
    names.ids.retain(|id| !(keeps && is_own(id)));
    if let Some(id) = &previous
        && !ownership.own(vec![id.clone()]).await?.contains(id)
    {
        return Err(unknown_response(id));
    }
    ownership.check(&names.ids, Dialect::Responses).await?;
    let changed = items(gateway, &ownership, wire).await?;
    let request = match changed {
        Some(body) => request.with_wire_body(body)?,
        None => request,
    };
    Ok((request, Some(answer)))
}

/// Checks the objects in a call that is no conversation.
///
/// # Errors
///
/// The same as [`admit`].
pub(crate) async fn admit_bytes(
    ownership: &Ownership,
    scope: Scope,
    dialect: Dialect,
    mut names: Names,
    body: Bytes,
) -> Result<(), LlmError> {
    let mut found = beside(body.len(), move || Names::of(scope, &body)).await??;
    names.ids.append(&mut found.ids);
    ownership.check(&names.ids, dialect).await.map(|_| ())
}

fn previous(wire: &Wire) -> Option<String> {
    let value = wire.field("previous_response_id")?;
    serde_json::from_slice::<Option<String>>(value).ok().flatten().filter(|id| !id.is_empty())
}

/// Checks the ids of items. Returns the body without those that are not the caller's and are not needed.
async fn items(gateway: &GatewayState, ownership: &Ownership, wire: &Wire) -> Result<Option<Bytes>, LlmError> {
    let (size, owned) = (wire.body().len(), wire.clone());
    let ItemIds { referenced, carried } = beside(size, move || item_ids(&owned)).await?;
    if !referenced.is_empty() {
        let own = ownership.own(referenced.clone()).await?;
        for (number, id) in referenced.iter().filter(|id| !own.contains(*id)).enumerate() {
            if number == MAX_KEPT || !is_kept(gateway, ownership, id).await {
                return Err(unknown_item(id));
            }
        }
    }
    if carried.is_empty() {
        return Ok(None);
    }
    let own = ownership.own(carried.clone()).await.unwrap_or_default();
    let foreign: HashSet<String> = carried.into_iter().filter(|id| !own.contains(id)).collect();
    let owned = wire.clone();
    beside(size, move || without_ids(&owned, &foreign)).await?
}

/// Returns true for an item of a response that is kept for the caller.
async fn is_kept(gateway: &GatewayState, ownership: &Ownership, id: &str) -> bool {
    match gateway.archive() {
        Some((archive, _)) => matches!(archive.with_item(ownership.owner(), id).await, Ok(Some(_))),
        None => false,
    }
}
