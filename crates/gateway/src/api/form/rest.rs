//! The rest of a form that is over the limit of a body: it streams to the provider, and is read as it passes.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderValue;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyDataStream;
use steadfast::{ErrorKind, LlmError};

use super::{Form, FormReader};
use crate::{
    api::{
        body_error::BodyError,
        upload::{Limited, MAX_UPLOAD, head_limit},
    },
    limits::Settings,
};

/// Returns a form whose beginning was read. It ends with an error where the rest is no part of it, or names an object
/// late.
pub(in crate::api) fn checked(mut reader: FormReader, beginning: Bytes, rest: Option<Body>) -> Body {
    let Some(rest) = rest else { return beginning.into() };
    reader.close();
    let first = stream::once(async { Ok(beginning) });
    let pieces = BodyDataStream::new(rest).map(move |piece| {
        let piece = piece?;
        reader.push(&piece).map_err(axum::Error::new)?;
        Ok::<_, axum::Error>(piece)
    });
    Body::from_stream(first.chain(pieces))
}

/// The rest of a form. It ends with an error where the form is no form, names its model late, or stops coming.
pub(in crate::api) struct FormRest {
    inner: Limited<Body>,
    reader: FormReader,
    settings: Arc<Settings>,
    limit: Duration,
}

impl FormRest {
    /// Reads the beginning of a form, whose fields decide where it goes. `is_named` is true if the path names a model,
    /// `names_objects` if the fields that name objects count too.
    ///
    /// # Errors
    ///
    /// The beginning is invalid, or has no model.
    pub(in crate::api) fn new(
        content_type: &HeaderValue,
        beginning: &Bytes,
        rest: Body,
        is_named: bool,
        names_objects: bool,
        settings: &Arc<Settings>,
    ) -> Result<Self, LlmError> {
        let mut reader = FormReader::new(content_type)?.with_objects(names_objects);
        reader.push(beginning)?;
        if reader.form().model.is_none() && !is_named {
            let message = format!(
                "the form is over the gateway's limit of {} bytes (`gateway.max_body`); a larger one must have its \
                 `model` before its file",
                settings.body
            );
            return Err(LlmError::new(ErrorKind::TooLarge, message));
        }
        let length = match rest.size_hint().exact() {
            Some(rest) => beginning.len() as u64 + rest,
            None => MAX_UPLOAD,
        };
        reader.close();
        let settings = settings.clone();
        Ok(Self { inner: Limited::upload(rest, &settings), reader, settings, limit: head_limit(length) })
    }

    /// The fields of the beginning.
    pub(in crate::api) fn form(&self) -> &Form {
        self.reader.form()
    }

    /// The time for the form and the head of its answer.
    pub(in crate::api) fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the place of the error of the caller's body, once there is one.
    pub(in crate::api) fn failure(&self) -> Arc<OnceLock<BodyError>> {
        self.inner.failure()
    }
}

impl http_body::Body for FormRest {
    type Data = Bytes;
    type Error = LlmError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LlmError>>> {
        let this = &mut *self;
        Poll::Ready(match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            None => this.reader.finish().err().map(Err),
            Some(Ok(frame)) => {
                let mut read = frame.data_ref().map_or(Ok(()), |data| this.reader.push(data));
                if this.inner.is_end_stream() {
                    // With the last bytes of an announced length the provider would have a whole request.
                    read = read.and_then(|()| this.reader.finish());
                }
                Some(read.map(|()| frame))
            }
            Some(Err(_)) => {
                let error = this.inner.failure().get().copied().unwrap_or(BodyError::Broken);
                Some(Err(error.error(&this.settings)))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
