//! Routes an HTTP request to the answer in the script.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};
use tower::BoxError;

use super::{
    anthropic::Anthropic,
    door::{self, Accounts},
    gemini::{self, Gemini},
    openai::OpenAi,
    play::{ConnectionBroken, Play},
    protocol::{Answer, ParsedRequest, Protocol, set, status_code},
    refusal::Refusal,
    responses::Responses,
    token_servers,
    transcript::Transcript,
};
use steadfast::{
    LlmRequest, Wire,
    providers::simulated::{Fault, PlannedCall, RateStatus, Simulated, SimulatedCall, tokens_of},
};
use steadfast_internal::wall_clock;

/// The largest request body, which is Anthropic's limit.
const LARGEST: usize = 32 * 1024 * 1024;

/// The page of an edge whose server does not answer.
const PAGE: &str = "<!DOCTYPE html>\n<html>\n<head><title>502 Bad Gateway</title></head>\n\
                    <body>\n<center><h1>502 Bad Gateway</h1></center>\n<hr>\n\
                    <center>cloudflare</center>\n</body>\n</html>\n";

/// The body that OpenAI's edge sent on 2023-11-08.
const BAD_GATEWAY: &str = r#"{"error":{"code":502,"message":"Bad gateway.","param":null,"type":"cf_bad_gateway"}}"#;

/// Answers one request, and writes it into the transcript. Calls `reset` if the connection is to be reset, and not
/// merely closed.
///
/// # Errors
///
/// [`ConnectionBroken`] if the connection is to end without an answer.
pub(super) async fn answer<B>(
    request: Request<B>,
    provider: &Simulated,
    accounts: &Accounts,
    transcript: Option<&Transcript>,
    reset: impl FnOnce(),
) -> Result<Response<Play>, ConnectionBroken>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => Some(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => None,
        // The caller left in the middle of its request.
        Err(_) => return Err(ConnectionBroken),
    };
    if let (Some(transcript), Some(body)) = (transcript, &body) {
        transcript.write(&parts, body);
    }
    let only = accounts.restriction();
    let place = door::find(&parts, body.as_deref().unwrap_or_default(), only);
    let own = place.as_ref().map(|place| place.protocol).or_else(|| protocol_of(&parts).filter(|_| only.is_none()));
    let Some(protocol) = own else {
        if let Some(issued) = token_servers::answer(&parts, body.as_deref().unwrap_or_default(), accounts) {
            let Some((status, content_type, text)) = issued else { std::future::pending().await };
            return Ok(respond(status_code(status), content_type, Play::whole(None, text)));
        }
        return Ok(answer_other(&parts, provider));
    };
    let refused = |refusal: &Refusal| {
        provider.reject();
        let mut answer = refuse(protocol, refusal, None, "rejected");
        if place.as_ref().is_some_and(|place| place.cloud == door::Cloud::Aws) {
            set(answer.headers_mut(), "date", http_date(accounts.now()));
        }
        Ok(answer)
    };
    let Some(body) = body else { return refused(&Refusal::TooLarge) };
    if let Some(Err(denial)) = place.as_ref().map(|place| place.admit(&parts, &body, accounts)) {
        return refused(&Refusal::Denied(denial));
    }
    let Ok(json) = serde_json::from_slice::<Value>(&body) else {
        let message = "We could not parse the JSON body of your request.";
        return refused(&Refusal::invalid("body", message));
    };
    let mut ask = match protocol.ask(&parts, &json, provider.name()) {
        Ok(ask) if provider.serves(&ask.model) => ask,
        Ok(ask) => return refused(&Refusal::UnknownModel(ask.model)),
        Err(refusal) => return refused(&refusal),
    };
    if let Some(Err(denial)) = place.as_ref().map(|place| place.admit_model(&ask.model, accounts)) {
        return refused(&Refusal::Denied(denial));
    }
    let prompt_tokens = tokens_of(body.len());
    if parts.uri.path().ends_with("/count_tokens") {
        let count = json!({ "input_tokens": prompt_tokens });
        return Ok(respond(StatusCode::OK, JSON, Play::whole(None, count.to_string())));
    }
    // Only Gemini has a second form of streams.
    let framed = !parts.uri.path().contains(":streamGenerateContent") || gemini::wants_sse(&parts);
    let mut call = provider.begin(prompt_tokens, ask.max_tokens);
    let called = match ask.chat.take() {
        Some(chat) => call.follow_demands(&chat),
        // The checks have understood the conversation: the decoder's opinion is no reason to refuse.
        None => {
            let body = ask.dialect_body.as_ref().map_or(body, |body| body.to_string().into());
            let wire = Wire::new(protocol.dialect(), body)
                .map(|wire| LlmRequest::from(wire.path(ask.model.as_str(), ask.stream)));
            wire.ok().and_then(|request| call.follow_demands(request.chat().ok()?))
        }
    };
    act(protocol, call, ask, called, prompt_tokens, framed, reset).await
}

