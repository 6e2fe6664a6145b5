use bytes::{BufMut, Bytes};

use super::{PRELUDE, checksum::crc32};

/// A message: typed headers, and a payload.
///
/// Cloning is cheap: the bytes are reference-counted.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The headers as they came, checked.
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

impl std::fmt::Debug for Message {
    /// Writes the message's type and its length, and nothing of the payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.event_type().or_else(|| self.exception_type());
        f.debug_struct("Message").field("type", &kind).field("payload", &self.payload.len()).finish()
    }
}

/// The value of a header: one of ten types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderValue<'a> {
    /// True or false, each a type of its own on the wire.
    Bool(bool),
    /// One byte with a sign.
    Byte(i8),
    /// Two bytes.
    Int16(i16),
    /// Four bytes.
    Int32(i32),
    /// Eight bytes.
    Int64(i64),
    /// Bytes, at most 65,535.
    Bytes(&'a [u8]),
    /// A text, at most 65,535 bytes.
    Text(&'a str),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// A UUID.
    Uuid([u8; 16]),
}

impl Message {
    /// Returns the headers, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, HeaderValue<'_>)> {
        let mut rest = &self.headers[..];
        std::iter::from_fn(move || {
            let (name, value, behind) = header(rest)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// Returns the value of the first header of this name, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers().find(|(is, _)| *is == name).and_then(|(_, value)| match value {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        })
    }

    /// Returns `:message-type`: `event`, `exception` or `error`.
    #[must_use]
    pub fn message_type(&self) -> Option<&str> {
        self.text(":message-type")
    }

    /// Returns `:event-type`, the name of an event.
    #[must_use]
    pub fn event_type(&self) -> Option<&str> {
        self.text(":event-type")
    }

    /// Returns `:exception-type`, the name of an exception that the service models.
    #[must_use]
    pub fn exception_type(&self) -> Option<&str> {
        self.text(":exception-type")
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// Reads the first header. Returns its name, its value and the bytes behind it; `None` if it is damaged, or there is
/// none.
pub(super) fn header(bytes: &[u8]) -> Option<(&str, HeaderValue<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    // A header without a name has no meaning.
    let name = str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    let (kind, rest) = rest.split_first()?;
    fn number<const N: usize>(rest: &[u8]) -> Option<([u8; N], &[u8])> {
        rest.split_first_chunk().map(|(number, rest)| (*number, rest))
    }
    fn sized(rest: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = number(rest)?;
        rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
    }
    let (value, rest) = match kind {
        0 => (HeaderValue::Bool(true), rest),
        1 => (HeaderValue::Bool(false), rest),
        2 => number(rest).map(|(value, rest)| (HeaderValue::Byte(i8::from_be_bytes(value)), rest))?,
        3 => number(rest).map(|(value, rest)| (HeaderValue::Int16(i16::from_be_bytes(value)), rest))?,
        4 => number(rest).map(|(value, rest)| (HeaderValue::Int32(i32::from_be_bytes(value)), rest))?,
        5 => number(rest).map(|(value, rest)| (HeaderValue::Int64(i64::from_be_bytes(value)), rest))?,
        6 => sized(rest).map(|(value, rest)| (HeaderValue::Bytes(value), rest))?,
        7 => {
            let (text, rest) = sized(rest)?;
            (HeaderValue::Text(str::from_utf8(text).ok()?), rest)
        }
        8 => number(rest).map(|(value, rest)| (HeaderValue::Timestamp(i64::from_be_bytes(value)), rest))?,
        9 => number(rest).map(|(value, rest)| (HeaderValue::Uuid(value), rest))?,
        _ => return None,
    };
    Some((name, value, rest))
}

/// Encodes a message, for servers of tests. Returns `None` if a name, a value or the whole is longer than its length
/// can say, or a name is empty.
///
/// ```
/// use steadfast::providers::bedrock::event_stream::{Decoder, HeaderValue, encode};
///
/// let bytes = encode(&[(":event-type", HeaderValue::Text("messageStart"))], br#"{"role":"assistant"}"#).unwrap();
/// let mut decoder = Decoder::default();
/// decoder.push(bytes.into());
/// assert_eq!(decoder.next_message()?.unwrap().event_type(), Some("messageStart"));
/// # Ok::<_, steadfast::providers::bedrock::event_stream::Damage>(())
/// ```
#[must_use]
pub fn encode(headers: &[(&str, HeaderValue<'_>)], payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; PRELUDE];
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).ok().filter(|length| *length > 0)?);
        out.put_slice(name.as_bytes());
        match value {
            HeaderValue::Bool(value) => out.put_u8(u8::from(!value)),
            HeaderValue::Byte(value) => out.put_slice(&[2, value.to_be_bytes()[0]]),
            HeaderValue::Int16(value) => {
                out.put_u8(3);
                out.put_i16(*value);
            }
            HeaderValue::Int32(value) => {
                out.put_u8(4);
                out.put_i32(*value);
            }
            HeaderValue::Int64(value) => {
                out.put_u8(5);
                out.put_i64(*value);
            }
            HeaderValue::Bytes(value) => sized(&mut out, 6, value)?,
            HeaderValue::Text(value) => sized(&mut out, 7, value.as_bytes())?,
            HeaderValue::Timestamp(value) => {
                out.put_u8(8);
                out.put_i64(*value);
            }
            HeaderValue::Uuid(value) => {
                out.put_u8(9);
                out.put_slice(value);
            }
        }
    }
    let headers = u32::try_from(out.len() - PRELUDE).ok()?;
    let total = u32::try_from(out.len().checked_add(payload.len())?.checked_add(4)?).ok()?;
    out[..4].copy_from_slice(&total.to_be_bytes());
    out[4..8].copy_from_slice(&headers.to_be_bytes());
    let prelude = crc32(&out[..8]);
    out[8..PRELUDE].copy_from_slice(&prelude.to_be_bytes());
    out.put_slice(payload);
    let whole = crc32(&out);
    out.put_u32(whole);
    Some(out)
}

fn sized(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Option<()> {
    out.put_u8(kind);
    out.put_u16(u16::try_from(value.len()).ok()?);
    out.put_slice(value);
    Some(())
}
