//! Credentials that refresh themselves: tokens, and the sources that they come from.
//!
//! | source | for |
//! |---|---|
//! | [`Credentials::token`] | a token that never changes |
//! | [`Credentials::command`] | a command that writes a token, such as `gcloud auth print-access-token` |
//! | [`Credentials::service`] | a `tower::Service<(), Response = Token>` of your own: a vault, a sidecar |
//! | [`aws`] | AWS: keys, the environment, profiles, SSO, web identity, a container's or an instance's role |
//! | [`google`] | Vertex: application default credentials, keys, users, federation, impersonation, the metadata server |
//! | [`azure`] | Entra ID: client secrets, workload identities, managed identities |
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use steadfast::{Events, providers::credentials::{Credentials, Token}};
//!
//! let events = Events::new();
//! let vault = tower::service_fn(|()| async {
//!     Ok::<_, Infallible>(Token::bearer("a token of the vault").expires_in(Duration::from_secs(900)))
//! });
//! let credentials = Credentials::service(vault).events(&events);
//! # drop(credentials);
//! ```
//!
//! # Refreshes
//!
//! All clones of [`Credentials`] share one token and one refresh, in a task of its own. The task fetches a new token
//! five to six minutes before the end of the old one, or once half of a shorter life is over. Requests use the old
//! token meanwhile. Only a request that finds no token waits. Unused credentials lapse: the task refreshes a token only
//! if a request has used it. A token without a known end is fetched again every ten minutes, and used until then.
//!
//! A failed refresh is repeated after one second, and after twice the pause each time, up to a minute. A mistake of the
//! configuration is looked at again after half a minute. The last token is used to its end. From then on requests fail
//! at once with [`ErrorKind::Credentials`](crate::ErrorKind::Credentials), so that a fallback goes on to the next tier.
//! The failure begins and ends with an [event](crate::Event::CredentialsFailed), which the alert rule `credentials`
//! reports.
//!
//! A provider that refuses a token (401, 403) causes a refresh too, at most once in 30 seconds.
//!
//! # Clocks
//!
//! A wrong clock on this machine does no harm where a token server says how long a token holds, or sends its own date.
//! AWS's signatures have a date: the `Date` of a refusal corrects that of the next signature.
//!
//! # Secrets
//!
//! No `Debug`, error, event or log shows a token, a key, or a command's output or arguments. Of a token server's answer
//! an error has the code and the message of a refusal, unless they repeat what was sent.

pub mod aws;
pub mod azure;
mod command;
mod date;
mod fetch;
pub mod google;
mod handle;
mod machine;
mod oauth;
mod output;
mod refresh;
mod service;
pub(crate) mod sigv4;
mod source;
#[cfg(test)]
mod tests;
mod token;

pub use self::{handle::Credentials, machine::Machine, token::Token};
#[allow(unused_imports, reason = "the doors use them")]
pub(crate) use self::{
    source::{Source, SourceError, TokenFuture},
    token::{AwsKeys, Identity},
};
