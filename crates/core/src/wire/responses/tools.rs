//! The tools of a request.
//!
//! - A `function` is a [`Tool`]; one with further fields is kept whole in its extra.
//! - A `custom` tool takes free text: it is a tool with the one argument `input`, kept whole in its extra.
//! - The tools of a `namespace` are tools of their own, with neutral names (see [`tool_names`](super::tool_names)).
//!   Each has the field `namespace` in its extra, an object with the `name`. The first one of each namespace has all
//!   the other fields of the namespace there too, so that its `type` marks the beginning of a namespace. An empty
//!   namespace is left out.
//! - A tool that runs at the provider has its type as its name, no schema, and is kept whole in its extra.
//! - An item of the conversation may define tools too (`additional_tools`, `tool_search_output`). They follow the
//!   request's own, and have the item's type as the field `item` in their extra: the item itself defines them when the
//!   request is encoded for this dialect again.

use std::{collections::HashSet, sync::LazyLock};

use serde_json::json;

use super::tool_names::{Allocator, join};
use crate::{
    Dialect, LlmError,
    chat::{Extra, Json, Tool},
    fields::{self, Object, bad, each, is_list, is_null, is_object},
    raw_json::RawJson,
    wire::{
        Meter,
        provider_data::{self, RawObject},
    },
};

/// The longest name of a namespace: each of its tools has a copy.
const LONGEST: usize = 128;

/// The schema of a function that names none.
static NO_ARGUMENTS: LazyLock<Json> = LazyLock::new(|| Json::from(json!({"type": "object", "properties": {}})));

/// The lists of tools in a request: its own, and those of the items that define some.
#[derive(Default)]
pub(super) struct Lists<'a> {
    own: Option<RawJson<'a>>,
    /// Each with the type of its item.
    of_items: Vec<(&'static str, RawJson<'a>)>,
}

impl<'a> Lists<'a> {
    /// Finds the lists of a request with these tools and this input.
    pub(super) fn find(own: Option<RawJson<'a>>, input: Option<RawJson<'a>>) -> Result<Self, LlmError> {
        let mut lists = Self { own: own.filter(|list| !is_null(list)), of_items: Vec::new() };
        if lists.own.is_some_and(|own| !is_list(own)) {
            return Err(bad("tools", "a list"));
        }
        if let Some(items) = input.filter(|input| is_list(input)) {
            each(items, |item| {
                let fields = Object::read(item, &["type", "tools"])?;
                let kind = fields.word("type");
                let kind = DEFINING.into_iter().find(|defining| kind.as_deref() == Some(defining));
                let list = fields.get("tools").filter(|list| is_list(list));
                lists.of_items.extend(kind.zip(list));
                Ok(())
            })?;
        }
        Ok(lists)
    }

    fn each(
        &self,
        mut visit: impl FnMut(Option<&'static str>, RawJson<'a>) -> Result<(), LlmError>,
    ) -> Result<(), LlmError> {
        let of_items = self.of_items.iter().map(|(kind, list)| (Some(*kind), *list));
        for (item, list) in self.own.map(|own| (None, own)).into_iter().chain(of_items) {
            each(list, |tool| visit(item, tool))?;
        }
        Ok(())
    }
}

/// The types of the items that define tools.
const DEFINING: [&str; 2] = ["additional_tools", "tool_search_output"];

