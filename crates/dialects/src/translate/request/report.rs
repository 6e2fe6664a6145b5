use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::caches::PlacedMarks;
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{ExtraOf, Json, Part},
    translate::{
        ids::CacheMarks,
        maker::{Maker, TargetAccount},
        rules::{Fate, Feature},
        seals::AccountSeals,
    },
    wire::Stop,
};

/// The number of fields that a note names; it counts the others.
const NAMED: usize = 16;
/// The number of fields that are remembered, so that a repeated one is not counted twice.
const REMEMBERED: usize = 1024;
/// The longest name in a note, in bytes.
const LONGEST: usize = 80;

/// The changes to a request on its way into a dialect.
#[doc(hidden)]
#[derive(Debug)]
pub struct Report {
    target: Dialect,
    /// The dialect of the caller's request; `None` for a typed request.
    source: Option<Dialect>,
    records: Vec<(Feature, Option<String>)>,
    seen: HashSet<(Feature, String)>,
    /// The number of fields in `said`.
    named: usize,
    /// The number of fields that are not named, by feature.
    more: Vec<(Feature, u64)>,
    /// The flag that the caller may have left.
    stop: Stop,
    account: TargetAccount,
    /// Fields that the neutral form lacks and the target has, in the target's spelling.
    extras: Extras,
    /// The feature of each carried field.
    carried: Vec<(&'static str, Feature)>,
    /// The marks for a cache that the target takes, and those of this request.
    marks: (CacheMarks, PlacedMarks),
}

/// Fields of a body, by name. A point stands before the name of a nested field.
pub(crate) type Extras = BTreeMap<&'static str, Json>;

impl Report {
    pub(crate) fn new(target: Dialect, source: Option<Dialect>) -> Self {
        Self {
            target,
            source,
            records: Vec::new(),
            seen: HashSet::new(),
            named: 0,
            more: Vec::new(),
            stop: Stop::default(),
            account: TargetAccount::default(),
            extras: Extras::new(),
            carried: Vec::new(),
            marks: Default::default(),
        }
    }

    /// Sets the marks for a cache that the target takes.
    pub(crate) fn with_marks(mut self, marks: CacheMarks) -> Self {
        self.marks.0 = marks;
        self
    }

    /// Records a mark for a cache, unless the target takes it.
    pub(super) fn record_mark(&mut self) {
        if self.marks.0 == CacheMarks::None {
            self.record(Feature::Cache);
        }
    }

    pub(super) fn place_marks(&mut self, marks: PlacedMarks) {
        self.marks.1 = marks;
    }

    /// Returns the marks of tools and of the system prompt.
    pub(crate) fn take_marks(&mut self) -> PlacedMarks {
        std::mem::take(&mut self.marks.1)
    }

    /// Sets the flag that ends the work.
    pub(crate) fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Sets the target's account.
    pub(crate) fn with_account(mut self, account: TargetAccount) -> Self {
        self.account = account;
        self
    }

    /// Returns the target's account as the maker of thoughts.
    pub(crate) fn maker(&self) -> &Maker {
        &self.account.maker
    }

    /// Returns the seals of the target's account, if it is one of several.
    pub(crate) fn seals(&self) -> Option<&Arc<AccountSeals>> {
        self.account.seals.as_ref()
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Fails once the work is stopped.
    ///
    /// # Errors
    ///
    /// The work is stopped.
    pub(crate) fn check_stopped(&self) -> Result<(), LlmError> {
        self.stop.check()
    }

    pub(crate) fn target(&self) -> Dialect {
        self.target
    }

    /// Returns true if the caller's dialect is another than the target's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.source.is_some_and(|source| source != self.target)
    }

    /// Records a feature whose rule was followed.
    pub(crate) fn record(&mut self, feature: Feature) {
        // There are no more of these than features.
        if !self.records.iter().any(|(said, field)| *said == feature && field.is_none()) {
            self.records.push((feature, None));
        }
    }

    /// Records a feature with the name of its field. Of many fields the first are named, and the others counted.
    pub(crate) fn record_field(&mut self, feature: Feature, field: impl Into<String>) {
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
        // The first field of a feature decides over the request, and is always named.
        if self.named < NAMED || !self.records.iter().any(|(said, _)| *said == feature) {
            self.named += 1;
            return self.records.push((feature, Some(field)));
        }
        match self.more.iter_mut().find(|(more, _)| *more == feature) {
            Some((_, more)) => *more += 1,
            None => self.more.push((feature, 1)),
        }
    }

    /// Records fields that only another dialect knows. The survey reports more about a caller's own bytes.
    pub(crate) fn record_extra(&mut self, part: &Part) {
        match part {
            Part::Extra { of: ExtraOf::Part | ExtraOf::Turn, extra }
                if extra.dialect != self.target && !self.is_foreign() =>
            {
                self.record(Feature::OtherField);
            }
            _ => {}
        }
    }

