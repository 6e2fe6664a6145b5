use std::{fmt, pin::Pin, sync::Arc};

use tower::Layer;

use super::{
    Validate,
    schema::{Schema, Schemas},
};
use crate::{Dialect, LlmError, LlmRequest, wire::offload};

/// Applies [`Validate`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the compiled schemas.
#[derive(Clone, Debug, Default)]
pub struct ValidateLayer {
    settings: Arc<Settings>,
}

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) reasks: u16,
    pub(super) repair: bool,
    words: Arc<Words>,
    schemas: Arc<Schemas>,
    only: Option<Arc<Wanted>>,
}

/// Work off the threads that serve requests.
pub(super) type Work<T> = Pin<Box<dyn Future<Output = Result<T, LlmError>> + Send>>;

/// The schema of a request.
pub(super) enum Lookup {
    Found(Arc<Schema>),
    Compilation(Work<Arc<Schema>>),
}

type Wanted = dyn Fn(&LlmRequest) -> bool + Send + Sync;
type Words = dyn Fn(&str) -> String + Send + Sync;

/// The default of [`ValidateLayer::schema_capacity`].
const SCHEMAS: usize = 64;

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

impl Settings {
    /// Returns the schema that the answer must meet, or `None` if the request sets none.
    pub(super) fn schema(&self, request: &LlmRequest) -> Result<Option<Lookup>, LlmError> {
        let is_wanted = self.only.as_ref().is_none_or(|wanted| wanted(request));
        if !is_wanted || !may_name_a_schema(request) {
            return Ok(None);
        }
        let Some(output) = &request.chat()?.output else { return Ok(None) };
        if let Some(schema) = self.schemas.get(output)? {
            return Ok(Some(Lookup::Found(schema)));
        }
        let (schemas, output) = (self.schemas.clone(), output.clone());
        let compile = offload(request.context().deadline, move |_| schemas.compile(&output));
        Ok(Some(Lookup::Compilation(Box::pin(compile))))
    }

    /// Returns the turn that asks again.
    pub(super) fn ask_again(&self, wrong: &str) -> String {
        (self.words)(wrong)
    }
}

/// Returns whether the request is worth decoding: in each dialect, a request with a schema must contain a certain
/// field name.
fn may_name_a_schema(request: &LlmRequest) -> bool {
    let Some(wire) = request.wire() else { return true };
    let words: &[&str] = match wire.dialect() {
        Dialect::Anthropic => &["output_config"],
        Dialect::OpenAi => &["response_format"],
        Dialect::Responses => &["json_schema", "json_object"],
        Dialect::Gemini => {
            &["responseJsonSchema", "response_json_schema", "responseSchema", "response_schema", "application/json"]
        }
    };
    words.iter().any(|word| memchr::memmem::find(wire.body(), word.as_bytes()).is_some())
}

impl Default for Settings {
    fn default() -> Self {
        let words = |wrong: &str| {
            format!(
                "That answer does not have the required shape. {wrong}\n\
                 Answer again with the corrected JSON only: no explanation, no code fence."
            )
        };
        Self { reasks: 1, repair: true, words: Arc::new(words), schemas: Arc::new(Schemas::new(SCHEMAS)), only: None }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("reasks", &self.reasks)
            .field("repair", &self.repair)
            .field("schemas", &self.schemas)
            .finish_non_exhaustive()
    }
}
