//! Fields that Vertex AI takes, at Google's API for developers: it answers to the request without them, also if the
//! caller named its very model. The fields are those of which the converters of google-genai 3.6.1 (November 2026) say
//! "only supported in Gemini Enterprise Agent Platform mode".

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmRequest, LlmResponse, Wire,
    providers::{
        Gemini,
        credentials::{Credentials, Token},
    },
};
use tower::{ServiceExt, service_fn};

const MODEL: &str = "gemini-2.5-pro";

/// Each field alone: its path, and a request that has it.
fn fields() -> Vec<(&'static str, Value)> {
    let config = |more: Value| json!({"generationConfig": more});
    let tool = |more: Value| json!({"tools": [{"functionDeclarations": [{"name": "f"}]}, more]});
    let call = |more: Value| {
        let mut call = json!({"name": "f", "args": {}});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, {"role": "model", "parts": [{"functionCall": call}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]})
    };
    vec![
        ("labels", json!({"labels": {"a": "b"}})),
        ("modelArmorConfig", json!({"modelArmorConfig": {"promptTemplateName": "p"}})),
        ("generationConfig.routingConfig", config(json!({"routingConfig": {"autoMode": {}}, "topP": 0.5}))),
        ("generationConfig.modelSelectionConfig", config(json!({"modelSelectionConfig": {}, "seed": 1}))),
        ("generationConfig.audioTimestamp", config(json!({"audioTimestamp": true}))),
        (
            "generationConfig.imageConfig.personGeneration",
            config(json!({"imageConfig": {"aspectRatio": "1:1", "personGeneration": "ALLOW_ALL"}})),
        ),
        (
            "generationConfig.imageConfig.imageOutputOptions",
            config(json!({"imageConfig": {"imageOutputOptions": {"mimeType": "image/png"}, "aspectRatio": "1:1"}})),
        ),
        (
            "safetySettings[].method",
            json!({"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE", "method": "SEVERITY"}]}),
        ),
        (
            "toolConfig.functionCallingConfig.streamFunctionCallArguments",
            json!({"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "streamFunctionCallArguments": true}}}),
        ),
        ("contents[].parts[].functionCall.partialArgs", call(json!({"partialArgs": [{"jsonPath": "$.a"}]}))),
        ("contents[].parts[].functionCall.willContinue", call(json!({"willContinue": false}))),
        (
            "tools[].googleSearch.excludeDomains",
            tool(json!({"googleSearch": {"excludeDomains": ["a.b"], "timeRangeFilter": {}}})),
        ),
        (
            "tools[].googleMaps.groundingTypes",
            tool(json!({"googleMaps": {"groundingTypes": ["X"], "enableWidget": true}})),
        ),
        ("tools[].retrieval", tool(json!({"retrieval": {"vertexAiSearch": {"datastore": "d"}}}))),
        ("tools[].enterpriseWebSearch", tool(json!({"enterpriseWebSearch": {}}))),
        ("tools[].parallelAiSearch", tool(json!({"parallelAiSearch": {}}))),
        ("tools[].exaAiSearch", tool(json!({"exaAiSearch": {}}))),
    ]
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
        snake
    })
}

/// Writes all names of fields in the other spelling, which the API takes too.
fn in_snake(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(in_snake).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (snake(name), in_snake(value))).collect(),
        other => other.clone(),
    }
}

/// Returns the object without the field at a path, and the place of it as Google writes it, if it is there.
fn find(value: &Value, path: &str) -> Option<(Value, String)> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let name = first.trim_end_matches("[]");
    let name = [name.to_owned(), snake(name)].into_iter().find(|name| value.get(name).is_some())?;
    let Some(rest) = rest else {
        let mut value = value.clone();
        value.as_object_mut().unwrap().remove(&name);
        return Some((value, String::new()));
    };
    let (mut value, inner) = (value.clone(), value[&name].clone());
    let mut place = None;
    if first.ends_with("[]") {
        let mut items = inner.as_array().unwrap().clone();
        for (at, item) in items.iter_mut().enumerate() {
            if let Some((shorter, within)) = find(item, rest) {
                *item = shorter;
                place.get_or_insert_with(|| format!("{}[{at}]{within}", snake(&name)));
            }
        }
        items.retain(|item| *item != json!({}));
        value[&name] = items.into();
    } else if let Some((shorter, within)) = find(&inner, rest) {
        // Of an object nothing is left: it goes too.
        match shorter == json!({}) {
            true => _ = value.as_object_mut().unwrap().remove(&name),
            false => value[&name] = shorter,
        }
        place = Some(format!("{}{within}", snake(&name)));
    }
    let place = place?;
    let dot = if place.starts_with('.') { "" } else { "." };
    Some((value, format!("{dot}{place}")))
}

