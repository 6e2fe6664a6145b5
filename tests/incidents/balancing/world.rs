//! Servers of one model in virtual time, and the traffic that comes to them.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use steadfast::{CacheOrigin, CacheReason, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse};
use tokio::time::{Instant, sleep};
use tower::Service;

/// A server of the model, and its log.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    /// The factor on the time to its first token.
    slowness: AtomicU32,
    fails: AtomicBool,
    /// True if it answers some calls at once out of a cache, and cuts some streams.
    cuts_and_keeps: AtomicBool,
    limit: Option<Mutex<Bucket>>,
    /// The cached tokens of each conversation, and when it was used last.
    cache: Mutex<HashMap<String, (u64, Instant)>>,
    random: Mutex<fastrand::Rng>,
    pub(super) calls: AtomicU64,
    pub(super) limited: AtomicU64,
}

/// A limit on tokens: a bucket that refills evenly in a minute, as OpenAI describes it.
struct Bucket {
    limit: f64,
    level: f64,
    at: Instant,
}

/// The tokens of a request, which its sender knows: the prompt with this conversation's name.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) conversation: String,
    pub(super) prompt: u64,
    pub(super) cached: Arc<AtomicU64>,
}

pub(super) const ANSWER: u64 = 200;

impl Server {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, 1, None)
    }

    pub(super) fn with(seed: u64, slowness: u32, tokens_per_minute: Option<u64>) -> Self {
        let bucket = |limit: u64| Mutex::new(Bucket { limit: limit as f64, level: limit as f64, at: Instant::now() });
        Self(Arc::new(Inner {
            slowness: AtomicU32::new(slowness),
            fails: AtomicBool::new(false),
            cuts_and_keeps: AtomicBool::new(false),
            limit: tokens_per_minute.map(bucket),
            cache: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            calls: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }))
    }

    pub(super) fn slow_down(&self, times: u32) {
        self.0.slowness.store(times, Relaxed);
    }

    pub(super) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Relaxed);
    }

    pub(super) fn cut_and_keep(&self, does: bool) {
        self.0.cuts_and_keeps.store(does, Relaxed);
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Relaxed)
    }

    pub(super) fn limited(&self) -> u64 {
        self.0.limited.load(Relaxed)
    }

    fn random(&self) -> f64 {
        self.0.random.lock().unwrap().f64()
    }

    /// Takes the tokens of a request. Returns the headers of the answer, or the wait of a 429.
    fn admit(&self, tokens: f64) -> Result<HeaderMap, Duration> {
        let mut headers = HeaderMap::new();
        let Some(bucket) = &self.0.limit else { return Ok(headers) };
        let mut bucket = bucket.lock().unwrap();
        let (now, rate) = (Instant::now(), bucket.limit / 60.0);
        bucket.level = (bucket.level + (now - bucket.at).as_secs_f64() * rate).min(bucket.limit);
        bucket.at = now;
        if bucket.level < tokens {
            self.0.limited.fetch_add(1, Relaxed);
            return Err(Duration::from_secs_f64((tokens - bucket.level) / rate));
        }
        bucket.level -= tokens;
        let reset = format!("{:.3}s", (bucket.limit - bucket.level) / rate);
        for (name, value) in [
            ("x-ratelimit-limit-tokens", format!("{}", bucket.limit)),
            ("x-ratelimit-remaining-tokens", format!("{}", bucket.level as u64)),
            ("x-ratelimit-reset-tokens", reset),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        Ok(headers)
    }

    /// Returns the tokens of the prompt that are cached, and caches the whole of it for five minutes.
    fn cached(&self, turn: &Turn) -> u64 {
        let now = Instant::now();
        let mut cache = self.0.cache.lock().unwrap();
        let known = cache.insert(turn.conversation.clone(), (turn.prompt, now));
        let fresh = known.filter(|(_, used)| now - *used < Duration::from_secs(300));
        fresh.map_or(0, |(tokens, _)| tokens.min(turn.prompt))
    }

    async fn answer(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        self.0.calls.fetch_add(1, Relaxed);
        if self.0.fails.load(Relaxed) {
            return Err(LlmError::new(ErrorKind::Server, "down"));
        }
        let luck = if self.0.cuts_and_keeps.load(Relaxed) { self.random() } else { 1.0 };
        if luck < 0.1 {
            return Ok(LlmResponse::from_text("words")
                .with_cached(CacheOrigin::new(CacheReason::Fresh, Duration::from_secs(9))));
        }
        let turn = request.extensions().get::<Turn>();
        let tokens = turn.map_or(0, |turn| turn.prompt + ANSWER) as f64;
        // A provider counts other than we estimate.
        let counted = tokens * (0.9 + 0.2 * self.random());
        let headers = self
            .admit(counted)
            .map_err(|wait| LlmError::new(ErrorKind::RateLimited, "tokens").with_retry_after(wait))?;
        if let Some(turn) = turn {
            turn.cached.fetch_add(self.cached(turn), Relaxed);
        }
        // Lognormal with a median of 300 ms and a 99th percentile four times as late, like recorded first tokens.
        let normal = (-2.0 * (1.0 - self.random()).ln()).sqrt() * (std::f64::consts::TAU * self.random()).cos();
        let first = Duration::from_secs_f64(0.3 * (0.6 * normal).exp()) * self.0.slowness.load(Relaxed);
        sleep(first).await;
        let rest = Duration::from_secs_f64(0.5 + 3.0 * self.random());
        let texts = stream::unfold(0, move |piece| async move {
            if piece == 2 {
                return None;
            }
            if piece == 1 {
                sleep(rest).await;
            }
            if piece == 1 && luck < 0.15 {
                return Some((Err(LlmError::new(ErrorKind::StreamBroken, "cut")), 2));
            }
            Some((Ok("words".to_owned()), piece + 1))
        });
        Ok(LlmResponse::new(LlmBody::from_text_stream(texts)).with_headers(headers))
    }
}

impl Service<LlmRequest> for Server {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}
