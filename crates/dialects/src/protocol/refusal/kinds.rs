//! Tools of a type that a server refuses, and the records of their work in a conversation.
//!
//! A client offers the tools of its own provider to every server: a search that runs there, say. A server of the same
//! dialect that has no such tool refuses the whole request. It gets the request without the tools of this type, unless
//! the caller forces the model to call one of them.
//!
//! A server's words count for a type that the request has, and in these forms: a complaint about the place of such a
//! tool, or a message whose beginning refuses the type, by name or by a list of the types that there are.

use std::borrow::Cow;

use super::{
    Chooser, LONGEST_NAME, Refusal,
    complaint::{self, is_index, steps},
    may_have,
};
use crate::{
    Dialect,
    error::OmittedParameter,
    fields::{self, Object, is_list, is_null, is_object, word},
    protocol::ErrorBody,
    raw_json::RawJson,
    refit::Fields,
};

/// The bytes of a message that are searched.
pub(super) const BEGIN: usize = 400;
/// The most types of a list that are told apart.
const MOST_TYPES: usize = 64;

/// A list of items with types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Tools,
    /// The items of a Responses conversation.
    Items,
    /// The blocks in the turns of a Messages conversation.
    Blocks,
}

impl List {
    fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Items => "input",
            Self::Blocks => "messages[].content",
        }
    }

    /// Returns the lists of a dialect's requests.
    fn of(dialect: Dialect) -> &'static [Self] {
        match dialect {
            Dialect::Anthropic => &[Self::Tools, Self::Blocks],
            Dialect::Responses => &[Self::Tools, Self::Items],
            Dialect::OpenAi => &[Self::Tools],
            _ => &[],
        }
    }

    /// Returns the steps behind an item of the list, with the item's own; `None` for another place.
    fn split<'a, 'b>(self, steps: &'a [&'b str]) -> Option<(&'a [&'b str], &'a [&'b str])> {
        let length = match (self, steps) {
            (Self::Tools, ["tools", item, ..]) | (Self::Items, ["input", item, ..]) if is_index(item) => 2,
            (Self::Blocks, ["messages", turn, "content", block, ..]) if is_index(turn) && is_index(block) => 4,
            _ => return None,
        };
        Some(steps.split_at(length))
    }

    /// Returns true if a field at fault stands for the types of this list.
    fn is_meant_by(self, place: &[&str]) -> bool {
        match (self, place) {
            (_, ["type"]) => true,
            (Self::Tools, [name]) => matches!(*name, "tools" | "tool" | "tool_choice" | "model"),
            (Self::Items, [name]) => *name == "input",
            (Self::Blocks, [name]) => *name == "messages",
            _ => false,
        }
    }

    /// Returns true if an item of this type is for a server of a certain kind.
    fn is_special(self, kind: &str) -> bool {
        match self {
            Self::Tools => !matches!(kind, "" | "function"),
            Self::Items => kind.ends_with("_call") || kind.ends_with("_output") || kind.starts_with("mcp_"),
            Self::Blocks => is_server_block(kind),
        }
    }
}

/// Returns true for the types that every server of a dialect has.
fn is_plain(dialect: Dialect, list: List, kind: &str) -> bool {
    match (dialect, list) {
        // A tool of the client's own, whose type may be left out.
        (Dialect::Anthropic, List::Tools) => kind == "custom" || !list.is_special(kind),
        (_, List::Items) => matches!(kind, "function_call" | "function_call_output") || !list.is_special(kind),
        _ => !list.is_special(kind),
    }
}

/// Returns the refusals of types that an error is.
pub(super) fn named(facts: &ErrorBody, dialect: Dialect, body: &[u8]) -> Vec<Refusal> {
    let Ok(body) = serde_json::from_slice::<RawJson<'_>>(body) else { return Vec::new() };
    for list in List::of(dialect) {
        let items = Items::of(*list, dialect, body);
        if items.special.is_empty() {
            continue;
        }
        for layer in facts.layers() {
            let refused = items.refused(layer, body);
            if !refused.is_empty() {
                return refused.into_iter().map(|kind| refusal(*list, &kind)).collect();
            }
        }
    }
    Vec::new()
}

fn refusal(list: List, kind: &str) -> Refusal {
    let path = format!("{}[{kind}]", list.name()).into();
    Refusal { parameter: OmittedParameter { path, lasting: true }, is_unsupported: true, chooser: Chooser::Dialect }
}

/// The items of a list that not every server takes.
struct Items {
    list: List,
    /// Their types, each once.
    special: Vec<String>,
}

