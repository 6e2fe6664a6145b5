use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::{decode, encode, error, refit};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Message, Usage},
    fields::{count, is_list},
    models::gemini_generation,
    protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, Refusal, refused_parameters, without_parameter},
    raw_json::RawJson,
    refit::Fields,
    splice::MaxTokens,
    translate::{Report, StandIns, without_seals},
};

/// Google's `generateContent`.
#[derive(Clone, Debug)]
pub struct GenerateContent {
    _sealed: (),
}

impl GenerateContent {
    #[doc(hidden)]
    pub fn new() -> Self {
        Self { _sealed: () }
    }
}

impl Protocol for GenerateContent {
    type Decoder = decode::Decoder;

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let mut path = String::from(if model.contains('/') { "/" } else { "/models/" });
        for byte in model.bytes() {
            // A name must not escape its place in the path.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'@') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        format!("{}:{method}", path.replace("..", "%2E%2E")).into()
    }

    fn model_in_body(&self) -> bool {
        false
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        const fn field(within: &'static str, name: &'static str) -> MaxTokens {
            MaxTokens { within: Some(within), name }
        }
        const FIELDS: &[MaxTokens] = &[
            field("generationConfig", "maxOutputTokens"),
            field("generationConfig", "max_output_tokens"),
            field("generation_config", "max_output_tokens"),
            field("generation_config", "maxOutputTokens"),
        ];
        FIELDS
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new("generationConfig.temperature"),
            Optional::new("generationConfig.topP"),
            Optional::new("generationConfig.topK"),
            Optional::new("generationConfig.seed"),
            Optional::new("generationConfig.stopSequences"),
            Optional::called("generationConfig.presencePenalty", &["penalty"]),
            Optional::called("generationConfig.frequencyPenalty", &["penalty"]),
            Optional::new("generationConfig.responseLogprobs"),
            Optional::new("generationConfig.logprobs"),
            Optional::called(
                "generationConfig.thinkingConfig",
                &["thinking", "thinking_budget", "thinking_level", "budget"],
            ),
            Optional::new("generationConfig.mediaResolution"),
            // Vertex AI takes these and Google's API for developers does not, by the converters of google-genai 3.6.1.
            Optional::of_twin("labels"),
            Optional::of_twin("modelArmorConfig"),
            Optional::of_twin("generationConfig.routingConfig"),
            Optional::of_twin("generationConfig.modelSelectionConfig"),
            Optional::of_twin("generationConfig.modelConfig"),
            Optional::of_twin("generationConfig.audioTimestamp"),
            Optional::of_twin("generationConfig.imageConfig.personGeneration"),
            Optional::of_twin("generationConfig.imageConfig.prominentPeople"),
            Optional::of_twin("generationConfig.imageConfig.imageOutputOptions"),
            Optional::of_twin("safetySettings[].method"),
            Optional::of_twin("toolConfig.functionCallingConfig.streamFunctionCallArguments"),
            Optional::of_twin("contents[].parts[].functionCall.partialArgs"),
            Optional::of_twin("contents[].parts[].functionCall.willContinue"),
            Optional::of_twin("tools[].googleSearch.excludeDomains"),
            Optional::of_twin("tools[].googleSearch.blockingConfidence"),
            Optional::of_twin("tools[].googleMaps.groundingTypes"),
            Optional::of_twin("tools[].googleMaps.authConfig"),
            Optional::of_twin("tools[].retrieval"),
            Optional::of_twin("tools[].enterpriseWebSearch"),
            Optional::of_twin("tools[].parallelAiSearch"),
            Optional::of_twin("tools[].exaAiSearch"),
        ];
        OPTIONAL
    }

    fn stand_ins(&self, model: &str) -> StandIns {
        if gemini_generation(model) >= 3 { StandIns::Signatures } else { StandIns::None }
    }

    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        match error::sealed_reasoning(facts) {
            Some(refusal) => vec![refusal],
            None => refused_parameters(facts, self.optional(), has),
        }
    }

    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        match path {
            error::SEALED => without_seals(body, Dialect::Gemini),
            path => {
                let shorter = without_parameter(body, path).or_else(|| without_parameter(body, &snake(path)))?;
                Some(without_bare_tools(&shorter).unwrap_or(shorter))
            }
        }
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }

    fn encode(&self, chat: &Chat, asked: ModelChoice<'_>, _: bool, report: &mut Report) -> Result<Bytes, LlmError> {
        encode::body(chat, (asked.model, asked.family), asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(body, asked, report)
    }

    fn failed_usage(&self, answer: &[u8]) -> Option<Usage> {
        decode::usage(answer)
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        decode::message(body)
    }

    fn decoder(&self) -> decode::Decoder {
        decode::Decoder::default()
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, _: bool) -> ErrorKind {
        error::classify(status, facts, self.wait(facts))
    }

    fn wait(&self, facts: &ErrorBody) -> Option<Duration> {
        error::wait(facts)
    }
}

/// Returns a path in `snake_case`, which the API takes too.
fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 8);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Returns a body without the tools of which nothing is left; `None` if there are none.
fn without_bare_tools(body: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    let tools = fields.stood("tools").filter(|tools| is_list(*tools))?;
    let kept: Vec<&str> = tools.items().map(RawJson::get).filter(|tool| !is_bare(tool)).collect();
    if kept.len() == count(tools) {
        return None;
    }
    match kept.len() {
        0 => _ = fields.remove("tools"),
        _ => fields.set("tools", format!("[{}]", kept.join(","))),
    }
    fields.finish().map(String::into_bytes)
}

fn is_bare(tool: &str) -> bool {
    let inner = tool.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}
