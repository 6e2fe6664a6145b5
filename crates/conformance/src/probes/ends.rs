//! Ends and beginnings of answers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    answer::End,
    caller::Caller,
    probe::{ALL, Probe, STREAMS, Scene, ensure, probe},
    prompt::{Prompt, Tool},
    upstreams::WORDS,
};

const REFERENCES: &str = "the four vendors' API references: streaming, stop reasons, usage";

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "ends/stop",
        Nothing,
        ALL,
        stop,
        "a whole answer has the text, its reason for stopping and the end mark, and nothing follows",
        REFERENCES
    ),
    probe!(
        "ends/length",
        Nothing,
        ALL,
        length,
        "an answer that is cut at the caller's limit of tokens says so",
        REFERENCES
    ),
    probe!(
        "ends/call",
        Nothing,
        ALL,
        call,
        "a tool's call comes with its name, whole JSON arguments, and the reason for the end",
        REFERENCES
    ),
    probe!("ends/usage", Nothing, ALL, usage, "an answer tells the tokens that it took", REFERENCES),
    probe!(
        "ends/early",
        Faults,
        STREAMS,
        early,
        "the first word reaches the caller before the provider has sent its last",
        "what streams are for; a gateway that holds answers back by its operator's will fails this"
    ),
];

async fn stop(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let answer = scene.subject.ask(caller, &scene.prompt()).await?;
    ensure(answer.is_whole(scene.reply().as_deref()), || answer.to_string())
}

async fn length(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let prompt = Prompt { max_tokens: Some(20), ..scene.prompt() };
    let answer = scene.subject.ask(caller, &prompt).await?;
    let is_beginning = scene.reply().is_none_or(|reply| reply.starts_with(&answer.text));
    ensure(answer.ended(&End::Length) && is_beginning, || answer.to_string())
}

async fn call(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let wanted = json!({"city": "São Paulo", "days": 2});
    if let Some(upstreams) = scene.upstreams {
        upstreams.primary.handle().plan_calls([(Tool::NAME, wanted.clone())]);
    }
    // A simulated provider calls it by plan, and a real one because it has to.
    let is_required = scene.upstreams.is_none();
    let tool = Tool { description: "Returns the weather of a city".to_owned(), is_required };
    let prompt = Prompt { tool: Some(tool), ..Prompt::new(format!("The weather in Rome for 2 days? {}", scene.topic)) };
    let answer = scene.subject.ask(caller, &prompt).await;
    if let Some(upstreams) = scene.upstreams {
        upstreams.primary.restore();
    }
    let answer = answer?;
    ensure(answer.ended(&End::Call), || answer.to_string())?;
    let [call] = &answer.calls[..] else { return Err(format!("{} calls in place of one", answer.calls.len())) };
    ensure(call.name == Tool::NAME, || format!("the call is one of {:?}", call.name))?;
    let arguments: Value =
        serde_json::from_str(&call.arguments).map_err(|_| "the call's arguments are no JSON".to_owned())?;
    let is_it = match scene.upstreams {
        Some(_) => arguments == wanted,
        None => arguments["city"].is_string(),
    };
    ensure(is_it, || "the call has other arguments".to_owned())
}

async fn usage(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let answer = scene.subject.ask(caller, &scene.prompt()).await?;
    ensure(answer.error.is_none() && answer.input_tokens.is_some_and(|tokens| tokens > 0), || {
        format!("input tokens {:?}: {answer}", answer.input_tokens)
    })?;
    let is_it = match scene.upstreams {
        Some(_) => answer.output_tokens == Some(WORDS),
        None => answer.output_tokens.is_some_and(|tokens| tokens > 0),
    };
    ensure(is_it, || format!("output tokens {:?}: {answer}", answer.output_tokens))
}

async fn early(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, primary, _) = scene.providers()?;
    upstreams.primary.handle().pace(Duration::from_millis(50));
    let _begun = scene.subject.begin(caller, &scene.prompt()).await?;
    ensure(primary.answered() == 0, || "the provider had sent everything".to_owned())
}
