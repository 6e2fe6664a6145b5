//! The wish for thoughts of a caller of Chat Completions, in all its spellings.
//!
//! OpenAI's own field is `reasoning_effort`. Other vendors' are `reasoning` (OpenRouter, with an effort or a number of
//! tokens), `thinking` (Anthropic's form, which LiteLLM, DeepSeek, Moonshot and Z.ai take too), and `enable_thinking`
//! with `thinking_budget` (Alibaba Cloud), by their references of November 2026.

use crate::{LlmError, chat::Thinking, fields::Object};

/// The fields, OpenAI's own first.
pub const FIELDS: &[&str] =
    &["reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget", "include_reasoning"];
/// The fields beside OpenAI's own.
pub const OTHERS: &[&str] = FIELDS.split_at(1).1;

/// The wish of a caller about thoughts.
#[derive(Debug, Default, PartialEq)]
pub struct ThinkingWish {
    /// The amount.
    pub amount: Option<Thinking>,
    /// True if the answer is to be without the thoughts.
    pub is_hidden: bool,
    /// The fields that say something else than the amount.
    pub others: Vec<&'static str>,
}

impl ThinkingWish {
    /// Reads the wish of a body in which [`FIELDS`] were looked for.
    ///
    /// Of several spellings one that says no counts first, then a number of tokens, then an effort. A bare yes says no
    /// more than these.
    pub fn of(body: &Object<'_>) -> Result<Self, LlmError> {
        let mut wish = Self { is_hidden: body.flag("include_reasoning") == Some(false), ..Self::default() };
        let mut said = vec![("reasoning_effort", effort(body, "reasoning_effort"))];
        if let Some(reasoning) = body.object("reasoning") {
            let reasoning = Object::read(reasoning, &["effort", "max_tokens", "enabled", "exclude"])?;
            said.push(("reasoning.effort", effort(&reasoning, "effort")));
            said.push(("reasoning.max_tokens", reasoning.number("max_tokens")?.map(of_tokens)));
            said.push(("reasoning.enabled", reasoning.flag("enabled").map(switch)));
            wish.is_hidden |= reasoning.flag("exclude") == Some(true);
        }
        if let Some(thinking) = body.object("thinking") {
            let thinking = Object::read(thinking, &["type", "budget_tokens", "display"])?;
            let kind = thinking.word("type").map(|kind| switch(kind != "disabled"));
            said.push(("thinking.type", kind));
            said.push(("thinking.budget_tokens", thinking.number("budget_tokens")?.map(of_tokens)));
            wish.is_hidden |= thinking.word("display").as_deref() == Some("omitted");
        }
        said.push(("enable_thinking", body.flag("enable_thinking").map(switch)));
        said.push(("thinking_budget", body.signed("thinking_budget").map(Thinking::of_tokens)));
        let said: Vec<(&str, Thinking)> = said.into_iter().filter_map(|(name, amount)| Some((name, amount?))).collect();
        let first = |rank: u8| said.iter().map(|(_, amount)| *amount).find(|amount| self::rank(*amount) == rank);
        wish.amount = (0..4).find_map(first);
        let is_other = |amount: Thinking| amount != Thinking::Auto && Some(amount) != wish.amount;
        wish.others = said.iter().filter(|(_, amount)| is_other(*amount)).map(|(name, _)| *name).collect();
        Ok(wish)
    }
}

fn effort(object: &Object<'_>, name: &str) -> Option<Thinking> {
    object.word(name).and_then(|word| Thinking::of_word(&word))
}

fn switch(is_on: bool) -> Thinking {
    if is_on { Thinking::Auto } else { Thinking::Off }
}

fn of_tokens(tokens: u32) -> Thinking {
    Thinking::of_tokens(tokens.into())
}

/// Returns the place of an amount among several: the lowest one counts.
fn rank(amount: Thinking) -> u8 {
    match amount {
        Thinking::Off => 0,
        Thinking::Budget(_) => 1,
        Thinking::Effort(_) => 2,
        Thinking::Auto => 3,
    }
}
