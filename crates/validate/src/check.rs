//! The decision on each answer, from a schema, a record and a clock reading. It calls no service.

use std::{mem, sync::Arc};

use tokio::time::Instant;

use super::{
    schema::{Mismatch, Verdict},
    settings::Settings,
};
use crate::{
    Attempt, Dialect, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse,
    chat::{Chat, Extra, FinishReason, Message, Part, Role},
    ledger::{Ledger, Next, Stop},
};

/// One request's way to an answer of the right shape.
pub(super) struct Check {
    request: LlmRequest,
    settings: Arc<Settings>,
    /// The time at which the current question was asked.
    begun: Instant,
    ledger: Ledger,
    /// The number of times that the model was asked again.
    reasked: u16,
    /// The errors in the previous answer.
    problem: Option<LlmError>,
}

/// An answer, its message, and the text that is checked.
pub(super) struct Answer {
    pub(super) response: LlmResponse,
    pub(super) message: Message,
    pub(super) text: String,
}

/// The decision on an answer.
pub(super) enum Decision {
    Good(LlmResponse),
    AskAgain(LlmRequest),
    Bad(LlmError),
}

impl Check {
    pub(super) fn new(request: LlmRequest, settings: Arc<Settings>) -> Self {
        let begun = Instant::now();
        Self { request, settings, begun, ledger: Ledger::default(), reasked: 0, problem: None }
    }

    pub(super) fn request(&self) -> &LlmRequest {
        &self.request
    }

    /// Returns the request's deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.request.context().deadline
    }

    /// Returns the time at which the current question was asked.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Returns whether the current question is not the first.
    pub(super) fn is_reasked(&self) -> bool {
        self.reasked > 0
    }

    /// Returns the text that is to be checked, and whether it may be repaired; `None` if the message is no answer.
    pub(super) fn text(&self, message: &Message) -> Option<(String, bool)> {
        // The caller puts its own beginning in front of the answer, so the answer must fit as it stands.
        let prefill = self.prefill().map(Message::text).unwrap_or_default();
        is_answer(message).then(|| (prefill.clone() + &message.text(), self.settings.repair && prefill.is_empty()))
    }

    /// Takes an answer, and what the schema says of its text.
    pub(super) fn judge(&mut self, answer: Answer, verdict: Verdict) -> Decision {
        let Answer { response, message, text } = answer;
        match verdict {
            Verdict::Fits => Decision::Good(self.answered(response)),
            Verdict::Repaired { text, how } => {
                let body = LlmBody::from_message(with_text(message, text));
                Decision::Good(self.answered(response.map_body(|_| body).with_note(format!("output: {how}"))))
            }
            Verdict::Mismatch(wrong) => self.wrong(response, message, text, wrong),
        }
    }

    /// Takes a failure of the call, or of the response's stream.
    pub(super) fn failed(&mut self, mut error: LlmError, response: Option<LlmResponse>) -> LlmError {
        let unsent = error.is_unsent();
        if let Some(response) = response.filter(|_| error.attempts().is_empty()) {
            for attempt in steps_before(&response) {
                self.ledger.push(attempt);
            }
        }
        self.ledger.failed(&mut error, self.begun, Instant::now());
        // The second question never reached the model, so the caller must learn of the first answer's problem.
        let mut lead = match self.problem.take() {
            Some(problem) if unsent => problem,
            _ => error,
        };
        mem::take(&mut self.ledger).give_up(&mut lead);
        lead
    }

    fn wrong(&mut self, response: LlmResponse, message: Message, text: String, wrong: Mismatch) -> Decision {
        let cut = match message.finish {
            Some(FinishReason::Length) => " (it was cut at its `max_tokens`)",
            Some(FinishReason::ContextFull) => " (it was cut where the context window was full)",
            Some(FinishReason::Filtered) => " (it was cut by the provider's filter)",
            _ => "",
        };
        let now = Instant::now();
        let (provider, model) = response.names();
        let mut error = LlmError::new(ErrorKind::InvalidOutput, wrong.for_operator + cut);
        if let Some(provider) = &provider {
            error = error.or_model(provider, model.as_ref());
        }
        if let Some(id) = response.request_id() {
            error = error.with_request_id(id);
        }
        let mut attempts = steps_before(&response);
        attempts.push(Attempt {
            tier: response.served_by().tier.map(Arc::from),
            deployment: response.served_by().deployment.map(Arc::from),
            provider,
            model,
            begun: self.begun,
            took: now.saturating_duration_since(self.begun),
            failure: Some(ErrorKind::InvalidOutput),
            status: None,
            message: error.message().to_owned().into(),
            retry_after: None,
            timeout: None,
            usage: message.usage,
            next: Next::GaveUp,
        });
        error.set_attempts(attempts);
        self.ledger.failed(&mut error, self.begun, Instant::now());
        let context = self.request.context();
        let stop = if !cut.is_empty() {
            Some(Stop::Kind)
        } else if self.reasked >= self.settings.reasks || self.ledger.spent() >= context.attempts_left {
            Some(Stop::Attempts)
        } else {
            context.time_left(now).filter(|left| left.is_zero()).map(|_| Stop::Deadline)
        };
        if let Some(stop) = stop {
            self.ledger.next(Next::Stopped(stop));
            mem::take(&mut self.ledger).give_up(&mut error);
            return Decision::Bad(error);
        }
        self.ledger.next(Next::AskedAgain);
        self.problem = Some(error);
        self.reasked += 1;
        self.begun = now;
        Decision::AskAgain(self.question(text, &wrong.for_model))
    }

    /// Returns the request, with the wrong answer and its errors.
    fn question(&self, answer: String, wrong: &str) -> LlmRequest {
        let mut chat = self.request.chat().expect("its schema was found in it").clone();
        let prefill = if self.prefill().is_some() { chat.messages.pop() } else { None };
        if is_kept_by_provider(&chat) {
            // The provider has added the question and the answer to its conversation.
            chat.messages = vec![Message::user(self.settings.ask_again(wrong))];
            return self.asked_again(chat);
        }
        // No provider takes an empty turn.
        if !answer.trim().is_empty() {
            chat.messages.push(Message::assistant(answer));
        }
        chat.messages.push(Message::user(self.settings.ask_again(wrong)));
        chat.messages.extend(prefill);
        self.asked_again(chat)
    }

    fn asked_again(&self, chat: Chat) -> LlmRequest {
        let mut context = self.ledger.context(*self.request.context());
        context.begun = Some(self.begun);
        self.request.asked_again(chat, self.reasked, context)
    }

    /// Returns the beginning of the answer, if the caller wrote it. An answer in the Responses dialect stands alone:
    /// the items before it are earlier ones.
    fn prefill(&self) -> Option<&Message> {
        let chat = self.request.chat().ok()?;
        if responses_settings(chat).is_some() {
            return None;
        }
        chat.messages.last().filter(|last| last.role == Role::Assistant)
    }

    /// Takes a response that is passed on.
    pub(super) fn answered(&mut self, mut response: LlmResponse) -> LlmResponse {
        if self.reasked > 0 && self.request.wire().is_some() {
            response = response.with_note("output: asked again in the neutral form, without the request's own bytes");
        }
        mem::take(&mut self.ledger).answered(&mut response);
        response
    }
}

