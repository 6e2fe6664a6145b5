//! An answer held back until it is whole.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::stream;

use crate::{
    CommitPoint, Frame, LlmBody, LlmError, LlmRequest, LlmResponse,
    body::Accumulator,
    chat::Message,
    commit::{Commit, with_origin},
};

/// A response whose body is being read.
pub(super) struct HeldResponse {
    /// The response, without its body if that is a stream.
    response: LlmResponse,
    stage: Stage,
}

enum Stage {
    /// The body was whole from the beginning.
    Whole,
    Committing(Commit),
    /// The body is a stream. It is read for its message, and its frames are kept to be passed on unchanged.
    Reading {
        body: LlmBody,
        frames: Vec<Frame>,
        message: Accumulator,
    },
}

impl HeldResponse {
    pub(super) fn new(mut response: LlmResponse, request: &LlmRequest) -> Self {
        let stage = match response.body().arrives_in_frames() {
            false => Stage::Whole,
            true => {
                Stage::Committing(Commit::new(take_body(&mut response), CommitPoint::Complete, Some(request.clone())))
            }
        };
        Self { response, stage }
    }

    /// Returns the response, for its facts besides the answer.
    pub(super) fn into_response(self) -> LlmResponse {
        self.response
    }

    /// Polls for the response, with its body unread, and its message.
    ///
    /// # Errors
    ///
    /// Fails with the error that broke the stream, and the response that it came in.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(LlmResponse, Message), (LlmError, LlmResponse)>> {
        let ended = loop {
            match &mut self.stage {
                Stage::Whole => {
                    break Ok(self.response.body().message().map_or_else(no_message, |said| said.into_owned()));
                }
                Stage::Committing(commit) => match ready!(Pin::new(commit).poll(cx)) {
                    Ok(body) => {
                        self.stage = Stage::Reading { body, frames: Vec::new(), message: Accumulator::default() }
                    }
                    Err(error) => break Err(error),
                },
                Stage::Reading { body, frames, message } => match ready!(body.poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        frame.events().iter().for_each(|event| message.push(event));
                        frames.push(frame);
                    }
                    Some(Err(error)) => break Err(error),
                    None => {
                        let frames = mem::take(frames).into_iter().map(Ok);
                        *self.response.body_mut() = LlmBody::from_frames(stream::iter(frames));
                        break Ok(mem::take(message).finish());
                    }
                },
            }
        };
        self.stage = Stage::Whole;
        let response = mem::replace(&mut self.response, LlmResponse::from_text(""));
        Poll::Ready(match ended {
            Ok(message) => Ok((response, message)),
            Err(error) => Err((with_origin(error, &response), response)),
        })
    }
}

fn take_body(response: &mut LlmResponse) -> LlmBody {
    mem::replace(response.body_mut(), LlmBody::from_text(""))
}

/// Only a stream has no message.
fn no_message() -> Message {
    Message::assistant("")
}
