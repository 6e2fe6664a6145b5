//! The request of a door: its fields, headers and path.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use super::{
    AwsApi, Door, Place, codec, developers,
    filter::{Beta, beta, refused_fields},
    hosted, whole_mark,
};
use crate::{
    Dialect, ErrorKind, LlmError, LlmRequest, Wire,
    http::{RequestBody, address::addressed, leaf::Settings},
    protocol::{BodyRules, Encoded, Origin, Protocol, TranslationNotes},
    wire::Stop,
};

const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Prepares the HTTP request, but for the credential.
pub(in crate::http) fn prepare<P: Protocol>(
    settings: &Settings<P>,
    door: &Door,
    request: &LlmRequest,
    origin: &Origin,
    stream: bool,
    stop: Stop,
) -> Result<(Request<RequestBody>, TranslationNotes), LlmError> {
    let (coder, dialect) = (&settings.coder, settings.coder.protocol.dialect());
    let (encoded, _) = encoded(settings, door, request, origin, stream, stop)?;
    let Encoded { headers, mut body, path, mut translation } = encoded;
    let model = origin.model.as_deref();
    let mut names = None;
    if door.is_codec() {
        let (converted, mut notes, renamed) = codec::request(body, coder.strict)?;
        (body, names) = (converted, Some(renamed));
        translation.notes.append(&mut notes);
    }
    let path = door.path(dialect, model.unwrap_or_default(), stream, &path);
    let mut sent = addressed(settings, headers, &path, body)?;
    // The exchange takes them out again, for the answer.
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        sent.extensions_mut().insert(names);
    }
    door.finish(&settings.coder.protocol, coder.key.as_deref(), sent.headers_mut())?;
    Ok((sent, translation))
}

/// Returns a request by the door's rules, in its dialect's own format, and the flags of `anthropic-beta` in its body.
pub(in crate::http) fn encoded<P: Protocol>(
    settings: &Settings<P>,
    door: &Door,
    request: &LlmRequest,
    origin: &Origin,
    stream: bool,
    stop: Stop,
) -> Result<(Encoded, Option<HeaderValue>), LlmError> {
    let (coder, dialect) = (&settings.coder, settings.coder.protocol.dialect());
    let (model, account) = (origin.model.as_deref(), origin.account.clone());
    let callers = request.wire().filter(|wire| wire.dialect() == dialect).map(Wire::header_map);
    let callers = callers.map(|headers| coder.without_flags(request, model.unwrap_or_default(), headers));
    let (rules, betas) = door.rules(dialect, callers.as_deref(), &coder.headers);
    let mut encoded = coder.encode_for(Some(&rules), request, model, account, stream, stop)?;
    match betas {
        Some(kept) => {
            encoded.headers.insert(ANTHROPIC_BETA, kept);
        }
        None => {
            encoded.headers.remove(ANTHROPIC_BETA);
        }
    }
    let in_body = rules.set.iter().find(|(name, _)| *name == "anthropic_beta");
    let flags = in_body.and_then(|(_, list)| serde_json::from_str::<Vec<String>>(list).ok());
    Ok((encoded, flags.and_then(|flags| HeaderValue::from_str(&flags.join(",")).ok())))
}

/// Returns the same for a remedy, which looks for flags in the header.
pub(in crate::http) fn encoded_for_remedy<P: Protocol>(
    settings: &Settings<P>,
    door: &Door,
    request: &LlmRequest,
    origin: &Origin,
    stop: Stop,
) -> Result<Encoded, LlmError> {
    let (mut encoded, flags) = encoded(settings, door, request, origin, request.is_stream(), stop)?;
    if let Some(flags) = flags {
        encoded.headers.insert(ANTHROPIC_BETA, flags);
    }
    Ok(encoded)
}

