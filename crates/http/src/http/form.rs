//! The form of an answer: events, JSON or a page.
//!
//! Content types lie: servers send event streams as JSON, as text or as nothing, and JSON as an event stream or as a
//! page. So an answer is what its first bytes are, and its label counts where these say nothing.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use memchr::memmem;
use tower::BoxError;

use crate::boxed::Body;
#[cfg(feature = "codings")]
use crate::boxed::opened;
#[cfg(feature = "codings")]
use crate::internal::codings::Coding;
use crate::{LlmError, protocol::of_body};

/// The form of a 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Events,
    Whole,
    /// Not from the API: a proxy's page.
    Page,
    /// In a content encoding.
    Compressed,
}

impl Form {
    /// Returns the form by the content type or, if that says nothing useful, by the request.
    pub(super) fn labelled(headers: &HeaderMap, stream: bool) -> Self {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.is_empty() && encoding != "identity") {
            return Self::Compressed;
        }
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let is_json = || {
            let end = essence.len().checked_sub(JSON.len()).map(|at| &essence[at..]);
            is("application/json") || end.is_some_and(|end| end.eq_ignore_ascii_case(JSON))
        };
        match stream {
            _ if is("text/event-stream") => Self::Events,
            _ if is("text/html") => Self::Page,
            true if !is_json() => Self::Events,
            _ => Self::Whole,
        }
    }

    /// Returns the form of an answer of the API, and its body: by its first bytes, or else by this label.
    ///
    /// # Errors
    ///
    /// The body breaks off before it shows its form.
    pub(super) async fn seen(label: Self, mut body: Body) -> Result<(Self, SeenBody), LlmError> {
        let mut first = Bytes::new();
        #[cfg(feature = "codings")]
        let mut is_opened = false;
        let form = loop {
            // It opens a body once: some bodies open to themselves.
            #[cfg(feature = "codings")]
            if !is_opened && let Some(coding) = Coding::of_first(&first) {
                is_opened = true;
                body = opened(SeenBody { first: std::mem::take(&mut first), rest: Some(body) }, &[coding]);
            }
            match Sight::of(&first) {
                _ if label == Self::Compressed => break label,
                // Some servers write a bare error into a stream. No JSON has a line that begins so.
                Sight::Is(Self::Whole) if label == Self::Events && goes_on_with_events(&first) => break label,
                Sight::Is(form) => break form,
                Sight::Unclear if first.len() <= LONGEST_BLANK => {}
                Sight::Unclear | Sight::Other => break label,
            }
            match body.frame().await {
                // Not every body may be polled behind its end.
                None => return Ok((label, SeenBody { first, rest: None })),
                Some(Err(error)) => return Err(of_body(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if first.is_empty() => first = data,
                    Ok(data) => first = [first, data].concat().into(),
                    Err(_trailers) => {}
                },
            }
        };
        // Not every reader of the caller's passes over a mark.
        let first = first.strip_prefix(MARK).map_or_else(|| first.clone(), |behind| first.slice_ref(behind));
        Ok((form, SeenBody { first, rest: Some(body) }))
    }
}

/// The suffix of media types that are JSON with a meaning of their own.
const JSON: &[u8] = b"+json";

/// The byte order mark, which some servers put first.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The most bytes in front of an answer that show nothing: blank lines, by which servers keep a connection alive.
const LONGEST_BLANK: usize = 4096;

/// The form that the first bytes of a body show.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    Is(Form),
    /// More bytes may show it.
    Unclear,
    /// None of the forms.
    Other,
}

impl Sight {
    fn of(first: &[u8]) -> Self {
        /// The fields of events, by their standard. A comment has an empty name.
        const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
        let text = first.strip_prefix(MARK).unwrap_or(first).trim_ascii_start();
        match text.first() {
            None => Self::Unclear,
            Some(b'{' | b'[') => Self::Is(Form::Whole),
            Some(b'<') => Self::Is(Form::Page),
            Some(_) if FIELDS.iter().any(|field| text.starts_with(field)) => Self::Is(Form::Events),
            // The first bytes of gzip and zstd, of which there may be one so far.
            Some(0x1f | 0x28) if text.len() < 4 => Self::Unclear,
            Some(_) if FIELDS.iter().any(|field| field.starts_with(text)) || MARK.starts_with(text) => Self::Unclear,
            Some(_) => Self::Other,
        }
    }
}

/// Returns true if a line of an event follows in the bytes that are there.
fn goes_on_with_events(first: &[u8]) -> bool {
    [&b"\ndata:"[..], b"\nevent:"].iter().any(|line| memmem::find(first, line).is_some())
}

/// A body whose first bytes have been looked at.
pub(super) struct SeenBody {
    first: Bytes,
    /// The bytes behind them; `None` if they were all.
    rest: Option<Body>,
}

impl SeenBody {
    /// Returns a body that nobody has looked at.
    pub(super) fn of(body: Body) -> Self {
        Self { first: Bytes::new(), rest: Some(body) }
    }
}

impl http_body::Body for SeenBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut both = SizeHint::new();
        both.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            both.set_upper(upper);
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_is_not_polled_behind_its_end() {
        for bytes in ["", " ", "\n\n", "da", "words", "{}"] {
            // It panics if it is.
            let once = stream::unfold(Some(bytes), |bytes| async move {
                let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
                Some((Ok::<_, BoxError>(Frame::data(Bytes::from(bytes))), None))
            });
            let (_, body) = Form::seen(Form::Whole, Body::new(StreamBody::new(once))).await.unwrap();
            assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        }
    }

    #[test]
    fn first_bytes_show_the_form_at_every_cut() {
        for (body, form) in [
            ("{\"a\":1}", Form::Whole),
            ("[1]", Form::Whole),
            ("\u{feff}\r\n {", Form::Whole),
            ("<!DOCTYPE html>", Form::Page),
            (": keep-alive\n", Form::Events),
            ("data: {}", Form::Events),
            ("data:{}", Form::Events),
            ("\u{feff}data: {}", Form::Events),
            ("\n\nevent: ping", Form::Events),
            ("id: 7", Form::Events),
            ("retry: 10", Form::Events),
        ] {
            let body = body.as_bytes();
            assert_eq!(Sight::of(body), Sight::Is(form), "{body:?}");
            for cut in 0..body.len() {
                let sight = Sight::of(&body[..cut]);
                assert!(sight == Sight::Unclear || sight == Sight::Is(form), "{body:?} to {cut}: {sight:?}");
            }
        }
        for other in ["words", "database: 1", "null", "\"text\"", "idle", "(words)", "data\n"] {
            assert_eq!(Sight::of(other.as_bytes()), Sight::Other, "{other:?}");
        }
    }
}
