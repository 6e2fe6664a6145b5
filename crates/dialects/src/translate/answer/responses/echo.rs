//! The parts of a request that its answer repeats.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::super::json_of;
use crate::{
    Dialect,
    chat::{Chat, Thinking, Tool, ToolChoice},
    wire::responses::tool_names::{CallKind, OwnName, ToolNames},
};

/// The parts of a request that its answer repeats in OpenAI's dialects: names and forms of tools, and in Responses the
/// settings.
///
/// A custom tool is called with free text there, and a tool within a namespace of Responses by its own name. The other
/// dialects have neither, so that a [`Chat`] names them in another way. Cloning copies nothing.
///
/// ```
/// use steadfast::{Dialect, chat::{Chat, Message}, translate::{RequestEcho, encode_answer}};
///
/// let echo = RequestEcho::of(&Chat::new([Message::user("hello")]).temperature(0.5));
/// let body = encode_answer(&Message::assistant("hello"), Dialect::Responses, &echo).body;
/// assert!(std::str::from_utf8(&body).unwrap().contains(r#""temperature":0.5"#));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestEcho {
    names: Option<Arc<ToolNames>>,
    /// The settings as an object's fields, without braces.
    fields: Option<Arc<str>>,
}

impl RequestEcho {
    /// Reads the parts of a request.
    pub fn of(chat: &Chat) -> Self {
        Self { names: Some(ToolNames::of(chat).into()), fields: Some(fields(chat).into()) }
    }

    /// Returns the fields of the response object that repeat the request's, without braces.
    pub(super) fn fields(&self) -> &str {
        static DEFAULT: LazyLock<String> = LazyLock::new(|| fields(&Chat::default()));
        self.fields.as_deref().unwrap_or(&DEFAULT)
    }

    /// Returns the caller's own name of a tool, if it differs from the neutral one or the tool takes free text.
    pub(super) fn own(&self, name: &str) -> Option<&OwnName> {
        self.names.as_ref()?.own(name)
    }

    /// Returns true if the tool takes free text.
    pub(in crate::translate::answer) fn is_custom(&self, name: &str) -> bool {
        self.own(name).is_some_and(|own| own.kind == CallKind::Custom)
    }
}

/// Returns the settings of a response object. Those that the request does not have are at OpenAI's defaults.
fn fields(chat: &Chat) -> String {
    let was = chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses);
    let mut was = was.map(|extra| extra.fields.fields()).unwrap_or_default();
    let mut settings = Map::new();
    for (name, value) in defaults(chat) {
        let value = match (value, was.remove(name)) {
            (value, None | Some(Value::Null)) => value,
            (Value::Object(value), Some(Value::Object(was))) => Value::Object(merged(value, was)),
            (_, Some(was)) => was,
        };
        settings.insert(name.to_owned(), value);
    }
    settings.insert("tools".to_owned(), tools(&chat.tools).into());
    let object = json_of(&settings);
    object[1..object.len() - 1].to_owned()
}

/// Adds the fields that the request spelled out. Its own `null` is no field.
fn merged(mut value: Map<String, Value>, was: Map<String, Value>) -> Map<String, Value> {
    value.extend(was.into_iter().filter(|(_, value)| !value.is_null()));
    value
}

