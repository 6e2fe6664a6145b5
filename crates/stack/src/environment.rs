//! Environment variables, for `${NAME}` references and overrides.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The variables of an environment.
///
/// A configuration reads its references, overrides and keys from an environment. [`process`](Self::process) returns
/// this process's own; tests build theirs:
///
/// ```
/// use steadfast_stack::Environment;
///
/// let environment: Environment = [("MODEL", "gpt-4o")].into_iter().collect();
/// assert_eq!(environment.get("MODEL"), Some("gpt-4o"));
/// assert_eq!(environment.get("HOME"), None);
/// ```
///
/// `Debug` prints the names, never the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Returns the current environment of this process, without variables that are not UTF-8.
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Returns a variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the folder for the service's state that systemd sets, `STATE_DIRECTORY`.
    pub fn state_folder(&self) -> Option<PathBuf> {
        // systemd lists several with colons between.
        let folders = self.get("STATE_DIRECTORY").filter(|folders| !folders.is_empty())?;
        folders.split(':').next().map(PathBuf::from)
    }

    /// Returns the secret in a variable; an empty variable counts as unset.
    pub(super) fn secret(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }

    /// Returns all variables, sorted by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
