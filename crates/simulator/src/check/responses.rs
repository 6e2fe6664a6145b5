//! OpenAI Responses. Its fields, items and tools are those of its SDK's types (openai 3.54.0) and of recorded requests;
//! the texts were recorded, or reported in its users' issues (openai/codex 8145, vercel/ai 7883 and 13307,
//! nodetool-ai/nodetool 4252, MacPaw/OpenAI 432).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CheckResult, Refusal, is_plain, list, openai, text, unknown};

const FIELDS: &[&str] = &[
    "model",
    "input",
    "access_programs",
    "background",
    "background_options",
    // Not in the SDK: OpenAI's own Codex sends it.
    "client_metadata",
    "context_management",
    "conversation",
    "image",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// The fields of Chat Completions that are elsewhere in this protocol.
const MOVED: &[(&str, &str)] = &[
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
];

const ITEMS: &[&str] = &[
    "message",
    "additional_tools",
    "agent_message",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "function_call",
    "function_call_output",
    "image_generation_call",
    "item_reference",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "reasoning",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];

const TOOLS: &[&str] = &[
    "function",
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "custom",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "namespace",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
];

/// The calls, with the item that answers each kind.
const PAIRS: &[(&str, &str)] =
    &[("function_call", "function_call_output"), ("custom_tool_call", "custom_tool_call_output")];

/// The fields of items that translations write.
const ITEM_FIELDS: &[(&str, &[&str])] = &[
    ("message", &["type", "id", "role", "content", "status", "phase"]),
    ("function_call", &["type", "id", "call_id", "name", "namespace", "arguments", "status", "caller"]),
    ("function_call_output", &["type", "id", "call_id", "output", "status", "caller"]),
    ("custom_tool_call", &["type", "id", "call_id", "name", "namespace", "input", "status", "caller"]),
    ("custom_tool_call_output", &["type", "id", "call_id", "output", "status", "caller"]),
    ("reasoning", &["type", "id", "summary", "content", "encrypted_content", "status"]),
];

/// The beginning of each kind's ids.
const PREFIXES: &[(&str, &str)] =
    &[("message", "msg"), ("function_call", "fc"), ("custom_tool_call", "ctc"), ("reasoning", "rs")];

fn wrong(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::invalid(field.into(), message)
}

fn missing(path: &str) -> Refusal {
    wrong(path, format!("Missing required parameter: '{path}'."))
}

/// Refuses a value that is none of those known.
fn invalid_value(path: &str, value: &str, known: &[&str]) -> Refusal {
    let known: Vec<String> = known.iter().map(|known| format!("'{known}'")).collect();
    let known = match known.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, [other])) => format!("{other} and {last}"),
        Some((last, others)) => format!("{}, and {last}", others.join(", ")),
        None => String::new(),
    };
    wrong(path, format!("Invalid value: '{value}'. Supported values are: {known}."))
}

/// Names the type of a value as OpenAI does.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn invalid_type(path: &str, expected: &str, value: &Value) -> Refusal {
    let got = kind_of(value);
    wrong(path, format!("Invalid type for '{path}': expected {expected}, but got {got} instead."))
}

pub(super) fn examine(body: &Value) -> CheckResult {
    for (name, place) in MOVED {
        if body.get(name).is_some() {
            let words = format!("In the Responses API, this parameter has moved to '{place}'.");
            return Err(wrong(*name, format!("Unsupported parameter: '{name}'. {words}")));
        }
    }
    if let Some(name) = unknown(body, FIELDS) {
        return Err(wrong(name, format!("Unknown parameter: '{name}'.")));
    }
    settings(body)?;
    let tools = tools("tools", list(body, "tools"))?;
    choice(body, &tools)?;
    match &body["input"] {
        Value::String(_) => Ok(()),
        Value::Array(items) => conversation(items, continues(body)),
        // A stored prompt or conversation stands for it.
        Value::Null if ["prompt", "conversation", "previous_response_id"].iter().any(|name| !body[name].is_null()) => {
            Ok(())
        }
        Value::Null => Err(missing("input")),
        other => Err(invalid_type("input", "one of a string or array of input items", other)),
    }
}

/// Returns true if the request refers to items that it does not contain.
fn continues(body: &Value) -> bool {
    !body["previous_response_id"].is_null() || list(body, "input").iter().any(|item| item["type"] == "item_reference")
}

