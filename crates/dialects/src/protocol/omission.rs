//! The parts that a request goes without: those that its server refuses, and those that the leaf remembers.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, sync::Arc};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{
    Chooser, Coder, Encoded, ErrorBody, Protocol, Refusal, RequestBody,
    refusal::{self, ANTHROPIC_BETA},
};
use crate::{Dialect, ErrorKind, Event, LlmError, LlmRequest, error::OmittedParameter};

/// The help for a request of which a server refuses a part.
#[derive(Debug)]
pub enum Remedy {
    /// Another call of the leaf's without these parts, which no layer counts: neither provider nor caller is at fault.
    SecondCall {
        parts: Vec<OmittedParameter>,
        /// True if a part is another account's: more of the request may be.
        is_of_stranger: bool,
    },
    /// Another attempt without these parts.
    Retry(Vec<OmittedParameter>),
    /// Another tier: the request cannot do without the part.
    AnotherTier,
}

/// The most parts that one request is sent without.
const MOST_OMITTED: usize = 16;

impl<P: Protocol> Coder<P> {
    /// Returns the body without the parts that the model is known to refuse.
    pub(super) fn leave_out(
        &self,
        request: &LlmRequest,
        model: &str,
        headers: &mut HeaderMap,
        body: RequestBody,
        notes: &mut Vec<Cow<'static, str>>,
    ) -> RequestBody {
        let refused = self.refused_parts(request, model);
        if refused.is_empty() {
            return body;
        }
        let mut body = body.into_bytes();
        let needles: Vec<Option<&str>> = refused.iter().map(|path| self.needle(path)).collect();
        let present = refusal::present(&body, &needles);
        for (path, _) in refused.iter().zip(present).filter(|(_, is_present)| *is_present) {
            let is_longer = match refusal::flag(path) {
                Some(flag) if refusal::remove_flag(headers, flag) => false,
                Some(_) => continue,
                None => {
                    let Some(fitted) = self.without(&body, path) else { continue };
                    let is_longer = fitted.len() > body.len();
                    body = fitted.into();
                    is_longer
                }
            };
            let what = match &**path {
                "max_tokens" | "max_completion_tokens" => "sent under its other name: the model refuses it",
                path if path.starts_with("input[custom_tool_call") => "sent as a function's: the model refuses it",
                _ if is_longer => "added: the model requires it",
                _ => "left out: the model refuses it",
            };
            notes.push(format!("refused_parameter: `{path}` was {what}").into());
        }
        body.into()
    }

