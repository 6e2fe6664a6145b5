//! Fits the settings of a request to the target's model, by the facts of its family. Settings that it refuses are left
//! out, others take its spelling, and each change is reported.

use super::report::Report;
use crate::{
    Dialect,
    chat::{Chat, Effort, OutputSchema, Thinking, ToolChoice},
    models::{self, Budget, Family, ForcedTools, ReasoningOff, Sampling},
    translate::{ASK_FOR_JSON, rules::Feature},
};

/// The facts of the conversation that matter for its settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Situation {
    /// True if there are tools.
    pub(crate) has_tools: bool,
    /// True if the last turn is the model's, for it to continue.
    pub(crate) is_begun: bool,
    /// True if it ends with results of tools that were called without a thought of the target's.
    pub(crate) is_thoughtless: bool,
    /// The longest answer if the request names none; `None` if the provider has a default of its own.
    pub(crate) default_output: Option<u32>,
    /// True if the API takes no sampling settings for any model.
    pub(crate) refuses_sampling: bool,
}

/// The settings that the model gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) reasoning: Reasoning,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    /// True if the model takes other settings of that kind.
    pub(crate) samples: bool,
    /// The number of stop texts that it takes.
    pub(crate) stops: usize,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) max_tokens: Option<u32>,
    /// True if the shape of the output has its own field.
    pub(crate) holds_output: bool,
    /// The request in words instead.
    pub(crate) in_words: Option<String>,
}

/// The amount of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reasoning {
    /// The field is omitted.
    Unsaid,
    Off(ReasoningOff),
    /// The model's own amount, with its thoughts in the answer.
    Own,
    /// The amount that the model decides, at an effort.
    Adaptive(Option<Effort>),
    Effort(Effort),
    Budget(u32),
}

impl Reasoning {
    /// Returns OpenAI's word for the effort, if there is one.
    pub(crate) fn effort_word(self) -> Option<&'static str> {
        match self {
            Self::Off(ReasoningOff::None) => Some("none"),
            Self::Effort(effort) => Some(effort.name()),
            // Other models' forms have no place in OpenAI's dialects.
            Self::Off(_) | Self::Unsaid | Self::Own | Self::Adaptive(_) | Self::Budget(_) => None,
        }
    }
}

impl Settings {
    /// Keeps the tools and the output as the caller of this dialect wrote them.
    pub(crate) fn keep(&mut self, asked: &Chat, report: &mut Report) {
        report.withdraw(&[Feature::ForcedTool, Feature::JsonInWords]);
        self.tool_choice.clone_from(&asked.tool_choice);
        (self.in_words, self.holds_output) = (None, true);
    }

    /// Returns the system prompt with the requests in words behind it.
    pub(crate) fn with_words(&self, system: Option<&str>) -> Option<String> {
        let words = self.in_words.as_deref()?;
        Some(
            system
                .filter(|system| !system.trim().is_empty())
                .map_or_else(|| words.to_owned(), |system| format!("{system}\n\n{words}")),
        )
    }
}

/// Fits the settings of `asked` to a model of this family.
pub(crate) fn settle(asked: &Chat, at: Situation, family: &Family, report: &mut Report) -> Settings {
    let mut words: Vec<String> = Vec::new();
    let tool_choice = tool_choice(asked, at, family, report, &mut words);
    let max_tokens = longest(asked, at, family, report);
    let is_forced = is_forced(tool_choice.as_ref()) && at.has_tools;
    let reasoning = reasoning(asked, at, family, is_forced, max_tokens, report);
    let (temperature, top_p, samples) = sampling(asked, at, family, reasoning, report);
    let stops = family.stops().unwrap_or(usize::MAX);
    if asked.stop.len() > stops && report.target() != Dialect::Responses {
        report.record_field(Feature::ModelSetting, "stop");
    }
    let single = asked.parallel_tool_calls.filter(|_| family.parallel_tool_calls());
    if asked.parallel_tool_calls == Some(false) && single.is_none() && at.has_tools {
        report.record_field(Feature::ModelSetting, "parallel_tool_calls");
    }
    let holds_output = match &asked.output {
        None => true,
        Some(output) => {
            (family.json_with_tools() || !at.has_tools) && (family.output_schema() || output.schema.is_none())
        }
    };
    if !holds_output && let Some(output) = &asked.output {
        report.record(Feature::JsonInWords);
        words.push(json_words(output));
    }
    let in_words = (!words.is_empty()).then(|| words.join("\n\n"));
    let parallel_tool_calls = single;
    Settings {
        reasoning,
        temperature,
        top_p,
        samples,
        stops,
        tool_choice,
        parallel_tool_calls,
        max_tokens,
        holds_output,
        in_words,
    }
}

fn json_words(output: &OutputSchema) -> String {
    match &output.schema {
        None => ASK_FOR_JSON.to_owned(),
        Some(schema) => format!("{ASK_FOR_JSON} It follows this JSON Schema: {}", schema.as_str()),
    }
}

fn is_forced(choice: Option<&ToolChoice>) -> bool {
    matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
}

