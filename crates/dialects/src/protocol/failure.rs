use std::{error, fmt, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use memchr::{memchr3, memmem};
use serde_json::Value;

use super::{ErrorBody, Fault, Protocol, named_fault::names_fault};
use crate::{
    Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, prices::own_cost::HeaderCost, retry_after,
    translate::TargetAccount,
};

type BoxError = Box<dyn error::Error + Send + Sync>;

/// The leaf's provider and model, for errors and responses.
#[derive(Clone, Debug)]
pub struct Origin {
    pub provider: Arc<str>,
    pub model: Option<Arc<str>>,
    /// True if the request itself names the model or the path.
    pub is_named_by_caller: bool,
    pub dialect: Dialect,
    pub status: Option<StatusCode>,
    pub request_id: Option<Box<str>>,
    /// The part of the answer's cost that its headers tell.
    pub cost: HeaderCost,
    pub secret: Secret,
    pub account: TargetAccount,
}

/// The key, to be removed from a provider's text; some repeat it.
#[derive(Clone)]
pub struct Secret(pub Option<Arc<str>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Returns a provider's text without the key.
    pub fn redact(&self, body: &Bytes) -> Bytes {
        let (mut out, mut from) = (Vec::new(), 0);
        for place in self.places(body) {
            out.extend_from_slice(&body[from..place.start]);
            out.extend_from_slice(b"[key]");
            from = place.end;
        }
        if from == 0 {
            return body.clone();
        }
        out.extend_from_slice(&body[from..]);
        out.into()
    }

    /// Returns whether a text has the key in it.
    fn is_in(&self, text: &str) -> bool {
        self.places(text.as_bytes()).next().is_some()
    }

    /// Iterates over the places of the key, as it is or with any of its letters escaped: as JSON has it (`\u002d`), a
    /// URL (`%2D`) or a page (`&#45;`). The work is in proportion to the text.
    fn places(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let key = self.0.as_deref().filter(|key| key.len() >= SHORTEST_KEY).map(str::as_bytes);
        let has_escapes = key.is_some() && memchr3(b'\\', b'%', b'&', text).is_some();
        let mut from = 0;
        std::iter::from_fn(move || {
            let key = key?;
            let place = if has_escapes {
                let length = |at: usize| {
                    let text = &text[at..];
                    text.starts_with(key).then_some(key.len()).or_else(|| escaped_length(text, key))
                };
                (from..text.len()).find_map(|at| Some(at..at + length(at)?))?
            } else {
                let at = from + memmem::find(&text[from..], key)?;
                at..at + key.len()
            };
            from = place.end;
            Some(place)
        })
    }
}

/// Returns the length of the key at the beginning of a text in which letters may be escaped.
fn escaped_length(text: &[u8], key: &[u8]) -> Option<usize> {
    let mut at = 0;
    for wanted in key {
        let (letter, length) = letter(&text[at..])?;
        if letter != *wanted {
            return None;
        }
        at += length;
    }
    Some(at)
}

/// Returns the first letter of a text, and the length of its spelling.
fn letter(text: &[u8]) -> Option<(u8, usize)> {
    let hex = |digits: Option<&[u8]>| u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let first = *text.first()?;
    let escaped = match first {
        b'\\' => {
            // JSON within JSON has several.
            let slashes = text.iter().take_while(|byte| **byte == b'\\').count();
            match &text[slashes..] {
                [b'u' | b'U', b'0', b'0', ..] => {
                    hex(text.get(slashes + 3..slashes + 5)).map(|letter| (letter, slashes + 5))
                }
                [b'x', ..] => hex(text.get(slashes + 1..slashes + 3)).map(|letter| (letter, slashes + 3)),
                [b'/', ..] => Some((b'/', slashes + 1)),
                _ => None,
            }
        }
        b'%' => hex(text.get(1..3)).map(|letter| (letter, 3)),
        b'&' => {
            let end = text.iter().take(10).position(|byte| *byte == b';')?;
            let number = std::str::from_utf8(text.get(1..end)?).ok()?.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u8::from_str_radix(digits, 16),
                None => number.parse(),
            };
            Some((number.ok()?, end + 1))
        }
        _ => None,
    };
    Some(escaped.unwrap_or((first, 1)))
}

