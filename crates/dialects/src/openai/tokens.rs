use serde::Deserialize;

use crate::{
    chat::{ServiceTier, Usage},
    json::{Count, object},
    prices::{
        Usd,
        own_cost::{self, OwnCost, Upstream},
    },
};

/// The tokens used, in the counts of this protocol's servers.
///
/// OpenAI counts cached tokens within `prompt_tokens` and reasoning within `completion_tokens`, and `total_tokens` is
/// the sum. Others count some tokens beside these and add them to the total alone, or to nothing: the total and the
/// details show it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    total_tokens: Count,
    #[serde(default, deserialize_with = "object")]
    prompt_tokens_details: Option<PromptDetails>,
    /// Mistral's older name for it, which may stand beside the other.
    #[serde(default, deserialize_with = "object")]
    prompt_token_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "object")]
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's name of the cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
    /// Moonshot's, and that of servers built on SGLang.
    #[serde(default)]
    cached_tokens: Count,
    /// Mistral's.
    #[serde(default)]
    num_cached_tokens: Count,
    /// Venice's and Doubleword's, after Anthropic.
    #[serde(default)]
    cache_read_input_tokens: Count,
    #[serde(default)]
    cache_creation_input_tokens: Count,
    /// Perplexity's and Copilot's place for it.
    #[serde(default)]
    reasoning_tokens: Count,
    /// The server's own figure of the cost.
    #[serde(default, deserialize_with = "own_cost::dollars")]
    cost: Option<Usd>,
    #[serde(default, deserialize_with = "object")]
    cost_details: Option<Upstream>,
    #[serde(default, deserialize_with = "own_cost::flag")]
    is_byok: bool,
    #[serde(default, deserialize_with = "own_cost::ticks")]
    cost_in_usd_ticks: Option<Usd>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
    #[serde(default)]
    audio_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Tokens {
    /// Converts to the neutral form. `cost` and `service_tier` are what stands beside the tokens.
    pub(super) fn usage(self, cost: Option<Usd>, service_tier: ServiceTier) -> Usage {
        let prompt = self.prompt_tokens_details.or(self.prompt_token_details).unwrap_or_default();
        let completion = self.completion_tokens_details.unwrap_or_default();
        let mut usage = Usage::new(self.prompt_tokens.get(), self.completion_tokens.get());
        usage.cache_read = first_of([
            prompt.cached_tokens,
            self.prompt_cache_hit_tokens,
            self.num_cached_tokens,
            self.cached_tokens,
            self.cache_read_input_tokens,
        ]);
        usage.cache_write = first_of([prompt.cache_write_tokens, self.cache_creation_input_tokens]);
        usage.reasoning = first_of([completion.reasoning_tokens, self.reasoning_tokens]);
        let own = OwnCost { cost: self.cost.or(cost), upstream: self.cost_details, ticks: self.cost_in_usd_ticks };
        (usage.cost, usage.service_tier) = (own.total(self.is_byok), service_tier);
        let beside = self.total_tokens.get().saturating_sub(usage.total());
        if beside > 0 && beside == prompt.audio_tokens.get() {
            // Mistral counts sound beside the text that came with it.
            usage.input = usage.input.saturating_add(beside);
        } else if beside > 0 {
            // xAI's reasoning; or the thoughts of Google's own endpoint of this protocol, which names them nowhere.
            usage.output = usage.output.saturating_add(beside);
        } else if usage.reasoning > usage.output {
            // A part is no larger than its whole: a router, or Perplexity, has left it out of the total too.
            usage.output = usage.output.saturating_add(usage.reasoning);
        }
        usage
    }
}

