//! Google's credentials: application default credentials, files of each type, and the metadata server.
//!
//! Each gives a token for the scope `https://www.googleapis.com/auth/cloud-platform`, which Vertex AI wants.
//!
//! | `type` of a file | content | source of the rules |
//! |---|---|---|
//! | `service_account` | an RSA key; a JWT signed with it is exchanged for a token | [AIP-4112], RFC 7523 |
//! | `authorized_user` | a user's refresh token, by `gcloud auth application-default login` | [AIP-4113], RFC 6749 |
//! | `external_account` | workload identity federation: a token of Kubernetes, GitHub, Azure or AWS | [AIP-4117], RFC 8693 |
//! | `external_account_authorized_user` | the same as `authorized_user`, for a user of a workforce pool | RFC 6749 |
//! | `impersonated_service_account` | one of the above, which becomes a service account | [IAM credentials API] |
//!
//! Of federation's sources, `file`, `url` and `aws1` are read. `executable` and `certificate` are refused by name.
//! A workload in AWS uses the keys of [`aws::default_chain`](super::aws::default_chain).
//!
//! A file is read at each renewal, so that a key which is replaced on disk is used without a restart. It is read once
//! when the credentials are made, too: a mistake is an [`InvalidConfig`] then, which names the field.
//!
//! A user's token needs a project to bill: `quota_project_id` of its file, or `GOOGLE_CLOUD_QUOTA_PROJECT`, which comes
//! first. It goes out as `x-goog-user-project`.
//!
//! # A wrong clock
//!
//! A JWT begins ten seconds early and lasts an hour. If Google refuses its times, the date of that refusal corrects
//! the clock, and a second JWT follows at once. Ends of tokens count from their receipt, so that a wrong clock does not
//! end one early.
//!
//! # Trust
//!
//! A file names the servers that its secrets go to. These must have TLS, but nothing else limits them. Load no file of
//! a stranger; where a file should be of one type, use the function of that type.
//!
//! ```no_run
//! use steadfast::providers::credentials::{Machine, google};
//!
//! let credentials = google::application_default(&Machine::new())?;
//! # Ok::<(), steadfast::InvalidConfig>(())
//! ```
//!
//! [AIP-4112]: https://google.aip.dev/auth/4112
//! [AIP-4113]: https://google.aip.dev/auth/4113
//! [AIP-4117]: https://google.aip.dev/auth/4117
//! [IAM credentials API]: https://cloud.google.com/iam/docs/create-short-lived-credentials-direct

mod aws;
mod clock;
mod external;
mod fields;
mod impersonation;
mod jwt;
mod key;
mod metadata;
mod service_account;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token_server;
mod user;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use self::{
    clock::Clock,
    key::{EXTERNAL, KeyFile, SERVICE_ACCOUNT, USER, is_project, place},
    state::State,
};
use super::{
    Credentials, Machine, Source, SourceError, Token, TokenFuture,
    machine::{read_file, read_small},
};
use crate::InvalidConfig;

/// Returns Google's application default credentials, in the [documented order][AIP-4110].
///
/// 1. the file that `GOOGLE_APPLICATION_CREDENTIALS` names, of any type;
/// 2. the file of `gcloud auth application-default login`: `application_default_credentials.json` in
///    `$CLOUDSDK_CONFIG`, or in `~/.config/gcloud` (`%APPDATA%\gcloud` on Windows);
/// 3. the metadata server of the machine, or of its pod.
///
/// The order is gone through at each renewal, so that a sign-in needs no restart.
///
/// ```
/// use steadfast::providers::credentials::{Machine, google};
///
/// let machine = Machine::new().variables(|name| {
///     Ok((name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| "/not/there.json".to_owned()))
/// });
/// let error = google::application_default(&machine).unwrap_err();
/// assert_eq!(error.field(), "GOOGLE_APPLICATION_CREDENTIALS");
/// ```
///
/// # Errors
///
/// A file that is there is no usable one, or a variable names a file that is not there. A machine without any of the
/// three is no error here: its first request fails with a sentence about the three.
///
/// [AIP-4110]: https://google.aip.dev/auth/4110
pub fn application_default(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let named = machine.variable(VARIABLE)?.map(PathBuf::from);
    let signed_in = match &named {
        Some(_) => None,
        None => gcloud_file(machine)?,
    };
    if let Some(path) = &named {
        parse_file(path, None)?.ok_or_else(|| InvalidConfig::new(VARIABLE, missing(path)))?;
    } else if let Some(path) = &signed_in {
        parse_file(path, None)?;
    }
    metadata::host(machine)?;
    credentials(machine, Place::Default { named, signed_in })
}

