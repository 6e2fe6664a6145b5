//! The types of the fields that a translation knows, for each dialect, by the vendors' references of November 2026.

use super::shape::{
    Fields,
    Shape::{self, Any, Either, Flag, From, List, Number, Object, Tagged, Text, UpTo, Whole, Word},
};
use crate::Dialect;

/// Returns the shape of a dialect's requests.
pub(super) fn of(dialect: Dialect) -> &'static Shape {
    match dialect {
        Dialect::Anthropic => &ANTHROPIC,
        Dialect::OpenAi => &OPENAI,
        Dialect::Gemini => &GEMINI,
        Dialect::Responses => &RESPONSES,
    }
}

/// A number that is not negative.
const POSITIVE: Shape = UpTo(f64::MAX);
const TEXTS: Shape = List(&Text);
const TEXT_OR_TEXTS: Shape = Either(&[Text, TEXTS]);
const OBJECT: Shape = Object(&[]);
const TEXT_OR_OBJECT: Shape = Either(&[Text, OBJECT]);

const ANTHROPIC: Shape = Object(&[
    ("model", Text),
    ("messages", List(&Object(&[("role", Text), ("content", Either(&[Text, List(&BLOCK)]))]))),
    ("system", Either(&[Text, List(&Object(&[("type", Text), ("text", Text), ("cache_control", OBJECT)]))])),
    ("tools", List(&Object(ANTHROPIC_TOOL))),
    (
        "tool_choice",
        Object(&[
            ("type", Word(&["auto", "any", "tool", "none"])),
            ("name", Text),
            ("disable_parallel_tool_use", Flag),
        ]),
    ),
    ("max_tokens", Whole),
    ("temperature", POSITIVE),
    ("top_p", UpTo(1.0)),
    ("top_k", Whole),
    ("stop_sequences", TEXT_OR_TEXTS),
    (
        "output_config",
        Object(&[("format", ANTHROPIC_FORMAT), ("effort", Word(&["low", "medium", "high", "xhigh", "max"]))]),
    ),
    ("output_format", ANTHROPIC_FORMAT),
    (
        "thinking",
        Object(&[("type", Word(&["enabled", "disabled", "adaptive"])), ("budget_tokens", Whole), ("display", Text)]),
    ),
    ("metadata", Object(&[("user_id", Text)])),
    ("service_tier", Text),
    ("speed", Text),
    ("inference_geo", Text),
    ("container", TEXT_OR_OBJECT),
    ("mcp_servers", List(&OBJECT)),
    ("cache_control", OBJECT),
    ("context_management", OBJECT),
]);

const ANTHROPIC_FORMAT: Shape = Object(&[("type", Word(&["json_schema"])), ("schema", OBJECT)]);

const ANTHROPIC_TOOL: Fields = &[
    ("type", Text),
    ("name", Text),
    ("description", Text),
    ("input_schema", OBJECT),
    ("strict", Flag),
    ("cache_control", OBJECT),
    ("defer_loading", Flag),
];

const TEXT_BLOCK: Fields = &[("text", Text), ("cache_control", OBJECT)];
const IMAGE_BLOCK: Fields = &[("source", OBJECT), ("cache_control", OBJECT)];
const DOCUMENT_BLOCK: Fields = &[("source", OBJECT), ("title", Text), ("context", Text), ("cache_control", OBJECT)];

/// A block of a message.
const BLOCK: Shape = Tagged(&[
    ("text", TEXT_BLOCK),
    ("image", IMAGE_BLOCK),
    ("document", DOCUMENT_BLOCK),
    ("tool_use", &[("id", Text), ("name", Text), ("cache_control", OBJECT)]),
    ("tool_result", &[("tool_use_id", Text), ("content", RESULT), ("is_error", Flag), ("cache_control", OBJECT)]),
    ("thinking", &[("thinking", Text), ("signature", Text)]),
    ("redacted_thinking", &[("data", Text)]),
]);

/// A tool's result. The API knows no result within a result.
const RESULT: Shape =
    Either(&[Text, List(&Tagged(&[("text", TEXT_BLOCK), ("image", IMAGE_BLOCK), ("document", DOCUMENT_BLOCK)]))]);

/// OpenAI's words for an effort, and those of compatible servers for the model's own.
const EFFORT: Shape = Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max", "default", "auto"]);

