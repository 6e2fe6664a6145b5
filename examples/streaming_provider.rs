//! A client of your own that streams becomes a leaf, and a stream that was cut never passes for a whole answer.
//!
//! `cargo run --example streaming_provider` needs no key and no network.

use futures_util::{Stream, StreamExt, stream};
use steadfast::{
    ErrorKind, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{FinishReason, Usage},
    provider_fn,
    providers::Canned,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// What the client that you have already gives, piece by piece.
#[derive(Clone, Default)]
struct Chunk {
    text: &'static str,
    finish_reason: Option<&'static str>,
    output_tokens: Option<u64>,
}

/// The client itself. Its stream ends in the same way after a whole answer and after a cut, as async-openai's does.
fn chat(prompt: &str) -> impl Stream<Item = Result<Chunk, String>> + Send + use<> {
    let text = |text| Ok(Chunk { text, ..Chunk::default() });
    let end = Ok(Chunk { finish_reason: Some("stop"), output_tokens: Some(4), ..Chunk::default() });
    stream::iter(match prompt {
        "cut" => vec![text("A function"), text(" that")],
        "cut at once" => Vec::new(),
        _ => vec![text("A function"), text(" that remembers."), end],
    })
}

/// A chunk of the client as a frame of the crate. The end is where the model says that it has finished, and nowhere else.
fn frame(chunk: Chunk) -> Frame {
    let mut events = vec![StreamEvent::Text { index: 0, text: chunk.text.to_owned() }];
    events.extend(chunk.output_tokens.map(|output| StreamEvent::Usage(Usage::new(0, output))));
    if let Some(reason) = chunk.finish_reason {
        let reason = if reason == "length" { FinishReason::Length } else { FinishReason::Stop };
        events.extend([StreamEvent::Finish(reason), StreamEvent::End]);
    }
    Frame::events_of(events)
}

async fn answer(request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let chunks = chat(&request.chat()?.messages[0].text());
    let failed = |words| LlmError::new(ErrorKind::StreamBroken, words);
    let body = LlmBody::from_frames(chunks.map(move |chunk| chunk.map(frame).map_err(failed)));
    Ok(LlmResponse::new(body).with_model("house", "large"))
}

pub(crate) async fn run() -> Result<(), BoxError> {
    // `provider_fn` answers with the first token: what goes wrong before it is an error of the call, and fails over.
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("house").tier("sorry", Canned::text("In a minute, please.")))
        .service(provider_fn(answer));
    let ask = |words| llm.clone().oneshot(LlmRequest::prompt(words).stream(true));

    let whole = ask("Explain closures.").await?;
    assert_eq!(whole.text().await?, "A function that remembers.");
    assert_eq!(ask("cut at once").await?.served_by().tier, Some("sorry"));

    let cut = ask("cut").await?;
    let error = cut.text().await.expect_err("half a sentence is no answer");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run().await
}
