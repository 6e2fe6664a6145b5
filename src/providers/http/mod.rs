//! What the provider leaves share: one leaf over HTTP, told apart by its protocol.
//!
//! [`HttpLeaf`] encodes a request, sends it through a transport (any `tower::Service<http::Request<RequestBody>>`), checks
//! status and content type, and decodes the answer; its future resolves at the [commit point](crate::CommitPoint). It does
//! not retry, wait or limit time: that is what the layers are for.
//!
//! # What is forwarded and what is translated
//!
//! A request in the provider's own dialect ([`Wire`](crate::Wire)) is forwarded byte for byte. Changed in place are only the
//! top-level `model` and `stream`, where the body and not the path names them, and the limit of tokens, where a layer has
//! set one; and where an earlier turn was another provider's, its thoughts and ids that this one would refuse. Its headers
//! go along, except the caller's credentials and what belongs to a connection. Everything else goes through [`Chat`](crate::Chat); what the provider cannot
//! carry is refused with [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), or left out and named in
//! [`LlmResponse::notes`](crate::LlmResponse::notes).
//!
//! # Errors
//!
//! An error answer is read before it is classified: the code in its body first, then its type, then the text of its
//! message, and the status last. Errors inside a 200 (a JSON body with `error`, an error event, a stream that
//! ends without the provider's end mark) are errors all the same. No error holds prompt text, an answer or a key.
//!
//! # Your own transport
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use steadfast::{LlmRequest, providers::{Anthropic, http::RequestBody}};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let in_process = tower::service_fn(|request: http::Request<RequestBody>| async move {
//!     assert_eq!(request.uri().path(), "/v1/messages");
//!     let answer = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
//!     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
//! });
//! let leaf = Anthropic::new("key").model("claude-sonnet-4-5").transport(in_process);
//! let response = leaf.oneshot(LlmRequest::prompt("hello")).await.unwrap();
//! assert_eq!(response.text().await.unwrap(), "hi");
//! # }
//! ```

mod base_url;
mod body;
mod facts;
mod failure;
mod frames;
mod leaf;
mod limits;
#[cfg(feature = "cache")]
mod post;
mod protocol;
mod refused;
mod service;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use self::failure::looks_like_a_key;
#[cfg(feature = "config")]
pub(crate) use self::leaf::{Transport, boxed};
pub(crate) use self::{
    base_url::BaseUrl,
    facts::Facts,
    failure::LONGEST_RATE_WAIT,
    leaf::{Variable, variable},
    protocol::{Asked, Fault, Protocol, StreamDecoder, to_json, to_value},
    refused::Optional,
};
pub use self::{body::RequestBody, leaf::HttpLeaf, limits::Limits};
pub use super::future::ResponseFuture;
