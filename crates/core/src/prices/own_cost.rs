//! A provider's own figure of an answer's cost, in the forms of several.
//!
//! | form | server |
//! |---|---|
//! | `usage.cost`, in dollars | OpenRouter, Vercel's gateway, Avian, and servers like them |
//! | beside it `is_byok` and `cost_details.upstream_inference_cost` | OpenRouter, for a caller with a vendor's own key: the fee, and the vendor's bill |
//! | `usage.cost.total_cost` | Perplexity |
//! | `cost.usd` beside `usage` | Venice |
//! | `usage.cost_in_usd_ticks`, ten billion to a dollar | xAI |
//! | the headers in `HEADERS` | LiteLLM's proxy, and this crate's gateway |
//!
//! A figure of nothing counts as none: servers that do not bill write it too, and it would open a cap.

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Usd;
use crate::chat::{ServiceTier, Usage};

/// The headers of an answer's cost in dollars.
static HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("x-steadfast-cost-usd"), HeaderName::from_static("x-litellm-response-cost")];

/// The header in which Google's API for developers tells the service tier.
static SERVICE_TIER: HeaderName = HeaderName::from_static("x-gemini-service-tier");

/// The fields of a `usage` that tell its cost. Each tolerates a value of any type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct OwnCost {
    pub cost: Option<Usd>,
    /// The vendor's own bill, if it comes beside that figure.
    pub upstream: Option<Upstream>,
    pub ticks: Option<Usd>,
}

/// The bill of a caller's own account at a vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[doc(hidden)]
pub struct Upstream {
    #[serde(default, deserialize_with = "dollars")]
    upstream_inference_cost: Option<Usd>,
}

impl OwnCost {
    /// Returns the whole cost. `is_upstream_billed`: the caller pays the vendor too.
    pub fn total(self, is_upstream_billed: bool) -> Option<Usd> {
        if !is_upstream_billed {
            return self.cost.or(self.ticks);
        }
        let bill = self.upstream?.upstream_inference_cost?;
        Some(bill + self.cost.unwrap_or_default())
    }
}

/// Reads dollars: a number, or an object with the total.
///
/// # Errors
///
/// The value is no JSON.
#[doc(hidden)]
pub fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usd>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        // Venice's other currency is no money.
        Value::Object(fields) => fields.get("total_cost").or_else(|| fields.get("usd")),
        number => Some(number),
    };
    Ok(number.and_then(Value::as_f64).and_then(known))
}

/// Reads ten-billionths of a dollar.
///
/// # Errors
///
/// The value is no JSON.
#[doc(hidden)]
pub fn ticks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usd>, D::Error> {
    let ticks = Value::deserialize(deserializer)?.as_u64().filter(|ticks| *ticks > 0);
    Ok(ticks.map(|ticks| Usd::from_nanos(ticks.div_ceil(10))))
}

/// Reads a flag; any other value than `true` is false.
///
/// # Errors
///
/// The value is no JSON.
#[doc(hidden)]
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|value| value == Value::Bool(true))
}

/// The part of an answer's cost that its headers tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct HeaderCost {
    cost: Option<Usd>,
    service_tier: ServiceTier,
}

impl HeaderCost {
    /// Reads the headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
        let cost = HEADERS.iter().find_map(|name| known(text(name)?.parse().ok()?));
        Self { cost, service_tier: text(&SERVICE_TIER).map(ServiceTier::of_word).unwrap_or_default() }
    }

    /// Adds what the body of a whole answer does not tell.
    pub fn complete(&self, usage: &mut Usage) {
        usage.cost = usage.cost.or(self.cost);
        self.complete_streamed(usage);
    }

    /// Adds what the events of a stream do not tell. Its cost is not known when its headers are written.
    pub fn complete_streamed(&self, usage: &mut Usage) {
        if usage.service_tier.is_standard() {
            usage.service_tier = self.service_tier;
        }
    }
}

/// Returns an amount that is more than nothing.
fn known(dollars: f64) -> Option<Usd> {
    Usd::from_dollars(dollars).filter(|amount| *amount > Usd::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Fields {
        #[serde(default, deserialize_with = "dollars")]
        cost: Option<Usd>,
        #[serde(default, deserialize_with = "ticks")]
        ticks: Option<Usd>,
        #[serde(default, deserialize_with = "flag")]
        flag: bool,
        #[serde(default)]
        upstream: Option<Upstream>,
    }

    fn total(json: &str) -> Option<u64> {
        let Fields { cost, ticks, flag, upstream } = serde_json::from_str(json).unwrap();
        OwnCost { cost, upstream, ticks }.total(flag).map(Usd::nanos)
    }

    #[test]
    fn each_form_is_read_and_nonsense_is_no_figure() {
        for (json, nanos) in [
            (r#"{"cost": 0.001185}"#, Some(1_185_000)),
            (r#"{"cost": 2e-8}"#, Some(20)),
            (r#"{"cost": {"input_tokens_cost": 2e-05, "total_cost": 0.00503}}"#, Some(5_030_000)),
            (r#"{"cost": {"usd": 0.0001578, "diem": 0}}"#, Some(157_800)),
            (r#"{"cost": {"diem": 2}}"#, None),
            (r#"{"ticks": 1654500}"#, Some(165_450)),
            (r#"{"ticks": 1}"#, Some(1)),
            (r#"{"cost": 0.001, "flag": true, "upstream": {"upstream_inference_cost": 0.02}}"#, Some(21_000_000)),
            (r#"{"cost": 0, "flag": true, "upstream": {"upstream_inference_cost": 0.02}}"#, Some(20_000_000)),
            (r#"{"cost": 0.001, "flag": true, "upstream": {"upstream_inference_cost": null}}"#, None),
            (r#"{"cost": 0.001, "flag": true}"#, None),
            (r#"{"cost": 0.001, "flag": false, "upstream": {"upstream_inference_cost": 0.02}}"#, Some(1_000_000)),
            (r#"{"cost": 0}"#, None),
            (r#"{"cost": -1}"#, None),
            (r#"{"cost": 1e300}"#, None),
            (r#"{"cost": "0.5"}"#, None),
            (r#"{"cost": null, "ticks": null, "flag": null, "upstream": null}"#, None),
            (r#"{"cost": [1], "ticks": {"a": 1}, "flag": 1}"#, None),
            ("{}", None),
        ] {
            assert_eq!(total(json), nanos, "{json}");
        }
    }

    #[test]
    fn a_header_is_an_amount_or_none() {
        let cost = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            HeaderCost::of(&headers).cost.map(Usd::nanos)
        };
        // As LiteLLM's proxy was recorded.
        assert_eq!(cost("x-litellm-response-cost", "7.099999999999999e-05"), Some(71_000));
        assert_eq!(cost("x-steadfast-cost-usd", "0.012"), Some(12_000_000));
        for nonsense in ["", "None", "0", "0.0", "-1", "NaN", "inf", "$1", "1e300"] {
            assert_eq!(cost("x-litellm-response-cost", nonsense), None, "{nonsense}");
        }
        assert_eq!(cost("x-cost", "1"), None);
    }
}
