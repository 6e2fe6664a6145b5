//! Invalid settings.

use std::{borrow::Cow, error::Error as StdError, fmt};

/// An invalid setting: the field, the problem and the remedy.
///
/// Constructors that take values from data (a configuration, the environment) return it. Builders in code take types
/// that cannot be invalid, or give every value a plain meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    field: Cow<'static, str>,
    problem: Cow<'static, str>,
}

impl InvalidConfig {
    /// Creates an error for this field.
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The field, variable or argument that is wrong.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The problem with the field, and the remedy.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl StdError for InvalidConfig {}
