//! The definitions of tools.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Json, Tool},
    fields::is_object,
    protocol::to_value,
    wire::responses::{
        tool_names::{CallKind, ToolNames},
        tools::{is_of_item, unchanged},
    },
};

/// A tool, or a namespace with its tools.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum AnyTool<'a> {
    Neutral(Definition<'a>),
    /// The caller's own definition, as on the wire.
    Own(&'a Json),
    Namespace(Map<String, Value>),
}

#[derive(Serialize)]
pub(super) struct Definition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl<'a> AnyTool<'a> {
    /// Returns the tools of a request. `own`: it came in this dialect.
    pub(super) fn list(tools: &'a [Tool], names: &'a ToolNames, own: bool) -> Result<Vec<Self>, LlmError> {
        let mut list: Vec<Self> = Vec::with_capacity(tools.len());
        // The conversation has the definitions of the others.
        for tool in tools.iter().filter(|tool| !own || !is_of_item(tool)) {
            match namespace(tool) {
                Some(namespace) => within(namespace, tool, names, &mut list)?,
                None => list.push(Self::of(tool, names, own)?),
            }
        }
        Ok(list)
    }

    fn of(tool: &'a Tool, names: &'a ToolNames, own: bool) -> Result<Self, LlmError> {
        if let Some(fields) = unchanged(tool) {
            return Ok(Self::Own(fields));
        }
        if tool.runs_at_provider() {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, "a tool that runs at another provider"));
        }
        Ok(Self::Neutral(Definition::of(tool, names, own)))
    }
}

impl<'a> Definition<'a> {
    fn of(tool: &'a Tool, names: &'a ToolNames, own: bool) -> Self {
        Self {
            kind: "function",
            name: names.own(&tool.name).map_or(&tool.name, |own| &own.name),
            description: tool.description.as_deref(),
            parameters: &tool.parameters,
            // Without the field this API holds the model to every schema that it can.
            strict: tool.strict.or_else(|| (!own).then_some(false)),
        }
    }
}

/// Returns the namespace of a tool, as the field in its extra.
fn namespace(tool: &Tool) -> Option<Map<String, Value>> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses)?;
    Some(Json::of(extra.fields.get("namespace").filter(|namespace| is_object(namespace))?).fields())
}

/// Adds a tool to its namespace: the newest one, unless the tool is the first of its own.
fn within<'a>(
    mut namespace: Map<String, Value>,
    tool: &'a Tool,
    names: &'a ToolNames,
    list: &mut Vec<AnyTool<'a>>,
) -> Result<(), LlmError> {
    let mut definition = tool.extra.as_ref().map(|extra| extra.fields.fields()).unwrap_or_default();
    if unchanged(tool).is_none() {
        let is_custom = names.own(&tool.name).is_some_and(|own| own.kind == CallKind::Custom);
        match to_value(&Definition::of(tool, names, true))? {
            // The schema stands for free text, which has a grammar of its own.
            Value::Object(mut changed) if is_custom => definition.extend(changed.remove_entry("description")),
            Value::Object(changed) => definition.extend(changed),
            _ => {}
        }
    }
    definition.remove("namespace");
    let is_first = namespace.contains_key("type");
    let newest = list.last_mut().and_then(|last| match last {
        AnyTool::Namespace(newest) if !is_first && newest.get("name") == namespace.get("name") => {
            newest.get_mut("tools")
        }
        _ => None,
    });
    if let Some(Value::Array(tools)) = newest {
        tools.push(Value::Object(definition));
        return Ok(());
    }
    namespace.insert("type".to_owned(), "namespace".into());
    namespace.insert("tools".to_owned(), Value::Array(vec![Value::Object(definition)]));
    list.push(AnyTool::Namespace(namespace));
    Ok(())
}
