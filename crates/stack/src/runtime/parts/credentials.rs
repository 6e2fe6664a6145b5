//! The sources of a tier's credentials for its cloud.

use super::{
    context::StackContext,
    credential_pool::{CredentialSettings, SharedCredentials},
};
use crate::{Cloud, Credential, CredentialName, CredentialSource, Environment, Problem, Provider, Tier};
use steadfast::{
    InvalidConfig,
    providers::credentials::{Credentials, Machine, aws, azure, google},
};

/// Returns the credentials of a tier, shared with all tiers that have the same.
pub(crate) fn credentials(
    tier: &Tier,
    cloud: Cloud,
    place: &str,
    context: &StackContext,
    environment: &Environment,
) -> Result<SharedCredentials, Vec<Problem>> {
    let credential = tier.credential().into_owned();
    let mut secrets = Vec::new();
    if let Credential::Source(source) = &credential {
        let named = [("key_id", &source.key_id), ("secret", &source.secret), ("session", &source.session)];
        let mut problems = Vec::new();
        for (field, key) in named.into_iter().filter_map(|(field, key)| Some((field, key.as_ref()?))) {
            match environment.secret(key.name()) {
                Some(secret) => secrets.push(secret.trim().to_owned()),
                None => {
                    problems.push(Problem::not_set(&format!("{place}.credential.{field}"), &[key.name()], "; set it"))
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    let scope = (cloud == Cloud::Azure).then_some(match tier.provider {
        Provider::OpenAi => azure::COGNITIVE_SERVICES,
        _ => azure::AI,
    });
    let settings = CredentialSettings { cloud, credential, secrets, scope };
    let new = |settings: &CredentialSettings| {
        let credentials = source(settings, &machine(&settings.credential, context, environment))?;
        Ok(credentials.events(&context.events))
    };
    context.credentials.get(settings, new).map_err(|error| {
        let field = match &tier.credential {
            Some(Credential::Source(source)) => source.given().first().map(|given| format!("credential.{given}")),
            _ => None,
        };
        let field = field.unwrap_or_else(|| "credential".to_owned());
        // The sources name a variable, a file or a profile.
        vec![InvalidConfig::new(format!("{place}.{field}"), error.to_string()).into()]
    })
}

/// Returns the machine that sources read: this stack's environment, with the file's role, and its transport, if it has
/// one of its own.
fn machine(credential: &Credential, context: &StackContext, environment: &Environment) -> Machine {
    let environment = environment.clone();
    let role = match credential {
        Credential::Source(source) => source.web_identity.clone(),
        Credential::Named(_) => None,
    };
    let machine = Machine::new().variables(move |name| {
        Ok(match (name, &role) {
            ("AWS_ROLE_ARN", Some(identity)) => Some(identity.role.clone()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Some(identity)) => Some(identity.token_file.clone()),
            _ => environment.get(name).map(str::to_owned),
        })
    });
    match context.own_transport() {
        Some(transport) => machine.transport(transport.clone()).metadata_transport(transport),
        None => machine,
    }
}

fn source(settings: &CredentialSettings, machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let scope = settings.scope.unwrap_or_default();
    let name = match &settings.credential {
        Credential::Source(source) => return with_settings(source, settings, machine),
        Credential::Named(name) => name,
    };
    match (name, settings.cloud) {
        (CredentialName::Default, Cloud::Aws) => aws::default_chain(machine),
        (CredentialName::Default, Cloud::Azure) => azure::default_chain(machine, scope),
        (CredentialName::Default, Cloud::Vertex) => google::application_default(machine),
        (CredentialName::Environment, _) => aws::environment(machine),
        (CredentialName::WebIdentity, _) => aws::web_identity(machine),
        (CredentialName::Container, _) => aws::container(machine),
        (CredentialName::Instance, _) => aws::instance_metadata(machine),
        (CredentialName::Metadata, _) => google::metadata(machine),
        (CredentialName::ManagedIdentity, _) => azure::managed_identity(machine, None, scope),
        (CredentialName::WorkloadIdentity, _) => azure::workload_identity(machine, scope),
    }
}

fn with_settings(
    source: &CredentialSource,
    settings: &CredentialSettings,
    machine: &Machine,
) -> Result<Credentials, InvalidConfig> {
    let scope = settings.scope.unwrap_or_default();
    let secret = |at: usize| settings.secrets.get(at).map(String::as_str);
    if let Some(argv) = &source.command {
        return Credentials::command(argv);
    }
    if let Some(profile) = &source.profile {
        return aws::profile(machine, profile);
    }
    if source.key_id.is_some() {
        return aws::keys(secret(0).unwrap_or_default(), secret(1).unwrap_or_default(), secret(2));
    }
    if source.web_identity.is_some() {
        return aws::web_identity(machine);
    }
    if let Some(path) = &source.service_account {
        return google::service_account(machine, path);
    }
    if let Some(path) = &source.authorized_user {
        return google::authorized_user(machine, path);
    }
    if let Some(path) = &source.external_account {
        return google::external_account(machine, path);
    }
    if let Some(identity) = &source.managed_identity {
        return azure::managed_identity(machine, identity.client_id.as_deref(), scope);
    }
    let given = |field: &'static str, text: &Option<String>| {
        text.clone().ok_or_else(|| InvalidConfig::new(field, "it is missing here"))
    };
    let (tenant, client) = (given("tenant", &source.tenant)?, given("client_id", &source.client_id)?);
    azure::client_secret(machine, &tenant, &client, secret(0).unwrap_or_default(), scope)
}
