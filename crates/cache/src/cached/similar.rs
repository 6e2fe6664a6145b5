//! The search for stored questions that are similar to a request's.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::{
    ErrorKind, LlmError, LlmRequest,
    cache::{CacheHandle, CacheKey, Question, Scope},
    embed::{EmbedRequest, EmbedResponse},
};

/// A service of embeddings.
pub(super) type Embedder = BoxCloneSyncService<EmbedRequest, EmbedResponse, LlmError>;

/// The measure of similarity.
#[derive(Clone)]
pub(super) enum Likeness {
    Words,
    Meaning(Embedder),
}

/// The parts of a request that may differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Across {
    pub(super) features: bool,
    pub(super) system_prompts: bool,
    pub(super) tenants: bool,
}

impl Across {
    fn allows(self, asked: &Scope, kept: &Scope) -> bool {
        asked.rest == kept.rest
            && (self.features || asked.feature == kept.feature)
            && (self.system_prompts || asked.system == kept.system)
            && (self.tenants || asked.tenant == kept.tenant)
    }
}

/// The largest number of stored questions that one search embeds.
const EMBEDDED_AT_ONCE: usize = 256;
/// The time limit of a service of embeddings.
const EMBEDDING: Duration = Duration::from_secs(2);

/// Returns the stored questions with at least this similarity to the request's, the most similar first.
pub(super) async fn similar_questions(
    handle: &CacheHandle,
    key: CacheKey,
    request: &LlmRequest,
    (likeness, threshold): (&Likeness, f32),
    across: Across,
) -> Result<Vec<(f32, Arc<Question>)>, LlmError> {
    let Some(asked) = Question::of(key, request) else { return Ok(Vec::new()) };
    let kept = handle.questions().matching(|kept| kept.key != key && across.allows(&asked.scope, &kept.scope));
    let mut ranked: Vec<_> = match likeness {
        _ if kept.is_empty() => return Ok(Vec::new()),
        Likeness::Words => kept.into_iter().map(|kept| (asked.words.similarity(&kept.words), kept)).collect(),
        Likeness::Meaning(embedder) => by_meaning(embedder, &asked, kept, request.context().deadline).await?,
    };
    ranked.retain(|(similarity, _)| *similarity >= threshold);
    // A stable sort leaves the newest first among equals.
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Ok(ranked)
}

async fn by_meaning(
    embedder: &Embedder,
    asked: &Question,
    kept: Vec<Arc<Question>>,
    deadline: Option<Instant>,
) -> Result<Vec<(f32, Arc<Question>)>, LlmError> {
    let new: Vec<&Arc<Question>> =
        kept.iter().filter(|kept| kept.vector.get().is_none()).take(EMBEDDED_AT_ONCE).collect();
    let texts = std::iter::once(&asked.text).chain(new.iter().map(|kept| &kept.text)).map(|text| text.to_string());
    let until = Instant::now() + EMBEDDING;
    let until = deadline.map_or(until, |deadline| deadline.min(until));
    let embedding = embedder.clone().oneshot(EmbedRequest::new(texts));
    let EmbedResponse { vectors, .. } = match timeout_at(until, embedding).await {
        Ok(embedded) => embedded?,
        Err(_) => return Err(LlmError::new(ErrorKind::Timeout, "the service of embeddings took too long")),
    };
    if vectors.len() != 1 + new.len() {
        return Err(LlmError::new(ErrorKind::Malformed, "there is not one embedding for each text"));
    }
    let mut vectors = vectors.into_iter().map(unit);
    let vector = vectors.next().unwrap_or_default();
    for (kept, vector) in new.into_iter().zip(vectors) {
        // A concurrent search may have set it already, to the same value.
        let _same = kept.vector.set(vector);
    }
    let compared = kept.into_iter().filter_map(|kept| {
        let similarity = dot(&vector, kept.vector.get()?);
        Some((similarity, kept))
    });
    Ok(compared.collect())
}

/// Scales a vector to length one.
fn unit(mut vector: Vec<f32>) -> Box<[f32]> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector.into()
}

/// Returns the cosine of unit vectors: 0 if they come from two models, or are no vectors at all.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    // Eight sums let the compiler add several numbers at once.
    let (mut lanes, (a, b)) = ([0.0; 8], (a.chunks_exact(8), b.chunks_exact(8)));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += x * y;
        }
    }
    let dot = lanes.iter().sum::<f32>() + rest;
    if dot.is_finite() { dot.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_the_cosine_whatever_the_length() {
        let a: Vec<f32> = (0..19).map(|x| x as f32).collect();
        let twice = a.iter().map(|x| x * 2.0).collect();
        assert!((dot(&unit(a.clone()), &unit(twice)) - 1.0).abs() < 1e-5);
        let mut across = vec![0.0; 19];
        across[0] = 7.0;
        assert_eq!(dot(&unit(a.clone()), &unit(across)), 0.0);
        assert_eq!(dot(&unit(a.iter().map(|x| -x).collect()), &unit(a)), 0.0, "the opposite is not alike");
    }

    #[test]
    fn what_is_no_vector_is_like_nothing() {
        assert_eq!(dot(&unit(vec![1.0]), &unit(vec![1.0, 0.0])), 0.0);
        assert_eq!(dot(&unit(vec![f32::NAN]), &unit(vec![1.0])), 0.0);
        assert_eq!(dot(&unit(vec![f32::INFINITY]), &unit(vec![f32::INFINITY])), 0.0);
        assert_eq!(dot(&unit(vec![0.0]), &unit(vec![1.0])), 0.0);
    }
}
