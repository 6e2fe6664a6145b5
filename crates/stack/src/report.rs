//! The problems of a text while it is read and checked.

use super::{
    error::{ConfigError, Problem},
    source::Source,
    tree::{Fault, Place},
};

/// The most problems that an error reports.
const PROBLEMS: usize = 100;

/// Collects problems.
pub(super) struct Report<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    places: Vec<Place>,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, problems: Vec::new(), places: Vec::new() }
    }

    /// Adds a problem, unless this place already has one: each value is reported once.
    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>, suggestion: Option<String>) {
        if !self.is_full() && !self.places.contains(place) {
            self.places.push(place.clone());
            let problem = self.source.problem(Some(place), message);
            self.problems.push(Problem { suggestion, ..problem });
        }
    }

    /// Returns whether the report has reached the maximum number of problems.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS
    }

    /// Returns an empty problem at a place, for a later message.
    pub(super) fn problem(&self, place: &Place) -> Problem {
        self.source.problem(Some(place), "")
    }

    /// Returns the value read, or all problems in the order of the text.
    pub(super) fn into_result<T>(mut self, read: Option<T>) -> Result<T, ConfigError> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => {
                self.problems.sort_by_key(|problem| (problem.line, problem.column));
                Err(ConfigError::new(self.problems))
            }
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        let place = fault.place.clone().unwrap_or(Place::Text(0..0));
        let fault = if self.source.may_be_secret(&place) && !fault.unknown_key { fault.concealed() } else { fault };
        let added = self.problems.len();
        let is_of_nothing_known = fault.unknown_key && fault.suggestion.is_none();
        self.add(&place, fault.to_string(), fault.suggestion.map(String::from));
        if is_of_nothing_known && let Some(problem) = self.problems.get_mut(added) {
            *problem = std::mem::replace(problem, Problem::of_file(None, "")).without_value();
        }
    }
}
