//! Gemini `generateContent`. Its fields are those of its SDK's types (google-genai 3.4.0).

use serde_json::Value;

use super::{CheckResult, is_base64, schema, wrong};
/// The signature that Google documents for calls of another model.
const FOREIGN_CALL: &str = "skip_thought_signature_validator";

const FIELDS: &[&str] = &[
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "cachedContent",
    "generationConfig",
    "serviceTier",
    "store",
    "labels",
    "modelArmorConfig",
];

const SETTINGS: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "thinkingConfig",
    "responseLogprobs",
    "logprobs",
    "speechConfig",
    "mediaResolution",
    "audioTimestamp",
    "imageConfig",
    "routingConfig",
    "enableEnhancedCivicAnswers",
    "modelSelectionConfig",
    "responseFormat",
    "enableAffectiveDialog",
    "translationConfig",
    "audioTranscriptionConfig",
];

/// The contents of a part: exactly one of these.
const DATA: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

/// The fields that may accompany it.
const BESIDE: &[&str] = &["thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"];

/// The keywords of `parametersJsonSchema` and `responseJsonSchema`.
const JSON_SCHEMA: &[&str] = &[
    "$id",
    "$ref",
    "$defs",
    "$anchor",
    "$schema",
    "type",
    "anyOf",
    "oneOf",
    "title",
    "description",
    "properties",
    "required",
    "items",
    "prefixItems",
    "enum",
    "default",
    "format",
    "additionalProperties",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "propertyOrdering",
    "nullable",
    "example",
];

pub(super) fn examine(model: &str, body: &Value) -> CheckResult {
    known(body, FIELDS, "")?;
    settings(body)?;
    tools(body)?;
    let contents: Vec<&Value> = many(field(body, "contents")).collect();
    for content in &contents {
        parts(content)?;
    }
    order(&contents)?;
    signatures(model, &contents)
}

/// Returns a field, which the API takes in `camelCase` and in `snake_case`.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = value.as_object()?;
    fields.get(name).or_else(|| fields.iter().find(|(key, _)| camel(key) == name).map(|(_, value)| value))
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Iterates over a list, or over one item in place of a list.
pub(super) fn many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let one = value.filter(|value| value.is_object());
    value.and_then(Value::as_array).into_iter().flatten().chain(one)
}

fn known(value: &Value, names: &[&str], at: &str) -> CheckResult {
    let unknown = value.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&camel(name).as_str()));
    let Some((name, _)) = unknown else { return Ok(()) };
    let message = format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.");
    Err(wrong("body", message))
}

fn settings(body: &Value) -> CheckResult {
    let Some(config) = field(body, "generationConfig") else { return Ok(()) };
    known(config, SETTINGS, " at 'generation_config'")?;
    if field(config, "temperature").and_then(Value::as_f64).is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(wrong("generationConfig", "temperature must be in the range [0.0, 2.0]."));
    }
    if field(config, "topP").and_then(Value::as_f64).is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return Err(wrong("generationConfig", "top_p must be in the range [0.0, 1.0]."));
    }
    if many(field(config, "stopSequences")).count() > 5 {
        return Err(wrong("generationConfig", "The number of stop sequences must be at most 5."));
    }
    let json = field(config, "responseJsonSchema");
    if (json.is_some() || field(config, "responseSchema").is_some()) && field(config, "responseMimeType").is_none() {
        let message = "Function calling with a response schema needs the response mime type 'application/json'.";
        return Err(wrong("generationConfig", message));
    }
    if let Some(fault) = json.and_then(|json| schema::fault(json, JSON_SCHEMA, false, false)) {
        return Err(wrong("generationConfig", format!("response_json_schema: {fault}")));
    }
    let Some(thinking) = field(config, "thinkingConfig") else { return Ok(()) };
    if field(thinking, "thinkingBudget").is_some() && field(thinking, "thinkingLevel").is_some() {
        let message = "You can only set only one of thinking budget and thinking level.";
        return Err(wrong("generationConfig", message));
    }
    Ok(())
}

fn tools(body: &Value) -> CheckResult {
    let declarations = || many(field(body, "tools")).flat_map(|tool| many(field(tool, "functionDeclarations")));
    for declaration in declarations() {
        let name = declaration["name"].as_str().unwrap_or_default();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !begins || name.len() > 64 || !name.bytes().all(letter) {
            let words = "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), \
                         underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.";
            return Err(wrong("tools", format!("* GenerateContentRequest.tools[0].function_declarations: {words}")));
        }
        let json = field(declaration, "parametersJsonSchema");
        if json.is_some() && field(declaration, "parameters").is_some() {
            return Err(wrong("tools", "parameters and parameters_json_schema are mutually exclusive."));
        }
        if let Some(fault) = json.and_then(|json| schema::fault(json, JSON_SCHEMA, false, false)) {
            return Err(wrong("tools", format!("parameters_json_schema of {name}: {fault}")));
        }
    }
    if !super::all_differ(declarations().filter_map(|declaration| declaration["name"].as_str())) {
        return Err(wrong("tools", "Duplicate function declaration found."));
    }
    let calling = field(body, "toolConfig").and_then(|config| field(config, "functionCallingConfig"));
    if calling.and_then(|calling| calling["mode"].as_str()).is_some_and(|mode| mode == "ANY")
        && declarations().next().is_none()
    {
        return Err(wrong("toolConfig", "Function calling config is set without function_declarations."));
    }
    let names = calling.and_then(|calling| field(calling, "allowedFunctionNames"));
    if let Some(names) = names.and_then(Value::as_array) {
        let mode = calling.and_then(|calling| calling["mode"].as_str()).unwrap_or_default();
        if !matches!(mode, "ANY" | "VALIDATED") {
            let message = "allowed_function_names is only allowed with the function calling mode ANY.";
            return Err(wrong("toolConfig", message));
        }
        if names.iter().any(|name| !declarations().any(|declaration| declaration["name"] == *name)) {
            return Err(wrong("toolConfig", "allowed_function_names must be a subset of the declared functions."));
        }
    }
    Ok(())
}

