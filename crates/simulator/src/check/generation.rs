//! The differences between generations of Gemini in the requests that they refuse.
//!
//! Sources: Google's pages "Gemini thinking" (levels and budgets of each model), "Gemini 3", "Structured outputs",
//! "File input methods", "Image understanding" and the models' own, as of November 2026. The texts were recorded, or
//! reported in their users' issues (RooCodeInc/Roo-Code 4399 and 10700, googleapis/python-genai 867,
//! Ikalus1988/MisakaNet 1473, vellum-ai/vellum-assistant 32687).

use serde_json::Value;

use super::{
    CheckResult,
    gemini::{field, many},
    wrong,
};

#[derive(Clone, Copy)]
struct Generation {
    version: (u32, u32),
    is_pro: bool,
    is_lite: bool,
}

fn named(model: &str) -> Option<Generation> {
    let (_, name) = model.split_once("gemini-")?;
    // A name without a suffix behind its number is not a model's.
    let (version, _) = name.split_once('-')?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let version = (major.parse().ok()?, minor.parse().ok()?);
    Some(Generation { version, is_pro: name.contains("pro"), is_lite: name.contains("lite") })
}

pub(super) fn examine(model: &str, body: &Value) -> CheckResult {
    let Some(generation) = named(model) else { return Ok(()) };
    let Some(config) = field(body, "generationConfig") else { return Ok(()) };
    for name in ["presencePenalty", "frequencyPenalty"] {
        if generation.version >= (3, 5) && field(config, name).is_some_and(|value| value.as_f64() != Some(0.0)) {
            return Err(wrong("generationConfig", format!("Penalty is not enabled for models/{model}")));
        }
    }
    if generation.version >= (3, 0) && field(config, "responseLogprobs") == Some(&Value::Bool(true)) {
        return Err(wrong("generationConfig", format!("Logprobs is not enabled for models/{model}")));
    }
    let most: u64 = if generation.version < (2, 5) { 8_192 } else { 65_536 };
    if let Some(asked) =
        field(config, "maxOutputTokens").and_then(Value::as_u64).filter(|asked| !(1..=most).contains(asked))
    {
        let range = format!("the supported range is from 1 (inclusive) to {} (exclusive)", most + 1);
        let words = format!("Unable to submit request because it has a maxOutputTokens value of {asked} but {range}.");
        return Err(wrong("generationConfig", words));
    }
    let is_json = field(config, "responseMimeType").is_some_and(|kind| kind == "application/json");
    let functions = many(field(body, "tools")).any(|tool| many(field(tool, "functionDeclarations")).next().is_some());
    if is_json && generation.version < (3, 0) && many(field(body, "tools")).next().is_some() {
        let what = if functions { "Function calling" } else { "Tool use" };
        let words = format!("{what} with a response mime type: 'application/json' is unsupported");
        return Err(wrong("generationConfig", words));
    }
    match field(config, "thinkingConfig") {
        Some(thinking) => self::thinking(generation, model, thinking),
        None => Ok(()),
    }
}

fn thinking(generation: Generation, model: &str, thinking: &Value) -> CheckResult {
    let level = field(thinking, "thinkingLevel").and_then(Value::as_str).map(str::to_ascii_uppercase);
    let budget = field(thinking, "thinkingBudget").and_then(Value::as_i64);
    let asks = level.is_some() || budget.is_some_and(|budget| budget != 0);
    if generation.version < (2, 5) && asks {
        return Err(wrong("generationConfig", format!("Thinking is not enabled for models/{model}")));
    }
    if let Some(level) = level {
        if generation.version < (3, 0) {
            return Err(wrong("generationConfig", "Thinking level is not supported for this model."));
        }
        let known: &[&str] = match (generation.is_pro, generation.version) {
            (true, (3, 0)) => &["LOW", "HIGH"],
            (true, _) => &["LOW", "MEDIUM", "HIGH"],
            _ => &["MINIMAL", "LOW", "MEDIUM", "HIGH"],
        };
        if !known.contains(&&*level) {
            let words = "is not supported for this model. Please retry with other thinking level.";
            return Err(wrong("generationConfig", format!("Thinking level {level} {words}")));
        }
    }
    let Some(budget) = budget.filter(|budget| *budget != -1) else { return Ok(()) };
    let (least, most) = match generation {
        Generation { is_pro: true, .. } => (128, 32_768),
        Generation { is_lite: true, .. } => (512, 24_576),
        _ => (1, 24_576),
    };
    if budget == 0 && generation.is_pro {
        return Err(wrong("generationConfig", "Budget 0 is invalid. This model only works in thinking mode."));
    }
    if budget != 0 && !(least..=most).contains(&budget) {
        let words =
            format!("The thinking budget {budget} is invalid. Please choose a value between {least} and {most}.");
        return Err(wrong("generationConfig", words));
    }
    Ok(())
}
