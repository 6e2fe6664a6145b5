//! The sixteen faults of failoverbench: the first provider fails, the second is healthy.

use std::time::Duration;

use steadfast::providers::simulated::Fault;
use tokio::time::{Instant, sleep};

use crate::{
    answer::Answer,
    caller::Caller,
    probe::{ALL, Needs, Probe, Scene, Verdict, ensure, probe},
    prompt::Prompt,
    upstreams::{Upstreams, Visits, WORDS, reply},
};

/// A way in which the first provider fails.
struct Scenario {
    act: fn(&Upstreams),
    /// True if its stream fails after the first word, which a caller may have to hear of.
    is_late: bool,
    /// The caller's requests; true: with a begun answer.
    requests: &'static [bool],
    judge: fn(&Seen<'_>) -> Result<(), String>,
}

const BEFORE: Scenario = Scenario { act: |_| {}, is_late: false, requests: &[false], judge: |seen| seen.answered() };
const AFTER: Scenario = Scenario { is_late: true, ..BEFORE };

macro_rules! fault {
    ($name:literal, $title:literal, $scenario:expr) => {
        Probe {
            name: $name,
            title: $title,
            source: "failoverbench, methodology v0.1",
            needs: Needs::Faults,
            is_for: |_| true,
            act: |scene, caller| Box::pin(run(scene, caller, const { &$scenario })),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    fault!(
        "faults/S01",
        "429 with Retry-After of 2 s, once: answered, and nobody is asked again before that",
        Scenario {
            act: |upstreams| {
                let fault = Fault::RateLimited { retry_after: Some(Duration::from_secs(2)) };
                upstreams.primary.handle().fail_next(1, &fault);
            },
            judge: |seen| {
                seen.answered()?;
                seen.bounded()?;
                let times = seen.primary.arrivals();
                let gap = times.get(1).map(|second| *second - times[0]);
                ensure(gap.is_none_or(|gap| gap >= Duration::from_millis(1800)), || {
                    format!("asked again after {gap:?}")
                })
            },
            ..BEFORE
        }
    ),
    fault!(
        "faults/S02",
        "429 without Retry-After, always: answered, without hammering",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::RateLimited { retry_after: None }),
            judge: |seen| seen.answered_in_bounds(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S03",
        "500, once: answered",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail_next(1, &Fault::ServerError),
            judge: |seen| seen.answered_in_bounds(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S04",
        "503, always: answered by the second provider, without hammering the first",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::Unavailable),
            judge: |seen| seen.answered_in_bounds(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S05",
        "a connection that is reset before the answer, once: answered",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail_next(1, &Fault::Refused),
            judge: |seen| seen.answered_in_bounds(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S06",
        "no response: answered by the second provider, and the silent one is asked once",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::Hang),
            judge: |seen| seen.answered_after_one_attempt(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S07",
        "a head and no first word: answered by the second provider, and the silent one is asked once",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::StallAfter(0)),
            judge: |seen| seen.answered_after_one_attempt(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S08",
        "a stream that is cut after 40 of 60 words: whole all the same",
        Scenario { act: |upstreams| upstreams.primary.handle().fail(Fault::CutAfter(40)), ..AFTER }
    ),
    fault!(
        "faults/S09",
        "silence after 20 words: whole all the same",
        Scenario { act: |upstreams| upstreams.primary.handle().fail(Fault::StallAfter(20)), ..AFTER }
    ),
    fault!(
        "faults/S10",
        "a tenth event that is no JSON: whole all the same",
        Scenario { act: |upstreams| upstreams.primary.handle().fail(Fault::MalformedAfter(9)), ..AFTER }
    ),
    fault!(
        "faults/S11",
        "an answer without its end mark: whole, with its usage",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::NoEndMark),
            judge: |seen| {
                seen.answered()?;
                seen.usage()
            },
            ..AFTER
        }
    ),
    fault!(
        "faults/S12",
        "a prompt that is too long: one attempt, then the larger model",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::ContextLength),
            judge: |seen| seen.answered_after_one_attempt(),
            ..BEFORE
        }
    ),
    fault!(
        "faults/S13",
        "a content filter: the caller hears of it, or another model answers; one attempt",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::ContentFilter),
            judge: |seen| {
                let answer = &seen.answers[0];
                let is_refused = (400..500).contains(&answer.status) && answer.is_told("");
                ensure(is_refused || answer.is_whole(Some(&reply())), || answer.to_string())?;
                seen.one_attempt()
            },
            ..BEFORE
        }
    ),
    fault!(
        "faults/S14",
        "a cut stream, and a second provider that takes no begun answer: whole, or the first failure is told",
        Scenario {
            act: |upstreams| {
                upstreams.primary.handle().fail(Fault::CutAfter(40));
                upstreams.backup.handle().fail(Fault::NoPrefill);
            },
            requests: &[false, true],
            judge: |seen| {
                let [first, second] = &seen.answers[..] else { return Err("no second answer".to_owned()) };
                ensure(first.is_whole(Some(&reply())), || first.to_string())?;
                // A model may begin anew.
                let rest = reply().replacen(BEGUN, "", 1);
                if second.is_whole(Some(&rest)) || second.is_whole(Some(&reply())) {
                    return Ok(());
                }
                let error = second.error.as_deref().unwrap_or_default().to_lowercase();
                let is_masked = second.status == 400 || error.contains("prefill");
                ensure(!is_masked && second.is_told(&rest), || format!("not the first failure: {second}"))
            },
            ..AFTER
        }
    ),
    probe!(
        "faults/S15",
        Faults,
        ALL,
        recovery,
        "down, then healthy: all are answered, dead attempts are few, and the first provider serves within 30 s",
        "failoverbench, methodology v0.1"
    ),
    fault!(
        "faults/S16",
        "503, always: the answer tells the second provider's model and usage",
        Scenario {
            act: |upstreams| upstreams.primary.handle().fail(Fault::Unavailable),
            judge: |seen| {
                seen.answered_in_bounds()?;
                seen.usage()?;
                seen.model()
            },
            ..BEFORE
        }
    ),
];