/// Returns the settings by the neutral form.
fn defaults(chat: &Chat) -> [(&'static str, Value); 22] {
    let effort = match chat.thinking {
        Some(Thinking::Off) => "none".into(),
        Some(Thinking::Effort(effort)) => effort.name().into(),
        _ => Value::Null,
    };
    let format = match &chat.output {
        None => json!({"type": "text"}),
        Some(output) => match &output.schema {
            None => json!({"type": "json_object"}),
            Some(schema) => json!({
                "type": "json_schema", "name": output.name, "description": null, "strict": output.strict,
                "schema": schema,
            }),
        },
    };
    let choice = match &chat.tool_choice {
        None | Some(ToolChoice::Auto) => "auto".into(),
        Some(ToolChoice::Required) => "required".into(),
        Some(ToolChoice::None) => "none".into(),
        Some(ToolChoice::Named(name)) => json!({"type": "function", "name": name}),
    };
    [
        ("background", false.into()),
        ("frequency_penalty", 0.into()),
        ("instructions", chat.system.as_deref().into()),
        ("max_output_tokens", chat.max_tokens.into()),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", chat.parallel_tool_calls.unwrap_or(true).into()),
        ("presence_penalty", 0.into()),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("prompt_cache_retention", Value::Null),
        ("reasoning", json!({"effort": effort, "summary": null})),
        ("safety_identifier", Value::Null),
        ("service_tier", "default".into()),
        ("store", true.into()),
        ("temperature", chat.temperature.unwrap_or(1.0).into()),
        ("text", json!({"format": format})),
        ("tool_choice", choice),
        ("top_logprobs", 0.into()),
        ("top_p", chat.top_p.unwrap_or(1.0).into()),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ]
}

/// Returns the tools as the request has them. The functions of a namespace are within it.
fn tools(tools: &[Tool]) -> Vec<Value> {
    let mut list: Vec<Value> = Vec::new();
    for tool in tools {
        let mut own = own_fields(tool);
        let Some(Value::Object(mut namespace)) = own.remove("namespace") else {
            list.push(own.into());
            continue;
        };
        let name = namespace.get("name").cloned().unwrap_or_default();
        let is_same = |tool: &&mut Value| tool["type"] == "namespace" && tool["name"] == name;
        if let Some(Value::Array(functions)) = list.last_mut().filter(is_same).and_then(|tool| tool.get_mut("tools")) {
            functions.push(own.into());
            continue;
        }
        namespace.insert("type".into(), "namespace".into());
        namespace.insert("tools".into(), vec![Value::Object(own)].into());
        list.push(namespace.into());
    }
    list
}

/// Returns a tool's definition: the fields that only the dialect has, and the neutral ones.
fn own_fields(tool: &Tool) -> Map<String, Value> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses);
    let mut fields = extra.map(|extra| extra.fields.fields()).unwrap_or_default();
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("function");
    if tool.runs_at_provider() || kind != "function" {
        return fields;
    }
    let neutral = json!({
        "type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters,
        "strict": tool.strict,
    });
    if let Value::Object(neutral) = neutral {
        for (name, value) in neutral {
            fields.entry(name).or_insert(value);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Effort, Extra, Message, OutputSchema};

    fn settings(chat: &Chat) -> Value {
        serde_json::from_str(&format!("{{{}}}", RequestEcho::of(chat).fields())).unwrap()
    }

    fn with_extra(mut tool: Tool, fields: Value) -> Tool {
        tool.extra = Some(Extra::new(Dialect::Responses, fields));
        tool
    }

    #[test]
    fn a_request_without_settings_has_openais_defaults() {
        // The values in recorded answers to requests that set nothing.
        let settings = settings(&Chat::default());
        for (name, value) in [
            ("instructions", Value::Null),
            ("metadata", json!({})),
            ("parallel_tool_calls", json!(true)),
            ("tool_choice", json!("auto")),
            ("tools", json!([])),
            ("truncation", json!("disabled")),
            ("top_p", json!(1.0)),
            ("temperature", json!(1.0)),
            ("text", json!({"format": {"type": "text"}})),
            ("reasoning", json!({"effort": null, "summary": null})),
        ] {
            assert_eq!(settings[name], value, "{name}");
        }
        assert_eq!(RequestEcho::default().fields(), RequestEcho::of(&Chat::default()).fields());
    }

    #[test]
    fn the_callers_own_spelling_is_repeated_beside_the_neutral_settings() {
        let mut chat = Chat::new([Message::user("?")]).system("Be brief.").temperature(0.5).max_tokens(7);
        chat.thinking = Some(Thinking::Effort(Effort::High));
        chat.output = Some(OutputSchema { name: "x".into(), schema: Some(json!({"a": 1}).into()), strict: true });
        let fields = json!({
            "text": {"verbosity": "low"}, "reasoning": {"summary": "auto", "effort": null}, "metadata": {"k": "v"},
            "user": "u", "tool_choice": {"type": "custom", "name": "patch"}, "input": "?", "truncation": null,
        });
        chat.extra = Some(Extra::new(Dialect::Responses, fields));
        let settings = settings(&chat);
        assert_eq!(settings["instructions"], "Be brief.");
        assert_eq!(settings["reasoning"], json!({"effort": "high", "summary": "auto"}));
        assert_eq!(settings["text"]["verbosity"], "low");
        assert_eq!(settings["text"]["format"]["schema"], json!({"a": 1}));
        assert_eq!(settings["tool_choice"], json!({"type": "custom", "name": "patch"}));
        assert_eq!((&settings["metadata"]["k"], &settings["truncation"]), (&json!("v"), &json!("disabled")));
        assert_eq!((&settings["max_output_tokens"], &settings["temperature"]), (&json!(7), &json!(0.5)));
        assert_eq!(settings.get("input"), None);
    }

    #[test]
    fn tools_are_repeated_in_their_own_forms() {
        let schema = json!({"type": "object"});
        let within = |name: &str| {
            let fields = json!({"namespace": {"name": "mcp", "description": "d"}, "type": "function", "name": name});
            with_extra(Tool::new(format!("mcp__{name}"), schema.clone()), fields)
        };
        let custom = json!({"type": "custom", "name": "patch", "format": {"type": "text"}});
        let search = json!({"type": "web_search"});
        let chat = Chat::default()
            .tool(Tool::new("f", schema.clone()).description("x"))
            .tool(within("a"))
            .tool(within("b"))
            .tool(with_extra(Tool::new("patch", schema.clone()), custom.clone()))
            .tool(with_extra(Tool::new("web_search", Value::Null), search.clone()));
        let function = |name: &str, description: Value| json!({"type": "function", "name": name, "description": description, "parameters": schema, "strict": null});
        let namespace = json!({"type": "namespace", "name": "mcp", "description": "d", "tools": [function("a", Value::Null), function("b", Value::Null)]});
        let tools = &settings(&chat)["tools"];
        assert_eq!(*tools, json!([function("f", "x".into()), namespace, custom, search]));
    }
}
