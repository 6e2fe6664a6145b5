//! A family's facts, resolved.

use std::{fmt, sync::Arc};

use super::{Budget, Facts, ForcedTools, ReasoningOff, Sampling};
use crate::chat::Effort;

/// The facts of a family of models about requests. Clones share them.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub(super) name: Arc<str>,
    pub(super) careful: bool,
    pub(super) facts: Arc<Facts>,
}

impl Family {
    /// Returns true if both are the same row.
    #[doc(hidden)]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.facts, &other.facts)
    }

    /// Returns the family's name in the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if the table does not know the model itself, and the facts are a careful default.
    pub fn is_careful(&self) -> bool {
        self.careful
    }

    /// Returns the sampling settings that it takes.
    pub fn sampling(&self) -> Sampling {
        self.facts.sampling.unwrap_or(Sampling::Both)
    }

    /// Returns true if it takes sampling settings while it reasons.
    pub fn samples_while_reasoning(&self) -> bool {
        self.facts.sampling_with_reasoning.unwrap_or(true)
    }

    /// Returns true if it takes presence and frequency penalties.
    pub fn penalties(&self) -> bool {
        self.facts.penalties.unwrap_or(true)
    }

    /// Returns the number of stop texts that it takes, if it takes fewer than its provider allows.
    pub fn stops(&self) -> Option<usize> {
        self.facts.stops
    }

    /// Returns true if it takes the wish for a short or a long answer (`verbosity`).
    pub fn verbosity(&self) -> bool {
        self.facts.verbosity.unwrap_or(true)
    }

    /// Returns true if it takes its limit in Chat Completions as `max_completion_tokens` alone, at any server.
    pub fn completion_limit(&self) -> bool {
        self.facts.completion_limit.unwrap_or(false)
    }

    /// Returns true if it can be limited to one tool call at a time.
    pub fn parallel_tool_calls(&self) -> bool {
        self.facts.parallel_tool_calls.unwrap_or(true)
    }

    /// Returns true if it can reason.
    pub fn reasons(&self) -> bool {
        !self.efforts().is_empty() || self.budget().is_some() || self.is_adaptive() || self.reasons_by_default()
    }

    /// Returns the efforts or levels that it has, from the least.
    pub fn efforts(&self) -> &[Effort] {
        self.facts.efforts.as_deref().unwrap_or_default()
    }

    /// Returns the effort nearest to this one: the largest that is not above it, else the least.
    pub fn nearest(&self, effort: Effort) -> Option<Effort> {
        let efforts = self.efforts();
        efforts.iter().rfind(|own| **own <= effort).or_else(|| efforts.first()).copied()
    }

    /// Returns the token budgets that it takes.
    pub fn budget(&self) -> Option<Budget> {
        self.facts.budget
    }

    /// Returns true if it can decide on the amount of reasoning by itself.
    pub fn is_adaptive(&self) -> bool {
        self.facts.adaptive.unwrap_or(false)
    }

    /// Returns the provider's form for no reasoning.
    pub fn off(&self) -> ReasoningOff {
        self.facts.off.unwrap_or(ReasoningOff::Unsaid)
    }

    /// Returns true if it reasons without being asked to.
    pub fn reasons_by_default(&self) -> bool {
        self.facts.reasons_by_default.unwrap_or(false)
    }

    /// Returns true if its thoughts may only go back to the same model.
    pub fn binds_thoughts(&self) -> bool {
        self.facts.bound_thoughts.unwrap_or(false)
    }

    /// Returns its support for forced tool calls.
    pub fn forced_tools(&self) -> ForcedTools {
        self.facts.forced_tools.unwrap_or(ForcedTools::Yes)
    }

    /// Returns true if it takes tools while it reasons.
    pub fn tools_with_reasoning(&self) -> bool {
        self.facts.tools_with_reasoning.unwrap_or(true)
    }

    /// Returns true if it continues an answer that the request has begun.
    pub fn prefill(&self) -> bool {
        self.facts.prefill.unwrap_or(true)
    }

    /// Returns true if it can be held to a JSON Schema.
    pub fn output_schema(&self) -> bool {
        self.facts.output_schema.unwrap_or(true)
    }

    /// Returns true if it can be held to JSON while it has tools.
    pub fn json_with_tools(&self) -> bool {
        self.facts.json_with_tools.unwrap_or(true)
    }

    /// Returns true if it accepts pictures.
    pub fn images(&self) -> bool {
        self.facts.images.unwrap_or(true)
    }

    /// Returns true if it reads documents.
    pub fn documents(&self) -> bool {
        self.facts.documents.unwrap_or(true)
    }

    /// Returns true if it calls tools.
    pub fn tools(&self) -> bool {
        self.facts.tools.unwrap_or(true)
    }

    /// Returns true if its provider fetches pictures from web addresses.
    pub fn image_urls(&self) -> bool {
        self.facts.image_urls.unwrap_or(true)
    }

    /// Returns true if its provider fetches documents from web addresses.
    pub fn document_urls(&self) -> bool {
        self.facts.document_urls.unwrap_or(true)
    }

    /// Returns true if it takes pictures of this media type.
    pub fn takes_image(&self, media_type: &str) -> bool {
        self.image_types().iter().any(|known| known == media_type)
    }

    /// Returns the media types of the pictures that it takes.
    pub fn image_types(&self) -> &[String] {
        self.facts.image_types.as_deref().unwrap_or_default()
    }

    /// Returns the longest answer in tokens, thoughts included, if known.
    pub fn max_output(&self) -> Option<u32> {
        self.facts.max_output
    }
}

