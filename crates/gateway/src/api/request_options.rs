//! The options that callers set in headers, and the headers that go on to a provider.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use steadfast::{
    CommitPoint, Dialect, ErrorKind, InvalidConfig, LlmError, LlmRequest,
    layers::{cache::CacheControl, fallback::StreamBreak},
};
use steadfast_handoff::{CallbackUrl, CallerTask};

use super::cache;

/// The options that a caller sets in headers, for the gateway and not for a provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestOptions {
    pub(crate) feature: Option<Box<str>>,
    session: Option<Box<str>>,
    idempotency_key: Option<Box<str>>,
    /// The header of a name that cannot be kept. It must not pass for none: under no feature the request would be
    /// outside of the feature's limits, and the repeat of a key would be a second call.
    invalid: Option<&'static str>,
    /// The time that the caller gives its request.
    pub(crate) timeout: Option<Duration>,
    no_fallback: bool,
    human: Option<Box<HumanOptions>>,
    /// The header's value: an invalid commit point must not pass for none.
    commit: Option<HeaderValue>,
    /// The same of the policy for a broken stream.
    on_break: Option<HeaderValue>,
    cache: Option<CacheControl>,
    /// True if the caller wants the decision record.
    pub(crate) explain: bool,
    /// True if the reader of the stream wants to know who answers; `None`: the file says it.
    pub(crate) notices: Option<bool>,
    /// The headers whose values say nothing, for the answer's notes.
    pub(crate) notes: Vec<Cow<'static, str>>,
}

impl RequestOptions {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        // Most requests set no option: one pass over their names costs a tenth of a lookup for each.
        if !headers.keys().any(|name| sets_option(name.as_str())) {
            return Self::default();
        }
        let mut notes = Vec::new();
        let timeout = own_time(headers, &mut notes);
        for name in [NO_FALLBACK, EXPLAIN, NOTICES] {
            let said = headers.get(name).is_some_and(|word| !word.as_bytes().trim_ascii().is_empty());
            let senseless = said && first(headers, &[name]).and_then(yes_or_no).is_none();
            notes.extend(senseless.then(|| ignored(name, "neither 1 nor 0")));
        }
        let mut invalid = None;
        let [feature, session, idempotency_key] = [FEATURES, SESSIONS, IDEMPOTENCY_KEYS].map(|names| {
            let (header, said) = names.iter().find_map(|name| Some((*name, headers.get(*name)?)))?;
            match read_name(said) {
                // A key that a program forgot to fill in is no wish to repeat the call.
                Some("") if names == IDEMPOTENCY_KEYS => invalid = invalid.or(Some(header)),
                Some("") => {}
                Some(name) => return Some(name.into()),
                None if is_own(header) => invalid = invalid.or(Some(header)),
                // Other gateways' sessions and clients' own may be any text.
                None => notes.push(ignored(header, NO_NAME)),
            }
            None
        });
        Self {
            feature,
            session,
            idempotency_key,
            invalid,
            timeout,
            no_fallback: flag(headers, NO_FALLBACK),
            human: HumanOptions::from_headers(headers),
            commit: headers.get(COMMIT).cloned(),
            on_break: headers.get(ON_BREAK).cloned(),
            cache: cache::requested(headers),
            explain: flag(headers, EXPLAIN),
            notices: first(headers, &[NOTICES]).and_then(yes_or_no),
            notes,
        }
    }

    /// Checks the names of a feature, a session and an idempotency key.
    ///
    /// # Errors
    ///
    /// One cannot be kept.
    pub(crate) fn check(&self) -> Result<(), LlmError> {
        let Some(header) = self.invalid else { return Ok(()) };
        Err(LlmError::new(ErrorKind::InvalidRequest, format!("{header}: {NO_NAME}")))
    }

    /// Applies the options to a request. The gateway always keeps the whole decision record.
    ///
    /// # Errors
    ///
    /// The same as of [`check`](Self::check). The commit point is invalid: a typing error must not turn a whole answer
    /// into half of one. A [`HumanOptions`] is invalid.
    pub(crate) fn apply(&self, mut request: LlmRequest) -> Result<LlmRequest, LlmError> {
        self.check()?;
        request = request.explain();
        if let Some(feature) = &self.feature {
            request = request.with_feature(&**feature);
        }
        if let Some(session) = &self.session {
            request = request.with_session(&**session);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.with_idempotency_key(&**key);
        }
        if let Some(timeout) = self.timeout {
            request = request.with_timeout(timeout);
        }
        if self.no_fallback {
            request = request.no_fallback();
        }
        if let Some(human) = &self.human {
            request = human.apply(request)?;
        }
        if let Some(control) = self.cache {
            request = request.with_extension(control);
        }
        if let Some(word) = &self.commit {
            let point = word.to_str().unwrap_or_default().trim().parse::<CommitPoint>();
            let problem = |error: InvalidConfig| format!("{COMMIT}: {}", error.problem());
            request =
                request.with_commit(point.map_err(|error| LlmError::new(ErrorKind::InvalidRequest, problem(error)))?);
        }
        if let Some(word) = &self.on_break {
            request = on_break(word)?.for_request(request);
        }
        Ok(request)
    }
}