const OPENAI: Shape = Object(&[
    ("model", Text),
    ("messages", List(&Object(OPENAI_MESSAGE))),
    ("tools", List(&Object(OPENAI_TOOL))),
    (
        "tool_choice",
        Either(&[
            Text,
            Object(&[
                ("type", Text),
                ("function", Object(&[("name", Text)])),
                ("custom", Object(&[("name", Text)])),
                ("allowed_tools", Object(&[("mode", Word(&["auto", "required"])), ("tools", List(&OBJECT))])),
            ]),
        ]),
    ),
    ("parallel_tool_calls", Flag),
    ("max_completion_tokens", Whole),
    ("max_tokens", Whole),
    ("temperature", POSITIVE),
    ("top_p", UpTo(1.0)),
    ("stop", TEXT_OR_TEXTS),
    (
        "response_format",
        Object(&[
            ("type", Word(&["text", "json_object", "json_schema"])),
            ("json_schema", Object(&[("name", Text), ("description", Text), ("schema", OBJECT), ("strict", Flag)])),
        ]),
    ),
    ("reasoning_effort", EFFORT),
    (
        "reasoning",
        Object(&[("effort", EFFORT), ("max_tokens", Whole), ("enabled", Flag), ("exclude", Flag), ("summary", Text)]),
    ),
    (
        "thinking",
        Object(&[
            ("type", Word(&["enabled", "disabled", "adaptive", "auto"])),
            ("budget_tokens", Whole),
            ("display", Text),
        ]),
    ),
    ("enable_thinking", Flag),
    ("thinking_budget", From(-1)),
    ("include_reasoning", Flag),
    ("stream_options", Object(&[("include_usage", Flag)])),
    ("n", Whole),
    ("logprobs", Flag),
    ("top_logprobs", Whole),
    ("seed", Number),
    ("presence_penalty", Number),
    ("frequency_penalty", Number),
    ("top_k", From(-1)),
    ("logit_bias", OBJECT),
    ("verbosity", Text),
    ("prediction", OBJECT),
    ("modalities", TEXTS),
    ("audio", OBJECT),
    ("web_search_options", OBJECT),
    ("functions", List(&Object(FUNCTION))),
    ("function_call", Either(&[Text, Object(&[("name", Text)])])),
    ("user", Text),
    ("safety_identifier", Text),
    ("metadata", OBJECT),
    ("store", Flag),
    ("service_tier", Text),
    ("prompt_cache_key", Text),
    ("prompt_cache_retention", Text),
    ("prompt_cache_options", OBJECT),
]);

const FUNCTION: Fields = &[("name", Text), ("description", Text), ("parameters", OBJECT), ("strict", Flag)];

const OPENAI_TOOL: Fields = &[
    ("type", Text),
    ("function", Object(FUNCTION)),
    ("custom", Object(&[("name", Text), ("description", Text), ("format", OBJECT)])),
];

const OPENAI_MESSAGE: Fields = &[
    ("role", Text),
    ("content", Either(&[Text, List(&OPENAI_PART)])),
    ("name", Text),
    ("tool_call_id", Text),
    (
        "tool_calls",
        List(&Object(&[
            ("id", Text),
            ("type", Text),
            ("function", Object(&[("name", Text)])),
            ("custom", Object(&[("name", Text), ("input", Text)])),
        ])),
    ),
    ("function_call", Object(&[("name", Text)])),
    ("refusal", Text),
    ("reasoning_content", Text),
    ("reasoning", TEXT_OR_OBJECT),
    ("reasoning_details", List(&OBJECT)),
];

const OPENAI_PART: Shape = Tagged(&[
    ("text", &[("text", Text)]),
    ("refusal", &[("refusal", Text)]),
    ("image_url", &[("image_url", TEXT_OR_OBJECT)]),
    ("file", &[("file", OBJECT)]),
]);

const GEMINI: Shape = Object(&[
    ("model", Text),
    ("contents", Either(&[List(&CONTENT), CONTENT])),
    ("systemInstruction", CONTENT),
    ("tools", Either(&[List(&GEMINI_TOOL), GEMINI_TOOL])),
    (
        "toolConfig",
        Object(&[(
            "functionCallingConfig",
            Object(&[
                ("mode", Word(&["AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"])),
                ("allowedFunctionNames", TEXTS),
            ]),
        )]),
    ),
    (
        "generationConfig",
        Object(&[
            ("temperature", POSITIVE),
            ("topP", UpTo(1.0)),
            ("topK", POSITIVE),
            ("maxOutputTokens", Whole),
            ("stopSequences", TEXT_OR_TEXTS),
            ("responseMimeType", Word(&["", "text/plain", "application/json", "text/x.enum"])),
            ("responseSchema", OBJECT),
            ("responseJsonSchema", OBJECT),
            (
                "thinkingConfig",
                Object(&[("thinkingLevel", LEVEL), ("thinkingBudget", From(-1)), ("includeThoughts", Flag)]),
            ),
            ("candidateCount", Whole),
            ("seed", Number),
            ("presencePenalty", Number),
            ("frequencyPenalty", Number),
            ("responseLogprobs", Flag),
            ("logprobs", Whole),
            ("responseModalities", TEXTS),
            ("speechConfig", OBJECT),
            ("imageConfig", OBJECT),
        ]),
    ),
    ("safetySettings", List(&OBJECT)),
    ("cachedContent", Text),
    ("labels", OBJECT),
]);

