//! A request of Responses: its demands, its tools' own names, and the fields that an answer repeats.

mod seal;

use serde_json::{Map, Value, json};

pub(super) use self::seal::Account;
use super::refusal::Refusal;
use steadfast::{
    Dialect,
    chat::{Chat, Extra, Json, Message, OutputSchema, Part, Role, Tool, ToolCall, ToolChoice, ToolResult},
};

/// The form that a request gives its answer.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    tools: Vec<OfferedTool>,
    /// The settings that an answer repeats.
    pub(super) echo: Map<String, Value>,
    /// True if the request asks for encrypted reasoning.
    pub(super) has_reasoning: bool,
    /// True if the request asks for a summary of it.
    pub(super) has_summary: bool,
    pub(super) is_stored: bool,
    pub(super) account: Account,
}

/// A tool that a request offers.
#[derive(Clone, Debug)]
pub(super) struct OfferedTool {
    /// The namespace's name and the tool's, joined.
    joined: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) is_custom: bool,
}

/// The settings that an answer repeats, with their defaults.
fn echo(body: &Value) -> Map<String, Value> {
    let given = |name: &str, default: Value| match &body[name] {
        Value::Null => default,
        value => value.clone(),
    };
    let mut format = given("text", json!({}));
    let text = json!({"format": {"type": "text"}, "verbosity": "medium"});
    for (name, default) in text.as_object().into_iter().flatten() {
        if format[name].is_null() {
            format[name] = default.clone();
        }
    }
    let mut reasoning = json!({"effort": null, "summary": null});
    for name in ["effort", "summary"] {
        reasoning[name] = body["reasoning"][name].clone();
    }
    let fields = json!({
        "background": false,
        "frequency_penalty": 0.0,
        "instructions": body["instructions"],
        "max_output_tokens": body["max_output_tokens"],
        "max_tool_calls": body["max_tool_calls"],
        "parallel_tool_calls": given("parallel_tool_calls", true.into()),
        "presence_penalty": 0.0,
        "previous_response_id": body["previous_response_id"],
        "prompt_cache_key": body["prompt_cache_key"],
        "reasoning": reasoning,
        "safety_identifier": body["safety_identifier"],
        "service_tier": "default",
        "store": given("store", true.into()),
        "temperature": given("temperature", json!(1.0)),
        "text": format,
        "tool_choice": given("tool_choice", "auto".into()),
        "tools": items(&body["tools"]).iter().map(completed).collect::<Value>(),
        "top_logprobs": given("top_logprobs", 0.into()),
        "top_p": given("top_p", json!(1.0)),
        "truncation": given("truncation", "disabled".into()),
        "user": body["user"],
        "metadata": given("metadata", json!({})),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Returns a tool as an answer repeats it: a function says whether it is strict.
fn completed(tool: &Value) -> Value {
    let mut tool = tool.clone();
    if tool["type"] == "function" && tool["strict"].is_null() {
        tool["strict"] = true.into();
    }
    tool
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Iterates over the tools of a request, in their own list and in the conversation.
fn all_tools(body: &Value) -> impl Iterator<Item = &Value> {
    let later = items(&body["input"]).iter().filter(|item| item["type"] == "additional_tools");
    items(&body["tools"]).iter().chain(later.flat_map(|item| items(&item["tools"])))
}

/// Returns the tools that the model may call, each with its schema.
fn offered(body: &Value) -> Vec<(OfferedTool, Tool)> {
    let mut offered = Vec::new();
    for tool in all_tools(body) {
        let namespace = (tool["type"] == "namespace").then(|| text(tool, "name"));
        let one = std::slice::from_ref(tool);
        for tool in if namespace.is_some() { items(&tool["tools"]) } else { one } {
            let is_custom = tool["type"] == "custom";
            if !is_custom && tool["type"] != "function" {
                continue;
            }
            let joined = joined(namespace, text(tool, "name"));
            let schema = if is_custom {
                json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]})
            } else {
                tool["parameters"].clone()
            };
            let chat_tool = Tool::new(joined.clone(), Json::from(schema));
            let name = text(tool, "name").to_owned();
            offered.push((OfferedTool { joined, namespace: namespace.map(str::to_owned), name, is_custom }, chat_tool));
        }
    }
    offered
}

fn joined(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        None => name.to_owned(),
        Some(namespace) if namespace.ends_with("__") => format!("{namespace}{name}"),
        Some(namespace) => format!("{namespace}__{name}"),
    }
}

