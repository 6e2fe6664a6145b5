//! A cap on what a feature may spend in a day: reserved before the call, settled after it.
//!
//! `cargo run --example budget` needs no key and no network; its clock is paused.

use steadfast::{
    BudgetLayer, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{Chat, Message, Usage},
    layers::budget::{Cap, Period},
    prices::{PriceTable, Usd},
    provider_fn,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    // 1,000 input and 500 output tokens of gpt-4o cost $0.0075.
    let gpt = provider_fn(|_request| async {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(1000, 500));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("openai", "gpt-4o"))
    });
    let dollars = Usd::from_dollars(0.015).ok_or("an amount")?;
    let cap = Cap::new("chat per day", dollars, Period::Day).feature("chat");
    let layer = BudgetLayer::new(PriceTable::builtin()).cap(cap);
    let budget = layer.handle();
    let llm = ServiceBuilder::new().layer(layer).service(gpt);
    let request =
        LlmRequest::from(Chat::new([Message::user("hello")]).model("gpt-4o").max_tokens(500)).with_feature("chat");

    let refused = loop {
        match llm.clone().oneshot(request.clone()).await {
            Ok(answer) => println!("answered for {}", answer.cost().ok_or("the model has a price")?),
            Err(error) => break error,
        }
    };
    println!("{refused}");
    assert_eq!(refused.kind(), ErrorKind::Budget);
    assert_eq!(budget.spent("chat per day").to_string(), "$0.015");
    assert_eq!(refused.retry_at(), budget.resets_at("chat per day"));
    Ok(())
}
