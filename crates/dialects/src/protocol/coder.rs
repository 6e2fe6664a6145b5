use std::{borrow::Cow, ops::Range, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    ErrorBody, Limits, ModelChoice, Protocol, RequestBody,
    failure::{self, Origin, Secret},
    readable,
    refusal::RefusalMemory,
    used_tokens::{UsageReporter, UsageWatch, hold_whole},
};
use crate::{
    Dialect, ErrorKind, Events, LlmBody, LlmError, LlmRequest, Wire,
    body::FailedAnswer,
    chat::{FinishReason, Message},
    commit::EmptyTurn,
    models::{Family, FamilyTable, UNKNOWN},
    prices::own_cost::HeaderCost,
    request::LONGEST_ANSWER,
    splice,
    translate::{
        AccountSeals, CacheMarks, Maker, Report, Restore, SealAccount, SealMemory, StandIns, Target, TargetAccount,
        fit, may_need_mending, mend, takes_any_ids,
    },
    wire::{FIELDS, JsonError, Object, Stop},
};

/// The settings of a provider's protocol, and its work without a transport.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds a key")]
pub struct Coder<P> {
    pub protocol: P,
    pub provider: Arc<str>,
    pub key: Option<Arc<str>>,
    pub model: Option<Arc<str>>,
    pub limits: Limits,
    /// The headers of every request, beside the protocol's own.
    pub headers: HeaderMap,
    pub strict: bool,
    pub events: Option<Events>,
    pub refused: Arc<RefusalMemory>,
    pub families: FamilyTable,
    /// The account in the memory of sealed reasoning, if the coder shares one.
    pub account: Option<SealAccount>,
    /// The account as the maker of thoughts.
    pub(crate) maker: Maker,
    /// True if the server is that of the dialect's own vendor, as far as its address tells.
    pub is_vendors: bool,
}

/// A request as its provider is to get it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Encoded {
    /// The caller's own headers that go along.
    pub headers: HeaderMap,
    pub body: RequestBody,
    /// The path behind the base URL.
    pub path: Cow<'static, str>,
    pub translation: TranslationNotes,
}

/// The differences of a door's bodies from the dialect's own.
#[derive(Clone, Debug, Default)]
pub struct BodyRules {
    /// True if the model is named elsewhere.
    pub without_model: bool,
    /// True if the address says that a stream is asked for.
    pub without_stream: bool,
    /// The model's name at the door, if it is not the leaf's.
    pub model: Option<Box<str>>,
    /// The fields that the door refuses, and the reasons for which the caller should know of it. A field without one
    /// is a part of the door itself.
    pub removed: Vec<(&'static str, Option<&'static str>)>,
    /// The door's own fields, with their JSON.
    pub set: Vec<(&'static str, String)>,
    /// The changes of headers that the caller should know of.
    pub notes: Vec<Cow<'static, str>>,
    /// The fields that `rewrite` looks at, beside those that may occur once.
    pub read: &'static [&'static str],
    pub rewrite: Option<Rewrite>,
}

/// Rewrites the parts of a body that a door does not take. The body's object has the places of its fields.
pub type Rewrite = fn(&Bytes, &Object) -> Result<Rewritten, LlmError>;

/// The changes within a body.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Places with their new JSON.
    pub edits: Vec<(Range<usize>, String)>,
    pub removed: Vec<&'static str>,
    pub notes: Vec<Cow<'static, str>>,
}

