use serde::Deserialize;
use serde_json::value::RawValue;

use super::{answer::Answer, stream::Decoder};
use crate::{
    body::Accumulator,
    chat::{Message, Usage},
    json::{parse, raw},
    protocol::Fault,
};

/// Decodes a whole answer. It means what a stream of the same items means.
pub(super) fn message(body: &[u8]) -> Result<Message, Fault> {
    let answer = Answer::read(body)?;
    if answer.output.is_none() {
        return Err(Fault::Malformed(serde::de::Error::missing_field("output")));
    }
    let mut events = Vec::new();
    Decoder::default().last(answer, &mut events)?;
    let mut message = Accumulator::default();
    events.iter().for_each(|event| message.push(event));
    Ok(message.finish())
}

/// Returns the tokens of a response, or of one in an event.
pub(super) fn usage(json: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow, default, deserialize_with = "raw")]
        response: Option<&'a RawValue>,
    }

    let event: Event<'_> = parse(json).ok()?;
    let response = event.response.map_or(json, |response| response.get().as_bytes());
    parse::<Answer<'_>>(response).ok()?.usage()
}
