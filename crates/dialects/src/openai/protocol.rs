use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use serde_json::Value;

use super::{
    decode, encode, error,
    marks::{self, MARKS},
    refit,
    stream::Decoder,
};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Message, Usage},
    models::gemini_generation,
    protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, Refusal, refused_parameters, without_parameter},
    raw_json::RawJson,
    refit::Fields,
    servers::{self, KnownServer},
    splice::MaxTokens,
    translate::{CacheMarks, Report, StandIns, Target, with_stand_ins, without_seals},
};

/// OpenAI's Chat Completions, as its own server or a compatible one speaks it.
#[derive(Clone, Debug)]
pub struct ChatCompletions {
    pub(super) flavour: Flavour,
    #[doc(hidden)]
    pub stream_usage: bool,
    #[doc(hidden)]
    pub key_header: Option<HeaderName>,
    /// True for a server that requires the thoughts before calls.
    pub(super) wants_thoughts: bool,
    /// True for a server that may not know the role `developer`. OpenRouter does, as recorded.
    pub(super) older_roles: bool,
    /// The models for which the server takes marks for the cache, by words in their names.
    pub(super) marked_models: &'static [&'static str],
    /// The field by which a request says that its last turn is to be gone on with; empty if it need not.
    pub(super) goes_on_by: &'static str,
}

/// The server's maker, if that changes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// OpenAI's own.
    Own,
    /// A compatible one: knows `max_tokens`, and maybe not `max_completion_tokens`.
    Compatible,
    /// Mistral's: uses `any` for a required tool call, and requires ids of nine letters and digits.
    Mistral,
}

impl ChatCompletions {
    /// Creates the protocol of OpenAI's own server.
    #[doc(hidden)]
    pub fn own() -> Self {
        Self {
            flavour: Flavour::Own,
            stream_usage: true,
            key_header: None,
            wants_thoughts: false,
            older_roles: false,
            marked_models: &[],
            goes_on_by: "",
        }
    }

    /// Returns the header that carries the bare key, if one is set.
    #[doc(hidden)]
    pub fn key_header(&self) -> Option<HeaderName> {
        self.key_header.clone()
    }

    /// Creates the protocol of a compatible server, by its name and its address as far as there is one.
    #[doc(hidden)]
    pub fn compatible(name: &str, base_url: &str) -> Self {
        let at = KnownServer::at(base_url);
        // A proxy may stand before a server. Any compatible one may be named after OpenAI.
        let named = KnownServer::named(name).filter(|server| !server.is_vendors());
        let has = |fact: &str| [at, named].into_iter().flatten().any(|server| server.has(fact));
        let flavour = if has(servers::MISTRAL) { Flavour::Mistral } else { Flavour::Compatible };
        let wants_thoughts = at.is_some_and(|server| server.has(servers::THOUGHTS));
        let older_roles = !has(servers::DEVELOPER);
        let mut marked = [at, named].into_iter().flatten().map(KnownServer::marked_models);
        let marked_models = marked.find(|models| !models.is_empty()).unwrap_or(&["claude"]);
        // Most servers of one's own run vLLM or SGLang, which have this one.
        let goes_on_by = [at, named].into_iter().flatten().find_map(KnownServer::goes_on_by).unwrap_or(FINAL_MESSAGE);
        Self { flavour, stream_usage: true, key_header: None, wants_thoughts, older_roles, marked_models, goes_on_by }
    }
}

/// The two names of the longest answer: OpenAI's models that reason know the newer alone, and many servers the older.
const OLDER_LIMIT: &str = "max_tokens";
const NEWER_LIMIT: &str = "max_completion_tokens";

/// The places of what other servers gave with their turns.
const FOREIGN_PLACES: &[&str] = &[
    "reasoning_content",
    "reasoning_details",
    "thinking_blocks",
    "thought_signature",
    "extra_content",
    "provider_specific_fields",
    "messages[].reasoning_content",
    "messages[].reasoning",
    "messages[].reasoning_details",
    "messages[].thinking_blocks",
    "messages[].thought_signature",
    "messages[].extra_content",
    "messages[].provider_specific_fields",
    "messages[].tool_calls[].extra_content",
    "messages[].tool_calls[].thought_signature",
    "messages[].tool_calls[].provider_specific_fields",
];

/// Returns a body with a field under another name; `None` if it has none, or has the other too.
fn renamed(body: &[u8], name: &'static str, other: &'static str) -> Option<Vec<u8>> {
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    match fields.stood(other) {
        Some(_) => _ = fields.remove(name),
        None => fields.rename(name, other),
    }
    fields.finish().map(String::into_bytes)
}

/// vLLM's field for a last turn that the model goes on with.
const FINAL_MESSAGE: &str = "continue_final_message";

/// Returns a body whose last turn has this field.
fn with_last_turn(body: &[u8], field: &str) -> Option<Vec<u8>> {
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    let turns: Vec<RawJson<'_>> = serde_json::from_str(fields.stood("messages")?.get()).ok()?;
    let (last, before) = turns.split_last()?;
    let mut last: Value = serde_json::from_str(last.get()).ok()?;
    last[field] = true.into();
    let mut list = String::from("[");
    for turn in before {
        list.push_str(turn.get());
        list.push(',');
    }
    fields.set("messages", format!("{list}{last}]"));
    fields.finish().map(String::into_bytes)
}