impl BodyRules {
    /// Returns the names of the fields to look for.
    fn names(&self) -> Vec<&'static str> {
        let own = self.removed.iter().map(|(name, _)| *name).chain(self.set.iter().map(|(name, _)| *name));
        let own = own.chain(self.read.iter().copied());
        let mut names = FIELDS.to_vec();
        names.extend(own.filter(|name| !FIELDS.contains(name)));
        names
    }

    /// Adds the notes on what a body loses by these rules. A strict leaf refuses it.
    fn note(
        &self,
        object: &Object,
        rewritten: Vec<Cow<'static, str>>,
        strict: bool,
        notes: &mut Vec<Cow<'static, str>>,
    ) -> Result<(), LlmError> {
        let lost = self.removed.iter().filter_map(|(name, reason)| {
            let reason = (*reason)?;
            object.field(name).map(|_| Cow::Owned(format!("door: `{name}` was left out: {reason}")))
        });
        for note in self.notes.iter().cloned().chain(lost).chain(rewritten) {
            if strict {
                return Err(LlmError::new(ErrorKind::UnsupportedFeature, note));
            }
            notes.push(note);
        }
        Ok(())
    }
}

/// The translation's notes and names, for the answer.
#[derive(Clone, Default)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct TranslationNotes {
    /// The parts that were changed or left out.
    pub notes: Vec<Cow<'static, str>>,
    /// The changes that the answer shows.
    pub restore: Restore,
}

impl<P: Protocol> Coder<P> {
    pub fn new(protocol: P, provider: impl Into<Arc<str>>, key: Option<Arc<str>>) -> Self {
        Self {
            protocol,
            provider: provider.into(),
            key: key.map(trimmed),
            model: None,
            limits: Limits::default(),
            headers: HeaderMap::new(),
            strict: false,
            events: None,
            refused: Arc::default(),
            families: FamilyTable::builtin(),
            account: None,
            maker: Maker::default(),
            is_vendors: true,
        }
    }

    /// Changes the protocol, and keeps all other settings.
    pub fn with_protocol<Q>(self, protocol: impl FnOnce(&P) -> Q) -> Coder<Q> {
        Coder {
            protocol: protocol(&self.protocol),
            provider: self.provider,
            key: self.key,
            model: self.model,
            limits: self.limits,
            headers: self.headers,
            strict: self.strict,
            events: self.events,
            refused: self.refused,
            families: self.families,
            account: self.account,
            maker: self.maker,
            is_vendors: self.is_vendors,
        }
    }

    /// Sets the key, without the white space around it.
    pub fn set_key(&mut self, key: Arc<str>) {
        self.key = Some(trimmed(key));
    }

    /// Returns the model that a request is for: the coder's own, or else the caller's.
    pub fn model_of(&self, request: &LlmRequest) -> Option<Arc<str>> {
        self.model.clone().or_else(|| request.model().map(Into::into))
    }

    /// Sets the place of the account.
    pub fn set_place(&mut self, place: &str) {
        self.maker = Maker::new(place, self.key.as_deref());
        self.is_vendors =
            crate::servers::KnownServer::at(place).is_some_and(|server| server.is_vendor_of(self.protocol.dialect()));
    }

    /// Adds the account of the key at this place to the memory of sealed reasoning.
    pub fn enroll(&mut self, memory: &SealMemory, place: &str) {
        self.account = Some(memory.enroll(self.protocol.dialect(), place, self.key.as_deref()));
    }

    /// Returns the seals of an account for a request; `None` if there is no other account.
    pub fn seals_of(
        &self,
        account: &SealAccount,
        request: &LlmRequest,
        model: Option<&str>,
    ) -> Option<Arc<AccountSeals>> {
        let model = model.unwrap_or_default();
        let family = self.families.family(model);
        // A careful row stands for models of several families.
        let family = if family.is_careful() { model } else { family.name() };
        let tenant = request.tenant().map(|tenant| &**tenant);
        let is_chat = request.wire().is_some_and(|wire| wire.dialect() == Dialect::OpenAi);
        account.seals(self.protocol.dialect(), tenant, family, is_chat).map(Arc::new)
    }

    /// Returns the seals of the coder's own account for a request.
    pub fn seals(&self, request: &LlmRequest, model: Option<&str>) -> Option<Arc<AccountSeals>> {
        self.seals_of(self.account.as_ref()?, request, model)
    }