fn settings(body: &Value) -> CheckResult {
    let options = &body["stream_options"];
    if let Some(name) = unknown(options, &["include_obfuscation"]) {
        let path = format!("stream_options.{name}");
        return Err(wrong(path.clone(), format!("Unknown parameter: '{path}'.")));
    }
    if options.is_object() && body["stream"] != true {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(wrong("stream_options", message));
    }
    for (name, is_right, expected) in [
        ("instructions", Value::is_string as fn(&Value) -> bool, "a string"),
        ("stream", Value::is_boolean, "a boolean"),
        ("store", Value::is_boolean, "a boolean"),
        ("tools", Value::is_array, "an array of objects"),
        ("include", Value::is_array, "an array of strings"),
        ("reasoning", Value::is_object, "an object"),
        ("text", Value::is_object, "an object"),
        ("previous_response_id", Value::is_string, "a string"),
        ("max_output_tokens", Value::is_u64, "an integer"),
    ] {
        let value = &body[name];
        if !value.is_null() && !is_right(value) {
            return Err(invalid_type(name, expected, value));
        }
    }
    if let Some(most) = body["max_output_tokens"].as_u64().filter(|most| *most < 16) {
        let words = format!("Expected a value >= 16, but got {most} instead.");
        let message = format!("Invalid 'max_output_tokens': integer below minimum value. {words}");
        return Err(wrong("max_output_tokens", message));
    }
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        let Some(value) = body[name].as_f64().filter(|value| !(0.0..=most).contains(value)) else { continue };
        let (word, bound) = if value < 0.0 { ("below minimum", ">= 0") } else { ("above maximum", "<= ") };
        let bound = if value < 0.0 { bound.to_owned() } else { format!("{bound}{most}") };
        let message =
            format!("Invalid '{name}': decimal {word} value. Expected a value {bound}, but got {value} instead.");
        return Err(wrong(name, message));
    }
    if !body["previous_response_id"].is_null() && !body["conversation"].is_null() {
        let message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.";
        return Err(wrong("previous_response_id", message));
    }
    if body["prompt_cache_key"].as_str().is_some_and(|key| key.len() > 64) {
        let words = "string too long. Expected a string with maximum length 64";
        return Err(wrong("prompt_cache_key", format!("Invalid 'prompt_cache_key': {words}.")));
    }
    format(body)
}

fn format(body: &Value) -> CheckResult {
    let format = &body["text"]["format"];
    match text(format, "type") {
        "" | "text" => Ok(()),
        "json_object" => {
            if body["input"].to_string().to_ascii_lowercase().contains("json") {
                return Ok(());
            }
            let words = "must contain the word 'json' in some form to use 'text.format' of type 'json_object'.";
            Err(wrong("input", format!("Response input messages {words}")))
        }
        "json_schema" => {
            let name = text(format, "name");
            if name.is_empty() {
                return Err(missing("text.format.name"));
            }
            if !is_plain(name, 64) {
                return Err(pattern("text.format.name"));
            }
            if !format["schema"].is_object() {
                return Err(missing("text.format.schema"));
            }
            let fault = openai::schema_fault(&format["schema"]);
            let strict = || (format["strict"] == true).then(|| openai::closed_fault(&format["schema"])).flatten();
            match fault.or_else(strict) {
                None => Ok(()),
                Some(fault) => {
                    let message = format!("Invalid schema for response_format '{name}': In context=(), {fault}.");
                    Err(wrong("text.format.schema", message))
                }
            }
        }
        other => Err(invalid_value("text.format.type", other, &["json_object", "json_schema", "text"])),
    }
}

fn pattern(path: &str) -> Refusal {
    let words = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.";
    wrong(path, format!("Invalid '{path}': {words}"))
}

/// Checks a list of tools, and returns their names.
fn tools<'a>(path: &str, tools: &'a [Value]) -> Result<Vec<&'a str>, Refusal> {
    let mut names = Vec::new();
    for (place, tool) in tools.iter().enumerate() {
        let path = format!("{path}[{place}]");
        let kind = text(tool, "type");
        if kind.is_empty() {
            return Err(missing(&format!("{path}.type")));
        }
        if !TOOLS.contains(&kind) {
            return Err(invalid_value(&format!("{path}.type"), kind, TOOLS));
        }
        if !["function", "custom", "namespace"].contains(&kind) {
            continue;
        }
        let name = text(tool, "name");
        if name.is_empty() {
            return Err(missing(&format!("{path}.name")));
        }
        if !is_plain(name, 128) {
            return Err(pattern(&format!("{path}.name")));
        }
        names.push(name);
        match kind {
            "function" => function(&path, name, tool)?,
            "namespace" => {
                if !tool["description"].is_string() {
                    return Err(missing(&format!("{path}.description")));
                }
                names.extend(self::tools(&format!("{path}.tools"), list(tool, "tools"))?);
            }
            _ => {}
        }
    }
    Ok(names)
}