    /// Returns the parts that a request goes without.
    fn refused_parts(&self, request: &LlmRequest, model: &str) -> Vec<Cow<'static, str>> {
        let mut refused = self.refused.of(model, request.caller_number());
        if refused.is_empty() && request.omitted_parameters().is_empty() || self.strict {
            return Vec::new();
        }
        // A caller's parameter for the very model that it named is not touched.
        let is_callers = self.is_callers_choice(request, model);
        refused.retain(|path| !is_callers || self.is_beyond_caller(path));
        refused.extend(request.omitted_parameters().iter().map(|parameter| parameter.path.clone()));
        refused
    }

    /// Returns a caller's headers without the flags that the model is known to refuse.
    pub fn without_flags<'a>(&self, request: &LlmRequest, model: &str, headers: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        let mut headers = Cow::Borrowed(headers);
        let refused = self.refused_parts(request, model);
        for flag in refused.iter().filter_map(|path| refusal::flag(path)) {
            refusal::remove_flag(headers.to_mut(), flag);
        }
        headers
    }

    /// Returns the name or the type that stands in each body with the part at a path; `None` if there is no such word.
    fn needle<'a>(&self, path: &'a str) -> Option<&'a str> {
        // A call's record may be there as its output alone.
        let is_kind = path.starts_with("tools[") && path.ends_with(']');
        let known = self.protocol.optional().iter().find(|part| part.path == path);
        let is_field = known.is_some_and(|part| part.chooser != Chooser::Stranger);
        let word = refusal::last_name(path);
        // OpenAI's dialect has two names for a mark, and Gemini's two spellings of each name.
        let is_one = match self.protocol.dialect() {
            Dialect::OpenAi => !path.starts_with("**."),
            Dialect::Gemini => !word.bytes().any(|byte| byte.is_ascii_uppercase()),
            Dialect::Anthropic | Dialect::Responses => true,
        };
        (is_kind || is_field && is_one).then_some(word)
    }

    /// Returns a body without the part at a path; `None` if it has none, or cannot do without it.
    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        let of_kind = refusal::without_kind(self.protocol.dialect(), body, path);
        of_kind.unwrap_or_else(|| self.protocol.without(body, path))
    }

    fn is_by(&self, path: &str, chooser: Chooser) -> bool {
        self.protocol.optional().iter().any(|part| part.path == path && part.chooser == chooser)
    }

    /// Returns true for a part that no caller can know to be refused: one of another's turn, or one that clients of the
    /// dialect send to every server, at another server than its vendor's.
    fn is_beyond_caller(&self, path: &str) -> bool {
        let is_dialects = || {
            let known = self.protocol.optional().iter().find(|part| part.path == path);
            let is_kind = || path.ends_with(']') || refusal::flag(path).is_some();
            known.map_or_else(is_kind, |part| part.chooser == Chooser::Dialect)
        };
        is_within_turns(path) || self.is_by(path, Chooser::Twin) || !self.is_vendors && is_dialects()
    }

    /// Returns the facts of an error that may refuse a part of its request; `None` for any other.
    pub fn refusal_facts(&self, error: &LlmError) -> Option<ErrorBody> {
        let may_refuse = match error.kind() {
            ErrorKind::InvalidRequest => true,
            // A server that has not implemented a tool may say so by its status.
            ErrorKind::Server => error.status() == Some(StatusCode::NOT_IMPLEMENTED),
            _ => false,
        };
        let body = serde_json::from_slice(error.raw().filter(|_| may_refuse)?).ok()?;
        let facts = ErrorBody::of_error(&body)?;
        (refusal::may_be_of_kinds(&facts) || self.protocol.names_part(&facts)).then_some(facts)
    }

    /// Returns what helps a request whose error has these facts; `None` if its caller has to mend it. `is_vendors` is
    /// true if its server may be that of the dialect's vendor.
    pub fn remedy(
        &self,
        (facts, kind): (&ErrorBody, ErrorKind),
        request: &LlmRequest,
        model: Option<&Arc<str>>,
        encoded: &Encoded,
        is_vendors: bool,
    ) -> Option<Remedy> {
        let model = model.filter(|_| request.omitted_parameters().len() < MOST_OMITTED)?;
        let body = encoded.body.clone().into_bytes();
        // A server may name one part in many places.
        let known = RefCell::<HashMap<String, bool>>::default();
        let looks = |path: &str| match refusal::flag(path) {
            // The operator's flags replace the caller's.
            Some(_) => !self.headers.contains_key(&ANTHROPIC_BETA),
            None => self.without(&body, path).is_some(),
        };
        let has = |path: &str| *known.borrow_mut().entry(path.to_owned()).or_insert_with(|| looks(path));
        let of_kinds = refusal::of_kinds(facts, self.protocol.dialect(), &body, &encoded.headers);
        let is_of_kinds = !of_kinds.is_empty();
        let mut refusals = match kind {
            _ if is_of_kinds => of_kinds,
            ErrorKind::InvalidRequest => self.protocol.refusals(facts, &has),
            _ => Vec::new(),
        };
        let is_callers = |refusal: &Refusal| match refusal.chooser {
            Chooser::Stranger => false,
            Chooser::Twin => !refusal.is_unsupported && self.own(request).is_some(),
            Chooser::Dialect if !is_vendors && refusal.is_unsupported => false,
            Chooser::Dialect | Chooser::Caller => {
                let is_chosen = !refusal.is_unsupported || self.is_callers_choice(request, model);
                is_chosen && self.own(request).is_some()
            }
        };
        refusals.retain(|refusal| !is_callers(refusal));
        let is_any = !refusals.is_empty();
        refusals.retain(|refusal| !self.strict && has(&refusal.parameter.path));
        if refusals.is_empty() {
            return (is_any && is_of_kinds).then_some(Remedy::AnotherTier);
        }
        let is_by = |chooser| move |refusal: &Refusal| refusal.chooser == chooser;
        let is_callers_own = refusals.iter().all(is_by(Chooser::Caller));
        let is_of_stranger = refusals.iter().any(is_by(Chooser::Stranger));
        let parts = refusals.into_iter().map(|refusal| refusal.parameter).collect();
        Some(if is_callers_own { Remedy::Retry(parts) } else { Remedy::SecondCall { parts, is_of_stranger } })
    }

    /// Remembers the parts that the model refused, after an answer without them.
    pub fn remember(&self, request: &LlmRequest, model: Option<&Arc<str>>) {
        let Some(model) = model else { return };
        for parameter in request.omitted_parameters().iter().filter(|parameter| parameter.lasting) {
            if self.refused.add(model, parameter.path.clone(), request.caller_number())
                && let Some(events) = &self.events
            {
                events.send_with(|| Event::ParameterRefused {
                    provider: self.provider.clone(),
                    model: model.clone(),
                    parameter: (&*parameter.path).into(),
                    at: Instant::now(),
                });
            }
        }
    }
}

/// Returns true for a part of the conversation, which no caller can know to be refused.
fn is_within_turns(path: &str) -> bool {
    path.starts_with("messages.")
}