    /// Returns who makes a model's thoughts at an address. Bedrock has Claude's models at one address with others',
    /// whose thoughts nobody signs.
    pub fn maker_of(&self, at_address: Maker, model: Option<&Arc<str>>) -> Maker {
        match (self.protocol.dialect(), model) {
            (Dialect::Anthropic, Some(model)) => at_address.of_model(model.clone()),
            _ => at_address,
        }
    }

    pub fn origin(&self, model: Option<Arc<str>>) -> Origin {
        let maker = self.maker_of(self.maker.clone(), model.as_ref());
        Origin {
            provider: self.provider.clone(),
            model,
            is_named_by_caller: false,
            dialect: self.protocol.dialect(),
            status: None,
            request_id: None,
            cost: HeaderCost::default(),
            secret: Secret(self.key.clone()),
            account: TargetAccount { maker, seals: None },
        }
    }

    /// Returns true if the translation takes so long that it must not hold up other requests of the thread.
    pub fn is_long_work(&self, request: &LlmRequest, origin: &Origin) -> bool {
        let model = origin.model.as_deref();
        let is_read = |wire: &Wire| {
            wire.dialect() != self.protocol.dialect()
                || may_need_mending(wire, self.target(wire, model.unwrap_or_default()), origin.account.seals.as_deref())
                || model.is_some_and(|model| self.another(wire, model).is_some())
                || !request.omitted_parameters().is_empty()
                || self.refused.is_any()
        };
        request.wire().is_some_and(|wire| wire.is_large() && is_read(wire))
    }

    /// Returns the provider's needs for a request of its own dialect. A caller that names the leaf's very model knows
    /// them.
    fn target(&self, wire: &Wire, model: &str) -> Target {
        let target = self.protocol.target();
        let is_callers = wire.model() == Some(model) && target.dialect == Dialect::Gemini;
        let stand_ins = if is_callers { StandIns::None } else { self.protocol.stand_ins(model) };
        Target { stand_ins, ..target }
    }

    /// Returns the provider's needs for a request of another dialect.
    fn foreign_target(&self, model: &str, door: Option<&BodyRules>) -> Target {
        let finds_no_place = |door: &BodyRules| door.removed.iter().any(|(name, _)| *name == "cache_control");
        let marks = match self.protocol.cache_marks(model) {
            CacheMarks::Anywhere if door.is_some_and(finds_no_place) => CacheMarks::Parts,
            marks => marks,
        };
        let any_ids = takes_any_ids(model, self.is_vendors || door.is_some());
        Target { stand_ins: self.protocol.stand_ins(model), marks, any_ids, ..self.protocol.target() }
    }

    /// Encodes a request, with notes on the parts that it could not carry.
    pub fn encode(
        &self,
        request: &LlmRequest,
        model: Option<&str>,
        account: TargetAccount,
        stream: bool,
        stop: Stop,
    ) -> Result<Encoded, LlmError> {
        self.encode_for(None, request, model, account, stream, stop)
    }