/// Returns the credentials of a file, of any type that Google's `type` names and that we can use.
///
/// # Errors
///
/// The file is not there, is no JSON, lacks a field, or has a type that we cannot use. The error names the file, and
/// the field.
pub fn file(machine: &Machine, path: impl Into<PathBuf>) -> Result<Credentials, InvalidConfig> {
    of_file(machine, path.into(), None)
}

/// Returns the credentials of a service account's key file.
///
/// Use it in place of [`file()`] where no other type is expected.
///
/// # Errors
///
/// Those of [`file()`]; another type is one too.
pub fn service_account(machine: &Machine, path: impl Into<PathBuf>) -> Result<Credentials, InvalidConfig> {
    of_file(machine, path.into(), Some(SERVICE_ACCOUNT))
}

/// Returns the credentials of a user who signed in with `gcloud auth application-default login`.
///
/// # Errors
///
/// Those of [`file()`]; another type is one too.
pub fn authorized_user(machine: &Machine, path: impl Into<PathBuf>) -> Result<Credentials, InvalidConfig> {
    of_file(machine, path.into(), Some(USER))
}

/// Returns the credentials of workload identity federation, by the file that
/// `gcloud iam workload-identity-pools create-cred-config` makes.
///
/// # Errors
///
/// Those of [`file()`]; another type is one too.
pub fn external_account(machine: &Machine, path: impl Into<PathBuf>) -> Result<Credentials, InvalidConfig> {
    of_file(machine, path.into(), Some(EXTERNAL))
}

/// Returns the credentials of a file's text, for a key that comes from a secret store or a variable.
///
/// `name` stands for the file in errors: "the variable `GOOGLE_KEY`".
///
/// # Errors
///
/// Those of [`file()`].
pub fn json(machine: &Machine, text: &str, name: &str) -> Result<Credentials, InvalidConfig> {
    let key = KeyFile::parse(text.as_bytes(), name, None)?;
    credentials(machine, Place::Text { key: Box::new(key), name: name.to_owned() })
}

/// Returns the credentials of the service account that is attached to this machine, or to its pod.
///
/// `GCE_METADATA_HOST` replaces the address, as in Google's own libraries.
///
/// # Errors
///
/// `GCE_METADATA_HOST` is no text.
pub fn metadata(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    metadata::host(machine)?;
    credentials(machine, Place::Metadata)
}

fn of_file(machine: &Machine, path: PathBuf, wanted: Option<&'static str>) -> Result<Credentials, InvalidConfig> {
    parse_file(&path, wanted)?.ok_or_else(|| InvalidConfig::new(place(&path), "it does not exist; check its path"))?;
    credentials(machine, Place::File { path, wanted })
}

fn credentials(machine: &Machine, place: Place) -> Result<Credentials, InvalidConfig> {
    let quota_project = machine.variable(QUOTA_PROJECT)?;
    if quota_project.as_deref().is_some_and(|project| !is_project(project)) {
        return Err(InvalidConfig::new(QUOTA_PROJECT, "it is no project's id"));
    }
    let state = State {
        machine: machine.clone(),
        clock: Clock::default(),
        rotated: Mutex::default(),
        aws: OnceLock::new(),
        quota_project,
    };
    Ok(Credentials::from_source(Google { place, state }))
}

