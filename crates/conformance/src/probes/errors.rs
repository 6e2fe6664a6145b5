//! The caller's own errors, and a provider's refusal.

use steadfast::{Dialect, providers::simulated::Fault};

use crate::{
    answer::Answer,
    caller::Caller,
    probe::{ALL, Probe, Scene, WHOLE, ensure, probe},
};

pub(super) const FORMS: &str =
    "the vendors' API references: errors; each SDK takes an error's class and message from this form";

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "errors/json",
        Nothing,
        ALL,
        no_json,
        "a body that is no JSON is the caller's mistake, in the dialect's form",
        FORMS
    ),
    probe!(
        "errors/field",
        Nothing,
        ALL,
        no_turns,
        "a request without its conversation is the caller's mistake, in the dialect's form",
        FORMS
    ),
    probe!("errors/path", Nothing, WHOLE, unknown_path, "an unknown path is a 404", "RFC 9110, 15.5.5"),
    probe!("errors/key", Key, ALL, wrong_key, "a wrong key is refused with 401 or 403, in the dialect's form", FORMS),
    probe!(
        "errors/refused",
        Faults,
        ALL,
        refused,
        "a provider's 400 stays a 400, asked once; or another provider answers",
        "RFC 9110, 15.5.1: the client should not repeat the request without changes"
    ),
];

/// Checks for an error with one of these statuses, in the dialect's form.
pub(super) fn is_error(answer: &Answer, statuses: &[u16]) -> Result<(), String> {
    let is = statuses.contains(&answer.status) && answer.error.is_some() && answer.defects.is_empty();
    ensure(is, || answer.to_string())
}

/// The statuses by which gateways and vendors refuse a body.
const UNREADABLE: &[u16] = &[400, 422];

async fn no_json(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let answer = scene.subject.ask_raw(caller, r#"{"model": "#.to_owned()).await?;
    is_error(&answer, UNREADABLE)
}

async fn no_turns(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let field = match caller.dialect {
        Dialect::Anthropic | Dialect::OpenAi => "messages",
        Dialect::Responses => "input",
        Dialect::Gemini => "contents",
    };
    let body = scene.subject.body_without(caller, &scene.prompt(), field);
    is_error(&scene.subject.ask_raw(caller, body).await?, UNREADABLE)
}

async fn unknown_path(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let beginning = if caller.dialect == Dialect::Gemini { "/v1beta" } else { "/v1" };
    let answer = scene.subject.post(caller, &format!("{beginning}/no-such-path"), "{}".to_owned()).await?;
    ensure(answer.status == 404, || format!("status {}", answer.status))
}

async fn wrong_key(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let answer = scene.subject.with_key("sk-nobody-has-this-key").ask(caller, &scene.prompt()).await?;
    is_error(&answer, &[401, 403])
}

async fn refused(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, primary, _) = scene.providers()?;
    upstreams.primary.handle().fail(Fault::BadRequest);
    let answer = scene.subject.ask(caller, &scene.prompt()).await?;
    ensure(primary.calls() == 1, || format!("the provider was asked {} times", primary.calls()))?;
    if answer.is_whole(scene.reply().as_deref()) { Ok(()) } else { is_error(&answer, &[400]) }
}