    /// Encodes a request for a door with these rules.
    pub fn encode_for(
        &self,
        door: Option<&BodyRules>,
        request: &LlmRequest,
        model: Option<&str>,
        account: TargetAccount,
        stream: bool,
        stop: Stop,
    ) -> Result<Encoded, LlmError> {
        let model = model.ok_or_else(failure::no_model)?;
        let own = self.own(request);
        let mut door_notes = Vec::new();
        let mut headers = HeaderMap::new();
        let target = match own {
            Some(wire) => self.target(wire, model),
            None => self.foreign_target(model, door),
        };
        let source = request.wire().map(Wire::dialect);
        let report = Report::new(self.protocol.dialect(), source).until(stop).with_account(account);
        let mut report = report.with_marks(target.marks);
        let (body, restore) = match own {
            Some(wire) => {
                forward(&mut headers, wire.header_map());
                let mut mended = mend(wire, target, &mut report)?;
                // A compaction has none of the parameters that models differ in.
                if let Some(asked) = self.another(wire, model).filter(|_| !wire.is_compaction()) {
                    let refitted =
                        self.protocol.refit(mended.as_ref().unwrap_or_else(|| wire.body()), asked, &mut report)?;
                    mended = refitted.or(mended);
                }
                if request.goes_on() {
                    let going_on = self.protocol.going_on(mended.as_ref().unwrap_or_else(|| wire.body()));
                    mended = going_on.map(Bytes::from).or(mended);
                }
                let in_body = self.protocol.model_in_body();
                let limits = self.protocol.max_tokens_fields();
                // A layer knows the caller's own model alone.
                let longest = self.families.family(model).max_output().unwrap_or(u32::MAX);
                let changes = splice::Changes {
                    model: (in_body && model != IN_ADDRESS).then_some(model),
                    stream: (in_body && !wire.is_compaction()).then_some(stream),
                    max_tokens: wire.max_tokens().map(|tokens| (limits, tokens.min(longest))),
                    ..splice::Changes::default()
                };
                let pieces = match (mended, door) {
                    (mended, Some(door)) => {
                        let body = mended.as_ref().unwrap_or_else(|| wire.body());
                        self.at_door(door, body, changes, &mut door_notes)?
                    }
                    // A repaired body has its fields in other places.
                    (Some(mended), None) => Object::read(&mended, &FIELDS)
                        .and_then(|object| splice::set(&mended, &object, &changes))
                        .map_err(no_object)?,
                    (None, None) => splice::set(wire.body(), wire.object(), &changes).map_err(no_object)?,
                };
                (RequestBody::pieces(pieces), Restore::default())
            }
            None => {
                let (chat, restore) = fit(request, target, &mut report)?;
                let to = self.asked(model, chat.model.as_deref());
                let mut body = self.protocol.encode(&chat, to, stream, &mut report)?;
                if request.goes_on()
                    && let Some(going_on) = self.protocol.going_on(&body)
                {
                    body = going_on.into();
                }
                let body = match door {
                    Some(door) => {
                        RequestBody::pieces(self.at_door(door, &body, splice::Changes::default(), &mut door_notes)?)
                    }
                    None => body.into(),
                };
                (body, restore)
            }
        };
        let mut notes = report.finish(self.strict && own.is_none())?;
        notes.append(&mut door_notes);
        let body = self.leave_out(request, model, &mut headers, body, &mut notes);
        let path = match own.is_some_and(Wire::is_compaction) {
            true => format!("{}/compact", self.protocol.path(model, stream)).into(),
            false => self.protocol.path(model, stream),
        };
        Ok(Encoded { headers, body, path, translation: TranslationNotes { notes, restore } })
    }

