//! The parts of a message or of a tool's output.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Extra, Json, Media, Part},
    media::media_type_of,
    protocol::to_value,
    translate::{Feature, Report},
};

/// A text alone, which every server takes, or a list of parts.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(&'a str),
    Joined(String),
    Parts(Vec<Block<'a>>),
}

impl<'a> Content<'a> {
    pub(super) fn of(blocks: Vec<Block<'a>>) -> Self {
        match blocks.as_slice() {
            [one] => match one.plain() {
                Some(text) => Self::Text(text),
                None => Self::Parts(blocks),
            },
            _ => Self::Parts(blocks),
        }
    }

    /// Returns texts alone as one: some servers take no list as a tool's output.
    pub(super) fn joined(blocks: Vec<Block<'a>>) -> Self {
        let texts: Option<Vec<&str>> = blocks.iter().map(Block::plain).collect();
        match texts.as_deref() {
            Some([]) => Self::Text(""),
            Some([_]) | None => Self::of(blocks),
            Some(texts) => Self::Joined(texts.join("\n")),
        }
    }

    /// Puts a word before it.
    pub(super) fn after(self, word: &'static str) -> Self {
        match self {
            Self::Text(text) => Self::Joined([word, text].concat()),
            Self::Joined(text) => Self::Joined([word, &text].concat()),
            Self::Parts(mut blocks) => {
                blocks.insert(0, Block::InputText { text: word });
                Self::Parts(blocks)
            }
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
    InputFile(File<'a>),
    #[serde(untagged)]
    Own(&'a Json),
    /// Rebuilt with fields of this dialect's own.
    #[serde(untagged)]
    Made(Value),
}

#[derive(Default, Serialize)]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
}

impl<'a> Block<'a> {
    /// Returns a text that has nothing beside it.
    fn plain(&self) -> Option<&'a str> {
        match self {
            Self::InputText { text } | Self::OutputText { text } => Some(text),
            _ => None,
        }
    }
}

/// The pictures that OpenAI takes (its guide on images and vision, 2026).
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

/// Encodes a part with the fields that only this dialect knows. `None`: it is left out, and that is reported.
#[warn(clippy::wildcard_enum_match_arm, reason = "each part has its arm")]
pub(super) fn block<'a>(
    part: &'a Part,
    extra: Option<Map<String, Value>>,
    is_models: bool,
    report: &mut Report,
) -> Result<Option<Block<'a>>, LlmError> {
    let block = match part {
        Part::Text(text) if is_models => Block::OutputText { text },
        Part::Text(text) => Block::InputText { text },
        Part::Refusal(refusal) if is_models => Block::Refusal { refusal },
        Part::Refusal(text) => Block::InputText { text },
        Part::Image(image) => match &image.media {
            Media::Url(url) => Block::InputImage { image_url: Some(url.into()), file_id: None },
            Media::File(id) => Block::InputImage { image_url: None, file_id: Some(id) },
            Media::Base64 { media_type, data } => {
                let media_type = media_type_of(media_type);
                if report.is_foreign() && !PICTURES.contains(&media_type) {
                    return Err(report.refuse(Feature::MediaType));
                }
                let url = format!("data:{media_type};base64,{data}");
                Block::InputImage { image_url: Some(url.into()), file_id: None }
            }
        },
        Part::Document(document) => Block::InputFile(match &document.media {
            Media::Base64 { media_type, .. } if report.is_foreign() && media_type != "application/pdf" => {
                return Err(report.refuse(Feature::MediaType));
            }
            Media::Base64 { media_type, data } => File {
                filename: Some(document.name.as_deref().unwrap_or("document.pdf")),
                file_data: Some(format!("data:{media_type};base64,{data}")),
                ..File::default()
            },
            Media::Url(url) => File { filename: document.name.as_deref(), file_url: Some(url), ..File::default() },
            Media::File(id) => File { filename: document.name.as_deref(), file_id: Some(id), ..File::default() },
        }),
        Part::Other { dialect: Dialect::Responses, value } => Block::Own(value),
        Part::Other { value, .. } => {
            report.record_field(Feature::OwnPart, crate::translate::kind_of(value));
            return Ok(None);
        }
        Part::Extra { .. } => return Ok(None),
        Part::Reasoning(_) => {
            report.record(Feature::Reasoning);
            return Ok(None);
        }
        Part::ToolCall(_) | Part::ToolResult(_) => {
            let message = "a tool's result does not hold calls or other results";
            return Err(LlmError::new(ErrorKind::InvalidRequest, message));
        }
        _ => return Ok(None),
    };
    let Some(extra) = extra.filter(|extra| !extra.is_empty()) else { return Ok(Some(block)) };
    let mut value = to_value(&block)?;
    replace(&mut value, &extra);
    Ok(Some(Block::Made(value)))
}

/// Returns the fields beside a part, without those of the item that begins with it.
pub(super) fn without_item(beside: Option<&Extra>) -> Option<Map<String, Value>> {
    let mut fields = beside?.fields.fields();
    fields.remove("item");
    Some(fields)
}

/// Writes fields into an object, in place of those of the same name. A `null` removes a field.
pub(super) fn replace(into: &mut Value, fields: &Map<String, Value>) {
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in fields {
        match value {
            Value::Null => _ = object.remove(name),
            value => _ = object.insert(name.clone(), value.clone()),
        }
    }
}
