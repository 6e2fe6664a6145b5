//! The names of a request's tools: one neutral name for each tool, within a namespace or not.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use crate::{
    Dialect, LlmError,
    chat::{Chat, Tool},
    fields::{Object, is_object},
};

/// The text between a namespace and a name.
const SEPARATOR: &str = "__";

/// Joins a namespace and the name of one of its tools. A tool that is its own namespace keeps its name.
pub fn join(namespace: &str, name: &str) -> String {
    if namespace == name || namespace.is_empty() {
        return name.to_owned();
    }
    let between = if namespace.ends_with(SEPARATOR) { "" } else { SEPARATOR };
    format!("{namespace}{between}{name}")
}

/// Chooses neutral names, each once.
#[derive(Default)]
pub(super) struct Allocator<'a> {
    taken: HashSet<Cow<'a, str>>,
    /// The next number to try behind a name.
    pub(super) next: HashMap<String, u32>,
}

impl<'a> Allocator<'a> {
    /// Keeps a name for the tool that has it outside of any namespace.
    pub(super) fn reserve(&mut self, name: Cow<'a, str>) {
        self.taken.insert(name);
    }

    /// Returns the name, with a number where it is taken.
    pub(super) fn allocate(&mut self, name: String) -> String {
        if self.taken.insert(Cow::Owned(name.clone())) {
            return name;
        }
        let next = self.next.entry(name.clone()).or_insert(2);
        loop {
            let numbered = format!("{name}_{next}");
            *next += 1;
            if self.taken.insert(Cow::Owned(numbered.clone())) {
                return numbered;
            }
        }
    }
}

/// The kind of a tool call's item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallKind {
    /// Arguments are a JSON object.
    #[default]
    Function,
    /// The input is free text.
    Custom,
}

/// A tool as the caller of an OpenAI dialect names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnName {
    /// The namespace, if it has one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The kind of its calls.
    pub kind: CallKind,
}

/// The tools of a request whose calls need more than the neutral name.
#[derive(Clone, Debug, Default)]
pub struct ToolNames {
    own: HashMap<String, OwnName>,
    /// The neutral names by namespace and name.
    neutral: HashMap<String, HashMap<String, String>>,
}

impl ToolNames {
    /// Reads the tools of a decoded request.
    pub fn of(chat: &Chat) -> Self {
        let mut names = Self::default();
        for tool in &chat.tools {
            // A tool that cannot be read is called by its neutral name.
            let Ok(Some(own)) = own_name(tool) else { continue };
            if let Some(namespace) = &own.namespace {
                let within = names.neutral.entry(namespace.clone()).or_default();
                within.entry(own.name.clone()).or_insert_with(|| tool.name.clone());
            }
            names.own.entry(tool.name.clone()).or_insert(own);
        }
        names
    }

    /// Returns the caller's own name of a tool, if it differs from the neutral one or the tool takes free text.
    pub fn own(&self, neutral: &str) -> Option<&OwnName> {
        self.own.get(neutral)
    }

    /// Returns the neutral name of a tool in a namespace.
    pub fn neutral(&self, namespace: &str, name: &str) -> String {
        let known = self.neutral.get(namespace).and_then(|names| names.get(name));
        known.cloned().unwrap_or_else(|| join(namespace, name))
    }
}

fn own_name(tool: &Tool) -> Result<Option<OwnName>, LlmError> {
    let extra = match &tool.extra {
        Some(extra) if extra.dialect == Dialect::Responses => extra,
        // Chat Completions has tools that take free text too.
        Some(extra) if extra.dialect == Dialect::OpenAi && extra.fields.get("custom").is_some_and(is_object) => {
            return Ok(Some(OwnName { namespace: None, name: tool.name.clone(), kind: CallKind::Custom }));
        }
        _ => return Ok(None),
    };
    let fields = Object::read(extra.fields.raw(), &["type", "name", "namespace"])?;
    let kind = match fields.word("type").as_deref() {
        Some("function") => CallKind::Function,
        Some("custom") => CallKind::Custom,
        _ => return Ok(None),
    };
    let namespace = match fields.object("namespace") {
        Some(namespace) => Object::read(namespace, &["name"])?.text("name")?,
        None => None,
    };
    let Some(name) = fields.text("name")? else { return Ok(None) };
    if namespace.is_none() && kind == CallKind::Function {
        return Ok(None);
    }
    Ok(Some(OwnName { namespace, name, kind }))
}
