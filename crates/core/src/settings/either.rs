//! Values with a short form and a long one: `timeout: 30s`, or a block of limits.
//!
//! serde's own `untagged` would lose the place in the file and the message of an error there.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A short form or a long one.
#[derive(Clone, Copy, Debug)]
pub enum Either<S, B> {
    /// The short form.
    Short(S),
    /// The long form.
    Block(B),
}

/// Reads a block as `B`, and a single value as `S`.
///
/// # Errors
///
/// The value is of neither form, or its form does not read it.
pub fn short_or_block<'de, D, S, B>(deserializer: D, expecting: &'static str) -> Result<Either<S, B>, D::Error>
where
    D: Deserializer<'de>,
    S: Deserialize<'de>,
    B: Deserialize<'de>,
{
    deserializer.deserialize_any(Forms { expecting, forms: PhantomData })
}

struct Forms<S, B> {
    expecting: &'static str,
    forms: PhantomData<(S, B)>,
}

impl<S, B> Forms<S, B> {
    fn short<'de, E: Error>(value: impl IntoDeserializer<'de, E>) -> Result<Either<S, B>, E>
    where
        S: Deserialize<'de>,
    {
        S::deserialize(value.into_deserializer()).map(Either::Short)
    }
}

impl<'de, S: Deserialize<'de>, B: Deserialize<'de>> Visitor<'de> for Forms<S, B> {
    type Value = Either<S, B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Self::short(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Self::short(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Self::short(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Self::short(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Self::short(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        B::deserialize(MapAccessDeserializer::new(map)).map(Either::Block)
    }
}
