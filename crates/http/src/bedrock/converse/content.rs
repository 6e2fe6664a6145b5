//! The turns of a conversation.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
};

use serde_json::value::RawValue;

use super::{
    fields::{Fields, is_object, is_text, list, text},
    names::{SentNames, id},
    notes::{self, Notes, Place},
    writer::Writer,
};
use crate::{LlmError, internal::base64, media::media_type_of};

/// Marks the data of redacted thinking that Bedrock has sent as bytes and not as a text, in base64.
pub(super) const BYTES: &str = "bedrock-bytes:";

/// Writes the turns, and keeps facts about them.
pub(super) struct Turns<'n> {
    pub(super) out: Writer,
    pub(super) notes: &'n mut Notes,
    pub(super) tool_names: SentNames,
    /// The role of the turn that is being written.
    role: Option<&'static str>,
    /// True if the turn has a document, and a text.
    document: bool,
    text: bool,
    /// The names of documents, which Converse wants to be different.
    names: HashSet<String>,
    /// The names of the tools in the history, as Converse gets them.
    pub(super) called: BTreeSet<String>,
    /// True if there is a result of a tool.
    pub(super) has_results: bool,
}

impl<'n> Turns<'n> {
    pub(super) fn new(capacity: usize, notes: &'n mut Notes, tool_names: SentNames) -> Self {
        let mut out = Writer::with_capacity(capacity);
        out.open(b'{').name("messages").open(b'[');
        Self {
            out,
            notes,
            tool_names,
            role: None,
            document: false,
            text: false,
            names: HashSet::new(),
            called: BTreeSet::new(),
            has_results: false,
        }
    }

    /// Writes a message.
    pub(super) fn message(&mut self, raw: &RawValue, message: usize) -> Result<(), LlmError> {
        let place = Place { message, block: 0, inner: None };
        let fields = Fields::of(raw)
            .ok_or_else(|| notes::invalid(&format!("messages.{message}"), "this is no object, or a field is twice"))?;
        let (role, is_system) = match fields.text("role").as_deref() {
            Some("user") => ("user", false),
            Some("assistant") => ("assistant", false),
            Some("system") => ("user", true),
            _ => return Err(notes::invalid(&format!("messages.{message}.role"), "must be `user` or `assistant`")),
        };
        if is_system {
            self.notes.record(notes::SYSTEM, None);
        }
        let content = fields.get("content").ok_or_else(|| place.invalid("", "the content is missing"))?;
        if is_text(content) {
            return match is_system {
                true => self.system_text(&text(content).unwrap_or_default()),
                false => self.plain(role, content),
            };
        }
        let blocks = list(content).ok_or_else(|| place.invalid("", "the content is no text and no list"))?;
        for (block, raw) in blocks.into_iter().enumerate() {
            let place = Place { block, ..place };
            let fields = Fields::of(raw).ok_or_else(|| place.invalid("", "this is no object, or a field is twice"))?;
            match is_system.then(|| fields.text("text")).flatten() {
                Some(text) => self.system_text(&text)?,
                None => self.block(role, &fields, place)?,
            }
        }
        Ok(())
    }

    fn system_text(&mut self, text: &str) -> Result<(), LlmError> {
        self.begin("user");
        self.text = true;
        self.out.open(b'{').name("text").text(&format!("[system]\n{text}")).close("}");
        Ok(())
    }

    /// Writes a text as the next block.
    fn plain(&mut self, role: &'static str, raw: &RawValue) -> Result<(), LlmError> {
        // An empty text is none: Converse refuses it.
        if raw.get() != "\"\"" {
            self.begin(role);
            self.text = true;
            self.out.open(b'{').name("text").raw(raw).close("}");
        }
        Ok(())
    }

    /// Begins a turn, unless one of this role is open: Converse wants roles to alternate.
    fn begin(&mut self, role: &'static str) {
        if self.role == Some(role) {
            return;
        }
        self.end();
        self.role = Some(role);
        self.out.open(b'{').name("role").text(role).name("content").open(b'[');
    }

