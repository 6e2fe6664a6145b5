use std::{ffi::OsString, fmt, sync::Arc, time::SystemTime};

use http::HeaderValue;
use tower::{BoxError, Service};

use super::{Source, Token, command::CommandSource, refresh::Refresh, service::ServiceSource};
use crate::{Events, InvalidConfig, LlmError};

/// Credentials that refresh themselves. Clones share one token and one refresh.
///
/// The token is refreshed before it ends, in a task of its own and once for all callers. A failed refresh is repeated
/// with growing pauses, and the last token is used to its end. A call without a token fails with
/// [`ErrorKind::Credentials`](crate::ErrorKind::Credentials), before anything is sent.
///
/// `Debug` shows the source's name only.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Refresh>,
}

impl Credentials {
    /// Creates credentials of one token, which is never refreshed.
    pub fn token(token: Token) -> Self {
        Self::fixed("the fixed token", token)
    }

    /// Creates credentials of one token, with a name for errors.
    pub(crate) fn fixed(name: &str, token: Token) -> Self {
        Self { shared: Refresh::fixed(name, token) }
    }

    /// Creates credentials whose tokens a command writes to its standard output: the token alone, or JSON.
    ///
    /// JSON is AWS's (`AccessKeyId`, `SecretAccessKey`, `SessionToken`, `Expiration`), or an object with
    /// `access_token`, `accessToken` or `token`, and `expires_in`, `expires_on`, `expires_at` or `expiry`. A token
    /// without an end is fetched again every ten minutes, and used until then and while that fails.
    ///
    /// The command runs without a shell, within 30 seconds, and reads no input. If it fails, the error has the first
    /// line of its error output, and never its output.
    ///
    /// # Errors
    ///
    /// The command is empty.
    ///
    /// ```
    /// use steadfast::providers::credentials::Credentials;
    ///
    /// let credentials = Credentials::command(["gcloud", "auth", "print-access-token"])?;
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn command(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, InvalidConfig> {
        let source = CommandSource::new(argv.into_iter().map(Into::into).collect())?;
        Ok(Self::from_source(source))
    }

    /// Creates credentials whose tokens come from a service of your own.
    ///
    /// The service is called for each refresh, in a task. Its error appears in the cause of ours, so it must hold no
    /// secret.
    ///
    /// ```
    /// use std::{convert::Infallible, time::Duration};
    /// use steadfast::providers::credentials::{Credentials, Token};
    ///
    /// let vault = tower::service_fn(|()| async {
    ///     Ok::<_, Infallible>(Token::bearer("from the vault").expires_in(Duration::from_secs(900)))
    /// });
    /// let credentials = Credentials::service(vault);
    /// ```
    pub fn service<S>(service: S) -> Self
    where
        S: Service<(), Response = Token> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self::from_source(ServiceSource(service))
    }

    /// Creates credentials whose tokens come from a source.
    pub(crate) fn from_source(source: impl Source) -> Self {
        Self { shared: Refresh::new(source) }
    }

    /// Sets the channel for [`Event::CredentialsFailed`](crate::Event::CredentialsFailed) and
    /// [`Event::CredentialsRenewed`](crate::Event::CredentialsRenewed). Default: none, and the log has both. Only the
    /// first call takes effect, for all clones.
    #[must_use]
    pub fn events(self, events: &Events) -> Self {
        self.shared.set_events(events);
        self
    }

    /// Returns the source's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Returns the token if it holds. Starts a refresh in a task if that is due.
    pub(crate) fn current(&self) -> Option<Arc<Token>> {
        self.shared.current()
    }

    /// Returns the token, and waits for a refresh only if no token holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`](crate::ErrorKind::Credentials) if the refresh fails, or failed a moment ago.
    pub(crate) async fn get(&self) -> Result<Arc<Token>, LlmError> {
        self.shared.get().await
    }

    /// Records that the provider refused this token (401, 403). The token is refreshed soon, at a bounded rate. `date`
    /// is the answer's `Date`, for a refusal of the signature or its time: it corrects the clock of signatures.
    ///
    /// Returns true if a second attempt may succeed: there is another token already, or the date was corrected a
    /// moment ago.
    pub(crate) fn refused(&self, token: &Arc<Token>, date: Option<&HeaderValue>) -> bool {
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        self.shared.refused(token, date)
    }

    /// Waits for the refresh that a [refusal](Self::refused) caused, and returns the token that replaces the refused
    /// one. Returns `None` if no refresh is under way, or if it fails.
    pub(crate) async fn renewed(&self, refused: &Arc<Token>) -> Option<Arc<Token>> {
        self.shared.renewed(refused).await
    }

    /// Returns the time to sign requests with: the wall clock with its correction.
    pub(crate) fn signing_time(&self) -> SystemTime {
        self.shared.signing_time()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("source", &self.shared.name).finish_non_exhaustive()
    }
}
