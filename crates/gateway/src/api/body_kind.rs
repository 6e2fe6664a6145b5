//! The kind of a request's body: JSON or a form; and the body itself, opened if it is compressed.
//!
//! The content type is the sender's own word, and servers differ in what they make of it. So whatever is no form is
//! read as JSON, and a provider gets it as JSON.

use std::iter;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use steadfast::{ErrorKind, LlmError};
use steadfast_internal::codings;

use super::{form, refusal::FixedStatus, upload::MAX_UPLOAD};
use crate::limits::Settings;

/// The kind of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind<'a> {
    Json,
    /// A form of this content type.
    Form(&'a HeaderValue),
}

/// Opens a compressed body, and makes its head that of the opened one. The limits of all bodies hold for it, before
/// and after: so whoever reads it refuses early what would open to too much.
///
/// # Errors
///
/// The head names an encoding that is not known, or too many.
pub(super) fn opened(headers: &mut HeaderMap, body: Body, settings: &Settings) -> Result<Body, LlmError> {
    let codings = codings::take(headers).map_err(|invalid| unsupported(&invalid.to_string()))?;
    if codings.is_empty() {
        return Ok(body);
    }
    let most = match form::is_form(headers.get(header::CONTENT_TYPE)) {
        true => MAX_UPLOAD,
        false => settings.body as u64,
    };
    Ok(Body::from_stream(codings::open(body.into_data_stream(), &codings, most)))
}

/// Opens a body as [`opened`] does. Returns with it whether it is a form.
///
/// # Errors
///
/// The errors of [`opened`] and [`of`].
pub(super) fn opened_of_one_kind(
    headers: &mut HeaderMap,
    body: Body,
    settings: &Settings,
) -> Result<(bool, Body), LlmError> {
    let body = opened(headers, body, settings)?;
    Ok((of(headers)? != BodyKind::Json, body))
}

/// Returns the kind of a body.
///
/// # Errors
///
/// Its head names two types.
pub(super) fn of(headers: &HeaderMap) -> Result<BodyKind<'_>, LlmError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return Ok(BodyKind::Json) };
    let second = types.next();
    // Nearly every head.
    if first == "application/json" && second.is_none() {
        return Ok(BodyKind::Json);
    }
    let is_form = form::is_form(Some(first));
    // Some clients write the same type twice. A form's boundary may have a comma.
    let is_one = match is_form {
        true => second.is_none(),
        false => {
            let mut kinds = iter::once(first).chain(second).chain(types).flat_map(kinds_of);
            let wanted = kinds.next().unwrap_or_default();
            kinds.all(|kind| kind.eq_ignore_ascii_case(wanted))
        }
    };
    match (is_one, is_form) {
        (false, _) => Err(unsupported("the body has two types (`Content-Type`): name one")),
        (true, true) => Ok(BodyKind::Form(first)),
        (true, false) => Ok(BodyKind::Json),
    }
}

/// Returns the error for a body of a type that the path does not take.
pub(super) fn unsupported(problem: &str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, problem.to_owned())
        .with_source(FixedStatus(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Returns the content types of a line, without their parameters.
fn kinds_of(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|byte| *byte == b',')
        .map(|kind| kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(lines: &[(&'static str, &'static str)]) -> Option<bool> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        of(&headers).ok().map(|kind| kind != BodyKind::Json)
    }

    #[test]
    fn a_body_is_json_or_a_form_and_has_one_type() {
        const TYPE: &str = "content-type";
        const JSON: Option<bool> = Some(false);
        for (lines, expected) in [
            (&[][..], JSON),
            (&[(TYPE, "application/json")], JSON),
            (&[(TYPE, "application/json; charset=utf-8")], JSON),
            (&[(TYPE, "text/plain")], JSON),
            (&[(TYPE, "application/vnd.api+json")], JSON),
            (&[(TYPE, "application/octet-stream")], JSON),
            (&[(TYPE, "application/x-www-form-urlencoded")], JSON),
            (&[(TYPE, "application/json, application/json")], JSON),
            (&[(TYPE, "application/json"), (TYPE, "Application/JSON; charset=utf-8")], JSON),
            (&[(TYPE, "multipart/form-data; boundary=b")], Some(true)),
            (&[(TYPE, "Multipart/Form-Data; boundary=\"a,b\"")], Some(true)),
            (&[(TYPE, "text/plain, application/json")], None),
            (&[(TYPE, "application/json, multipart/form-data; boundary=b")], None),
            (&[(TYPE, "application/json"), (TYPE, "multipart/form-data; boundary=b")], None),
            (&[(TYPE, "multipart/form-data; boundary=b"), (TYPE, "application/json")], None),
            (&[(TYPE, "multipart/form-data; boundary=b"), (TYPE, "multipart/form-data; boundary=b")], None),
        ] {
            assert_eq!(kind(lines), expected, "{lines:?}");
        }
    }
}
