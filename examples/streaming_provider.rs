//! A client of your own with serde types becomes a leaf of ten lines, and a stream that was cut never passes for a
//! whole answer.
//!
//! `cargo run --example streaming_provider` needs no key and no network. The client is in `clients/house.rs`.

use futures_util::TryStreamExt;
use http::StatusCode;
use steadfast::{
    Dialect, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, provider_fn,
    providers::{
        Canned,
        codec::{Codec, Exchange},
    },
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[path = "clients/house.rs"]
mod house;

/// Gives the client's error the kind that the layers go by.
fn failure(exchange: &Exchange, error: &house::ApiError) -> LlmError {
    exchange.error_json(StatusCode::from_u16(error.status).ok(), error)
}

async fn answer(codec: Codec, client: house::Client, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let exchange = codec.encode(&request).await?;
    let of_call = exchange.clone();
    let failed = move |error| failure(&of_call, &error);
    if request.is_stream() {
        let chunks = client.create_stream(exchange.json()?).await.map_err(&failed)?;
        exchange.stream_json(chunks.map_err(failed)).await
    } else {
        exchange.answer_json(&client.create(exchange.json()?).await.map_err(failed)?)
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let codec = Codec::new(Dialect::OpenAi).named("house").model("large");
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("house").tier("sorry", Canned::text("In a minute, please.")))
        .service(provider_fn(move |request| answer(codec.clone(), house::Client, request)));
    let ask = |words, stream| llm.clone().oneshot(LlmRequest::prompt(words).with_stream(stream));

    for stream in [false, true] {
        assert_eq!(ask("Explain closures.", stream).await?.text().await?, "A function that remembers.");
    }
    let busy = ask("busy", true).await?;
    assert_eq!((busy.served_by().tier, busy.attempts()[0].failure), (Some("sorry"), Some(ErrorKind::Overloaded)));

    let error = ask("cut", true).await?.text().await.expect_err("half a sentence is no answer");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    Ok(())
}
