//! The settings of a layer, and the schema that a request names.

use std::{fmt, pin::Pin, sync::Arc};

use super::schema::{Schema, Schemas};
use crate::{Dialect, LlmError, LlmRequest, wire::offload};

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) reasks: u16,
    pub(super) repair: bool,
    pub(super) words: Arc<Words>,
    pub(super) schemas: Arc<Schemas>,
    pub(super) only: Option<Arc<Wanted>>,
}

/// The schema of a request.
pub(super) enum Lookup {
    Found(Arc<Schema>),
    Compilation(Work<Arc<Schema>>),
}

/// Work off the threads that serve requests.
pub(super) type Work<T> = Pin<Box<dyn Future<Output = Result<T, LlmError>> + Send>>;

type Wanted = dyn Fn(&LlmRequest) -> bool + Send + Sync;
type Words = dyn Fn(&str) -> String + Send + Sync;

/// The default of [`ValidateLayer::schema_capacity`].
const SCHEMAS: usize = 64;

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
