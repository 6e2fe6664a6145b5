//! Tokens that an answer has used, and its reason to finish.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::usd::Usd;

/// The reason that a model stopped, the same for every provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended its answer, or reached a stop text.
    Stop,
    /// The model requests tool calls.
    ToolUse,
    /// The answer reached its `max_tokens`.
    Length,
    /// The context window is full.
    ContextFull,
    /// The provider's filter cut the answer.
    Filtered,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn; send the conversation back to go on.
    Paused,
    /// The model or its server failed midway (malformed call, no resources).
    ModelError(String),
    /// A reason unknown to this crate, in the provider's word.
    Other(String),
}

impl FinishReason {
    /// Returns the nearest reason of those that every protocol knows: clients' lists of words are closed, and an answer
    /// with another word is lost to some.
    ///
    /// An answer that was cut off counts as too long: its reader then takes it for a part.
    #[doc(hidden)]
    pub fn nearest(&self) -> &Self {
        const CUT: [&str; 13] = [
            "length",
            "max_token",
            "max_output",
            "abort",
            "cancel",
            "incomplete",
            "interrupt",
            "error",
            "timeout",
            "resource",
            "compact",
            "pause",
            "malformed",
        ];
        const WITHHELD: [&str; 8] =
            ["filter", "sensitive", "safety", "block", "guardrail", "prohibit", "policy", "refus"];
        const CALLS: [&str; 2] = ["tool", "function"];
        let word = match self {
            Self::ModelError(_) => return &Self::Length,
            Self::Other(word) => word.to_ascii_lowercase(),
            known => return known,
        };
        let is_one = |words: &[&str]| words.iter().any(|part| word.contains(part));
        match () {
            () if is_one(&CUT) => &Self::Length,
            () if is_one(&WITHHELD) => &Self::Filtered,
            () if is_one(&CALLS) => &Self::ToolUse,
            () => &Self::Stop,
        }
    }
}

/// The service tier in which a provider served an answer: later or faster than usual, for other money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServiceTier {
    /// The usual one.
    #[default]
    Standard,
    /// A batch, which may take a day.
    Batch,
    /// Spare capacity (OpenAI's and Google's `flex`).
    Flex,
    /// A faster answer (OpenAI's `priority` and `fast`, Google's `priority`, Anthropic's `fast` speed).
    Fast,
}

impl ServiceTier {
    /// Returns the tier of a provider's word. An unknown one is the usual tier's.
    #[doc(hidden)]
    pub fn of_word(word: &str) -> Self {
        match word {
            "batch" => Self::Batch,
            "flex" | "ON_DEMAND_FLEX" => Self::Flex,
            "priority" | "fast" | "ON_DEMAND_PRIORITY" => Self::Fast,
            _ => Self::Standard,
        }
    }

    /// Returns true for the usual one.
    #[doc(hidden)]
    pub fn is_standard(&self) -> bool {
        *self == Self::Standard
    }
}

/// Tokens, counted the same way for every provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Usage {
    /// All input tokens, those read from and written to the provider's cache included.
    pub input: u64,
    /// The part of `input` that came from the provider's cache.
    pub cache_read: u64,
    /// The part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning, if the provider reports it.
    pub reasoning: u64,
    /// The cost of the whole answer by the provider's own figure, if it reports one; or the sum of two models' parts,
    /// where one went on with the other's stream. Default: `None`; the tokens and the model's price tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
    /// The service tier, by the provider's word: `Standard`, `Batch`, `Flex` or `Fast`. Each may have its own
    /// [price](crate::prices::Price::in_service_tier).
    #[serde(skip_serializing_if = "ServiceTier::is_standard")]
    pub service_tier: ServiceTier,
}

impl Usage {
    /// Creates a usage of these input and output tokens.
    pub const fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            cache_read: 0,
            cache_write: 0,
            output,
            reasoning: 0,
            cost: None,
            service_tier: ServiceTier::Standard,
        }
    }

    /// Returns the sum of input and output.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Add for Usage {
    type Output = Self;

    /// Adds the tokens. The sum has an own cost if all of the tokens have one, and a service tier if all are of it.
    fn add(self, other: Self) -> Self {
        let service_tier = match (self.service_tier, other.service_tier) {
            (tier, _) if other.total() == 0 => tier,
            (_, tier) if self.total() == 0 => tier,
            (one, other) if one == other => one,
            _ => ServiceTier::Standard,
        };
        let cost = match (self.cost, other.cost) {
            (Some(one), Some(more)) => Some(one + more),
            (cost, None) if other.total() == 0 => cost,
            (None, cost) if self.total() == 0 => cost,
            _ => None,
        };
        Self {
            cost,
            service_tier,
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}
