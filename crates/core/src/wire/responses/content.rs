//! The content of a message or of a tool's output: a text, or a list of parts.

use super::joined;
use crate::{
    Dialect, LlmError,
    chat::{Document, ExtraOf, Image, Json, Media, Part, Role},
    fields::{Object, bad, count, each, is_list, is_null, text, word},
    raw_json::RawJson,
    wire::{Meter, openai::data_url, provider_data},
};

/// Decodes the content of a message. `item` are the fields of the item, if it needs a mark of its beginning.
pub(super) fn of_message(
    fields: &Object<'_>,
    role: Role,
    item: Option<Json>,
    meter: &mut Meter<'_>,
) -> Result<Vec<Part>, LlmError> {
    let mut parts = of_item(fields, role, meter)?;
    let Some(item) = item else { return Ok(parts) };
    if parts.is_empty() {
        // Something must bear the fields.
        parts.push(Part::Text(String::new()));
    }
    let fields = match provider_data::beside(&parts, 0, Dialect::Responses) {
        Some(_) => match parts.remove(1) {
            Part::Extra { extra, .. } => Some(extra.fields),
            _ => None,
        },
        None => None,
    };
    if let Some(fields) = joined(Some(item), fields)? {
        let extra = crate::chat::Extra { dialect: Dialect::Responses, fields };
        parts.insert(1, Part::Extra { of: ExtraOf::Part, extra });
    }
    Ok(parts)
}

/// Decodes the field `content` of an item.
pub(super) fn of_item(fields: &Object<'_>, role: Role, meter: &mut Meter<'_>) -> Result<Vec<Part>, LlmError> {
    of_value(fields.get("content"), "input.content", role, Whose::Message, meter)
}

/// The owner of some content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A message, whose unknown parts must be told from items.
    Message,
    /// A tool's output, which consists of nothing but parts.
    Output,
}

pub(super) fn of_value(
    value: Option<RawJson<'_>>,
    name: &str,
    role: Role,
    whose: Whose,
    meter: &mut Meter<'_>,
) -> Result<Vec<Part>, LlmError> {
    match value.filter(|value| !is_null(value)) {
        None => Ok(Vec::new()),
        Some(list) if is_list(list) => {
            let length = count(list);
            meter.parts(length)?;
            let mut parts = Vec::new();
            parts.reserve_exact(length);
            each(list, |raw| part(raw, role, whose, &mut parts))?;
            Ok(parts)
        }
        Some(value) => {
            meter.parts(1)?;
            let text = text(value)?.ok_or_else(|| bad(name, "a text or a list"))?;
            Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] })
        }
    }
}

/// The fields of a part that are read.
const PART: &[&str] = &["type", "text", "refusal", "image_url", "file_id", "file_url", "file_data", "filename"];

/// Decodes a part, followed by the fields that the neutral form lacks.
fn part(raw: RawJson<'_>, role: Role, whose: Whose, parts: &mut Vec<Part>) -> Result<(), LlmError> {
    let fields = Object::read(raw, PART)?;
    let kind = fields.word("type").ok_or_else(|| bad("input.content.type", "a text"))?;
    let usual = if role == Role::Assistant { "output_text" } else { "input_text" };
    let (part, known) = match &*kind {
        "input_text" | "output_text" | "text" => match fields.text("text")? {
            Some(text) if kind == usual => (Part::Text(text), &["type", "text"][..]),
            Some(text) => (Part::Text(text), &["text"][..]),
            None => return other(raw, whose, parts),
        },
        "refusal" => match fields.text("refusal")? {
            Some(text) => (Part::Refusal(text), &["type", "refusal"][..]),
            None => return other(raw, whose, parts),
        },
        "input_image" => match image(&fields)? {
            Some((media, known)) => (Part::Image(Image { media }), known),
            None => return other(raw, whose, parts),
        },
        "input_file" => match file(&fields)? {
            Some((media, known)) => (Part::Document(Document { media, name: fields.text("filename")? }), known),
            None => return other(raw, whose, parts),
        },
        _ => return other(raw, whose, parts),
    };
    let rest = provider_data::rest(raw, known)?;
    let rest = match &part {
        Part::Document(Document { name: None, media: Media::Base64 { .. } }) => {
            provider_data::absent(rest, "filename")?
        }
        _ => rest,
    };
    provider_data::push(parts, part, Dialect::Responses, rest);
    Ok(())
}

/// Keeps a part that the neutral form lacks. In a message its extra tells it from an item.
fn other(raw: RawJson<'_>, whose: Whose, parts: &mut Vec<Part>) -> Result<(), LlmError> {
    let part = Part::Other { dialect: Dialect::Responses, value: Json::of(raw) };
    let mark = (whose == Whose::Message).then(Json::no_fields);
    provider_data::push(parts, part, Dialect::Responses, mark);
    Ok(())
}

type Location = Option<(Media, &'static [&'static str])>;

/// Returns the location of a picture and the fields that name it.
fn image(fields: &Object<'_>) -> Result<Location, LlmError> {
    // The neutral form has a copy of bytes in base64; there is no other.
    if let Some(url) = fields.get("image_url").and_then(word) {
        let media = data_url(&url).unwrap_or_else(|| Media::Url(url.into_owned()));
        return Ok(Some((media, &["type", "image_url"])));
    }
    Ok(fields.text("file_id")?.map(|id| (Media::File(id), &["type", "file_id"][..])))
}

/// Returns the location of a file and the fields that name it.
fn file(fields: &Object<'_>) -> Result<Location, LlmError> {
    if let Some(data) = fields.get("file_data").and_then(word) {
        return Ok(data_url(&data).map(|media| (media, &["type", "file_data", "filename"][..])));
    }
    if let Some(url) = fields.text("file_url")? {
        return Ok(Some((Media::Url(url), &["type", "file_url", "filename"])));
    }
    Ok(fields.text("file_id")?.map(|id| (Media::File(id), &["type", "file_id", "filename"][..])))
}
