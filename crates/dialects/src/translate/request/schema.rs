//! Fits JSON Schemas to the keywords that each target takes. Sources: each provider's page on structured output and
//! function calling (2026).

mod items;
mod strict;
mod top;

use memchr::memmem;
use serde_json::{Map, Value, json};

pub(super) use self::strict::Room;
use self::{strict::Cost, top::ALTERNATIVES};
use super::root;
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::Json,
    fields::{Object, is_object as is_json_object, word},
    wire::WireLimits,
};

/// The use of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemaUse {
    Tool,
    Output,
}

/// A schema in the target's form.
#[derive(Debug)]
pub(super) struct FittedSchema {
    /// `None`: unchanged.
    pub(super) schema: Option<Json>,
    /// True if the provider can hold the model to the schema.
    pub(super) strict: bool,
    /// True if keywords went into a description, or were added.
    pub(super) moved: bool,
    /// True if it went into an object, which is to be taken off the answer.
    pub(super) wrapped: bool,
    /// The share of what Anthropic's decoder takes in a request.
    pub(super) cost: Cost,
}

impl FittedSchema {
    fn unchanged(strict: bool) -> Self {
        Self { schema: None, strict, moved: false, wrapped: false, cost: Cost::default() }
    }
}

/// Fits a schema to the target. `strict`: the provider is to hold the model to it.
///
/// A schema that the target takes unchanged stays the text that it was. Only others are parsed.
///
/// # Errors
///
/// [`ErrorKind::TooLarge`] if a schema that must be parsed is over a limit.
pub(super) fn fit(
    schema: &Json,
    strict: bool,
    target: Dialect,
    what: SchemaUse,
    limits: &WireLimits,
) -> Result<FittedSchema, LlmError> {
    if is_taken_as_it_is(schema, strict, target, what)? {
        return Ok(FittedSchema::unchanged(strict));
    }
    limits.check_schema(schema.as_str())?;
    let wrong = |error| LlmError::new(ErrorKind::InvalidRequest, "a schema cannot be read").with_source(error);
    let mut value = schema.value().map_err(wrong)?;
    let mut fitted = FittedSchema::unchanged(strict);
    fit_value(&mut value, &mut fitted, target, what);
    fitted.schema = Some(Json::from(value));
    Ok(fitted)
}