impl fmt::Display for Family {
    /// Writes the row of the table, in lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sampling = match self.sampling() {
            Sampling::Both => "temperature and top_p",
            Sampling::One => "temperature or top_p",
            Sampling::None => "none",
        };
        write!(f, "sampling: {sampling}")?;
        if self.sampling() != Sampling::None && !self.samples_while_reasoning() {
            f.write_str(", none while it reasons")?;
        }
        f.write_str(if self.penalties() { "; penalties" } else { "; no penalties" })?;
        match self.stops() {
            Some(0) => f.write_str("; no stop texts")?,
            Some(stops) => write!(f, "; at most {stops} stop texts")?,
            None => {}
        }
        if !self.verbosity() {
            f.write_str("; no verbosity")?;
        }
        f.write_str("\nreasoning: ")?;
        if self.reasons() {
            self.reasoning(f)?;
        } else {
            f.write_str("none on request")?;
        }
        f.write_str("\ntools: ")?;
        f.write_str(match (self.tools(), self.forced_tools()) {
            (false, _) => "none",
            (true, ForcedTools::Yes) => "forced or not",
            (true, ForcedTools::WithoutReasoning) => "forced only without reasoning",
            (true, ForcedTools::No) => "never forced",
        })?;
        if self.tools() && !self.tools_with_reasoning() {
            f.write_str(", none while it reasons")?;
        }
        if self.tools() && !self.parallel_tool_calls() {
            f.write_str(", no limit to one call")?;
        }
        f.write_str("\noutput: ")?;
        match self.max_output() {
            Some(tokens) => write!(f, "at most {tokens} tokens")?,
            None => f.write_str("no limit known")?,
        }
        f.write_str(match (self.output_schema(), self.json_with_tools()) {
            (true, true) => "; JSON by a schema, beside tools too",
            (true, false) => "; JSON by a schema, not beside tools",
            (false, _) => "; no schema",
        })?;
        f.write_str(if self.prefill() { "; continues a begun answer" } else { "; no begun answer" })?;
        f.write_str("\ninput: ")?;
        if self.images() {
            let types: Vec<&str> = self.image_types().iter().map(|kind| kind.trim_start_matches("image/")).collect();
            write!(f, "pictures ({})", types.join(", "))?;
            f.write_str(if self.image_urls() { ", also by address" } else { ", not by address" })?;
        } else {
            f.write_str("no pictures")?;
        }
        f.write_str(match (self.documents(), self.document_urls()) {
            (true, true) => "; documents, also by address",
            (true, false) => "; documents, not by address",
            (false, _) => "; no documents",
        })
    }
}

impl Family {
    fn reasoning(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways = Vec::new();
        if !self.efforts().is_empty() {
            let names: Vec<&str> = self.efforts().iter().map(|effort| effort.name()).collect();
            ways.push(format!("by effort ({})", names.join(", ")));
        }
        match self.budget() {
            Some(Budget { least, most: Some(most) }) => ways.push(format!("by budget ({least} to {most} tokens)")),
            Some(Budget { least, most: None }) => ways.push(format!("by budget (from {least} tokens)")),
            None => {}
        }
        if self.is_adaptive() {
            ways.push("as much as it decides".to_owned());
        }
        if ways.is_empty() {
            ways.push("in its own way".to_owned());
        }
        f.write_str(&ways.join(", "))?;
        f.write_str(if self.reasons_by_default() { "; by default; off: " } else { "; only on request; off: " })?;
        f.write_str(match self.off() {
            ReasoningOff::Disabled => "`disabled`",
            ReasoningOff::BetweenTools => "`between_tools`, the least",
            ReasoningOff::None => "`none`",
            ReasoningOff::Zero => "a budget of 0",
            ReasoningOff::Least => "never; the least is requested",
            ReasoningOff::Unsaid => "by omission",
        })
    }
}

/// Returns the generation of a Gemini model: the number after `gemini-`; zero for other models.
#[doc(hidden)]
pub fn gemini_generation(model: &str) -> u32 {
    let after = model.split("gemini-").nth(1).unwrap_or_default();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().unwrap_or(0)
}
