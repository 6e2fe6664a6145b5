//! The capabilities of a tier, and the needs of a request.

use std::fmt;

use crate::{
    ErrorKind, LlmRequest,
    chat::{Chat, Part, Role},
    estimate,
};

/// The capabilities of a tier. A request that needs more is not sent to it.
///
/// Every capability is unknown until it is set, and an unknown one is allowed. If any tier of a fallback sets one,
/// the fallback inspects each request once, and decodes one in wire form for that.
///
/// ```
/// use steadfast::{
///     FallbackLayer,
///     layers::fallback::{Capabilities, Tier, TierSettings},
///     providers::Canned,
/// };
///
/// let small = Tier::new("small", Canned::text("later")).capabilities(Capabilities::new().images(false).max_output(4096));
/// let large = TierSettings::new().context_window(200_000);
/// let layer = FallbackLayer::new("large").primary(large).push(small);
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    images: Option<bool>,
    documents: Option<bool>,
    tools: Option<bool>,
    output_schema: Option<bool>,
    prefill: Option<bool>,
    pub(crate) context_window: Option<u64>,
    max_output: Option<u64>,
}

impl Capabilities {
    /// Creates capabilities of which none is known: every request may be sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the model accepts pictures, those in a tool's result included.
    #[must_use]
    pub fn images(mut self, can: bool) -> Self {
        self.images = Some(can);
        self
    }

    /// Sets whether the model reads documents, such as PDFs, those in a tool's result included.
    #[must_use]
    pub fn documents(mut self, can: bool) -> Self {
        self.documents = Some(can);
        self
    }

    /// Sets whether the model calls tools. A conversation in which tools were called needs it too.
    #[must_use]
    pub fn tools(mut self, can: bool) -> Self {
        self.tools = Some(can);
        self
    }

    /// Sets whether the model can be held to a JSON Schema. A request for any JSON does not need it.
    #[must_use]
    pub fn output_schema(mut self, can: bool) -> Self {
        self.output_schema = Some(can);
        self
    }

    /// Sets whether the model continues an answer that the request has begun: one whose last turn is the
    /// assistant's.
    #[must_use]
    pub fn prefill(mut self, can: bool) -> Self {
        self.prefill = Some(can);
        self
    }

    /// Sets how many tokens fit into the context window.
    ///
    /// The prompt is estimated, at a token for four bytes of text and 1,600 for a picture or a document. A request
    /// is kept from the tier only if three quarters of that, and its `max_tokens`, exceed the window. A request
    /// that would have fitted must not be refused, and one that is sent in vain fails with
    /// [`ContextLength`](ErrorKind::ContextLength) and goes to a larger window.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.context_window = Some(tokens);
        self
    }

    /// Sets the longest answer in tokens: the largest `max_tokens` that the model takes.
    #[must_use]
    pub fn max_output(mut self, tokens: u64) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// Returns whether any capability was set.
    pub(crate) fn is_limited(&self) -> bool {
        *self != Self::default()
    }

    /// Returns the request's needs that the tier cannot meet.
    pub(crate) fn lacks(&self, needs: &Needs) -> Option<Lack> {
        let lacks = |can: Option<bool>, needed: Option<usize>| needed.filter(|_| can == Some(false));
        let lack = Lack {
            image: lacks(self.images, needs.image),
            document: lacks(self.documents, needs.document),
            tools: self.tools == Some(false) && needs.tools,
            output_schema: self.output_schema == Some(false) && needs.output_schema,
            prefill: self.prefill == Some(false) && needs.prefill,
            max_output: exceeds(needs.output, self.max_output),
            context_window: exceeds(Some(needs.window()), self.context_window),
        };
        (lack != Lack::default()).then_some(lack)
    }
}

/// Returns the demand and the limit, if the first exceeds the second.
fn exceeds(asked: Option<u64>, limit: Option<u64>) -> Option<(u64, u64)> {
    asked.zip(limit).filter(|(asked, limit)| asked > limit)
}

/// A request's needs of the tier that answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The first message that contains one.
    image: Option<usize>,
    document: Option<usize>,
    tools: bool,
    output_schema: bool,
    prefill: bool,
    /// The approximate number of the prompt's tokens.
    prompt: u64,
    /// The longest answer asked for.
    output: Option<u64>,
}

impl Needs {
    /// Returns the request's needs, or `None` if it cannot be decoded here: a leaf of its own dialect may know
    /// better.
    pub(crate) fn of(request: &LlmRequest) -> Option<Self> {
        request.chat().ok().map(Self::of_chat)
    }

    fn of_chat(chat: &Chat) -> Self {
        let mut needs = Self {
            tools: !chat.tools.is_empty(),
            output_schema: chat.output.as_ref().is_some_and(|output| output.schema.is_some()),
            prefill: chat.messages.last().is_some_and(|message| message.role == Role::Assistant),
            prompt: estimate::prompt(chat),
            output: chat.max_tokens.map(u64::from),
            ..Self::default()
        };
        for (place, message) in chat.messages.iter().enumerate() {
            for part in &message.content {
                needs.add(place, part);
            }
        }
        needs
    }

