//! Tokens as commands and metadata servers write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::{SourceError, Token, date};

/// A token with the date of its end, as a document says it.
pub(crate) struct Dated {
    pub(crate) token: Token,
    pub(crate) end: Option<SystemTime>,
}

impl Dated {
    /// Returns the token, whose end is by this machine's clock.
    pub(crate) fn by_clock(self) -> Token {
        match self.end {
            Some(end) => self.token.expires_at(end),
            None => self.token,
        }
    }
}

/// AWS's keys in JSON: of a container, of metadata (`Token`), and of `credential_process` (`SessionToken`).
#[derive(Deserialize)]
struct AwsOutput {
    #[serde(rename = "AccessKeyId")]
    id: Option<String>,
    #[serde(rename = "SecretAccessKey")]
    secret: Option<String>,
    #[serde(rename = "Token", alias = "SessionToken")]
    session: Option<String>,
    #[serde(rename = "Expiration")]
    expiration: Option<String>,
}

/// Reads AWS's keys out of JSON. No error repeats the text.
pub(crate) fn aws(text: &[u8]) -> Result<Dated, SourceError> {
    let output: AwsOutput = serde_json::from_slice(text)
        .map_err(|_| SourceError::new("no JSON object with `AccessKeyId` and `SecretAccessKey` as texts"))?;
    let missing = |name: &str| SourceError::new(format!("`{name}` is missing"));
    let id = output.id.ok_or_else(|| missing("AccessKeyId"))?;
    let secret = output.secret.ok_or_else(|| missing("SecretAccessKey"))?;
    let end = output.expiration.map(|end| date::parse(&end).ok_or_else(|| SourceError::new("`Expiration` is no date")));
    Ok(Dated { token: Token::aws(id, secret, output.session.map(Into::into)), end: end.transpose()? })
}

/// Reads a command's output: AWS's keys, an object with an access token, or the token itself.
pub(crate) fn any(text: &[u8]) -> Result<Token, SourceError> {
    let text = str::from_utf8(text).map_err(|_| SourceError::setup("its output is not UTF-8"))?.trim();
    if text.is_empty() {
        return Err(SourceError::setup("it wrote no token to its standard output"));
    }
    if !text.starts_with('{') {
        return Ok(Token::bearer(text));
    }
    let object: Value = serde_json::from_str(text).map_err(|_| {
        SourceError::setup("its output begins as JSON and is none; write the token alone, or an object")
    })?;
    if object.get("AccessKeyId").is_some() {
        return Ok(aws(text.as_bytes()).map_err(|error| error.within("its output"))?.by_clock());
    }
    let token = ["access_token", "accessToken", "token"].iter().find_map(|name| object.get(*name)?.as_str());
    let token = Token::bearer(token.ok_or_else(|| {
        SourceError::setup("its output has no `access_token`, `accessToken`, `token` or `AccessKeyId` that is a text")
    })?);
    if let Some(seconds) = seconds(object.get("expires_in")) {
        return Ok(token.expires_in(seconds));
    }
    let end = seconds(object.get("expires_on").or_else(|| object.get("expires_at")));
    if let Some(end) = end.and_then(|since_1970| UNIX_EPOCH.checked_add(since_1970)) {
        return Ok(token.expires_at(end));
    }
    // The Azure CLI's `expiresOn` is a local time without a zone: no date.
    let dates = ["expiry", "expiration", "expires_at", "expires_on", "expiresOn"];
    let end = dates.iter().find_map(|name| date::parse(object.get(*name)?.as_str()?));
    Ok(match end {
        Some(end) => token.expires_at(end),
        None => token,
    })
}

/// Returns a number of seconds, which servers write as a number or as a text.
pub(crate) fn seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Identity;

    fn bearer(text: &str) -> (String, Option<SystemTime>) {
        let token = any(text.as_bytes()).unwrap();
        let Identity::Bearer(bearer) = &token.identity else { panic!("{token:?}") };
        (bearer.to_string(), token.expires)
    }

    #[test]
    fn the_outputs_of_the_clouds_commands_are_read() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(bearer(" ya29.token\n"), ("ya29.token".into(), None));
        // az account get-access-token
        let azure = r#"{"accessToken":"eyJ","expiresOn":"2025-06-02 17:15:48.000000","expires_on":1748877348}"#;
        assert_eq!(bearer(azure), ("eyJ".into(), at(1_748_877_348)));
        // gcloud config config-helper has `access_token` and `token_expiry` further in; gcloud auth prints the token.
        assert_eq!(bearer(r#"{"token":"t","expiry":"2025-06-02T15:15:48Z"}"#), ("t".into(), at(1_748_877_348)));
        assert_eq!(bearer(r#"{"access_token":"t","expires_on":"1748877348"}"#), ("t".into(), at(1_748_877_348)));
        let (_, end) = bearer(r#"{"access_token":"t","expires_in":3599}"#);
        assert!(end.is_some());
        let aws = r#"{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"s","SessionToken":"t",
            "Expiration":"2025-06-02T15:15:48Z"}"#;
        let token = any(aws.as_bytes()).unwrap();
        let Identity::Aws(keys) = &token.identity else { panic!("{token:?}") };
        assert_eq!((&*keys.id, &*keys.secret, keys.session.as_deref()), ("AKID", "s", Some("t")));
        assert_eq!(token.expires, at(1_748_877_348));
    }

    #[test]
    fn an_output_without_a_token_is_an_error_that_does_not_repeat_it() {
        let outputs: [&[u8]; 8] = [
            b"",
            b" \n",
            b"{\"secret-1\"",
            b"{}",
            b"{\"access_token\":[\"secret-1\"]}",
            b"{\"AccessKeyId\":\"secret-1\"}",
            b"{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"b\",\"Expiration\":\"secret-1\"}",
            b"secret-1\xff",
        ];
        for output in outputs {
            let error = any(output).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret-1"), "{error:?}");
        }
    }
}
