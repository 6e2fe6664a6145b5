//! What is wrong with a configuration: every problem, with its place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A configuration that cannot be used, with all that is wrong with it.
///
/// `Display` prints each problem like a compiler does: what is wrong, file, line and column, the line itself with a
/// mark, and the nearest right name. Values of keys that may hold a secret are printed as `***`.
///
/// A text that is not of its format ends the reading there. Unknown keys and values of the wrong type are told all at
/// once and, where all types are right, so is what is wrong in meaning (a name that no tier has, a cap without a price).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The same of a configuration that came from this file.
    pub(super) fn of(mut self, file: Option<&Path>) -> Self {
        for problem in &mut self.problems {
            problem.file = problem.file.take().or_else(|| file.map(Path::to_owned));
        }
        self
    }

    /// The problems, in the order of the file; never none.
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

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file. `None` for a text that came from no file, and for a variable of the environment.
    pub file: Option<PathBuf>,
    /// The line, counted from 1; 0 where the problem is not in the text: the file cannot be read, or an override of the
    /// environment is wrong.
    pub line: usize,
    /// The column in characters, counted from 1; 0 where there is no line.
    pub column: usize,
    /// The line of the text, with `***` for what may be a secret. Empty where there is no line.
    pub snippet: String,
    /// What is wrong.
    pub message: String,
    /// The nearest right name.
    pub suggestion: Option<String>,
    /// The variable of the environment that is wrong.
    pub variable: Option<String>,
    /// Where in the snippet the mark begins, in characters, and how long it is.
    pub(super) mark: (usize, usize),
}

impl Problem {
    /// A problem that is not in the text.
    pub(crate) fn of_file(file: Option<PathBuf>, message: impl Into<String>) -> Self {
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

    /// A secret that the environment does not have: this field takes it from any one of these variables.
    pub(super) fn not_set(field: &str, variables: &[&str], hint: &str) -> Self {
        let message = format!("{field}: the variable {} of the environment is not set{hint}", variables.join(" or "));
        let variable = variables.first().map(|name| (*name).to_owned());
        Self { variable, ..Self::of_file(None, message) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let hint = self.suggestion.as_ref().map(|name| format!("did you mean `{name}`?"));
        let margin = " ".repeat(self.line.to_string().len());
        if let Some(variable) = &self.variable {
            write!(f, "\n{margin}--> the variable {variable} of the environment")?;
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
        // A tab in the line is a tab under it, so that the mark stands where the text does.
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
