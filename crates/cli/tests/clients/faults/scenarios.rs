//! The sixteen faults: what the providers do, and what makes a pass.

use std::time::Duration;

use steadfast::providers::simulated::{Fault, SimulatedHandle};

use crate::faults::judge::Seen;

/// A way in which a primary fails. The fallback is healthy, unless `act` changes it.
pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) fault: &'static str,
    /// Makes the primary and the fallback do what they do.
    pub(crate) act: fn(&SimulatedHandle, &SimulatedHandle),
    /// The client's requests; `true`: with a begun answer.
    pub(crate) requests: &'static [bool],
    /// Between two requests, in milliseconds.
    pub(crate) gap_ms: u64,
    /// True if the fault comes after the first token has been delivered.
    pub(crate) after_commit: bool,
    /// Returns the defects of the observations if nothing was delivered before the fault: with `complete`, and of a
    /// fault before the first token with every commit point.
    pub(crate) pass: fn(&Seen<'_>) -> Result<(), String>,
}

impl Scenario {
    /// Returns the defects where the other provider is another deployment of the same tier: it is asked at once, so
    /// that nobody waits for the first one.
    pub(crate) fn pass_of_deployments(&self, seen: &Seen<'_>) -> Result<(), String> {
        match self.id {
            "S01" | "S03" => {
                seen.answered_by_fallback()?;
                seen.primary_calls(1, 1)
            }
            // Deployments serve one model: what one refuses, no other one is asked.
            "S14" => seen.first_answered_by_fallback(),
            "S15" => {
                seen.answered()?;
                seen.dead_attempts_are_few()
            }
            _ => (self.pass)(seen),
        }
    }
}

