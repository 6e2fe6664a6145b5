//! The clouds' token servers: STS, instance metadata, container credentials and SSO of AWS; Google's token endpoint,
//! token exchange and metadata server; Entra's token endpoint, and Azure's instance metadata.
//!
//! What they take is in [`Accounts`], and what they issue is known to the doors from then on.

mod aws;
mod azure;
mod google;
#[cfg(test)]
mod tests;

use http::request::Parts;
use serde_json::Value;

use crate::door::{Accounts, TokenFault};

/// A status, a content type and a body.
pub(super) type Issued = (u16, &'static str, String);

const JSON: &str = "application/json";

/// Answers a request to a token server: `None` for other paths, `Some(None)` if it hangs.
pub(super) fn answer(request: &Parts, body: &[u8], accounts: &Accounts) -> Option<Option<Issued>> {
    let form = Form::parse(request, body);
    let servers = [aws::answer, google::answer, azure::answer];
    let mut state = accounts.lock();
    let fault = state.fault;
    let issued =
        servers.iter().find_map(|server| server(request, &form, &mut state, fault == Some(TokenFault::Refused)))?;
    Some(match fault {
        Some(TokenFault::Hang) => None,
        Some(TokenFault::Unavailable) => Some((503, "text/plain", "Service Unavailable".to_owned())),
        Some(TokenFault::Html) => {
            let page =
                "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome to the network.</body></html>";
            Some((200, "text/html; charset=UTF-8", page.to_owned()))
        }
        _ => Some(issued),
    })
}

fn json(status: u16, body: Value) -> Issued {
    (status, JSON, body.to_string())
}

/// The fields of a query and of a form.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(request: &Parts, body: &[u8]) -> Self {
        let body = std::str::from_utf8(body).unwrap_or_default();
        // Google's exchange also takes JSON.
        if let Ok(Value::Object(fields)) = serde_json::from_str(body) {
            let text = |value: Value| value.as_str().map(str::to_owned);
            return Self(fields.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect());
        }
        let pairs = [request.uri.query().unwrap_or_default(), body].into_iter().flat_map(|text| text.split('&'));
        let plain = |text: &str| crate::door::decoded(&text.replace('+', " "));
        Self(pairs.filter_map(|pair| pair.split_once('=')).map(|(n, v)| (plain(n), plain(v))).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}
