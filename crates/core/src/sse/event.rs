use std::ops::Range;

use bytes::Bytes;

/// One block of an event stream: everything up to and including a blank line.
///
/// Cloning is cheap: the bytes are reference-counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseEvent {
    /// The bytes of the wire, from after the previous event to the end of the blank line, comments included.
    pub raw: Bytes,
    pub(super) event: Range<usize>,
    pub(super) data: Data,
    pub(super) has_fields: bool,
}

/// The values of the `data` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    None,
    /// The value of the one field, by its range.
    One(Range<usize>),
    /// The values of several, joined.
    Joined(Bytes),
}

impl SseEvent {
    /// The value of the last `event` field; empty without one.
    #[must_use]
    pub fn event(&self) -> &[u8] {
        &self.raw[self.event.clone()]
    }

    /// The values of the `data` fields, joined with LF; empty without one.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.data {
            Data::None => &[],
            Data::One(place) => &self.raw[place.clone()],
            Data::Joined(bytes) => bytes,
        }
    }

    /// Creates the event that a server would write with this data, and with a name if it has one.
    #[doc(hidden)]
    pub fn of_data(name: Option<&str>, data: &[u8]) -> Self {
        let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let mut raw = Vec::with_capacity(data.len() + name.map_or(0, str::len) + 32);
        let mut event = 0..0;
        if let Some(name) = name {
            raw.extend_from_slice(b"event: ");
            event = raw.len()..raw.len() + name.len();
            raw.extend_from_slice(name.as_bytes());
            raw.push(b'\n');
        }
        let mut lines = 0;
        let mut place = 0..0;
        for line in data.split(is_line_end) {
            raw.extend_from_slice(b"data: ");
            place = raw.len()..raw.len() + line.len();
            raw.extend_from_slice(line);
            raw.push(b'\n');
            lines += 1;
        }
        raw.push(b'\n');
        let data = if lines == 1 { Data::One(place) } else { Data::Joined(Bytes::copy_from_slice(data)) };
        Self { raw: raw.into(), event, data, has_fields: true }
    }

    /// The same without borrowing: a slice of the event's own bytes.
    #[doc(hidden)]
    pub fn data_bytes(&self) -> Bytes {
        match &self.data {
            Data::None => Bytes::new(),
            Data::One(place) => self.raw.slice(place.clone()),
            Data::Joined(bytes) => bytes.clone(),
        }
    }

    /// Returns true if the block has at least one `data` field, even an empty one.
    ///
    /// The standard's parser dispatches only such blocks.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        !matches!(self.data, Data::None)
    }

    /// Returns true if the block holds nothing but comments and line ends. It proves that the connection is alive, not
    /// that the answer makes progress.
    #[must_use]
    pub const fn is_keep_alive(&self) -> bool {
        !self.has_fields
    }
}
