//! A managed identity: the machine's own server gives the token.

use std::borrow::Cow;

use http::{HeaderName, Uri};

use crate::{
    InvalidConfig,
    credentials::{
        Machine, SourceError, Token, fetch,
        oauth::{Call, Refusal, any_url},
    },
};

pub(super) struct ManagedIdentity {
    client_id: Option<String>,
    url: Uri,
    server: Server,
}

enum Server {
    /// The instance metadata service of a virtual machine, or of a cluster's node.
    Machine,
    /// The server of App Service, Functions or Container Apps, with the secret that it wants.
    App(String),
}

impl ManagedIdentity {
    pub(super) fn new(client_id: Option<&str>, scope: &str, machine: &Machine) -> Result<Self, InvalidConfig> {
        let client_id = client_id.map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
        let (server, address, version) = server(machine)?;
        let url = {
            let (field, address) = address;
            // These servers know resources only: a scope without its last part.
            let resource = fetch::encoded(scope.strip_suffix("/.default").unwrap_or(scope));
            let and = if address.contains('?') { '&' } else { '?' };
            let id = client_id.as_deref().map(|id| format!("&client_id={}", fetch::encoded(id))).unwrap_or_default();
            any_url(field, &format!("{address}{and}api-version={version}&resource={resource}{id}"))?
        };
        Ok(Self { client_id, url, server })
    }

    pub(super) fn name(&self) -> String {
        match &self.client_id {
            Some(id) => format!("Azure's managed identity `{id}`"),
            None => "Azure's managed identity of this machine".to_owned(),
        }
    }

    pub(super) async fn fetch(&self, machine: &Machine) -> Result<Token, SourceError> {
        let host = self.url.host().unwrap_or_default();
        let who = match self.server {
            Server::Machine => format!("the metadata server of Azure at `{host}`"),
            Server::App(_) => format!("the server of IDENTITY_ENDPOINT at `{host}`"),
        };
        let call = Call::get(&who, &self.url);
        let call = match &self.server {
            // While it is updated, it answers with these for up to 70 seconds.
            Server::Machine => call.header(METADATA, Cow::Borrowed("true"))?.passing(&[404, 410]),
            Server::App(secret) => call.header(IDENTITY, secret.as_str().into())?,
        };
        let answer = call.send(machine.metadata()).await.map_err(|error| match self.server {
            Server::Machine => error.within(
                "IDENTITY_ENDPOINT is not set, so the metadata of a virtual machine in Azure was asked; elsewhere set \
                 AZURE_CLIENT_SECRET, AZURE_CLIENT_ID and AZURE_TENANT_ID",
            ),
            Server::App(_) => error,
        })?;
        Ok(answer.grant().map_err(|failure| failure.advise(|refusal| self.advice(refusal)))?.token)
    }

    fn advice(&self, refusal: &Refusal) -> Cow<'static, str> {
        let is_of_the_resource = refusal.code == "invalid_resource" || refusal.said.contains("AADSTS500011");
        Cow::Borrowed(match (&self.server, &self.client_id) {
            _ if is_of_the_resource => "check the scope, which must be one of Azure's",
            (Server::App(_), _) if matches!(refusal.status.as_u16(), 401 | 403) => {
                "IDENTITY_HEADER must be the value that Azure set for this instance: do not set it yourself"
            }
            (_, Some(_)) => "assign the user-assigned identity of this client id to the machine or app",
            (_, None) => "enable the system-assigned identity, or set AZURE_CLIENT_ID to a user-assigned one",
        })
    }
}

/// An address, with the name of the field or variable that it comes from.
type Address = (&'static str, String);

/// Returns the server of this machine, its address and the version of its protocol.
fn server(machine: &Machine) -> Result<(Server, Address, &'static str), InvalidConfig> {
    let unusable = |name: &'static str, of: &str| {
        let problem = format!("it names the identities of {of}, which cannot be used; use a client secret");
        Err(InvalidConfig::new(name, problem))
    };
    let endpoint = machine.variable(ENDPOINT)?;
    let Some(endpoint) = endpoint else {
        if machine.variable("MSI_ENDPOINT")?.is_some() {
            return unusable("MSI_ENDPOINT", "Azure ML or the Cloud Shell");
        }
        let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
        let host = machine.variable(name)?;
        let host = host.as_deref().unwrap_or("http://169.254.169.254").trim_end_matches('/');
        return Ok((Server::Machine, (name, format!("{host}/metadata/identity/oauth2/token")), "2018-02-01"));
    };
    if machine.variable("IDENTITY_SERVER_THUMBPRINT")?.is_some() {
        return unusable("IDENTITY_SERVER_THUMBPRINT", "Service Fabric");
    }
    match machine.variable("IDENTITY_HEADER")? {
        Some(secret) => Ok((Server::App(secret), (ENDPOINT, endpoint), "2019-08-01")),
        None if machine.variable("IMDS_ENDPOINT")?.is_some() => unusable("IMDS_ENDPOINT", "Azure Arc"),
        None => Err(InvalidConfig::new("IDENTITY_HEADER", "it is not set, and IDENTITY_ENDPOINT needs it")),
    }
}

const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const METADATA: HeaderName = HeaderName::from_static("metadata");
const IDENTITY: HeaderName = HeaderName::from_static("x-identity-header");
