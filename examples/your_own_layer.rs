//! A layer of your own among ours: it refuses long prompts, so that they cost nothing.
//!
//! `cargo run --example your_own_layer` needs no key and no network.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use steadfast::{BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, chat::Message, providers::Simulated};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// Refuses prompts of more characters than it allows. Clones share nothing but the inner service.
#[derive(Clone, Debug)]
struct PromptLimit<S> {
    inner: S,
    characters: usize,
}

impl<S> Service<LlmRequest> for PromptLimit<S>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Either<S::Future, Ready<Result<LlmResponse, LlmError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let length =
            request.chat().map(|chat| chat.messages.iter().map(|said| Message::text(said).chars().count()).sum());
        match length {
            Ok(length) if self.characters < length => {
                let problem = format!("a prompt of {length} characters; at most {} are allowed", self.characters);
                Either::Right(ready(Err(LlmError::new(ErrorKind::TooLarge, problem))))
            }
            Ok(_) => Either::Left(self.inner.call(request)),
            Err(error) => Either::Right(ready(Err(error))),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let llm = ServiceBuilder::new()
        .layer_fn(|inner| PromptLimit { inner, characters: 100 })
        .layer(BulkheadLayer::new().feature("chat", 20))
        .service(Simulated::new("sonnet").reply("hello"));
    println!("{}", llm.clone().oneshot(LlmRequest::prompt("short")).await?.text().await?);
    let refused = llm.oneshot(LlmRequest::prompt("long ".repeat(50))).await.unwrap_err();
    println!("{refused}");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    Ok(())
}