/// Google's documentation has the levels in small letters too.
const LEVEL: Shape = Word(&[
    "MINIMAL",
    "LOW",
    "MEDIUM",
    "HIGH",
    "XHIGH",
    "THINKING_LEVEL_UNSPECIFIED",
    "minimal",
    "low",
    "medium",
    "high",
    "xhigh",
]);

const CONTENT: Shape = Object(&[("role", Text), ("parts", Either(&[List(&GEMINI_PART), GEMINI_PART]))]);

const GEMINI_PART: Shape = Object(&[
    ("text", Text),
    ("thought", Flag),
    ("thoughtSignature", Text),
    ("functionCall", Object(&[("id", Text), ("name", Text)])),
    ("functionResponse", Object(&[("id", Text), ("name", Text)])),
    ("inlineData", Object(&[("mimeType", Text), ("data", Text)])),
    ("fileData", Object(&[("mimeType", Text), ("fileUri", Text)])),
]);

const GEMINI_TOOL: Shape = Object(&[("functionDeclarations", Either(&[List(&DECLARATION), DECLARATION]))]);

const DECLARATION: Shape =
    Object(&[("name", Text), ("description", Text), ("parameters", OBJECT), ("parametersJsonSchema", OBJECT)]);

const RESPONSES: Shape = Object(&[
    ("model", Text),
    ("input", Either(&[Text, List(&ITEM)])),
    ("instructions", Text),
    ("tools", List(&RESPONSES_TOOL)),
    ("tool_choice", Either(&[Text, Object(&[("type", Text), ("name", Text), ("namespace", Text)])])),
    ("parallel_tool_calls", Flag),
    ("max_output_tokens", Whole),
    ("temperature", POSITIVE),
    ("top_p", UpTo(1.0)),
    (
        "text",
        Object(&[
            (
                "format",
                Object(&[
                    ("type", Word(&["text", "json_object", "json_schema"])),
                    ("name", Text),
                    ("schema", OBJECT),
                    ("strict", Flag),
                ]),
            ),
            ("verbosity", Text),
        ]),
    ),
    ("reasoning", Object(&[("effort", EFFORT), ("summary", Text), ("generate_summary", Text)])),
    ("previous_response_id", Text),
    ("conversation", TEXT_OR_OBJECT),
    ("prompt", Any),
    ("include", TEXTS),
    ("store", Flag),
    ("background", Flag),
    ("stream_options", OBJECT),
    ("metadata", OBJECT),
    ("user", Text),
    ("safety_identifier", Text),
    ("service_tier", Text),
    ("truncation", Text),
    ("top_logprobs", Whole),
    ("max_tool_calls", Whole),
    ("prompt_cache_key", Text),
    ("prompt_cache_retention", Text),
    ("prompt_cache_options", OBJECT),
]);

const RESPONSES_TOOL: Shape = Tagged(&[
    ("function", FUNCTION),
    ("custom", &[("name", Text), ("description", Text), ("format", OBJECT)]),
    ("namespace", &[("name", Text), ("tools", List(&OBJECT))]),
]);

const RESPONSES_CONTENT: Shape = Either(&[Text, List(&RESPONSES_PART)]);

const RESPONSES_PART: Shape =
    Tagged(&[("input_text", &[("text", Text)]), ("output_text", &[("text", Text)]), ("refusal", &[("refusal", Text)])]);

const ITEM: Shape = Tagged(&[
    ("message", &[("role", Text), ("content", RESPONSES_CONTENT)]),
    ("function_call", &[("call_id", Text), ("name", Text), ("namespace", Text), ("arguments", Any)]),
    ("custom_tool_call", &[("call_id", Text), ("name", Text), ("namespace", Text), ("input", Text)]),
    ("function_call_output", &[("call_id", Text), ("output", RESPONSES_CONTENT)]),
    ("custom_tool_call_output", &[("call_id", Text), ("output", RESPONSES_CONTENT)]),
    ("reasoning", &[("id", Text), ("summary", List(&OBJECT)), ("content", List(&OBJECT)), ("encrypted_content", Text)]),
]);