/// A source of Google's tokens.
struct Google {
    place: Place,
    state: State,
}

/// The place that says who asks.
enum Place {
    File { path: PathBuf, wanted: Option<&'static str> },
    Text { key: Box<KeyFile>, name: String },
    Metadata,
    Default { named: Option<PathBuf>, signed_in: Option<PathBuf> },
}

impl Source for Google {
    fn name(&self) -> String {
        match &self.place {
            Place::File { path, .. } => place(path),
            Place::Text { name, .. } => name.clone(),
            Place::Metadata => "Google's metadata server".to_owned(),
            Place::Default { named: Some(path), .. } => place(path),
            Place::Default { .. } => "Google's application default credentials".to_owned(),
        }
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(async move {
            let token = self.place.fetch(&self.state).await?;
            Ok(match &self.state.quota_project {
                Some(project) => token.quota_project(project.as_str()),
                None => token,
            })
        })
    }
}

impl Place {
    async fn fetch(&self, state: &State) -> Result<Token, SourceError> {
        match self {
            Self::File { path, wanted } => match fetch_by_file(path, *wanted, state).await? {
                Some(token) => Ok(token),
                None => Err(SourceError::setup(format!("{} does not exist; check its path", place(path)))),
            },
            Self::Text { key, .. } => key.fetch(state).await,
            Self::Metadata => metadata::fetch(state).await,
            Self::Default { named: Some(path), .. } => match fetch_by_file(path, None, state).await? {
                Some(token) => Ok(token),
                None => Err(SourceError::setup(format!("{VARIABLE}: {}", missing(path)))),
            },
            Self::Default { named: None, signed_in } => {
                if let Some(path) = signed_in
                    && let Some(token) = fetch_by_file(path, None, state).await?
                {
                    return Ok(token);
                }
                metadata::fetch(state).await.map_err(|error| error.within(nothing_else(signed_in.as_deref())))
            }
        }
    }
}

/// Fetches a token with the key of a file. `None` if there is no such file.
async fn fetch_by_file(path: &Path, wanted: Option<&str>, state: &State) -> Result<Option<Token>, SourceError> {
    let Some(text) = read_file(path).await? else { return Ok(None) };
    let key = KeyFile::parse(text.as_bytes(), &place(path), wanted)?;
    key.fetch(state).await.map(Some)
}

/// Parses a file, to find mistakes early. `None` if there is no such file.
fn parse_file(path: &Path, wanted: Option<&str>) -> Result<Option<KeyFile>, InvalidConfig> {
    match read_small(path) {
        Ok(Some(text)) => KeyFile::parse(text.as_bytes(), &place(path), wanted).map(Some),
        Ok(None) => Ok(None),
        Err(problem) => Err(InvalidConfig::new(place(path), format!("it {problem}"))),
    }
}

/// Returns the place of the file that gcloud writes. `None` if there is no home.
fn gcloud_file(machine: &Machine) -> Result<Option<PathBuf>, InvalidConfig> {
    let folder = match machine.variable("CLOUDSDK_CONFIG")? {
        Some(folder) => Some(folder.into()),
        None if cfg!(windows) => machine.variable("APPDATA")?.map(|folder| Path::new(&folder).join("gcloud")),
        None => machine.home()?.map(|home| home.join(".config/gcloud")),
    };
    Ok(folder.map(|folder: PathBuf| folder.join("application_default_credentials.json")))
}

fn missing(path: &Path) -> String {
    format!("the file `{}` does not exist; check the path, or unset the variable", path.display())
}

/// Returns the words before the failure of the last of the default places.
fn nothing_else(signed_in: Option<&Path>) -> String {
    let file = signed_in.map(|path| format!(", `{}` does not exist", path.display())).unwrap_or_default();
    let remedy = "run `gcloud auth application-default login`, or set it to a key file, or attach a service account";
    format!("{VARIABLE} is not set{file}, and the metadata server gives no token ({remedy})")
}

const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const QUOTA_PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";