impl Items {
    fn of(list: List, dialect: Dialect, body: RawJson<'_>) -> Self {
        let mut special: Vec<String> = Vec::new();
        let mut add = |item: RawJson<'_>| {
            let kind = kind_of(item);
            let is_new = !is_plain(dialect, list, &kind) && is_safe(&kind) && special.len() < MOST_TYPES;
            if is_new && !special.iter().any(|known| *known == *kind) {
                special.push(kind.into_owned());
            }
        };
        match list {
            List::Tools | List::Items => field(body, list.name()).into_iter().flat_map(RawJson::items).for_each(add),
            List::Blocks => {
                let turns = field(body, "messages").into_iter().flat_map(RawJson::items);
                turns.filter_map(|turn| field(turn, "content")).flat_map(RawJson::items).for_each(&mut add);
            }
        }
        Self { list, special }
    }

    /// Returns the types that an error refuses.
    fn refused(&self, facts: &ErrorBody, body: RawJson<'_>) -> Vec<String> {
        let complaints = complaint::listed(facts);
        if !complaints.is_empty() {
            let places: Vec<(Vec<&str>, &str)> =
                complaints.iter().map(|said| (steps(&said.place), said.says)).collect();
            let mut refused: Vec<String> = Vec::new();
            for (place, says) in &places {
                if let Some(kind) = self.refused_at(place, (says, !Self::taken(says).1.is_empty()), &places, body)
                    && !refused.contains(&kind)
                {
                    refused.push(kind);
                }
            }
            return refused;
        }
        let own = complaint::own_words(complaint::begin(facts.message.trim_start(), BEGIN));
        let (said, taken) = Self::taken(&own);
        let place = facts.param.as_deref().map(steps).or_else(|| {
            let marked = super::marked(said).map(steps);
            marked.into_iter().find(|place| self.list.split(place).is_some())
        });
        let place = place.unwrap_or_default();
        let mut refused: Vec<String> = match self.list.split(&place) {
            Some(_) => self.refused_at(&place, (said, !taken.is_empty()), &[], body).into_iter().collect(),
            // Another field's error.
            None if !place.is_empty() && !self.list.is_meant_by(&place) => return Vec::new(),
            None => self.named_in(said, !place.is_empty(), !taken.is_empty()),
        };
        // A list of all types there are speaks of each.
        if !refused.is_empty() && taken.iter().any(|kind| matches!(*kind, "function" | "custom" | "message" | "text")) {
            let others = self.special.iter().filter(|kind| !taken.contains(&kind.as_str()));
            let others: Vec<String> = others.filter(|kind| !refused.contains(kind)).cloned().collect();
            refused.extend(others);
        }
        refused
    }

    /// Returns the type of the item at a place, if the words about the place refuse it. `has_list` is true if they go
    /// on with the types that there are.
    fn refused_at(
        &self,
        place: &[&str],
        (says, has_list): (&str, bool),
        all: &[(Vec<&str>, &str)],
        body: RawJson<'_>,
    ) -> Option<String> {
        let (own, within) = self.list.split(place)?;
        let item = at(body, own)?;
        let kind = kind_of(item);
        let kind = self.special.iter().find(|known| **known == *kind)?;
        let is_about_type = match within {
            [] => {
                let says = says.to_ascii_lowercase();
                let names_type = ["type", " tag", "any of", "upport", "variant"].iter().any(|word| says.contains(word));
                names_type || says.contains(kind.as_str()) && is_refusing(&says, has_list)
            }
            ["type"] | [_, "type"] => true,
            // The server looks for what a function has.
            [.., last] => within.len() <= 2 && OF_FUNCTIONS.contains(last) && field(item, last).is_none(),
        };
        // A validator tries each type that it knows: one of them was right if no complaint is about the type there.
        let tags = all.iter().filter_map(|(place, _)| match self.list.split(place)? {
            (there, [tag, _, ..]) if there == own && !OF_FUNCTIONS.contains(tag) => Some(*tag),
            _ => None,
        });
        let is_complained = |tag: &str| {
            all.iter().any(|(place, _)| {
                self.list.split(place).is_some_and(|(there, within)| there == own && *within == [tag, "type"])
            })
        };
        let mut tags = tags.peekable();
        let is_own = tags.peek().is_some() && !tags.all(is_complained);
        (is_about_type && !is_own).then(|| kind.clone())
    }

    /// Returns the types that the beginning of a message refuses by name, or all of them. `has_list` is true if the
    /// message goes on with the types that there are.
    fn named_in(&self, said: &str, is_at_tools: bool, has_list: bool) -> Vec<String> {
        let said = said.to_ascii_lowercase();
        let is_about = is_at_tools
            || match self.list {
                List::Tools => said.contains("tool") || said.contains("type") || said.contains("variant"),
                List::Items | List::Blocks => {
                    ["type", "variant", "item", "block", "tag"].iter().any(|word| said.contains(word))
                }
            };
        if !is_about || !is_refusing(&said, has_list) {
            return Vec::new();
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
        let words: Vec<&str> =
            said.split(|letter| !is_part(letter)).map(|word| word.trim_matches(['.', ':'])).collect();
        let names = |kind: &&String| {
            let kind = kind.to_ascii_lowercase();
            let spoken = kind.replace('_', " ");
            words.contains(&kind.as_str()) || spoken.contains(' ') && said.contains(&spoken)
        };
        let named: Vec<String> = self.special.iter().filter(names).cloned().collect();
        let bare = said.replace(['\'', '"', '`'], "");
        let is_of_all = self.list == List::Tools && OF_ALL.iter().any(|words| bare.contains(words));
        if named.is_empty() && is_of_all { self.special.clone() } else { named }
    }

    /// Divides the beginning of a message into what it says and the types that it lists as known.
    fn taken(begin: &str) -> (&str, Vec<&str>) {
        const LISTS: [&str; 10] = [
            "upported values are",
            "upported types are",
            "upported tool types",
            "expected one of",
            "expected tags",
            ", expected ",
            "nput should be",
            "must be one of",
            "llowed values",
            "alid values",
        ];
        let Some(from) = LISTS.iter().filter_map(|words| begin.find(words)).min() else { return (begin, Vec::new()) };
        let (said, list) = begin.split_at(from);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ':');
        (said, list.split(|letter| !is_part(letter)).filter(|word| !word.is_empty()).collect())
    }
}

