//! A compiled schema, and its verdict on an answer.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::{
    cost::{self, Cost, Steps},
    options::options,
    problems, repair,
};
use crate::{
    ErrorKind, LlmError,
    chat::{Json, OutputSchema},
    internal::sync::{Mutex, MutexGuard, lock},
    recent::Recent,
};

/// The compiled schema of an answer.
pub(super) struct Schema {
    /// `None` if any JSON will do.
    shape: Option<Shape>,
}

struct Shape {
    validator: Validator,
    cost: Cost,
    whole: Value,
    /// Compiled at the first wrong answer.
    problems: OnceLock<Option<Validator>>,
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
/// The most steps in a check whose errors are all listed. A longer check tells the first one alone, since the list
/// takes memory for each.
const LISTED: u64 = 100_000;
/// The longest text of a schema, and the most work, that take less than a few milliseconds.
const SHORT: usize = 8 * 1024;
const SMALL: u64 = 20_000;
const QUICK: u64 = 500_000;
/// The largest schema that is kept once it is compiled: 10,000 values.
const KEPT: u64 = 500_000;

impl Schema {
    fn build(schema: &Value, cost: Cost) -> Result<Self, LlmError> {
        let validator = options().build(schema).map_err(|error| cannot_be_checked(error.masked().to_string()))?;
        let shape = Shape { validator, cost, whole: schema.clone(), problems: OnceLock::new() };
        Ok(Self { shape: Some(shape) })
    }

    /// Returns true if a check of this answer takes a moment only.
    pub(super) fn is_quick(&self, answer: &str) -> bool {
        let looks = self.shape.as_ref().map_or(1, |shape| shape.cost.looks);
        looks.saturating_mul(answer.len() as u64) <= QUICK
    }

    /// Returns whether the answer has the shape, or has it once repaired.
    pub(super) fn check(&self, answer: &str, repair: bool) -> Verdict {
        let mut steps = Steps::new();
        // Never repair valid JSON: its strings may contain anything.
        let error = match serde_json::from_str(answer) {
            Ok(value) => return self.wrong(&value, &mut steps).map_or(Verdict::Fits, Verdict::Mismatch),
            Err(error) => error,
        };
        let mut wrong = None;
        for found in repair.then(|| repair::find(answer)).into_iter().flatten() {
            match self.wrong(&found.value, &mut steps) {
                None => return Verdict::Repaired { text: found.text.into_owned(), how: found.how },
                Some(problem) => _ = wrong.get_or_insert(problem),
            }
        }
        Verdict::Mismatch(wrong.unwrap_or_else(|| Mismatch {
            for_model: format!("It is not JSON: {error}."),
            for_operator: "the answer is not JSON".to_owned(),
        }))
    }

    fn wrong(&self, value: &Value, steps: &mut Steps) -> Option<Mismatch> {
        let shape = self.shape.as_ref()?;
        let Some(taken) = steps.take(shape.cost.looks, value) else {
            return Some(Mismatch {
                for_model: "It has too many parts to be checked against the JSON Schema: give fewer.".to_owned(),
                for_operator: "the answer has too many parts for a check of a schema with so many alternatives"
                    .to_owned(),
            });
        };
        if shape.validator.is_valid(value) {
            return None;
        }
        let mut told = String::from("It does not match the JSON Schema:");
        let mut said = None;
        let mut tell = |error: ValidationError<'_>| {
            let (at, problem) = (error.instance_path().to_string(), error.masked_with("the value").to_string());
            let at = if at.is_empty() { "the top" } else { &at };
            told.push_str(&format!("\n- at {at}: {problem}"));
            said.get_or_insert_with(|| format!("the answer does not meet `{}` of the schema", error.schema_path()));
        };
        let compile = || problems::validator(&shape.whole, shape.cost.size);
        match shape.problems.get_or_init(compile) {
            Some(problems) if taken <= LISTED => problems.iter_errors(value).take(PROBLEMS).for_each(tell),
            Some(problems) => _ = problems.validate(value).map_err(&mut tell),
            None => {}
        }
        let said = said.unwrap_or_else(|| "the answer does not meet the schema".to_owned());
        Some(Mismatch { for_model: shortened(told), for_operator: said })
    }
}