/// Decodes the tools.
pub(super) fn definitions(lists: &Lists<'_>, meter: &mut Meter<'_>) -> Result<Vec<Tool>, LlmError> {
    let mut names = Allocator::default();
    // Tools outside of namespaces keep their names, wherever they stand.
    lists.each(|_, tool| {
        let fields = Object::read(tool, &["type", "name"])?;
        match fields.word("type").as_deref() {
            Some("namespace") => {}
            Some("function" | "custom") => {
                meter.tool()?;
                if let Some(name) = fields.word("name") {
                    names.reserve(name);
                }
            }
            _ => meter.tool()?,
        }
        Ok(())
    })?;
    let mut tools = Vec::new();
    // An item may repeat a tool, such as one that a search found again.
    let mut defined = HashSet::new();
    lists.each(|item, tool| {
        let fields = Object::read(tool, &["type", "name", "tools"])?;
        let mut add = |namespace: &str, name: &str, tool: &mut dyn FnMut() -> Result<Tool, LlmError>| {
            let is_new = lists.of_items.is_empty() || defined.insert((namespace.to_owned(), name.to_owned()));
            match item {
                None => tools.push(tool()?),
                Some(item) if is_new => tools.push(of_item(item, tool()?)?),
                Some(_) => {}
            }
            Ok(())
        };
        if fields.word("type").as_deref() == Some("namespace") {
            return namespace(tool, &fields, &mut names, meter, &mut add);
        }
        let name = fields.word("name").or_else(|| fields.word("type")).unwrap_or_default();
        add("", &name, &mut || definition(tool))
    })?;
    tools.shrink_to_fit();
    Ok(tools)
}

/// Takes the definition of a tool with this namespace and name, unless it is there already.
type Add<'a> = dyn FnMut(&str, &str, &mut dyn FnMut() -> Result<Tool, LlmError>) -> Result<(), LlmError> + 'a;

/// Notes the item that defines a tool.
fn of_item(item: &str, mut tool: Tool) -> Result<Tool, LlmError> {
    let mut noted = RawObject::default();
    noted.add("item", Json::from(serde_json::Value::from(item)).raw())?;
    if let Some(extra) = &tool.extra {
        fields::fields(extra.fields.raw(), |name, value| if name == "item" { Ok(()) } else { noted.add(name, value) })?;
    }
    tool.extra = noted.finish()?.map(|fields| Extra { dialect: Dialect::Responses, fields });
    Ok(tool)
}

/// Returns true if an item of the conversation defines the tool.
pub fn is_of_item(tool: &Tool) -> bool {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses);
    extra.is_some_and(|extra| extra.fields.get("item").is_some())
}

fn namespace<'a>(
    tool: RawJson<'a>,
    fields: &Object<'a>,
    names: &mut Allocator<'a>,
    meter: &mut Meter<'_>,
    add: &mut Add<'_>,
) -> Result<(), LlmError> {
    let namespace = fields.text("name")?.ok_or_else(|| bad("tools.name", "a text"))?;
    if namespace.len() > LONGEST {
        return Err(bad("tools.name", &format!("at most {LONGEST} bytes long in a namespace")));
    }
    let list = fields.get("tools").filter(|list| is_list(list)).ok_or_else(|| bad("tools.tools", "a list"))?;
    let first = provider_data::rest(tool, &["tools"])?;
    let mut further = RawObject::default();
    further.add("name", Json::from(serde_json::Value::from(namespace.as_str())).raw())?;
    let further = further.finish()?;
    let mut own = first.as_ref();
    each(list, |tool| {
        meter.tool()?;
        let fields = Object::read(tool, &["type", "name"])?;
        if fields.word("type").as_deref() == Some("namespace") {
            return Err(bad("tools.tools", "a list of tools that are no namespaces"));
        }
        let own = std::mem::replace(&mut own, further.as_ref());
        add(&namespace, &fields.word("name").unwrap_or_default(), &mut || {
            let whole = within(own, tool)?;
            let mut tool = definition(whole.raw())?;
            tool.name = names.allocate(tool.name);
            tool.extra = Some(Extra { dialect: Dialect::Responses, fields: whole });
            Ok(tool)
        })
    })?;
    Ok(())
}

/// Returns a tool with its namespace as a field.
fn within(namespace: Option<&Json>, tool: RawJson<'_>) -> Result<Json, LlmError> {
    let mut whole = RawObject::default();
    if let Some(namespace) = namespace {
        whole.add("namespace", namespace.raw())?;
    }
    let is_object =
        fields::fields(tool, |name, value| if name == "namespace" { Ok(()) } else { whole.add(name, value) })?;
    if !is_object {
        return Err(bad("tools.tools", "a list of objects"));
    }
    Ok(whole.finish()?.unwrap_or_else(Json::no_fields))
}