fn parts(content: &Value) -> CheckResult {
    known(content, &["role", "parts"], " at 'contents'")?;
    if !matches!(content["role"].as_str(), None | Some("user" | "model" | "function")) {
        return Err(wrong("contents", "Please use a valid role: user, model."));
    }
    let mut any = false;
    for part in many(field(content, "parts")) {
        any = true;
        known(part, &[DATA, BESIDE].concat(), " at 'contents[0].parts[0]'")?;
        // A signature may stand alone, as recorded.
        let data = DATA.iter().filter(|name| field(part, name).is_some()).count();
        if data > 1 || (data == 0 && field(part, "thoughtSignature").is_none()) {
            let words = "oneof field 'data' must have one initialized field.";
            return Err(wrong("contents", format!("* GenerateContentRequest.contents.parts.data: {words}")));
        }
        if let Some(call) = field(part, "functionCall")
            && (call["name"].as_str().is_none_or(str::is_empty)
                || !matches!(call.get("args"), None | Some(Value::Object(_))))
        {
            return Err(wrong("contents", "function_call must have a name and args that are an object."));
        }
        if let Some(response) = field(part, "functionResponse")
            && (response["name"].as_str().is_none_or(str::is_empty) || !response["response"].is_object())
        {
            let words = "* GenerateContentRequest.contents.parts.function_response.name: Name cannot be empty.";
            return Err(wrong("contents", words));
        }
        if let Some(inline) = field(part, "inlineData") {
            let kind = field(inline, "mimeType").and_then(Value::as_str).unwrap_or_default();
            if !is_taken(kind) {
                return Err(wrong("contents", format!("Unsupported MIME type: {kind}")));
            }
        }
        if let Some(signature) = field(part, "thoughtSignature") {
            let token = signature.as_str().unwrap_or_default();
            if token != FOREIGN_CALL && !is_base64(token) {
                return Err(wrong("contents", "Corrupted thought signature."));
            }
        }
    }
    if any {
        Ok(())
    } else {
        Err(wrong("contents", "* GenerateContentRequest.contents.parts: contents.parts must not be empty."))
    }
}

/// Returns true for accepted media types ("Image understanding", "Document understanding", "Audio", "Video").
fn is_taken(kind: &str) -> bool {
    match kind.split_once('/') {
        Some(("image", kind)) => matches!(kind, "png" | "jpeg" | "jpg" | "webp" | "heic" | "heif" | "bmp"),
        Some(("application", kind)) => matches!(kind, "pdf" | "json" | "rtf" | "x-javascript" | "x-python"),
        Some((class, _)) => matches!(class, "audio" | "video" | "text"),
        None => false,
    }
}

fn count(content: &Value, name: &str) -> usize {
    many(field(content, "parts")).filter(|part| field(part, name).is_some()).count()
}

struct Counts {
    is_model: bool,
    calls: usize,
    responses: usize,
}

/// Requires calls to follow a user's turn, and as many responses to follow them, in one turn or in several.
fn order(contents: &[&Value]) -> CheckResult {
    let mut turns: Vec<Counts> = Vec::new();
    for content in contents {
        let (calls, responses) = (count(content, "functionCall"), count(content, "functionResponse"));
        match turns.last_mut() {
            Some(last) if !last.is_model && !is_model(content) => {
                last.calls += calls;
                last.responses += responses;
            }
            _ => turns.push(Counts { is_model: is_model(content), calls, responses }),
        }
    }
    for (place, turn) in turns.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| &turns[place]);
        let called = before.map_or(0, |before| before.calls);
        if turn.responses != called && (turn.responses > 0 || !turn.is_model) {
            let words = "Please ensure that the number of function response parts is equal to the number of function call \
                         parts of the function call turn.";
            return Err(wrong("contents", words));
        }
        if called > 0 && turn.responses == 0 || turn.calls > 0 && before.is_none_or(|before| before.is_model) {
            let words = "Please ensure that function call turn comes immediately after a user turn or after a function \
                         response turn.";
            return Err(wrong("contents", words));
        }
    }
    Ok(())
}

fn is_model(content: &Value) -> bool {
    content["role"] == "model"
}

/// Requires a signature on the first call of each step of the current turn, from the third generation on.
fn signatures(model: &str, contents: &[&Value]) -> CheckResult {
    let version = model.split("gemini-").nth(1).and_then(|rest| rest.chars().next()?.to_digit(10));
    if version.is_none_or(|version| version < 3) {
        return Ok(());
    }
    let asked = |content: &&Value| !is_model(content) && count(content, "functionResponse") == 0;
    let begin = contents.iter().rposition(asked).unwrap_or(0);
    for content in contents[begin..].iter().filter(|content| is_model(content)) {
        let first = many(field(content, "parts")).find(|part| field(part, "functionCall").is_some());
        if first.is_some_and(|part| field(part, "thoughtSignature").is_none()) {
            let words = "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                         work correctly, and missing thought_signature may lead to degraded model performance.";
            return Err(wrong("contents", words));
        }
    }
    Ok(())
}