/// Returns true if only the top of the schema needs to be looked at.
fn is_taken_as_it_is(schema: &Json, strict: bool, target: Dialect, what: SchemaUse) -> Result<bool, LlmError> {
    if strict || target == Dialect::Gemini || (target == Dialect::Anthropic && what == SchemaUse::Output) {
        return Ok(false);
    }
    let says = |word: &str| memmem::find(schema.as_str().as_bytes(), word.as_bytes()).is_some();
    if GEMINIS_OWN.iter().any(|word| says(word)) {
        return Ok(false);
    }
    if target.is_openais() && items::may_lack(schema) {
        return Ok(false);
    }
    if what == SchemaUse::Output && !target.is_openais() {
        return Ok(true);
    }
    let top = Object::read(schema.raw(), &["type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "not"])?;
    let has_alternatives = ALTERNATIVES.iter().any(|name| top.get(name).is_some());
    if what == SchemaUse::Output {
        return Ok(is_named_object(&top) && !has_alternatives && top.get("$ref").is_none());
    }
    Ok(is_json_object(schema.raw())
        && is_named_object(&top)
        && top.get("$ref").is_none()
        && (!target.is_openais() || top.get("properties").is_some())
        && !has_alternatives)
}

fn is_named_object(top: &Object<'_>) -> bool {
    top.get("type").and_then(word).as_deref() == Some("object")
}

/// Changes the schema, and notes what has become of it.
fn fit_value(schema: &mut Value, fitted: &mut FittedSchema, target: Dialect, what: SchemaUse) {
    if target != Dialect::Gemini {
        plain(schema);
    }
    if target.is_openais() {
        if what == SchemaUse::Output
            && schema.as_object().is_some_and(|fields| !fields.is_empty() && !root::is_object(fields))
        {
            root::wrap(schema);
            fitted.wrapped = true;
        }
        fitted.moved = items::add(schema);
        // Nobody knows the model's answer there.
        fitted.strict &= !fitted.moved;
    }
    match target {
        Dialect::OpenAi | Dialect::Responses if fitted.strict => {
            fitted.strict = strict::can_close(schema, true) && strict::has_room(schema);
            if fitted.strict {
                strict::close(schema);
                strict::complete(schema);
            }
        }
        Dialect::Anthropic if fitted.strict || what == SchemaUse::Output => {
            fitted.strict &= what == SchemaUse::Output || !top::has_alternatives(schema);
            fitted.moved = keep(schema, ANTHROPIC);
            strict::close(schema);
            fitted.strict &= what == SchemaUse::Output || !strict::goes_round(schema);
            fitted.cost = Cost::of(schema);
        }
        Dialect::Gemini => fitted.moved = keep(schema, GEMINI),
        _ => {}
    }
    if what == SchemaUse::Tool {
        fitted.moved |= top::make_object(schema, target);
    }
}

/// Words of Gemini's schemas alone. An escape within one would hide it, but no one writes them so.
const GEMINIS_OWN: [&str; 3] = ["propertyOrdering", "property_ordering", "nullable"];

/// The keywords that Anthropic's strict decoder knows.
const ANTHROPIC: &[&str] = &[
    "$ref",
    "$defs",
    "definitions",
    "type",
    "anyOf",
    "allOf",
    "title",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "default",
    "format",
    "additionalProperties",
    "minItems",
];

/// The keywords that Gemini's `parametersJsonSchema` and `responseJsonSchema` know.
const GEMINI: &[&str] = &[
    "$id",
    "$ref",
    "$defs",
    "$anchor",
    "type",
    "anyOf",
    "oneOf",
    "title",
    "description",
    "properties",
    "required",
    "items",
    "prefixItems",
    "enum",
    "default",
    "format",
    "additionalProperties",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "propertyOrdering",
    "nullable",
    "example",
];

/// The formats that OpenAI's strict mode and Anthropic's decoder know; they refuse others (guides on structured
/// outputs).
const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

fn is_known_format(value: &Value) -> bool {
    value.as_str().is_some_and(|format| FORMATS.contains(&format))
}

/// Words about a schema, without meaning for an answer.
const IDLE: &[&str] = &["$schema", "$id", "$comment", "examples", "example", "deprecated", "readOnly", "writeOnly"];

/// Rewrites the words of Gemini's schemas as JSON Schema.
fn plain(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for name in ["propertyOrdering", "property_ordering"] {
        fields.remove(name);
    }
    if fields.get("nullable").is_some_and(Value::is_boolean)
        && fields.remove("nullable") == Some(Value::Bool(true))
        && let Some(Value::String(kind)) = fields.get("type").cloned()
    {
        fields.insert("type".to_owned(), json!([kind, "null"]));
    }
    each(fields, plain);
}

/// The keywords with inner schemas: by name, in a list, alone.
const NAMED: [&str; 5] = ["properties", "$defs", "definitions", "patternProperties", "dependentSchemas"];
const LISTED: [&str; 4] = ["anyOf", "allOf", "oneOf", "prefixItems"];
const ALONE: [&str; 8] = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "unevaluatedItems"];

/// Calls `visit` with each schema inside this one.
fn each(fields: &mut Map<String, Value>, mut visit: impl FnMut(&mut Value)) {
    for name in NAMED {
        if let Some(Value::Object(schemas)) = fields.get_mut(name) {
            schemas.values_mut().for_each(&mut visit);
        }
    }
    for name in LISTED {
        if let Some(Value::Array(schemas)) = fields.get_mut(name) {
            schemas.iter_mut().for_each(&mut visit);
        }
    }
    for name in ALONE {
        if let Some(schema @ Value::Object(_)) = fields.get_mut(name) {
            visit(schema);
        }
    }
}

/// Returns true if `is` holds for each schema inside this one.
fn all(fields: &Map<String, Value>, is: impl FnMut(&Value) -> bool) -> bool {
    let named = NAMED.iter().filter_map(|name| fields.get(*name)?.as_object()).flat_map(Map::values);
    let listed = LISTED.iter().filter_map(|name| fields.get(*name)?.as_array()).flatten();
    let alone = ALONE.iter().filter_map(|name| fields.get(*name)).filter(|schema| schema.is_object());
    named.chain(listed).chain(alone).all(is)
}

fn is_object(fields: &Map<String, Value>) -> bool {
    let named = match fields.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => false,
    };
    named || fields.contains_key("properties")
}

