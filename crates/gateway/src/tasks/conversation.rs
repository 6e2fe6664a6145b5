//! A request as a conversation for a person to read.

use serde::Serialize;
use steadfast::chat::{Media, Message, Part, Role};
use steadfast_handoff::StoredRequest;

/// A request as a person reads it: text as text, and a description of everything else.
#[derive(Debug, Serialize)]
pub struct Conversation {
    /// The requested model.
    pub model: Option<String>,
    /// The tools that the model may call.
    pub tools: Vec<String>,
    /// True if the answer must be JSON.
    pub json: bool,
    /// The system prompt and the messages, in order.
    pub turns: Vec<Turn>,
    /// The reason that the request cannot be shown.
    pub problem: Option<String>,
}

/// A message of a conversation.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The message's content.
    pub parts: Vec<Piece>,
}

/// A piece of a turn.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// `text`, or another kind, such as `image` or `tool call`.
    pub kind: &'static str,
    /// The text itself, or a description.
    pub text: String,
}

impl Conversation {
    /// Creates the conversation of a request.
    pub fn of(request: &StoredRequest) -> Self {
        let chat = match request.chat() {
            Ok(chat) => chat,
            Err(error) => {
                let problem = Some(error.to_string());
                return Self { model: None, tools: Vec::new(), json: false, turns: Vec::new(), problem };
            }
        };
        let system = chat.system.iter().map(|text| Turn { role: "system", parts: vec![Piece::text(text)] });
        Self {
            model: chat.model.clone(),
            tools: chat.tools.iter().map(|tool| tool.name.clone()).collect(),
            json: chat.output.is_some(),
            turns: system.chain(chat.messages.iter().map(Turn::of)).collect(),
            problem: None,
        }
    }

    /// Returns the notes besides the turns, a line for each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.model.as_ref().map(|model| format!("asked for the model {model}")));
        if !self.tools.is_empty() {
            notes.push(format!("with the tools {}", self.tools.join(", ")));
        }
        if self.json {
            notes.push("the answer must be JSON".to_owned());
        }
        notes.extend(self.problem.as_ref().map(|problem| format!("the request cannot be shown: {problem}")));
        notes
    }
}

impl Turn {
    fn of(message: &Message) -> Self {
        let role = match message.role {
            Role::System => "system",
            Role::Assistant => "assistant",
            _ => "user",
        };
        Self { role, parts: message.content.iter().filter_map(Piece::of).collect() }
    }
}

impl Piece {
    fn text(text: &str) -> Self {
        Self { kind: "text", text: text.to_owned() }
    }

    /// Returns the piece for a part; `None` for a part that means nothing to people.
    fn of(part: &Part) -> Option<Self> {
        let (kind, text) = match part {
            Part::Text(text) => return Some(Self::text(text)),
            Part::Image(image) => ("image", media(&image.media)),
            Part::Document(document) => {
                let name = document.name.as_deref().map(|name| format!("{name}, ")).unwrap_or_default();
                ("document", name + &media(&document.media))
            }
            Part::ToolCall(call) => ("tool call", format!("{}({})", call.name, call.arguments)),
            Part::ToolResult(result) => {
                let parts: Vec<String> = result.content.iter().filter_map(Self::of).map(Self::inside).collect();
                (if result.is_error { "tool error" } else { "tool result" }, parts.join("\n"))
            }
            Part::Reasoning(reasoning) if reasoning.text.is_empty() => return None,
            Part::Reasoning(reasoning) => ("reasoning", reasoning.text.clone()),
            Part::Refusal(text) => ("refusal", text.clone()),
            Part::Extra { .. } => return None,
            Part::Other { value, .. } => {
                let value = value.value().unwrap_or_default();
                ("other", value["type"].as_str().unwrap_or("unknown").to_owned())
            }
            _ => ("other", "unknown".to_owned()),
        };
        Some(Self { kind, text })
    }

    /// Returns the text of a piece inside another.
    fn inside(self) -> String {
        if self.kind == "text" { self.text } else { format!("[{}: {}]", self.kind, self.text) }
    }
}

/// Describes a picture or a document without its content. The gateway never fetches it.
fn media(media: &Media) -> String {
    match media {
        Media::Base64 { media_type, data } => format!("{media_type}, {} KB", (data.len() / 4 * 3).div_ceil(1000)),
        Media::Url(url) => url.chars().take(200).collect(),
        Media::File(id) => format!("file {id}"),
    }
}

#[cfg(test)]
mod tests {
    use steadfast::{Dialect, LlmRequest, Wire};

    use super::*;

    fn of(dialect: Dialect, body: &str) -> Conversation {
        let request = LlmRequest::from(Wire::new(dialect, body.to_owned()).unwrap());
        Conversation::of(&StoredRequest::of(&request).unwrap())
    }

    #[test]
    fn whatever_was_asked_can_be_read() {
        let said = of(
            Dialect::Anthropic,
            r#"{"model":"claude","max_tokens":9,"system":"be kind","tools":[{"name":"look","input_schema":{"type":"object"}}],
            "messages":[{"role":"user","content":[{"type":"text","text":"see"},
              {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"look","input":{"at":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"a cat"}]}]}"#,
        );
        let turns: Vec<String> = said
            .turns
            .iter()
            .map(|turn| {
                let parts: Vec<String> = turn.parts.iter().map(|part| format!("{}={}", part.kind, part.text)).collect();
                format!("{}: {}", turn.role, parts.join("; "))
            })
            .collect();
        assert_eq!(
            turns,
            [
                "system: text=be kind",
                "user: text=see; image=image/png, 1 KB",
                "assistant: tool call=look({\"at\":1})",
                "user: tool result=a cat",
            ]
        );
        assert_eq!(said.notes(), ["asked for the model claude", "with the tools look"]);
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        let said = of(Dialect::OpenAi, r#"{"model":"m","messages":[{"role":"nobody","content":7}]}"#);
        assert!(said.turns.is_empty());
        assert!(said.notes()[0].starts_with("the request cannot be shown: "), "{:?}", said.notes());
    }
}
