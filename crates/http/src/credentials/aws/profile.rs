//! A profile of the AWS CLI's files, and the sources that it names.

use std::{ffi::OsString, path::PathBuf};

use super::{
    environment,
    metadata::{Container, InstanceMetadata},
    profile_file::{DEFAULT, Files, Profiles, Section},
    region,
    sso::Sso,
    sts::{self, Role},
};
use crate::{
    InvalidConfig,
    credentials::{Identity, Machine, Source, SourceError, Token, TokenFuture, command, machine, output},
};

/// A profile as a source. Each fetch reads the files again, since other programs write them.
pub(super) struct Profile {
    machine: Machine,
    files: Files,
    /// The name that was given, by a caller or `AWS_PROFILE`.
    name: Option<String>,
}

/// The steps to a profile's keys.
#[derive(Debug)]
struct Plan {
    base: Base,
    /// The roles to assume, in order.
    roles: Vec<Role>,
}

/// The source that a profile's keys begin with.
#[derive(Debug)]
enum Base {
    Keys(Token),
    Process(Vec<OsString>),
    WebIdentity { role: Role, file: PathBuf },
    Sso(Sso),
    Environment,
    Container,
    Instance,
}

impl Profile {
    /// Names a profile, or that of the environment.
    pub(super) fn new(machine: &Machine, name: Option<&str>) -> Result<Self, InvalidConfig> {
        let name = match name {
            Some(name) => Some(name.trim().to_owned()),
            None => match machine.variable("AWS_PROFILE")? {
                Some(name) => Some(name),
                None => machine.variable("AWS_DEFAULT_PROFILE")?,
            },
        };
        Ok(Self { machine: machine.clone(), files: Files::of(machine)?, name })
    }

    /// Returns true if a caller or a variable names the profile, so that it must be there.
    pub(super) fn is_named(&self) -> bool {
        self.name.is_some()
    }

    fn profile(&self) -> &str {
        self.name.as_deref().unwrap_or(DEFAULT)
    }

    /// Checks the files and the profile, without a fetch. For a thread that may block.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        self.plan(&self.files.read()?).map(drop)
    }

    pub(super) async fn keys(&self) -> Result<Token, SourceError> {
        let plan = self.plan(&self.files.read_in_task().await?)?;
        let mut token = self.base(plan.base).await?;
        for role in &plan.roles {
            let Identity::Aws(keys) = &token.identity else {
                return Err(SourceError::setup("a bearer token cannot assume a role"));
            };
            token = sts::assume_role(&self.machine, role, keys).await?;
        }
        Ok(token)
    }

    async fn base(&self, base: Base) -> Result<Token, SourceError> {
        match base {
            Base::Keys(token) => Ok(token),
            Base::Process(argv) => {
                let name = format!("its credential_process `{}`", command::program(&argv));
                let out = command::run(&argv).await.map_err(|error| error.within(&name))?;
                Ok(output::aws(&out).map_err(|error| error.within(format!("the output of {name}")))?.by_clock())
            }
            Base::WebIdentity { role, file } => {
                let identity = machine::read_file(&file).await?;
                let missing = || SourceError::setup(format!("the file `{}` is not there", file.display()));
                sts::assume_role_with_web_identity(&self.machine, &role, identity.ok_or_else(missing)?.trim()).await
            }
            Base::Sso(sso) => sso.keys(&self.machine, self.files.home.as_deref()).await,
            Base::Environment => environment::keys(&self.machine)?.ok_or_else(|| {
                SourceError::setup("its credential_source is Environment, and AWS_ACCESS_KEY_ID is not set")
            }),
            Base::Container => Container::new(&self.machine).keys().await,
            Base::Instance => InstanceMetadata::new(&self.machine).keys().await,
        }
    }

    /// Follows the profile to its first source.
    fn plan(&self, profiles: &Profiles) -> Result<Plan, SourceError> {
        let region = region::of(&self.machine)?;
        let mut name = self.profile();
        let mut visited = Vec::new();
        let mut roles = Vec::new();
        loop {
            let section = profiles.profile(name).ok_or_else(|| self.missing(profiles, name))?;
            let here = ProfileSection { section, name, region: &region };
            visited.push(name);
            let arn = here.get("role_arn");
            let Some(arn) = arn else {
                let base = here.base(profiles)?;
                return Ok(Plan { base, roles: roles.into_iter().rev().collect() });
            };
            let role = here.role(arn)?;
            if here.get("mfa_serial").is_some() {
                return Err(here.wrong("asks for an MFA code (mfa_serial); use SSO, or a command that has one"));
            }
            match (here.get("source_profile"), here.get("credential_source"), here.get("web_identity_token_file")) {
                (Some(_), Some(_), _) => {
                    return Err(here.wrong("has both source_profile and credential_source; remove one"));
                }
                (Some(source), None, _) if source == name => {
                    roles.push(role);
                    let base = here.base(profiles)?;
                    return Ok(Plan { base, roles: roles.into_iter().rev().collect() });
                }
                (Some(source), None, _) => {
                    roles.push(role);
                    if visited.contains(&source) {
                        return Err(
                            here.wrong(&format!("leads back to `{source}` by source_profile; break the circle"))
                        );
                    }
                    name = source;
                }
                (None, Some(source), _) => {
                    roles.push(role);
                    let base = match source {
                        "Environment" => Base::Environment,
                        "EcsContainer" => Base::Container,
                        "Ec2InstanceMetadata" => Base::Instance,
                        _ => {
                            let problem = "has a credential_source that is none of Environment, EcsContainer and \
                                           Ec2InstanceMetadata";
                            return Err(here.wrong(problem));
                        }
                    };
                    return Ok(Plan { base, roles: roles.into_iter().rev().collect() });
                }
                (None, None, Some(file)) => {
                    let base = Base::WebIdentity { role, file: file.into() };
                    return Ok(Plan { base, roles: roles.into_iter().rev().collect() });
                }
                (None, None, None) => {
                    let problem = "has a role_arn without source_profile, credential_source or web_identity_token_file";
                    return Err(here.wrong(problem));
                }
            }
        }
    }

    fn missing(&self, profiles: &Profiles, name: &str) -> SourceError {
        let (files, names) = (self.files.names(), profiles.names());
        let message = format!("there is no profile `{name}` in {files}; {names}");
        if self.is_named() || name != self.profile() {
            SourceError::setup(message)
        } else {
            SourceError::absent(message)
        }
    }
}

