//! Requests that are made up, with all that makes a reader of JSON lose its place.

use fastrand::Rng;

/// A request, or nearly one.
pub(crate) fn request(seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut json = Vec::new();
    object(&mut rng, 0, &mut json);
    // Half of them stay whole.
    for _ in 0..rng.usize(..6).saturating_sub(3) {
        let at = rng.usize(..=json.len());
        let token = *rng.choice(TOKENS).expect("there are some");
        let end = (at + rng.usize(..3)).min(json.len());
        json.splice(at..end, token.bytes());
    }
    json
}

const TOKENS: &[&str] =
    &["", "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\\\"", "\"model\":\"x\",", "null", "\u{1}"];
const NAMES: &[&str] = &[
    "model",
    "stream",
    "a",
    "mod\\u0065l",
    "max_tokens",
    "messages",
    "",
    "caf\u{e9}",
    "\\\"",
    "thinking",
    "{",
    "\\\\",
];
const PIECES: &[&str] =
    &["x", "\\\"", "\\\\", "\\n", "\\u0022", "{", "}", "[", "]", ",", ":", "steadfast.", "\u{e9}", "\\\\\\\""];

fn object(rng: &mut Rng, depth: u32, json: &mut Vec<u8>) {
    list(rng, b"{}", json, |rng, json| {
        json.push(b'"');
        json.extend_from_slice(rng.choice(NAMES).map_or(b"", |name| name.as_bytes()));
        json.push(b'"');
        space(rng, json);
        json.push(b':');
        space(rng, json);
        value(rng, depth, json);
    });
}

fn value(rng: &mut Rng, depth: u32, json: &mut Vec<u8>) {
    match rng.u8(..if depth < 5 { 10 } else { 6 }) {
        0 => json.extend_from_slice(b"true"),
        1 => json.extend_from_slice(b"-1.5e3"),
        2 => json.extend_from_slice(b"null"),
        3..6 => text(rng, json),
        6 | 7 => list(rng, b"[]", json, |rng, json| value(rng, depth + 1, json)),
        _ => object(rng, depth + 1, json),
    }
}

fn list(rng: &mut Rng, brackets: &[u8; 2], json: &mut Vec<u8>, item: impl Fn(&mut Rng, &mut Vec<u8>)) {
    json.push(brackets[0]);
    space(rng, json);
    for at in 0..rng.usize(..5) {
        if at > 0 {
            json.push(b',');
            space(rng, json);
        }
        item(rng, json);
        space(rng, json);
    }
    json.push(brackets[1]);
}

/// Short ones, long ones, and runs of backslashes that reach from one block into the next.
fn text(rng: &mut Rng, json: &mut Vec<u8>) {
    json.push(b'"');
    for _ in 0..rng.usize(..6) {
        let times = if rng.u8(..) < 40 { rng.usize(..150) } else { rng.usize(..4) };
        let piece = rng.choice(PIECES).expect("there are some");
        json.extend(piece.bytes().cycle().take(piece.len() * times));
    }
    json.push(b'"');
}

fn space(rng: &mut Rng, json: &mut Vec<u8>) {
    if rng.u8(..) < 30 {
        let space = *rng.choice(b" \t\r\n").expect("there are some");
        json.extend(std::iter::repeat_n(space, rng.usize(..70)));
    }
}