/// Fields of a function, which a tool of another type lacks.
const OF_FUNCTIONS: [&str; 5] = ["function", "name", "parameters", "input_schema", "description"];

/// Words for all tools but functions.
const OF_ALL: [&str; 14] = [
    "built-in tool",
    "builtin tool",
    "hosted tool",
    "server tool",
    "server-side tool",
    "native tool",
    "non-function tool",
    "only function",
    "only support function",
    "only supports function",
    "only tools of type function",
    "only type function",
    "must be function",
    "should be function",
];

/// Returns true for words that refuse a type. Some of them may be about anything, and count beside a word for types or
/// a list of them: "web_search tool: allowed_domains is invalid" is the caller's mistake.
fn is_refusing(said: &str, has_list: bool) -> bool {
    const WORDS: [&str; 10] = [
        "upport",
        "unknown",
        "unrecognized",
        "unrecognised",
        "not allowed",
        "not permitted",
        "not available",
        "not enabled",
        "not implemented",
        "not recognized",
    ];
    const OF_ANYTHING: [&str; 7] =
        ["invalid", "unexpected", "does not match", "must be", "expected", "only ", "no such"];
    const TYPES: [&str; 3] = ["type", "variant", " tag"];
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    says(&WORDS) || says(&OF_ANYTHING) && (has_list || says(&TYPES) || says(&OF_ALL))
}

/// Returns true for a type that may be repeated: a word of no one's prompt.
fn is_safe(kind: &str) -> bool {
    !kind.is_empty()
        && kind.len() <= LONGEST_NAME
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'))
}

fn kind_of(item: RawJson<'_>) -> Cow<'_, str> {
    Object::read(item, &["type"]).ok().and_then(|item| item.word("type")).unwrap_or_default()
}

/// Returns a field of an object.
fn field<'a>(object: RawJson<'a>, name: &str) -> Option<RawJson<'a>> {
    let mut found = object.fields().filter(|(known, _)| known.read().is_ok_and(|known| known == name));
    found.next().map(|(_, value)| value)
}

/// Returns the value at a place.
fn at<'a>(body: RawJson<'a>, steps: &[&str]) -> Option<RawJson<'a>> {
    steps.iter().try_fold(body, |value, step| match step.parse() {
        Ok(place) => value.items().nth(place),
        Err(_) => field(value, step),
    })
}

/// Returns a body without the items of a type, if the path is one's: the outer `None` is for another path. The inner is
/// for a body that has none, or that cannot do without them.
pub(crate) fn without(dialect: Dialect, body: &[u8], path: &str) -> Option<Option<Vec<u8>>> {
    let (name, kind) = path.strip_suffix(']')?.rsplit_once('[')?;
    let list = List::of(dialect).iter().find(|list| list.name() == name && !kind.is_empty())?;
    let shorter = || {
        let body: RawJson<'_> = serde_json::from_slice(Some(body).filter(|body| may_have(body, path))?).ok()?;
        match list {
            List::Tools => without_tools(body, kind),
            List::Items => without_items(body, kind),
            List::Blocks => without_blocks(body),
        }
    };
    Some(shorter().map(String::into_bytes))
}