impl Secret {
    /// Returns a code, a type or an id without the key or anything like one.
    fn scrub_name(&self, name: &str) -> String {
        if looks_like_a_key(name) || self.is_in(name) { "[key]".to_owned() } else { name.to_owned() }
    }
}

impl Origin {
    /// Notes whether the request names the model or the path that the provider is asked for.
    pub fn of(mut self, request: &LlmRequest) -> Self {
        let names_model = self.model.as_deref().is_none_or(|model| request.model() == Some(model));
        self.is_named_by_caller = names_model || request.is_compaction();
        self
    }

    /// Adds the model that answered, and the provider's id of the request.
    #[inline]
    pub fn add_to(self, mut response: LlmResponse) -> LlmResponse {
        let served =
            response.body().model().filter(|served| !served.is_empty() && Some(*served) != self.model.as_deref());
        if let Some(served) = served.map(Arc::<str>::from) {
            response = response.with_served_model(served);
        }
        if let Some(model) = self.model {
            response = response.with_model(self.provider, model);
        }
        match self.request_id {
            Some(id) => response.with_request_id(id),
            None => response,
        }
    }

    /// Adds the names to an error that has none yet.
    pub fn stamp(&self, error: LlmError) -> LlmError {
        let mut error = error.or_model(&self.provider, self.model.as_ref()).with_dialect(self.dialect);
        if let (None, Some(status)) = (error.status(), self.status) {
            error = error.with_status(status);
        }
        if self.is_named_by_caller && error.kind() == ErrorKind::NotFound && !error.is_page() {
            error.note_named_by_caller();
        }
        match (error.request_id(), &self.request_id) {
            (None, Some(id)) => error.with_request_id(id.clone()),
            _ => error,
        }
    }
}

/// Returns the provider's id of the request, from the headers that providers use for it.
pub fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    const NAMES: [&str; 4] = ["request-id", "x-request-id", "x-generation-id", "apim-request-id"];
    // Most answers have few headers and none of these: one look at each costs less than four searches.
    let named = headers.iter().filter_map(|(name, value)| {
        let place = NAMES.iter().position(|known| name.as_str() == *known)?;
        Some((place, value.to_str().ok()?))
    });
    Some(named.min_by_key(|(place, _)| *place)?.1.into())
}

/// The meaning of a failure by the names of the door at which it came.
#[derive(Debug)]
pub struct Meaning {
    /// The kind; `None` to classify by the facts.
    pub kind: Option<ErrorKind>,
    /// The facts, with the door's names in the place of the dialect's.
    pub facts: ErrorBody,
    /// The operator's remedy, behind the provider's message.
    pub advice: Option<String>,
}

/// Creates the error of an answer with an error status. `meaning` is that of the door, if there is one and it knows
/// the failure.
pub(crate) fn of_status<P: Protocol>(
    protocol: &P,
    secret: &Secret,
    status: StatusCode,
    headers: &HeaderMap,
    body: Bytes,
    wall: std::time::SystemTime,
    meaning: Option<Meaning>,
) -> LlmError {
    let (kind, facts, advice) = match meaning {
        Some(Meaning { kind, facts, advice }) => (kind, Some(facts), advice),
        None => (None, serde_json::from_slice(&body).ok().as_ref().and_then(ErrorBody::of_error), None),
    };
    let error = if status.is_redirection() {
        let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| to.parse().ok());
        let to: Option<http::Uri> = to;
        let host = to.as_ref().and_then(http::Uri::host).unwrap_or("another place");
        LlmError::new(ErrorKind::Malformed, format!("redirected to {host}, and redirects are not followed"))
    } else if let Some(facts) = &facts {
        let hint = protocol.wait(facts);
        let asked = retry_after::from_headers(headers, facts.resets.or(hint), wall);
        let is_asked = retry_after::from_headers(headers, facts.resets, wall).is_some();
        // A server on the way has spoken, whatever words it borrows.
        let hop = Some(ErrorKind::from_status(status)).filter(|kind| *kind == ErrorKind::Blocked);
        let kind = hop.or(kind).unwrap_or_else(|| kind_of(protocol, status, facts, is_asked));
        let reset = || retry_after::moment_in_message(&facts.message, wall);
        let asked = asked.or_else(|| Some(kind).filter(|kind| is_of_account(*kind)).and_then(|_| reset()));
        with_wait(of_facts(kind, secret, facts, advice), asked, hint)
    } else {
        let waits = retry_after::from_headers(headers, None, wall);
        let is_said = is_said(&body);
        let error = LlmError::new(ErrorKind::of_page(status, waits.is_some(), is_said), excerpt(&body, Some(secret)));
        with_wait(error.of_page(!is_said), waits, None)
    };
    let error = match retry_after::should_retry(headers) {
        // A wrong address does not become right by asking again.
        _ if status.is_redirection() => error.with_should_retry(false),
        Some(should) => error.with_should_retry(should),
        None => error,
    };
    let names_fault = || facts.as_ref().is_some_and(|facts| names_fault(facts) || protocol.names_part(facts));
    let is_unexplained = error.kind() == ErrorKind::InvalidRequest
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && !names_fault();
    let mut error = error.with_status(status).with_raw(secret.redact(&body));
    if is_unexplained {
        error.note_unexplained();
    }
    error
}