/// Keeps only these keywords and describes the others in the description. Returns whether there were any.
fn keep(schema: &mut Value, keywords: &[&str]) -> bool {
    let Value::Object(fields) = schema else { return false };
    fields.retain(|name, _| !IDLE.contains(&name.as_str()) || keywords.contains(&name.as_str()));
    if let Some(value) = fields.get("const").filter(|_| !keywords.contains(&"const")).cloned() {
        fields.remove("const");
        fields.entry("enum").or_insert_with(|| json!([value]));
    }
    if !keywords.contains(&"oneOf")
        && !fields.contains_key("anyOf")
        && let Some(choices) = fields.remove("oneOf")
    {
        fields.insert("anyOf".to_owned(), choices);
    }
    let mut moved: Vec<(String, Value)> = Vec::new();
    fields.retain(|name, value| {
        let stays = match name.as_str() {
            // Anthropic takes 0 and 1 only.
            "minItems" if !keywords.contains(&"maxItems") => value.as_u64().is_some_and(|least| least <= 1),
            // A map of any names; Anthropic requires closed objects.
            "additionalProperties" if !keywords.contains(&"maxItems") => !value.is_object(),
            // Anthropic knows `uri` too.
            "format" if !keywords.contains(&"maxItems") => is_known_format(value) || value == "uri",
            name => keywords.contains(&name),
        };
        if !stays {
            moved.push((name.clone(), value.take()));
        }
        stays
    });
    if !moved.is_empty() {
        let words: Vec<String> = moved.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let words = words.join(", ");
        let description = match fields.get("description").and_then(Value::as_str) {
            Some(before) if !before.is_empty() => format!("{before} ({words})"),
            _ => words,
        };
        fields.insert("description".to_owned(), description.into());
    }
    let mut any = !moved.is_empty();
    each(fields, |inside| any |= keep(inside, keywords));
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema in its final form, with its changes.
    struct FittedSchema {
        schema: Value,
        strict: bool,
        moved: bool,
        wrapped: bool,
    }

    fn fit(schema: &Value, strict: bool, target: Dialect, what: SchemaUse) -> FittedSchema {
        let fitted = super::fit(&schema.clone().into(), strict, target, what, &WireLimits::default()).unwrap();
        let schema = fitted.schema.map_or_else(|| schema.clone(), |fitted| fitted.value().unwrap());
        FittedSchema { schema, strict: fitted.strict, moved: fitted.moved, wrapped: fitted.wrapped }
    }

    #[test]
    fn what_a_target_takes_as_it_is_is_not_taken_apart() {
        let none = WireLimits::default().schema_nodes(1);
        let schema = Json::parse(r#"{ "type": "object", "properties": {"a": {"minimum": 1.50}} }"#).unwrap();
        for target in [Dialect::Anthropic, Dialect::OpenAi] {
            assert!(super::fit(&schema, false, target, SchemaUse::Tool, &none).unwrap().schema.is_none());
        }
        let error = super::fit(&schema, false, Dialect::Gemini, SchemaUse::Tool, &none).unwrap_err();
        assert!(error.kind() == ErrorKind::TooLarge && error.message().contains("schema_nodes"), "{error}");
    }

    /// Anthropic refused such a schema with a 400, as recorded.
    #[test]
    fn a_reference_in_a_circle_at_the_top_is_taken_out() {
        let round = json!({"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"});
        for strict in [true, false] {
            let fitted = fit(&round, strict, Dialect::OpenAi, SchemaUse::Tool);
            assert_eq!(
                (&fitted.schema["type"], fitted.schema.get("$ref"), fitted.moved),
                (&json!("object"), None, true)
            );
        }
    }

    /// OpenAI: "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'"; Anthropic:
    /// "input_schema.type: Field required".
    #[test]
    fn a_reference_at_the_top_of_a_tool_is_written_out() {
        let a = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/A"}, "l": {"type": "string"}}});
        let straight = json!({"$defs": {"A": a, "B": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/B", "description": "d"});
        for target in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses] {
            let fitted = fit(&straight, false, target, SchemaUse::Tool);
            assert!(!fitted.moved, "{target}");
            let mut expected = a.clone();
            expected["$defs"] = straight["$defs"].clone();
            expected["description"] = "d".into();
            assert_eq!(fitted.schema, expected, "{target}");
        }
        let elsewhere = json!({"$ref": "https://example.com/schema.json"});
        let fitted = fit(&elsewhere, false, Dialect::OpenAi, SchemaUse::Tool);
        assert!(fitted.moved && fitted.schema["description"].as_str().unwrap().contains("example.com"));
        assert_eq!((&fitted.schema["type"], fitted.schema.get("$ref")), (&json!("object"), None));
    }

    /// A model that sees no property gives none.
    #[test]
    fn the_properties_of_alternatives_at_the_top_of_a_tool_stay() {
        let of = |kind: &str, more: &str| json!({"type": "object", "required": ["kind", more], "properties": {"kind": {"const": kind}, more: {"type": "string"}}});
        for keyword in ["anyOf", "oneOf", "allOf"] {
            let schema = json!({"$defs": {"B": of("b", "y")}, keyword: [of("a", "x"), {"$ref": "#/$defs/B"}]});
            for target in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses] {
                let fitted = fit(&schema, true, target, SchemaUse::Tool);
                assert!(fitted.moved && !fitted.strict, "{target} {keyword}");
                let properties = &fitted.schema["properties"];
                assert_eq!(properties["x"], json!({"type": "string"}), "{target} {keyword}");
                assert_eq!(properties["kind"], json!({"anyOf": [{"const": "a"}, {"const": "b"}]}));
                let required = if keyword == "allOf" { json!(["kind", "x", "y"]) } else { json!(["kind"]) };
                assert_eq!(fitted.schema["required"], required, "{target} {keyword}");
                assert!(fitted.schema.get(keyword).is_none() && fitted.schema["type"] == "object");
            }
        }
    }

    /// Each reference to the same branch took the whole branch's time: 5,000 of them 5e7 to 2.5e11 steps.
    #[test]
    fn a_branch_counts_once_however_often_it_is_named() {
        let names: Vec<String> = (0..9_900).map(|n| format!("n{n}")).collect();
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let schema = json!({"$defs": {"B": {"properties": {"a": {}}, "required": names}},
                keyword: vec![json!({"$ref": "#/$defs/B"}); 5_000]});
            for target in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses] {
                let fitted = fit(&schema, false, target, SchemaUse::Tool).schema;
                assert_eq!(fitted["properties"], json!({"a": {}}), "{target} {keyword}");
                assert!(fitted["required"] == json!(names), "{target} {keyword}");
            }
        }
    }

    #[test]
    fn many_forms_of_a_property_and_many_names_stay() {
        let own: Vec<Value> = (0..1_000)
            .map(|n| json!({"properties": {"kind": {"const": n % 500}}, "required": ["kind", format!("n{n}")]}))
            .collect();
        let forms: Vec<Value> = (0..500).map(|n| json!({ "const": n })).collect();
        for (keyword, required) in [("allOf", 1_002), ("anyOf", 2), ("oneOf", 2)] {
            let schema = json!({"required": ["top", "kind"], keyword: own});
            let fitted = fit(&schema, false, Dialect::OpenAi, SchemaUse::Tool).schema;
            assert_eq!(fitted["properties"]["kind"], json!({ "anyOf": forms }), "{keyword}");
            let names = fitted["required"].as_array().unwrap();
            assert_eq!((names.len(), &names[0], &names[1]), (required, &json!("top"), &json!("kind")), "{keyword}");
        }
    }

    /// Each of forty branches holds all further ones: written out, they are 40 times the schema.
    #[test]
    fn branches_within_each_other_are_not_written_out() {
        let text = "x".repeat(10_000);
        let deep =
            (0..40).fold(json!({ "description": text }), |inner, n| json!({"properties": {format!("p{n}"): inner}}));
        let places = (0..40).rev().scan("#/$defs/A".to_owned(), |place, n| {
            let branch = json!({ "$ref": place });
            *place += &format!("/properties/p{n}");
            Some(branch)
        });
        let schema = json!({"$defs": {"A": deep}, "anyOf": places.collect::<Vec<_>>()});
        for target in [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic] {
            let fitted = fit(&schema, false, target, SchemaUse::Tool).schema;
            let none = if target == Dialect::Anthropic { None } else { Some(&json!({})) };
            assert_eq!((&fitted["type"], fitted.get("properties")), (&json!("object"), none), "{target}");
            assert!(fitted.to_string().len() < 2 * schema.to_string().len(), "{target}");
        }
    }

    /// The guides of both, "Supported schemas" and "Schema complexity limits".
    #[test]
    fn a_schema_that_a_provider_holds_no_model_to_is_not_strict() {
        let closed = |properties: Value| {
            let required: Vec<String> = properties.as_object().unwrap().keys().cloned().collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        };
        let text = json!({"type": "string"});
        let deep = (0..11).fold(text.clone(), |inner, _| closed(json!({ "a": inner })));
        let levels = (0..10).fold(text.clone(), |inner, _| closed(json!({ "a": inner })));
        let values: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
        let round = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"],
            "$defs": {"A": closed(json!({"b": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}))}});
        let straight = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/B"}},
            "required": ["a", "b"], "$defs": {"B": closed(json!({"a": {"$ref": "#/$defs/A"}})), "A": text}});
        for (schema, openai, claude) in [
            (closed(json!({ "a": text })), true, true),
            (levels, true, true),
            (deep, false, true),
            (closed(json!({"a": {"enum": values, "type": "string"}})), false, true),
            (closed(json!({"a": {"type": "string", "default": "x"}})), false, true),
            (closed(json!({"a": {}})), false, true),
            (closed(json!({"a": {"description": "any"}})), false, true),
            (json!({"type": "object", "properties": {"a": text}}), false, true),
            (closed(json!({"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}})), true, true),
            (round, true, false),
            (straight, true, true),
            (closed(json!({"a": {"$ref": "https://example.com/schema.json"}})), true, false),
        ] {
            for (target, expected) in
                [(Dialect::OpenAi, openai), (Dialect::Responses, openai), (Dialect::Anthropic, claude)]
            {
                assert_eq!(fit(&schema, true, target, SchemaUse::Tool).strict, expected, "{target}: {schema}");
            }
        }
        // Every object has its lists there.
        let empty = fit(&closed(json!({"a": {"type": "object"}})), true, Dialect::OpenAi, SchemaUse::Tool);
        let inner = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
        assert_eq!((&empty.schema["properties"]["a"], empty.strict), (&inner, true));
    }

    #[test]
    fn openai_strict_closes_objects_however_deep() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {}}}}});
        let fitted = fit(&schema, true, Dialect::OpenAi, SchemaUse::Tool);
        assert!(fitted.strict && !fitted.moved);
        assert_eq!(fitted.schema["additionalProperties"], false);
        assert_eq!(fitted.schema["properties"]["a"]["items"]["additionalProperties"], false);
    }

    #[test]
    fn an_optional_property_or_an_open_map_is_kept_and_strict_is_not() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": {"oneOf": []}}, "required": ["a"]}),
        ] {
            let fitted = fit(&schema, true, Dialect::OpenAi, SchemaUse::Output);
            assert!(!fitted.strict);
            assert_eq!(fitted.schema, schema);
        }
    }

    #[test]
    fn a_format_that_is_not_known_is_not_held_to() {
        let schema =
            json!({"type": "object", "properties": {"a": {"type": "number", "format": "double"}}, "required": ["a"]});
        let fitted = fit(&schema, true, Dialect::OpenAi, SchemaUse::Output);
        assert!(!fitted.strict);
        let a = fit(&schema, true, Dialect::Anthropic, SchemaUse::Output).schema["properties"]["a"].clone();
        assert!(a.get("format").is_none() && a["description"].as_str().unwrap().contains("double"), "{a}");
    }

    #[test]
    fn what_a_decoder_does_not_know_goes_into_the_description() {
        let schema = json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "description": "A number."},
            "k": {"const": "x"}}});
        let fitted = fit(&schema, true, Dialect::Anthropic, SchemaUse::Output);
        assert!(fitted.moved);
        let n = &fitted.schema["properties"]["n"];
        assert_eq!(*n, json!({"type": "integer", "description": "A number. (exclusiveMaximum: 9, minimum: 1)"}));
        assert_eq!(fitted.schema["properties"]["k"]["const"], "x");
        let fitted = fit(&schema, false, Dialect::Gemini, SchemaUse::Tool);
        assert_eq!(fitted.schema["properties"]["n"]["minimum"], 1);
        assert_eq!(fitted.schema["properties"]["k"], json!({"enum": ["x"]}));
    }

    #[test]
    fn a_property_may_have_the_name_of_a_keyword() {
        let schema =
            json!({"type": "object", "properties": {"pattern": {"type": "string"}, "not": {"type": "string"}}});
        let fitted = fit(&schema, false, Dialect::Gemini, SchemaUse::Tool);
        assert!(!fitted.moved);
        assert_eq!(fitted.schema, schema);
    }

    /// OpenAI: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level".
    #[test]
    fn neither_anthropic_nor_openai_takes_alternatives_at_the_top_of_a_tool() {
        for target in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses] {
            for keyword in ["anyOf", "oneOf", "allOf", "enum", "not"] {
                let schema = json!({"type": "object", "properties": {}, keyword: [{"type": "object"}]});
                let fitted = fit(&schema, false, target, SchemaUse::Tool);
                assert!(fitted.moved && fitted.schema["type"] == "object", "{target} {keyword}");
                assert!(fitted.schema.get(keyword).is_none(), "{target} {keyword}");
            }
        }
    }

    /// OpenAI: "In context=('properties', 'l'), array schema missing items."
    #[test]
    fn an_array_without_items_gets_them_wherever_it_stands() {
        let bare = [
            json!({"type": "array"}),
            json!({"type": ["array", "null"], "minItems": 1}),
            json!({"type": "array", "prefixItems": [{"type": "string"}]}),
            json!({"type": "array", "items": [{"type": "string"}, {"type": "array"}]}),
        ];
        let around: [fn(Value) -> Value; 12] = [
            |inner| json!({"properties": {"description": inner}}),
            |inner| json!({"properties": {"title": {"properties": {"title": inner}}}}),
            |inner| json!({"properties": {"a": inner}}),
            |inner| json!({"properties": {"items": inner}}),
            |inner| json!({"properties": {"a": {"type": "array", "items": inner}}}),
            |inner| json!({"properties": {"a": {"anyOf": [{"type": "null"}, inner]}}}),
            |inner| json!({"properties": {"a": {"allOf": [inner]}}}),
            |inner| json!({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": inner}}),
            |inner| json!({"properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": inner}}),
            |inner| json!({"properties": {}, "additionalProperties": inner}),
            |inner| json!({"properties": {"a": {"not": inner}}}),
            |inner| json!({"properties": {"type": {"type": "array", "items": {"properties": {"b": inner}}}}}),
        ];
        for (inner, around) in bare.iter().flat_map(|inner| around.map(|around| (inner, around))) {
            let mut schema = around(inner.clone());
            schema["type"] = "object".into();
            for (target, what) in [Dialect::OpenAi, Dialect::Responses]
                .into_iter()
                .flat_map(|target| [SchemaUse::Tool, SchemaUse::Output].map(|what| (target, what)))
            {
                for strict in [false, true] {
                    let fitted = fit(&schema, strict, target, what);
                    assert!(fitted.moved && !fitted.strict && !fitted.wrapped, "{schema}");
                    assert!(
                        !items::add(&mut fitted.schema.clone()) && every_array_has_items(&fitted.schema),
                        "{}",
                        fitted.schema
                    );
                    assert!(fitted.schema.to_string().len() >= schema.to_string().len(), "nothing is lost");
                }
            }
            // Claude takes it as it is.
            assert_eq!(fit(&schema, false, Dialect::Anthropic, SchemaUse::Tool).schema, schema);
        }
    }

    /// The rule in OpenAI's words: each schema with the type `array` has one schema of `items`.
    fn every_array_has_items(schema: &Value) -> bool {
        let kinds =
            |kind: &Value| kind == "array" || kind.as_array().is_some_and(|kinds| kinds.contains(&"array".into()));
        match schema {
            Value::Object(fields) => {
                let is_array = fields.get("type").is_some_and(kinds);
                (!is_array || fields.get("items").is_some_and(Value::is_object))
                    && fields.values().all(every_array_has_items)
            }
            Value::Array(values) => values.iter().all(every_array_has_items),
            _ => true,
        }
    }

    #[test]
    fn what_only_looks_like_an_array_without_items_stays() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}),
            json!({"type": "object", "properties": {"a": {"enum": ["array"], "type": "string"}}}),
            json!({"type": "object", "properties": {"a": {"type": "string", "default": {"type": "array"}}}}),
        ] {
            for what in [SchemaUse::Tool, SchemaUse::Output] {
                let fitted = fit(&schema, false, Dialect::OpenAi, what);
                assert_eq!((fitted.schema, fitted.moved), (schema.clone(), false));
            }
        }
    }

    /// OpenAI: "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'".
    #[test]
    fn an_output_whose_root_is_no_object_goes_within_one() {
        for root in [
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "string", "enum": ["a", "b"]}),
            json!({"type": "integer"}),
            json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}),
            json!({"type": ["object", "null"], "properties": {}}),
            json!({"type": "array", "items": {"type": "string"}, "description": "all of them"}),
        ] {
            for target in [Dialect::OpenAi, Dialect::Responses] {
                let fitted = fit(&root, true, target, SchemaUse::Output);
                let properties = &fitted.schema["properties"];
                assert!(fitted.wrapped && fitted.schema["type"] == "object", "{root}");
                assert_eq!(fitted.schema["required"], json!(["value"]));
                assert_eq!(properties["value"].get("type"), root.get("type"), "{root}");
                assert!(fitted.strict, "{root}");
            }
            for target in [Dialect::Anthropic, Dialect::Gemini] {
                assert!(!fit(&root, false, target, SchemaUse::Output).wrapped);
            }
        }
        // Gemini's word for what may be null makes a list of two types.
        let nullable = json!({"type": "object", "properties": {}, "nullable": true});
        let fitted = fit(&nullable, false, Dialect::OpenAi, SchemaUse::Output);
        assert_eq!(fitted.schema["properties"]["value"], json!({"type": ["object", "null"], "properties": {}}));
    }
}
