//! Follows a request's demands on its model: a tool that it must call, a shape that its answer must have.

use serde_json::{Map, Value, json};

use super::{answer::pieces, handle::SimulatedCall, instance::instance};
use crate::{
    Dialect,
    chat::{Chat, Extra, Message, Part, Role, Tool, ToolChoice},
};

/// A tool call that an answer makes.
#[derive(Debug)]
pub struct PlannedCall {
    /// The tool.
    pub name: String,
    /// Its arguments, which satisfy the tool's schema.
    pub arguments: Value,
}

impl SimulatedCall {
    /// Follows the request's demands: returns the tool call that is the answer, or sets the reply to JSON of the
    /// requested shape, or to the rest of an answer that the request has begun.
    pub fn follow_demands(&mut self, chat: &Chat) -> Option<PlannedCall> {
        let called = self.called(chat);
        if called.is_none() && !self.voice.replies_json() {
            self.say(chat);
            self.go_on(chat);
        }
        called
    }

    /// Goes on with a begun answer, if it is the beginning of its own.
    fn go_on(&mut self, chat: &Chat) {
        let Some(begun) = chat.messages.last().filter(|last| last.role == Role::Assistant) else { return };
        if let Some(tokens) = self.voice.go_on(&begun.text(), self.plan.tokens) {
            self.plan.tokens = tokens;
        }
    }

    /// Sets the reply to JSON, if the request asks for it. A reply given as JSON stays.
    fn say(&mut self, chat: &Chat) {
        let Some(output) = &chat.output else { return };
        let filler = self.voice.filler();
        let made = match output.schema.as_ref().map(|schema| schema.value()) {
            Some(Ok(schema)) => instance(&schema, &filler),
            None => json!({ "answer": filler }),
            Some(Err(_)) => return,
        };
        let said = pieces(&made.to_string());
        let whole = u32::try_from(said.len()).unwrap_or(u32::MAX);
        self.voice.set_pieces(said);
        self.plan.tokens = chat.max_tokens.map_or(whole, |most| whole.min(most));
        self.cut_short = self.plan.tokens < whole;
    }

    fn called(&self, chat: &Chat) -> Option<PlannedCall> {
        let tool = match &chat.tool_choice {
            Some(ToolChoice::None) => return None,
            Some(ToolChoice::Named(name)) => chat.tools.iter().find(|tool| tool.name == *name)?,
            Some(ToolChoice::Required) => next(chat)?,
            _ => {
                if let Some((name, said)) = self.voice.call(results(chat)) {
                    let tool = chat.tools.iter().find(|tool| tool.name == *name)?;
                    let made = || arguments(tool, &self.voice.filler());
                    let arguments = if said.is_object() { said.clone() } else { made() };
                    return Some(PlannedCall { name: tool.name.clone(), arguments });
                }
                // The model may call a tool, and does if the script says so.
                let said = self.voice.tool_arguments()?;
                let answered = |last: &Message| last.content.iter().any(|part| matches!(part, Part::ToolResult(_)));
                let tool = chat.tools.first().filter(|_| !chat.messages.last().is_some_and(answered))?;
                if suffices(said, tool) {
                    return Some(PlannedCall { name: tool.name.clone(), arguments: said.clone() });
                }
                tool
            }
        };
        let said = self.voice.tool_arguments().filter(|said| fits(said, tool));
        let arguments = said.cloned().unwrap_or_else(|| arguments(tool, &self.voice.filler()));
        Some(PlannedCall { name: tool.name.clone(), arguments })
    }
}

/// Counts the results of tools since the user's last words.
fn results(chat: &Chat) -> usize {
    let of = |turn: &Message| turn.content.iter().filter(|part| matches!(part, Part::ToolResult(_))).count();
    let since = chat.messages.iter().rev().take_while(|turn| turn.role != Role::User || of(turn) > 0);
    since.map(of).sum()
}

/// Returns the first offered tool that the conversation has not called yet, or else the last one: an agent that
/// requires calls ends with its last tool, which gives its answer.
fn next(chat: &Chat) -> Option<&Tool> {
    let allowed = allowed(chat);
    let may =
        |tool: &&Tool| !tool.runs_at_provider() && allowed.as_ref().is_none_or(|names| names.contains(&tool.name));
    let mut offered = chat.tools.iter().filter(may).peekable();
    offered.peek()?;
    let turns = || chat.messages.iter().filter(|message| message.role == Role::Assistant);
    // Some frameworks write calls as text.
    let seen = |tool: &Tool| {
        turns().any(|turn| turn.tool_calls().any(|call| call.name == tool.name) || turn.text().contains(&*tool.name))
    };
    let last = offered.clone().last();
    offered.find(|tool| !seen(tool)).or(last)
}

/// Returns the tools that may be called, if the request names some of those offered.
fn allowed(chat: &Chat) -> Option<Vec<String>> {
    let Extra { dialect, fields } = chat.extra.as_ref()?;
    let fields = match dialect {
        Dialect::OpenAi | Dialect::Responses => fields.get("tool_choice")?,
        Dialect::Gemini => fields.get("toolConfig").or_else(|| fields.get("tool_config"))?,
        Dialect::Anthropic => return None,
    };
    let fields: Value = serde_json::from_str(fields.get()).ok()?;
    let names: Vec<String> = match dialect {
        Dialect::OpenAi => {
            let tools = fields["allowed_tools"]["tools"].as_array()?;
            tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).map(str::to_owned).collect()
        }
        Dialect::Responses => {
            let tools = fields["tools"].as_array()?;
            tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect()
        }
        _ => {
            let calling =
                ["functionCallingConfig", "function_calling_config"].iter().find_map(|name| fields.get(name))?;
            let names = ["allowedFunctionNames", "allowed_function_names"].iter().find_map(|name| calling.get(name))?;
            names.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    (!names.is_empty()).then_some(names)
}

/// Returns arguments that satisfy the tool's schema.
fn arguments(tool: &Tool, filler: &str) -> Value {
    match tool.parameters.value() {
        Ok(schema) if schema.is_object() => instance(&schema, filler),
        _ => Value::Object(Map::new()),
    }
}

/// Returns true if these arguments fit this tool: all that it requires, and nothing that it does not know.
fn fits(said: &Value, tool: &Tool) -> bool {
    let schema = tool.parameters.value().unwrap_or_default();
    let knows = |name: &String| schema["properties"].as_object().is_none_or(|known| known.contains_key(name));
    suffices(said, tool) && said.as_object().is_some_and(|said| said.keys().all(knows))
}

/// Returns true if these arguments have all that this tool requires.
fn suffices(said: &Value, tool: &Tool) -> bool {
    let (Some(said), Ok(schema)) = (said.as_object(), tool.parameters.value()) else { return false };
    let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.all(|name| said.contains_key(name))
}