impl Source for Profile {
    fn name(&self) -> String {
        format!("the AWS profile `{}`", self.profile())
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self.keys())
    }
}

/// A profile's settings.
struct ProfileSection<'a> {
    section: &'a Section,
    name: &'a str,
    /// The region of the environment.
    region: &'a Option<String>,
}

impl<'a> ProfileSection<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.section.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn require(&self, name: &str) -> Result<String, SourceError> {
        let value = self.get(name).map(str::to_owned);
        value.ok_or_else(|| self.wrong(&format!("has no {name}")))
    }

    fn wrong(&self, problem: &str) -> SourceError {
        SourceError::setup(format!("the profile `{}` {problem}", self.name))
    }

    fn role(&self, arn: &str) -> Result<Role, SourceError> {
        let seconds = match self.get("duration_seconds") {
            None => None,
            Some(text) => match text.parse() {
                Ok(seconds @ 900..=43_200) => Some(seconds),
                _ => return Err(self.wrong("has a duration_seconds that is no number from 900 to 43200")),
            },
        };
        let region = self.get("region").map(str::to_owned).or_else(|| self.region.clone());
        if let Some(region) = &region {
            region::check(region).map_err(|problem| self.wrong(&format!("has a wrong region: {problem}")))?;
        }
        let get = |name| self.get(name).map(str::to_owned);
        let (session_name, external_id) = (get("role_session_name"), get("external_id"));
        Ok(Role { arn: arn.to_owned(), session_name, external_id, seconds, region })
    }

    /// Returns the profile's own source.
    fn base(&self, profiles: &Profiles) -> Result<Base, SourceError> {
        if self.get("sso_session").is_some() || self.get("sso_start_url").is_some() {
            return self.sso(profiles).map(Base::Sso);
        }
        match (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                let token = Token::aws(id, secret, self.get("aws_session_token").map(Into::into));
                return Ok(Base::Keys(token));
            }
            (Some(_), None) => return Err(self.wrong("has aws_access_key_id without aws_secret_access_key")),
            (None, Some(_)) => return Err(self.wrong("has aws_secret_access_key without aws_access_key_id")),
            (None, None) => {}
        }
        if let Some(line) = self.get("credential_process") {
            let argv = command::split(line).ok_or_else(|| self.wrong("has a credential_process with an open quote"))?;
            return Ok(Base::Process(argv));
        }
        let problem = "has no credentials: no keys, role_arn, sso_session or credential_process";
        Err(self.wrong(problem).into_absent())
    }

    fn sso(&self, profiles: &Profiles) -> Result<Sso, SourceError> {
        let (cached_as, region) = match self.get("sso_session") {
            Some(name) => {
                let session = profiles.session(name).ok_or_else(|| {
                    self.wrong(&format!(
                        "names the sso_session `{name}`, and there is no section `[sso-session {name}]`"
                    ))
                })?;
                let region = session.get("sso_region").cloned();
                let missing = || self.wrong(&format!("needs sso_region in `[sso-session {name}]`"));
                (name.to_owned(), region.ok_or_else(missing)?)
            }
            None => (self.require("sso_start_url")?, self.require("sso_region")?),
        };
        region::check(&region).map_err(|problem| self.wrong(&format!("has a wrong sso_region: {problem}")))?;
        let (account, role) = (self.require("sso_account_id")?, self.require("sso_role_name")?);
        Ok(Sso { profile: self.name.to_owned(), cached_as, region, account, role })
    }
}
