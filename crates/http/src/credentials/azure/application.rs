//! An application's token: the grant of client credentials (RFC 6749, section 4.4).

use std::{borrow::Cow, path::PathBuf};

use http::Uri;

use super::given;
use crate::{
    InvalidConfig,
    credentials::{
        Machine, SourceError, Token,
        machine::read_file,
        oauth::{Call, Part, Refusal, secure_url},
    },
};

pub(super) struct Application {
    client_id: String,
    proof: Proof,
    scope: String,
    url: Uri,
}

/// The proof that we are the application.
pub(super) enum Proof {
    Secret(String),
    /// A file with another system's token, which is replaced from time to time.
    TokenFile(PathBuf),
}

impl Application {
    /// Creates the source. Each id has its name in errors.
    pub(super) fn new(
        [tenant, client_id]: [(&'static str, &str); 2],
        proof: Proof,
        scope: &str,
        machine: &Machine,
    ) -> Result<Self, InvalidConfig> {
        let (field, tenant) = (tenant.0, given(tenant.0, tenant.1)?);
        // It becomes a part of the path.
        if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
            return Err(InvalidConfig::new(field, "it is neither a directory's id nor one of its domains"));
        }
        let host = machine.variable(AUTHORITY_HOST)?;
        let authority = host.as_deref().unwrap_or(PUBLIC_CLOUD).trim_end_matches('/');
        Ok(Self {
            client_id: given(client_id.0, client_id.1)?.to_owned(),
            proof,
            scope: given("scope", scope)?.to_owned(),
            url: secure_url(AUTHORITY_HOST, &format!("{authority}/{tenant}/oauth2/v2.0/token"))?,
        })
    }

    pub(super) fn name(&self) -> String {
        match &self.proof {
            Proof::Secret(_) => format!("the client secret of the Azure application `{}`", self.client_id),
            Proof::TokenFile(_) => format!("the workload identity of the Azure application `{}`", self.client_id),
        }
    }

    pub(super) async fn fetch(&self, machine: &Machine) -> Result<Token, SourceError> {
        let mut form = vec![
            ("grant_type", Part::Plain("client_credentials")),
            ("client_id", Part::Plain(&self.client_id)),
            ("scope", Part::Plain(&self.scope)),
        ];
        let assertion;
        match &self.proof {
            Proof::Secret(secret) => form.push(("client_secret", Part::Secret(secret))),
            Proof::TokenFile(path) => {
                let place = || format!("the file `{}` of AZURE_FEDERATED_TOKEN_FILE", path.display());
                let text = read_file(path).await?.ok_or_else(|| {
                    SourceError::setup(format!("{} does not exist; check the pod's projected volume", place()))
                })?;
                assertion = text.trim().to_owned();
                if assertion.is_empty() {
                    return Err(SourceError::new(format!("{} is empty", place())));
                }
                form.push(("client_assertion_type", Part::Plain(ASSERTION)));
                form.push(("client_assertion", Part::Secret(&assertion)));
            }
        }
        let who = format!("Microsoft Entra ID at `{}`", self.url.host().unwrap_or_default());
        let answer = Call::form(&who, &self.url, &form).send(machine.servers()).await?;
        Ok(answer.grant().map_err(|failure| failure.advise(|refusal| self.advice(refusal)))?.token)
    }

    /// Returns what to do. Entra ID tells its refusals apart by the number in its sentence.
    ///
    /// Source: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
    fn advice(&self, refusal: &Refusal) -> Cow<'static, str> {
        let number = refusal.said.strip_prefix("AADSTS").unwrap_or_default();
        let number = &number[..number.bytes().take_while(u8::is_ascii_digit).count()];
        Cow::Borrowed(match (number, &*refusal.code, &self.proof) {
            ("7000215", ..) => "check AZURE_CLIENT_SECRET: it must be the secret's value, not its id",
            ("7000222", ..) => "the client secret has ended: make a new one for the application",
            ("7000112", ..) => "the application is disabled: enable it",
            ("700016", ..) => "the application is not in this tenant: check AZURE_CLIENT_ID and AZURE_TENANT_ID",
            ("90002" | "900023", ..) => "there is no such tenant: check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST",
            ("700024", ..) => {
                "the token in AZURE_FEDERATED_TOKEN_FILE has ended or is not valid yet: check that it is renewed, and \
                 the clock of this machine"
            }
            ("70021" | "700211" | "700212" | "700213", ..) => {
                "add a federated credential to the application, with this issuer, subject and audience"
            }
            ("500011" | "70011", ..) | (_, "invalid_scope" | "invalid_resource", _) => {
                "check the scope: Azure OpenAI has `https://cognitiveservices.azure.com/.default`"
            }
            (_, _, Proof::Secret(_)) => "check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
            (_, _, Proof::TokenFile(_)) => "check AZURE_TENANT_ID, AZURE_CLIENT_ID and the federated credential",
        })
    }
}

const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";
/// RFC 7523, section 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
