//! Partial agent work: handling answers that were cut, and acting once on complete ones.
//!
//! A stream can break in the middle of an answer, or of a tool call. This module covers the three consequences:
//!
//! - **Delivery content is kept.** An [`AnswerReader`] reads any [`LlmBody`](steadfast::LlmBody) piece by piece. If the
//!   answer is cut, the error is a [`Cut`] with the [`PartialAnswer`]: its text, its complete and incomplete tool
//!   calls, and the tokens. The request's event reports the amount, but no content:
//!   [`RequestEnded::delivered`](steadfast::events::RequestEnded::delivered).
//! - **A restart is one clear signal.** If a [`Fallback`](steadfast::layers::fallback::StreamBreak::Restart) continues
//!   with another tier, the reader returns one [`AnswerEvent::Discard`]: everything before it is void, in the caller's
//!   display and in the reader's own record.
//! - **Only a complete answer is acted on, and once.** [`Actions`] require a [`CompletedAnswer`], which exists only
//!   for an answer that reached its provider's own end mark. They run each tool call once for its key: if the answer
//!   is requested again, repeated, or handled by two callers at once, every caller receives the first result.
//!
//! # The parts of a key
//!
//! A key consists of the [`Scope`] (the turn, usually by its idempotency key) and of the call: its name and arguments
//! in any spelling, or the provider's id ([`KeyBy`]). By default, two identical calls in one turn are one action,
//! because models repeat themselves; if they mean two actions, as with dice, use the id. With a whole session as the
//! scope, a model that repeats a call in the next turn also receives the first result.
//!
//! # The meaning of "once"
//!
//! Within one process, an action that has started runs to its end, even if its callers leave. Its result is kept for
//! its [lifetime](Actions::ttl), in bounded number. Between processes and over a restart, the guarantee is that of the
//! [store](ActionStore), which must be shared and durable. With the feature `idempotency`, `StoredActions` use any
//! store of idempotency keys. A process that dies during an action leaves a [lease](Actions::lease); afterwards the
//! action runs again, because its progress is unknown. An action that must not repeat even then needs a key that the
//! other side recognizes: [`ActionKey::as_str`] is the same every time.
//!
//! # Example: an agent's loop
//!
//! The loop survives a stream that is cut in the middle of a tool call, and a turn that is repeated after its process
//! has forgotten it.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
//! use futures_util::stream;
//! use steadfast::{
//!     BoxLlmService, Chat, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, provider_fn,
//!     chat::{FinishReason, Message, Part, Role, ToolCall},
//! };
//! use steadfast_agent::{Actions, AnswerReader, CompletedAnswer, Scope};
//! use tower::{BoxError, ServiceExt};
//!
//! /// Asks until an answer is complete. This loop neither shows nor acts on an answer that was cut.
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
//!         let request = LlmRequest::from(chat.clone()).with_stream(true).with_idempotency_key(format!("chat-7/turn-{turn}"));
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
//! // Again from the beginning, as after a restart of the process.
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

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