    #[warn(clippy::wildcard_enum_match_arm, reason = "each part says what it needs")]
    fn add(&mut self, place: usize, part: &Part) {
        match part {
            Part::Image(_) => _ = self.image.get_or_insert(place),
            Part::Document(_) => _ = self.document.get_or_insert(place),
            Part::ToolCall(_) => self.tools = true,
            Part::ToolResult(result) => {
                self.tools = true;
                for part in &result.content {
                    self.add(place, part);
                }
            }
            Part::Text(_) | Part::Reasoning(_) | Part::Refusal(_) | Part::Other { .. } | Part::Extra { .. } => {}
            _ => {}
        }
    }

    /// Returns the least window that it needs: the estimate, less a quarter for its possible error.
    fn window(&self) -> u64 {
        (self.prompt - self.prompt / 4).saturating_add(self.output.unwrap_or(0))
    }
}

/// The capabilities that a tier lacks for a request, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lack {
    image: Option<usize>,
    document: Option<usize>,
    tools: bool,
    output_schema: bool,
    prefill: bool,
    max_output: Option<(u64, u64)>,
    context_window: Option<(u64, u64)>,
}

impl Lack {
    /// Returns the kind of failure that the tier would have returned.
    pub(crate) fn kind(&self) -> ErrorKind {
        let window_alone = Self { context_window: self.context_window, ..Self::default() };
        if *self == window_alone { ErrorKind::ContextLength } else { ErrorKind::UnsupportedFeature }
    }
}

impl fmt::Display for Lack {
    /// Lists the missing capabilities, each with the field of the request that needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = [
            self.image.map(|place| format!("images (messages[{place}])")),
            self.document.map(|place| format!("documents (messages[{place}])")),
            self.tools.then(|| "tools".to_owned()),
            self.output_schema.then(|| "output_schema".to_owned()),
            self.prefill.then(|| "prefill (the last message is the assistant's)".to_owned()),
            self.max_output.map(|(asked, limit)| format!("max_output (max_tokens is {asked}, at most {limit})")),
            self.context_window.map(|(asked, limit)| format!("context_window (at least {asked} tokens, {limit} fit)")),
        ];
        for (place, missing) in missing.iter().flatten().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            f.write_str(missing)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{Image, Media, Message, OutputSchema, Tool, ToolResult};

    fn image() -> Part {
        Part::Image(Image { media: Media::Url("https://example.com/a.png".into()) })
    }

    fn lack(capabilities: Capabilities, chat: &Chat) -> Option<String> {
        capabilities.lacks(&Needs::of_chat(chat)).map(|lack| lack.to_string())
    }

    #[test]
    fn each_need_is_met_unless_the_tier_says_no() {
        let none = Capabilities::new();
        let hello = || Chat::new([Message::user("hello")]);
        let mut picture = hello();
        picture.messages.push(Message::new(Role::User, vec![image()]));
        let mut result = ToolResult::new("1", "seen");
        result.content.push(image());
        let shown = Chat::new([Message::new(Role::User, vec![Part::ToolResult(result)])]);
        let mut schema = hello();
        schema.output = Some(OutputSchema { name: "a".into(), schema: Some(json!({}).into()), strict: true });
        let mut begun = hello();
        begun.messages.push(Message::assistant("{"));
        let cases = [
            (picture, none.images(false), none.images(true), "images (messages[1])"),
            (shown.clone(), none.images(false), none.tools(true), "images (messages[0])"),
            (shown, none.tools(false), none.images(true), "tools"),
            (hello().tool(Tool::new("t", json!({}))), none.tools(false), none.tools(true), "tools"),
            (schema, none.output_schema(false), none.output_schema(true), "output_schema"),
            (begun, none.prefill(false), none.prefill(true), "prefill (the last message is the assistant's)"),
            (
                hello().max_tokens(9000),
                none.max_output(8192),
                none.max_output(9000),
                "max_output (max_tokens is 9000, at most 8192)",
            ),
        ];
        for (chat, cannot, can, said) in cases {
            assert_eq!(lack(cannot, &chat).as_deref(), Some(said));
            assert_eq!(lack(can, &chat), None, "{said}");
            assert_eq!(lack(none, &chat), None, "what is unknown is allowed: {said}");
            assert_eq!(lack(cannot, &hello()), None, "{said}");
        }
    }

    #[test]
    fn any_json_needs_no_schema() {
        let mut chat = Chat::new([Message::user("hello")]);
        chat.output = Some(OutputSchema { name: "a".into(), schema: None, strict: false });
        assert_eq!(lack(Capabilities::new().output_schema(false), &chat), None);
    }

    #[test]
    fn a_window_refuses_only_what_is_clearly_too_long() {
        // 400,000 bytes: some 100,000 tokens, and at the least 75,000.
        let chat = Chat::new([Message::user("x".repeat(400_000))]);
        assert_eq!(lack(Capabilities::new().context_window(75_000), &chat), None);
        let lacks = Capabilities::new().context_window(74_999).lacks(&Needs::of_chat(&chat)).unwrap();
        assert_eq!(lacks.kind(), ErrorKind::ContextLength);
        assert_eq!(lacks.to_string(), "context_window (at least 75000 tokens, 74999 fit)");
        let chat = chat.max_tokens(1);
        assert!(lack(Capabilities::new().context_window(75_000), &chat).is_some(), "the answer needs room too");
    }
}