impl Form {
    /// Parses the form of the answer, and the conversation with its demands.
    pub(super) fn parse(body: &Value, account: Account) -> (Self, Chat) {
        let (tools, chat_tools): (Vec<_>, Vec<_>) = offered(body).into_iter().unzip();
        let asks = |name: &str| items(&body["include"]).iter().any(|included| included == name);
        let form = Self {
            tools,
            echo: echo(body),
            has_reasoning: asks("reasoning.encrypted_content"),
            has_summary: body["reasoning"]["summary"].is_string(),
            is_stored: body["store"] != false,
            account,
        };
        let mut chat = Chat::new(conversation(&body["input"]));
        chat.tools = chat_tools;
        chat.max_tokens = body["max_output_tokens"].as_u64().map(|most| u32::try_from(most).unwrap_or(u32::MAX));
        chat.output = output(&body["text"]["format"]);
        let choice = &body["tool_choice"];
        chat.tool_choice = match (choice.as_str(), text(choice, "type")) {
            (Some("required"), _) => Some(ToolChoice::Required),
            (Some("none"), _) => Some(ToolChoice::None),
            (None, "allowed_tools") if choice["mode"] == "required" => Some(ToolChoice::Required),
            (None, "function" | "custom") => {
                let namespace = choice["namespace"].as_str();
                Some(ToolChoice::Named(joined(namespace, text(choice, "name"))))
            }
            _ => None,
        };
        if choice.is_object() {
            chat.extra = Some(Extra::new(Dialect::Responses, Json::from(json!({"tool_choice": choice}))));
        }
        (form, chat)
    }

    /// Returns an offered tool by its joined name.
    pub(super) fn tool(&self, joined: &str) -> Option<&OfferedTool> {
        self.tools.iter().find(|tool| tool.joined == joined)
    }

    /// Returns the free text of a custom tool's call.
    pub(crate) fn free_text(&self, joined: &str, arguments: &Value) -> Option<String> {
        let is_custom = self.tool(joined).is_some_and(|tool| tool.is_custom);
        is_custom.then(|| text(arguments, "input").to_owned())
    }
}

fn output(format: &Value) -> Option<OutputSchema> {
    let (name, schema) = match text(format, "type") {
        "json_schema" => (text(format, "name"), Some(Json::from(format["schema"].clone()))),
        "json_object" => ("json", None),
        _ => return None,
    };
    Some(OutputSchema { name: name.to_owned(), schema, strict: format["strict"] == true })
}

/// Returns the turns of a conversation, as far as a plan depends on them.
fn conversation(input: &Value) -> Vec<Message> {
    if let Some(text) = input.as_str() {
        return vec![Message::user(text)];
    }
    let turn = |item: &Value| {
        let call = |arguments: Value| {
            let name = joined(item["namespace"].as_str(), text(item, "name"));
            let call = ToolCall::new(text(item, "call_id"), name, arguments.as_str().unwrap_or_default());
            Message::new(Role::Assistant, vec![Part::ToolCall(call)])
        };
        match text(item, "type") {
            "" | "message" => {
                let said: String = match &item["content"] {
                    Value::String(said) => said.clone(),
                    parts => items(parts).iter().map(|part| text(part, "text")).collect(),
                };
                let role = match text(item, "role") {
                    "assistant" => Role::Assistant,
                    "user" => Role::User,
                    _ => Role::System,
                };
                Some(Message::new(role, vec![Part::Text(said)]))
            }
            "function_call" => Some(call(item["arguments"].clone())),
            "custom_tool_call" => Some(call(json!({"input": item["input"]}).to_string().into())),
            "function_call_output" | "custom_tool_call_output" => {
                let result = ToolResult::new(text(item, "call_id"), item["output"].to_string());
                Some(Message::new(Role::User, vec![Part::ToolResult(result)]))
            }
            _ => None,
        }
    };
    items(input).iter().filter_map(turn).collect()
}

/// Checks what a request refers to: reasoning, items and answers are this account's own.
pub(super) fn check_references(body: &Value, account: Account) -> Result<(), Refusal> {
    let previous = text(body, "previous_response_id");
    if !previous.is_empty() && !account.made(previous) {
        let message = format!("Previous response with id '{previous}' not found.");
        return Err(Refusal::invalid("previous_response_id", message));
    }
    let conversation = body["conversation"].as_str().or_else(|| body["conversation"]["id"].as_str());
    if let Some(id) = conversation {
        return Err(Refusal::invalid("conversation", format!("Conversation with id '{id}' not found.")));
    }
    for item in items(&body["input"]) {
        let id = text(item, "id");
        if item["type"] == "item_reference" && !account.made(id) {
            return Err(Refusal::invalid("input", format!("Item with id '{id}' not found.")));
        }
        let content = text(item, "encrypted_content");
        if item["type"] == "reasoning" && !content.is_empty() && !account.sealed(content) {
            let shown: String = content.chars().take(4).collect();
            let message = format!("The encrypted content {shown}... could not be verified.");
            return Err(Refusal::invalid("body", message));
        }
    }
    Ok(())
}
