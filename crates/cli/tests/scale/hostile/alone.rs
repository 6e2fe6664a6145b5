//! Each act alone, before providers that are well: what it may not do to others.

use std::time::Duration;

use super::{
    OPENAI, World,
    acts::{self, CHAT, MESSAGES},
    exchange,
};
use crate::{Client, common::comes, size};

/// Checks that the work is linear in the request's size: four times the request takes four times the work, with room
/// for each request's constant part. Quadratic work would take sixteen times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_takes_work_in_proportion_to_its_size() {
    let few = size(1_500, 4_000);
    let world = World::of_two("", "");
    let mut wrong = Vec::new();
    for ((what, small), (_, large)) in acts::to_translate(few).into_iter().zip(acts::to_translate(4 * few)) {
        let mut took = [Duration::ZERO; 2];
        for (took, sent) in took.iter_mut().zip([&small, &large]) {
            let before = world.cpu();
            let answer = exchange(world.address(), "hostile", sent).await;
            *took = world.cpu() - before;
            // It is served, or refused for a limit that it names.
            if !matches!(answer.status, 200 | 400 | 413) {
                wrong.push(format!("{what}: {answer:?}"));
            }
        }
        println!("{what}: {} bytes in {:?}, {} in {:?}", small.body.len(), took[0], large.body.len(), took[1]);
        if took[1] > took[0] * 8 + Duration::from_millis(300) {
            wrong.push(format!(
                "{what}: {} bytes take {:?}, and {} {:?}",
                small.body.len(),
                took[0],
                large.body.len(),
                took[1]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end();
}

/// A body of n bytes takes 8 n at most, what it has been read into included, and what the process takes without it not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_takes_at_most_eight_times_its_size_in_memory() {
    let length = size(4_000_000, 30_000_000);
    for (what, sent) in acts::to_fill_memory(length) {
        let world = World::of_two("", "");
        world.serves_honest().await;
        let (before, _) = world.memory();
        let answer = exchange(world.address(), "hostile", &sent).await;
        let (_, most) = world.memory();
        let times = ((most - before) * 1024) as f64 / length as f64;
        println!("{what}: {length} bytes take {times:.1} times as many, {}", answer.status);
        assert!(matches!(answer.status, 200 | 400 | 413), "{what}: {answer:?}");
        assert!((most - before) * 1024 < 8 * length + SPARE, "{what}: {times:.1} times its size");
        world.end();
    }
}

/// The memory that allocators reserve, in bytes.
const SPARE: usize = 8 * 1024 * 1024;

/// Checks that a provider's echo, a caller's own limits and faults in between are no evidence against a provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_one_caller_sends_opens_a_circuit() {
    let mut wrong = Vec::new();
    for (what, is_answered, sent) in acts::to_be_blamed_on_others() {
        let world = World::of_two("", "");
        // The keys have worked: from then on a refused one is the provider's doing.
        assert_eq!(world.serves_honest().await, ["sonnet", "gpt"]);
        let mut unanswered = Vec::new();
        for sent in &sent {
            let answer = exchange(world.address(), "hostile", sent).await;
            if is_answered && answer.status != 200 {
                unanswered.push(answer);
            }
        }
        if let Some(first) = unanswered.first() {
            wrong.push(format!("{what}: {} of {} were refused, such as {first:?}", unanswered.len(), sent.len()));
        }
        let (opened, served) = (world.opened(), world.serves_honest().await);
        println!("{what}: opened {opened:?}, served by {served:?}");
        if !opened.is_empty() || served != ["sonnet", "gpt"] {
            wrong.push(format!("{what}: opened {opened:?}, and honest callers are served by {served:?}"));
        }
        world.end();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_tokens_is_under_the_limits_of_the_key() {
    let world = World::of_two(", requests_per_minute: 5", "");
    let mut refused = 0;
    for _ in 0..20 {
        let answer = exchange(world.address(), "hostile", &acts::counted()).await;
        refused += usize::from(answer.status == 429);
    }
    println!("{refused} of 20 were refused at 5 a minute");
    assert!(refused >= 10, "{refused} of 20 were refused");
    world.end();
}

/// Counts what was delivered although the end never came: 80,000 words, of which three quarters are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_a_stream_pays_for_the_delivered_part() {
    for (path, to, tier) in [(MESSAGES, "", "sonnet"), (CHAT, OPENAI, "gpt")] {
        let world = World::of_two(", tokens_per_minute: 20000, budget: { usd: 1000, period: day }", "");
        acts::left_early(path, to, 300_000).act(world.address(), "hostile", Duration::from_secs(30)).await;
        let counted = || {
            let of_tier = format!(r#"tier="{tier}""#);
            let tokens: f64 = world
                .metrics()
                .of("steadfast_tokens_total", &of_tier)
                .iter()
                .filter(|(labels, _)| labels.contains(r#"type="output""#))
                .map(|(_, tokens)| tokens)
                .sum();
            let cost = world.metrics().sum("steadfast_cost_nanodollars_total", &of_tier);
            // Not before it is told of.
            (tokens > 0.0).then_some((tokens, cost))
        };
        let (tokens, cost) = comes(Duration::from_secs(5), "nothing is told of it", counted);
        println!("{tier}: {tokens} tokens counted, ${} of it", cost / 1e9);
        assert!(tokens > 40_000.0, "{tier}: {tokens} tokens were counted of 60,000");
        assert!(cost > 0.4e9, "{tier}: it cost ${}", cost / 1e9);
        // For this minute the key has had what it may have.
        let answer = exchange(world.address(), "hostile", &acts::plain(path, to)).await;
        assert_eq!(answer.status, 429, "{tier}: {answer:?}");
        world.end();
    }
}

/// With a key of idempotency a call outlives its caller, and so does its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_caller_left_keeps_its_place() {
    let mut world = World::of_two(", concurrency: 1", "");
    let call = |number: usize| acts::left_at_once(&number.to_string());
    let mut first = Client::connect(world.address()).await.unwrap();
    first.send(call(0).bytes("hostile")).await.unwrap();
    comes(Duration::from_secs(10), "it does not come", || (world.provider.stats()["now"] == 1).then_some(()));
    drop(first);
    for number in 1..20 {
        let sent = call(number).manner(acts::Manner::Reads);
        let status = sent.act(world.address(), "hostile", Duration::from_millis(500)).await;
        if status != Some(429) {
            println!("{number}: {status:?}");
        }
    }
    let stats = world.provider.stats();
    println!("{stats}");
    assert_eq!(stats["most"], 1, "with `concurrency: 1` there were {} calls at once", stats["most"]);
    world.provider.release();
    world.end();
}

/// Tasks have a limit for each key, in bytes and in number, and one that is refused says which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_for_people_have_a_limit_for_each_key() {
    for (length, limit, most) in
        [(1_000_000, "handoff.limits.bytes_per_caller", 5), (10, "handoff.limits.tasks_per_caller", 20)]
    {
        let world = World::of_two("", "");
        let mut answers = Vec::new();
        for number in 0..=most {
            answers.push(exchange(world.address(), "hostile", &acts::for_people(length, number)).await);
        }
        let refused = answers.pop().unwrap();
        let taken = answers.iter().filter(|answer| matches!(answer.status, 200 | 202)).count();
        println!("{taken} tasks of {length} bytes are taken, and then: {} {}", refused.status, refused.body);
        assert!(matches!(refused.status, 429 | 503 | 529) && refused.is_error_of(MESSAGES), "{refused:?}");
        assert!(refused.body.contains(limit), "{refused:?}");
        // The refusal is the hostile caller's own trouble.
        let answer = exchange(world.address(), "honest", &acts::for_people(10, 0)).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        world.end();
    }
}

/// The provider's account is the operator's business only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_learns_the_providers_account() {
    let world = World::of_two("", "");
    for sent in [
        acts::plain(MESSAGES, ""),
        acts::stream(MESSAGES, ""),
        acts::plain(CHAT, OPENAI),
        acts::stream(CHAT, OPENAI),
        acts::plain(CHAT, ""),
        acts::plain(MESSAGES, "anthropic-beta: none\r\n"),
    ] {
        let answer = exchange(world.address(), "hostile", &sent).await;
        assert!(!answer.head.contains("of-the-provider"), "{answer:?}");
    }
    world.end();
}
