//! The models that a request's body names beside its own: for a key that is for some models alone.
//!
//! Gateways and providers take further names: OpenRouter's `models` and `route`, LiteLLM's `fallbacks` and
//! `extra_body`, a hosted tool's own `model`, the `params` of a batch's requests, the lines of a batch's file. The key
//! must be for each.

use std::{collections::BTreeSet, fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use steadfast::{ErrorKind, LlmError};

use super::{failure::Failure, keys::Key, large_body::beside};

/// Checks that a key is for all models that a body of JSON names.
///
/// # Errors
///
/// It is not for one of them, or the body leaves the choice to a provider.
pub(super) async fn check(key: Option<&Arc<Key>>, body: &Bytes) -> Result<(), Failure> {
    let Some(key) = key.filter(|key| key.is_for_some_models()) else { return Ok(()) };
    let body = body.clone();
    beside(body.len(), move || NamedModels::of(&body)).await?.check(key)
}

/// The models that bodies name.
#[derive(Debug, Default)]
pub(super) struct NamedModels {
    models: BTreeSet<String>,
    /// A field by which a provider chooses the model.
    chooser: Option<&'static str>,
}

impl NamedModels {
    fn of(json: &[u8]) -> Self {
        let mut named = Self::default();
        named.add(json);
        named
    }

    /// Adds those that a body names. One that is no JSON has its refusal elsewhere, and what it names before its fault
    /// counts.
    pub(super) fn add(&mut self, json: &[u8]) {
        let walk = Walk { named: self, within: Within::Settings };
        let _refused_elsewhere = walk.deserialize(&mut serde_json::Deserializer::from_slice(json));
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.models.len()
    }

    /// Checks that a key is for all of them.
    ///
    /// # Errors
    ///
    /// As [`check`](self::check).
    pub(super) fn check(&self, key: &Key) -> Result<(), Failure> {
        if let Some(field) = self.chooser.filter(|_| key.is_for_some_models()) {
            let problem = format!("`{field}` lets a provider choose the model, and this key is for some models alone");
            return Err(LlmError::new(ErrorKind::InvalidRequest, problem).into());
        }
        let mut models = self.models.iter();
        Ok(models.try_for_each(|model| key.model(Some(model.strip_prefix("models/").unwrap_or(model))))?)
    }
}

/// The place of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// The request's own settings, or those that a gateway merges into them.
    Settings,
    /// A setting.
    Other,
    /// A field in which each text names a model.
    Models,
}

/// The fields whose values are the caller's own words or schemas.
const UNREAD: [&str; 19] = [
    "messages",
    "contents",
    "content",
    "input",
    "prompt",
    "instructions",
    "system",
    "systeminstruction",
    "metadata",
    "labels",
    "parameters",
    "parametersjsonschema",
    "inputschema",
    "schema",
    "responseschema",
    "responsejsonschema",
    "properties",
    "arguments",
    "documents",
];

/// Returns a name as readers that know no case compare it, without the marks between words.
fn folded(name: &str) -> String {
    let letters = name.split('\0').next().unwrap_or_default().chars().filter(|letter| !matches!(letter, '_' | '-'));
    letters
        .map(|letter| match letter {
            'ſ' => 's',
            '\u{212a}' => 'k',
            letter => letter.to_ascii_lowercase(),
        })
        .collect()
}

fn names_models(folded: &str) -> bool {
    const NAMES: [&str; 5] = ["modelname", "modelnames", "modelid", "modelids", "deploymentid"];
    folded.ends_with("model") || folded.ends_with("models") || folded.contains("fallback") || NAMES.contains(&folded)
}