fn function(path: &str, name: &str, tool: &Value) -> CheckResult {
    let Some(parameters) = tool.get("parameters").filter(|schema| !schema.is_null()) else { return Ok(()) };
    let fault = openai::parameters_fault(parameters);
    let strict = || (tool["strict"] == true).then(|| openai::closed_fault(parameters)).flatten();
    match fault.or_else(strict) {
        None => Ok(()),
        Some(fault) => {
            let message = format!("Invalid schema for function '{name}': In context=(), {fault}.");
            Err(wrong(format!("{path}.parameters"), message))
        }
    }
}

fn choice(body: &Value, tools: &[&str]) -> CheckResult {
    let choice = &body["tool_choice"];
    // The conversation may offer further ones.
    let is_closed = !list(body, "input").iter().any(|item| item["type"] == "additional_tools");
    if choice == "required" && list(body, "tools").is_empty() && is_closed {
        let message = "Tool choice 'required' must be specified with 'tools' parameter.";
        return Err(wrong("tool_choice", message));
    }
    if let Some(word) = choice.as_str().filter(|word| !["none", "auto", "required"].contains(word)) {
        return Err(invalid_value("tool_choice", word, &["none", "auto", "required"]));
    }
    let name = text(choice, "name");
    let names_one = ["function", "custom"].contains(&text(choice, "type"));
    if names_one && is_closed && !tools.contains(&name) {
        let message = format!("Tool choice '{}' not found in 'tools' parameter.", text(choice, "type"));
        return Err(wrong("tool_choice", message));
    }
    Ok(())
}

/// Checks the items of a conversation. One that continues an earlier answer may answer its calls.
fn conversation(items: &[Value], continues: bool) -> CheckResult {
    let mut ids = BTreeSet::new();
    // The kind and the id of each call without an output.
    let mut open: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (place, item) in items.iter().enumerate() {
        let path = format!("input[{place}]");
        if !item.is_object() {
            return Err(invalid_type(&path, "an input item", item));
        }
        let kind = match text(item, "type") {
            "" if item.get("role").is_some() => "message",
            "" => return Err(missing(&format!("{path}.type"))),
            kind => kind,
        };
        if !ITEMS.contains(&kind) {
            return Err(invalid_value(&path, kind, ITEMS));
        }
        if let Some((_, fields)) = ITEM_FIELDS.iter().find(|(of, _)| *of == kind)
            && let Some(field) = unknown(item, fields)
        {
            let path = format!("{path}.{field}");
            return Err(wrong(path.clone(), format!("Unknown parameter: '{path}'.")));
        }
        id(&path, kind, item, &mut ids)?;
        match kind {
            "message" => message(&path, item)?,
            "additional_tools" => drop(tools(&format!("{path}.tools"), list(item, "tools"))?),
            "reasoning" if !item["summary"].is_array() => return Err(missing(&format!("{path}.summary"))),
            _ => {}
        }
        if let Some((call, answer)) = PAIRS.iter().find(|(call, answer)| *call == kind || *answer == kind) {
            let call_id = call_id(&path, item)?;
            if *call == kind {
                self::call(&path, kind, item)?;
                if !known.insert(call_id) {
                    let words = "Remove duplicate items from your input and try again.";
                    return Err(wrong("input", format!("Duplicate item found with call_id {call_id}. {words}")));
                }
                open.insert((answer, call_id));
            } else if !open.remove(&(*answer, call_id)) && !continues && !known.contains(call_id) {
                let what = call.replace('_', " ");
                return Err(wrong("input", format!("No tool call found for {what} output with call_id {call_id}.")));
            } else if !["string", "array"].contains(&kind_of(&item["output"]).rsplit(' ').next().unwrap_or_default()) {
                return Err(invalid_type(
                    &format!("{path}.output"),
                    "one of a string or array of objects",
                    &item["output"],
                ));
            }
        }
    }
    match open.first() {
        None => Ok(()),
        Some((answer, call_id)) => {
            let what = answer.trim_end_matches("_output").replace('_', " ");
            Err(wrong("input", format!("No tool output found for {what} {call_id}.")))
        }
    }
}