    /// Withdraws the records of these features: their fields are written unchanged after all.
    pub(crate) fn withdraw(&mut self, features: &[Feature]) {
        self.records.retain(|(feature, _)| !features.contains(feature));
        self.more.retain(|(feature, _)| !features.contains(feature));
    }

    /// Withdraws the records that do not hold for a caller's own settings, which are written unchanged after all.
    pub(crate) fn withdraw_settings(&mut self) {
        self.withdraw(&[
            Feature::Sampling,
            Feature::Temperature,
            Feature::ModelSetting,
            Feature::ModelReasoning,
            Feature::MaxOutput,
            Feature::Thinking,
            Feature::ThinkingBudget,
            Feature::ThinkingEffort,
            Feature::ThinkingAuto,
            Feature::ThinkingOff,
        ]);
    }

    /// Returns the error of a refused feature.
    pub(crate) fn refuse(&self, feature: Feature) -> LlmError {
        LlmError::new(ErrorKind::UnsupportedFeature, self.text(feature, None))
    }

    /// Returns the error of a refused feature, which names the field.
    pub(crate) fn refuse_field(&self, feature: Feature, field: &str) -> LlmError {
        LlmError::new(ErrorKind::UnsupportedFeature, self.text(feature, Some(field)))
    }

    pub(super) fn carry(&mut self, feature: Feature, name: &'static str, value: Json) {
        if self.extras.insert(name, value).is_none() {
            self.carried.push((name, feature));
        }
    }

    /// Drops the carried fields that the provider does not know, and records their features.
    pub(crate) fn keep_carried(&mut self, is_known: impl Fn(&str) -> bool) {
        for (name, feature) in std::mem::take(&mut self.carried) {
            if is_known(name) {
                self.carried.push((name, feature));
            } else if self.extras.remove(name).is_some() {
                // The rule of a feature that the dialect has says nothing of a server without it.
                let is_told = self.is_told(feature);
                self.record_field(if is_told { feature } else { Feature::OtherField }, name);
            }
        }
    }

    /// Drops the fields that were carried under these names, since the model refuses them.
    pub(crate) fn drop_carried(&mut self, names: &[&'static str]) {
        for name in names {
            if self.extras.remove(name).is_some() {
                self.record_field(Feature::ModelSetting, *name);
            }
        }
    }

    pub(crate) fn take_extras(&mut self) -> Extras {
        std::mem::take(&mut self.extras)
    }

    /// Returns the notes for the response.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedFeature`] if a feature is refused, or dropped and the leaf is strict.
    pub(crate) fn finish(self, strict: bool) -> Result<Vec<Cow<'static, str>>, LlmError> {
        let fate = |feature: Feature| feature.rule().at(self.target);
        let refused = self.records.iter().find(|(feature, _)| match fate(*feature) {
            Fate::Refused(_) => true,
            Fate::Dropped(_) => strict,
            _ => false,
        });
        if let Some((feature, field)) = refused {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, self.text(*feature, field.as_deref())));
        }
        Ok(self.notes())
    }

    /// Returns true if the feature's rule is one that the response reports.
    fn is_told(&self, feature: Feature) -> bool {
        !matches!(feature.rule().at(self.target), Fate::Carried | Fate::Native)
    }

    /// Returns the notes so far.
    pub(crate) fn notes(&self) -> Vec<Cow<'static, str>> {
        let told = self.records.iter().filter(|(feature, _)| self.is_told(*feature));
        let mut notes: Vec<_> =
            told.map(|(feature, field)| Cow::Owned(self.text(*feature, field.as_deref()))).collect();
        for (feature, more) in self.more.iter().filter(|(feature, _)| self.is_told(*feature)) {
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

/// Writes a number with separators, for people.
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
            report.record_field(Feature::OtherField, format!("f{n}"));
            report.record_field(Feature::OtherField, "f3");
        }
        report.record_field(Feature::ServerTool, "search");
        let notes = report.notes();
        assert_eq!(notes.len(), NAMED + 2);
        assert!(notes[0].contains("(f0)") && notes[NAMED].contains("(search)"), "{notes:?}");
        assert!(notes[NAMED + 1].contains("(and 159,984 more)"), "{}", notes[NAMED + 1]);
    }

    #[test]
    fn what_is_refused_is_found_behind_any_number_of_fields() {
        let mut report = Report::new(Dialect::OpenAi, Some(Dialect::Anthropic));
        (0..100).for_each(|n| report.record_field(Feature::OtherField, format!("f{n}")));
        report.record(Feature::UploadedFile);
        assert_eq!(report.finish(false).unwrap_err().kind(), ErrorKind::UnsupportedFeature);
    }

    #[test]
    fn a_long_name_is_cut() {
        let mut report = Report::new(Dialect::OpenAi, Some(Dialect::Anthropic));
        report.record_field(Feature::OtherField, "ä".repeat(1_000_000));
        assert!(report.notes()[0].len() < 200);
    }
}
