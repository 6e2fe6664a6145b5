//! The steadfast gateway: a stack of the `steadfast` library, served over HTTP to every client of Anthropic's, OpenAI's
//! or Google's API.
//!
//! The command `steadfast serve` is [`ServeOptions::serve`]:
//!
//! ```no_run
//! # async fn example() -> Result<(), steadfast_gateway::ServeError> {
//! use steadfast_gateway::ServeOptions;
//!
//! let mut options = ServeOptions::default();
//! options.config = Some("steadfast.yaml".into());
//! options.serve().await
//! # }
//! ```

mod api;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http;
mod lifecycle;
mod limits;
mod lock;
#[cfg(any(test, fuzzing))]
mod mutation;
mod server;
pub mod tasks;
#[cfg(test)]
mod tests;

/// The style of the gateway's pages, for the report of a drill.
#[doc(hidden)]
pub use self::api::observe::page::STYLE as PAGE_STYLE;
pub use self::{
    api::{
        Gateway, GatewayBuilder, HttpLlm, HttpLlmFuture, HttpLlmLayer, LogFormat, ResponseBody, ResponseFuture,
        VirtualKey, key_documents, make_key,
    },
    error::ServeError,
    server::{ServeOptions, check_keys, check_self_calls, listen_address},
};