fn cannot_be_checked(problem: String) -> LlmError {
    let message = format!("the output schema cannot be checked: {}", shortened(problem));
    LlmError::new(ErrorKind::InvalidRequest, message)
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
        Self { compiled: Mutex::new(Recent::new(capacity)), any: Arc::new(Schema { shape: None }) }
    }

    /// Returns the schema, compiled now if that takes a moment only; `None` if it takes longer.
    ///
    /// # Errors
    ///
    /// Fails as [`compile`](Self::compile) does.
    pub(super) fn get(&self, output: &OutputSchema) -> Result<Option<Arc<Schema>>, LlmError> {
        let Some(text) = &output.schema else { return Ok(Some(self.any.clone())) };
        if text.as_str().len() > SHORT {
            return Ok(None);
        }
        let schema = value(text)?;
        if let Some(compiled) = self.compiled().get(&schema) {
            return Ok(Some(compiled));
        }
        let cost = cost::of(&schema).map_err(cannot_be_checked)?;
        if cost.size > SMALL { Ok(None) } else { self.build(schema, cost).map(Some) }
    }

    /// Returns the schema, however long it takes to compile.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::InvalidRequest`] if it is no schema, refers to another document, or takes too long.
    pub(super) fn compile(&self, output: &OutputSchema) -> Result<Arc<Schema>, LlmError> {
        let Some(text) = &output.schema else { return Ok(self.any.clone()) };
        let schema = value(text)?;
        if let Some(compiled) = self.compiled().get(&schema) {
            return Ok(compiled);
        }
        let cost = cost::of(&schema).map_err(cannot_be_checked)?;
        self.build(schema, cost)
    }

    fn build(&self, schema: Value, cost: Cost) -> Result<Arc<Schema>, LlmError> {
        // Compile without the lock: another request with the same new schema compiles it too, and no request waits.
        let compiled = Arc::new(Schema::build(&schema, cost)?);
        if cost.size <= KEPT {
            self.compiled().insert(schema, compiled.clone());
        }
        Ok(compiled)
    }

    fn compiled(&self) -> MutexGuard<'_, Recent<Value, Arc<Schema>>> {
        lock(&self.compiled)
    }
}

