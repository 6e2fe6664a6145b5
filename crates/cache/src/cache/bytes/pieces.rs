//! The primitives of the binary form.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Number, Value};

use crate::{Dialect, ErrorKind};

/// Writes pieces one after another.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// Reads the pieces back. It ends for any bytes: with their content, or [`DecodeError`].
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The current nesting depth.
    depth: u32,
}

/// The bytes are not what was written.
#[derive(Debug)]
pub(super) struct DecodeError;

/// The deepest nesting of pieces: more than any JSON text that can be parsed, which ends at 128.
const DEEPEST: u32 = 200;

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn tag(&mut self, tag: u8) {
        self.bytes.push(tag);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.tag(flag.into());
    }

    /// Writes seven bits a byte, the lowest first; the eighth bit says that more follow.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn optional_text(&mut self, text: Option<&str>) {
        self.optional(text, Self::text);
    }

    pub(super) fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }

    pub(super) fn dialect(&mut self, dialect: Dialect) {
        self.tag(match dialect {
            Dialect::Anthropic => 0,
            Dialect::OpenAi => 1,
            Dialect::Gemini => 2,
            Dialect::Responses => 3,
        });
    }

    /// Writes the kind by its name, which is stable; its number is not.
    pub(super) fn kind(&mut self, kind: ErrorKind) {
        self.text(kind.name());
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    /// Fails if any bytes follow.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn tag(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.tag()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.tag()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(DecodeError);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError)
    }

    pub(super) fn small(&mut self) -> Result<u32, DecodeError> {
        self.number()?.try_into().map_err(|_| DecodeError)
    }

    pub(super) fn duration(&mut self) -> Result<Duration, DecodeError> {
        let (seconds, nanos) = (self.number()?, self.small()?);
        // A larger value would carry over, and might overflow.
        if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(DecodeError) }
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.number()?.try_into().map_err(|_| DecodeError)?;
        self.take(length)
    }

    pub(super) fn raw(&mut self) -> Result<Bytes, DecodeError> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| DecodeError)
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        Ok(if self.flag()? { Some(read(self)?) } else { None })
    }

    /// Reads a list without reserving room for it: each item takes at least a byte, and the bytes end.
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::new();
        for _ in 0..self.number()? {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Reads a nested value.
    pub(super) fn inside<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(DecodeError);
        }
        let read = read(self)?;
        self.depth -= 1;
        Ok(read)
    }

    pub(super) fn dialect(&mut self) -> Result<Dialect, DecodeError> {
        match self.tag()? {
            0 => Ok(Dialect::Anthropic),
            1 => Ok(Dialect::OpenAi),
            2 => Ok(Dialect::Gemini),
            3 => Ok(Dialect::Responses),
            _ => Err(DecodeError),
        }
    }

    pub(super) fn kind(&mut self) -> Result<ErrorKind, DecodeError> {
        let name = self.text()?;
        ErrorKind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(DecodeError)
    }

    pub(super) fn value(&mut self) -> Result<Value, DecodeError> {
        Ok(match self.tag()? {
            0 => Value::Null,
            1 => Value::Bool(self.flag()?),
            2 => Value::Number(self.number()?.into()),
            3 => {
                let number = 0i64.checked_sub_unsigned(self.number()?).ok_or(DecodeError)?;
                Value::Number(number.into())
            }
            4 => {
                let bits = self.take(8)?.try_into().map_err(|_| DecodeError)?;
                Value::Number(Number::from_f64(f64::from_le_bytes(bits)).ok_or(DecodeError)?)
            }
            5 => Value::String(self.text()?),
            6 => Value::Array(self.inside(|reader| reader.list(Self::value))?),
            7 => Value::Object(self.fields()?),
            _ => return Err(DecodeError),
        })
    }

    pub(super) fn fields(&mut self) -> Result<Map<String, Value>, DecodeError> {
        self.inside(|reader| {
            let fields = reader.list(|reader| Ok((reader.text()?, reader.value()?)))?;
            Ok(fields.into_iter().collect())
        })
    }
}
