//! A client of your own that streams becomes a leaf, and a stream that was cut never passes for a whole answer.
//!
//! `cargo run --example streaming_provider` needs no key and no network.

use futures_util::{Stream, StreamExt, stream};
use steadfast::{
    ErrorKind, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, chat::FinishReason,
    provider_fn, providers::Canned,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// A piece of the client's answer: a text, and at the end the reason why the model has finished.
type Chunk = (&'static str, Option<&'static str>);

/// The client that you have. Its stream ends in the same way after a whole answer and after a cut, as async-openai's
/// does.
fn chat(prompt: &str) -> impl Stream<Item = Result<Chunk, String>> + Send + use<> {
    stream::iter(match prompt {
        "cut" => vec![Ok(("A function", None)), Ok((" that", None))],
        "cut at once" => Vec::new(),
        _ => vec![Ok(("A function", None)), Ok((" that remembers.", None)), Ok(("", Some("stop")))],
    })
}

/// Makes a frame of a chunk. The answer ends where the model says that it has finished, and nowhere else.
fn frame((text, finish_reason): Chunk) -> Frame {
    let mut events = vec![StreamEvent::Text { index: 0, text: text.to_owned() }];
    if let Some(reason) = finish_reason {
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

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    // `provider_fn` answers with the first token: what goes wrong before it is an error of the call, and fails over.
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("house").tier("sorry", Canned::text("In a minute, please.")))
        .service(provider_fn(answer));
    let ask = |words| llm.clone().oneshot(LlmRequest::prompt(words).with_stream(true));

    let whole = ask("Explain closures.").await?;
    assert_eq!(whole.text().await?, "A function that remembers.");
    assert_eq!(ask("cut at once").await?.served_by().tier, Some("sorry"));

    let cut = ask("cut").await?;
    let error = cut.text().await.expect_err("half a sentence is no answer");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    Ok(())
}
