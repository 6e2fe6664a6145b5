//! The request features that a configuration's models support.

use std::fmt::Write;

use super::{Config, Provider, Tier, TierApi};
use steadfast::{
    InvalidConfig,
    models::{Facts, Family, FamilyTable},
    providers::servers::KnownServer,
};

/// The capabilities that a tier's model lacks according to the table, unless the file states otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingCapabilities {
    pub(crate) images: bool,
    pub(crate) documents: bool,
    pub(crate) tools: bool,
}

impl MissingCapabilities {
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

impl Tier {
    /// Returns the family of the tier's model, for providers whose parameters are translated.
    pub(crate) fn family<'a>(&self, families: &'a FamilyTable) -> Option<&'a Family> {
        let is_asked = matches!(self.provider, Provider::Anthropic | Provider::OpenAi | Provider::Gemini);
        self.model.as_deref().filter(|_| is_asked).map(|model| families.family(model))
    }

    /// Returns whether the tier goes on with an answer that broke: the file's `prefill`, or else what is known of its
    /// model and its server.
    pub(crate) fn goes_on(&self, families: &FamilyTable) -> bool {
        let is_known = || match self.provider {
            Provider::Anthropic => self.family(families).is_some_and(Family::prefill),
            Provider::Gemini | Provider::Simulated => true,
            Provider::OpenAi => {
                let server = self.base_url.as_deref().and_then(KnownServer::at);
                let speaks_chat = self.at.is_none() && self.api != Some(TierApi::Responses);
                speaks_chat && server.is_some_and(KnownServer::goes_on)
            }
            Provider::Cached | Provider::Canned | Provider::Handoff => false,
        };
        self.prefill.unwrap_or_else(is_known)
    }

    pub(crate) fn missing_capabilities(&self, families: &FamilyTable) -> MissingCapabilities {
        let Some(family) = self.family(families) else { return MissingCapabilities::default() };
        MissingCapabilities {
            images: !family.images() && self.images.is_none(),
            documents: !family.documents() && self.documents.is_none(),
            tools: !family.tools() && self.tools.is_none(),
        }
    }
}

impl Config {
    /// Returns the crate's table with the file's entries over it.
    ///
    /// # Errors
    ///
    /// A model resembles no known one, or a value makes no sense; the error names the field.
    pub(crate) fn family_table(&self) -> Result<FamilyTable, InvalidConfig> {
        let table = self.families.iter().try_fold(FamilyTable::builtin(), |table, (model, facts)| {
            let wrong = |error: InvalidConfig| {
                InvalidConfig::new(format!("families.{model}.{}", error.field()), error.problem().to_owned())
            };
            table.with(model.as_str(), facts.clone()).map_err(wrong)
        })?;
        // The ids of the file's own models have the facts of the model.
        let ids = self.same_model.iter().flat_map(|(model, ids)| ids.all().map(move |id| (model, id)));
        Ok(ids.fold(table, |table, (model, id)| {
            let is_said = self.families.contains_key(&id) || !table.family(&id).is_careful();
            let like = Facts { like: Some(model.clone()), ..Facts::default() };
            let with = if is_said { None } else { table.clone().with(id, like).ok() };
            with.unwrap_or(table)
        }))
    }

    /// Explains for each tier which request parameters its model accepts: the row by which parameters are translated
    /// ([`models`](steadfast::models)).
    ///
    /// ```
    /// use steadfast_stack::{Config, Format};
    ///
    /// let tiers = "tiers: [{ name: spare, provider: openai, model: gpt-4o }]";
    /// let text = Config::from_str(tiers, Format::Yaml).unwrap().explain_models();
    /// assert!(text.contains("spare: gpt-4o\n") && text.contains("reasoning: none on request"), "{text}");
    /// ```
    pub fn explain_models(&self) -> String {
        let families = self.family_table().unwrap_or_default();
        let mut text = String::new();
        for tier in &self.tiers {
            let (Some(model), Some(family)) = (&tier.model, tier.family(&families)) else { continue };
            // Writing to a string cannot fail.
            let _ = write!(text, "{}: {model}", tier.name);
            let _ = match family.is_careful() {
                true => writeln!(text, ", which is not known: taken as `{}`, carefully", family.name()),
                false if family.name() == model => writeln!(text),
                false => writeln!(text, ", of the family {}", family.name()),
            };
            for line in family.to_string().lines() {
                let _ = writeln!(text, "  {line}");
            }
            if let Some(tokens) = tier.max_output {
                let _ = writeln!(text, "  where a caller sets no limit: {tokens} tokens, by the file");
            }
        }
        text
    }
}
