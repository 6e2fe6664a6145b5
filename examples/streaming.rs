//! A stream that breaks in the middle begins again at the next tier, and its reader is told so.
//!
//! `cargo run --example streaming` needs no key and no network.

use steadfast::{
    FallbackLayer, LlmRequest,
    layers::fallback::{FeaturePolicy, StreamBreak},
    providers::{Simulated, simulated::Fault},
};
use steadfast_agent::{AnswerEvent, AnswerReader};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let primary = Simulated::new("primary").reply("One two three four five.");
    let backup = Simulated::new("backup").reply("Six seven eight.");
    primary.handle().fail(Fault::CutAfter(3));
    let policy = FeaturePolicy::new().stream_break(StreamBreak::Restart);
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("primary").tier("backup", backup).default_policy(policy))
        .service(primary);

    let answer = llm.oneshot(LlmRequest::prompt("Count.").with_stream(true)).await?;
    let (mut reader, mut screen) = (AnswerReader::from(answer), String::new());
    while let Some(piece) = reader.next().await {
        match piece? {
            AnswerEvent::Text(text) => screen.push_str(&text),
            AnswerEvent::Discard { .. } => {
                println!("discarded: {screen}");
                screen.clear();
            }
            // The provider's own end mark: the answer is whole.
            AnswerEvent::Completed(answer) => assert_eq!(answer.text(), screen),
            _ => {}
        }
    }
    println!("complete: {screen}");
    assert_eq!(screen, "Six seven eight.");
    Ok(())
}