/// Returns the policy for a broken stream that a header names.
fn on_break(word: &HeaderValue) -> Result<StreamBreak, LlmError> {
    match word.as_bytes().trim_ascii() {
        b"fail" => Ok(StreamBreak::Fail),
        b"continue" => Ok(StreamBreak::Continue),
        b"buffer" => Ok(StreamBreak::Buffer),
        _ => Err(LlmError::new(
            ErrorKind::InvalidRequest,
            format!("{ON_BREAK}: this is no policy for a broken stream; there are fail, continue, buffer"),
        )),
    }
}

/// The options for people, as they stand in headers. Few callers set any.
#[derive(Clone, Debug)]
struct HumanOptions {
    required: Option<HeaderValue>,
    /// The address to call when a person has answered.
    callback: Option<HeaderValue>,
    /// The caller's own name for the task, and its context.
    reference: Option<HeaderValue>,
    context: Option<HeaderValue>,
}

impl HumanOptions {
    fn from_headers(headers: &HeaderMap) -> Option<Box<Self>> {
        let names = [REQUIRES_HUMAN, CALLBACK_URL, TASK_REFERENCE, TASK_CONTEXT];
        let [required, callback, reference, context] = names.map(|name| headers.get(name).cloned());
        let said = [&required, &callback, &reference, &context].into_iter().any(Option::is_some);
        said.then(|| Box::new(Self { required, callback, reference, context }))
    }

    /// # Errors
    ///
    /// A value is neither yes nor no: a typing error must not send to a model what is meant for a person. An address is
    /// invalid; the tier of people decides which ones it may call.
    fn apply(&self, mut request: LlmRequest) -> Result<LlmRequest, LlmError> {
        let wrong = |problem: String| LlmError::new(ErrorKind::InvalidRequest, problem);
        if let Some(word) = &self.required {
            let required = yes_or_no(word.to_str().unwrap_or_default().trim());
            let problem = || wrong(format!("{REQUIRES_HUMAN}: 1 where a person is required, else 0"));
            request = request.with_human_required(required.ok_or_else(problem)?);
        }
        if let Some(url) = &self.callback {
            let url = url.to_str().ok().map(str::trim).filter(|url| !url.is_empty() && url.len() <= MAX_URL);
            let problem = || wrong(format!("{CALLBACK_URL}: an https:// address of at most {MAX_URL} bytes"));
            request = request.with_extension(CallbackUrl::new(url.ok_or_else(problem)?));
        }
        let mut caller = CallerTask::new();
        if let Some(reference) = &self.reference {
            let reference = reference.to_str().ok().map(str::trim);
            let reference = reference.filter(|reference| !reference.is_empty() && reference.len() <= MAX_NAME);
            let problem = || wrong(format!("{TASK_REFERENCE}: a name of at most {MAX_NAME} bytes"));
            caller = caller.id(reference.ok_or_else(problem)?);
        }
        if let Some(context) = &self.context {
            // The error does not repeat the value.
            let context = Some(context.as_bytes()).filter(|context| context.len() <= MAX_CONTEXT);
            let context = context.and_then(|context| serde_json::from_slice::<Map<String, Value>>(context).ok());
            let problem = || wrong(format!("{TASK_CONTEXT}: a JSON object of at most {MAX_CONTEXT} bytes"));
            caller = caller.context(context.ok_or_else(problem)?);
        }
        Ok(if self.reference.is_some() || self.context.is_some() { request.with_extension(caller) } else { request })
    }
}

