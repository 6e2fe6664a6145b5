//! Azure's credentials: tokens of Microsoft Entra ID by a client secret, a workload identity or a managed identity.
//!
//! An API key of a resource is no token: give it to the leaf's `key`.
//!
//! | function | variables that it reads | source of the rules |
//! |---|---|---|
//! | [`client_secret`] | `AZURE_AUTHORITY_HOST` | [client credentials, with a secret] |
//! | [`workload_identity`] | `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_AUTHORITY_HOST` | [client credentials, with an assertion], RFC 7523 |
//! | [`managed_identity`] | `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`, `AZURE_POD_IDENTITY_AUTHORITY_HOST` | [virtual machines], [App Service] |
//! | [`default_chain`] | all of these, and `AZURE_CLIENT_SECRET` | [DefaultAzureCredential] |
//!
//! A token is for one scope. Azure OpenAI wants [`COGNITIVE_SERVICES`], Claude in Microsoft Foundry wants [`AI`].
//!
//! Certificates, users' passwords, the Azure CLI, Azure Arc, Service Fabric, Azure ML and the Cloud Shell are no
//! sources here. Where their variables stand in the way, the error names them. [`Credentials::command`] runs a command
//! that prints a token.
//!
//! ```no_run
//! use steadfast::providers::credentials::{Machine, azure};
//!
//! let credentials = azure::default_chain(&Machine::new(), azure::COGNITIVE_SERVICES)?;
//! # Ok::<(), steadfast::InvalidConfig>(())
//! ```
//!
//! [client credentials, with a secret]: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#first-case-access-token-request-with-a-shared-secret
//! [client credentials, with an assertion]: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential
//! [virtual machines]: https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
//! [App Service]: https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
//! [DefaultAzureCredential]: https://learn.microsoft.com/dotnet/azure/sdk/authentication/credential-chains#defaultazurecredential-overview

mod application;
mod managed_identity;
#[cfg(test)]
mod tests;

use self::{
    application::{Application, Proof},
    managed_identity::ManagedIdentity,
};
use super::{Credentials, Machine, Source, TokenFuture};
use crate::InvalidConfig;

/// The scope of Azure OpenAI's resources.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";
/// The scope of models in Microsoft Foundry, Claude among them.
pub const AI: &str = "https://ai.azure.com/.default";

/// Returns the credentials of an application with a client secret.
///
/// `tenant` is the directory's id or one of its domains. `client_id` is the application's.
///
/// ```
/// use steadfast::providers::credentials::{Machine, azure};
///
/// let machine = Machine::new();
/// let error = azure::client_secret(&machine, "my tenant", "app", "secret", azure::AI).unwrap_err();
/// assert_eq!(error.field(), "tenant");
/// ```
///
/// # Errors
///
/// An argument is empty; the tenant has characters that no tenant has; `AZURE_AUTHORITY_HOST` is no address with TLS.
pub fn client_secret(
    machine: &Machine,
    tenant: &str,
    client_id: &str,
    secret: &str,
    scope: &str,
) -> Result<Credentials, InvalidConfig> {
    let secret = given("secret", secret)?.to_owned();
    let application =
        Application::new([("tenant", tenant), ("client_id", client_id)], Proof::Secret(secret), scope, machine)?;
    Ok(Azure::Application(application).credentials(machine))
}

/// Returns the credentials of a workload identity: a token of Kubernetes, in a file, proves who the application is.
///
/// AKS sets the variables. The file is read at each renewal, since Kubernetes replaces its token.
///
/// # Errors
///
/// A variable is missing, and the error names it; `AZURE_AUTHORITY_HOST` is no address with TLS.
pub fn workload_identity(machine: &Machine, scope: &str) -> Result<Credentials, InvalidConfig> {
    let file = needed(TOKEN_FILE, "a workload identity", machine)?;
    let application = of_variables(Proof::TokenFile(file.into()), "a workload identity", scope, machine)?;
    Ok(Azure::Application(application).credentials(machine))
}

