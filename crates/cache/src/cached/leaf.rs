use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use super::similar::{Across, Likeness, similar_questions};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    cache::{Answer, CACHED_LEVEL, CacheKey, CacheLayer, Lifetime, Question, REMEMBERED, StoreLookup},
    embed::{EmbedRequest, EmbedResponse},
    response::{CacheReason, ResponseFuture},
    totals::count,
};

/// A leaf that answers from a [`CacheLayer`]. See the [module docs](super).
///
/// If the cache has no answer, the leaf fails with [`ErrorKind::Exhausted`], which costs no attempt, and the next tier
/// is called. Clones share the answers.
#[derive(Clone)]
pub struct CachedAnswers {
    cache: CacheLayer,
    likeness: Option<(Likeness, f32)>,
    across: Across,
    quote: bool,
}

/// The longest quotation of a question, in characters.
const QUOTED: usize = 200;

impl CachedAnswers {
    /// The default of [`remember`](Self::remember): 4,096 questions.
    pub const REMEMBERED: usize = REMEMBERED;

    /// Creates a tier of this layer's answers, with the layer's own rules for equal requests: set those first. Default:
    /// only answers to the same request.
    pub fn new(cache: &CacheLayer) -> Self {
        Self { cache: cache.clone(), likeness: None, across: Across::default(), quote: false }
    }

    /// Also gives the answer to a similar question, if the same one has none. The threshold for the similarity by words
    /// is from 0 (none) to 1 (the same words); at 0.8 a word or two of a sentence may differ. From now on the cache
    /// remembers the questions of the answers that it stores.
    #[must_use]
    pub fn similar(self, threshold: f32) -> Self {
        self.with_likeness(Likeness::Words, threshold)
    }

    /// Does so by a service of embeddings and the cosine of their vectors. The threshold depends on the model; many put
    /// questions of the same meaning over 0.85. The service has two seconds, and its failure is the cause of this
    /// leaf's error.
    #[must_use]
    pub fn similar_by<E>(self, embeddings: E, threshold: f32) -> Self
    where
        E: Service<EmbedRequest, Response = EmbedResponse> + Clone + Send + Sync + 'static,
        E::Error: Into<LlmError>,
        E::Future: Send,
    {
        let embeddings = BoxCloneSyncService::new(embeddings.map_err(Into::into));
        self.with_likeness(Likeness::Meaning(embeddings), threshold)
    }

    /// Sets the number of remembered questions, the newest ones. Default: 4,096. Each takes about 2 KB, and with a
    /// service of embeddings also its vector (6 KB for 1,536 numbers).
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

    /// Allows similar questions of another [tenant](crate::request::Tenant). Default: never. Allow it only if no
    /// tenant's questions and answers are confidential.
    #[must_use]
    pub fn across_tenants(mut self) -> Self {
        self.across.tenants = true;
        self
    }

    /// Lets the answer quote the original question, up to 200 characters. Default: no, because it may be another
    /// person's.
    #[must_use]
    pub fn quote(mut self) -> Self {
        self.quote = true;
        self
    }

    fn with_likeness(mut self, likeness: Likeness, threshold: f32) -> Self {
        self.cache.handle().questions().start_remembering();
        self.likeness = Some((likeness, threshold));
        self
    }

    async fn answer(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        let nothing = || LlmError::new(ErrorKind::Exhausted, "no cached answer fits the request");
        let handle = self.cache.handle();
        let (key, life) = self.cache.key(&request).ok_or_else(nothing)?;
        if let Some(answer) = self.usable(&key, life).await {
            count(&handle.counters().stale);
            let now = Instant::now();
            let why = if life.is_fresh(&answer, now) { CacheReason::Fresh } else { CacheReason::Stale };
            return Ok(answer.last_resort(request.is_stream(), why, now));
        }
        let Some((likeness, threshold)) = &self.likeness else { return Err(nothing()) };
        let found = similar_questions(&handle, key, &request, (likeness, *threshold), self.across).await;
        for (similarity, question) in found.map_err(|error| nothing().with_source(error))? {
            let Some(answer) = self.usable(&question.key, life).await else {
                handle.questions().forget(&question.key);
                continue;
            };
            count(&handle.counters().similar);
            let now = Instant::now();
            let note = self.note(similarity, &question, &answer, now);
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

    /// Returns a note that this is another question's answer, which one's, and how similar the two are.
    fn note(&self, similarity: f32, question: &Question, answer: &Answer, now: Instant) -> String {
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