impl Door {
    /// Returns the changes of a body, and the values of `anthropic-beta` that go along in the header.
    fn rules(
        &self,
        dialect: Dialect,
        callers: Option<&HeaderMap>,
        own: &HeaderMap,
    ) -> (BodyRules, Option<HeaderValue>) {
        let mut rules = BodyRules { model: self.model_in_body(dialect), ..BodyRules::default() };
        let values = callers.into_iter().flat_map(|headers| headers.get_all(&ANTHROPIC_BETA));
        let Some(claude) = self.claude(dialect) else {
            if dialect == Dialect::Gemini && matches!(self.place, Place::Vertex { .. }) {
                rules.removed = developers::REMOVED.to_vec();
                rules.read = developers::READ;
                rules.rewrite = Some(developers::rewrite);
            }
            return (rules, values.last().cloned());
        };
        let is_codec = self.is_codec();
        let mut kept: Vec<Cow<'_, str>> = Vec::new();
        for value in values.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim) {
            match beta(claude, value) {
                _ if value.is_empty() => {}
                Beta::Taken => kept.push(value.into()),
                Beta::Renamed(name) => {
                    let note =
                        format!("door: `anthropic-beta: {}` became `{name}`: the door has no more of it", label(value));
                    rules.notes.push(note.into());
                    kept.push(name.into());
                }
                Beta::Refused => {
                    let note =
                        format!("door: `anthropic-beta: {}` was left out: the door does not take it", label(value));
                    rules.notes.push(note.into());
                }
            }
        }
        kept.dedup();
        // Converse has places of its own for these.
        let by_codec =
            |name: &str| is_codec && matches!(name, "cache_control" | "service_tier" | "metadata" | "thread");
        let refused = refused_fields(claude).filter(|(name, _)| !by_codec(name));
        // Its rewriting finds another place for the mark of the whole request, or notes that there is none.
        let told = |name, reason| (name != whole_mark::MARK).then_some(reason);
        rules.removed = refused.map(|(name, reason)| (name, told(name, reason))).collect();
        if !is_codec {
            (rules.read, rules.rewrite) = (hosted::READ, hosted::rewrite(claude));
        }
        match &self.place {
            Place::Aws { api: AwsApi::Invoke | AwsApi::Converse, .. } => {
                (rules.without_model, rules.without_stream) = (true, true);
                match is_codec {
                    true => rules.removed.push(("anthropic_version", None)),
                    false => rules.set.push(("anthropic_version", r#""bedrock-2023-05-31""#.to_owned())),
                }
                // The leaf's own header is the operator's choice.
                let own = own.get(&ANTHROPIC_BETA).and_then(|value| value.to_str().ok());
                if let Some(own) = own {
                    kept = own.split(',').map(|value| value.trim().into()).collect();
                }
                if !kept.is_empty() {
                    let list = serde_json::to_string(&kept).unwrap_or_default();
                    rules.set.push(("anthropic_beta", list));
                }
                return (rules, None);
            }
            Place::Vertex { .. } => {
                rules.without_model = true;
                rules.set.push(("anthropic_version", r#""vertex-2023-10-16""#.to_owned()));
            }
            _ => rules.removed.push(("anthropic_version", None)),
        }
        let header = HeaderValue::from_str(&kept.join(",")).ok().filter(|value| !value.is_empty());
        (rules, header)
    }

    /// Returns the model's name in the body, if it is not the leaf's. An address may have the deployment's instead.
    pub(in crate::http) fn model_in_body(&self, dialect: Dialect) -> Option<Box<str>> {
        let is_in_address = self.api_version.is_some() && dialect == Dialect::OpenAi;
        self.deployment.clone().filter(|_| !is_in_address)
    }

    /// Returns the path behind the host, in place of the protocol's own.
    pub(in crate::http) fn path<'a>(&self, dialect: Dialect, model: &str, stream: bool, own: &'a str) -> Cow<'a, str> {
        match &self.place {
            Place::Own => own.into(),
            Place::Aws { api: AwsApi::Invoke, .. } => {
                let method = if stream { "invoke-with-response-stream" } else { "invoke" };
                format!("/model/{}/{method}", segment(model)).into()
            }
            Place::Aws { api: AwsApi::Converse, .. } => {
                let method = if stream { "converse-stream" } else { "converse" };
                format!("/model/{}/{method}", segment(model)).into()
            }
            Place::Aws { .. } | Place::Azure { .. } if dialect == Dialect::Anthropic => {
                format!("/anthropic/v1{own}").into()
            }
            Place::Aws { api: AwsApi::Mantle, .. } if dialect != Dialect::Responses => format!("/v1{own}").into(),
            Place::Aws { .. } => format!("/openai/v1{own}").into(),
            Place::Azure { .. } => match &self.api_version {
                None => format!("/openai/v1{own}").into(),
                Some(version) if dialect == Dialect::Responses => format!("/openai{own}?api-version={version}").into(),
                Some(version) => {
                    let deployment = segment(self.deployment.as_deref().unwrap_or(model));
                    format!("/openai/deployments/{deployment}{own}?api-version={version}").into()
                }
            },
            Place::Vertex { project, location } => {
                let version = self.api_version.as_deref().unwrap_or("v1");
                let place = match project {
                    Some(project) => format!("/{version}/projects/{project}/locations/{location}"),
                    None => format!("/{version}"),
                };
                if dialect == Dialect::Anthropic {
                    let method = if stream { "streamRawPredict" } else { "rawPredict" };
                    return format!("{place}/publishers/anthropic/models/{}:{method}", segment(model)).into();
                }
                match own {
                    // A tuned model's endpoint names its project.
                    own if own.starts_with("/projects/") => format!("/{version}{own}").into(),
                    own if own.starts_with("/publishers/") => format!("{place}{own}").into(),
                    own => format!("{place}/publishers/google{own}").into(),
                }
            }
        }
    }

    /// Changes the headers of a request that are not the door's, and adds its key.
    pub(in crate::http) fn finish<P: Protocol>(
        &self,
        protocol: &P,
        key: Option<&str>,
        headers: &mut HeaderMap,
    ) -> Result<(), LlmError> {
        let dialect = protocol.dialect();
        if self.claude(dialect).is_some() {
            let in_body = match &self.place {
                Place::Aws { api, .. } => matches!(api, AwsApi::Invoke | AwsApi::Converse),
                Place::Vertex { .. } => true,
                _ => false,
            };
            if in_body {
                headers.remove(&ANTHROPIC_VERSION);
            }
            if matches!(self.place, Place::Aws { api: AwsApi::Invoke | AwsApi::Converse, .. }) {
                headers.remove(&ANTHROPIC_BETA);
            }
        }
        let Some(key) = key.filter(|_| self.place != Place::Own) else { return Ok(()) };
        let (usual, _) = protocol.key(key);
        let (name, value) = self.key(dialect, key);
        if name == usual && self.place_of_key_is_usual() {
            return Ok(());
        }
        headers.remove(usual);
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            LlmError::new(ErrorKind::Credentials, "the key contains a character that HTTP headers do not allow")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    fn place_of_key_is_usual(&self) -> bool {
        matches!(self.place, Place::Vertex { .. })
    }

    /// Returns the header that carries a key.
    fn key(&self, dialect: Dialect, key: &str) -> (HeaderName, String) {
        match &self.place {
            // "Use an Amazon Bedrock API key": a bearer, everywhere.
            Place::Own | Place::Aws { .. } => (header::AUTHORIZATION, format!("Bearer {key}")),
            Place::Azure { .. } if dialect == Dialect::Anthropic => {
                (HeaderName::from_static("x-api-key"), key.to_owned())
            }
            Place::Azure { .. } => (HeaderName::from_static("api-key"), key.to_owned()),
            Place::Vertex { .. } => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
        }
    }
}

/// Returns a text as one segment of a path.
fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'@') {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of points alone would climb.
    if segment.bytes().all(|byte| byte == b'.') { segment.replace('.', "%2E") } else { segment }
}

/// Returns the start of a caller's value, for a note.
fn label(value: &str) -> String {
    value.chars().take(60).filter(|letter| !letter.is_control()).collect()
}