/// Returns the attempts in the response's record except the one that answered, which is recorded again.
fn steps_before(response: &LlmResponse) -> Vec<Attempt> {
    let mut steps = response.attempts().to_vec();
    steps.pop_if(|last| last.next == Next::Answered);
    steps
}

/// Returns whether the message is an answer, right or wrong, and no tool call, refusal or pause.
fn is_answer(message: &Message) -> bool {
    let other = |part: &Part| matches!(part, Part::ToolCall(_) | Part::Refusal(_));
    let open = matches!(message.finish, Some(FinishReason::ToolUse | FinishReason::Refusal | FinishReason::Paused));
    !open && !message.content.iter().any(other)
}

/// Returns the message with this text in place of its own.
fn with_text(mut message: Message, text: String) -> Message {
    let is_text = |part: &Part| part.as_text().is_some();
    let place = message.content.iter().position(is_text).unwrap_or(message.content.len());
    message.content.retain(|part| !is_text(part));
    message.content.insert(place, Part::Text(text));
    message
}

/// Returns the settings of a request that came in the Responses dialect.
fn responses_settings(chat: &Chat) -> Option<&Extra> {
    chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses)
}

/// Returns true if the provider keeps the conversation, and adds each question and answer to it.
fn is_kept_by_provider(chat: &Chat) -> bool {
    let conversation = responses_settings(chat).and_then(|extra| extra.fields.get("conversation"));
    conversation.is_some_and(|conversation| conversation.get() != "null")
}
