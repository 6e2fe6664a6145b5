//! Fits tool names to the target, and maps them back.

use std::collections::{HashMap, HashSet};

use super::report::Report;
use crate::{
    Dialect, StreamEvent,
    chat::{Chat, Message, Part, ToolChoice},
    translate::{ids::short, rules::Feature},
};

/// The map from the name that was sent to the tool's own.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, String>);

impl Names {
    /// Restores the tools' own names in the tool calls of an answer.
    pub(super) fn restore(&self, message: &mut Message) {
        for part in &mut message.content {
            if let Part::ToolCall(call) = part {
                self.put_back(&mut call.name);
            }
        }
    }

    /// Restores the tools' own names in a piece of a stream.
    pub(super) fn restore_event(&self, event: &mut StreamEvent) {
        if let StreamEvent::ToolCall { name, .. } = event {
            self.put_back(name);
        }
    }

    fn put_back(&self, name: &mut String) {
        if let Some(own) = self.own(name) {
            *name = own.to_owned();
        }
    }

    /// Returns the tool's own name, if it was sent under this other one.
    pub fn own(&self, sent: &str) -> Option<&str> {
        self.0.get(sent).map(String::as_str)
    }

    /// Returns true if no tool has another name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Other names for those that a target does not take: each gets one, and no two the same.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct OtherNames {
    /// The names so far, by the tools' own.
    sent: HashMap<String, String>,
    taken: HashSet<String>,
}

impl OtherNames {
    /// Creates it beside the names that stay.
    pub fn beside(taken: HashSet<String>) -> Self {
        Self { sent: HashMap::new(), taken }
    }

    /// Returns the other name of a tool, the same for every mention.
    pub fn of(&mut self, name: &str) -> &str {
        if !self.sent.contains_key(name) {
            let fitted = self.new_name(name);
            self.taken.insert(fitted.clone());
            self.sent.insert(name.to_owned(), fitted);
        }
        self.sent.get(name).map_or("", String::as_str)
    }

    fn new_name(&self, name: &str) -> String {
        let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
        let mut fitted: String = letters.collect();
        if !fitted.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            fitted.insert(0, '_');
        }
        if fitted.len() > LONGEST || self.taken.contains(&fitted) {
            fitted.truncate(LONGEST - 9);
            fitted.push('_');
            let begin = fitted.len();
            fitted.push_str(&short(name, 8));
            // Hashes may collide. The number of names so far occurs in no earlier one.
            if self.taken.contains(&fitted) {
                fitted.truncate(begin);
                fitted.push_str(&short(&format!("{}#{name}", self.sent.len()), 8));
            }
        }
        fitted
    }

    /// Returns the names that were given, for the answer.
    pub fn finish(self) -> Names {
        Names(self.sent.into_iter().map(|(own, sent)| (sent, own)).collect())
    }
}

/// The longest name that every provider takes.
const LONGEST: usize = 64;

/// Returns true if a name has 1 to 64 letters, digits, `_` and `-`.
#[doc(hidden)]
pub fn is_plain_name(name: &str) -> bool {
    fits(name, Dialect::OpenAi)
}

/// Returns true if the dialect takes the name. OpenAI: `^[a-zA-Z0-9_-]{1,64}$`; Anthropic up to 128; Gemini begins with
/// a letter or `_` and may have `.` and `:` too.
fn fits(name: &str, dialect: Dialect) -> bool {
    let longest = if dialect == Dialect::Anthropic { 128 } else { LONGEST };
    let letter = |byte: u8| match dialect {
        Dialect::Gemini => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'),
        _ => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
    };
    let begins = name
        .bytes()
        .next()
        .is_some_and(|first| dialect != Dialect::Gemini || first.is_ascii_alphabetic() || first == b'_');
    begins && name.len() <= longest && name.bytes().all(letter)
}

/// Iterates over the names of tools that the caller runs; the provider names the tools that it runs itself.
fn every_name(chat: &Chat) -> impl Iterator<Item = &str> {
    let tools = chat.tools.iter().filter(|tool| !tool.runs_at_provider()).map(|tool| tool.name.as_str());
    let parts = chat.messages.iter().flat_map(|message| &message.content);
    tools.chain(parts.filter_map(|part| match part {
        Part::ToolCall(call) => Some(call.name.as_str()),
        Part::ToolResult(result) => result.name.as_deref(),
        _ => None,
    }))
}

pub(super) fn all_fit(chat: &Chat, dialect: Dialect) -> bool {
    every_name(chat).all(|name| fits(name, dialect))
}

/// Renames tools whose names do not fit, at every mention.
pub(super) fn fit(chat: &mut Chat, dialect: Dialect, report: &mut Report) -> Names {
    let taken = every_name(chat).filter(|name| fits(name, dialect)).map(str::to_owned).collect();
    let mut names = OtherNames::beside(taken);
    for name in every_name(chat).filter(|name| !fits(name, dialect)) {
        names.of(name);
    }
    let sent = &names.sent;
    if sent.is_empty() {
        return Names::default();
    }
    report.record(Feature::ToolName);
    let rename = |name: &mut String| {
        if let Some(fitted) = sent.get(name.as_str()) {
            name.clone_from(fitted);
        }
    };
    chat.tools.iter_mut().for_each(|tool| rename(&mut tool.name));
    if let Some(ToolChoice::Named(name)) = &mut chat.tool_choice {
        rename(name);
    }
    for part in chat.messages.iter_mut().flat_map(|message| &mut message.content) {
        match part {
            Part::ToolCall(call) => rename(&mut call.name),
            Part::ToolResult(result) => {
                if let Some(name) = &mut result.name {
                    rename(name);
                }
            }
            _ => {}
        }
    }
    names.finish()
}

/// Returns the name of an output schema in OpenAI's form, if it differs.
pub(super) fn fit_output(name: &str) -> Option<String> {
    if fits(name, Dialect::OpenAi) {
        return None;
    }
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
    let fitted: String = letters.take(LONGEST).collect();
    Some(if fitted.is_empty() { "answer".to_owned() } else { fitted })
}
