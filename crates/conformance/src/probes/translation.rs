//! The parts of a request that reach the provider, in any dialect.

use serde_json::{Value, json};
use steadfast::Dialect;

use crate::{
    answer::End,
    caller::Caller,
    probe::{ALL, Probe, Scene, WHOLE, ensure, probe},
    prompt::{Prompt, Tool},
};

const MEANING: &str = "the vendors' API references: each dialect has a place for it";

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "translation/system",
        Upstreams,
        WHOLE,
        system,
        "the system prompt reaches the provider, and not as a turn of the conversation",
        MEANING
    ),
    probe!(
        "translation/turns",
        Upstreams,
        WHOLE,
        turns,
        "the earlier turns reach the provider, in their order and roles",
        MEANING
    ),
    probe!(
        "translation/tool",
        Upstreams,
        WHOLE,
        tool,
        "a tool reaches the provider with its description and schema",
        MEANING
    ),
    probe!(
        "translation/result",
        Upstreams,
        ALL,
        result,
        "a tool's call and its result reach the provider, and its answer the caller",
        MEANING
    ),
    probe!("translation/picture", Upstreams, WHOLE, picture, "a picture reaches the provider, byte for byte", MEANING),
    probe!("translation/schema", Upstreams, WHOLE, schema, "an answer of a given JSON schema comes", MEANING),
    probe!(
        "translation/settings",
        Upstreams,
        WHOLE,
        settings,
        "the temperature, the limit of tokens and the stop sequence reach the provider",
        MEANING
    ),
    probe!(
        "translation/scripts",
        Upstreams,
        WHOLE,
        scripts,
        "words of any script reach the provider, character for character",
        "RFC 8259, 8.1"
    ),
];

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Asks, checks that the answer is whole, and returns the body that the provider got.
async fn sent(scene: &Scene<'_>, caller: Caller, prompt: &Prompt) -> Result<Value, String> {
    let (upstreams, primary, _) = scene.providers()?;
    upstreams.primary.transcript().clear();
    let answer = scene.subject.ask(caller, prompt).await?;
    ensure(answer.is_whole(scene.reply().as_deref()), || answer.to_string())?;
    got(&primary.requests())
}

fn got(requests: &[steadfast_simulator::ReceivedRequest]) -> Result<Value, String> {
    // Before it some gateways count tokens.
    let last = requests.last().ok_or("the first provider got no request")?;
    serde_json::from_slice(&last.body).map_err(|_| "the provider got a body that is no JSON".to_owned())
}

/// The place of a value in a request's body.
struct Place {
    /// The role of the turn around it.
    role: Option<String>,
    /// Its number among the values, from the first to the last.
    order: usize,
}

/// Returns the place of the first value that is wanted.
fn place(body: &Value, wanted: &dyn Fn(&Value) -> bool) -> Option<Place> {
    fn walk(value: &Value, role: Option<&str>, order: &mut usize, wanted: &dyn Fn(&Value) -> bool) -> Option<Place> {
        *order += 1;
        if wanted(value) {
            return Some(Place { role: role.map(str::to_owned), order: *order });
        }
        match value {
            Value::Object(fields) => {
                let role = fields.get("role").and_then(Value::as_str).or(role);
                fields.values().find_map(|value| walk(value, role, order, wanted))
            }
            Value::Array(items) => items.iter().find_map(|value| walk(value, role, order, wanted)),
            _ => None,
        }
    }
    walk(body, None, &mut 0, wanted)
}

/// Returns the place of the text that contains this one.
fn place_of(body: &Value, text: &str) -> Result<Place, String> {
    let found = place(body, &|value| value.as_str().is_some_and(|found| found.contains(text)));
    found.ok_or_else(|| format!("{text:?} did not reach the provider"))
}

async fn system(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let words = "Answer as a gardener of Kew would.";
    let prompt = Prompt { system: Some(words.to_owned()), ..scene.prompt() };
    let place = place_of(&sent(scene, caller, &prompt).await?, words)?;
    let is_turn = matches!(place.role.as_deref(), Some("user" | "assistant" | "model"));
    ensure(!is_turn, || format!("it is a turn with the role {:?}", place.role.unwrap_or_default()))
}