/// Returns the beginning that the names of one tool's versions share: `web_search` of `web_search_preview_2025_03_11`.
fn stem(kind: &str) -> &str {
    let end = ["_preview", "_2"].iter().filter_map(|end| kind.find(end)).min();
    &kind[..end.unwrap_or(kind.len())]
}

fn without_tools(body: RawJson<'_>, kind: &str) -> Option<String> {
    let mut fields = Fields::of(body).ok()?;
    let tools = fields.stood("tools").filter(|tools| is_list(tools))?;
    let (gone, left): (Vec<_>, Vec<_>) = tools.items().partition(|tool| kind_of(*tool) == kind);
    if gone.is_empty() {
        return None;
    }
    let rest = Rest { kind, gone: &gone, left: &left };
    if let Some(choice) = fields.stood("tool_choice") {
        match rest.choice(choice)? {
            Choice::Same => {}
            Choice::Other(choice) => fields.set("tool_choice", choice),
            Choice::Gone => _ = fields.remove("tool_choice"),
        }
    }
    if let Some(include) = fields.stood("include").filter(|include| is_list(include)) {
        let kept: Vec<_> =
            include.items().filter(|entry| !rest.is_included(&word(entry).unwrap_or_default())).collect();
        match kept.len() {
            0 => _ = fields.remove("include"),
            _ => fields.set("include", list_of(&kept)),
        }
    }
    if left.is_empty() {
        fields.remove("tools");
        // It is an error where there are none.
        fields.remove("parallel_tool_calls");
    } else {
        fields.set("tools", list_of(&left));
    }
    fields.finish()
}

/// The tools that go, and those that stay.
struct Rest<'a> {
    kind: &'a str,
    gone: &'a [RawJson<'a>],
    left: &'a [RawJson<'a>],
}

enum Choice {
    Same,
    Other(String),
    Gone,
}

impl Rest<'_> {
    /// Returns the choice among the tools that stay; `None` if the model must call one that goes.
    fn choice(&self, choice: RawJson<'_>) -> Option<Choice> {
        if is_null(choice) {
            return Some(Choice::Same);
        }
        if !is_object(choice) {
            let is_forced = matches!(word(choice).as_deref(), Some("required" | "any"));
            return match self.left.is_empty() {
                false => Some(Choice::Same),
                true => (!is_forced).then_some(Choice::Gone),
            };
        }
        let kind = kind_of(choice);
        match &*kind {
            "auto" | "none" if self.left.is_empty() => Some(Choice::Gone),
            "any" if self.left.is_empty() => None,
            "allowed_tools" => self.allowed(choice),
            "auto" | "none" | "any" => Some(Choice::Same),
            // A function, or a tool by its name.
            "function" | "tool" | "custom" => {
                let named = Object::read(choice, &["name", "custom"]).ok()?;
                let within = named.object("custom").and_then(|custom| field(custom, "name")).and_then(word);
                let name = named.word("name").or(within);
                let is_gone = |tool: &RawJson<'_>| name.is_some() && name_of(*tool) == name;
                let is_forced = *kind == *self.kind || kind == "tool" && self.gone.iter().any(is_gone);
                (!is_forced).then_some(Choice::Same)
            }
            kind => self.left.iter().any(|tool| stem(&kind_of(*tool)) == stem(kind)).then_some(Choice::Same),
        }
    }

    /// Returns the choice among a part of the tools.
    fn allowed(&self, choice: RawJson<'_>) -> Option<Choice> {
        let inner = field(choice, "allowed_tools").filter(|inner| is_object(inner));
        let mut fields = Fields::of(inner.unwrap_or(choice)).ok()?;
        let tools = fields.stood("tools").filter(|tools| is_list(tools))?;
        let all = tools.items().count();
        let kept: Vec<_> = tools.items().filter(|tool| kind_of(*tool) != self.kind).collect();
        if kept.len() == all {
            return Some(Choice::Same);
        }
        if kept.is_empty() {
            let is_forced = fields.stood("mode").and_then(word).as_deref() == Some("required");
            let none = if self.left.is_empty() { Choice::Gone } else { Choice::Other(r#""none""#.to_owned()) };
            return (!is_forced).then_some(none);
        }
        fields.set("tools", list_of(&kept));
        let changed = fields.finish()?;
        let mut outer = Fields::of(choice).ok()?;
        match inner {
            Some(_) => outer.set("allowed_tools", changed),
            None => return Some(Choice::Other(changed)),
        }
        outer.finish().map(Choice::Other)
    }

    /// Returns true for an entry of `include` that asks for the work of a tool that goes: `web_search_call.results`.
    fn is_included(&self, entry: &str) -> bool {
        let Some((tool, _)) = entry.split_once("_call") else { return false };
        let is_its = |kind: &str| !tool.is_empty() && stem(kind).starts_with(tool);
        is_its(self.kind) && !self.left.iter().any(|tool| is_its(&kind_of(*tool)))
    }
}

fn name_of<'a>(tool: RawJson<'a>) -> Option<Cow<'a, str>> {
    field(tool, "name").and_then(word)
}

