//! The names of tools and the ids of calls in the form that Converse takes: 1 to 64 letters, digits, `_` and `-`.
//! Messages has names of 128, and calls of other providers have ids of any form.
//!
//! Source: `ToolSpecification.name` and `ToolUseBlock.toolUseId` of "Amazon Bedrock API Reference".

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use super::{fields::text, writer::Writer};
use crate::{
    Dialect,
    translate::{Names, OtherNames, Target, fit_id, id_fits, is_plain_name},
};

/// The tools of a request that Converse gets under other names. An answer has them under their own again.
#[derive(Clone, Debug, Default)]
pub struct ToolNames(Names);

impl ToolNames {
    /// Returns the tool's own name, if it was sent under this other one.
    pub(super) fn own(&self, sent: &str) -> Option<&str> {
        self.0.own(sent)
    }

    /// Returns true if every tool goes under its own name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names of a request as Converse gets them.
#[derive(Default)]
pub(super) struct SentNames(OtherNames);

impl SentNames {
    /// Creates them for these tools.
    pub(super) fn beside<'a>(declared: impl Iterator<Item = Cow<'a, str>>) -> Self {
        let taken: HashSet<String> = declared.filter(|name| is_plain_name(name)).map(Cow::into_owned).collect();
        Self(OtherNames::beside(taken))
    }

    /// Returns a tool's name as Converse gets it.
    pub(super) fn of<'a>(&'a mut self, name: &'a str) -> &'a str {
        if is_plain_name(name) { name } else { self.0.of(name) }
    }

    pub(super) fn finish(self) -> ToolNames {
        ToolNames(self.0.finish())
    }
}

/// Writes the id of a call or of its result: as it is spelled, if Converse takes it.
pub(super) fn id(out: &mut Writer, raw: &RawValue) {
    let target = Target::new(Dialect::Anthropic);
    let spelled = raw.get().trim_matches('"');
    match id_fits(spelled, target) {
        true => out.raw(raw),
        false => out.text(&fit_id(&text(raw).unwrap_or_else(|| spelled.into()), target)),
    };
}
