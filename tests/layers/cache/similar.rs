//! Kept answers as a tier of their own while the models are down, to the same question or to a similar one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    BoxLlmService, CacheLayer, CacheReason, Chat, ErrorKind, FallbackLayer, LlmError, LlmRequest,
    chat::{Message, Tool},
    embed::{EmbedRequest, EmbedResponse},
    layers::{cache::Tenant, fallback::Tier},
    providers::{CachedAnswers, Canned},
};
use tokio::time::advance;
use tower::{Service, ServiceBuilder, service_fn};

use crate::cache::provider::{Provider, call, frames, text};

pub(crate) const ASKED: &str = "How do I reset my password?";
pub(crate) const LIKE_IT: &str = "How can I reset my password?";

fn ask(text: &str) -> LlmRequest {
    LlmRequest::prompt(text)
}

/// A model, then what is kept, then a fixed sentence.
fn stack(provider: &Provider, cache: &CacheLayer, kept: CachedAnswers) -> BoxLlmService {
    let fallback = FallbackLayer::new("model")
        .push(Tier::new("kept", kept).level(4))
        .push(Tier::new("canned", Canned::text("later")).level(5));
    let stack = ServiceBuilder::new().layer(cache.clone()).layer(fallback).service(provider.service());
    BoxLlmService::new(stack)
}

/// Returns the second request's outcome when the model has answered the first and is down.
async fn then(kept: impl Fn(CachedAnswers) -> CachedAnswers, first: LlmRequest, second: LlmRequest) -> String {
    let (provider, cache) = (Provider::new(), CacheLayer::new());
    let llm = stack(&provider, &cache, kept(CachedAnswers::new(&cache)));
    text(&llm, first).await;
    provider.is_down(Some(ErrorKind::Overloaded));
    text(&llm, second).await
}

