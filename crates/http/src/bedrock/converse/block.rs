//! The parts that whole answers and streams have in common.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    content::BYTES,
    fields::{Fields, is_object, is_text},
    writer::Writer,
};
use crate::internal::base64;

/// Writes the usage of Converse as that of Messages. Both count reads and writes of the cache beside the input.
pub(super) fn usage(out: &mut Writer, usage: &Fields<'_>) {
    const NAMES: [(&str, &str); 4] = [
        ("inputTokens", "input_tokens"),
        ("outputTokens", "output_tokens"),
        ("cacheReadInputTokens", "cache_read_input_tokens"),
        ("cacheWriteInputTokens", "cache_creation_input_tokens"),
    ];
    out.open(b'{');
    for (from, to) in NAMES {
        out.field(to, usage.get(from));
    }
    let details = usage.list("cacheDetails").unwrap_or_default();
    let details: Vec<_> = details.into_iter().filter_map(Fields::of).collect();
    let of = |ttl: &str| details.iter().find(|detail| detail.text("ttl").as_deref() == Some(ttl))?.get("inputTokens");
    let (short, long) = (of("5m"), of("1h"));
    if short.is_some() || long.is_some() {
        out.name("cache_creation").open(b'{');
        out.field("ephemeral_5m_input_tokens", short).field("ephemeral_1h_input_tokens", long).close("}");
    }
    let known =
        |name: &str| name == "totalTokens" || name == "cacheDetails" || NAMES.iter().any(|(from, _)| *from == name);
    for (name, value) in usage.iter().filter(|(name, _)| !known(name)) {
        out.name(name).raw(value);
    }
    out.close("}");
}

/// Writes the reason of the end, by Converse's word, with the text that stopped the model.
///
/// A guardrail or a filter that cut the answer is a refusal, and `stop_details` has Converse's word. A model that
/// failed keeps the word of the failure, as no word of Messages means one.
pub(super) fn stop(out: &mut Writer, reason: Option<&str>, answer: &Fields<'_>) {
    out.name("stop_reason");
    match reason {
        None => out.json("null"),
        Some("guardrail_intervened" | "content_filtered") => out.text("refusal"),
        Some(reason) => out.text(reason),
    };
    out.name("stop_sequence");
    let fields = answer.object("additionalModelResponseFields");
    let here = fields.as_ref().and_then(|fields| fields.get("stop_sequence"));
    let delta = fields.as_ref().and_then(|fields| fields.object("delta"));
    match here.or_else(|| delta.as_ref()?.get("stop_sequence")).filter(|stop| is_text(stop)) {
        Some(stop) => out.raw(stop),
        None => out.json("null"),
    };
    if let Some(reason @ ("guardrail_intervened" | "content_filtered")) = reason {
        out.name("stop_details").open(b'{').name("type").text("refusal").name("category").json("null");
        out.name("explanation").text(reason).close("}");
    }
}

/// Writes the fields of an answer that Messages has no name for, under Converse's.
pub(super) fn extras(out: &mut Writer, answer: &Fields<'_>) {
    for name in ["metrics", "trace", "performanceConfig", "serviceTier", "additionalModelResponseFields"] {
        out.field(name, answer.get(name));
    }
}

/// Returns the data of redacted thinking. Its bytes are a text for Anthropic's models.
pub(super) fn redacted(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        // A text that begins like the mark would come back as another one.
        Ok(text) if !text.starts_with(BYTES) => text,
        Ok(text) => format!("{BYTES}{}", base64::encode(text.as_bytes())),
        Err(error) => format!("{BYTES}{}", base64::encode(error.as_bytes())),
    }
}

/// Writes a citation in the form of Messages; one of an unknown place as it came.
pub(super) fn citation(out: &mut Writer, raw: &RawValue) {
    let Some(citation) = Fields::of(raw) else { return };
    let location = citation.object("location").unwrap_or_default();
    let Some((kind, place)) = location.iter().find_map(|(kind, place)| Some((kind, Fields::of(place)?))) else {
        out.raw(raw);
        return;
    };
    // The type, and the names of index, beginning and end.
    let names = match kind {
        "documentChar" => ("char_location", "document_index", "start_char_index", "end_char_index"),
        "documentPage" => ("page_location", "document_index", "start_page_number", "end_page_number"),
        "documentChunk" => ("content_block_location", "document_index", "start_block_index", "end_block_index"),
        "searchResultLocation" => {
            ("search_result_location", "search_result_index", "start_block_index", "end_block_index")
        }
        "web" => ("web_search_result_location", "", "", ""),
        _ => {
            out.raw(raw);
            return;
        }
    };
    out.open(b'{').name("type").text(names.0);
    let texts = citation.list("sourceContent").unwrap_or_default();
    let texts: String =
        texts.into_iter().filter_map(|part| Fields::of(part)?.text("text")).collect::<Vec<Cow<'_, str>>>().concat();
    out.name("cited_text").text(&texts);
    match kind {
        "web" => {
            out.field("url", place.get("url")).field("title", citation.get("title"));
        }
        "searchResultLocation" => {
            out.field("source", citation.get("source")).field("title", citation.get("title"));
            out.field(names.1, place.get("searchResultIndex"));
        }
        _ => {
            out.field("document_title", citation.get("title")).field(names.1, place.get("documentIndex"));
        }
    }
    if kind != "web" {
        out.field(names.2, place.get("start")).field(names.3, place.get("end"));
    }
    out.close("}");
}

/// Writes a picture of an answer as a block of Messages. `data` writes its base64.
pub(super) fn image(out: &mut Writer, format: &str, data: impl FnOnce(&mut Writer)) {
    out.open(b'{').name("type").text("image").name("source").open(b'{').name("type").text("base64");
    data(out.name("media_type").text(&format!("image/{format}")).name("data"));
    out.close("}}");
}

/// Writes a tool call, or its beginning in a stream. `own` is the tool's own name, if it was sent under another.
pub(super) fn call(out: &mut Writer, call: &Fields<'_>, own: Option<&str>) {
    // A tool that ran at Bedrock.
    let kind = if call.text("type").as_deref() == Some("server_tool_use") { "server_tool_use" } else { "tool_use" };
    out.open(b'{').name("type").text(kind);
    for (from, to) in [("toolUseId", "id"), ("name", "name")] {
        out.name(to);
        match (call.get(from).filter(|text| is_text(text)), own) {
            (_, Some(own)) if to == "name" => out.text(own),
            (Some(text), _) => out.raw(text),
            (None, _) => out.text(""),
        };
    }
    out.name("input");
    match call.get("input").filter(|input| is_object(input)) {
        Some(input) => out.raw(input),
        None => out.json("{}"),
    };
    out.close("}");
}
