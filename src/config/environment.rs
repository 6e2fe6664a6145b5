//! The environment: what `${NAME}` stands for, and overrides.

use std::{collections::BTreeMap, fmt};

/// The variables of an environment.
///
/// A configuration reads its references, overrides and keys from one; [`process`](Self::process) is that of this process,
/// and tests make their own:
///
/// ```
/// use steadfast::config::Environment;
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
    /// The environment of this process as it is now. A variable that is not UTF-8 is left out.
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The secret in a variable; one that is there and empty is none.
    pub(super) fn secret(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }

    /// All variables, by name.
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