/// Returns whether a header may set an option: the prefixes are those of all the headers below.
fn sets_option(name: &str) -> bool {
    // No list: of constants the compiler makes a few words to compare, of a list a call for each.
    name.starts_with("x-steadfast-")
        || name.starts_with("idempotency-key")
        || name.starts_with("x-claude-code-session-id")
        || name.starts_with("session-id")
        || name.starts_with("session_id")
        || name.starts_with("x-litellm-")
        || name.starts_with("x-portkey-")
        || name.starts_with("cf-aig-")
        || name.starts_with("cache-control")
        || name.starts_with("helicone-cache-")
        || name.starts_with("x-server-timeout")
}

/// The feature whose places, rates, tiers and budgets apply.
const FEATURES: &[&str] = &["x-steadfast-feature"];
/// The conversation: its requests stay at a tier, and what is kept of it can be forgotten. Codex's is the bare name,
/// with an underscore in older versions.
const SESSIONS: &[&str] =
    &["x-steadfast-session", "x-claude-code-session-id", "x-litellm-session-id", "session-id", "session_id"];
/// The name of a call that is made once: a request that repeats it gets the same answer.
const IDEMPOTENCY_KEYS: &[&str] = &["idempotency-key", "x-steadfast-idempotency-key"];
/// The longest time to the answer, or to a stream's first token, in milliseconds. Portkey's and Cloudflare's are in
/// milliseconds too.
const TIMEOUTS_MS: &[&str] =
    &["x-steadfast-deadline-ms", "x-steadfast-timeout-ms", "x-portkey-request-timeout", "cf-aig-request-timeout"];
/// The same in seconds. The second is of Google's SDKs, which give up after it themselves.
const TIMEOUTS_S: &[&str] = &["x-litellm-timeout", "x-server-timeout"];

/// Asks the first tier alone, with `1`.
const NO_FALLBACK: &str = "x-steadfast-no-fallback";
/// Asks for the decision record in the answer's `x-steadfast-decision`, with `1`.
const EXPLAIN: &str = "x-steadfast-explain";

/// The commit point of a stream, before which its caller sees nothing: `first_event`, `first_token`, `first_text` or
/// `complete`.
const COMMIT: &str = "x-steadfast-commit";
/// The policy for a stream that breaks behind it, in place of the file's `on_break`: `fail`, `continue` or `buffer`.
const ON_BREAK: &str = "x-steadfast-on-break";
/// With `1`, a comment in a stream and the field `steadfast.notice` of the event behind it say who answers, why and
/// since when, and where another call goes on.
const NOTICES: &str = "x-steadfast-notices";

/// True (`1`) if a person must answer, and no model.
const REQUIRES_HUMAN: &str = "x-steadfast-requires-human";

/// The address to call when a person has answered.
const CALLBACK_URL: &str = "x-steadfast-callback-url";
/// The longest address, in bytes.
const MAX_URL: usize = 2048;

/// The caller's own name for the task, if people get the request.
const TASK_REFERENCE: &str = "x-steadfast-task-reference";
/// The task's context, a JSON object.
const TASK_CONTEXT: &str = "x-steadfast-task-context";
/// The longest context, in bytes.
const MAX_CONTEXT: usize = 4096;

/// The longest name, session or key, in bytes: the gateway keeps and shows it.
const MAX_NAME: usize = 256;
const NO_NAME: &str = "no name of 1 to 256 visible ASCII characters";