type Sent = Arc<Mutex<Vec<Value>>>;

/// A transport to Google's server for developers, which knows none of the fields.
fn google(
    sent: &Sent,
    with_details: bool,
) -> impl tower::Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let sent = sent.clone();
    service_fn(move |request: Request<Full<Bytes>>| {
        let sent = sent.clone();
        async move {
            let body: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
            sent.lock().unwrap().push(body.clone());
            let unknown = fields().into_iter().find_map(|(path, _)| Some((path, find(&body, path)?.1)));
            let (status, answer) = match unknown {
                Some((path, place)) => {
                    let (name, at) = (path.rsplit('.').next().unwrap(), place.trim_start_matches('.'));
                    let at_place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
                    let message =
                        format!("Invalid JSON payload received. Unknown name \"{name}\"{at_place}: Cannot find field.");
                    let mut error = json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT"});
                    if with_details {
                        error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.BadRequest",
                            "fieldViolations": [{"field": at, "description": message}]}]);
                    }
                    (400, json!({"error": error}).to_string())
                }
                None => (200, super::super::translation::hello(Dialect::Gemini).to_owned()),
            };
            let response = Response::builder().status(status).header("content-type", "application/json");
            Ok(response.body(Full::new(Bytes::from(answer))).unwrap())
        }
    })
}

fn request(more: &Value) -> LlmRequest {
    let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    LlmRequest::from(Wire::new(Dialect::Gemini, body.to_string()).unwrap().path(MODEL, false))
}

fn notes(answer: &LlmResponse) -> String {
    answer.notes().join("; ")
}

#[tokio::test(start_paused = true)]
async fn a_field_of_vertex_alone_is_left_out_at_the_api_for_developers() {
    for (path, more) in fields() {
        for (spelled, with_details) in [(more.clone(), false), (more.clone(), true), (in_snake(&more), false)] {
            let sent = Sent::default();
            let leaf = Gemini::new("k").model(MODEL).transport(google(&sent, with_details));
            for turn in 0..2 {
                let answer = leaf.clone().oneshot(request(&spelled)).await.unwrap();
                assert!(notes(&answer).contains(path), "{path}: {}", notes(&answer));
                let got = std::mem::take(&mut *sent.lock().unwrap());
                // Learned by the refusal: the next request is sent once.
                assert_eq!(got.len(), 2 - turn, "{path} {spelled}");
                let whole: Value = serde_json::from_slice(request(&spelled).wire().unwrap().body()).unwrap();
                assert_eq!(got[1 - turn], find(&whole, path).unwrap().0, "{path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_of_them_together_are_left_out_one_after_the_other() {
    let mut all = json!({});
    for (path, more) in fields() {
        if path.starts_with("tools") || path.starts_with("contents") || path.contains("imageConfig") {
            continue;
        }
        for (name, value) in more.as_object().unwrap() {
            match (&mut all[name.as_str()], value) {
                (Value::Object(there), Value::Object(more)) => there.extend(more.clone()),
                (there, value) => *there = value.clone(),
            }
        }
    }
    let sent = Sent::default();
    let leaf = Gemini::new("k").model(MODEL).transport(google(&sent, false));
    leaf.clone().oneshot(request(&all)).await.unwrap();
    sent.lock().unwrap().clear();
    leaf.oneshot(request(&all)).await.unwrap();
    assert_eq!(sent.lock().unwrap().len(), 1);
}

/// Vertex AI itself gets them.
#[tokio::test(start_paused = true)]
async fn vertex_gets_its_own_fields() {
    for (path, more) in fields() {
        let sent = Sent::default();
        let record = sent.clone();
        let transport = service_fn(move |request: Request<Full<Bytes>>| {
            let record = record.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                record.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let response = Response::builder().header("content-type", "application/json");
                let answer = super::super::translation::hello(Dialect::Gemini);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer))).unwrap())
            }
        });
        let token = Credentials::token(Token::bearer("t"));
        let leaf =
            Gemini::on_vertex("my-project", "global").unwrap().credentials(token).model(MODEL).transport(transport);
        let answer = leaf.oneshot(request(&more)).await.unwrap();
        assert_eq!(notes(&answer), "", "{path}");
        let whole: Value = serde_json::from_slice(request(&more).wire().unwrap().body()).unwrap();
        assert_eq!(sent.lock().unwrap()[0], whole, "{path}");
    }
}