    fn end(&mut self) {
        if self.role.take().is_none() {
            return;
        }
        if std::mem::take(&mut self.document) && !self.text {
            self.notes.record(notes::DOCUMENT_ALONE, None);
            self.out.json(r#"{"text":"(document)"}"#);
        }
        self.text = false;
        self.out.close("]}");
    }

    /// Ends the list of turns. `cached` is the `cache_control` of the whole request, which covers the last block.
    pub(super) fn finish(&mut self, cached: Option<&RawValue>) {
        if self.role.is_some() && !ends_with_cache_point(self.out.as_bytes()) {
            self.cache_point(cached);
        }
        self.end();
        self.out.close("]");
    }

    /// Writes the point up to which is cached, if one is set.
    pub(super) fn cache_point(&mut self, control: Option<&RawValue>) {
        cache_point(&mut self.out, control);
    }

    fn block(&mut self, role: &'static str, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        let kind = block.text("type").ok_or_else(|| place.invalid(".type", "must be a text"))?;
        match &*kind {
            "text" | "image" | "document" | "search_result" => {
                if is_empty_text(&kind, block) {
                    return Ok(());
                }
                self.begin(role);
                self.media(&kind, block, place)?;
            }
            "tool_use" => {
                self.begin(role);
                self.call(block, place)?;
            }
            "tool_result" => {
                self.begin(role);
                self.result(block, place)?;
            }
            "thinking" => {
                self.begin(role);
                self.out.open(b'{').name("reasoningContent").open(b'{').name("reasoningText").open(b'{').name("text");
                match block.get("thinking").filter(|thinking| is_text(thinking)) {
                    Some(thinking) => self.out.raw(thinking),
                    None => self.out.text(""),
                };
                let signature = block.get("signature").filter(|signature| is_text(signature));
                self.out.field("signature", signature.filter(|signature| signature.get() != "\"\"")).close("}}}");
            }
            "redacted_thinking" => {
                self.begin(role);
                let data = block.text("data").unwrap_or_default();
                let bytes = match data.strip_prefix(BYTES) {
                    Some(bytes) => Cow::Borrowed(bytes),
                    None => base64::encode(data.as_bytes()).into(),
                };
                self.out
                    .open(b'{')
                    .name("reasoningContent")
                    .open(b'{')
                    .name("redactedContent")
                    .text(&bytes)
                    .close("}}");
            }
            other => {
                self.notes.record(notes::OWN_PART, Some(other));
                return Ok(());
            }
        }
        self.cache_point(block.get("cache_control"));
        Ok(())
    }

    /// Writes a block that a tool's result may contain too.
    fn media(&mut self, kind: &str, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        match kind {
            "text" => {
                let text = block.get("text").filter(|text| is_text(text));
                let text = text.ok_or_else(|| place.invalid(".text", "must be a text"))?;
                if block.list("citations").is_some_and(|cited| !cited.is_empty()) {
                    self.notes.record(notes::CITATIONS, None);
                }
                self.text |= place.inner.is_none();
                self.out.open(b'{').name("text").raw(text).close("}");
            }
            "image" => self.image(block, place)?,
            "document" => {
                self.document |= place.inner.is_none();
                self.document(block, place)?;
            }
            _ => {
                self.out.open(b'{').name("searchResult").open(b'{');
                for name in ["source", "title"] {
                    self.out.name(name);
                    match block.get(name).filter(|text| is_text(text)) {
                        Some(text) => self.out.raw(text),
                        None => self.out.text(""),
                    };
                }
                self.out.name("content").open(b'[');
                for part in block.list("content").unwrap_or_default() {
                    if let Some(text) = Fields::of(part).and_then(|part| part.get("text")).filter(|text| is_text(text))
                    {
                        self.out.open(b'{').name("text").raw(text).close("}");
                    }
                }
                self.out.close("]");
                self.cited(block);
                self.out.close("}}");
            }
        }
        Ok(())
    }

    /// Writes the wish for citations.
    fn cited(&mut self, block: &Fields<'_>) {
        if let Some(enabled) = block.object("citations").and_then(|cited| cited.get("enabled")) {
            self.out.name("citations").open(b'{').name("enabled").raw(enabled).close("}");
        }
    }

    fn image(&mut self, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        let source = Source::read(block, place)?;
        let format = match &source {
            Source::Bytes { media_type, .. } => media_type_of(media_type).strip_prefix("image/").map(str::to_owned),
            Source::Bucket(address) => address.rsplit('.').next().map(|ending| media_format(ending).to_owned()),
            Source::Text(_) | Source::Content(_) => None,
        };
        let format = format.filter(|format| ["png", "jpeg", "gif", "webp"].contains(&&**format));
        let format =
            format.ok_or_else(|| place.refused("media_type", "Converse takes pictures in PNG, JPEG, GIF and WebP"))?;
        self.out.open(b'{').name("image").open(b'{').name("format").text(&format);
        self.source(&source);
        self.out.close("}}");
        Ok(())
    }

    fn document(&mut self, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        let source = Source::read(block, place)?;
        let format = match &source {
            Source::Bytes { media_type, .. } => Some(match &**media_type {
                "application/pdf" => "pdf",
                "text/plain" => "txt",
                "text/csv" => "csv",
                "text/html" => "html",
                "text/markdown" => "md",
                "application/msword" => "doc",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
                "application/vnd.ms-excel" => "xls",
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
                _ => return Err(place.refused("media_type", "Converse does not take documents of this type")),
            }),
            Source::Bucket(address) => {
                let ending = address.rsplit('.').next().unwrap_or_default();
                let known = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];
                known.into_iter().find(|format| format.eq_ignore_ascii_case(ending))
            }
            Source::Text(_) => Some("txt"),
            Source::Content(_) => None,
        };
        let name = self.document_name(block.text("title").as_deref());
        self.out.open(b'{').name("document").open(b'{');
        if let Some(format) = format {
            self.out.name("format").text(format);
        }
        self.out.name("name").text(&name);
        self.source(&source);
        self.out.field("context", block.get("context").filter(|context| is_text(context)));
        self.cited(block);
        self.out.close("}}");
        Ok(())
    }

