//! The gateway of a client: that it is one, the caller's key, and the requests of the time.

use std::time::Duration;

use http::{Method, StatusCode, Uri};
use serde_json::Value;
use tokio::time::sleep;

use super::{client::Address, summary::Summary};
use crate::{
    Failure,
    remote::{Remote, escaped},
};

/// A gateway that answers.
pub(super) struct RunningGateway {
    remote: Remote,
    url: String,
    /// The name of the caller's key; `None` if the gateway has no keys.
    key_name: Option<String>,
    /// The last request before the client.
    before: Option<String>,
}

/// The most records that a gateway lists.
const MOST: usize = 1000;
/// The time in which a request that its caller left is known to have ended.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

impl RunningGateway {
    /// Finds a gateway at this address, and what it knows the key in this variable as.
    ///
    /// # Errors
    ///
    /// Nothing answers there, it is no gateway, or it refuses the key.
    pub(super) async fn find(url: Uri, key_env: &str) -> Result<Self, Failure> {
        let remote = Remote::reading(url, key_env)?;
        let status = remote.ask("/status", None).await?;
        if !status["tiers"].is_array() {
            return Err(remote.refused(StatusCode::OK, &Value::Null));
        }
        let (status, body) = remote.answer(Method::GET, "/v1/key", None).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let key_name = match status {
            StatusCode::OK => answer["key"]["name"].as_str().map(str::to_owned),
            StatusCode::NOT_FOUND => None,
            _ => {
                let hint = |message| format!("{message}\nthe variable {key_env} has the key of this gateway's caller");
                return Err(remote.refused(status, &answer).with_message(hint));
            }
        };
        let url = remote.address();
        let mut gateway = Self { remote, url, key_name, before: None };
        let last = gateway.requests(1).await?;
        gateway.before = last["requests"][0]["id"].as_str().map(str::to_owned);
        Ok(gateway)
    }

    /// Returns what a client needs to know.
    pub(super) fn address(&self) -> Address<'_> {
        let key = self.remote.key().filter(|_| self.key_name.is_some());
        Address { url: &self.url, key, is_local: self.remote.is_local() }
    }

    /// Returns whether the gateway knows its callers.
    pub(super) fn has_keys(&self) -> bool {
        self.key_name.is_some()
    }

    /// Sums up the requests since the client began.
    pub(super) async fn summary(&self) -> Result<Summary, Failure> {
        let mut answer = self.requests(MOST).await?;
        if Summary::of(&answer, self.before.as_deref()).is_under_way() {
            sleep(LAST_REQUESTS).await;
            answer = self.requests(MOST).await?;
        }
        Ok(Summary::of(&answer, self.before.as_deref()))
    }

    async fn requests(&self, limit: usize) -> Result<Value, Failure> {
        let key = self.key_name.as_deref().map(|name| format!("&key={}", escaped(name))).unwrap_or_default();
        self.remote.ask(&format!("/requests?limit={limit}{key}"), None).await
    }
}
