use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::similar::{Across, Likeness, alike};
use crate::{
    CacheLayer, ErrorKind, LlmError, LlmRequest, LlmResponse,
    embed::{EmbedRequest, EmbedResponse},
    layers::{
        cache::{Answer, CACHED_LEVEL, CacheKey, Lifetime, Question, REMEMBERED, StoreLookup},
        totals::count,
    },
    response::{CacheReason, ResponseFuture},
};

/// A leaf that gives what a [`CacheLayer`] has kept. See the [module docs](super).
///
/// Where it has nothing, it fails with [`ErrorKind::Exhausted`], which costs no attempt, and the next tier is asked. Clones
/// share the answers.
#[derive(Clone)]
pub struct CachedAnswers {
    cache: CacheLayer,
    likeness: Option<(Likeness, f32)>,
    across: Across,
    quote: bool,
}

/// How much of a question is quoted, in characters.
const QUOTED: usize = 200;

impl CachedAnswers {
    /// The default of [`remember`](Self::remember): 4,096 questions.
    pub const REMEMBERED: usize = REMEMBERED;

    /// A tier of the answers that this layer keeps, and by its settings of what is the same: set these first. Default: the
    /// same request's answers only.
    pub fn new(cache: &CacheLayer) -> Self {
        Self { cache: cache.clone(), likeness: None, across: Across::default(), quote: false }
    }

    /// Gives the answer to a similar question where there is none to the same: one that is at least so much like it by its
    /// words, from 0 (not at all) to 1 (the same words). 0.8 lets a changed word or two pass in a sentence. Questions are
    /// remembered from now on: those whose answers are kept.
    #[must_use]
    pub fn similar(self, threshold: f32) -> Self {
        self.liking(Likeness::Words, threshold)
    }

    /// The same by a service of embeddings, by the cosine of their vectors. What a threshold means is the model's; many put
    /// questions that mean the same over 0.85. The service has two seconds, and what it fails with is the cause of this
    /// leaf's error.
    #[must_use]
    pub fn similar_by<E>(self, embeddings: E, threshold: f32) -> Self
    where
        E: Service<EmbedRequest, Response = EmbedResponse> + Clone + Send + Sync + 'static,
        E::Error: Into<LlmError>,
        E::Future: Send,
    {
        let embeddings = BoxCloneSyncService::new(embeddings.map_err(Into::into));
        self.liking(Likeness::Meaning(embeddings), threshold)
    }

    /// Sets how many questions are remembered, the newest ones. Default: 4,096, which take some 2 KB each, and as much as a
    /// vector besides where a service of embeddings is asked (6 KB for one of 1,536 numbers).
    #[must_use]
    pub fn remember(self, questions: usize) -> Self {
        self.cache.handle().questions().remember(questions);
        self
    }

    /// Allows similar questions of another feature. Default: never.
    #[must_use]
    pub fn across_features(mut self) -> Self {
        self.across.features = true;
        self
    }

    /// Allows similar questions under another system prompt. Default: never.
    #[must_use]
    pub fn across_system_prompts(mut self) -> Self {
        self.across.system_prompts = true;
        self
    }

    /// Allows similar questions of another [tenant](crate::request::Tenant). Default: never. Only where nothing that
    /// any of them says is for their eyes alone.
    #[must_use]
    pub fn across_tenants(mut self) -> Self {
        self.across.tenants = true;
        self
    }

    /// Lets the answer quote the question that it was given to, up to 200 characters of it. Default: no, for it may be
    /// another person's.
    #[must_use]
    pub fn quote(mut self) -> Self {
        self.quote = true;
        self
    }

    fn liking(mut self, likeness: Likeness, threshold: f32) -> Self {
        self.cache.handle().questions().start_remembering();
        self.likeness = Some((likeness, threshold));
        self
    }

    async fn answer(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        let nothing = || LlmError::new(ErrorKind::Exhausted, "no kept answer fits the request");
        let handle = self.cache.handle();
        let (key, life) = self.cache.key(&request).ok_or_else(nothing)?;
        if let Some(answer) = self.usable(&key, life).await {
            count(&handle.counters().stale);
            let now = Instant::now();
            let why = if life.is_fresh(&answer, now) { CacheReason::Fresh } else { CacheReason::Stale };
            return Ok(answer.last_resort(request.is_stream(), why, now));
        }
        let Some((likeness, threshold)) = &self.likeness else { return Err(nothing()) };
        let found = alike(&handle, key, &request, (likeness, *threshold), self.across).await;
        for (similarity, question) in found.map_err(|error| nothing().with_source(error))? {
            let Some(answer) = self.usable(&question.key, life).await else {
                handle.questions().forget(&question.key);
                continue;
            };
            count(&handle.counters().similar);
            let now = Instant::now();
            let note = self.told(similarity, &question, &answer, now);
            let response = answer.last_resort(request.is_stream(), CacheReason::Similar { similarity }, now);
            return Ok(response.with_note(note));
        }
        Err(nothing())
    }

    async fn usable(&self, key: &CacheKey, life: Lifetime) -> Option<Arc<Answer>> {
        let found = match self.cache.handle().get(key) {
            StoreLookup::Ready(found) => found,
            StoreLookup::Pending(found) => found.await,
        };
        found.filter(|answer| life.is_usable(answer, Instant::now()))
    }

    /// That it is another question's answer, which one's, and how much alike the two are.
    fn told(&self, similarity: f32, question: &Question, answer: &Answer, now: Instant) -> String {
        let (key, age) = (question.key, answer.age(now).as_secs());
        let quoted = match self.quote {
            true => format!(", asked: {:?}", question.text.chars().take(QUOTED).collect::<String>()),
            false => String::new(),
        };
        format!(
            "cache: the answer to a similar question, {similarity:.2} alike, {key}, {age} s old (level {CACHED_LEVEL}, \
             cached only){quoted}"
        )
    }
}

impl Service<LlmRequest> for CachedAnswers {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        ResponseFuture::new(self.clone().answer(request))
    }
}

impl fmt::Debug for CachedAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let similar = self.likeness.as_ref().map(|(likeness, threshold)| match likeness {
            Likeness::Words => ("words", threshold),
            Likeness::Meaning(_) => ("embeddings", threshold),
        });
        f.debug_struct("CachedAnswers")
            .field("cache", &self.cache)
            .field("similar", &similar)
            .field("across", &self.across)
            .finish_non_exhaustive()
    }
}