/// Creates the error of an answer or an event under a good status.
pub(crate) fn of_fault<P: Protocol>(protocol: &P, origin: &Origin, fault: Fault, raw: &Bytes) -> LlmError {
    let raw = &origin.secret.redact(raw);
    let body = match fault {
        Fault::Failed(error) if error.raw().is_none() => return error.with_raw(raw.clone()),
        Fault::Failed(error) => return error,
        Fault::Reported(body) => body,
        Fault::Malformed(cause) => match serde_json::from_slice(raw) {
            // An error in a shape of its own.
            Ok(body) if ErrorBody::of_answer(&body).is_some() => body,
            // Serde's message may quote the value at fault, so only the position is used.
            _ => {
                let what = excerpt(raw, None);
                let what = match cause.line() {
                    0 => what,
                    line => format!("{what} (line {line}, column {})", cause.column()),
                };
                return LlmError::new(ErrorKind::Malformed, what).with_raw(raw.clone());
            }
        },
    };
    let status = origin.status.unwrap_or_default();
    of_fields(protocol, &origin.secret, status, &body).with_status(status).with_raw(raw.clone())
}

/// Creates the error of an error body without a status of its own. The body's code stands for the status, or else
/// `status` does.
pub(crate) fn of_fields<P: Protocol>(protocol: &P, secret: &Secret, status: StatusCode, body: &Value) -> LlmError {
    let facts = ErrorBody::of_error(body).unwrap_or_default();
    let meant = facts.status_or(status);
    let hint = protocol.wait(&facts);
    let wait = facts.resets.or(hint);
    let kind = kind_of(protocol, meant, &facts, facts.resets.is_some());
    with_wait(of_facts(kind, secret, &facts, None), wait, hint)
}

/// Returns the kind of a failure: what the innermost server says of it by a name or a sentence, or else the one around
/// it.
fn kind_of<P: Protocol>(protocol: &P, status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind {
    let outer = protocol.classify(status, facts, waits);
    let Some(inner) = &facts.inner else { return outer };
    let known = inner.layers().into_iter().find_map(|layer| {
        // A status is no word of a server's: a caller may have said it. What is known under another one is named.
        let status = layer.status_or(status);
        let kind = protocol.classify(status, layer, waits);
        let number = layer.number.filter(|number| (400..=599).contains(number));
        let by_status = || protocol.classify(status, &ErrorBody { number, ..ErrorBody::default() }, waits);
        let is_named = || protocol.classify(StatusCode::IM_A_TEAPOT, layer, waits) == kind;
        (kind != ErrorKind::InvalidRequest && (is_named() || kind != by_status())).then_some(kind)
    });
    known.unwrap_or(outer)
}

fn is_of_account(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::RateLimited | ErrorKind::QuotaExhausted)
}

fn of_facts(kind: ErrorKind, secret: &Secret, facts: &ErrorBody, advice: Option<String>) -> LlmError {
    let mut message = scrub(&facts.message, secret);
    if let Some(advice) = advice {
        message = format!("{}: {advice}", message.trim_end_matches('.'));
    }
    let mut error = LlmError::new(kind, message);
    if let Some(code) = facts.code.as_ref().or(facts.status.as_ref()).or(facts.kind.as_ref()) {
        error = error.with_code(secret.scrub_name(code));
    } else if let Some(number) = facts.number {
        error = error.with_code(number.to_string());
    }
    if let Some(id) = &facts.request_id {
        error = error.with_request_id(secret.scrub_name(id));
    }
    error
}