/// The beginning of an answer that a request has itself.
const BEGUN: &str = "word-1";

/// The observations of a caller and of the providers.
struct Seen<'a> {
    answers: Vec<Answer>,
    primary: &'a Visits,
    backup: &'a Visits,
}

async fn run(scene: &Scene<'_>, caller: Caller, scenario: &Scenario) -> Verdict {
    let seen = match seen(scene, caller, scenario).await {
        Ok(seen) => seen,
        Err(why) => return Verdict::Fail(why),
    };
    match (scenario.judge)(&seen) {
        Ok(()) => Verdict::Pass,
        Err(_) if scenario.is_late && caller.is_streamed && seen.is_honest() => Verdict::Told,
        Err(why) => Verdict::Fail(why),
    }
}

async fn seen<'a>(scene: &'a Scene<'_>, caller: Caller, scenario: &Scenario) -> Result<Seen<'a>, String> {
    let (upstreams, primary, backup) = scene.providers()?;
    for upstream in [&upstreams.primary, &upstreams.backup] {
        // So that a word is on its way before a fault comes.
        upstream.handle().pace(Duration::from_millis(5));
    }
    (scenario.act)(upstreams);
    let mut answers = Vec::new();
    for has_begun in scenario.requests {
        let begun = has_begun.then(|| BEGUN.to_owned());
        let prompt = Prompt { begun, ..scene.prompt() };
        answers.push(scene.subject.ask(caller, &prompt).await?);
    }
    Ok(Seen { answers, primary, backup })
}

impl Seen<'_> {
    fn answered(&self) -> Result<(), String> {
        let lacking = self.answers.iter().find(|answer| !answer.is_whole(Some(&reply())));
        lacking.map_or(Ok(()), |answer| Err(answer.to_string()))
    }

    /// Two attempts in 1.5 s, four in 3 s and six in all do not hammer.
    fn bounded(&self) -> Result<(), String> {
        let times = self.primary.arrivals();
        for (most, within) in [(2, Duration::from_millis(1500)), (4, Duration::from_secs(3)), (6, Duration::MAX)] {
            let early = times.iter().filter(|time| **time - times[0] < within).count();
            ensure(early <= most, || format!("the first provider was asked {early} times in {within:?}"))?;
        }
        Ok(())
    }

    fn answered_in_bounds(&self) -> Result<(), String> {
        self.answered()?;
        self.bounded()
    }

    fn one_attempt(&self) -> Result<(), String> {
        let calls = self.primary.calls();
        ensure(calls == 1, || format!("the first provider was asked {calls} times"))
    }

    fn answered_after_one_attempt(&self) -> Result<(), String> {
        self.answered()?;
        self.one_attempt()
    }

    fn usage(&self) -> Result<(), String> {
        let lacking = self
            .answers
            .iter()
            .find(|answer| answer.output_tokens != Some(WORDS) || answer.input_tokens.is_none_or(|tokens| tokens == 0));
        lacking.map_or(Ok(()), |answer| {
            Err(format!("usage {:?} and {:?}: {answer}", answer.input_tokens, answer.output_tokens))
        })
    }

    /// The answer's model is the one that the second provider was asked for, where the gateway asks for two models.
    fn model(&self) -> Result<(), String> {
        let [first, second] = [self.primary, self.backup].map(|visits| {
            let last = visits.requests().pop()?;
            let body: serde_json::Value = serde_json::from_slice(&last.body).ok()?;
            Some(body["model"].as_str()?.to_owned())
        });
        let told = self.answers[0].model.as_deref().ok_or("the answer has no model")?;
        ensure(first == second || second.is_none() || second.as_deref() == Some(told), || {
            format!("the answer's model is {told:?}, and the second provider's {:?}", second.unwrap_or_default())
        })
    }

    /// No answer is short and looks whole.
    fn is_honest(&self) -> bool {
        let whole = reply();
        let rest = whole.replacen(BEGUN, "", 1);
        self.answers
            .iter()
            .all(|answer| answer.is_whole(Some(&whole)) || answer.is_told(&whole) || answer.is_told(&rest))
    }
}

/// The requests while the first provider is down.
const DOWN: u64 = 8;

async fn recovery(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, primary, _) = scene.providers()?;
    upstreams.primary.handle().fail(Fault::Unavailable);
    let ask = async |number: u64| {
        let prompt = Prompt::new(format!("{} Number {number}.", scene.prompt().words));
        let answer = scene.subject.ask(caller, &prompt).await?;
        ensure(answer.is_whole(scene.reply().as_deref()), || format!("request {number}: {answer}"))
    };
    for number in 1..=DOWN {
        ask(number).await?;
        sleep(Duration::from_millis(300)).await;
    }
    // A circuit opens after some failures, and probes now and then.
    let dead = primary.failed();
    ensure(dead <= DOWN + 5, || format!("{dead} attempts at a provider that was down, in {DOWN} requests"))?;
    upstreams.primary.handle().heal();
    let healthy = Instant::now();
    let mut number = DOWN;
    while primary.answered() == 0 {
        ensure(healthy.elapsed() < Duration::from_secs(30), || {
            "the first provider was not asked within 30 s after its recovery".to_owned()
        })?;
        sleep(Duration::from_secs(1)).await;
        number += 1;
        ask(number).await?;
    }
    Ok(())
}
