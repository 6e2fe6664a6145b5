//! A gateway's response, and a caller that waits for it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use super::serve::Served;

/// The time that a caller waits for the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A response with its whole body.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// In small letters.
    pub head: String,
    /// The chunks of a body, with their sizes between them.
    pub body: String,
}

impl Served {
    /// Sends a request (`POST /v1/messages`, with these lines of headers) on a connection of its own, and waits for
    /// nothing.
    pub fn send(&self, request: &str, headers: &str, body: &str) -> TcpStream {
        send(self.address(), request, headers, body)
    }

    /// The answer to such a request.
    pub fn ask(&self, request: &str, headers: &str, body: &str) -> Answer {
        answer(self.send(request, &format!("connection: close\r\n{headers}"), body))
    }
}

/// Sends a request to this host and port, as [`Served::send`] does.
pub fn send(address: &str, request: &str, headers: &str, body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nhost: g\r\n{headers}content-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).unwrap();
    connection
}

/// All that comes until the connection is closed.
pub fn answer(mut connection: TcpStream) -> Answer {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head:?}"));
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

impl Answer {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// A body that is one.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the text of a whole answer, in either dialect.
    pub fn text(&self) -> String {
        let json = self.json();
        let text = json["content"][0]["text"].as_str().or_else(|| json["choices"][0]["message"]["content"].as_str());
        text.unwrap_or_default().to_owned()
    }

    /// Returns whether the response is an error in this path's dialect.
    pub fn is_error_of(&self, path: &str) -> bool {
        let Ok(json) = serde_json::from_str::<Value>(&self.body) else { return false };
        let told = json["error"]["type"].is_string() && json["error"]["message"].is_string();
        told && self.status >= 400 && (json["type"] == "error") == path.starts_with("/v1/messages")
    }

    /// Returns whether an answer between the words `first` and `and last` is whole, in either dialect, streamed or not.
    pub fn is_whole(&self) -> bool {
        let ends = match self.head.contains("text/event-stream") {
            true => self.body.contains("event: message_stop") || self.body.trim_end().ends_with("data: [DONE]"),
            false => serde_json::from_str::<Value>(&self.body).is_ok(),
        };
        self.status == 200 && self.body.contains("first") && self.body.contains(" and last") && ends
    }
}
