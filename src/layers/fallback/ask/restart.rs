//! A stream that restarts with the next tier when it breaks.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::failover::Failover;
use crate::{ErrorKind, Frame, LlmBody, LlmError, StreamEvent, layers::call::BoxedCall};

/// The frames of one tier and, when its stream breaks, of the next.
pub(super) struct Restart {
    body: LlmBody,
    /// The provider and model that answer.
    names: Names,
    failover: Failover,
    /// The next tier's call, and the kind of failure that broke the stream before.
    asking: Option<(Pin<Box<BoxedCall>>, ErrorKind)>,
}

type Names = (Option<Arc<str>>, Option<Arc<str>>);

impl Restart {
    /// Returns a body that restarts along the rest of the chain.
    pub(super) fn body(body: LlmBody, names: Names, failover: Failover) -> LlmBody {
        LlmBody::from_frames(Self { body, names, failover, asking: None })
    }

    /// Goes on to the next tier, or returns the error that ends the body.
    fn broke(&mut self, mut error: LlmError) -> Result<(), LlmError> {
        // The error of a limit on silence does not name the provider.
        if let (Some(provider), model) = std::mem::take(&mut self.names) {
            error = error.or_model(&provider, model.as_ref());
        }
        let kind = self.asking.take().map_or_else(|| error.kind(), |(_, kind)| kind);
        // Release the broken stream before the next tier is tried.
        self.body = LlmBody::from_text("");
        self.failover.leave_for_body(error)?;
        let (request, _) = self.failover.request();
        self.asking = Some((Box::pin(self.failover.call_for_body(request)), kind));
        Ok(())
    }
}

impl Stream for Restart {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let error = match &mut this.asking {
                Some((call, kind)) => match std::task::ready!(call.as_mut().poll(cx)) {
                    Ok(mut response) => {
                        let reason = *kind;
                        this.asking = None;
                        this.failover.answered(&mut response);
                        this.names = response.names();
                        this.failover.keep_for_body(&response);
                        this.body = response.into_body();
                        return Poll::Ready(Some(Ok(Frame::event(StreamEvent::Restarted { reason }))));
                    }
                    Err(error) => error,
                },
                None => match std::task::ready!(this.body.poll_frame(cx)) {
                    Some(Err(error)) => error,
                    other => return Poll::Ready(other),
                },
            };
            if let Err(error) = this.broke(error) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}
