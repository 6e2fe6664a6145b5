use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{ExtraOf, Json, Part},
    translate::rules::{Fate, Feature},
    wire::Stop,
};

/// How many fields are told by their names; of the others it is told how many they are.
const NAMED: usize = 16;
/// How many are remembered, so that one that is there again is not counted again.
const REMEMBERED: usize = 1024;
/// The longest name that is told, in bytes.
const LONGEST: usize = 80;

/// What became of a request on its way into a dialect.
#[derive(Debug)]
pub(crate) struct Report {
    target: Dialect,
    /// The dialect that the caller wrote in; `None` for a typed request.
    source: Option<Dialect>,
    said: Vec<(Feature, Option<String>)>,
    seen: HashSet<(Feature, String)>,
    /// How many of `said` are fields.
    named: usize,
    /// The fields that are counted and not named, of each feature.
    more: Vec<(Feature, u64)>,
    /// Who asked may have left.
    stop: Stop,
    /// Fields that the neutral form lacks and the target has, in the target's spelling.
    extras: Extras,
}

/// Fields of a body, by name.
pub(crate) type Extras = BTreeMap<&'static str, Json>;

impl Report {
    pub(crate) fn new(target: Dialect, source: Option<Dialect>) -> Self {
        Self {
            target,
            source,
            said: Vec::new(),
            seen: HashSet::new(),
            named: 0,
            more: Vec::new(),
            stop: Stop::default(),
            extras: Extras::new(),
        }
    }

    /// Ends the work once it is stopped.
    pub(crate) fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// # Errors
    ///
    /// When the work is stopped.
    pub(crate) fn go_on(&self) -> Result<(), LlmError> {
        self.stop.check()
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
        // Of these there are no more than features.
        if !self.said.iter().any(|(said, field)| *said == feature && field.is_none()) {
            self.said.push((feature, None));
        }
    }

    /// The same, naming the field. Of many fields the first are named, and the others counted.
    pub(crate) fn say_in(&mut self, feature: Feature, field: impl Into<String>) {
        let mut field = field.into();
        if field.len() > LONGEST {
            let end = (0..=LONGEST - '…'.len_utf8()).rev().find(|end| field.is_char_boundary(*end));
            field.truncate(end.unwrap_or_default());
            field.push('…');
        }
        if self.seen.len() < REMEMBERED {
            if !self.seen.insert((feature, field.clone())) {
                return;
            }
        } else if self.seen.contains(&(feature, field.clone())) {
            return;
        }
        // The first one of a feature decides what becomes of the request, and is always told.
        if self.named < NAMED || !self.said.iter().any(|(said, _)| *said == feature) {
            self.named += 1;
            return self.said.push((feature, Some(field)));
        }
        match self.more.iter_mut().find(|(more, _)| *more == feature) {
            Some((_, more)) => *more += 1,
            None => self.more.push((feature, 1)),
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
        self.more.retain(|(feature, _)| !features.contains(feature));
    }

    /// The error of a feature that is refused.
    pub(crate) fn refuse(&self, feature: Feature) -> LlmError {
        LlmError::new(ErrorKind::UnsupportedFeature, self.text(feature, None))
    }

    pub(super) fn carry(&mut self, name: &'static str, value: Json) {
        let _replaced = self.extras.insert(name, value);
    }

    /// Leaves out what was carried under these names, since the model refuses it.
    pub(crate) fn drop_carried(&mut self, names: &[&'static str]) {
        for name in names {
            if self.extras.remove(name).is_some() {
                self.say_in(Feature::ModelSetting, *name);
            }
        }
    }

    pub(crate) fn take_extras(&mut self) -> Extras {
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
        let is_told = |feature: Feature| !matches!(feature.rule().at(self.target), Fate::Carried | Fate::Native);
        let told = self.said.iter().filter(|(feature, _)| is_told(*feature));
        let mut notes: Vec<_> =
            told.map(|(feature, field)| Cow::Owned(self.text(*feature, field.as_deref()))).collect();
        for (feature, more) in self.more.iter().filter(|(feature, _)| is_told(*feature)) {
            notes.push(Cow::Owned(self.text(*feature, Some(&format!("and {} more", with_commas(*more))))));
        }
        notes
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

/// A number as people read it.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut spaced = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            spaced.push(',');
        }
        spaced.push(digit);
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_fields_the_first_are_named_and_the_others_counted() {
        let mut report = Report::new(Dialect::OpenAi, Some(Dialect::Anthropic));
        for n in 0..160_000 {
            report.say_in(Feature::OtherField, format!("f{n}"));
            report.say_in(Feature::OtherField, "f3");
        }
        report.say_in(Feature::ServerTool, "search");
        let notes = report.notes();
        assert_eq!(notes.len(), NAMED + 2);
        assert!(notes[0].contains("(f0)") && notes[NAMED].contains("(search)"), "{notes:?}");
        assert!(notes[NAMED + 1].contains("(and 159,984 more)"), "{}", notes[NAMED + 1]);
    }

    #[test]
    fn what_is_refused_is_found_behind_any_number_of_fields() {
        let mut report = Report::new(Dialect::OpenAi, Some(Dialect::Anthropic));
        (0..100).for_each(|n| report.say_in(Feature::OtherField, format!("f{n}")));
        report.say(Feature::UploadedFile);
        assert_eq!(report.finish(false).unwrap_err().kind(), ErrorKind::UnsupportedFeature);
    }

    #[test]
    fn a_long_name_is_cut() {
        let mut report = Report::new(Dialect::OpenAi, Some(Dialect::Anthropic));
        report.say_in(Feature::OtherField, "ä".repeat(1_000_000));
        assert!(report.notes()[0].len() < 200);
    }
}
