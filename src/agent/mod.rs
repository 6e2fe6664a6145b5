//! PartialAnswer agent work: what to do with an answer that was cut, and how to act on one that was not, once.
//!
//! A stream can break when half of an answer has been shown, and with it half of a tool call. Three things follow, and this
//! module has a part for each:
//!
//! - **What was delivered is kept.** An [`AnswerReader`] reads any [`LlmBody`](crate::LlmBody) piece by piece. Where it is
//!   cut, the error is a [`Cut`] with the [`PartialAnswer`] answer: its text, its tool calls, those that were whole apart from
//!   those that were not, and the tokens. The event of the request says how much it was, and no word of it:
//!   [`RequestEnded::delivered`](crate::events::RequestEnded::delivered).
//! - **To begin anew is one clear signal.** Where a [`Fallback`](crate::layers::fallback::StreamBreak::Restart) goes on with
//!   another tier, the reader gives one [`AnswerEvent::Discard`]: all before it is void, for the one who shows it and for what
//!   the reader itself has kept.
//! - **Only a completed answer is acted on, and once.** [`Actions`] take a [`CompletedAnswer`], which there is only of an
//!   answer that was read to its provider's own end mark. They do each tool call once for its key: when the answer is asked
//!   for again, repeated, or handled by two at the same time, whoever asks has the first result.
//!
//! # What a key is made of
//!
//! Of the [`Scope`] (the turn: its idempotency key, usually) and of the call: its name and arguments, however they are
//! written, or the provider's id of it ([`KeyBy`]). By default, the same call twice in one turn is one action, for models
//! repeat themselves; where it means two, as with dice, use the id. With the scope of a whole session, a model that asks
//! for the same in the next turn has the first result too.
//!
//! # What "once" means
//!
//! Within one process: an action that has begun runs to its end, whoever leaves in the meantime, and its result is kept for
//! its [time](Actions::ttl), in bounded number. Between processes, and over a restart: as far as the [store](ActionStore) is
//! shared and durable; with the feature `idempotency`, `StoredActions` are in any store of idempotency keys. A process
//! that dies in the middle of an action leaves a [lease](Actions::lease); after it, the action is done again, for nobody
//! knows how far it came. What must not happen twice even then needs a key that the other side knows:
//! [`ActionKey::as_str`] is the same every time.
//!
//! # Example: an agent's loop
//!
//! It survives a stream that is cut in the middle of a tool call, and a turn that is done again after its process has
//! forgotten it.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
//! use futures_util::stream;
//! use steadfast::{
//!     BoxLlmService, Chat, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
//!     agent::{Actions, AnswerReader, CompletedAnswer, Scope},
//!     chat::{FinishReason, Message, Part, Role, ToolCall},
//!     provider_fn,
//! };
//! use tower::{BoxError, ServiceExt};
//!
//! /// Asks until an answer is complete. What was cut is shown to nobody here, and acted on by nobody anywhere.
//! async fn ask(llm: &BoxLlmService, request: &LlmRequest) -> Result<CompletedAnswer, BoxError> {
//!     let mut tries = 0;
//!     loop {
//!         let response = llm.clone().oneshot(request.clone()).await?;
//!         match AnswerReader::from(response).complete().await {
//!             Ok(answer) => return Ok(answer),
//!             Err(cut) if tries < 3 => eprintln!("{cut}; it had cost {:?}", cut.partial().usage()),
//!             Err(cut) => return Err(cut.into()),
//!         }
//!         tries += 1;
//!     }
//! }
//!
//! /// Goes on until the model calls no more tools.
//! async fn run(llm: &BoxLlmService, actions: &Actions<String>, seats: Arc<AtomicUsize>) -> Result<String, BoxError> {
//!     let mut chat = Chat::new([Message::user("Book me a seat by the window.")]);
//!     for turn in 0.. {
//!         let request = LlmRequest::from(chat.clone()).stream(true).idempotency_key(format!("chat-7/turn-{turn}"));
//!         let answer = ask(llm, &request).await?;
//!         let scope = Scope::of(&request).expect("it has a key");
//!         let seats = seats.clone();
//!         let book = move |call: ToolCall| {
//!             let number = seats.fetch_add(1, Relaxed) + 1;
//!             async move { Ok::<_, BoxError>(format!("booked with {}, as number {number}", call.arguments)) }
//!         };
//!         let acted = actions.act(&scope, &answer, book).await?;
//!         if acted.is_empty() {
//!             return Ok(answer.text());
//!         }
//!         chat.messages.push(answer.into_message());
//!         let results = acted.iter().map(|acted| Part::ToolResult(acted.tool_result())).collect();
//!         chat.messages.push(Message::new(Role::User, results));
//!     }
//!     unreachable!("turns do not run out")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! // A model whose first answer is cut, and which writes its call in another way each time.
//! let asked = Arc::new(AtomicUsize::new(0));
//! let llm = BoxLlmService::new(provider_fn(move |request: LlmRequest| {
//!     let (asked, index) = (asked.fetch_add(1, Relaxed), 0);
//!     let call = |json: &str| vec![
//!         StreamEvent::ToolCall { index, id: format!("call_{asked}"), name: "book".into(), opaque: None },
//!         StreamEvent::Arguments { index, json: json.into() },
//!     ];
//!     let end = |reason| vec![StreamEvent::Finish(reason), StreamEvent::End];
//!     let events = match (request.chat().unwrap().messages.len(), asked) {
//!         (1, 0) => vec![call(r#"{"by":"win"#)],
//!         (1, 1) => vec![call(r#"{"by":"window","row":12}"#), end(FinishReason::ToolUse)],
//!         (1, _) => vec![call(r#"{ "row": 12, "by": "window" }"#), end(FinishReason::ToolUse)],
//!         _ => vec![vec![StreamEvent::Text { index, text: "You have a seat.".into() }], end(FinishReason::Stop)],
//!     };
//!     let frames = stream::iter(events.into_iter().flatten().map(|event| Ok(Frame::event(event))));
//!     async { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))) }
//! }));
//! let (actions, seats) = (Actions::new(), Arc::new(AtomicUsize::new(0)));
//! assert_eq!(run(&llm, &actions, seats.clone()).await?, "You have a seat.");
//! // Once more from the beginning, as after a restart of whoever ran it.
//! assert_eq!(run(&llm, &actions, seats.clone()).await?, "You have a seat.");
//! assert_eq!(seats.load(Relaxed), 1, "one seat, however often it was asked for");
//! # Ok(())
//! # }
//! ```

mod actions;
mod completed;
mod in_flight;
mod key;
mod memory;
mod outcome;
mod partial;
mod reader;
mod store;
#[cfg(feature = "idempotency")]
mod stored;

#[cfg(feature = "idempotency")]
pub use self::stored::StoredActions;
pub use self::{
    actions::Actions,
    completed::CompletedAnswer,
    key::{ActionKey, KeyBy, Scope},
    memory::MemoryActions,
    outcome::{ActionError, ToolOutcome},
    partial::{Cut, PartialAnswer},
    reader::{AnswerEvent, AnswerReader},
    store::{ActionClaim, ActionStore, ActionStoreFuture},
};
