//! The metadata server of a machine in Google's cloud.

use std::borrow::Cow;

use http::HeaderName;

use super::{state::State, token_server::SCOPE};
use crate::{
    InvalidConfig,
    credentials::{
        Machine, SourceError, Token, fetch,
        oauth::{Call, any_url},
    },
};

/// Returns the server's host, and its port if it has one.
pub(super) fn host(machine: &Machine) -> Result<String, InvalidConfig> {
    Ok(machine.variable(HOST)?.unwrap_or_else(|| "metadata.google.internal".to_owned()))
}

/// Fetches a token of the machine's service account.
pub(super) async fn fetch(state: &State) -> Result<Token, SourceError> {
    let host = host(&state.machine)?;
    let who = format!("the metadata server `{host}`");
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let url = any_url(HOST, &format!("http://{host}{path}?scopes={}", fetch::encoded(SCOPE)))?;
    let call = Call::get(&who, &url).header(FLAVOR, Cow::Borrowed("Google"))?;
    let answer = call.send(state.machine.metadata()).await?;
    // Another server at this address would be a router's page or a trap.
    if answer.headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
        let problem = "is none of Google's: its answer lacks `Metadata-Flavor: Google`";
        return Err(SourceError::setup(format!("{who} {problem}; check {HOST} and the proxies on the way")));
    }
    let grant = answer.grant().map_err(|failure| {
        failure.advise(|refusal| {
            Cow::Borrowed(match refusal.status.as_u16() {
                404 => "no service account is attached to this machine, or not to this pod: attach one",
                403 => "the machine's service account may not be used: check its scopes and roles in IAM",
                _ => "check the service account that is attached to this machine",
            })
        })
    });
    Ok(grant?.token)
}

const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const HOST: &str = "GCE_METADATA_HOST";