    fn source(&mut self, source: &Source<'_>) {
        self.out.name("source").open(b'{');
        match source {
            Source::Bytes { data, .. } => self.out.name("bytes").raw(data),
            // As bytes, which every model takes.
            Source::Text(text) => self.out.name("bytes").text(&base64::encode(text.as_bytes())),
            Source::Bucket(uri) => self.out.name("s3Location").open(b'{').name("uri").text(uri).close("}"),
            Source::Content(texts) => {
                self.out.name("content").open(b'[');
                for text in texts {
                    self.out.open(b'{').name("text").raw(text).close("}");
                }
                self.out.close("]")
            }
        };
        self.out.close("}");
    }

    /// Returns the name of a document in the letters that Converse takes, and different from the others.
    fn document_name(&mut self, title: Option<&str>) -> String {
        let title = title.map(str::trim).filter(|title| !title.is_empty());
        let mut name = String::new();
        for letter in title.unwrap_or("document").chars().take(LONGEST_NAME) {
            match letter {
                _ if letter.is_ascii_alphanumeric() || "-()[]".contains(letter) => name.push(letter),
                _ if letter.is_whitespace() && name.ends_with(' ') => {}
                _ if letter.is_whitespace() => name.push(' '),
                _ => name.push('-'),
            }
        }
        if title.is_some_and(|title| title != name) {
            self.notes.record(notes::FILE_NAME, None);
        }
        let mut unique = name.clone();
        // Each name is in use at most once: there are fewer rounds than documents.
        let mut number = self.names.len();
        while !self.names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name} {number}");
        }
        unique
    }

    fn call(&mut self, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        let of = block.get("id").filter(|id| is_text(id)).ok_or_else(|| place.invalid(".id", "must be a text"))?;
        let name = block.text("name").ok_or_else(|| place.invalid(".name", "must be a text"))?;
        let name = self.tool_names.of(&name).to_owned();
        id(self.out.open(b'{').name("toolUse").open(b'{').name("toolUseId"), of);
        self.out.name("name").text(&name).name("input");
        match block.get("input").filter(|input| is_object(input)) {
            Some(input) => self.out.raw(input),
            None => self.out.json("{}"),
        };
        self.out.close("}}");
        self.called.insert(name);
        Ok(())
    }

    fn result(&mut self, block: &Fields<'_>, place: Place) -> Result<(), LlmError> {
        let of = block.get("tool_use_id").filter(|id| is_text(id));
        let of = of.ok_or_else(|| place.invalid(".tool_use_id", "must be a text"))?;
        self.has_results = true;
        id(self.out.open(b'{').name("toolResult").open(b'{').name("toolUseId"), of);
        self.out.name("content").open(b'[');
        let mut cached = None;
        match block.get("content") {
            None => {}
            Some(content) if content.get() == "\"\"" => {}
            Some(content) if is_text(content) => {
                self.out.open(b'{').name("text").raw(content).close("}");
            }
            Some(content) => {
                let parts = list(content);
                let parts = parts.ok_or_else(|| place.invalid(".content", "must be a text or a list"))?;
                for (inner, part) in parts.into_iter().enumerate() {
                    let place = Place { inner: Some(inner), ..place };
                    let part = Fields::of(part);
                    let part = part.ok_or_else(|| place.invalid("", "this is no object, or a field is twice"))?;
                    match part.text("type").as_deref() {
                        Some(kind) if is_empty_text(kind, &part) => {}
                        Some(kind @ ("text" | "image" | "document" | "search_result")) => {
                            self.media(kind, &part, place)?;
                            cached = part.get("cache_control").or(cached);
                        }
                        Some(other) => self.notes.record(notes::OWN_PART, Some(other)),
                        None => return Err(place.invalid(".type", "must be a text")),
                    }
                }
            }
        }
        self.out.close("]");
        if block.get("is_error").is_some_and(|failed| failed.get() == "true") {
            self.out.name("status").text("error");
        }
        self.out.close("}}");
        if cached.is_some() && block.get("cache_control").is_none() {
            self.notes.record(notes::CACHE, None);
            self.cache_point(cached);
        }
        Ok(())
    }
}

