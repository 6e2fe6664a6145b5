//! Keys of AWS.

use super::{Credentials, Machine, SourceError, Token};
use crate::InvalidConfig;

/// Creates credentials of a fixed pair of keys.
///
/// # Errors
///
/// A key is empty, or has characters that no key has.
pub fn keys(id: &str, secret: &str, session: Option<&str>) -> Result<Credentials, InvalidConfig> {
    let token = Token::aws(id, secret, session.map(Into::into));
    match token.problem() {
        Some(problem) => Err(InvalidConfig::new("keys", problem)),
        None => Ok(Credentials::token(token)),
    }
}

/// Reads a pair of keys, or a bearer key of Bedrock, from the environment.
///
/// # Errors
///
/// Neither is set, or only half of a pair.
pub fn environment(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let _ = SourceError::absent("");
    let get = |name: &'static str| {
        let value = machine.variable(name)?;
        value.ok_or_else(|| InvalidConfig::new(name, "it is not set"))
    };
    keys(&get("AWS_ACCESS_KEY_ID")?, &get("AWS_SECRET_ACCESS_KEY")?, machine.variable("AWS_SESSION_TOKEN")?.as_deref())
}