/// Goes through a value.
struct Walk<'a> {
    named: &'a mut NamedModels,
    within: Within,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Name(name)) = map.next_key::<Name>()? {
            let name = folded(&name);
            let chooser = ["route", "preset"].into_iter().find(|chooser| *chooser == name);
            let within = match &*name {
                _ if self.within == Within::Models || names_models(&name) => Within::Models,
                name if UNREAD.contains(&name) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                // A gateway merges the first; the others are requests in a request.
                "extrabody" | "requests" | "params" | "body" => Within::Settings,
                _ => Within::Other,
            };
            if let Some(chooser) = chooser.filter(|_| self.within == Within::Settings) {
                let is_set = map.next_value::<Option<IgnoredAny>>()?.is_some();
                self.named.chooser = self.named.chooser.or_else(|| is_set.then_some(chooser));
                continue;
            }
            map.next_value_seed(Walk { named: &mut *self.named, within })?;
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element_seed(Walk { named: &mut *self.named, within: self.within })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.within == Within::Models {
            self.named.models.insert(text.to_owned());
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a field, which may have escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_a_model_is_found_and_no_word_of_the_caller() {
        for (json, models) in [
            (r#"{"model":"a","messages":[{"role":"user","content":"model","model":"x"}]}"#, &["a"][..]),
            (r#"{"model":"a","models":["b","c"]}"#, &["a", "b", "c"]),
            (r#"{"model":"a","Model":"b","MODEL":"c","mode\u004c":"d"}"#, &["a", "b", "c", "d"]),
            (r#"{"fallbacks":["b"],"context_window_fallbacks":[{"a":["c"]}]}"#, &["b", "c"]),
            (r#"{"fallbacks":[{"model":"b","api_base":"c"}]}"#, &["b", "c"]),
            (r#"{"extra_body":{"model":"b","models":["c"]}}"#, &["b", "c"]),
            (r#"{"provider":{"order":["x"],"allow_fallbacks":true,"sort":"price"}}"#, &[]),
            (
                r#"{"tools":[{"type":"image_generation","model":"b"},{"type":"function","function":{"name":"model"}}]}"#,
                &["b"],
            ),
            (r#"{"tools":[{"function":{"parameters":{"properties":{"model":{"enum":["x"]}}}}}]}"#, &[]),
            (r#"{"tools":[{"name":"f","input_schema":{"required":["x"],"model":"x"}}]}"#, &[]),
            (r#"{"requests":[{"custom_id":"1","params":{"model":"b","messages":[]}}]}"#, &["b"]),
            (r#"{"requests":[{"model":"models/b","content":{}}]}"#, &["models/b"]),
            (r#"{"model_list":[{"model_name":"b","litellm_params":{"model":"c"}}]}"#, &["b", "c"]),
            (r#"{"deployment_id":"b","providerOptions":{"gateway":{"models":["c"]}}}"#, &["b", "c"]),
            (r#"{"generationConfig":{"routingConfig":{"manualMode":{"modelName":"b"}}}}"#, &["b"]),
            (r#"{"metadata":{"model":"x"},"modalities":["text"],"model":null,"models":7}"#, &[]),
            (r#"{"model":"a","model":"b"}"#, &["a", "b"]),
        ] {
            let NamedModels { models: named, chooser } = NamedModels::of(json.as_bytes());
            assert_eq!(
                (named.iter().map(String::as_str).collect::<Vec<_>>(), chooser),
                (models.to_vec(), None),
                "{json}"
            );
        }
        for (json, chooser) in [
            (r#"{"route":"fallback"}"#, Some("route")),
            (r#"{"preset":"x"}"#, Some("preset")),
            (r#"{"extra_body":{"Route":"fallback"}}"#, Some("route")),
            (r#"{"custom_id":"1","url":"/v1/chat/completions","body":{"route":"fallback"}}"#, Some("route")),
            (r#"{"requests":[{"params":{"preset":"x"}}]}"#, Some("preset")),
            (r#"{"route":null,"provider":{"route":"x"}}"#, None),
        ] {
            assert_eq!(NamedModels::of(json.as_bytes()).chooser, chooser, "{json}");
        }
    }
}