/// Items that record the work of a provider's tool. The answer that it led to stands behind them.
const RECORDS: [&str; 8] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "tool_search_call",
    "tool_search_output",
    "mcp_list_tools",
    "mcp_call",
];

/// Returns a conversation without the records of a type, or with its calls of free text as those of functions.
fn without_items(body: RawJson<'_>, kind: &str) -> Option<String> {
    let mut fields = Fields::of(body).ok()?;
    let input = fields.stood("input").filter(|input| is_list(input))?;
    let is_call = matches!(kind, "custom_tool_call" | "custom_tool_call_output");
    if !is_call && !RECORDS.contains(&kind) {
        return None;
    }
    let (mut kept, mut any) = (Vec::new(), false);
    for item in input.items() {
        let there = kind_of(item);
        if is_call && matches!(&*there, "custom_tool_call" | "custom_tool_call_output") {
            any = true;
            kept.push(Cow::Owned(as_function(item, &there)?));
        } else if there == kind {
            any = true;
        } else {
            kept.push(Cow::Borrowed(item.get()));
        }
    }
    // A conversation that is nothing else cannot do without it.
    if !any || kept.is_empty() {
        return None;
    }
    fields.set("input", format!("[{}]", kept.join(",")));
    fields.finish()
}

/// Returns a call whose input is free text, or its output, as that of a function.
fn as_function(item: RawJson<'_>, kind: &str) -> Option<String> {
    let mut fields = Fields::of(item).ok()?;
    let kind = if kind.ends_with("_output") { "function_call_output" } else { "function_call" };
    if let Some(input) = fields.stood("input") {
        let input = fields::text(input).ok()?.unwrap_or_default();
        let arguments = serde_json::json!({ "input": input }).to_string();
        fields.set("arguments", serde_json::Value::from(arguments).to_string());
        fields.remove("input");
    }
    // Its id begins with the other kind's letters.
    fields.remove("id");
    fields.set("type", serde_json::Value::from(kind).to_string());
    fields.finish()
}

/// Returns true for a block of a tool that the provider runs.
fn is_server_block(kind: &str) -> bool {
    kind != "tool_result" && (kind.ends_with("_tool_result") || matches!(kind, "server_tool_use" | "mcp_tool_use"))
}

/// Returns a conversation without the blocks of the provider's tools, and without the marks of what they found.
fn without_blocks(body: RawJson<'_>) -> Option<String> {
    let mut fields = Fields::of(body).ok()?;
    let messages = fields.stood("messages").filter(|messages| is_list(messages))?;
    let (mut turns, mut any) = (Vec::new(), false);
    for turn in messages.items() {
        let content = field(turn, "content").filter(|content| is_list(content));
        let Some(content) = content.filter(|content| content.items().any(|block| is_server_block(&kind_of(block))))
        else {
            turns.push(Cow::Borrowed(turn.get()));
            continue;
        };
        any = true;
        let mut blocks = Vec::new();
        for block in content.items().filter(|block| !is_server_block(&kind_of(*block))) {
            let mut block_fields = Fields::of(block).ok()?;
            block_fields.remove("citations");
            blocks.push(block_fields.finish().map_or_else(|| Cow::Borrowed(block.get()), Cow::Owned));
        }
        // Turns of one role that meet are one to this dialect.
        if !blocks.is_empty() {
            let mut turn = Fields::of(turn).ok()?;
            turn.set("content", format!("[{}]", blocks.join(",")));
            turns.push(Cow::Owned(turn.finish()?));
        }
    }
    if !any || turns.is_empty() {
        return None;
    }
    fields.set("messages", format!("[{}]", turns.join(",")));
    fields.finish()
}

fn list_of(items: &[RawJson<'_>]) -> String {
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    format!("[{}]", items.join(","))
}
