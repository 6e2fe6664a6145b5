use std::sync::Arc;

use tower::Layer;

use super::{Validate, schema::Schemas, settings::Settings};
use crate::LlmRequest;

/// Applies [`Validate`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the compiled schemas.
#[derive(Clone, Debug, Default)]
pub struct ValidateLayer {
    settings: Arc<Settings>,
}

impl ValidateLayer {
    /// Creates a layer that repairs cheaply, and asks again once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how often a model is asked again after an answer of a wrong shape. Default: 1. With 0 a wrong answer is
    /// an error at once, and a fallback asks another model.
    #[must_use]
    pub fn reasks(mut self, times: u16) -> Self {
        self.change().reasks = times;
        self
    }

    /// Sets whether a cheap repair is tried. Default: yes.
    #[must_use]
    pub fn repair(mut self, repair: bool) -> Self {
        self.change().repair = repair;
        self
    }

    /// Checks only the answers to these requests, such as those of a feature. Default: all.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&LlmRequest) -> bool + Send + Sync + 'static) -> Self {
        self.change().only = Some(Arc::new(wanted));
        self
    }

    /// Sets the turn that asks the model again. The function gets the errors in the answer, a few lines of English,
    /// and returns the whole turn. Default: these lines, and that only the corrected JSON is wanted.
    #[must_use]
    pub fn words(mut self, words: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.change().words = Arc::new(words);
        self
    }

    /// Sets how many compiled schemas are kept; the least recently used go first. Default: 64. With 0 each request
    /// compiles its own.
    #[must_use]
    pub fn schema_capacity(mut self, schemas: usize) -> Self {
        self.change().schemas = Arc::new(Schemas::new(schemas));
        self
    }

    fn change(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S> Layer<S> for ValidateLayer {
    type Service = Validate<S>;

    fn layer(&self, inner: S) -> Validate<S> {
        Validate::new(inner, self.settings.clone())
    }
}