/// Returns the first of these that a server reports at all.
fn first_of<const N: usize>(counts: [Count; N]) -> u64 {
    counts.into_iter().find_map(|count| count.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input, output, read from the cache, written to it, reasoning.
    fn counted(json: &str) -> [u64; 5] {
        let usage = serde_json::from_str::<Tokens>(json).unwrap().usage(None, ServiceTier::Standard);
        [usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning]
    }

    #[test]
    fn reasoning_within_the_output_is_counted_once() {
        // OpenAI and Moonshot, as recorded.
        let within = r#"{"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50,
            "completion_tokens_details": {"reasoning_tokens": 22}}"#;
        assert_eq!(counted(within), [20, 30, 0, 0, 22]);
        // DeepSeek's answer that is only a thought.
        let all = r#"{"completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 1}, "prompt_tokens": 20,
            "total_tokens": 21}"#;
        assert_eq!(counted(all), [20, 1, 0, 0, 1]);
    }

    #[test]
    fn reasoning_beside_the_output_is_output() {
        // xAI's documentation: the total is the sum of prompt, completion and reasoning.
        let named = r#"{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35, "reasoning_tokens": 20}"#;
        assert_eq!(counted(named), [10, 25, 0, 0, 20]);
        let xai = r#"{"prompt_tokens": 496, "completion_tokens": 77, "total_tokens": 829,
            "prompt_tokens_details": {"text_tokens": 496, "audio_tokens": 0, "cached_tokens": 320},
            "completion_tokens_details": {"reasoning_tokens": 256, "audio_tokens": 0}}"#;
        assert_eq!(counted(xai), [496, 333, 320, 0, 256]);
        // Vercel's gateway leaves it out of the total too; what it charges for the answer is 106 tokens.
        let vercel = r#"{"prompt_tokens": 61, "completion_tokens": 10, "total_tokens": 71,
            "completion_tokens_details": {"reasoning_tokens": 96}}"#;
        assert_eq!(counted(vercel), [61, 106, 0, 0, 96]);
        // Google's endpoint of this protocol reports its thoughts in the total alone.
        let google = r#"{"completion_tokens": 12, "prompt_tokens": 35, "total_tokens": 109}"#;
        assert_eq!(counted(google), [35, 74, 0, 0, 0]);
    }

    #[test]
    fn sound_beside_the_prompt_is_input() {
        let mistral = r#"{"completion_tokens": 15, "prompt_audio_seconds": 5, "prompt_tokens": 11,
            "prompt_tokens_details": {"audio_tokens": 375, "cached_tokens": 9}, "total_tokens": 401}"#;
        assert_eq!(counted(mistral), [386, 15, 9, 0, 0]);
        // OpenAI's is included.
        let openai = r#"{"prompt_tokens": 59, "completion_tokens": 123, "total_tokens": 182,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 43, "text_tokens": 16}}"#;
        assert_eq!(counted(openai), [59, 123, 0, 0, 0]);
    }

    #[test]
    fn cached_tokens_have_many_names() {
        for (name, json) in [
            ("OpenAI", r#""prompt_tokens_details": {"cached_tokens": 32}"#),
            ("DeepSeek", r#""prompt_cache_hit_tokens": 32, "prompt_cache_miss_tokens": 947"#),
            ("Mistral", r#""num_cached_tokens": 32"#),
            ("Mistral, older", r#""prompt_token_details": {"cached_tokens": 32}"#),
            (
                "Mistral, both",
                r#""prompt_tokens_details": {"cached_tokens": 32}, "prompt_token_details": {"cached_tokens": 32}"#,
            ),
            ("Moonshot", r#""cached_tokens": 32, "prompt_tokens_details": null"#),
            ("Venice", r#""cache_read_input_tokens": 32, "prompt_tokens_details": {"cached_tokens": 32}"#),
            ("Doubleword", r#""cache_read_input_tokens": 32, "cache_creation_input_tokens": 0"#),
        ] {
            let json = format!(r#"{{"prompt_tokens": 979, "completion_tokens": 152, "total_tokens": 1131, {json}}}"#);
            assert_eq!(counted(&json), [979, 152, 32, 0, 0], "{name}");
        }
        let written =
            r#"{"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cache_creation_input_tokens": 7}"#;
        assert_eq!(counted(written), [9, 1, 0, 7, 0]);
    }

    #[test]
    fn counts_without_a_total_are_as_they_are() {
        assert_eq!(counted(r#"{"prompt_tokens": 10, "completion_tokens": 5}"#), [10, 5, 0, 0, 0]);
        assert_eq!(counted("{}"), [0; 5]);
        let huge = r#"{"prompt_tokens": 18446744073709551615, "completion_tokens": 18446744073709551615,
            "total_tokens": 18446744073709551615, "reasoning_tokens": 18446744073709551615}"#;
        assert_eq!(counted(huge)[..2], [u64::MAX; 2]);
    }
}