async fn turns(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let [user, model] = ["Which tree is the oldest?", "A bristlecone pine."];
    let prompt = Prompt { earlier: Some([user.to_owned(), model.to_owned()]), ..scene.prompt() };
    let body = sent(scene, caller, &prompt).await?;
    let [first, second, last] = [place_of(&body, user)?, place_of(&body, model)?, place_of(&body, &prompt.words)?];
    ensure(first.order < second.order && second.order < last.order, || "the turns have another order".to_owned())?;
    let roles = [&first, &second, &last].map(|place| place.role.as_deref().unwrap_or("user"));
    let is_it = matches!(roles, ["user", "assistant" | "model", "user"]);
    ensure(is_it, || format!("the turns have the roles {roles:?}"))
}

async fn tool(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let description = "Returns the weather of a city for some days";
    let tool = Tool { description: description.to_owned(), is_required: false };
    let prompt = Prompt { tool: Some(tool), ..scene.prompt() };
    let body = sent(scene, caller, &prompt).await?;
    place_of(&body, description)?;
    place_of(&body, Tool::NAME)?;
    let schema = place(&body, &|value| value["properties"]["city"].is_object() && value["required"][1] == "days");
    ensure(schema.is_some(), || "the schema of its arguments did not reach the provider".to_owned())
}

async fn result(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let words = "Föhn, 24 degrees";
    let tool = Tool { description: "Returns the weather of a city".to_owned(), is_required: false };
    let prompt = Prompt { tool: Some(tool), result: Some(words.to_owned()), ..scene.prompt() };
    let body = sent(scene, caller, &prompt).await?;
    let (call, result) = (place_of(&body, "Zürich")?, place_of(&body, words)?);
    ensure(call.order < result.order, || "the result stands before its call".to_owned())
}

async fn picture(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let prompt = Prompt { picture: Some(PIXEL), ..scene.prompt() };
    place_of(&sent(scene, caller, &prompt).await?, PIXEL).map(drop)
}

async fn schema(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let schema = json!({
        "type": "object",
        "properties": {"tree": {"type": "string"}, "years": {"type": "integer"}},
        "required": ["tree", "years"],
        "additionalProperties": false,
    });
    let prompt = Prompt { schema: Some(schema), ..scene.prompt() };
    let answer = scene.subject.ask(caller, &prompt).await?;
    ensure(answer.ended(&End::Stop), || answer.to_string())?;
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    ensure(value["tree"].is_string() && value["years"].is_i64(), || "the answer has not the schema".to_owned())
}

async fn settings(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (temperature, most, stop) = (0.25, 777, "THE-END-OF-IT");
    let prompt = Prompt {
        temperature: Some(temperature),
        max_tokens: Some(most),
        stop: Some(stop.to_owned()),
        ..scene.prompt()
    };
    let body = sent(scene, caller, &prompt).await?;
    // Responses has no stop sequences, neither the caller's nor the provider's.
    let has_stop = caller.dialect != Dialect::Responses && body.get("input").is_none();
    ensure(place(&body, &|value| value.as_f64() == Some(temperature)).is_some(), || {
        "the temperature did not reach the provider".to_owned()
    })?;
    ensure(place(&body, &|value| value.as_u64() == Some(most.into())).is_some(), || {
        "the limit of tokens did not reach the provider".to_owned()
    })?;
    if has_stop { place_of(&body, stop).map(drop) } else { Ok(()) }
}

async fn scripts(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let words = "Größe, 大きさ, गुणवत्ता, 👩‍👩‍👧‍👦, \u{202e}mirrored\u{202c}, \"quoted\" \\ and\ttabs";
    let prompt = Prompt::new(format!("{words} {}", scene.topic));
    place_of(&sent(scene, caller, &prompt).await?, words).map(drop)
}
