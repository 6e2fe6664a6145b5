//! Failures within a stream, as the `error` event of Messages.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use super::event_stream::Message;
use crate::{cloud_error, json::parse};

/// The fields of an exception. `originalMessage` is the model's own.
#[derive(Default, Deserialize)]
struct Exception<'a> {
    #[serde(borrow, default, alias = "Message")]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "originalMessage")]
    original: Option<Cow<'a, str>>,
}

/// Returns the data of an `error` event of Messages, if this message reports a failure.
///
/// An exception is one that the service models, with its fields in the payload; an error is any other, and is in the
/// headers. The name of either becomes the error's `code`.
pub(super) fn reported(message: &Message) -> Option<String> {
    let (name, text) = match message.message_type() {
        Some("exception") => {
            let fields: Exception<'_> = parse(message.payload()).unwrap_or_default();
            let text = match (fields.message, fields.original) {
                (Some(text), Some(original)) if text != original => Some(format!("{text}: {original}").into()),
                (text, original) => text.or(original),
            };
            (message.exception_type(), text)
        }
        Some("error") => (message.text(":error-code"), message.text(":error-message").map(Cow::Borrowed)),
        _ => return None,
    };
    let name = name.unwrap_or("unnamed");
    let kind = cloud_error::aws(name).map_or("api_error", |known| known.type_name);
    let text = text.filter(|text| !text.trim().is_empty());
    let text = text.unwrap_or_else(|| format!("Bedrock reports {name}").into());
    Some(json!({"type": "error", "error": {"type": kind, "message": text, "code": name}}).to_string())
}