/// Carries out the plan of a call.
async fn act(
    protocol: &'static dyn Protocol,
    mut call: SimulatedCall,
    ask: ParsedRequest,
    called: Option<PlannedCall>,
    prompt_tokens: u64,
    framed: bool,
    reset: impl FnOnce(),
) -> Result<Response<Play>, ConnectionBroken> {
    let started = Instant::now();
    if call.plan.fault == Some(Fault::NoPrefill) && !ask.prefilled {
        call.plan.fault = None;
    }
    sleep(call.plan.delay).await;
    let request_id = format!("req_{:024x}", call.number);
    if let Some(fault) = call.plan.fault.clone() {
        if let Some(refusal) = Refusal::of(&fault) {
            return Ok(refuse(protocol, &refusal, Some(call), &request_id));
        }
        let page = match fault {
            Fault::Refused => {
                reset();
                call.finish();
                return Err(ConnectionBroken);
            }
            Fault::Hang => std::future::pending().await,
            fault => page(&fault),
        };
        if let Some((status, content_type, body)) = page {
            return Ok(respond(status_code(status), content_type, Play::whole(Some(call), body)));
        }
    }

    let mut headers = HeaderMap::new();
    protocol.headers(&mut headers, &request_id, &call.plan.rate, None);
    let stream = ask.stream && framed;
    let array = ask.stream && !framed;
    let answer = Answer::new(&call, ask, called, request_id, prompt_tokens);
    let mut response = if stream {
        respond(StatusCode::OK, protocol.framing().content_type(), Play::stream(call, protocol, answer))
    } else {
        sleep(call.plan.pace.saturating_mul(answer.tokens)).await;
        let text = whole_text(protocol, call.plan.fault.as_ref(), &answer);
        let text = if array { format!("[{text}]") } else { text };
        respond(StatusCode::OK, JSON, Play::whole(Some(call), text))
    };
    set(&mut headers, "openai-processing-ms", started.elapsed().as_millis());
    if !headers.contains_key("openai-version") {
        headers.remove("openai-processing-ms");
    }
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Returns the status, the content type and the body of a fault that is an answer from elsewhere than the API.
fn page(fault: &Fault) -> Option<(u16, &'static str, &'static str)> {
    match *fault {
        Fault::BadGateway => Some((502, JSON, BAD_GATEWAY)),
        Fault::ComeBackLater => Some((429, JSON, r#"{"status":"come back later"}"#)),
        Fault::Status(status) => Some((status, HTML, PAGE)),
        Fault::HtmlPage => Some((200, HTML, PAGE)),
        // Carried out in the body.
        _ => None,
    }
}

/// Returns the JSON of an answer that is not streamed: an error, if the fault is one in the middle of the answer.
fn whole_text(protocol: &dyn Protocol, fault: Option<&Fault>, answer: &Answer) -> String {
    let fails = matches!(fault, Some(Fault::ErrorEventAfter(_)));
    let value = if fails { protocol.refuse(&Refusal::Server, &answer.request_id).1 } else { protocol.whole(answer) };
    value.to_string()
}

fn protocol_of(request: &Parts) -> Option<&'static dyn Protocol> {
    if request.method != Method::POST {
        return None;
    }
    Some(match request.uri.path() {
        "/v1/messages" | "/v1/messages/count_tokens" => &Anthropic,
        "/v1/chat/completions" => &OpenAi,
        "/v1/responses" => &Responses,
        path if gemini::split_path(path).is_some() => &Gemini,
        _ => return None,
    })
}

/// Answers a request that is no call: the list of models, which works even in an outage, and unknown paths.
fn answer_other(request: &Parts, provider: &Simulated) -> Response<Play> {
    let path = request.uri.path();
    if request.method == Method::GET && path == "/v1/models" {
        let models = json!({
            "object": "list",
            "data": [{
                "id": provider.name(),
                "object": "model",
                "created": wall_clock::since_1970().as_secs(),
                "owned_by": "steadfast",
            }],
        });
        return respond(StatusCode::OK, JSON, Play::whole(None, models.to_string()));
    }
    provider.reject();
    let protocol: &'static dyn Protocol = if let Some(protocol) = door::at_unknown(path) {
        protocol
    } else if path.contains("/models/") {
        &Gemini
    } else if request.headers.contains_key("anthropic-version") {
        &Anthropic
    } else {
        &OpenAi
    };
    let path = format!("{} {path}", request.method);
    refuse(protocol, &Refusal::UnknownPath(path), None, "rejected")
}

fn refuse(
    protocol: &'static dyn Protocol,
    refusal: &Refusal,
    call: Option<SimulatedCall>,
    request_id: &str,
) -> Response<Play> {
    let rate = call.as_ref().map_or_else(RateStatus::default, |call| call.plan.rate);
    let (status, body) = protocol.refuse(refusal, request_id);
    let mut response = respond(status, JSON, Play::whole(call, body.to_string()));
    protocol.headers(response.headers_mut(), request_id, &rate, Some(refusal));
    response
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=UTF-8";

/// Returns a date as HTTP writes it.
fn http_date(at: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = Duration::from_secs(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
    let text = wall_clock::rfc3339(since);
    let day = DAYS[(since.as_secs() / 86_400 % 7) as usize];
    let month = text[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"Jan");
    format!("{day}, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19])
}

fn respond(status: StatusCode, content_type: &'static str, body: Play) -> Response<Play> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(response.headers_mut(), "content-type", content_type);
    response
}
