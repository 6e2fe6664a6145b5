//! The errors of a configuration: every problem, with its place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::secrets::REDACTED;
use steadfast::InvalidConfig;

/// A configuration that cannot be used, with everything that is wrong with it.
///
/// `Display` prints each problem as a compiler does: the message, file, line and column, the line itself with a mark,
/// and the nearest right name. Values of keys that may hold a secret are printed as `***`.
///
/// A text with a syntax error ends the reading at that point. Otherwise all unknown keys and values of the wrong type
/// are reported at once. If all types are right, so are errors in meaning, such as a name that no tier has or a cap
/// without a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Creates an error of these problems.
    pub fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Attributes the problems to this file.
    pub(super) fn of(mut self, file: Option<&Path>) -> Self {
        for problem in &mut self.problems {
            problem.file = problem.file.take().or_else(|| file.map(Path::to_owned));
        }
        self
    }

    /// Returns the problems in the order of the file; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One problem, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file. `None` for a text that came from no file, and for an environment variable.
    pub file: Option<PathBuf>,
    /// The line, counted from 1; 0 if the problem is outside the text: an unreadable file or a wrong override from the
    /// environment.
    pub line: usize,
    /// The column in characters, counted from 1; 0 without a line.
    pub column: usize,
    /// The line of the text, with `***` in place of possible secrets. Empty without a line.
    pub snippet: String,
    /// The problem's message.
    pub message: String,
    /// The nearest right name.
    pub suggestion: Option<String>,
    /// The environment variable that is wrong.
    pub variable: Option<String>,
    /// The mark's start in the snippet and its length, in characters.
    pub(super) mark: (usize, usize),
}

impl Problem {
    /// Creates a problem that is outside the text.
    pub fn of_file(file: Option<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file,
            line: 0,
            column: 0,
            snippet: String::new(),
            message: message.into(),
            suggestion: None,
            variable: None,
            mark: (0, 0),
        }
    }

    /// Hides what stands behind the mark: the value of a key that nobody knows may be a secret.
    pub(super) fn without_value(mut self) -> Self {
        let end = self.mark.0 + self.mark.1;
        if self.line > 0 && self.snippet.chars().skip(end).any(|c| !c.is_whitespace() && c != ':') {
            let key: String = self.snippet.chars().take(end).collect();
            self.snippet = format!("{key}: {REDACTED}");
        }
        self
    }

    /// Creates a problem for a secret that the environment lacks; any of these variables would provide the field.
    pub(super) fn not_set(field: &str, variables: &[&str], hint: &str) -> Self {
        let message = format!("{field}: the environment variable {} is not set{hint}", variables.join(" or "));
        let variable = variables.first().map(|name| (*name).to_owned());
        Self { variable, ..Self::of_file(None, message) }
    }
}

impl From<InvalidConfig> for Problem {
    fn from(error: InvalidConfig) -> Self {
        Self::of_file(None, error.to_string())
    }
}

impl From<InvalidConfig> for ConfigError {
    fn from(error: InvalidConfig) -> Self {
        Self::new(vec![error.into()])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let hint = self.suggestion.as_ref().map(|name| format!("did you mean `{name}`?"));
        let margin = " ".repeat(self.line.to_string().len());
        if let Some(variable) = &self.variable {
            write!(f, "\n{margin}--> environment variable {variable}")?;
        } else if let Some(file) = &self.file {
            write!(f, "\n{margin}--> {}", file.display())?;
            if self.line > 0 {
                write!(f, ":{}:{}", self.line, self.column)?;
            }
        } else if self.line > 0 {
            write!(f, "\n{margin}--> line {}, column {}", self.line, self.column)?;
        }
        if self.line == 0 {
            return match hint {
                Some(hint) => write!(f, "\n{margin} = {hint}"),
                None => Ok(()),
            };
        }
        let (at, length) = self.mark;
        write!(f, "\n{margin} |\n{} | {}\n{margin} | ", self.line, self.snippet)?;
        // A tab under a tab keeps the mark in line with the text.
        for c in self.snippet.chars().take(at) {
            f.write_str(if c == '\t' { "\t" } else { " " })?;
        }
        f.write_str(&"^".repeat(length.max(1)))?;
        match hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}
