//! Bodies of any size that ask as much as they can of whoever reads them.

use std::fmt;

use steadfast::Dialect::{self, Anthropic, Gemini, OpenAi, Responses};

/// A kind of body.
pub(crate) struct Shape {
    name: &'static str,
    pub(crate) source: Dialect,
    pub(crate) target: Dialect,
    /// The text before the pieces, a piece, the text between two, and the text behind them all.
    head: &'static str,
    piece: fn(usize) -> String,
    tail: &'static str,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", self.name, self.source, self.target)
    }
}

impl Shape {
    /// A body of about so many bytes.
    pub(crate) fn body(&self, bytes: usize) -> String {
        let mut body = String::with_capacity(bytes + 512);
        body.push_str(self.head);
        let mut count = 0;
        while body.len() + self.tail.len() < bytes {
            if count > 0 {
                body.push(',');
            }
            body.push_str(&(self.piece)(count));
            count += 1;
        }
        body + self.tail
    }
}

const A_HEAD: &str = r#"{"model":"m","max_tokens":9,"messages":["#;
const A_TURN: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":["#;
const A_CALLS: &str =
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":["#;
const A_FIELDS: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"#;
const A_TOOLS: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":["#;
const A_SCHEMA: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"t","input_schema":{"type":"object","properties":{"#;
const A_REQUIRED: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"t","input_schema":{"type":"object","required":["a","#;
const O_SCHEMA: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"t","parameters":{"type":"object","properties":{"#;
const G_SCHEMA: &str = r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"t","parameters":{"type":"OBJECT","nullable":true,"properties":{"#;
const O_HEAD: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"},"#;
const O_CALLS: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":["#;
const O_TURN: &str = r#"{"model":"m","messages":[{"role":"user","content":["#;
const O_FIELDS: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"#;
const O_TOOLS: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":["#;
const R_ITEMS: &str = r#"{"model":"m","input":[{"role":"user","content":"x"},"#;
const R_LEADING: &str = r#"{"model":"m","instructions":"x","input":["#;
const R_TURN: &str = r#"{"model":"m","input":[{"role":"user","content":["#;
const R_FIELDS: &str = r#"{"model":"m","input":"x","#;
const R_TOOLS: &str = r#"{"model":"m","input":"x","tools":["#;
const R_SPACE: &str = r#"{"model":"m","input":"x","tools":[{"type":"namespace","name":"a","description":"d","tools":["#;
const R_SCHEMA: &str =
    r#"{"model":"m","input":"x","tools":[{"type":"function","name":"t","parameters":{"type":"object","properties":{"#;
const R_END: &str = r#",{"role":"user","content":"x"}]}"#;
const G_PARTS: &str = r#"{"contents":[{"role":"user","parts":["#;

fn of(
    name: &'static str,
    source: Dialect,
    target: Dialect,
    head: &'static str,
    piece: fn(usize) -> String,
    tail: &'static str,
) -> Shape {
    Shape { name, source, target, head, piece, tail }
}

/// All of them.
pub(crate) fn all() -> Vec<Shape> {
    let mut all = as_they_are();
    all.extend(rewritten());
    all.extend(responses());
    all
}

/// The shapes with schemas that the target does not take as they are.
fn rewritten() -> Vec<Shape> {
    vec![
        of(
            "required properties",
            Anthropic,
            OpenAi,
            A_REQUIRED,
            |n| format!(r#""p{n}""#),
            r#"],"properties":{"a":{}}},"strict":true}]}"#,
        ),
        of(
            "properties",
            Anthropic,
            OpenAi,
            A_SCHEMA,
            |n| format!(r#""p{n}":{{}}"#),
            r#"},"required":["a"]},"strict":true}]}"#,
        ),
        of("objects in a schema", Anthropic, Gemini, A_SCHEMA, |n| format!(r#""a{n}":{{"a":{{"a":{{}}}}}}"#), "}}}]}"),
        of("keywords", OpenAi, Gemini, O_SCHEMA, |n| format!(r#""a{n}":{{"pattern":"x"}}"#), "}}}}]}"),
        of("schemas in capitals", Gemini, OpenAi, G_SCHEMA, |n| format!(r#""a{n}":{{"type":"STRING"}}"#), "}}}]}]}"),
    ]
}

fn as_they_are() -> Vec<Shape> {
    vec![
        of(
            "calls of one id",
            Anthropic,
            OpenAi,
            A_CALLS,
            |_| r#"{"type":"tool_use","id":"a","name":"t","input":{}}"#.into(),
            "]}]}",
        ),
        of(
            "calls of one id",
            OpenAi,
            Anthropic,
            O_CALLS,
            |_| r#"{"id":"a","type":"function","function":{"name":"t","arguments":"{}"}}"#.into(),
            "]}]}",
        ),
        of(
            "calls with free text",
            OpenAi,
            Anthropic,
            O_CALLS,
            |n| format!(r#"{{"id":"a{n}","type":"custom","custom":{{"name":"t","input":"\"ä\""}}}}"#),
            "]}]}",
        ),
        of(
            "custom tools",
            OpenAi,
            Responses,
            O_TOOLS,
            |n| format!(r#"{{"type":"custom","custom":{{"name":"t{n}"}}}}"#),
            "]}",
        ),
        of(
            "calls of one id",
            OpenAi,
            Gemini,
            O_CALLS,
            |_| r#"{"id":"a","type":"function","function":{"name":"t","arguments":"{}"}}"#.into(),
            "]}]}",
        ),
        of(
            "results",
            Anthropic,
            OpenAi,
            A_TURN,
            |n| format!(r#"{{"type":"tool_result","tool_use_id":"i{n}","content":"x"}}"#),
            "]}]}",
        ),
        of(
            "results",
            OpenAi,
            Anthropic,
            O_HEAD,
            |n| format!(r#"{{"role":"tool","tool_call_id":"i{n}","content":"x"}}"#),
            "]}",
        ),
        of(
            "unanswered calls",
            Anthropic,
            OpenAi,
            A_HEAD,
            |n| {
                format!(
                    r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"i{n}","name":"t","input":{{}}}}]}},{{"role":"user","content":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "lone calls",
            OpenAi,
            Anthropic,
            O_HEAD,
            |n| {
                format!(
                    r#"{{"role":"assistant","content":"x","tool_calls":[{{"id":"i{n}","type":"function","function":{{"name":"t","arguments":"{{}}"}}}}]}},{{"role":"system","content":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "names",
            Anthropic,
            OpenAi,
            A_TOOLS,
            |n| format!(r#"{{"name":"ä{n}","input_schema":{{"type":"object"}}}}"#),
            "]}",
        ),
        of(
            "names",
            OpenAi,
            Anthropic,
            O_TOOLS,
            |n| format!(r#"{{"type":"function","function":{{"name":"ä{n}"}}}}"#),
            "]}",
        ),
        of("unknown fields", Anthropic, OpenAi, A_FIELDS, |n| format!(r#""f{n}":1"#), "}"),
        of("unknown fields", OpenAi, Anthropic, O_FIELDS, |n| format!(r#""f{n}":1"#), "}"),
        of(
            "empty messages",
            Anthropic,
            OpenAi,
            A_HEAD,
            |_| r#"{"role":"user","content":[]}"#.into(),
            r#",{"role":"user","content":"x"}]}"#,
        ),
        of("empty messages", OpenAi, Gemini, O_HEAD, |_| r#"{"role":"user","content":""}"#.into(), "]}"),
        of("small parts", Anthropic, OpenAi, A_TURN, |_| r#"{"type":"text","text":"x"}"#.into(), "]}]}"),
        of("small parts", OpenAi, Anthropic, O_TURN, |_| r#"{"type":"text","text":"x"}"#.into(), "]}]}"),
        of(
            "parts of no kind",
            Gemini,
            OpenAi,
            G_PARTS,
            |n| if n == 0 { r#"{"text":"x"}"#.into() } else { "{}".into() },
            "]}]}",
        ),
        of(
            "nested input",
            Anthropic,
            OpenAi,
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"t","input":{"x":["#,
            |_| "[]".into(),
            r#"]}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"x"}]}]}"#,
        ),
        of(
            "tiny nodes in a schema",
            Anthropic,
            OpenAi,
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"t","input_schema":{"type":"object","properties":{},"x":["#,
            |_| "[]".into(),
            "]}}]}",
        ),
        of("objects in a schema", Anthropic, OpenAi, A_SCHEMA, |n| format!(r#""a{n}":{{"a":{{"a":{{}}}}}}"#), "}}}]}"),
        of(
            "deep schema",
            Anthropic,
            OpenAi,
            A_SCHEMA,
            |n| format!(r#""a{n}":{}0{}"#, r#"{"a":"#.repeat(80), "}".repeat(80)),
            "}}}]}",
        ),
        of(
            "deep field",
            OpenAi,
            Anthropic,
            O_FIELDS,
            |n| format!(r#""f{n}":{}0{}"#, r#"{"a":"#.repeat(80), "}".repeat(80)),
            "}",
        ),
        of(
            "escapes",
            Anthropic,
            OpenAi,
            A_TURN,
            |_| format!(r#"{{"type":"text","text":"{}"}}"#, r#"\""#.repeat(5000)),
            "]}]}",
        ),
        of(
            "escapes in calls",
            Anthropic,
            OpenAi,
            A_CALLS,
            |n| format!(r#"{{"type":"tool_use","id":"i{n}","name":"t","input":{{"a":"{}"}}}}"#, r#"\""#.repeat(5000)),
            "]}]}",
        ),
        of(
            "long texts",
            OpenAi,
            Anthropic,
            O_HEAD,
            |_| format!(r#"{{"role":"user","content":"{}"}}"#, "x".repeat(10_000)),
            "]}",
        ),
        of(
            "pictures",
            Anthropic,
            OpenAi,
            A_TURN,
            |_| {
                format!(
                    r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{}"}}}}"#,
                    "A".repeat(50_000)
                )
            },
            "]}]}",
        ),
        of(
            "responses without ids",
            Gemini,
            OpenAi,
            r#"{"contents":[{"role":"user","parts":[{"text":"x"}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},{"role":"user","parts":["#,
            |_| r#"{"functionResponse":{"name":"f","response":{"a":1}}}"#.into(),
            "]}]}",
        ),
        of(
            "results without names",
            Anthropic,
            Gemini,
            A_TURN,
            |n| format!(r#"{{"type":"tool_result","tool_use_id":"i{n}","content":"x"}}"#),
            "]}]}",
        ),
        of(
            "marks for a cache",
            Anthropic,
            OpenAi,
            A_TURN,
            |_| r#"{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}"#.into(),
            "]}]}",
        ),
    ]
}

/// The shapes of flat items and of namespaces.
fn responses() -> Vec<Shape> {
    vec![
        of("small parts", Anthropic, Responses, A_TURN, |_| r#"{"type":"text","text":"x"}"#.into(), "]}]}"),
        of(
            "results",
            Anthropic,
            Responses,
            A_TURN,
            |n| format!(r#"{{"type":"tool_result","tool_use_id":"i{n}","content":"x"}}"#),
            "]}]}",
        ),
        of(
            "lone calls",
            OpenAi,
            Responses,
            O_HEAD,
            |n| {
                format!(
                    r#"{{"role":"assistant","content":"x","tool_calls":[{{"id":"i{n}","type":"function","function":{{"name":"t","arguments":"{{}}"}}}}]}},{{"role":"system","content":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "names",
            OpenAi,
            Responses,
            O_TOOLS,
            |n| format!(r#"{{"type":"function","function":{{"name":"ä{n}"}}}}"#),
            "]}",
        ),
        of(
            "results without names",
            Gemini,
            Responses,
            r#"{"contents":[{"role":"user","parts":[{"text":"x"}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},{"role":"user","parts":["#,
            |_| r#"{"functionResponse":{"name":"f","response":{"a":1}}}"#.into(),
            "]}]}",
        ),
        of("messages of a user", Responses, OpenAi, R_ITEMS, |_| r#"{"role":"user","content":"x"}"#.into(), "]}"),
        of(
            "messages of the model",
            Responses,
            Anthropic,
            R_ITEMS,
            |_| r#"{"role":"assistant","content":"x"}"#.into(),
            R_END,
        ),
        of(
            "messages with fields",
            Responses,
            Gemini,
            R_ITEMS,
            |n| {
                format!(
                    r#"{{"type":"message","id":"msg_{n}","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"x","annotations":[]}}]}}"#
                )
            },
            R_END,
        ),
        of(
            "leading messages",
            Responses,
            Anthropic,
            R_LEADING,
            |_| r#"{"role":"developer","content":"x"}"#.into(),
            R_END,
        ),
        of("later messages", Responses, OpenAi, R_ITEMS, |_| r#"{"role":"developer","content":"x"}"#.into(), "]}"),
        of("small parts", Responses, Anthropic, R_TURN, |_| r#"{"type":"input_text","text":"x"}"#.into(), "]}]}"),
        of(
            "calls and outputs",
            Responses,
            Anthropic,
            R_ITEMS,
            |n| {
                format!(
                    r#"{{"type":"function_call","call_id":"i{n}","name":"t","arguments":"{{}}"}},{{"type":"function_call_output","call_id":"i{n}","output":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "calls of one id",
            Responses,
            Gemini,
            R_ITEMS,
            |_| r#"{"type":"function_call","call_id":"a","name":"t","arguments":"{}"}"#.into(),
            R_END,
        ),
        of(
            "calls in namespaces",
            Responses,
            OpenAi,
            R_ITEMS,
            |n| {
                format!(
                    r#"{{"type":"function_call","call_id":"i{n}","namespace":"n{n}","name":"t","arguments":"{{}}"}},{{"type":"function_call_output","call_id":"i{n}","output":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "outputs",
            Responses,
            Anthropic,
            R_ITEMS,
            |n| format!(r#"{{"type":"function_call_output","call_id":"i{n}","output":"x"}}"#),
            "]}",
        ),
        of(
            "free texts",
            Responses,
            Anthropic,
            R_ITEMS,
            |n| {
                let text = r#"\""#.repeat(5000);
                format!(
                    r#"{{"type":"custom_tool_call","call_id":"i{n}","name":"t","input":"{text}"}},{{"type":"custom_tool_call_output","call_id":"i{n}","output":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "huge arguments",
            Responses,
            OpenAi,
            R_ITEMS,
            |n| {
                let text = r#"\\\""#.repeat(50_000);
                format!(
                    r#"{{"type":"function_call","call_id":"i{n}","name":"t","arguments":"{{\"a\":\"{text}\"}}"}},{{"type":"function_call_output","call_id":"i{n}","output":"x"}}"#
                )
            },
            "]}",
        ),
        of(
            "thoughts",
            Responses,
            Anthropic,
            R_ITEMS,
            |n| {
                let sealed = "A".repeat(500);
                format!(
                    r#"{{"type":"reasoning","id":"rs_{n}","summary":[{{"type":"summary_text","text":"x"}},{{"type":"summary_text","text":"y"}}],"encrypted_content":"{sealed}"}}"#
                )
            },
            R_END,
        ),
        of(
            "paragraphs of a thought",
            Responses,
            Anthropic,
            r#"{"model":"m","input":[{"role":"user","content":"x"},{"type":"reasoning","summary":["#,
            |_| r#"{"type":"summary_text","text":"x"}"#.into(),
            r#"]},{"role":"user","content":"x"}]}"#,
        ),
        of(
            "pictures",
            Responses,
            Anthropic,
            R_TURN,
            |_| format!(r#"{{"type":"input_image","image_url":"data:image/png;base64,{}"}}"#, "A".repeat(50_000)),
            "]}]}",
        ),
        of("names", Responses, Anthropic, R_TOOLS, |n| format!(r#"{{"type":"function","name":"ä{n}"}}"#), "]}"),
        of(
            "names in a namespace",
            Responses,
            Anthropic,
            R_SPACE,
            |n| format!(r#"{{"type":"function","name":"f{n}"}}"#),
            "]}]}",
        ),
        of(
            "one name in a namespace",
            Responses,
            OpenAi,
            R_SPACE,
            |_| r#"{"type":"function","name":"f"}"#.into(),
            "]}]}",
        ),
        of(
            "namespaces",
            Responses,
            Gemini,
            R_TOOLS,
            |n| {
                format!(
                    r#"{{"type":"namespace","name":"n{n}","description":"d","tools":[{{"type":"function","name":"f"}}]}}"#
                )
            },
            "]}",
        ),
        of(
            "a namespace with a long description",
            Responses,
            Anthropic,
            r#"{"model":"m","input":"x","tools":[{"type":"namespace","name":"a","tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}],"description":["#,
            |_| format!("\"{}\"", "x".repeat(1000)),
            "]}]}",
        ),
        of(
            "tools of free text",
            Responses,
            Anthropic,
            R_TOOLS,
            |n| {
                format!(
                    r#"{{"type":"custom","name":"c{n}","format":{{"type":"grammar","syntax":"lark","definition":"{}"}}}}"#,
                    r#"\""#.repeat(500)
                )
            },
            "]}",
        ),
        of(
            "deep schema",
            Responses,
            OpenAi,
            R_SCHEMA,
            |n| format!(r#""a{n}":{}0{}"#, r#"{"a":"#.repeat(80), "}".repeat(80)),
            "}}}]}",
        ),
        of("unknown fields", Responses, Anthropic, R_FIELDS, |n| format!(r#""f{n}":1"#), "}"),
        of(
            "long texts",
            Responses,
            Gemini,
            R_ITEMS,
            |_| format!(r#"{{"role":"user","content":"{}"}}"#, "x".repeat(10_000)),
            "]}",
        ),
    ]
}
