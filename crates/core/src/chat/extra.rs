use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Json, Part};
use crate::Dialect;

/// The fields that one dialect alone has for something common to all: a mark for its cache, a detail of a picture, a
/// setting.
///
/// A decoded request or answer keeps them beside the neutral form, so that encoding it again for the same dialect loses
/// nothing. Another dialect omits them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// The dialect that knows the fields.
    pub dialect: Dialect,
    /// The fields as on that dialect's wire: an object.
    pub fields: Json,
}

impl Extra {
    /// Creates the extra of `dialect`'s fields, which are an object.
    pub fn new(dialect: Dialect, fields: impl Into<Json>) -> Self {
        Self { dialect, fields: fields.into() }
    }
}

impl fmt::Debug for Extra {
    /// Writes the dialect and the length; the fields' names may be a caller's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extra").field("dialect", &self.dialect).field("fields", &self.fields).finish()
    }
}

/// The field for the stop text that ended an answer in OpenAI's dialect, by SGLang's name for it.
const MATCHED_STOP: &str = "matched_stop";

impl Part {
    /// Creates the extra of an answer that one of its stop texts has ended, in OpenAI's dialect.
    #[doc(hidden)]
    pub fn of_matched_stop(text: &str) -> Self {
        let fields = serde_json::json!({ MATCHED_STOP: text });
        Self::Extra { of: ExtraOf::Answer, extra: Extra::new(Dialect::OpenAi, fields) }
    }

    /// Returns the stop text that ended the answer, if the part says so.
    #[doc(hidden)]
    pub fn matched_stop(&self) -> Option<String> {
        let Self::Extra { of: ExtraOf::Answer, extra } = self else { return None };
        serde_json::from_str(extra.fields.get(MATCHED_STOP)?.get()).ok()
    }
}

/// The owner of the fields in a [`Part::Extra`](super::Part::Extra).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraOf {
    /// The part right before it.
    Part,
    /// The turn that contains it.
    Turn,
    /// The answer: sources, grounding and the like, which are for the reader and are never sent back.
    Answer,
}