fn tool_choice(
    asked: &Chat,
    at: Situation,
    family: &Family,
    report: &mut Report,
    words: &mut Vec<String>,
) -> Option<ToolChoice> {
    let choice = asked.tool_choice.clone();
    if family.forced_tools() != ForcedTools::No || !at.has_tools || !is_forced(choice.as_ref()) {
        return choice;
    }
    report.record(Feature::ForcedTool);
    words.push(match choice {
        Some(ToolChoice::Named(name)) => format!("Answer with a call of the tool `{name}`."),
        _ => "Answer with a call of one of the tools.".to_owned(),
    });
    Some(ToolChoice::Auto)
}

/// Returns the longest answer, which includes the thoughts.
fn longest(asked: &Chat, at: Situation, family: &Family, report: &mut Report) -> Option<u32> {
    let most = family.max_output();
    let tokens = match (asked.max_tokens, most) {
        (Some(asked), Some(most)) if asked > most => Some(most),
        (Some(asked), _) => return Some(asked),
        (None, _) => at.default_output,
    };
    if let Some(tokens) = tokens {
        report.record_field(Feature::MaxOutput, format!("{tokens} tokens"));
    }
    tokens
}

/// The medium rung, for a model that requires an amount.
const SOME: Effort = Effort::Medium;

fn reasoning(
    asked: &Chat,
    at: Situation,
    family: &Family,
    is_forced: bool,
    max_tokens: Option<u32>,
    report: &mut Report,
) -> Reasoning {
    // A budget of zero means no thinking.
    let wish = asked.thinking.map(|wish| if wish == Thinking::Budget(0) { Thinking::Off } else { wish });
    let wanted = !matches!(wish, None | Some(Thinking::Off));
    if !family.reasons() {
        if wanted {
            report.record(Feature::ModelReasoning);
        }
        return Reasoning::Unsaid;
    }
    let amounts = Amounts::of(family, report.target(), max_tokens);
    let may_not = (is_forced && family.forced_tools() == ForcedTools::WithoutReasoning)
        || (at.has_tools && !family.tools_with_reasoning() && report.target() != Dialect::Responses)
        || (report.target() == Dialect::Anthropic && amounts.anthropic_refuses(at, wish));
    if may_not && (wanted || family.reasons_by_default()) {
        if wish != Some(Thinking::Off) {
            report.record(Feature::Thinking);
        }
        let must_say = family.reasons_by_default() || at.is_thoughtless;
        return match amounts.spelled_off() {
            ReasoningOff::Least | ReasoningOff::Unsaid => Reasoning::Unsaid,
            off if must_say || wish == Some(Thinking::Off) => Reasoning::Off(off),
            _ => Reasoning::Unsaid,
        };
    }
    match wish {
        None => Reasoning::Unsaid,
        Some(Thinking::Off) => amounts.off(report),
        Some(Thinking::Auto) => amounts.auto(report),
        Some(Thinking::Effort(effort)) => amounts.effort(effort, report),
        Some(Thinking::Budget(tokens)) => amounts.budget(tokens, report),
        Some(_) => amounts.auto(report),
    }
}

/// The amounts of reasoning that the dialect can express and the model takes.
struct Amounts<'a> {
    family: &'a Family,
    dialect: Dialect,
    efforts: bool,
    adaptive: bool,
    budget: Option<Budget>,
    /// The longest answer, thoughts included.
    max_tokens: Option<u32>,
}

impl<'a> Amounts<'a> {
    fn of(family: &'a Family, dialect: Dialect, max_tokens: Option<u32>) -> Self {
        // Each dialect can express only what it has a field for.
        let efforts = !family.efforts().is_empty() && (dialect != Dialect::Anthropic || family.is_adaptive());
        let adaptive = family.is_adaptive() && !dialect.is_openais();
        let budget = family.budget().filter(|_| !dialect.is_openais());
        Self { family, dialect, efforts, adaptive, budget, max_tokens }
    }

    /// Returns true if Anthropic refuses reasoning in this conversation.
    fn anthropic_refuses(&self, at: Situation, wish: Option<Thinking>) -> bool {
        let by_budget = !self.efforts || matches!(wish, Some(Thinking::Budget(_)));
        // From a model with budgets, the API requires its thought before a call, and room for both.
        let needs_thought = !self.adaptive || (by_budget && self.budget.is_some());
        let lacks_room = |budget: Budget| self.max_tokens.is_some_and(|tokens| tokens <= budget.least);
        (at.is_begun && self.family.prefill())
            || (at.is_thoughtless && needs_thought)
            || (by_budget && self.budget.is_some_and(lacks_room))
    }

    /// Turns reasoning off, or down to the least of a model that always reasons.
    fn off(&self, report: &mut Report) -> Reasoning {
        match self.spelled_off() {
            ReasoningOff::Unsaid => {
                if self.family.reasons_by_default() {
                    report.record(Feature::ThinkingOff);
                }
                Reasoning::Unsaid
            }
            ReasoningOff::Least => {
                report.record(Feature::ThinkingOff);
                match (self.efforts, self.within(0)) {
                    (true, _) => self.at_effort(Effort::Minimal),
                    (false, Some(least)) => Reasoning::Budget(least),
                    (false, None) => Reasoning::Unsaid,
                }
            }
            off => Reasoning::Off(off),
        }
    }