/// Sets the wait on the error, if waiting can help and the wait can be trusted. `hint` is the body's own wait.
fn with_wait(error: LlmError, wait: Option<Duration>, hint: Option<Duration>) -> LlmError {
    let Some(wait) = wait else { return error };
    let trusted = match error.kind() {
        ErrorKind::RateLimited | ErrorKind::Overloaded => true,
        // The words of a failure may be its caller's own.
        ErrorKind::Server | ErrorKind::Timeout => hint != Some(wait),
        // A quota for the day comes with the delay of a rate limit in its body.
        ErrorKind::QuotaExhausted => hint != Some(wait) || wait > LONGEST_RATE_WAIT,
        _ => false,
    };
    if trusted { error.with_retry_after(wait) } else { error }
}

/// Creates the error of a request without a model to a leaf without one.
pub fn no_model() -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "neither the leaf nor the request names a model")
}

/// Creates the error of a request that got no answer, in the words of any transport.
pub fn no_answer(error: BoxError) -> LlmError {
    match LlmError::from(error) {
        other if other.kind() == ErrorKind::Other => {
            let what = innermost(&other);
            LlmError::new(ErrorKind::Connect, what).with_source(BoxError::from(other))
        }
        known => known,
    }
}

/// Creates the error of a body that broke off.
pub fn of_body(error: BoxError) -> LlmError {
    let error = match error.downcast::<LlmError>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    let what = format!("the connection broke: {}", innermost(&*error));
    LlmError::new(ErrorKind::StreamBroken, what).with_source(error)
}

