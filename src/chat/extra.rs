use std::fmt;

use serde::{Deserialize, Serialize};

use super::Json;
use crate::Dialect;

/// What only one dialect knows of something that every dialect has: a mark for its cache, a detail of a picture, a
/// setting of its own.
///
/// A request or an answer that is decoded keeps it beside the neutral form, so that encoding it again for the same
/// dialect loses nothing. Another dialect leaves it out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// The dialect that knows it.
    pub dialect: Dialect,
    /// The fields as they stand on that dialect's wire: an object.
    pub fields: Json,
}

impl Extra {
    /// These fields of `dialect`, which are an object.
    pub fn new(dialect: Dialect, fields: impl Into<Json>) -> Self {
        Self { dialect, fields: fields.into() }
    }
}

impl fmt::Debug for Extra {
    /// The dialect and how much it is; the fields' names may be a caller's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extra").field("dialect", &self.dialect).field("fields", &self.fields).finish()
    }
}

/// Whose fields a [`Part::Extra`](super::Part::Extra) holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExtraOf {
    /// Of the part right before it.
    Part,
    /// Of the turn that it is in.
    Turn,
    /// Of the answer: sources, grounding and the like, which are for the reader and are never sent back.
    Answer,
}