/// Returns a header's value if it is a name, or blank.
fn read_name(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim).filter(|name| name.len() <= MAX_NAME)
}

/// Returns true for a header that callers set for this gateway alone, or whose meaning a repeat depends on.
fn is_own(header: &str) -> bool {
    header.starts_with("x-steadfast-") || IDEMPOTENCY_KEYS.contains(&header)
}

fn first<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a str> {
    let value = names.iter().find_map(|name| headers.get(*name))?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

fn flag(headers: &HeaderMap, name: &str) -> bool {
    first(headers, &[name]).and_then(yes_or_no).unwrap_or_default()
}

fn yes_or_no(word: &str) -> Option<bool> {
    match word {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Returns the note of a header that is ignored. The value is the caller's, and no answer repeats it.
fn ignored(name: &str, problem: &str) -> Cow<'static, str> {
    format!("{name}: {problem}, so it is ignored").into()
}

/// Returns the time that the caller gives its request: of the headers that say one, the first. Those that say nothing
/// are noted, whatever the others say.
fn own_time(headers: &HeaderMap, notes: &mut Vec<Cow<'static, str>>) -> Option<Duration> {
    let all = TIMEOUTS_MS.iter().map(|name| (*name, milliseconds as fn(&str) -> _, "no number of milliseconds"));
    let all = all.chain(TIMEOUTS_S.iter().map(|name| (*name, seconds as fn(&str) -> _, "no number of seconds")));
    let mut times = all.filter_map(|(name, read, problem)| {
        let time = headers.get(name)?.to_str().ok().and_then(|value| read(value.trim()));
        notes.extend(time.is_none().then(|| ignored(name, problem)));
        time
    });
    let first = times.next();
    times.for_each(drop);
    first
}

fn milliseconds(value: &str) -> Option<Duration> {
    value.parse().ok().map(Duration::from_millis)
}

fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// Returns the caller's headers that a provider of its dialect gets unchanged: the API's own, and none that belong to
/// the caller (credentials, cookies, addresses) or to the connection.
pub(crate) fn forwarded(dialect: Dialect, headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        if is_forwarded(dialect, name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn is_forwarded(dialect: Dialect, name: &HeaderName) -> bool {
    let name = name.as_str();
    match dialect {
        // An open list: `anthropic-version`, `anthropic-beta` and later ones.
        Dialect::Anthropic => name.starts_with("anthropic-") && !is_of_account(name),
        Dialect::OpenAi => is_openais(name),
        // Codex names its session and its turns. They tell OpenAI which requests belong together.
        Dialect::Responses => {
            const CODEX: [&str; 5] = ["session-id", "session_id", "thread-id", "x-client-request-id", "originator"];
            is_openais(name) || name.starts_with("x-codex-") && !is_of_account(name) || CODEX.contains(&name)
        }
        // The SDK's name and version. Others name the account that pays, or repeat the path's model.
        Dialect::Gemini => name == "x-goog-api-client" || name.starts_with("x-goog-ext-") && !is_of_account(name),
    }
}

/// Returns whether a header is of OpenAI's API.
fn is_openais(name: &str) -> bool {
    name.starts_with("openai-") && !is_of_account(name)
}

/// Returns whether a header of an API's open family is about an account: who pays, who may, where to. Those of a
/// request are the operator's to choose (`openai-project`, `anthropic-organization-id`, `-workspace-id`, `-admin-key`,
/// `-host`), and those of an answer are not for callers.
pub(crate) fn is_of_account(name: &str) -> bool {
    const STEMS: [&str; 18] = [
        "account",
        "admin",
        "apikey",
        "authoriz",
        "baseurl",
        "billing",
        "credential",
        "customer",
        "endpoint",
        "impersonat",
        "organisation",
        "organization",
        "password",
        "project",
        "secret",
        "subscription",
        "tenan",
        "workspace",
    ];
    const WORDS: [&str; 20] = [
        "auth",
        "cookie",
        "domain",
        "forwarded",
        "group",
        "host",
        "identity",
        "key",
        "keys",
        "org",
        "owner",
        "profile",
        "proxy",
        "realm",
        "server",
        "team",
        "token",
        "uri",
        "url",
        "user",
    ];
    STEMS.iter().any(|stem| name.contains(stem)) || name.split(['-', '_', '.']).any(|part| WORDS.contains(&part))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_apis_own_headers_go_on_byte_for_byte_and_the_callers_do_not() {
        let sent = headers(&[
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a-2025-01-01,  unheard-of-2031-12-31"),
            ("anthropic-workspace-id", "wrkspc_1"),
            ("authorization", "Bearer sk-secret"),
            ("x-api-key", "sk-secret"),
            ("cookie", "secret=1"),
            ("connection", "keep-alive"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-steadfast-feature", "chat"),
            ("openai-organization", "org-of-the-caller"),
        ]);
        let kept = forwarded(Dialect::Anthropic, &sent);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept["anthropic-beta"], "a-2025-01-01,  unheard-of-2031-12-31");
        assert!(forwarded(Dialect::OpenAi, &sent).is_empty());
        // Later ones of the families, as far as they choose no account.
        let names = ["anthropic-of-tomorrow", "anthropic-dangerous-direct-browser-access", "anthropic-max-tokens-mode"];
        let sent: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        assert_eq!(forwarded(Dialect::Anthropic, &sent), sent);
    }

    #[test]
    fn googles_own_headers_go_on_and_what_names_an_account_or_a_model_does_not() {
        let sent = headers(&[
            ("x-goog-api-client", "google-genai-sdk/1.2.3"),
            ("x-goog-ext-1-bin", "a"),
            ("x-goog-api-key", "sk-secret"),
            ("x-goog-user-project", "project-of-the-caller"),
            ("x-goog-request-params", "model=models/m"),
            ("authorization", "Bearer sk-secret"),
        ]);
        let kept = forwarded(Dialect::Gemini, &sent);
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept.contains_key("x-goog-api-client") && kept.contains_key("x-goog-ext-1-bin"), "{kept:?}");
        assert!(forwarded(Dialect::OpenAi, &sent).is_empty());
    }

    /// Each vendor's prefix with each word for an account, in each dialect: none goes on.
    #[test]
    fn no_header_of_a_caller_chooses_the_operators_account() {
        let prefixes =
            ["anthropic-", "openai-", "x-goog-", "x-goog-ext-", "x-codex-", "x-", "azure-", "x-amz-", "cf-", ""];
        let choices = [
            "organization-id",
            "organization",
            "org-id",
            "workspace-id",
            "workspace",
            "project",
            "project-id",
            "user-project",
            "account-id",
            "account",
            "tenant-id",
            "team-id",
            "admin-key",
            "api-key",
            "key",
            "secret",
            "host",
            "base-url",
            "endpoint",
            "billing-account",
            "authorization",
            "auth-token",
            "customer-id",
            "subscription-key",
            "organizationid",
            "orgs-key",
            "tenancy",
            "owner",
            "server",
            "impersonate-service-account",
            "profile",
            "cookie",
            "user-id",
        ];
        let mut sent = HeaderMap::new();
        for name in prefixes.iter().flat_map(|prefix| choices.map(|choice| format!("{prefix}{choice}"))) {
            sent.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("of-another"));
        }
        assert!(sent.len() > 300);
        for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini] {
            assert_eq!(forwarded(dialect, &sent), HeaderMap::new(), "{dialect}");
        }
    }

    #[test]
    fn codexs_headers_name_its_session_and_go_to_its_own_protocol_alone() {
        let sent = headers(&[
            ("session-id", "s-1"),
            ("thread-id", "t-1"),
            ("x-client-request-id", "r-1"),
            ("x-codex-turn-metadata", "{}"),
            ("openai-beta", "responses=experimental"),
            ("openai-organization", "org-of-the-caller"),
            ("chatgpt-account-id", "account-of-the-caller"),
            ("authorization", "Bearer sk-secret"),
        ]);
        let kept = forwarded(Dialect::Responses, &sent);
        assert_eq!(kept.len(), 5, "{kept:?}");
        for name in ["openai-organization", "chatgpt-account-id", "authorization"] {
            assert!(!kept.contains_key(name), "{name}");
        }
        assert!(forwarded(Dialect::Anthropic, &sent).is_empty());
        assert_eq!(forwarded(Dialect::OpenAi, &sent).len(), 1, "openai-beta");
        let request = RequestOptions::from_headers(&sent).apply(LlmRequest::prompt("hello")).unwrap();
        assert_eq!(request.session(), Some("s-1"));
    }

    #[test]
    fn each_header_that_asks_is_of_a_family() {
        let names = [FEATURES, SESSIONS, IDEMPOTENCY_KEYS, TIMEOUTS_MS, TIMEOUTS_S, &cache::NAMES].concat();
        assert!(names.iter().all(|name| sets_option(name)));
    }

    #[test]
    fn what_is_asked_in_headers_is_on_the_request() {
        let options = RequestOptions::from_headers(&headers(&[
            ("x-steadfast-feature", "chat"),
            ("x-claude-code-session-id", "s-1"),
            ("idempotency-key", "k-1"),
            ("x-steadfast-no-fallback", "true"),
        ]));
        let request = options.apply(LlmRequest::prompt("hello")).unwrap();
        assert_eq!((request.feature(), request.session()), (Some("chat"), Some("s-1")));
        assert_eq!((request.idempotency_key(), request.is_first_tier_only()), (Some("k-1"), true));
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_refused_and_never_taken_for_none() {
        let long = "k".repeat(MAX_NAME + 1);
        let values: [&[u8]; 6] = [
            "Büro-17".as_bytes(),
            b"B\xfcro-17",
            b"\xff",
            "\u{212a}".as_bytes(),
            "a\u{a0}".as_bytes(),
            long.as_bytes(),
        ];
        let own = ["x-steadfast-feature", "x-steadfast-session", "idempotency-key", "x-steadfast-idempotency-key"];
        let foreign = ["x-claude-code-session-id", "x-litellm-session-id", "session-id", "session_id"];
        for value in values {
            let put = |name: &'static str| {
                let value = HeaderValue::from_bytes(value).unwrap();
                RequestOptions::from_headers(&HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
            };
            for name in own {
                let options = put(name);
                let error = options.apply(LlmRequest::prompt("hello")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{name}");
                assert_eq!(error.message(), format!("{name}: no name of 1 to 256 visible ASCII characters"));
                assert!(options.check().is_err() && options.notes.is_empty(), "{name}");
            }
            for name in foreign {
                let options = put(name);
                let request = options.apply(LlmRequest::prompt("hello")).unwrap();
                assert_eq!((request.session(), options.notes.len()), (None, 1), "{name}");
                assert!(options.notes[0].starts_with(name), "{:?}", options.notes);
            }
            for name in [EXPLAIN, NO_FALLBACK, TIMEOUTS_MS[0]] {
                assert_eq!(put(name).notes.len(), 1, "{name}");
            }
        }
        for (value, kept) in [(" a b\t", Some("a b")), ("~!\"#", Some("~!\"#")), ("", None), (" \t", None)] {
            let options = RequestOptions::from_headers(&headers(&[("idempotency-key", value)]));
            let key =
                options.apply(LlmRequest::prompt("hello")).map(|request| request.idempotency_key().map(str::to_owned));
            assert_eq!(key.ok().flatten().as_deref(), kept, "{value:?}");
        }
    }

    #[test]
    fn a_commit_point_is_one_of_four_or_the_request_is_wrong() {
        let put = |word| {
            RequestOptions::from_headers(&headers(&[("x-steadfast-commit", word)])).apply(LlmRequest::prompt("hello"))
        };
        for point in CommitPoint::ALL {
            assert_eq!(put(point.name()).unwrap().context().commit, Some(point));
        }
        for word in ["", "whole", "Complete", "complete, first_token"] {
            let error = put(word).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{word}");
            let names = "first_event, first_token, first_text, complete";
            assert!(error.message().starts_with("x-steadfast-commit") && error.message().ends_with(names), "{error}");
        }
        let none = RequestOptions::from_headers(&headers(&[])).apply(LlmRequest::prompt("hello")).unwrap();
        assert_eq!(none.context().commit, None);
    }

    #[test]
    fn a_person_is_required_or_not_and_nothing_in_between() {
        let put = |word| {
            RequestOptions::from_headers(&headers(&[("x-steadfast-requires-human", word)]))
                .apply(LlmRequest::prompt("hello"))
        };
        for (word, required) in [("1", true), ("true", true), ("0", false), (" no ", false)] {
            assert_eq!(put(word).unwrap().is_human_required(), required, "{word}");
        }
        for word in ["", "please", "True", "1, 0"] {
            let error = put(word).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{word}");
            assert!(error.message().starts_with("x-steadfast-requires-human"), "{error}");
        }
        let none = RequestOptions::from_headers(&headers(&[])).apply(LlmRequest::prompt("hello")).unwrap();
        assert!(!none.is_human_required());
    }

    #[test]
    fn an_address_to_be_called_back_goes_along_and_one_that_is_none_is_refused() {
        let put = |url: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(CALLBACK_URL),
                HeaderValue::from_bytes(url.as_bytes()).unwrap(),
            )]);
            RequestOptions::from_headers(&headers).apply(LlmRequest::prompt("hello"))
        };
        let request = put("https://example.com/hook").unwrap();
        assert_eq!(request.extensions().get::<CallbackUrl>(), Some(&CallbackUrl::new("https://example.com/hook")));
        for url in ["", "https://exämple.com", &"x".repeat(MAX_URL + 1)] {
            assert_eq!(put(url).unwrap_err().kind(), ErrorKind::InvalidRequest, "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_taken_under_each_of_its_names() {
        for (name, value, seconds) in [
            ("x-steadfast-deadline-ms", "2500", 2.5),
            ("x-steadfast-timeout-ms", "2500", 2.5),
            ("x-portkey-request-timeout", "2500", 2.5),
            ("x-litellm-timeout", "2.5", 2.5),
            ("x-server-timeout", "3", 3.0),
        ] {
            let options = RequestOptions::from_headers(&headers(&[(name, value)]));
            let request = options.apply(LlmRequest::prompt("hello")).unwrap();
            let left = request.context().time_left(Instant::now()).unwrap();
            assert_eq!(left, Duration::from_secs_f64(seconds), "{name}");
        }
    }

    #[test]
    fn of_several_times_the_first_that_is_one_counts_and_the_others_are_noted() {
        let names: Vec<&str> = [TIMEOUTS_MS, TIMEOUTS_S].concat();
        for wrong in ["soon", "", "-1", "NaN", "1e400"] {
            for (place, right) in names.iter().enumerate() {
                let mut sent = HeaderMap::new();
                for (other, name) in names.iter().enumerate() {
                    let value = if other < place { wrong } else { "3" };
                    sent.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
                }
                let options = RequestOptions::from_headers(&sent);
                let time = if TIMEOUTS_MS.contains(right) { Duration::from_millis(3) } else { Duration::from_secs(3) };
                assert_eq!(options.timeout, Some(time), "{right} behind {wrong:?}");
                let noted: Vec<_> = options.notes.iter().map(|note| note.split(':').next().unwrap()).collect();
                assert_eq!(noted, names[..place], "{wrong:?}");
            }
        }
    }

    #[test]
    fn nonsense_in_headers_is_as_good_as_none() {
        let options = RequestOptions::from_headers(&headers(&[
            ("x-steadfast-deadline-ms", "-5"),
            ("x-litellm-timeout", "NaN"),
            ("x-steadfast-feature", "  "),
            ("x-steadfast-explain", "0"),
        ]));
        assert_eq!((options.timeout, options.feature.as_deref(), options.explain), (None, None, false));
        let noted = ["x-steadfast-deadline-ms: no number of milliseconds", "x-litellm-timeout: no number of seconds"];
        assert_eq!(options.notes, noted.map(|note| format!("{note}, so it is ignored")));
    }
}