#[tokio::test(start_paused = true)]
async fn the_same_questions_old_answer_comes_before_the_fixed_sentence() {
    let (provider, cache) = (Provider::new(), CacheLayer::new().ttl(Duration::from_secs(60)));
    let llm = stack(&provider, &cache, CachedAnswers::new(&cache));
    text(&llm, ask(ASKED)).await;
    advance(Duration::from_secs(61)).await;
    provider.is_down(Some(ErrorKind::Server));
    let response = call(&llm, ask(ASKED)).await.unwrap();
    assert_eq!(response.degraded().unwrap().level, 4);
    assert_eq!(response.served_by().tier, Some("kept"));
    assert_eq!(response.cached().unwrap().reason, CacheReason::Stale);
    assert_eq!(response.text().await.unwrap(), "answer 1");
    assert_eq!(text(&llm, ask(LIKE_IT)).await, "later", "similar ones must be asked for");
    provider.is_down(None);
    assert_eq!(text(&llm, ask(ASKED)).await, "answer 4", "what the tier gave was not kept as new");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_similar_question_says_so() {
    let (provider, cache) = (Provider::new(), CacheLayer::new());
    let llm = stack(&provider, &cache, CachedAnswers::new(&cache).similar(0.7).quote());
    text(&llm, ask("What does it cost?")).await;
    text(&llm, ask(ASKED)).await;
    advance(Duration::from_secs(9)).await;
    assert_eq!(text(&llm, ask("How can I delete my account?")).await, "answer 3", "while a model answers, it does");
    provider.is_down(Some(ErrorKind::Server));

    let response = call(&llm, ask(LIKE_IT)).await.unwrap();
    let cached = response.cached().unwrap();
    let CacheReason::Similar { similarity } = cached.reason else { panic!("{cached:?}") };
    assert!((0.7..0.8).contains(&similarity) && response.degraded().is_some());
    let note = response.notes()[0].to_string();
    assert!(note.starts_with("cache: the answer to a similar question, 0.73 alike, "), "{note}");
    assert!(
        note.contains(", 9 s old (level 4, cached only)") && note.ends_with(&format!("asked: {ASKED:?}")),
        "{note}"
    );
    assert_eq!(response.text().await.unwrap(), "answer 2");
    assert_eq!(text(&llm, ask("Wie ist das Wetter?")).await, "later");
    assert_eq!(cache.handle().stats().similar, 1);
}

#[tokio::test(start_paused = true)]
async fn the_threshold_decides_and_nothing_is_quoted_unless_allowed() {
    assert_eq!(then(|kept| kept.similar(0.74), ask(ASKED), ask(LIKE_IT)).await, "later");
    assert_eq!(then(|kept| kept.similar(0.72), ask(ASKED), ask(LIKE_IT)).await, "answer 1");
    let (provider, cache) = (Provider::new(), CacheLayer::new());
    let llm = stack(&provider, &cache, CachedAnswers::new(&cache).similar(0.7));
    text(&llm, ask(ASKED)).await;
    provider.is_down(Some(ErrorKind::Server));
    let response = call(&llm, ask(LIKE_IT)).await.unwrap();
    assert!(!response.notes().iter().any(|note| note.contains("password")), "{:?}", response.notes());
}

#[tokio::test(start_paused = true)]
async fn never_across_tenants_features_or_system_prompts_unless_allowed() {
    let chat = |system: &str, text: &str| LlmRequest::from(Chat::new([Message::user(text)]).system(system));
    let tenant = |name: &str, text: &str| ask(text).with_extension(Tenant::new(name));
    type Allow = fn(CachedAnswers) -> CachedAnswers;
    let cases: [(LlmRequest, LlmRequest, Allow); 3] = [
        (tenant("ada", ASKED), tenant("bob", LIKE_IT), CachedAnswers::across_tenants),
        (ask(ASKED).with_feature("chat"), ask(LIKE_IT).with_feature("mail"), CachedAnswers::across_features),
        (chat("Be brief.", ASKED), chat("Be kind.", LIKE_IT), CachedAnswers::across_system_prompts),
    ];
    for (first, second, allow) in cases {
        let (one, two) = (first.clone(), second.clone());
        assert_eq!(then(|kept| kept.similar(0.1), one, two).await, "later");
        assert_eq!(then(|kept| allow(kept.similar(0.7)), first, second).await, "answer 1");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_and_the_tools_must_be_the_same() {
    let turns = |before: &str, last: &str| {
        LlmRequest::from(Chat::new([Message::user(before), Message::assistant("Well."), Message::user(last)]))
    };
    let all = |kept: CachedAnswers| kept.similar(0.1).across_features().across_system_prompts().across_tenants();
    assert_eq!(then(all, turns("On cats:", ASKED), turns("On dogs:", LIKE_IT)).await, "later");
    assert_eq!(then(all, turns("On cats:", ASKED), turns("On cats:", LIKE_IT)).await, "answer 1");
    let tool = Chat::new([Message::user(LIKE_IT)]).tool(Tool::new("reset", serde_json::json!({"type": "object"})));
    assert_eq!(then(all, ask(ASKED), tool.into()).await, "later");
    let other_model = Chat::new([Message::user(LIKE_IT)]).model("gpt-4o").temperature(0.5);
    assert_eq!(then(all, ask(ASKED), other_model.into()).await, "answer 1", "none of the models is there");
}

#[tokio::test(start_paused = true)]
async fn a_similar_stream_is_replayed_and_an_answer_that_is_gone_is_forgotten() {
    let (provider, cache) = (Provider::new(), CacheLayer::new());
    let llm = stack(&provider, &cache, CachedAnswers::new(&cache).similar(0.7));
    let first = frames(call(&llm, ask(ASKED).with_stream(true)).await.unwrap()).await;
    provider.is_down(Some(ErrorKind::Server));
    assert_eq!(frames(call(&llm, ask(LIKE_IT).with_stream(true)).await.unwrap()).await, first);
    cache.handle().invalidate("another");
    assert_eq!(frames(call(&llm, ask(LIKE_IT).with_stream(true)).await.unwrap()).await, first);
    advance(Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(text(&llm, ask(LIKE_IT)).await, "later", "too old");
}

/// Vectors by what a text is about, counted.
#[derive(Clone, Default)]
struct Embeddings {
    asked: Arc<Mutex<Vec<usize>>>,
    calls: Arc<AtomicUsize>,
    fails: bool,
    hangs: bool,
}

impl Embeddings {
    fn service(
        &self,
    ) -> impl Service<EmbedRequest, Response = EmbedResponse, Error = LlmError, Future: Send> + Clone + Sync + use<>
    {
        let this = self.clone();
        service_fn(move |request: EmbedRequest| {
            let this = this.clone();
            async move {
                this.calls.fetch_add(1, SeqCst);
                this.asked.lock().unwrap().push(request.texts.len());
                if this.hangs {
                    std::future::pending::<()>().await;
                }
                if this.fails {
                    return Err(LlmError::new(ErrorKind::Connect, "no such host"));
                }
                let about = |text: &String| {
                    let says = |word: &str| f32::from(u8::from(text.to_lowercase().contains(word)));
                    vec![says("password") + says("credentials"), says("account"), 0.1]
                };
                Ok(EmbedResponse::new(request.texts.iter().map(about).collect()))
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn embeddings_tell_what_means_the_same_and_are_asked_for_only_in_an_outage() {
    let (provider, cache, embeddings) = (Provider::new(), CacheLayer::new(), Embeddings::default());
    let kept = CachedAnswers::new(&cache).similar_by(embeddings.service(), 0.9);
    let llm = stack(&provider, &cache, kept);
    for question in [ASKED, "How do I close my account?", "What does it cost?"] {
        text(&llm, ask(question)).await;
    }
    assert_eq!(embeddings.calls.load(SeqCst), 0);
    provider.is_down(Some(ErrorKind::Server));
    assert_eq!(text(&llm, ask("I have lost my credentials")).await, "answer 1");
    assert_eq!(text(&llm, ask("Account gone?")).await, "answer 2");
    assert_eq!(*embeddings.asked.lock().unwrap(), [4, 1], "kept questions are embedded once");
}

#[tokio::test(start_paused = true)]
async fn embeddings_that_fail_or_hang_leave_the_next_tier() {
    for (fails, hangs) in [(true, false), (false, true)] {
        let (provider, cache) = (Provider::new(), CacheLayer::new());
        let embeddings = Embeddings { fails, hangs, ..Embeddings::default() };
        let llm = stack(&provider, &cache, CachedAnswers::new(&cache).similar_by(embeddings.service(), 0.9));
        text(&llm, ask(ASKED)).await;
        provider.is_down(Some(ErrorKind::Server));
        assert_eq!(text(&llm, ask(LIKE_IT)).await, "later");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_questions_are_remembered() {
    let (provider, cache) = (Provider::new(), CacheLayer::new());
    let llm = stack(&provider, &cache, CachedAnswers::new(&cache).similar(0.7).remember(1));
    text(&llm, ask(ASKED)).await;
    text(&llm, ask("What does it cost?")).await;
    provider.is_down(Some(ErrorKind::Server));
    assert_eq!(text(&llm, ask(LIKE_IT)).await, "later");
    assert_eq!(text(&llm, ask("What does it cost now?")).await, "answer 2");
}
