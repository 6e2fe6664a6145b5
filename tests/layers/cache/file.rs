//! The cache of a configuration file: what it says is done, and goes on over reloads.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use steadfast::{
    BoxLlmService, CacheReason, DegradedReason, ErrorKind, LlmRequest,
    chat::{Chat, Message},
    layers::{
        budget::BudgetKey,
        cache::{Answer, AnswerStore, CacheControl, CacheHandle, CacheKey, StoreLookup},
    },
    providers::http::RequestBody,
};
use steadfast_stack::{Config, Environment, Format, Stack, StackBuilder};
use tokio::time::advance;

use crate::cache::{
    provider::{Provider, call, text},
    similar::{ASKED, LIKE_IT},
};

const SECOND: Duration = Duration::from_secs(1);

fn config(text: &str) -> Config {
    Config::from_str(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// A file with one model, and this beside it.
fn file(more: &str) -> String {
    format!("tiers: [{{ name: main, provider: simulated }}]\nretry: {{ max_attempts: 1 }}\n{more}\n")
}

fn builder(provider: &Provider) -> StackBuilder {
    Stack::builder().environment(Environment::default()).leaf("main", provider.service())
}

fn stack(provider: &Provider, text: &str) -> Stack {
    builder(provider).build(config(text)).unwrap_or_else(|error| panic!("{error}"))
}

fn ask() -> LlmRequest {
    LlmRequest::prompt("What is a closure?")
}

async fn why(llm: &BoxLlmService, request: LlmRequest) -> Option<CacheReason> {
    call(llm, request).await.unwrap().cached().map(|cached| cached.reason)
}

#[tokio::test(start_paused = true)]
async fn answers_are_kept_where_the_file_says_so_and_not_where_it_does_not() {
    let provider = Provider::new();
    let off = stack(&provider, &file(""));
    assert!(off.handle().cache().is_none());
    let llm = off.service();
    let first = call(&llm, ask()).await.unwrap();
    assert_eq!((first.cached(), first.is_cache_miss()), (None, false));
    assert_eq!(text(&llm, ask()).await, "answer 2");

    let on = stack(&provider, &file("cache: { ttl: 1m }"));
    let llm = on.service();
    let first = call(&llm, ask()).await.unwrap();
    assert_eq!((first.cached(), first.is_cache_miss()), (None, true));
    drop(first);
    let again = call(&llm, ask()).await.unwrap();
    assert_eq!((again.cached().unwrap().reason, again.is_cache_miss()), (CacheReason::Fresh, false));
    assert_eq!(again.text().await.unwrap(), "answer 3");
    for control in [CacheControl::NoStore, CacheControl::NoCache] {
        let anew = call(&llm, ask().with_extension(control)).await.unwrap();
        assert!(anew.cached().is_none() && !anew.is_cache_miss(), "nothing was looked for");
    }
    assert_eq!(text(&llm, ask()).await, "answer 5");
    advance(SECOND * 60).await;
    assert_eq!(text(&llm, ask()).await, "answer 6");
    let stats = on.handle().cache().unwrap().stats();
    assert_eq!((stats.hits, stats.misses, stats.passed_by, stats.kept), (2, 3, 1, 3));
}

/// The cache as `examples/ladder.yaml` and the guide have it.
#[tokio::test(start_paused = true)]
async fn the_thresholds_that_are_shown_find_the_question_that_is_shown() {
    let ladder = include_str!("../../../examples/ladder.yaml");
    let models = ["sonnet", "gpt-4o", "haiku", "gemini"];
    let found = async |text: &str| {
        let provider = Provider::new();
        let builder = Stack::builder().environment(Environment::default());
        let builder = models.into_iter().fold(builder, |builder, model| builder.leaf(model, provider.service()));
        let llm = builder.build(config(text)).unwrap_or_else(|error| panic!("{error}")).service();
        let asked = |words: &str| LlmRequest::prompt(words).with_feature("chat");
        self::text(&llm, asked(ASKED)).await;
        provider.is_down(Some(ErrorKind::Server));
        why(&llm, asked(LIKE_IT)).await
    };
    assert!(matches!(found(ladder).await, Some(CacheReason::Similar { .. })), "the example's threshold");

    let guide = include_str!("../../../crates/guide/src/degradation.md");
    for shown in [ladder, guide] {
        assert!(shown.contains(ASKED) && shown.contains(LIKE_IT));
    }
    let shown = guide.split("threshold: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let guides = ladder.replace("similar: { threshold: 0.7 }", &format!("similar: {{ threshold: {shown} }}"));
    assert!(matches!(found(&guides).await, Some(CacheReason::Similar { .. })), "the guide's threshold, {shown}");
    let too_high = ladder.replace("similar: { threshold: 0.7 }", "similar: {}");
    assert!(!matches!(found(&too_high).await, Some(CacheReason::Similar { .. })), "the default, as the guide says");
}

#[tokio::test(start_paused = true)]
async fn a_feature_has_its_own_time_or_none() {
    let provider = Provider::new();
    let text = file(
        "cache: { ttl: 1m, across: [features] }
features: { chat: {}, news: { cache: 10s }, code: { cache: off } }
default_feature: { cache: off }",
    );
    let llm = stack(&provider, &text).service();
    let of = |feature: &'static str| why(&llm, ask().with_feature(feature));
    assert_eq!((of("chat").await, of("chat").await), (None, Some(CacheReason::Fresh)));
    for never in ["code", "unheard-of", "code"] {
        assert_eq!(of(never).await, None, "{never}");
    }
    assert_eq!(why(&llm, ask()).await, None, "nor of no feature");
    assert_eq!(of("news").await, Some(CacheReason::Fresh), "features need not be the same");
    advance(SECOND * 10).await;
    // The caller decides how old an answer may be.
    assert_eq!((of("chat").await, of("news").await), (Some(CacheReason::Fresh), None));
}

#[tokio::test(start_paused = true)]
async fn callers_and_models_are_told_apart_unless_the_file_allows_it() {
    let provider = Provider::new();
    let of = |model: &str| {
        let mut chat = Chat::default();
        (chat.model, chat.messages) = (Some(model.into()), vec![Message::user("hello")]);
        LlmRequest::from(chat)
    };
    let by = |key: &'static str| of("gpt-4o").with_extension(BudgetKey(key.into()));
    let other_model = || of("gpt-5").with_extension(BudgetKey("ana".into()));
    let llm = stack(&provider, &file("cache: {}")).service();
    assert_eq!((why(&llm, by("ana")).await, why(&llm, by("bo")).await), (None, None));
    assert_eq!(why(&llm, by("ana")).await, Some(CacheReason::Fresh));
    assert_eq!(why(&llm, other_model()).await, None);

    let llm = stack(&provider, &file("cache: { across: [tenants, models] }")).service();
    assert_eq!((why(&llm, by("ana")).await, why(&llm, by("bo")).await), (None, Some(CacheReason::Fresh)));
    assert_eq!(why(&llm, other_model()).await, Some(CacheReason::Fresh));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_on_over_reloads_and_follows_their_bounds() {
    let provider = Provider::new();
    let stack = stack(&provider, &file("cache: { ttl: 1m }"));
    let (llm, handle) = (stack.service(), stack.handle());
    assert_eq!(text(&llm, ask()).await, "answer 1");
    advance(SECOND * 30).await;

    let load = |more: &str| handle.reload(config(&file(more))).unwrap();
    load("cache: { ttl: 1m }\ntimeout: 20s");
    assert_eq!(text(&llm, ask()).await, "answer 1");
    load("cache: { ttl: 20s, stale_for: 1m }");
    assert_eq!(text(&llm, ask()).await, "answer 2", "it is too old by now");
    advance(SECOND * 30).await;
    load("cache: { ttl: 1m }");
    assert_eq!(text(&llm, ask()).await, "answer 2", "and now it is not");
    assert_eq!(handle.cache().unwrap().stats().hits, 2, "the same cache all the time");

    // A smaller room takes effect at once, but not where the configuration is refused.
    let wrong = "cache: { max_bytes: 64B, max_answer: 4B }\nfeatures: { chat: { tiers: [main], worst_level: 1 } }";
    let mut refused = config(&file(wrong));
    refused.features.get_mut("chat").unwrap().tiers = Some(vec!["nobody".into()]);
    handle.reload(refused).unwrap_err();
    assert_eq!(handle.cache().unwrap().len(), 1);
    load("cache: { ttl: 1m, max_bytes: 64B, max_answer: 4B }");
    let now = handle.cache().unwrap();
    assert_eq!((now.len(), now.stats().hits), (0, 2), "the same cache, with less room");
    assert_eq!((text(&llm, ask()).await, text(&llm, ask()).await), ("answer 3".into(), "answer 4".into()));

    load("cache: { ttl: 1m }");
    assert_eq!(text(&llm, ask()).await, "answer 5");
    let held = handle.cache().unwrap();
    assert_eq!(held.len(), 1);
    load("");
    assert!(handle.cache().is_none() && held.is_empty(), "without its block all is forgotten");
    assert_eq!(text(&llm, ask()).await, "answer 6");
    load("cache: { ttl: 1m }");
    assert_eq!(text(&llm, ask()).await, "answer 7");
}

#[tokio::test(start_paused = true)]
async fn what_callers_shared_is_nobodys_once_they_are_told_apart() {
    let provider = Provider::new();
    let stack = stack(&provider, &file("cache: { across: [tenants] }"));
    let (llm, handle) = (stack.service(), stack.handle());
    let anas = || ask().with_extension(BudgetKey("ana".into()));
    assert_eq!((why(&llm, anas()).await, why(&llm, ask()).await), (None, Some(CacheReason::Fresh)));
    handle.reload(config(&file("cache: {}"))).unwrap();
    assert_eq!((why(&llm, ask()).await, why(&llm, anas()).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn larger_answers_find_room_after_a_reload_that_allows_them() {
    let provider = Provider::new().frames(40_000);
    let stack = stack(&provider, &file("cache: { max_bytes: 64MiB }"));
    let (llm, handle) = (stack.service(), stack.handle());
    let large = || ask().with_stream(true);
    text(&llm, large()).await;
    assert_eq!(handle.cache().unwrap().len(), 0, "it is over 1 MiB");
    handle.reload(config(&file("cache: { max_bytes: 64MiB, max_answer: 16MiB }"))).unwrap();
    text(&llm, large()).await;
    let kept = handle.cache().unwrap();
    assert!(kept.len() == 1 && kept.bytes() > 1 << 22, "{kept:?}");
}

/// Three models' worth of ladder: one that answers, what was kept, a sentence.
fn ladder(similar: &str) -> String {
    format!(
        "
tiers:
  - {{ name: main, provider: simulated }}
  - {{ name: kept, provider: cached{similar} }}
  - {{ name: sorry, provider: canned, text: sorry }}
cache: {{ ttl: 0s, stale_for: 1h }}
features: {{ code: {{ worst_level: 1 }}, mail: {{ worst_level: 4 }} }}
retry: {{ max_attempts: 3 }}
circuit_breaker: {{ consecutive_failures: 1 }}
"
    )
}

#[tokio::test(start_paused = true)]
async fn a_cached_tier_answers_when_no_model_does_and_costs_no_attempt() {
    let provider = Provider::new();
    let stack = stack(&provider, &ladder(""));
    assert_eq!(stack.handle().tiers().iter().map(|tier| tier.level).collect::<Vec<_>>(), [1, 4, 5]);
    let llm = stack.service();
    for feature in ["chat", "code"] {
        text(&llm, ask().with_feature(feature)).await;
    }
    provider.is_down(Some(ErrorKind::Server));
    let kept = call(&llm, ask().with_feature("chat")).await.unwrap();
    assert_eq!(kept.served_by().tier, Some("kept"));
    let degraded = kept.degraded().unwrap();
    assert_eq!((degraded.level, degraded.reason), (4, DegradedReason::Failure(ErrorKind::CircuitOpen)));
    assert_eq!(kept.cached().unwrap().reason, CacheReason::Stale);
    assert_eq!(kept.text().await.unwrap(), "answer 1");

    // A new question goes on to the sentence, and never does so too often.
    for number in 0..20 {
        let new = LlmRequest::prompt(format!("question {number}")).with_feature("chat");
        let sorry = call(&llm, new).await.unwrap();
        assert_eq!((sorry.served_by().tier, sorry.served_by().attempts), (Some("sorry"), 1), "{:?}", sorry.attempts());
    }
    assert_eq!(call(&llm, ask().with_feature("chat")).await.unwrap().served_by().tier, Some("kept"));
    assert_eq!(stack.handle().circuits()["kept"].consecutive_failures(), 0);
    // A caller who accepts full service only does not get a kept answer.
    assert_eq!(call(&llm, ask().with_feature("code")).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    let mail = LlmRequest::prompt("never asked").with_feature("mail");
    assert_eq!(call(&llm, mail).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_cached_tier_goes_on_over_reloads_with_what_is_kept() {
    let provider = Provider::new();
    let stack = stack(&provider, &ladder(""));
    let (llm, handle) = (stack.service(), stack.handle());
    text(&llm, ask()).await;
    provider.is_down(Some(ErrorKind::Server));
    let tier = async || call(&llm, ask()).await.unwrap().served_by().tier.unwrap().to_owned();
    assert_eq!(tier().await, "kept");
    let reload = handle.reload(config(&ladder("").replace("ttl: 0s", "ttl: 0s, max_bytes: 32MiB"))).unwrap();
    assert!(reload.changed.is_empty(), "{reload:?}");
    assert_eq!(tier().await, "kept");
    let reload = handle.reload(config(&ladder("").replace("1h", "1m"))).unwrap();
    assert_eq!(reload.changed, [Arc::<str>::from("kept")]);
    assert_eq!(tier().await, "kept");
    advance(SECOND * 60).await;
    assert_eq!(tier().await, "sorry", "it is too old by the new bounds");
}

#[tokio::test(start_paused = true)]
async fn a_similar_question_is_answered_where_the_file_allows_it() {
    let provider = Provider::new();
    let llm = stack(&provider, &ladder(", similar: { threshold: 0.6, quote: true }")).service();
    let asked = |text: &'static str| LlmRequest::prompt(text).with_feature("chat");
    text(&llm, asked("How do I reset my password?")).await;
    provider.is_down(Some(ErrorKind::Server));
    let similar = call(&llm, asked("How can I reset my password?")).await.unwrap();
    assert!(
        matches!(similar.cached().unwrap().reason, CacheReason::Similar { similarity } if similarity > 0.6),
        "{similar:?}"
    );
    assert!(similar.notes()[0].contains("asked: \"How do I reset my password?\""), "{:?}", similar.notes());
    let other = asked("How can I reset my password?").with_feature("mail");
    assert!(call(&llm, other).await.is_err(), "another feature's");
}

#[tokio::test(start_paused = true)]
async fn similar_questions_are_told_by_embeddings_from_the_files_server() {
    let (provider, calls) = (Provider::new(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let server = tower::service_fn(move |request: http::Request<RequestBody>| {
        counted.fetch_add(1, SeqCst);
        async move {
            assert_eq!(request.uri(), "http://embed.test/v1/embeddings");
            assert_eq!(request.headers()["authorization"], "Bearer sk-embed");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(asked["model"], "small");
            let vector = |text: &str| if text.contains("password") { [1.0, 0.0] } else { [0.0, 1.0] };
            let texts = asked["input"].as_array().unwrap().iter().map(|text| vector(text.as_str().unwrap()));
            let data: Vec<_> =
                texts.enumerate().map(|(at, v)| serde_json::json!({"index": at, "embedding": v})).collect();
            let answer = serde_json::json!({ "data": data }).to_string();
            Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
        }
    });
    let similar =
        ", similar: { method: embeddings, base_url: 'http://embed.test/v1', model: small, api_key: '${EMBED}' }";
    let missing = builder(&provider).build(config(&ladder(similar))).unwrap_err().to_string();
    assert!(missing.contains("tiers.kept.similar.api_key") && missing.contains("EMBED"), "{missing}");
    let environment: Environment = [("EMBED", "sk-embed")].into_iter().collect();
    let stack = builder(&provider).environment(environment).transport(server).build(config(&ladder(similar))).unwrap();
    let llm = stack.service();
    text(&llm, LlmRequest::prompt("My password is gone. What now?")).await;
    assert_eq!(calls.load(SeqCst), 0, "only when the models are down");
    provider.is_down(Some(ErrorKind::Server));
    let similar = call(&llm, LlmRequest::prompt("I forgot the password")).await.unwrap();
    assert_eq!(similar.served_by().tier, Some("kept"));
    let unlike = call(&llm, LlmRequest::prompt("Who won?")).await.unwrap();
    assert_eq!((unlike.served_by().tier, calls.load(SeqCst)), (Some("sorry"), 2));
}

/// A store that replicas share.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Kept>>);

type Kept = Vec<(CacheKey, Arc<Answer>)>;

impl AnswerStore for Shared {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        let found = self.0.lock().unwrap().iter().find(|(known, _)| known == key).map(|(_, answer)| answer.clone());
        StoreLookup::Pending(Box::pin(async move { found }))
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        self.0.lock().unwrap().push((key, answer));
    }

    fn retain(&self, stays: &dyn Fn(&Answer) -> bool) {
        self.0.lock().unwrap().retain(|(_, answer)| stays(answer));
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_share_answers_in_the_store_that_they_are_given() {
    let provider = Provider::new();
    let shared = file("cache: { shared: true }");
    let refused = builder(&provider).build(config(&shared)).unwrap_err().to_string();
    assert!(refused.contains("cache.shared"), "{refused}");

    let store = Shared::default();
    let replica = || builder(&provider).shared_answers(store.clone()).build(config(&shared)).unwrap();
    let (one, other) = (replica(), replica());
    assert_eq!(text(&one.service(), ask()).await, "answer 1");
    assert_eq!(text(&other.service(), ask()).await, "answer 1");
    // One that keeps its own from now on does not take them away from the other.
    one.handle().reload(config(&file("cache: {}"))).unwrap();
    assert_eq!(text(&one.service(), ask()).await, "answer 2");
    assert_eq!((text(&other.service(), ask()).await, store.len()), ("answer 1".into(), 1));
}

#[test]
fn a_cached_tier_without_a_cache_is_refused_however_the_configuration_was_made() {
    let mut config = config(&ladder(""));
    config.cache = None;
    let refused = Stack::builder().environment(Environment::default()).build(config).unwrap_err().to_string();
    assert!(refused.contains("tiers.kept.provider") && refused.contains("`cache`"), "{refused}");
}

#[test]
fn a_handle_shows_no_answers() {
    assert!(!format!("{:?}", CacheHandle::default()).contains("answers"));
}
