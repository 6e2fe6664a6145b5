use std::{fmt, sync::Arc};

use crate::{LlmRequest, estimate};

type When = dyn Fn(&LlmRequest) -> bool + Send + Sync;

/// The conditions under which a request is simple. All that are set must match; a rule without conditions takes
/// every request.
///
/// Sizes and tools are those of the decoded request. A request that cannot be decoded matches no rule that sets
/// them. Clones share the function.
#[derive(Clone)]
pub struct Rule {
    pub(super) name: Arc<str>,
    features: Vec<Arc<str>>,
    max_input: Option<u64>,
    max_output: Option<u64>,
    tools: Option<bool>,
    when: Option<Arc<When>>,
}

impl Rule {
    /// Creates a rule of this name, which logs and metrics use.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), features: Vec::new(), max_input: None, max_output: None, tools: None, when: None }
    }

    /// Takes requests of this feature. Each further call adds a feature. Default: every feature, and none.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<Arc<str>>) -> Self {
        self.features.push(feature.into());
        self
    }

    /// Takes requests of at most so many input tokens, estimated at a token for four bytes of text. Default: any
    /// number.
    #[must_use]
    pub fn max_input_tokens(mut self, tokens: u64) -> Self {
        self.max_input = Some(tokens);
        self
    }

    /// Takes requests that ask for at most so many output tokens. A request that sets no limit asks for more.
    /// Default: any number.
    #[must_use]
    pub fn max_output_tokens(mut self, tokens: u64) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// Takes only requests with tools, or only those without. Default: both.
    #[must_use]
    pub fn tools(mut self, with: bool) -> Self {
        self.tools = Some(with);
        self
    }

    /// Takes only requests without tools: `tools(false)`.
    #[must_use]
    pub fn no_tools(self) -> Self {
        self.tools(false)
    }

    /// Takes requests for which this function returns true. It runs last, once for each request, and must not
    /// block.
    #[must_use]
    pub fn when(mut self, fits: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(fits));
        self
    }

    /// Returns whether the request matches.
    pub(super) fn fits(&self, request: &LlmRequest) -> bool {
        let feature = request.feature();
        if !self.features.is_empty() && !self.features.iter().any(|known| Some(&**known) == feature) {
            return false;
        }
        if (self.max_input, self.max_output, self.tools) != (None, None, None) {
            let Ok(chat) = request.chat() else { return false };
            let too_long = self.max_input.is_some_and(|most| estimate::prompt(chat) > most);
            let too_much =
                self.max_output.is_some_and(|most| chat.max_tokens.is_none_or(|asked| u64::from(asked) > most));
            let wrong_tools = self.tools.is_some_and(|with| with == chat.tools.is_empty());
            if too_long || too_much || wrong_tools {
                return false;
            }
        }
        self.when.as_ref().is_none_or(|fits| fits(request))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("features", &self.features)
            .field("max_input", &self.max_input)
            .field("max_output", &self.max_output)
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Dialect, Wire,
        chat::{Chat, Message, Tool},
    };

    fn chat() -> Chat {
        Chat::new([Message::user("x".repeat(400))])
    }

    #[test]
    fn all_that_is_set_must_fit() {
        let summary = || LlmRequest::from(chat().max_tokens(50)).with_feature("summary");
        let with_tools = LlmRequest::from(chat().tool(Tool::new("t", json!({}))));
        let (plain, rule) = (LlmRequest::from(chat()), || Rule::new("r"));
        for (rule, request, fits) in [
            (rule(), &plain, true),
            (rule().feature("summary"), &summary(), true),
            (rule().feature("title").feature("summary"), &summary(), true),
            (rule().feature("title"), &summary(), false),
            (rule().feature("title"), &plain, false),
            (rule().max_input_tokens(100), &plain, true),
            (rule().max_input_tokens(99), &plain, false),
            (rule().max_output_tokens(50), &summary(), true),
            (rule().max_output_tokens(49), &summary(), false),
            (rule().max_output_tokens(50), &plain, false),
            (rule().no_tools(), &plain, true),
            (rule().no_tools(), &with_tools, false),
            (rule().tools(true), &with_tools, true),
            (rule().tools(true), &plain, false),
            (rule().when(|request| request.is_stream()), &plain, false),
            (rule().when(|request| !request.is_stream()), &plain, true),
            (rule().feature("summary").max_input_tokens(99).when(|_| true), &summary(), false),
        ] {
            assert_eq!(rule.fits(request), fits, "{rule:?} {request:?}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_not_simple() {
        let request = LlmRequest::from(Wire::new(Dialect::OpenAi, r#"{"messages": 7}"#).unwrap());
        assert!(!Rule::new("r").max_input_tokens(1000).fits(&request));
        assert!(Rule::new("r").fits(&request));
    }
}
