//! A compiled schema, and its verdict on an answer.

use std::{fmt, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::repair;
use crate::{
    ErrorKind, LlmError,
    chat::OutputSchema,
    internal::sync::{Mutex, MutexGuard, lock},
    layers::recent::Recent,
};

/// The compiled schema of an answer.
pub(super) struct Schema {
    /// `None` if any JSON will do.
    validator: Option<Validator>,
}

/// A schema's verdict on an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The answer has the shape as it stands.
    Fits,
    /// A piece of the answer has the shape.
    Repaired { text: String, how: &'static str },
    /// The answer does not have the shape.
    Mismatch(Mismatch),
}

/// The errors in an answer.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The text for the model that gave it.
    pub(super) for_model: String,
    /// The text for an operator, without any part of the answer.
    pub(super) for_operator: String,
}

/// The limits on the errors reported to a model at once, in number and in characters.
const PROBLEMS: usize = 5;
const CHARACTERS: usize = 2000;
/// The steps that a pattern with look-around may take: about a millisecond. Patterns without take linear time.
const BACKTRACKS: usize = 100_000;

impl Schema {
    fn compile(schema: Option<&Value>) -> Result<Self, LlmError> {
        let Some(schema) = schema else { return Ok(Self { validator: None }) };
        let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS);
        // Nothing is fetched: a schema that refers to another document is invalid here.
        let compiled = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
        match compiled {
            Ok(validator) => Ok(Self { validator: Some(validator) }),
            Err(error) => {
                let message = format!("the output schema cannot be checked: {}", shortened(error.masked().to_string()));
                Err(LlmError::new(ErrorKind::InvalidRequest, message))
            }
        }
    }

    /// Returns whether the answer has the shape, or has it once repaired.
    pub(super) fn check(&self, answer: &str, repair: bool) -> Verdict {
        // Never repair valid JSON: its strings may contain anything.
        let error = match serde_json::from_str(answer) {
            Ok(value) => return self.wrong(&value).map_or(Verdict::Fits, Verdict::Mismatch),
            Err(error) => error,
        };
        let mut wrong = None;
        for found in repair.then(|| repair::find(answer)).into_iter().flatten() {
            match self.wrong(&found.value) {
                None => return Verdict::Repaired { text: found.text.into_owned(), how: found.how },
                Some(problem) => _ = wrong.get_or_insert(problem),
            }
        }
        Verdict::Mismatch(wrong.unwrap_or_else(|| Mismatch {
            for_model: format!("It is not JSON: {error}."),
            for_operator: "the answer is not JSON".to_owned(),
        }))
    }

    fn wrong(&self, value: &Value) -> Option<Mismatch> {
        let validator = self.validator.as_ref().filter(|validator| !validator.is_valid(value))?;
        let mut told = String::from("It does not match the JSON Schema:");
        let mut said = None;
        for error in validator.iter_errors(value).take(PROBLEMS) {
            let (at, problem) = (error.instance_path().to_string(), error.masked_with("the value").to_string());
            let at = if at.is_empty() { "the top" } else { &at };
            told.push_str(&format!("\n- at {at}: {problem}"));
            said.get_or_insert_with(|| format!("the answer does not meet `{}` of the schema", error.schema_path()));
        }
        let said = said.unwrap_or_else(|| "the answer does not meet the schema".to_owned());
        Some(Mismatch { for_model: shortened(told), for_operator: said })
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The most recently used compiled schemas.
pub(super) struct Schemas {
    compiled: Mutex<Recent<Value, Arc<Schema>>>,
    any: Arc<Schema>,
}

impl Schemas {
    pub(super) fn new(capacity: usize) -> Self {
        Self { compiled: Mutex::new(Recent::new(capacity)), any: Arc::new(Schema { validator: None }) }
    }

    /// Returns the schema, compiled now if it is not cached.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidRequest`] if it is no schema, or refers to another document.
    pub(super) fn get(&self, output: &OutputSchema) -> Result<Arc<Schema>, LlmError> {
        let Some(schema) = &output.schema else { return Ok(self.any.clone()) };
        let wrong = |error: serde_json::Error| {
            LlmError::new(ErrorKind::InvalidRequest, "the output schema cannot be read").with_source(error)
        };
        let schema = schema.value().map_err(wrong)?;
        if let Some(compiled) = self.compiled().get(&schema) {
            return Ok(compiled);
        }
        // Compile without the lock: another request with the same new schema compiles it too, and no request waits.
        let compiled = Arc::new(Schema::compile(Some(&schema))?);
        self.compiled().insert(schema, compiled.clone());
        Ok(compiled)
    }

    fn compiled(&self) -> MutexGuard<'_, Recent<Value, Arc<Schema>>> {
        lock(&self.compiled)
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(schema: Value) -> Schema {
        Schema::compile(Some(&schema)).unwrap()
    }

    fn person() -> Schema {
        schema(json!({
            "type": "object",
            "properties": { "name": { "type": "string" }, "age": { "type": "integer", "minimum": 0 } },
            "required": ["name", "age"],
            "additionalProperties": false,
        }))
    }

    #[test]
    fn the_model_is_told_each_problem_and_the_operator_none_of_the_answer() {
        let answer = r#"{"name": "Ada Lovelace", "age": "thirty", "secret": 1}"#;
        let Verdict::Mismatch(wrong) = person().check(answer, true) else { panic!("it is wrong") };
        assert!(wrong.for_model.contains("at /age: the value is not of type \"integer\""), "{}", wrong.for_model);
        assert!(wrong.for_model.contains("secret"), "{}", wrong.for_model);
        assert!(!wrong.for_model.contains("thirty"), "it knows what it said");
        for word in ["Ada", "thirty", "secret"] {
            assert!(!wrong.for_operator.contains(word), "{}", wrong.for_operator);
        }
    }

    #[test]
    fn the_first_json_that_fits_is_taken_out_of_a_text() {
        let answer = "An example is {\"name\": 1}. So:\n{\"name\": \"Ada\", \"age\": 36,}";
        let Verdict::Repaired { text, how } = person().check(answer, true) else { panic!("it is there") };
        assert_eq!((text.as_str(), how), ("{\"name\": \"Ada\", \"age\": 36}", "trailing commas were removed"));
        assert!(matches!(person().check(answer, false), Verdict::Mismatch(_)));
    }

    #[test]
    fn valid_json_of_another_shape_is_not_repaired() {
        // A text that contains an answer is still a text.
        let quoted = json!("```json\n{\"name\": \"Ada\", \"age\": 36}\n```").to_string();
        let wrapped = r#"{"person": {"name": "Ada", "age": 36}}"#;
        for answer in [quoted.as_str(), wrapped] {
            assert!(matches!(person().check(answer, true), Verdict::Mismatch(_)), "{answer}");
        }
    }

    #[test]
    fn any_json_will_do_where_no_schema_is_named() {
        let any = Schema::compile(None).unwrap();
        assert!(matches!(any.check("[1]", true), Verdict::Fits));
        assert!(matches!(any.check("```json\n[1]\n```", true), Verdict::Repaired { .. }));
        assert!(matches!(any.check("one", true), Verdict::Mismatch(_)));
    }

    #[test]
    fn a_long_list_of_problems_is_shortened() {
        let answer = json!({ "x".repeat(100_000): 1 }).to_string();
        let Verdict::Mismatch(wrong) = person().check(&answer, true) else { panic!("it is wrong") };
        assert!(wrong.for_model.chars().count() <= CHARACTERS + 1);
    }

    #[test]
    fn what_is_no_schema_or_lies_elsewhere_is_the_callers_mistake() {
        for bad in [json!({ "type": "no such type" }), json!({ "$ref": "https://example.com/a.json" }), json!(7)] {
            let error = Schema::compile(Some(&bad)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{bad}");
            assert!(error.message().starts_with("the output schema"), "{error}");
        }
    }

    #[test]
    fn a_schema_is_compiled_once_and_the_cache_is_bounded() {
        let schemas = Schemas::new(4);
        let output =
            |n: usize| OutputSchema { name: "a".into(), schema: Some(json!({ "minimum": n }).into()), strict: true };
        let one = schemas.get(&output(1)).unwrap();
        assert!(Arc::ptr_eq(&one, &schemas.get(&output(1)).unwrap()));
        for n in 2..100 {
            schemas.get(&output(n)).unwrap();
        }
        assert!(!Arc::ptr_eq(&one, &schemas.get(&output(1)).unwrap()), "it was forgotten");
        assert_eq!(Arc::strong_count(&one), 1);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let circle = json!({ "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } });
        for circular in [
            json!({ "$ref": "#" }),
            json!({ "allOf": [{ "$ref": "#" }] }),
            json!({ "not": { "$ref": "#" } }),
            json!({ "anyOf": [{ "$ref": "#" }, { "type": "null" }] }),
            json!({ "$defs": circle, "$ref": "#/$defs/a" }),
            json!({ "$dynamicRef": "#a", "$dynamicAnchor": "a" }),
            json!({ "if": { "$ref": "#" }, "then": { "$ref": "#" } }),
            json!({ "properties": { "next": { "$ref": "#" } } }),
        ] {
            if let Ok(schema) = Schema::compile(Some(&circular)) {
                schema.check(r#"{"next": {"next": {}}}"#, true);
            }
        }
    }

    #[test]
    fn a_pattern_that_explodes_ends() {
        let schema = schema(json!({ "type": "string", "pattern": "^(?=(a+)+$)b" }));
        let answer = json!("a".repeat(60) + "!").to_string();
        assert!(matches!(schema.check(&answer, true), Verdict::Mismatch(_)));
    }
}