/// Checks an item's own id: its beginning, its length, and that no other item has it.
fn id<'a>(path: &str, kind: &str, item: &'a Value, ids: &mut BTreeSet<&'a str>) -> CheckResult {
    let Some(id) = item["id"].as_str() else { return Ok(()) };
    let path = format!("{path}.id");
    if let Some((_, prefix)) = PREFIXES.iter().find(|(of, _)| *of == kind)
        && !id.starts_with(prefix)
    {
        return Err(wrong(
            path.clone(),
            format!("Invalid '{path}': '{id}'. Expected an ID that begins with '{prefix}'."),
        ));
    }
    too_long(&path, id)?;
    if !ids.insert(id) {
        let words = "Remove duplicate items from your input and try again.";
        return Err(wrong("input", format!("Duplicate item found with id {id}. {words}")));
    }
    Ok(())
}

fn too_long(path: &str, id: &str) -> CheckResult {
    if id.len() <= 64 {
        return Ok(());
    }
    let words = "string too long. Expected a string with maximum length 64, but got a string with length";
    Err(wrong(path, format!("Invalid '{path}': {words} {} instead.", id.len())))
}

fn call_id<'a>(path: &str, item: &'a Value) -> Result<&'a str, Refusal> {
    let path = format!("{path}.call_id");
    match &item["call_id"] {
        Value::Null => Err(missing(&path)),
        Value::String(id) if id.is_empty() => {
            let words = "empty string. Expected a string with minimum length 1, but got an empty string instead.";
            Err(wrong(path.clone(), format!("Invalid '{path}': {words}")))
        }
        Value::String(id) => too_long(&path, id).map(|()| id.as_str()),
        other => Err(invalid_type(&path, "a string", other)),
    }
}

fn call(path: &str, kind: &str, item: &Value) -> CheckResult {
    let name = text(item, "name");
    if name.is_empty() {
        return Err(missing(&format!("{path}.name")));
    }
    if !is_plain(name, 128) {
        return Err(pattern(&format!("{path}.name")));
    }
    let field = if kind == "function_call" { "arguments" } else { "input" };
    match &item[field] {
        Value::String(_) => Ok(()),
        Value::Null => Err(missing(&format!("{path}.{field}"))),
        other => Err(invalid_type(&format!("{path}.{field}"), "a string", other)),
    }
}

fn message(path: &str, item: &Value) -> CheckResult {
    let role = text(item, "role");
    const ROLES: &[&str] = &["assistant", "system", "developer", "user"];
    if !ROLES.contains(&role) {
        return Err(invalid_value(path, role, ROLES));
    }
    let parts = match &item["content"] {
        Value::String(_) => return Ok(()),
        Value::Array(parts) => parts,
        Value::Null => return Err(missing(&format!("{path}.content"))),
        other => {
            let path = format!("{path}.content");
            return Err(invalid_type(&path, "one of an array of objects or string", other));
        }
    };
    let known: &[&str] = match role {
        "assistant" => &["output_text", "refusal"],
        _ => &["input_text", "input_image", "input_file", "input_audio"],
    };
    for (place, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{place}]");
        let kind = text(part, "type");
        if !known.contains(&kind) {
            return Err(invalid_value(&path, kind, known));
        }
        let field = match kind {
            "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            _ => "",
        };
        if !field.is_empty() && !part[field].is_string() {
            return Err(missing(&format!("{path}.{field}")));
        }
        media(&path, part)?;
    }
    Ok(())
}

/// Checks the location and type of a picture or a document.
fn media(path: &str, part: &Value) -> CheckResult {
    let url = &part["image_url"];
    if part["type"] == "input_image" {
        let Some(url) = url.as_str() else {
            let missing = || missing(&format!("{path}.image_url"));
            return if part["file_id"].is_string() { Ok(()) } else { Err(missing()) };
        };
        openai::picture(url).map_err(|words| wrong(format!("{path}.image_url"), words))?;
    }
    let data = text(part, "file_data");
    if part["type"] == "input_file" && !data.is_empty() && !data.starts_with("data:application/pdf;base64,") {
        let words = "The file type you uploaded is not supported. Please try again with a pdf";
        return Err(wrong("input", words));
    }
    Ok(())
}