fn value(text: &Json) -> Result<Value, LlmError> {
    text.value().map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, "the output schema cannot be read").with_source(error)
    })
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

    fn compile(schema: &Value) -> Result<Schema, LlmError> {
        Schema::build(schema, cost::of(schema).map_err(cannot_be_checked)?)
    }

    fn schema(schema: Value) -> Schema {
        compile(&schema).unwrap()
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
        let any = Schema { shape: None };
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
            let error = compile(&bad).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{bad}");
            assert!(error.message().starts_with("the output schema"), "{error}");
        }
    }

    #[test]
    fn a_schema_is_compiled_once_and_the_cache_is_bounded() {
        let schemas = Schemas::new(4);
        let output =
            |n: usize| OutputSchema { name: "a".into(), schema: Some(json!({ "minimum": n }).into()), strict: true };
        let one = schemas.get(&output(1)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &schemas.get(&output(1)).unwrap().unwrap()));
        for n in 2..100 {
            schemas.get(&output(n)).unwrap();
        }
        assert!(!Arc::ptr_eq(&one, &schemas.get(&output(1)).unwrap().unwrap()), "it was forgotten");
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
            if let Ok(schema) = compile(&circular) {
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

    /// A page as page builders have it: blocks of eight kinds within each other, and texts.
    fn page() -> Value {
        let block = |kind: &str| {
            let children = json!({ "type": "array", "items": { "$ref": "#/$defs/block" } });
            json!({ "type": "object", "properties": { "type": { "const": kind }, "children": children },
                "required": ["type", "children"] })
        };
        let mut kinds: Vec<Value> = "abcdefgh".chars().map(|kind| block(&kind.to_string())).collect();
        kinds.push(
            json!({ "type": "object", "properties": { "type": { "const": "text" }, "text": { "type": "string" } },
            "required": ["type", "text"] }),
        );
        json!({ "$defs": { "block": { "anyOf": kinds } }, "type": "object",
            "properties": { "title": { "type": "string" }, "body": { "$ref": "#/$defs/block" } }, "required": ["body"] })
    }

    fn nested(depth: usize, text: &Value) -> Value {
        (0..depth).fold(json!({ "type": "text", "text": text }), |inner, _| json!({ "type": "h", "children": [inner] }))
    }

    // A wrong leaf six deep took 8 GB, and ended the process.
    #[test]
    fn a_wrong_leaf_in_nested_alternatives_costs_what_a_right_one_does() {
        let schema = schema(page());
        for depth in [0, 3, 6, 12, 40] {
            let answer = |text: Value| json!({ "title": 7, "body": nested(depth, &text) }).to_string();
            let Verdict::Mismatch(wrong) = schema.check(&answer(json!(1)), true) else { panic!("it is wrong") };
            assert!(
                wrong.for_model.contains("- at /title: the value is not of type \"string\""),
                "{}",
                wrong.for_model
            );
            let place = "- at /body: the value does not match any of the 9 schemas in \"anyOf\"";
            assert!(wrong.for_model.contains(place), "{}", wrong.for_model);
            let right = json!({ "title": "t", "body": nested(depth, &json!("x")) }).to_string();
            assert!(matches!(schema.check(&right, true), Verdict::Fits));
        }
        // The schema of networknt/json-schema-validator#1276.
        let lists = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [
            { "type": "array", "items": { "$ref": "#/$defs/a" } }, { "type": "array", "items": { "$ref": "#/$defs/a" } },
            { "type": "integer" } ] } } });
        let deep = "[".repeat(60) + "\"x\"" + &"]".repeat(60);
        assert!(matches!(compile(&lists).unwrap().check(&deep, true), Verdict::Mismatch(_)));
    }

    #[test]
    fn alternatives_are_told_where_they_fail_and_nowhere_else() {
        let optional = |kind: &str| json!({ "anyOf": [{ "type": kind }, { "type": "null" }] });
        let schema = schema(json!({ "$defs": { "a b/c%": optional("integer") }, "properties": {
            "name": optional("string"), "age": { "$ref": "#/$defs/a%20b~1c%25" }, "one": { "oneOf": [{ "minimum": 1 }, { "minimum": 2 }] } } }));
        for (answer, at) in [
            (json!({ "name": 1, "age": 3 }), vec!["/name"]),
            (json!({ "name": null, "age": "x" }), vec!["/age"]),
            (json!({ "name": "x", "age": null, "one": 3 }), vec!["/one"]),
            (json!({ "name": 1, "age": "x", "one": 0 }), vec!["/age", "/name", "/one"]),
        ] {
            let Verdict::Mismatch(wrong) = schema.check(&answer.to_string(), true) else { panic!("{answer} is wrong") };
            let mut told: Vec<&str> =
                wrong.for_model.lines().filter_map(|line| line.strip_prefix("- at ")?.split(':').next()).collect();
            told.sort_unstable();
            assert_eq!(told, at, "{}", wrong.for_model);
        }
    }

    /// Thirty definitions, each with twice the one before, by every way to name one.
    fn doubled(keyword: &str, name: &dyn Fn(usize) -> (Value, String)) -> Value {
        let mut defs = serde_json::Map::new();
        for n in 0..=30 {
            let mut def = if n == 0 {
                json!({ "type": "string" })
            } else {
                let before = json!({ "$ref": name(n - 1).1 });
                json!({ keyword: [before.clone(), before] })
            };
            if let (Value::Object(own), Some(def)) = (name(n).0, def.as_object_mut()) {
                def.extend(own);
            }
            defs.insert(format!("d{n}"), def);
        }
        json!({ "$defs": defs, "$ref": name(30).1 })
    }

    #[test]
    fn a_schema_that_asks_for_a_billion_looks_is_refused_by_name() {
        let by_pointer = |n: usize| (json!({}), format!("#/$defs/d{n}"));
        let by_anchor = |n: usize| (json!({ "$anchor": format!("at{n}") }), format!("#at{n}"));
        let by_id =
            |n: usize| (json!({ "$id": format!("https://example.com/d{n}") }), format!("https://example.com/d{n}"));
        let ways: [&dyn Fn(usize) -> (Value, String); 3] = [&by_pointer, &by_anchor, &by_id];
        for way in ways {
            for keyword in ["anyOf", "allOf", "oneOf"] {
                let error = compile(&doubled(keyword, way)).map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidRequest);
                assert!(error.message().contains("checks of one value"), "{error}");
            }
        }
        // A chain of references as long as a stack.
        let mut defs: serde_json::Map<String, Value> =
            (1..20_000).map(|n| (format!("d{n}"), json!({ "$ref": format!("#/$defs/d{}", n - 1) }))).collect();
        defs.insert("d0".into(), json!({}));
        let chain = json!({ "$defs": defs, "$ref": "#/$defs/d19999" });
        assert!(compile(&chain).is_err());
    }

    #[test]
    fn an_answer_with_too_many_parts_for_its_schema_is_refused_and_not_checked() {
        let some = (0..400).map(|n| json!({ "const": n })).collect::<Vec<_>>();
        let schema = schema(json!({ "type": "array", "items": { "anyOf": some } }));
        let fits = json!(vec![399; 1_000]).to_string();
        assert!(matches!(schema.check(&fits, true), Verdict::Fits));
        let Verdict::Mismatch(wrong) = schema.check(&json!(vec![399; 100_000]).to_string(), true) else { panic!() };
        assert!(wrong.for_operator.contains("too many parts"), "{}", wrong.for_operator);
    }

    #[test]
    fn a_schema_that_takes_long_to_compile_is_refused_by_name() {
        let named = |schema: &dyn Fn(usize) -> Value, count: usize| -> Value {
            (0..count).map(|n| (format!("p{n}"), schema(n))).collect::<serde_json::Map<_, _>>().into()
        };
        let keys: serde_json::Map<_, _> = (0..100).map(|n| (format!("^.{{1,{}}}$", 5_000 + n), json!({}))).collect();
        for dear in [
            json!({ "properties": named(&|_| json!({ "type": "string" }), 200_000) }),
            json!({ "enum": vec![7; 300_000] }),
            json!({ "properties": named(&|n| json!({ "pattern": format!("^.{{1,{}}}$", 5_000 + n) }), 100) }),
            json!({ "properties": named(&|n| json!({ "pattern": format!("^\\p{{L}}{{1,{}}}$", 100 + n) }), 100) }),
            json!({ "properties": named(&|n| json!({ "pattern": format!("(a{{100}}){{100}}b{n}") }), 1_500) }),
            json!({ "patternProperties": keys }),
        ] {
            let error = compile(&dear).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(error.message().contains("200000 parts"), "{error}");
        }
        // As much as OpenAI takes: 5,000 fields, and a thousand values of an enumeration.
        let field = |n: usize| match n % 50 {
            0 => json!({ "type": "string", "pattern": format!("^[A-Z]{{2}}-\\d{{4,9}}{n}$") }),
            _ => json!({ "type": "string", "description": "a field" }),
        };
        let values = (0..1_000).collect::<Vec<_>>();
        let large = json!({ "properties": named(&field, 5_000), "$defs": { "e": { "enum": values } } });
        compile(&large).unwrap();
    }

    // Ten thousand objects without ten thousand fields took all memory, and 20,000 objects of no such an enumeration
    // 18 seconds.
    #[test]
    fn what_each_keyword_takes_counts() {
        let objects = |count: i64| json!((0..count).map(|n| json!({ "a": n - 100_000 })).collect::<Vec<_>>());
        let names = |count: usize| (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>();
        let alternatives = |one: &dyn Fn(usize) -> Value| json!({ "anyOf": (0..399).map(one).collect::<Vec<_>>() });
        let mixed = (0..20_000).map(|n| if n % 2 == 0 { json!(n) } else { json!(format!("s{n}")) }).collect::<Vec<_>>();
        let dependent: serde_json::Map<_, _> = names(10_000).into_iter().map(|name| (name, json!(["x"]))).collect();
        for (schema, answer) in [
            (json!({ "items": { "required": names(10_000) } }), objects(10_000)),
            (json!({ "items": { "enum": objects(20_000) } }), json!(vec![json!({ "b": 1 }); 20_000])),
            (json!({ "items": { "enum": mixed } }), json!(vec![-5; 20_000])),
            (json!({ "items": { "dependentRequired": dependent } }), objects(10_000)),
            (
                json!({ "items": alternatives(&|n| json!({ "multipleOf": 1.0 + n as f64 })) }),
                json!(vec![1e300; 10_000]),
            ),
            (alternatives(&|n| json!({ "minLength": 100_000_000 + n })), json!("a".repeat(4_000_000))),
            (alternatives(&|n| json!({ "pattern": format!("[ab]+c{n}$") })), json!("ab".repeat(2_000_000))),
            (json!({ "items": { "pattern": "(?!b)a$" } }), json!(vec!["a".repeat(400) + "!"; 20_000])),
        ] {
            let checked = compile(&schema).unwrap().check(&answer.to_string(), true);
            let Verdict::Mismatch(wrong) = checked else { panic!("it is too dear") };
            assert!(wrong.for_operator.contains("too many parts"), "{}", wrong.for_operator);
        }
    }

    #[test]
    fn pieces_of_an_answer_take_steps_of_one_check() {
        let some = (2..400).map(|n| json!({ "multipleOf": n })).collect::<Vec<_>>();
        let schema = schema(json!({ "type": "object", "additionalProperties": { "anyOf": some } }));
        let fits_after = |pieces: usize| {
            let answer = "{\"a\": 1} ".repeat(pieces) + "{\"a\": 0}";
            matches!(schema.check(&answer, true), Verdict::Repaired { .. })
        };
        assert!(fits_after(100));
        assert!(!fits_after(1_000), "it is past what is looked at");
    }

    #[test]
    fn errors_of_many_places_are_told_within_bounds() {
        let optional = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        let fields: serde_json::Map<_, _> = (0..3_000).map(|n| (format!("p{n}"), optional.clone())).collect();
        let answer: serde_json::Map<_, _> = (0..3_000).map(|n| (format!("p{n}"), json!(1))).collect();
        let schema = schema(json!({ "properties": fields }));
        let Verdict::Mismatch(wrong) = schema.check(&json!(answer).to_string(), true) else { panic!("it is wrong") };
        assert_eq!(wrong.for_model.matches("\n- at /p").count(), PROBLEMS, "{}", wrong.for_model);
        // A long answer has the first error alone.
        let words = Schema::build(&json!({ "items": { "type": "string" } }), cost::of(&json!({})).unwrap()).unwrap();
        let Verdict::Mismatch(wrong) = words.check(&json!(vec![1; 500_000]).to_string(), true) else { panic!() };
        assert_eq!(wrong.for_model.matches("\n- at /0").count(), 1, "{}", wrong.for_model);
    }
}