/// Returns the credentials of the identity that Azure gives this machine, app or container.
///
/// `client_id` chooses a user-assigned identity; without it, the system-assigned one is used. App Service, Functions
/// and Container Apps name their server in `IDENTITY_ENDPOINT`; elsewhere the virtual machine's metadata is asked.
///
/// # Errors
///
/// The variables are those of a server that we cannot ask (Azure Arc, Service Fabric, Azure ML, the Cloud Shell), or
/// hold no address. The error names the variable.
pub fn managed_identity(machine: &Machine, client_id: Option<&str>, scope: &str) -> Result<Credentials, InvalidConfig> {
    let identity = ManagedIdentity::new(client_id, given("scope", scope)?, machine)?;
    Ok(Azure::ManagedIdentity(identity).credentials(machine))
}

/// Returns the credentials that the environment asks for.
///
/// 1. `AZURE_CLIENT_SECRET`: a [`client_secret`], with `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`;
/// 2. `AZURE_FEDERATED_TOKEN_FILE`: a [`workload_identity`];
/// 3. a [`managed_identity`]; `AZURE_CLIENT_ID` chooses a user-assigned one.
///
/// The choice is made once, by the variables. A source that fails is not passed over for the next, so that requests
/// never go out as somebody else.
///
/// ```
/// use steadfast::providers::credentials::{Machine, azure};
///
/// let machine = Machine::new()
///     .variables(|name| Ok((name == "AZURE_CLIENT_SECRET").then(|| "secret".to_owned())));
/// let error = azure::default_chain(&machine, azure::AI).unwrap_err();
/// assert_eq!(error.field(), "AZURE_TENANT_ID");
/// ```
///
/// # Errors
///
/// Those of the chosen source. A missing variable is named.
pub fn default_chain(machine: &Machine, scope: &str) -> Result<Credentials, InvalidConfig> {
    if let Some(secret) = machine.variable("AZURE_CLIENT_SECRET")? {
        let application = of_variables(Proof::Secret(secret), "a client secret", scope, machine)?;
        return Ok(Azure::Application(application).credentials(machine));
    }
    let certificate = "AZURE_CLIENT_CERTIFICATE_PATH";
    if machine.variable(certificate)?.is_some() {
        let remedy = "set AZURE_CLIENT_SECRET, or unset it to use a workload identity or a managed identity";
        return Err(InvalidConfig::new(certificate, format!("a certificate cannot be used; {remedy}")));
    }
    if machine.variable(TOKEN_FILE)?.is_some() {
        return workload_identity(machine, scope);
    }
    managed_identity(machine, machine.variable(CLIENT_ID)?.as_deref(), scope)
}

/// Returns the application that the variables name.
fn of_variables(proof: Proof, of: &str, scope: &str, machine: &Machine) -> Result<Application, InvalidConfig> {
    let (tenant, client_id) = (needed(TENANT_ID, of, machine)?, needed(CLIENT_ID, of, machine)?);
    Application::new([(TENANT_ID, &tenant), (CLIENT_ID, &client_id)], proof, scope, machine)
}

fn needed(name: &'static str, of: &str, machine: &Machine) -> Result<String, InvalidConfig> {
    machine.variable(name)?.ok_or_else(|| InvalidConfig::new(name, format!("it is not set, and {of} needs it")))
}

/// Returns an argument that is not empty.
fn given<'a>(name: &'static str, text: &'a str) -> Result<&'a str, InvalidConfig> {
    let text = text.trim();
    if text.is_empty() { Err(InvalidConfig::new(name, "it is empty")) } else { Ok(text) }
}

/// A source of Azure's tokens.
enum Azure {
    Application(Application),
    ManagedIdentity(ManagedIdentity),
}

impl Azure {
    fn credentials(self, machine: &Machine) -> Credentials {
        Credentials::from_source(OnMachine { source: self, machine: machine.clone() })
    }
}

struct OnMachine {
    source: Azure,
    machine: Machine,
}

impl Source for OnMachine {
    fn name(&self) -> String {
        match &self.source {
            Azure::Application(application) => application.name(),
            Azure::ManagedIdentity(identity) => identity.name(),
        }
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(async move {
            match &self.source {
                Azure::Application(application) => application.fetch(&self.machine).await,
                Azure::ManagedIdentity(identity) => identity.fetch(&self.machine).await,
            }
        })
    }
}

const TENANT_ID: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
