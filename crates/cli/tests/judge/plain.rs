//! A client of a few lines, as people write them: each call on a connection of its own, and one repeat.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use crate::{
    Begun, Client, Extent, Following,
    common::client::Client as Connection,
    plan::{Call, Outcome, Plan},
    situations::Situation,
    world::{Dialect, World},
};

/// The client of a few lines.
pub(crate) struct Plain;

impl Client for Plain {
    fn name(&self) -> String {
        "plain".to_owned()
    }

    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn takes(&self, situation: &Situation, extent: Extent) -> bool {
        !situation.is_for_agents && (!situation.is_long || extent >= Extent::Full)
    }

    fn follow<'a>(&'a self, world: &'a Arc<World>, situation: &'a Situation, begun: Begun) -> Following<'a> {
        Box::pin(async move {
            ask(world, "hello", situation.plan.stream).await.expect("all is well before");
            begun();
            follow(world, &situation.plan).await
        })
    }
}

/// The wait before the repeat, where the answer names none.
const REST: Duration = Duration::from_secs(1);

/// Makes one call.
async fn ask(world: &World, prompt: &str, stream: bool) -> Result<(), String> {
    let (first, wait) = match attempt(world, prompt, stream).await {
        Ok(()) => return Ok(()),
        Err(failed) => failed,
    };
    let Some(wait) = wait else { return Err(first) };
    sleep(wait).await;
    attempt(world, prompt, stream).await.map_err(|(error, _)| error)
}

/// Follows a plan from now on.
async fn follow(world: &Arc<World>, plan: &Plan) -> Vec<Outcome> {
    let mut tasks = Vec::new();
    for Call { at, prompt } in plan.calls.clone() {
        let (world, stream, patience) = (world.clone(), plan.stream, plan.patience());
        tasks.push(tokio::spawn(async move {
            sleep(Duration::from_secs_f64(at)).await;
            let begun = Instant::now();
            let answer = timeout(patience, ask(&world, &prompt, stream)).await;
            let answer = answer.unwrap_or_else(|_| Err("the caller waits no longer".to_owned()));
            let error = answer.as_ref().err().cloned().unwrap_or_default();
            Outcome { served: answer.is_ok(), seconds: begun.elapsed().as_secs_f64(), error }
        }));
    }
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// Sends a request, and returns the error with the wait that a repeat needs, where one may help.
async fn attempt(world: &World, prompt: &str, stream: bool) -> Result<(), (String, Option<Duration>)> {
    let answer = send(world, prompt, stream).await.map_err(|error| (error.to_string(), Some(REST)))?;
    let ends = if stream { "event: message_stop" } else { "\"end_turn\"" };
    let has = |name: &str| answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    match answer.status {
        200 if answer.body.contains(ends) => Ok(()),
        200 => Err((format!("a broken answer: {:.300}", answer.body), Some(REST))),
        status => {
            let asked = has("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
            let may_help = matches!(status, 408 | 409 | 429 | 500..) && has("x-should-retry") != Some("false");
            Err((format!("{status}: {:.300}", answer.body), may_help.then(|| asked.unwrap_or(REST))))
        }
    }
}

async fn send(world: &World, prompt: &str, stream: bool) -> std::io::Result<crate::common::http::Answer> {
    world.look_up().await?;
    let mut client = Connection::connect(world.target.trim_start_matches("http://")).await?;
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":1000,"stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\nx-api-key: sk-key\r\n\
         anthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head + &body).await?;
    client.answer().await
}