    /// Returns the form for no reasoning that the dialect can write.
    fn spelled_off(&self) -> ReasoningOff {
        let own = match self.dialect {
            // It has a place for each form.
            Dialect::Anthropic => return self.family.off(),
            Dialect::OpenAi | Dialect::Responses => ReasoningOff::None,
            Dialect::Gemini => ReasoningOff::Zero,
        };
        match self.family.off() {
            ReasoningOff::BetweenTools => ReasoningOff::Least,
            form @ (ReasoningOff::Least | ReasoningOff::Unsaid) => form,
            form if form == own || self.family.reasons_by_default() => own,
            _ => ReasoningOff::Unsaid,
        }
    }

    /// Leaves the amount to the model.
    fn auto(&self, report: &mut Report) -> Reasoning {
        if self.adaptive {
            return Reasoning::Adaptive(None);
        }
        if self.dialect != Dialect::Gemini {
            report.record(Feature::ThinkingAuto);
        }
        match self.within(self.tokens_of(SOME)) {
            _ if self.family.reasons_by_default() => Reasoning::Own,
            _ if self.efforts => self.at_effort(SOME),
            Some(tokens) => Reasoning::Budget(tokens),
            None => Reasoning::Own,
        }
    }

    fn effort(&self, effort: Effort, report: &mut Report) -> Reasoning {
        if self.efforts {
            if self.family.nearest(effort) != Some(effort) {
                report.record(Feature::ThinkingEffort);
            }
            return self.at_effort(effort);
        }
        report.record(Feature::ThinkingEffort);
        match self.within(self.tokens_of(effort)) {
            Some(tokens) => Reasoning::Budget(tokens),
            None if self.adaptive => Reasoning::Adaptive(None),
            None => Reasoning::Own,
        }
    }

    fn budget(&self, tokens: u32, report: &mut Report) -> Reasoning {
        let fitting = self.within(tokens);
        if fitting != Some(tokens) {
            report.record(Feature::ThinkingBudget);
        }
        match fitting {
            Some(fitting) => Reasoning::Budget(fitting),
            None if self.efforts => self.at_effort(models::effort_of(tokens)),
            None if self.adaptive => Reasoning::Adaptive(None),
            None => Reasoning::Own,
        }
    }

    /// Returns the nearest effort that the model takes, as the dialect writes it.
    fn at_effort(&self, effort: Effort) -> Reasoning {
        let effort = self.family.nearest(effort).unwrap_or(effort);
        if self.adaptive && self.dialect == Dialect::Anthropic {
            Reasoning::Adaptive(Some(effort))
        } else {
            Reasoning::Effort(effort)
        }
    }

    /// Returns the tokens of an effort, which reserves half of the answer for the text.
    fn tokens_of(&self, effort: Effort) -> u32 {
        let own = models::budget_of(effort);
        self.max_tokens.map_or(own, |tokens| own.min(tokens / 2))
    }

    /// Returns the nearest budget that the model takes and the answer has room for.
    fn within(&self, tokens: u32) -> Option<u32> {
        let Budget { least, most } = self.budget?;
        let room = self.max_tokens.map_or(u32::MAX, |tokens| tokens.saturating_sub(1));
        let most = most.unwrap_or(u32::MAX).min(room);
        Some(tokens.clamp(least, most.max(least)))
    }
}

fn sampling(
    asked: &Chat,
    at: Situation,
    family: &Family,
    reasoning: Reasoning,
    report: &mut Report,
) -> (Option<f64>, Option<f64>, bool) {
    let reasons = match reasoning {
        Reasoning::Unsaid => family.reasons_by_default(),
        Reasoning::Off(off) => off == ReasoningOff::BetweenTools,
        _ => true,
    };
    let samples =
        family.sampling() != Sampling::None && !at.refuses_sampling && (family.samples_while_reasoning() || !reasons);
    let (mut temperature, mut top_p) = (asked.temperature, asked.top_p);
    if !samples {
        // One is the default of both, so that dropping it loses nothing.
        if [temperature, top_p].into_iter().flatten().any(|value| value != 1.0) {
            report.record(Feature::Sampling);
        }
        (temperature, top_p) = (None, None);
    }
    if family.sampling() == Sampling::One && temperature.is_some() && top_p.is_some() {
        if top_p != Some(1.0) {
            report.record(Feature::Sampling);
        }
        top_p = None;
    }
    let hottest = if report.target() == Dialect::Anthropic { 1.0 } else { 2.0 };
    if let Some(asked) = &mut temperature
        && !(0.0..=hottest).contains(asked)
    {
        report.record(Feature::Temperature);
        *asked = asked.clamp(0.0, hottest);
    }
    if !samples {
        report.drop_carried(&["top_k"]);
    }
    if !family.verbosity() {
        report.drop_carried(&["verbosity", "text.verbosity"]);
    }
    if !family.penalties() {
        report.drop_carried(&["presence_penalty", "frequency_penalty", "presencePenalty", "frequencyPenalty"]);
    }
    (temperature, top_p, samples)
}