/// Returns the words of the first cause: the wrappers around it say less.
pub fn innermost(error: &(dyn error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The longest message that is kept, in bytes.
const MESSAGE: usize = 500;

/// Returns the provider's message in one line, shortened, without our key or anything like one: a 401 repeats the key
/// that it refuses.
fn scrub(message: &str, secret: &Secret) -> String {
    let mut out = String::with_capacity(message.len().min(MESSAGE));
    for word in message.split_whitespace() {
        let is_key = looks_like_a_key(word) || secret.is_in(word);
        let word = if is_key { "[key]" } else { word };
        let room = MESSAGE.saturating_sub(out.len());
        let space = if out.is_empty() { "" } else { " " };
        if word.len() > room {
            // Not every language has spaces: a word that makes up most of the message is cut.
            if room > MESSAGE / 2 {
                out.push_str(space);
                let fits = word.char_indices().take_while(|(at, letter)| at + letter.len_utf8() <= room);
                out.extend(fits.map(|(_, letter)| letter));
            }
            out.push_str(" ...");
            break;
        }
        out.push_str(space);
        out.push_str(word);
    }
    out
}

/// Returns whether a word looks like a provider's key: it begins as those of large providers do, or has stars over its
/// middle.
///
/// ```
/// use steadfast::providers::http::looks_like_a_key;
///
/// assert!(looks_like_a_key("sk-ant-api03") && !looks_like_a_key("task"));
/// ```
pub fn looks_like_a_key(word: &str) -> bool {
    const MARKS: [&str; 9] = ["sk-", "sk_", "pk-", "gsk_", "xai-", "AIza", "pplx-", "hf_", "whsec_"];
    let bare = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    word.contains("***") || MARKS.iter().any(|mark| bare.starts_with(mark))
}

/// The length below which a key is a stand-in such as `none`, and may be a part of plain words.
const SHORTEST_KEY: usize = 8;

/// Returns a short description of a body that is not the API's: the title of a proxy's HTML page, or the first words.
/// Words are quoted only from an error (`of_error`): under a good status they may be the answer.
pub fn excerpt(body: &[u8], of_error: Option<&Secret>) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let start = start.trim();
    if start.is_empty() {
        return "the body is empty".to_owned();
    }
    let lower = start.to_ascii_lowercase();
    if lower.starts_with('<') {
        let title = lower.find("<title>").map(|at| at + "<title>".len());
        let title = title.and_then(|from| Some(&start[from..from + lower[from..].find("</title>")?]));
        return match title {
            Some(title) => {
                let title: String = title.chars().take(120).collect();
                format!("the server sent an HTML page: {}", scrub(&title, of_error.unwrap_or(&Secret(None))))
            }
            None => "the server sent an HTML page".to_owned(),
        };
    }
    match of_error {
        // JSON of another shape may hold the prompt.
        _ if start.starts_with(['{', '[', '"']) => "the body is not of the provider's format".to_owned(),
        Some(secret) => {
            let words: String = start.chars().take(120).collect();
            format!("the body is not JSON: {}", scrub(&words, secret))
        }
        None => "the body is not JSON".to_owned(),
    }
}

/// Returns whether a body has any words but a page's.
fn is_said(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_some_and(|first| *first != b'<')
}

/// The longest wait that a rate limit asks for; a longer one belongs to a quota.
pub(crate) const LONGEST_RATE_WAIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k3y-Of/The+Account_0123";

    /// The spellings of a key in which a reader finds it again.
    fn spellings() -> Vec<String> {
        let each = |spell: &dyn Fn(char) -> String| KEY.chars().map(spell).collect::<String>();
        let one = |at: usize, spell: &dyn Fn(char) -> String| {
            KEY.chars().enumerate().map(|(n, c)| if n == at { spell(c) } else { c.to_string() }).collect::<String>()
        };
        let json = |c: char| format!("\\u{:04x}", c as u32);
        let json_upper = |c: char| format!("\\u{:04X}", c as u32);
        let twice = |c: char| format!("\\\\u{:04x}", c as u32);
        let percent = |c: char| format!("%{:02X}", c as u32);
        let percent_lower = |c: char| format!("%{:02x}", c as u32);
        let decimal = |c: char| format!("&#{};", c as u32);
        let hexadecimal = |c: char| format!("&#x{:x};", c as u32);
        let spells: [&dyn Fn(char) -> String; 7] =
            [&json, &json_upper, &twice, &percent, &percent_lower, &decimal, &hexadecimal];
        let mut all = vec![KEY.to_owned(), KEY.replace('/', "\\/")];
        for spell in spells {
            all.push(each(spell));
            all.extend((0..KEY.len()).map(|at| one(at, spell)));
        }
        all
    }

    #[test]
    fn a_key_is_found_in_every_spelling_and_every_place() {
        let secret = Secret(Some(KEY.into()));
        let spellings = spellings();
        assert!(spellings.len() > 150);
        for spelling in &spellings {
            for (before, after) in [("", ""), ("{\"type\":\"", "\"}"), ("a%b&c;\\n", "\\u00e9"), ("k3y-Of", "k3y-")] {
                let body = Bytes::from(format!("{before}{spelling}{after}"));
                let redacted = secret.redact(&body);
                assert_eq!(redacted, format!("{before}[key]{after}"), "{body:?}");
                let two = Bytes::from(format!("{before}{spelling} {spelling}{after}"));
                assert_eq!(secret.redact(&two), format!("{before}[key] [key]{after}"));
            }
            let facts = ErrorBody {
                message: format!("key {spelling} is wrong"),
                code: Some(spelling.clone()),
                request_id: Some(spelling.clone()),
                ..ErrorBody::default()
            };
            let error = of_facts(ErrorKind::Server, &secret, &facts, None);
            let shown =
                (error.message().to_owned(), error.code().map(str::to_owned), error.request_id().map(str::to_owned));
            assert_eq!(shown, ("key [key] is wrong".to_owned(), Some("[key]".to_owned()), Some("[key]".to_owned())));
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        let secret = Secret(Some(KEY.into()));
        for body in ["", "\\", "%", "&", "&#;", "%zz \\u00zz &#x;", "k3y-Of/The+Account_012", "100% \\u00e9 & more"] {
            assert_eq!(secret.redact(&Bytes::from(body)), body);
        }
        assert_eq!(secret.scrub_name("rate_limit_exceeded"), "rate_limit_exceeded");
        assert_eq!(Secret(Some("none".into())).redact(&Bytes::from_static(b"none")), "none", "a stand-in");
    }
}