const ONE: &[bool] = &[false];
const TWENTY: &[bool] = &[false; 20];

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S01",
        fault: "429 with Retry-After of 2 s, once",
        act: |primary, _| primary.fail_next(1, &Fault::RateLimited { retry_after: Some(Duration::from_secs(2)) }),
        // It is asked again, and not before it said.
        pass: |seen| {
            seen.answered()?;
            seen.primary_calls(2, 6)?;
            seen.at_most(2, Duration::from_millis(1500))?;
            seen.first_gap(Duration::from_millis(1800))
        },
        ..BEFORE
    },
    Scenario {
        id: "S02",
        fault: "429 without Retry-After, always",
        act: |primary, _| primary.fail(Fault::RateLimited { retry_after: None }),
        // Nobody hammers.
        pass: |seen| {
            seen.answered()?;
            seen.at_most(4, Duration::from_secs(3))?;
            seen.primary_calls(1, 6)
        },
        ..BEFORE
    },
    Scenario {
        id: "S03",
        fault: "500 once",
        act: |primary, _| primary.fail_next(1, &Fault::ServerError),
        // The same provider is asked again.
        pass: |seen| {
            seen.answered_by_primary()?;
            seen.primary_calls(2, 2)
        },
        ..BEFORE
    },
    Scenario {
        id: "S04",
        fault: "503 always",
        act: |primary, _| primary.fail(Fault::Unavailable),
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.primary_calls(1, 6)
        },
        ..BEFORE
    },
    Scenario {
        id: "S05",
        fault: "connection reset before the answer, once",
        act: |primary, _| primary.fail_next(1, &Fault::Refused),
        pass: |seen| seen.answered(),
        ..BEFORE
    },
    Scenario {
        id: "S06",
        fault: "no response at all",
        act: |primary, _| primary.fail(Fault::Hang),
        // A silent tier is not asked again while another is left.
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.primary_calls(1, 1)
        },
        ..BEFORE
    },
    Scenario {
        id: "S07",
        fault: "head at once, no first token",
        // Not after 20 s but never: that the stream has begun must not keep anybody waiting.
        act: |primary, _| primary.fail(Fault::StallAfter(0)),
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.primary_calls(1, 1)
        },
        ..BEFORE
    },
    Scenario {
        id: "S08",
        fault: "cut after 40 of 60 tokens",
        act: |primary, _| primary.fail(Fault::CutAfter(40)),
        pass: |seen| seen.answered_by_fallback(),
        ..AFTER
    },
    Scenario {
        id: "S09",
        fault: "silence after 20 tokens",
        act: |primary, _| primary.fail(Fault::StallAfter(20)),
        // The same as with every silence.
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.primary_calls(1, 1)
        },
        ..AFTER
    },
    Scenario {
        id: "S10",
        fault: "the tenth event is no JSON",
        // The gateway does not know the lost event, and does not take the next ones for the rest of the answer: the
        // stream broke. Skipping it would do here; had it been a word, the answer would lack it and look whole.
        act: |primary, _| primary.fail(Fault::MalformedAfter(9)),
        pass: |seen| seen.answered_by_fallback(),
        ..AFTER
    },
    Scenario {
        id: "S11",
        fault: "whole, but without its end mark",
        // Of OpenAI's protocol, a reason for stopping and an end in good order are an end: many servers send no more.
        // Gemini's mark is the reason itself. Of Anthropic's, `message_stop` is the one mark, and without it nobody
        // knows: another tier answers.
        act: |primary, _| primary.fail(Fault::NoEndMark),
        pass: |seen| {
            seen.answered()?;
            // Nobody waits for a mark that does not come: no limit of time has to end it.
            seen.took_less_than(Duration::from_secs(20))?;
            seen.usage()
        },
        ..AFTER
    },
    Scenario {
        id: "S12",
        fault: "context_length",
        act: |primary, _| primary.fail(Fault::ContextLength),
        // One attempt, then the larger model.
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.primary_calls(1, 1)
        },
        ..BEFORE
    },
    Scenario {
        id: "S13",
        fault: "content filter",
        act: |primary, _| primary.fail(Fault::ContentFilter),
        // The caller hears the reason; nobody is asked in its place, for that would be shopping for a filter.
        pass: |seen| {
            seen.refused(400, &["content filtering policy", "safety system", "usage policy", "prompt was blocked"])?;
            seen.primary_calls(1, 1)?;
            seen.fallback_calls(0, 0)
        },
        ..BEFORE
    },
    Scenario {
        id: "S14",
        fault: "cut after 40, the fallback takes no prefill",
        act: |primary, fallback| {
            primary.fail(Fault::CutAfter(40));
            fallback.fail(Fault::NoPrefill);
        },
        // The second request has a prefill of its own, so that the fallback refuses it: the error is the first one's.
        requests: &[false, true],
        pass: |seen| {
            seen.first_answered_by_fallback()?;
            seen.second_tells_of_the_broken_stream()
        },
        ..AFTER
    },
    Scenario {
        id: "S15",
        fault: "down, then healthy, 20 requests",
        act: |primary, fallback| {
            primary.fail(Fault::Unavailable);
            let (primary, fallback) = (primary.clone(), fallback.clone());
            // Not by the clock, which on a busy machine means nothing: down for as long as eight answers of the
            // fallback.
            tokio::spawn(async move {
                fallback.until(|stats| stats.calls >= 8).await;
                primary.heal();
            });
        },
        requests: TWENTY,
        gap_ms: 300,
        // All are answered, the last by the primary again, and while it was down its circuit kept them from it.
        pass: |seen| {
            seen.answered()?;
            seen.last_answered_by_primary()?;
            seen.dead_attempts_are_few()
        },
        ..BEFORE
    },
    Scenario {
        id: "S16",
        fault: "503 always: whose model and usage",
        act: |primary, _| primary.fail(Fault::Unavailable),
        pass: |seen| {
            seen.answered_by_fallback()?;
            seen.usage()?;
            seen.primary_calls(1, 6)
        },
        ..BEFORE
    },
];

const BEFORE: Scenario = Scenario {
    id: "",
    fault: "",
    act: |_, _| {},
    requests: ONE,
    gap_ms: 0,
    after_commit: false,
    pass: |_| Err("nothing is asked of it".to_owned()),
};
const AFTER: Scenario = Scenario { after_commit: true, ..BEFORE };