/// The longest title that is kept. Converse takes 200 characters; a number may be added.
const LONGEST_NAME: usize = 180;

/// The source of a picture or a document.
enum Source<'a> {
    /// Base64, as it is spelled.
    Bytes {
        media_type: Cow<'a, str>,
        data: &'a RawValue,
    },
    Text(Cow<'a, str>),
    /// Texts, as they are spelled.
    Content(Vec<&'a RawValue>),
    /// An address in S3.
    Bucket(Cow<'a, str>),
}

impl<'a> Source<'a> {
    fn read(block: &Fields<'a>, place: Place) -> Result<Self, LlmError> {
        let source = block.object("source").ok_or_else(|| place.invalid(".source", "must be an object"))?;
        let missing = |field| place.invalid(field, "must be a text");
        match source.text("type").as_deref() {
            Some("base64") => {
                let media_type = source.text("media_type").ok_or_else(|| missing(".source.media_type"))?;
                let data = source.get("data").filter(|data| is_text(data)).ok_or_else(|| missing(".source.data"))?;
                Ok(Self::Bytes { media_type, data })
            }
            Some("text") => source.text("data").map(Self::Text).ok_or_else(|| missing(".source.data")),
            Some("url") => match source.text("url").ok_or_else(|| missing(".source.url"))? {
                url if url.starts_with("s3://") => Ok(Self::Bucket(url)),
                _ => Err(place.refused("url", "Converse takes files in the request itself, or in S3")),
            },
            Some("content") => {
                let content = source.get("content").ok_or_else(|| missing(".source.content"))?;
                if is_text(content) {
                    return Ok(Self::Content(vec![content]));
                }
                let parts = list(content).ok_or_else(|| missing(".source.content"))?;
                let texts = parts.into_iter().map(|part| Fields::of(part)?.get("text").filter(|text| is_text(text)));
                let texts: Option<Vec<_>> = texts.collect();
                texts
                    .map(Self::Content)
                    .ok_or_else(|| place.refused("own_part", "Converse takes texts within a document"))
            }
            Some("file") => Err(place.refused("uploaded_file", "the file is at another provider")),
            _ => Err(place.invalid(".source.type", "must be `base64`, `text`, `content` or `url`")),
        }
    }
}

/// Returns Converse's name of a picture's format by a file's ending.
fn media_format(ending: &str) -> &str {
    match ending {
        "jpg" | "JPG" | "JPEG" => "jpeg",
        other => other,
    }
}

/// Returns true for a text without letters, which Converse refuses.
fn is_empty_text(kind: &str, block: &Fields<'_>) -> bool {
    kind == "text" && block.get("text").is_some_and(|text| text.get() == "\"\"")
}

/// Writes a cache point for a `cache_control`, if there is one.
pub(super) fn cache_point(out: &mut Writer, control: Option<&RawValue>) {
    let Some(control) = control.and_then(Fields::of) else { return };
    out.open(b'{').name("cachePoint").open(b'{').name("type").text("default");
    if let Some(ttl) = control.text("ttl").filter(|ttl| matches!(&**ttl, "5m" | "1h")) {
        out.name("ttl").text(&ttl);
    }
    out.close("}}");
}

fn ends_with_cache_point(out: &[u8]) -> bool {
    const ENDINGS: [&[u8]; 3] = [
        br#"{"cachePoint":{"type":"default"}}"#,
        br#"{"cachePoint":{"type":"default","ttl":"5m"}}"#,
        br#"{"cachePoint":{"type":"default","ttl":"1h"}}"#,
    ];
    ENDINGS.iter().any(|ending| out.ends_with(ending))
}
