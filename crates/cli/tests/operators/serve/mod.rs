//! `steadfast serve` as its users start it: the real binary, real signals, a real file.

mod keys;
mod log;
mod reload;
mod settings;
mod stored_keys;
mod tokens;

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use crate::common::{
    key,
    serve::{Serve, Served},
    within,
};

const HELLO: &str =
    r#"{"model":"simulated-primary","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"a secret"}]}"#;
/// A change that is not seen by then never will be.
const SOON: Duration = Duration::from_secs(10);

/// A stream that has begun: its status has come.
fn begun(served: &Served) -> TcpStream {
    let mut stream = served.send("POST /v1/messages", "anthropic-version: 2023-06-01\r\n", HELLO);
    begins(&mut stream);
    stream
}

fn begins(stream: &mut TcpStream) {
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

/// Returns the rest of the stream.
fn rest(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn without_arguments_the_gateway_serves_simulated_models_and_says_so() {
    let served = Serve::simulated().start();
    let greeting = served.greeting();
    assert!(greeting.contains("simulated: nothing leaves this machine"), "{greeting}");
    // The line to try is a shell's own: what it sends is answered.
    let curl = greeting.split("curl ").nth(1).unwrap().split("\n\n").next().unwrap();
    let data = curl.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let answer = served.ask("POST /v1/chat/completions", "content-type: application/json\r\n", data);
    assert!(answer.status == 200 && answer.body.contains("data: [DONE]"), "{answer:?}");
}

#[test]
fn a_terminated_gateway_lets_streams_finish_and_ends_in_good_order() {
    let served = Serve::simulated().start();
    let asked = |_| served.send("POST /v1/messages", "anthropic-version: 2023-06-01\r\n", HELLO);
    let mut streams: Vec<TcpStream> = (0..50).map(asked).collect();
    streams.iter_mut().for_each(begins);
    served.signal("-TERM");
    for stream in streams {
        let rest = rest(stream);
        assert!(rest.contains("event: message_stop"), "{rest}");
    }
    let said = served.stopped().err;
    assert!(said.contains("SIGTERM") && said.contains("stopped"), "{said}");
}

#[test]
fn streams_that_outlast_the_grace_end_with_an_error_event() {
    let served = Serve::simulated().args(["--grace", "0"]).start();
    let stream = begun(&served);
    served.signal("-TERM");
    let rest = rest(stream);
    assert!(rest.contains("event: error") && !rest.contains("message_stop"), "{rest}");
    served.stopped();
}

#[test]
fn without_keys_the_gateway_listens_on_loopback_only() {
    let refused = Serve::simulated().listen("0.0.0.0:0").refused();
    assert!(refused.err.contains("--insecure-no-auth"), "{}", refused.err);
}

#[test]
fn with_keys_the_gateway_listens_anywhere_and_serves_callers_with_a_key() {
    let (key, entry) = key("team-search");
    let served = Serve::simulated().listen("0.0.0.0:0").keys(&entry).start();
    let ask = |key: &str| served.ask("POST /v1/messages", &format!("authorization: Bearer {key}\r\n"), HELLO);
    assert!(ask(&key).body.contains("event: message_stop"));
    assert_eq!(ask("another").status, 401);
    fs::write(served.folder().path("keys.yaml"), "keys: [").unwrap();
    served.signal("-HUP");
    within(SOON, "it is not read", || served.log().contains("keys not reloaded"));
    assert!(ask(&key).body.contains("event: message_stop"), "a file that is wrong changes nothing");
    let said = served.stop();
    assert!(!said.out.contains(&key) && !said.err.contains(&key), "{said:?}");
}

#[test]
fn a_port_that_is_taken_is_said_plainly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Serve::simulated().listen(&address).refused();
    assert!(refused.err.contains(&format!("cannot listen on {address}")), "{}", refused.err);
}

#[test]
fn the_gateways_output_contains_neither_prompts_nor_keys() {
    let served = Serve::simulated().start();
    let headers = "authorization: Bearer sk-secret\r\nx-api-key: sk-secret\r\n";
    for path in ["/v1/messages", "/v1/chat/completions", "/v1/sk-secret"] {
        for body in [HELLO, r#"{"model":"a secret","messages":"a secret","#] {
            served.ask(&format!("POST {path}"), headers, body);
        }
    }
    let said = served.stop();
    assert!(said.err.contains("request failed"), "{said:?}");
    assert!(!said.out.contains("secret") && !said.err.contains("secret"), "{said:?}");
}
