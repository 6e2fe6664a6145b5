//! A caller's behaviour with a request: waits, reads, or leaves.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use steadfast::{LlmBody, LlmError, StreamEvent, layers::fallback::StreamBreak};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceExt};

use crate::simulation::{
    books::Outcome,
    plan::{Last, Plan},
    traffic::{Ask, Manner},
    world::World,
};

/// More than a limit of time may ever be overrun by.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// Sends a request as its caller does, and puts into the books what came of it.
pub(crate) async fn call(world: Arc<World>, ask: Ask) {
    world.books.arrived(&ask);
    let (id, manner) = (ask.id, ask.manner);
    let whole = whole(world.clone(), ask);
    let stayed = match manner {
        Manner::LeavesAfter(patience) => timeout(patience, whole).await.is_ok(),
        Manner::LeavesAtPoll(polls) => Leaves { whole: Box::pin(whole), polls }.await,
        _ => {
            whole.await;
            true
        }
    };
    if !stayed {
        world.books.ended(id, Outcome::Left, None);
    }
}

async fn whole(world: Arc<World>, ask: Ask) {
    let (books, mut llm, id) = (&world.books, world.llm.clone(), ask.id);
    let request = ask.request(&world.plan);
    match ask.manner {
        Manner::NeverPolls => {
            drop(llm.ready().await.map(|llm| llm.call(request)));
            return books.ended(id, Outcome::Left, None);
        }
        Manner::OnlyReady => {
            drop(llm.ready().await);
            return books.ended(id, Outcome::Left, None);
        }
        _ => {}
    }
    let response = match llm.oneshot(request).await {
        Ok(response) => response,
        Err(error) => {
            books.responded(id, error.attempts(), None);
            return books.ended(id, Outcome::Failed(error.kind()), Some(&error));
        }
    };
    let tier = response.served_by().tier.map(str::to_owned);
    books.responded(id, response.attempts(), tier.as_deref());
    if let Manner::Holds(time) = ask.manner {
        sleep(time).await;
        drop(response);
        return books.ended(id, Outcome::Left, None);
    }
    let is_task = response.task_id().is_some();
    let read = match response.body().arrives_in_frames() {
        true => read(&world, &ask, response.into_body()).await,
        false => response.text().await.map(|text| Read::Whole { text, restarted: false }),
    };
    match read {
        Ok(Read::Whole { text, restarted }) => {
            if let Some(wrong) = wrong(&world.plan, tier.as_deref(), &text, restarted, is_task) {
                books.violation(Some(id), wrong);
            }
            let outcome = if is_task { Outcome::Task } else { Outcome::Answered { restarted } };
            books.ended(id, outcome, None);
        }
        Ok(Read::Left) => books.ended(id, Outcome::Left, None),
        Err(error) => books.ended(id, Outcome::Broken(error.kind()), Some(&error)),
    }
}

enum Read {
    Whole { text: String, restarted: bool },
    Left,
}

/// Reads a stream, and looks how long each frame takes.
async fn read(world: &World, ask: &Ask, mut body: LlmBody) -> Result<Read, LlmError> {
    let (mut text, mut restarted, mut frames) = (String::new(), false, 0);
    let longest = longest_silence(&world.plan);
    let mut without_content = Duration::ZERO;
    loop {
        match ask.manner {
            Manner::LeavesAfterFrames(most) if frames == most => return Ok(Read::Left),
            Manner::ReadsSlowly(pause) => sleep(pause).await,
            _ => {}
        }
        let asked = Instant::now();
        let frame = body.frame().await;
        without_content += asked.elapsed();
        if without_content > longest + GRACE {
            let silent = format!("its stream said nothing for {without_content:?}, where {longest:?} is the limit");
            world.books.violation(Some(ask.id), silent);
        }
        let Some(frame) = frame else { return Ok(Read::Whole { text, restarted }) };
        frames += 1;
        for event in frame?.events() {
            match event {
                StreamEvent::Text { text: more, .. } => {
                    text.push_str(more);
                    without_content = Duration::ZERO;
                }
                StreamEvent::Restarted { .. } => {
                    text.clear();
                    restarted = true;
                    without_content = Duration::ZERO;
                }
                _ => {}
            }
        }
    }
}

/// Returns the longest time without content before a stream is given up.
fn longest_silence(plan: &Plan) -> Duration {
    let silence = plan.tiers.iter().map(|tier| tier.ceiling.max(tier.progress)).max().unwrap_or_default();
    match plan.on_break {
        // Tiers are asked while the reader waits, each with its retries.
        StreamBreak::Restart => {
            let asked = plan.tiers.iter().map(|tier| (tier.timeout + tier.max_delay) * u32::from(tier.max_attempts));
            silence + asked.sum::<Duration>()
        }
        _ => silence,
    }
}

/// Returns the fault in an answer that is reported as whole.
fn wrong(plan: &Plan, tier: Option<&str>, text: &str, restarted: bool, is_task: bool) -> Option<String> {
    let is_last = |name: &str| name == plan.name(plan.tiers.len()) && plan.last != Last::Nothing;
    let said = (0..plan.tiers.len()).find(|tier| plan.reply(*tier) == text);
    let whole = match tier {
        _ if is_task => text.starts_with("A person will answer"),
        Some(name) if is_last(name) && !restarted => text == SORRY,
        // A tier behind the providers may go on for a stream that broke.
        _ if restarted => said.is_some() || text == SORRY || text.starts_with("A person will answer"),
        Some(name) => said.is_some_and(|said| plan.name(said) == name),
        None => false,
    };
    (!whole).then(|| format!("it had {text:?} from {tier:?} as a whole answer"))
}

/// The canned tier's answer.
pub(crate) const SORRY: &str = "Please try again in a minute.";

/// A future that is dropped after so many polls: whether it came to its end before.
struct Leaves<F> {
    whole: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Leaves<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        self.polls = self.polls.saturating_sub(1);
        match self.whole.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if self.polls == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }
}
