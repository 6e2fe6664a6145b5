use super::{answer::Answer, stream::Decoder};
use crate::{body::Accumulator, chat::Message, protocol::Fault};

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
