// A service that asks a model by HTTP, as it is: with requests, a key and a reader of streams of its own.

use serde_json::{Value, json};
use tower::BoxError;

fn question(city: &str, stream: bool) -> Value {
    let message = json!({"role": "user", "content": format!("How is the weather in {city}?")});
    json!({"model": "gpt-4o", "stream": stream, "messages": [message]})
}

pub(crate) async fn forecast(client: &Client, url: &str, city: &str) -> Result<String, BoxError> {
    let request = client.post(url).bearer_auth("sk-of-the-service").json(&question(city, false));
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    Ok(answer["choices"][0]["message"]["content"].as_str().ok_or("no text")?.to_owned())
}

pub(crate) async fn spoken_forecast(client: &Client, url: &str, city: &str) -> Result<String, BoxError> {
    let request = client.post(url).bearer_auth("sk-of-the-service").json(&question(city, true));
    let mut answer = request.send().await?.error_for_status()?;
    let (mut read, mut spoken) = (Vec::new(), String::new());
    while let Some(piece) = answer.chunk().await? {
        read.extend_from_slice(&piece);
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            match str::from_utf8(&line)?.trim().strip_prefix("data: ") {
                Some("[DONE]") => return Ok(spoken),
                Some(event) => {
                    let event: Value = serde_json::from_str(event)?;
                    spoken += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
                }
                None => {}
            }
        }
    }
    Err("the stream ended early".into())
}
