//! OpenAI's `response`, and its stream of events from `response.created` to `response.completed`.

mod echo;
mod item;
mod passing;
mod response;
mod stream;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::echo::RequestEcho;
pub(super) use self::{item::annotations, stream::Stream};
use self::{
    item::{Call, Content, Ids, Status, Thought},
    response::{Head, Outcome},
};
use super::{json_of, left_out, new_id};
use crate::{
    Dialect,
    chat::{Message, Part},
    translate::request::Report,
    wire::provider_data::beside,
};

/// Returns the id of the response to an answer with this id.
///
/// Clients recognize an id of this API by its begin.
pub(super) fn response_id(id: Option<&str>) -> String {
    match id {
        Some(own) if own.starts_with("resp_") => own.to_owned(),
        Some(foreign) if !foreign.is_empty() => format!("resp_{foreign}"),
        _ => format!("resp_{}", new_id()),
    }
}

pub(super) fn whole(message: &Message, echo: &RequestEcho, report: &mut Report) -> String {
    let items = items(message, echo, report);
    let declined = items.iter().any(|item| matches!(item, Item::Message(message) if message.is_refusal()));
    let outcome = Outcome::of(message.finish.as_ref(), declined);
    let last = items.len().saturating_sub(1);
    let items: Vec<String> = items
        .into_iter()
        .enumerate()
        .map(|(place, item)| {
            let end = outcome.last_item();
            let status = if place == last { end } else { Status::Completed };
            json_of(&match item {
                Item::Message(message) => message.value(status),
                Item::Thought(thought) => thought.value(true),
                Item::Call(mut call) => {
                    let status = if call.is_whole() { status } else { end };
                    call.finish(status == Status::Completed, report);
                    call.value(status)
                }
                Item::Own(item) => item,
            })
        })
        .collect();
    let head = Head::new(&response_id(message.id.as_deref()), message.model.as_deref().unwrap_or_default());
    let used = Some(message.usage.unwrap_or_default());
    let mut body = String::new();
    response::write(&head, &outcome, items.iter().map(String::as_str), used, echo, &mut body);
    body
}

/// An item of a whole answer.
enum Item {
    Message(item::Message),
    Thought(Thought),
    Call(Call),
    Own(Value),
}

/// Returns the items of an answer. Texts that follow one another are parts of one message.
fn items(message: &Message, echo: &RequestEcho, report: &mut Report) -> Vec<Item> {
    let mut items = Vec::new();
    let mut ids = Ids::default();
    for (place, part) in message.content.iter().enumerate() {
        let extra = beside(&message.content, place, Dialect::Responses);
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => {
                let mut content = Content::new(matches!(part, Part::Refusal(_)), text);
                if !matches!(items.last(), Some(Item::Message(_))) || extra.is_some_and(item::begins_item) {
                    items.push(Item::Message(item::Message::new()));
                }
                let Some(Item::Message(message)) = items.last_mut() else { continue };
                if let Some(extra) = extra {
                    content.annotate(extra);
                    message.restore(extra);
                }
                message.content.push(content);
            }
            Part::Reasoning(thought) => {
                if thought.text.is_empty() && thought.opaque.is_none() {
                    continue;
                }
                let mut item = Thought::new(thought.opaque.as_ref(), &mut ids);
                item.text.clone_from(&thought.text);
                items.push(Item::Thought(item));
            }
            Part::ToolCall(made) => {
                items.extend(made.opaque.as_ref().map(|opaque| Item::Thought(Thought::of_call(opaque, &mut ids))));
                items.extend(Thought::of_id(&made.id, &mut ids).map(Item::Thought));
                let custom = extra.is_some_and(item::is_custom);
                let mut call = Call::new(&made.id, &made.name, custom, echo, &mut ids);
                call.read(&made.arguments);
                items.push(Item::Call(call));
            }
            Part::Other { dialect: Dialect::Responses, value } => {
                items.extend(item::own(value, &mut ids).map(Item::Own))
            }
            other => left_out(other, report),
        }
    }
    items
}
