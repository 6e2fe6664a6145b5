use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use serde::{Deserialize, Serialize};
use tower::Service;

use crate::{
    ErrorKind, LlmError, OpenAi,
    embed::{EmbedRequest, EmbedResponse},
    protocol::to_json,
};

/// Embeddings from OpenAI (`POST /v1/embeddings`), or from a server that is compatible with it.
///
/// It is created from a leaf for chat, whose address, key, transport and headers it uses. Clones share its connections.
/// It waits as long as the server does: bound it with tower's `timeout`, or in the caller.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use steadfast::{embed::EmbedRequest, providers::{openai::OpenAiEmbeddings, OpenAi, http::RequestBody}};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let in_process = tower::service_fn(|request: http::Request<RequestBody>| async move {
///     assert_eq!(request.uri().path(), "/v1/embeddings");
///     let answer = r#"{"data":[{"index":0,"embedding":[0.6,0.8]}]}"#;
///     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
/// });
/// let embeddings = OpenAiEmbeddings::new(OpenAi::new("key").model("text-embedding-3-small").transport(in_process));
/// let response = embeddings.oneshot(EmbedRequest::new(["hello".to_owned()])).await.unwrap();
/// assert_eq!(response.vectors, [[0.6, 0.8]]);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OpenAiEmbeddings {
    leaf: OpenAi,
}

impl OpenAiEmbeddings {
    /// Creates a service at this leaf's address, with its model.
    pub fn new(leaf: OpenAi) -> Self {
        Self { leaf }
    }
}

#[derive(Serialize)]
struct WireRequest<'a> {
    input: &'a [String],
    model: &'a str,
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct WireResponse {
    data: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    index: usize,
    embedding: Vec<f32>,
}

impl Service<EmbedRequest> for OpenAiEmbeddings {
    type Response = EmbedResponse;
    type Error = LlmError;
    type Future = EmbedFuture;

    /// Always ready: the future waits for the transport.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: EmbedRequest) -> EmbedFuture {
        let leaf = self.leaf.clone();
        EmbedFuture(Box::pin(async move {
            let model = leaf.model_or(request.model.as_deref())?;
            let body = to_json(&WireRequest { input: &request.texts, model: &model, encoding_format: "float" })?;
            leaf.post("/embeddings", &model, body, |answer| read(answer, request.texts.len())).await
        }))
    }
}

/// Reads the vectors and puts them in the order of the texts.
fn read(answer: &[u8], texts: usize) -> Result<EmbedResponse, LlmError> {
    let malformed = |what: &'static str| LlmError::new(ErrorKind::Malformed, what);
    // serde's error may quote the answer.
    let Ok(WireResponse { data }) = serde_json::from_slice(answer) else {
        return Err(malformed("the answer is no list of embeddings"));
    };
    let mut vectors = vec![Vec::new(); texts];
    for Vector { index, embedding } in data {
        *vectors.get_mut(index).ok_or_else(|| malformed("an embedding has no text"))? = embedding;
    }
    match vectors.iter().any(Vec::is_empty) {
        true => Err(malformed("a text has no embedding")),
        false => Ok(EmbedResponse::new(vectors)),
    }
}

/// The future of [`OpenAiEmbeddings`].
#[must_use = "futures do nothing unless polled"]
pub struct EmbedFuture(Pin<Box<dyn Future<Output = Result<EmbedResponse, LlmError>> + Send>>);

impl Future for EmbedFuture {
    type Output = Result<EmbedResponse, LlmError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for EmbedFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::http::testing::Scripted;

    async fn embed(transport: &Scripted) -> Result<EmbedResponse, LlmError> {
        let leaf = OpenAi::compatible("ollama", "http://a.test/v1").unwrap().model("m").transport(transport.clone());
        OpenAiEmbeddings::new(leaf).oneshot(EmbedRequest::new(["a".into(), "b".into()])).await
    }

    #[tokio::test]
    async fn vectors_come_in_the_order_of_the_texts() {
        let answer = r#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1.0]}],"usage":{}}"#;
        assert_eq!(embed(&Scripted::json(answer)).await.unwrap().vectors, [[1.0], [2.0]]);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_malformed() {
        for answer in [
            "{}",
            "<html>",
            r#"{"data":[{"index":0,"embedding":[1]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
        ] {
            let error = embed(&Scripted::json(answer)).await.unwrap_err();
            assert_eq!((error.kind(), error.provider()), (ErrorKind::Malformed, Some("ollama")), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_read_like_the_chats() {
        let quota = r#"{"error":{"message":"no credit","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let error = embed(&Scripted::new(429, "application/json", quota)).await.unwrap_err();
        assert_eq!((error.kind(), error.model()), (ErrorKind::QuotaExhausted, Some("m")));
    }
}
