use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{ExtraOf, Part},
    translate::rules::{Fate, Feature},
};

/// What became of a request on its way into a dialect.
#[derive(Debug)]
pub(crate) struct Report {
    target: Dialect,
    /// The dialect that the caller wrote in; `None` for a typed request.
    source: Option<Dialect>,
    said: Vec<(Feature, Option<String>)>,
    /// Fields that the neutral form lacks and the target has, in the target's spelling.
    extras: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(target: Dialect, source: Option<Dialect>) -> Self {
        Self { target, source, said: Vec::new(), extras: Map::new() }
    }

    pub(crate) fn target(&self) -> Dialect {
        self.target
    }

    /// Whether what the caller wrote is in a dialect other than the target's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.source.is_some_and(|source| source != self.target)
    }

    /// The feature was met; its rule was followed.
    pub(crate) fn say(&mut self, feature: Feature) {
        self.put(feature, None);
    }

    /// The same, naming the field.
    pub(crate) fn say_in(&mut self, feature: Feature, field: impl Into<String>) {
        self.put(feature, Some(field.into()));
    }

    fn put(&mut self, feature: Feature, field: Option<String>) {
        if !self.said.iter().any(|(said, at)| *said == feature && *at == field) {
            self.said.push((feature, field));
        }
    }

    /// Fields that only another dialect knows. Of a caller's own bytes the survey tells more.
    pub(crate) fn say_of_extra(&mut self, part: &Part) {
        match part {
            Part::Extra { of: ExtraOf::Part | ExtraOf::Turn, extra }
                if extra.dialect != self.target && !self.is_foreign() =>
            {
                self.say(Feature::OtherField);
            }
            _ => {}
        }
    }

    /// What was said of these does not hold: they are written as they stood after all.
    pub(crate) fn forget(&mut self, features: &[Feature]) {
        self.said.retain(|(feature, _)| !features.contains(feature));
    }

    /// The error of a feature that is refused.
    pub(crate) fn refuse(&self, feature: Feature) -> LlmError {
        LlmError::new(ErrorKind::UnsupportedFeature, self.text(feature, None))
    }

    pub(super) fn carry(&mut self, name: &str, value: Value) {
        let _replaced = self.extras.insert(name.to_owned(), value);
    }

    pub(crate) fn take_extras(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.extras)
    }

    /// The notes for the response.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedFeature`] when a feature is refused, or dropped and the leaf is strict.
    pub(crate) fn finish(self, strict: bool) -> Result<Vec<Cow<'static, str>>, LlmError> {
        let fate = |feature: Feature| feature.rule().at(self.target);
        let refused = self.said.iter().find(|(feature, _)| match fate(*feature) {
            Fate::Refused(_) => true,
            Fate::Dropped(_) => strict,
            _ => false,
        });
        if let Some((feature, field)) = refused {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, self.text(*feature, field.as_deref())));
        }
        Ok(self.notes())
    }

    /// The notes so far.
    pub(crate) fn notes(&self) -> Vec<Cow<'static, str>> {
        let fate = |feature: Feature| feature.rule().at(self.target);
        let told = self.said.iter().filter(|(feature, _)| !matches!(fate(*feature), Fate::Carried | Fate::Native));
        told.map(|(feature, field)| Cow::Owned(self.text(*feature, field.as_deref()))).collect()
    }

    fn text(&self, feature: Feature, field: Option<&str>) -> String {
        let rule = feature.rule();
        let how = match rule.at(self.target) {
            Fate::Changed(how) | Fate::Dropped(how) | Fate::Refused(how) => how,
            Fate::Carried | Fate::Native => "carried",
        };
        match field {
            Some(field) => format!("{} ({field}): {how}", rule.feature),
            None => format!("{}: {how}", rule.feature),
        }
    }
}
