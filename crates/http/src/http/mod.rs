//! The common part of the provider leaves: one leaf over HTTP, with a protocol for each provider.
//!
//! [`HttpLeaf`] encodes a request, sends it through a transport (any `tower::Service<http::Request<RequestBody>>`),
//! checks the status, and decodes the answer by what it is: its first bytes show events, JSON or a page, whatever its
//! label says. Its future resolves at the [commit
//! point](crate::CommitPoint). It does not retry, wait or limit time: the layers do. There is one exception: after a
//! refusal of reasoning that another account sealed, the leaf sends the request a second time, without that reasoning.
//!
//! # Forwarding and translation
//!
//! A request in the provider's own dialect ([`Wire`](crate::Wire)) is forwarded byte for byte, with few changes in
//! place: the top-level `model` and `stream`, if the body and not the path names them; the limit of tokens, if a layer
//! has set one; and the thoughts and ids of an earlier turn by another provider or account, which this one would
//! refuse. The caller's headers go along, except for its credentials and the headers of a connection. Every other
//! request goes through [`Chat`](steadfast_core::Chat). A part that the provider cannot carry is refused with
//! [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), or omitted and listed in
//! [`LlmResponse::notes`](crate::LlmResponse::notes).
//!
//! # Errors
//!
//! The leaf reads an error answer before it classifies it: the code in its body first, then its type, then the text of
//! its message, and the status last. Errors inside a 200 (a JSON body with `error`, an error event, a stream that ends
//! without the provider's end mark) are errors all the same. No error holds prompt text, an answer or a key.
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

mod address;
mod base_url;
mod caller_transport;
mod dispatch;
#[cfg(feature = "clouds")]
#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
pub mod door;
mod dual;
mod error;
mod form;
mod leaf;
mod opaque;
mod post;
mod reading;
mod service;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upload;
mod worked_keys;

#[cfg(feature = "clouds")]
#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
#[doc(no_inline)]
pub use self::door::AwsApi;
pub(crate) use self::leaf::{Variable, variable};
pub use self::{base_url::BaseUrl, caller_transport::CallerTransport, dual::DualLeaf, leaf::HttpLeaf};
pub use crate::boxed::{Transport, boxed};
pub use crate::protocol::{Limits, RequestBody, looks_like_a_key};
#[doc(no_inline)]
pub use crate::response::ResponseFuture;