/// The fields of a tool that are read.
const TOOL: &[&str] = &["type", "name", "description", "parameters", "strict", "format", "namespace"];

/// Decodes a tool. If its field `namespace` is an object, it is the tool's namespace.
pub fn definition(tool: RawJson<'_>) -> Result<Tool, LlmError> {
    let fields = Object::read(tool, TOOL)?;
    let whole = || is_object(tool).then(|| Extra::new(Dialect::Responses, Json::of(tool)));
    let name = || match fields.text("name")? {
        Some(name) => named(&fields, name),
        None => Err(bad("tools.name", "a text")),
    };
    match fields.word("type").as_deref() {
        Some("function") => {
            let schema = fields.object("parameters").map(Json::of);
            let has_schema = schema.is_some();
            let mut tool_read = Tool::new(name()?, schema.unwrap_or_else(|| NO_ARGUMENTS.clone()));
            tool_read.description = fields.text("description")?;
            tool_read.strict = fields.flag("strict");
            let known = ["type", "name", "description", "parameters", "strict"];
            if !has_schema || provider_data::rest(tool, &known)?.is_some() {
                tool_read.extra = whole();
            }
            Ok(tool_read)
        }
        Some("custom") => {
            let mut tool_read = Tool::new(name()?, free_text(fields.get("format"))?);
            tool_read.description = fields.text("description")?;
            tool_read.extra = whole();
            Ok(tool_read)
        }
        Some(kind) => {
            let mut tool_read = Tool::new(named(&fields, kind.to_owned())?, Json::null());
            tool_read.extra = whole();
            Ok(tool_read)
        }
        None => Err(bad("tools.type", "a text")),
    }
}

/// Joins the name to that of the namespace, if there is one.
fn named(tool: &Object<'_>, name: String) -> Result<String, LlmError> {
    let Some(namespace) = tool.object("namespace") else { return Ok(name) };
    let namespace = Object::read(namespace, &["name"])?.text("name")?;
    Ok(namespace.map_or_else(|| name.clone(), |namespace| join(&namespace, &name)))
}

/// Returns the schema of the one argument of a tool that takes free text, with its grammar in words.
pub fn free_text(format: Option<RawJson<'_>>) -> Result<Json, LlmError> {
    let Some(format) = format.filter(|format| !is_null(format)) else { return Ok(ANY_TEXT.clone()) };
    let format = Object::read(format, &["syntax", "definition"])?;
    let Some(definition) = format.text("definition")? else { return Ok(ANY_TEXT.clone()) };
    let description = match &*format.text("syntax")?.unwrap_or_default() {
        "regex" => format!("A text that matches this regular expression:\n{definition}"),
        "lark" => format!("A text that this Lark grammar describes:\n{definition}"),
        _ => format!("A text that this grammar describes:\n{definition}"),
    };
    Ok(one_text(json!({"type": "string", "description": description})))
}

/// The schema of a tool that takes any text.
static ANY_TEXT: LazyLock<Json> = LazyLock::new(|| one_text(json!({"type": "string"})));

fn one_text(input: serde_json::Value) -> Json {
    Json::from(json!({
        "type": "object", "properties": {"input": input}, "required": ["input"], "additionalProperties": false,
    }))
}

/// Returns a tool as its caller wrote it, if it came in this dialect and no layer changed it. Its `namespace` is an
/// object, if it has one.
pub fn unchanged(tool: &Tool) -> Option<&Json> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses)?;
    let was = definition(extra.fields.raw()).ok()?;
    let has_namespace = extra.fields.get("namespace").is_some_and(is_object);
    let is_same = (has_namespace || was.name == tool.name)
        && was.description == tool.description
        && was.parameters == tool.parameters
        && was.strict == tool.strict;
    is_same.then_some(&extra.fields)
}
