//! The AWS CLI's files: profiles and SSO sessions.
//!
//! The format is that of the page [Shared config and credentials
//! files](https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    InvalidConfig,
    credentials::{Machine, SourceError, machine},
};

/// The settings of a section, by their names in lower case.
pub(super) type Section = BTreeMap<String, String>;

/// The profiles and SSO sessions of both files.
#[derive(Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Section>,
    sessions: BTreeMap<String, Section>,
}

/// The kind of a file, by which its sections' names differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `[profile work]`, `[default]`, `[sso-session corp]`.
    Config,
    /// `[work]`.
    Credentials,
}

/// The places of both files.
#[derive(Clone)]
pub(super) struct Files {
    config: Option<PathBuf>,
    credentials: Option<PathBuf>,
    /// True if a variable names a file, which must be there then.
    pub(super) home: Option<PathBuf>,
}

impl Files {
    pub(super) fn of(machine: &Machine) -> Result<Self, InvalidConfig> {
        let home = machine.home()?;
        let place = |variable, name: &str| -> Result<Option<PathBuf>, InvalidConfig> {
            Ok(match machine.variable(variable)? {
                Some(path) => Some(match (path.strip_prefix("~/"), &home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => path.into(),
                }),
                None => home.as_ref().map(|home| home.join(".aws").join(name)),
            })
        };
        Ok(Self {
            config: place("AWS_CONFIG_FILE", "config")?,
            credentials: place("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
            home,
        })
    }

    /// Returns the files' names, for an error.
    pub(super) fn names(&self) -> String {
        let names = [&self.credentials, &self.config].map(|path| {
            path.as_ref().map_or_else(|| "no file, for HOME is not set".to_owned(), |path| path.display().to_string())
        });
        if names[0] == names[1] { names[0].clone() } else { names.join(", ") }
    }

    /// Reads both files. One that is not there has no profiles. For a thread that may block.
    pub(super) fn read(&self) -> Result<Profiles, SourceError> {
        let mut profiles = Profiles::default();
        // The keys of the credentials file count before those of the other one.
        for (path, kind) in [(&self.config, Kind::Config), (&self.credentials, Kind::Credentials)] {
            let Some(path) = path else { continue };
            let named = |problem: String| SourceError::setup(format!("the file `{}` {problem}", path.display()));
            let Some(text) = machine::read_small(path).map_err(named)? else { continue };
            profiles.add(&text, kind).map_err(named)?;
        }
        Ok(profiles)
    }

    /// Does the same for a task.
    pub(super) async fn read_in_task(&self) -> Result<Profiles, SourceError> {
        let files = self.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        read.map_err(|_| SourceError::new("the runtime is shutting down"))?
    }
}

impl Profiles {
    /// Adds a file's sections. Its settings replace those that are there.
    fn add(&mut self, text: &str, kind: Kind) -> Result<(), String> {
        let mut section: Option<&mut Section> = None;
        for (line, number) in text.lines().zip(1..) {
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let Some((name, _)) = rest.split_once(']') else {
                    return Err(format!("has a section without `]` in line {number}"));
                };
                section = self.section(name.trim(), kind);
                continue;
            }
            // The values of a nested setting, such as those of `s3 =`.
            if is_nested {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(format!("has neither a section nor `name = value` in line {number}"));
            };
            if let Some(section) = &mut section {
                section.insert(name.trim().to_lowercase(), without_comment(value).to_owned());
            }
        }
        Ok(())
    }

    /// Returns the section of this name; `None` for one that is of another kind.
    fn section(&mut self, name: &str, kind: Kind) -> Option<&mut Section> {
        let words = name.split_once(char::is_whitespace).map(|(word, rest)| (word, unquoted(rest.trim())));
        match (kind, words) {
            (Kind::Config, Some(("profile", name))) => Some(self.profiles.entry(name.to_owned()).or_default()),
            (Kind::Config, Some(("sso-session", name))) => Some(self.sessions.entry(name.to_owned()).or_default()),
            (Kind::Config, _) if name != DEFAULT => None,
            _ => Some(self.profiles.entry(unquoted(name).to_owned()).or_default()),
        }
    }

    pub(super) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    pub(super) fn session(&self, name: &str) -> Option<&Section> {
        self.sessions.get(name)
    }

    /// Returns the names of the profiles, for an error.
    pub(super) fn names(&self) -> String {
        let names: BTreeSet<&str> = self.profiles.keys().map(String::as_str).collect();
        if names.is_empty() {
            return "there are none".to_owned();
        }
        let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
        let more = names.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("there are {}{rest}", shown.join(", "))
    }
}

/// The name of the profile that needs no name.
pub(super) const DEFAULT: &str = "default";
/// The profiles that an error lists.
const SHOWN: usize = 20;

fn unquoted(name: &str) -> &str {
    let inner = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(name)
}

/// Returns a value without a comment, which begins after white space.
fn without_comment(value: &str) -> &str {
    let starts = value.match_indices(['#', ';']).map(|(at, _)| at);
    let mut comments = starts.filter(|at| value[..*at].ends_with(char::is_whitespace));
    value[..comments.next().unwrap_or(value.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_one_set_of_profiles() {
        let mut profiles = Profiles::default();
        let config = "\u{20}\n# comment\n[default]\nregion = eu-west-1 ; why\n[profile 'my work']\nRegion=us-east-1\n\
                      s3 =\n  max_concurrent_requests = 20\nkey = a#b\n[plugins]\nx = y\n\
                      [sso-session corp]\nsso_region=eu-central-1\n";
        profiles.add(config, Kind::Config).unwrap();
        profiles.add("[default]\r\naws_access_key_id = AKID\r\n[my work]\nregion=first\n", Kind::Credentials).unwrap();
        let get = |profile: &str, name: &str| profiles.profile(profile)?.get(name).map(String::as_str);
        assert_eq!(get("default", "region"), Some("eu-west-1"));
        assert_eq!(get("default", "aws_access_key_id"), Some("AKID"));
        assert_eq!((get("my work", "region"), get("my work", "key")), (Some("first"), Some("a#b")));
        assert_eq!(get("my work", "max_concurrent_requests"), None);
        assert_eq!(profiles.names(), "there are default, my work");
        assert!(profiles.session("corp").is_some() && profiles.profile("plugins").is_none());
    }

    #[test]
    fn a_broken_line_is_named_and_not_repeated() {
        for text in ["[default\nsecret-1", "[default]\nsecret-1\n"] {
            let problem = Profiles::default().add(text, Kind::Credentials).unwrap_err();
            assert!(problem.contains("line ") && !problem.contains("secret-1"), "{problem}");
        }
    }
}
