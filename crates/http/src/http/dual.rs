use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{HttpLeaf, leaf::Settings, service};
use crate::{Dialect, LlmError, LlmRequest, LlmResponse, protocol::Protocol, response::ResponseFuture};

/// A leaf for a server with two protocols. A request of the second protocol's dialect goes there as it is; every other
/// request goes to the first.
///
/// OpenAI's is [`OpenAi::auto`](crate::OpenAi::auto). Both protocols share the transport, the key and the
/// memory of refused parameters. Clones share the settings and the transport's connections; a clone carries no
/// readiness.
#[derive(Clone)]
pub struct DualLeaf<P, Q> {
    /// The leaf of the first protocol, whose transport serves both.
    first: HttpLeaf<P>,
    second: Arc<Settings<Q>>,
}

#[allow(private_bounds, reason = "the protocols are the crate's own")]
impl<P: Protocol, Q: Protocol> DualLeaf<P, Q> {
    /// Creates the leaf of two that differ in their protocols alone.
    pub(crate) fn new(first: HttpLeaf<P>, second: HttpLeaf<Q>) -> Self {
        Self { first, second: second.settings }
    }

    /// Returns whether a request is of the second protocol's dialect: the caller's bytes are, or the fields that only
    /// one dialect has.
    fn is_for_second(&self, request: &LlmRequest) -> bool {
        let own = self.second.coder.protocol.dialect();
        dialect_of(request) == Some(own)
    }
}

fn dialect_of(request: &LlmRequest) -> Option<Dialect> {
    match request.wire() {
        Some(wire) => Some(wire.dialect()),
        None => Some(request.chat().ok()?.extra.as_ref()?.dialect),
    }
}

impl<P: Protocol, Q: Protocol> Service<LlmRequest> for DualLeaf<P, Q> {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.first.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        if self.is_for_second(&request) {
            return service::call(&self.second, &mut self.first.transport, request);
        }
        self.first.call(request)
    }
}

impl<P: Protocol, Q: Protocol> fmt::Debug for DualLeaf<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DualLeaf")
            .field("first", &self.first)
            .field("second", &self.second.coder.protocol)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use http::Request;
    use http_body_util::Full;
    use tower::{Layer, ServiceExt, limit::ConcurrencyLimitLayer};

    use super::*;
    use crate::{
        Chat, OpenAi, Wire,
        chat::{Extra, Message},
        http::testing::Scripted,
    };

    const CHAT: &str = r#"{"id":"c","object":"chat.completion","model":"gpt","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;

    /// Returns the path and the body of the request that a leaf with both protocols sends.
    async fn sent(request: LlmRequest) -> (String, String) {
        let transport = Scripted::json(CHAT);
        let leaf = OpenAi::new("secret-key").model("gpt").transport(transport.clone()).auto();
        // The answer is Chat's: only the request is looked at.
        let _answer = leaf.oneshot(request).await;
        let sent = transport.request();
        assert_eq!(sent.headers()["authorization"], "Bearer secret-key");
        (sent.uri().to_string(), String::from_utf8(transport.body().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_request_goes_to_the_protocol_of_its_own_dialect() {
        let body = r#"{"model":"gpt", "input":"hello", "unheard_of": {"a": [1.0]}}"#;
        let (url, sent_body) = sent(Wire::new(Dialect::Responses, body).unwrap().into()).await;
        assert_eq!((&*url, &*sent_body), ("https://api.openai.com/v1/responses", body));
        let body = r#"{"model":"gpt", "messages":[{"role":"user","content":"hello"}], "unheard_of": 1.0}"#;
        let (url, sent_body) = sent(Wire::new(Dialect::OpenAi, body).unwrap().into()).await;
        assert_eq!((&*url, &*sent_body), ("https://api.openai.com/v1/chat/completions", body));
    }

    #[tokio::test]
    async fn a_request_without_a_dialect_goes_to_the_first_protocol() {
        let (url, _) = sent(LlmRequest::prompt("hello")).await;
        assert_eq!(url, "https://api.openai.com/v1/chat/completions");
        let claude = r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
        let (url, _) = sent(Wire::new(Dialect::Anthropic, claude).unwrap().into()).await;
        assert_eq!(url, "https://api.openai.com/v1/chat/completions");
    }

    #[tokio::test]
    async fn a_changed_conversation_stays_with_the_dialect_whose_fields_it_has() {
        let mut chat = Chat::new([Message::user("hello")]);
        chat.extra = Some(Extra::new(Dialect::Responses, serde_json::json!({"store": false})));
        let (url, _) = sent(chat.into()).await;
        assert_eq!(url, "https://api.openai.com/v1/responses");
    }

    #[tokio::test]
    async fn both_protocols_use_the_readiness_of_one_transport() {
        let answer = Scripted::json(CHAT);
        let transport = tower::service_fn(move |request: Request<Full<bytes::Bytes>>| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(answer.oneshot(request).await.unwrap()) }
        });
        let one_at_a_time = ConcurrencyLimitLayer::new(1).layer(transport);
        let mut leaf = OpenAi::new("secret-key").model("gpt").transport(one_at_a_time).auto();
        let mut other = leaf.clone();
        poll_fn(|cx| leaf.poll_ready(cx)).await.unwrap();
        tokio_test::assert_pending!(tokio_test::task::spawn(poll_fn(|cx| other.poll_ready(cx))).poll());
        let body = r#"{"model":"gpt","input":"hello"}"#;
        let _answer = leaf.call(Wire::new(Dialect::Responses, body).unwrap().into()).await;
        drop(leaf);
        poll_fn(|cx| other.poll_ready(cx)).await.unwrap();
        assert_eq!(other.call(LlmRequest::prompt("hello")).await.unwrap().text().await.unwrap(), "hi");
    }
}
