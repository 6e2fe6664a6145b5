//! The number that was billed, as answers of several forms report it.

use memchr::memmem;
use serde::Deserialize;

use super::Unit;
use crate::{
    chat::Usage,
    prices::{
        Usd,
        own_cost::{self, OwnCost, Upstream},
    },
};

/// The bytes at each end of an answer in which the number is looked for: the rest may be megabytes of vectors.
const ENDS: usize = 4096;

/// The objects that have the number, in the spelling of each provider.
const NAMES: [&str; 3] = ["\"usage\"", "\"billed_units\"", "\"usageMetadata\""];

/// The number, under each name that a provider has for it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Billed {
    #[serde(alias = "input_tokens", alias = "promptTokenCount")]
    prompt_tokens: Option<f64>,
    #[serde(alias = "output_tokens", alias = "candidatesTokenCount")]
    completion_tokens: Option<f64>,
    #[serde(alias = "totalTokenCount")]
    total_tokens: Option<f64>,
    search_units: Option<f64>,
    seconds: Option<f64>,
    /// The provider's own figure of the cost.
    #[serde(deserialize_with = "own_cost::dollars")]
    cost: Option<Usd>,
    cost_details: Option<Upstream>,
    #[serde(deserialize_with = "own_cost::flag")]
    is_byok: bool,
    #[serde(deserialize_with = "own_cost::ticks")]
    cost_in_usd_ticks: Option<Usd>,
}

/// Returns the use of an answer, if it is known.
pub(super) fn usage(answer: &[u8], unit: Unit) -> Option<Usage> {
    let billed = billed(answer).unwrap_or_default();
    let own = OwnCost { cost: billed.cost, upstream: billed.cost_details, ticks: billed.cost_in_usd_ticks };
    let cost = own.total(billed.is_byok);
    let units = billed.units(unit).or_else(|| cost.map(|_| Usage::default()));
    units.map(|usage| Usage { cost, ..usage })
}

impl Billed {
    /// Returns the units that were used, if they are known.
    fn units(&self, unit: Unit) -> Option<Usage> {
        let reported = match unit {
            Unit::Searches => self.search_units.map(whole),
            Unit::Seconds => self.seconds.map(|seconds| whole(seconds.ceil())),
            Unit::Fixed(_) | Unit::Tokens => None,
        };
        let otherwise = match unit {
            Unit::Fixed(units) => Some(units),
            Unit::Searches => Some(1),
            Unit::Seconds | Unit::Tokens => None,
        };
        let units = |units| Usage::new(units, 0);
        reported.map(units).or_else(|| self.tokens()).or_else(|| otherwise.map(units))
    }

    fn tokens(&self) -> Option<Usage> {
        let output = self.completion_tokens.map_or(0, whole);
        let input = || Some(whole(self.total_tokens?).saturating_sub(output));
        Some(Usage::new(self.prompt_tokens.map(whole).or_else(input)?, output))
    }
}

/// Returns a number of JSON as one to count with. The cast saturates.
fn whole(number: f64) -> u64 {
    number as u64
}

fn billed(answer: &[u8]) -> Option<Billed> {
    let tail = &answer[answer.len().saturating_sub(ENDS)..];
    let head = &answer[..answer.len().min(ENDS)];
    let in_part = |part: &[u8]| {
        let ends = NAMES.iter().filter_map(|name| Some(memmem::rfind(part, name.as_bytes())? + name.len()));
        let value = part[ends.max()?..].trim_ascii_start().strip_prefix(b":")?;
        serde_json::Deserializer::from_slice(value).into_iter().next()?.ok()
    };
    in_part(tail).or_else(|| in_part(head).filter(|_| answer.len() > ENDS))
}