    /// Returns a body by the rules of a door, in pieces that share the unchanged bytes.
    fn at_door<'a>(
        &self,
        door: &'a BodyRules,
        body: &Bytes,
        mut changes: splice::Changes<'a>,
        notes: &mut Vec<Cow<'static, str>>,
    ) -> Result<Vec<Bytes>, LlmError> {
        let object = Object::read(body, &door.names()).map_err(no_object)?;
        let rewritten = door.rewrite.map(|rewrite| rewrite(body, &object)).transpose()?.unwrap_or_default();
        door.note(&object, rewritten.notes, self.strict, notes)?;
        let mut removed: Vec<&'static str> = door.removed.iter().map(|(name, _)| *name).collect();
        removed.extend(rewritten.removed);
        if let Some(model) = door.model.as_deref().filter(|_| self.protocol.model_in_body()) {
            changes.model = Some(model);
        }
        if door.without_model {
            changes.model = None;
            removed.push("model");
        }
        if door.without_stream {
            changes.stream = None;
            removed.push("stream");
        }
        let changes = splice::Changes { removed: &removed, set: &door.set, edits: &rewritten.edits, ..changes };
        splice::set(body, &object, &changes).map_err(no_object)
    }

    /// Returns true if the caller wrote the request's parameters for this model.
    pub(super) fn is_callers_choice(&self, request: &LlmRequest, model: &str) -> bool {
        self.own(request).is_some_and(|wire| wire.model() == Some(model))
    }

    /// Returns the caller's bytes, if they are of the protocol's own dialect.
    pub(super) fn own<'a>(&self, request: &'a LlmRequest) -> Option<&'a Wire> {
        request.wire().filter(|wire| wire.dialect() == self.protocol.dialect())
    }

    /// Returns the model of a call, and the family of the caller's model if it is another one.
    fn asked<'a>(&'a self, model: &'a str, named: Option<&str>) -> ModelChoice<'a> {
        let families = &self.families;
        let family = families.family(model);
        let before = named.filter(|named| *named != model).map(|named| families.family(named));
        // An unknown name does not show what its caller expects, and a careful row does not show what the model
        // refuses.
        let is_guessed =
            |before: &Family| family.name() == UNKNOWN || (family.is_careful() && before.name() == UNKNOWN);
        let before = before.filter(|before| !before.is(family) && !is_guessed(before));
        ModelChoice { model, family, before }
    }

    /// Returns the same for a request of the protocol's own dialect, if the caller named another model or none.
    fn another<'a>(&'a self, wire: &Wire, model: &'a str) -> Option<ModelChoice<'a>> {
        if wire.model() == Some(model) {
            return None;
        }
        Some(self.asked(model, wire.model())).filter(|asked| asked.before.is_some())
    }

    /// Adds the protocol's headers and the key to a request's headers.
    pub fn with_own_headers(&self, mut headers: HeaderMap) -> Result<HeaderMap, LlmError> {
        headers.extend(self.headers.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        self.protocol.headers(&mut headers);
        if let Some(key) = &self.key {
            let (name, value) = self.protocol.key(key);
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                LlmError::new(ErrorKind::Auth, "the key contains a character that HTTP headers do not allow")
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Decodes a whole answer.
    pub fn decode(
        &self,
        origin: &Origin,
        request: &LlmRequest,
        raw: Bytes,
        translation: &mut TranslationNotes,
    ) -> Result<LlmBody, LlmError> {
        let (protocol, raw) = (&self.protocol, readable(raw));
        if raw.iter().all(u8::is_ascii_whitespace) {
            return Err(LlmError::new(ErrorKind::EmptyAnswer, "the body is empty"));
        }
        let mut message = protocol.decode(&raw).map_err(|fault| {
            let filtered = fault.filtered_turn();
            let mut error = failure::of_fault(protocol, origin, fault, &raw);
            if let Some(mut usage) = protocol.failed_usage(&raw) {
                origin.cost.complete(&mut usage);
                let mut failed = Message::assistant("");
                failed.usage = Some(usage);
                hold_whole(request, self.longest(origin), raw.len(), &mut failed, || self.usage_reporter(origin));
                error = error.with_usage(failed.usage);
            }
            match filtered {
                Some(turn) => error.with_answer(FailedAnswer::Whole(turn, Some((protocol.dialect(), raw.clone())))),
                None => error,
            }
        })?;
        if let Some(usage) = &mut message.usage {
            origin.cost.complete(usage);
        }
        hold_whole(request, self.longest(origin), raw.len(), &mut message, || self.usage_reporter(origin));
        let kept = || FailedAnswer::Whole(message.clone(), Some((protocol.dialect(), raw.clone())));
        if let Some(error) = EmptyTurn::of(&message).and_then(|turn| turn.failure(Some(request), kept)) {
            return Err(error.with_raw(origin.secret.redact(&raw)));
        }
        origin.account.maker.sign_message(&mut message);
        if let Some(seals) = &origin.account.seals {
            seals.remember_message(&message);
        }
        translation.restore.message(&mut message);
        let is_foreign = request.wire().is_some_and(|wire| wire.dialect() != protocol.dialect());
        if let Some(FinishReason::Other(word) | FinishReason::ModelError(word)) = &message.finish
            && is_foreign
        {
            let word: String = word.chars().take(LONGEST_WORD).collect();
            let note =
                format!("finish_reason: the provider's `{word}` is told as the nearest word of the caller's protocol");
            translation.notes.push(note.into());
        }
        let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        if message.tool_calls().any(|call| !is_json(&call.arguments)) {
            let note = "invalid_arguments: a tool call's arguments are not JSON; they are passed on unchanged";
            translation.notes.push(note.into());
        }
        Ok(LlmBody::from_wire(protocol.dialect(), raw, message))
    }

    /// Returns the watch over the figures of a streamed answer.
    pub fn usage_watch(&self, request: &LlmRequest, origin: &Origin) -> UsageWatch {
        UsageWatch::new(request, self.longest(origin), origin.cost, self.usage_reporter(origin))
    }

    /// Returns the tokens of the model's longest answer.
    fn longest(&self, origin: &Origin) -> u64 {
        let known = origin.model.as_deref().and_then(|model| self.families.family(model).max_output());
        known.map_or(LONGEST_ANSWER, u64::from)
    }

    fn usage_reporter(&self, origin: &Origin) -> UsageReporter {
        UsageReporter { events: self.events.clone(), provider: self.provider.clone(), model: origin.model.clone() }
    }

    /// Creates the error of an answer with an error status. `wall` is the time, for waits that end at a date.
    pub fn error(
        &self,
        secret: &Secret,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        wall: SystemTime,
    ) -> LlmError {
        failure::of_status(&self.protocol, secret, status, headers, body, wall, None)
    }

    /// Creates the error of an answer that a door gives this meaning.
    pub fn error_with(
        &self,
        meaning: failure::Meaning,
        secret: &Secret,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
        wall: SystemTime,
    ) -> LlmError {
        failure::of_status(&self.protocol, secret, status, headers, body, wall, Some(meaning))
    }

    /// Creates the error of a client that keeps the fields of an error body, and maybe the status.
    pub fn error_of_fields(&self, secret: &Secret, status: Option<StatusCode>, fields: &Value) -> LlmError {
        // Some clients take the whole body for the message.
        let text = fields.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        let is_body = text.trim_start().starts_with(['{', '[', '<']);
        let raw = if is_body { Bytes::from(text.to_owned()) } else { Bytes::from(fields.to_string()) };
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        if let Some(status) = status.filter(|status| !status.is_success()) {
            return failure::of_status(
                &self.protocol,
                secret,
                status,
                &HeaderMap::new(),
                raw,
                SystemTime::UNIX_EPOCH,
                None,
            );
        }
        let facts = ErrorBody::of_error(&body).unwrap_or_default();
        // Every dialect has names for its other failures.
        let is_invalid = facts.kind.as_deref().is_some_and(|kind| kind.contains("invalid_request"));
        let assumed = if is_invalid { StatusCode::BAD_REQUEST } else { status.unwrap_or_default() };
        failure::of_fields(&self.protocol, secret, assumed, &body).with_raw(secret.redact(&raw))
    }
}

fn no_object(error: JsonError) -> LlmError {
    let what = "the body is not a JSON object with one model, one stream and one limit of tokens";
    LlmError::new(ErrorKind::InvalidRequest, what).with_source(error)
}

/// The model of a request whose address names it: its body is left without one.
pub const IN_ADDRESS: &str = "";

/// Copies the caller's headers, except for its credentials, which are for the gateway, and those of a connection.
fn forward(headers: &mut HeaderMap, from: &HeaderMap) {
    const KEPT_BACK: [&str; 21] = [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-amz-security-token",
        "x-amz-date",
        "x-amz-content-sha256",
        "cookie",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "expect",
    ];
    for (name, value) in from {
        if !KEPT_BACK.contains(&name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The longest word of a provider's in a note, in characters.
const LONGEST_WORD: usize = 40;

const USER_AGENT: &str = concat!("steadfast/", env!("CARGO_PKG_VERSION"));

/// Removes white space: a key from a file often ends in a line feed, which no header may contain.
fn trimmed(key: Arc<str>) -> Arc<str> {
    if key.trim().len() == key.len() { key } else { key.trim().into() }
}
