//! A ledger and a cap, which count by themselves: whatever becomes of a request, they come to the same sum.

use std::time::Duration;

use futures_util::stream;
use steadfast::{
    BoxLlmService, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, FinishReason, Message, Usage},
    prices::Usd,
    provider_fn,
    request::BudgetKey,
};
use steadfast_ledger::{LedgerRow, RowKind};
use steadfast_stack::{Config, Format, Stack};
use tower::ServiceExt as _;

use super::on_a_quick_clock;
use crate::testing::Folder;

/// The outcome of a call to a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Answers,
    Streams,
    /// Its answer has a cost by its provider's own figure.
    Bills,
    /// It does not name its model.
    Unnamed,
    Breaks,
    /// Its answer was filtered, and costs what it took.
    Filtered,
    /// It does not end.
    Hangs,
    /// It fails after two seconds, without a word.
    Lingers,
    Fails(ErrorKind),
}

use Outcome::{Answers, Bills, Breaks, Fails, Filtered, Hangs, Lingers, Streams, Unnamed};

fn leaf(outcome: Outcome, provider: &'static str) -> BoxLlmService {
    BoxLlmService::new(provider_fn(move |request: LlmRequest| async move {
        let mut usage = Usage::new(1000, 50);
        let error = |kind| LlmError::new(kind, "as planned").with_model(provider, "m");
        if outcome == Bills {
            usage.cost = Some(Usd::from_nanos(4_200_000));
        }
        let text = || Ok(Frame::event(StreamEvent::Text { index: 0, text: "hello, hello".into() }));
        let body = match outcome {
            Answers | Bills | Unnamed => {
                let mut message = Message::assistant("hello");
                message.usage = Some(usage);
                LlmBody::from_message(message)
            }
            Filtered if request.is_stream() => {
                let end = [StreamEvent::Usage(usage), StreamEvent::Finish(FinishReason::Filtered), StreamEvent::End];
                LlmBody::from_frames(stream::iter([Ok(Frame::events_of(end.into()))]))
            }
            Filtered => {
                let mut message = Message::assistant("");
                (message.usage, message.finish) = (Some(usage), Some(FinishReason::Filtered));
                LlmBody::from_message(message)
            }
            Streams => {
                let end = [StreamEvent::Usage(usage), StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
                LlmBody::from_frames(stream::iter([text(), Ok(Frame::events_of(end.into()))]))
            }
            Breaks => LlmBody::from_frames(stream::iter([text(), Err(error(ErrorKind::StreamBroken))])),
            Hangs => std::future::pending().await,
            Lingers => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                return Err(error(ErrorKind::Timeout));
            }
            Fails(kind) => return Err(error(kind)),
        };
        let response = LlmResponse::new(body);
        Ok(if outcome == Unnamed { response } else { response.with_model(provider, "m") })
    }))
}

/// Asks once, reads the answer as far as `frames`, and returns what the cap has counted and the ledger's rows.
async fn counted(case: &str, tiers: [Outcome; 2], streams: bool, frames: usize) -> (Usd, Vec<LedgerRow>) {
    let folder = Folder::new(case);
    let text = format!(
        "
stores: {{ durable: 'sqlite:{}' }}
ledger: {{}}
tiers: [{{ name: a, provider: simulated }}, {{ name: b, provider: simulated }}]
retry: {{ max_attempts: 2, base: 1ms, jitter: none }}
budgets: [{{ name: all, usd: 100, period: month }}]
prices: {{ m: {{ input: 1000, output: 5000 }} }}
",
        folder.path().join("state.db").display()
    );
    let config = Config::from_str(&text, Format::Yaml).unwrap();
    let [a, b] = [leaf(tiers[0], "one"), leaf(tiers[1], "other")];
    let stack = Stack::builder().leaf("a", a).leaf("b", b).build(config).unwrap();
    let chat = Chat::new([Message::user("word ".repeat(400))]).model("m").max_tokens(400);
    let request = LlmRequest::from(chat).with_stream(streams).with_extension(BudgetKey::new("ci"));
    let mut asked = Box::pin(stack.service().oneshot(request));
    let answer = match tiers {
        [Hangs, _] => {
            assert!(tokio::time::timeout(Duration::from_secs(1), asked.as_mut()).await.is_err());
            None
        }
        _ => asked.as_mut().await.ok(),
    };
    drop(asked);
    if let Some(mut response) = answer {
        for _ in 0..frames {
            let Some(Ok(_)) = response.body_mut().frame().await else { break };
        }
    }
    let handle = stack.handle();
    let spent = handle.spend()[0].spent;
    let ledger = handle.ledger().unwrap();
    ledger.flush().await;
    let rows = ledger.store().rows(Duration::ZERO, Duration::MAX, None, 100).await.unwrap();
    (spent, rows)
}

#[tokio::test(start_paused = true)]
async fn a_ledger_and_a_cap_come_to_the_same_sum() {
    let (down, slow, empty) = (Fails(ErrorKind::Overloaded), Fails(ErrorKind::Timeout), Fails(ErrorKind::EmptyAnswer));
    let answered = RowKind::Answered;
    for (case, tiers, streams, frames, kinds) in [
        ("whole", [Answers, down], false, 9, &[answered][..]),
        ("streamed", [Streams, down], true, 9, &[answered]),
        ("billed", [Bills, down], false, 9, &[answered]),
        ("without a name", [Unnamed, down], false, 9, &[answered]),
        ("broken", [Breaks, down], true, 9, &[RowKind::Broken]),
        ("left", [Streams, down], true, 1, &[RowKind::Left]),
        ("left at once", [Streams, down], true, 0, &[RowKind::Left]),
        ("left before an answer", [Hangs, down], true, 0, &[RowKind::Left]),
        ("left before a whole answer", [Hangs, down], false, 0, &[RowKind::Left]),
        ("failed over from a tier that lingers", [Lingers, Answers], false, 9, &[answered, RowKind::Failed]),
        ("lingers everywhere", [Lingers, Lingers], false, 0, &[RowKind::Failed, RowKind::Unanswered]),
        ("filtered", [Filtered, down], false, 0, &[RowKind::Failed, RowKind::Unanswered]),
        ("filtered for a stream", [Filtered, Streams], true, 9, &[RowKind::Failed, RowKind::Unanswered]),
        ("failed over, and nothing was paid", [down, Answers], false, 9, &[answered]),
        ("failed over from a call that was paid", [empty, Streams], true, 9, &[answered, RowKind::Failed]),
        ("failed over from a silent tier", [slow, Streams], true, 9, &[answered, RowKind::Failed]),
        ("failed everywhere", [down, down], false, 0, &[RowKind::Unanswered]),
        ("silent everywhere", [slow, slow], true, 0, &[RowKind::Failed, RowKind::Unanswered]),
    ] {
        let place = format!("accounts-{}", case.replace([' ', ','], "-"));
        let (spent, rows) = on_a_quick_clock(counted(&place, tiers, streams, frames)).await;
        let mut found: Vec<RowKind> = rows.iter().map(|row| row.kind).collect();
        found.sort_unstable();
        assert_eq!(found, kinds, "{case}: {rows:#?}");
        let sum: Usd = rows.iter().map(|row| row.cost().unwrap()).sum();
        assert_eq!(spent, sum, "{case}");
        assert!(rows.iter().all(|row| row.key.as_deref() == Some("ci")), "{case}");
    }
}