impl Protocol for ChatCompletions {
    type Decoder = Decoder;

    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/chat/completions".into()
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        const NEW: MaxTokens = MaxTokens { within: None, name: NEWER_LIMIT };
        const OLD: MaxTokens = MaxTokens { within: None, name: OLDER_LIMIT };
        match self.flavour {
            Flavour::Own => &[NEW, OLD],
            Flavour::Compatible | Flavour::Mistral => &[OLD, NEW],
        }
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new(OLDER_LIMIT),
            Optional::new(NEWER_LIMIT),
            Optional::new("temperature"),
            Optional::new("top_p"),
            Optional::new("top_k"),
            Optional::new("min_p"),
            Optional::new("frequency_penalty"),
            Optional::new("presence_penalty"),
            Optional::new("seed"),
            Optional::new("logit_bias"),
            Optional::new("top_logprobs"),
            Optional::new("logprobs"),
            Optional::new("stop"),
            Optional::new("reasoning_effort"),
            Optional::new("reasoning"),
            Optional::new("verbosity"),
            Optional::new("parallel_tool_calls"),
            Optional::new("prediction"),
            Optional::new("repetition_penalty"),
            Optional::new("top_a"),
            Optional::new("thinking"),
            Optional::new("enable_thinking"),
            Optional::new("thinking_budget"),
            Optional::new("chat_template_kwargs"),
            Optional::new("include_reasoning"),
            Optional::new(FINAL_MESSAGE),
            Optional::new("add_generation_prompt"),
            Optional::of_dialect("service_tier"),
            Optional::of_dialect("metadata"),
            Optional::of_dialect("user"),
            Optional::of_dialect("safety_identifier"),
            Optional::of_dialect("store"),
            Optional::of_dialect("prompt_cache_key"),
            Optional::of_dialect("prompt_cache_retention"),
            Optional::of_dialect("stream_options"),
            Optional::new("web_search_options"),
            // A router's.
            Optional::of_dialect("plugins"),
            Optional::of_dialect("transforms"),
            Optional::of_dialect("usage"),
            Optional::of_dialect("tools[].function.strict"),
            Optional::of_dialect("tools[].defer_loading"),
            Optional::of_dialect("tools[].eager_input_streaming"),
            Optional::of_dialect("**.cache_control.ttl"),
            Optional::placed(MARKS, &["prompt_cache_breakpoint", "**.prompt_cache_breakpoint"]),
            Optional::of_dialect("messages[].tool_calls[].index"),
            Optional::of_dialect("messages[].name"),
            Optional::of_dialect("messages[].annotations"),
            Optional::of_dialect("messages[].refusal"),
            Optional::of_stranger(error::FOREIGN, FOREIGN_PLACES),
        ];
        OPTIONAL
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        match &self.key_header {
            Some(name) => (name.clone(), key.to_owned()),
            None => (header::AUTHORIZATION, format!("Bearer {key}")),
        }
    }

    fn target(&self) -> Target {
        Target {
            short_ids: self.flavour == Flavour::Mistral,
            older_roles: self.older_roles,
            ..Target::new(Dialect::OpenAi)
        }
    }

    fn cache_marks(&self, model: &str) -> CacheMarks {
        let model = model.to_ascii_lowercase();
        let is_one = self.marked_models.iter().any(|word| model.contains(word));
        if is_one { CacheMarks::Parts } else { CacheMarks::None }
    }

    fn stand_ins(&self, model: &str) -> StandIns {
        if self.wants_thoughts || model.starts_with("deepseek-") || model.starts_with("kimi-") {
            StandIns::Thoughts
        } else if gemini_generation(model) >= 3 {
            StandIns::Signatures
        } else {
            StandIns::None
        }
    }

    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        if let Some(refusal) = error::thoughts(facts) {
            return vec![refusal];
        }
        // A limit that is too high is the caller's to lower. One of a name that is not known goes out under the other.
        let is_limit = |refusal: &Refusal| [OLDER_LIMIT, NEWER_LIMIT].contains(&&*refusal.parameter.path);
        let mut refused = refused_parameters(facts, self.optional(), has);
        refused.retain(|refusal| refusal.is_unsupported || !is_limit(refusal));
        refused
    }

    fn going_on(&self, body: &[u8]) -> Option<Vec<u8>> {
        match self.goes_on_by {
            "" => None,
            FINAL_MESSAGE => {
                let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
                fields.set(FINAL_MESSAGE, "true".to_owned());
                fields.set("add_generation_prompt", "false".to_owned());
                fields.finish().map(String::into_bytes)
            }
            field => with_last_turn(body, field),
        }
    }

    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        match path {
            error::FOREIGN => without_seals(body, Dialect::OpenAi),
            error::MISSING => with_stand_ins(body, StandIns::Thoughts),
            error::UNSIGNED => with_stand_ins(body, StandIns::Signatures),
            MARKS => marks::without(body),
            OLDER_LIMIT => renamed(body, OLDER_LIMIT, NEWER_LIMIT),
            NEWER_LIMIT => renamed(body, NEWER_LIMIT, OLDER_LIMIT),
            path => without_parameter(body, path),
        }
    }

    fn encode(
        &self,
        chat: &Chat,
        asked: ModelChoice<'_>,
        stream: bool,
        report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        encode::body(self, chat, (asked.model, asked.family), stream, asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(self.flavour, body, asked.family, report)
    }

    fn failed_usage(&self, answer: &[u8]) -> Option<Usage> {
        decode::usage(answer)
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        decode::message(body)
    }

    fn decoder(&self) -> Decoder {
        Decoder::default()
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, _: bool) -> ErrorKind {
        error::classify(status, facts)
    }
}
