//! The binary form of an answer, for a store outside this process.
//!
//! The form is a byte for the version, eight bytes of a checksum, then tagged and counted pieces: the message, its
//! form, and the facts. Every number and byte comes back as it was. A provider's own bytes are stored as they are.

mod chat;
mod frames;
mod pieces;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use self::pieces::{DecodeError, Reader, Writer};
use super::answer::{Answer, Facts, Form, compacted};
use crate::{
    Degradation, DegradedReason,
    internal::wall_clock,
    store::{StoreError, StoreErrorKind},
};

/// The version of the form. It changes whenever the pieces do.
const VERSION: u8 = 2;
/// The first version, which did not record who asked.
const OF_NOBODY: u8 = 1;
/// The length of the checksum, which is the beginning of a SHA-256.
const SUM: usize = 8;

impl Answer {
    /// Encodes the answer for a store of another process. Its time is a date, so that it has an age in another
    /// process too.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_at(Instant::now(), wall_clock::since_1970())
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) encoded. If the clocks of two machines disagree, the age is at
    /// least zero.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](StoreErrorKind::Corrupt) for any other bytes, and [`NewerSchema`](StoreErrorKind::NewerSchema) for
    /// those of a later version of this crate. A store treats either as an answer that is not there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::from_bytes_at(bytes, Instant::now(), wall_clock::since_1970())
    }

    fn to_bytes_at(&self, now: Instant, since_1970: Duration) -> Vec<u8> {
        let mut said = Writer::default();
        said.facts(&self.facts, since_1970.saturating_sub(self.age(now)));
        match &self.form {
            Form::Whole(None) => {
                said.tag(0);
                said.message(&self.message);
            }
            Form::Whole(Some((dialect, raw))) => {
                said.tag(1);
                said.message(&self.message);
                said.dialect(*dialect);
                said.bytes(raw);
            }
            // The message is built from the frames again.
            Form::Stream(frames) => {
                said.tag(2);
                said.list(frames, Writer::frame);
            }
        }
        let said = said.finish();
        let mut bytes = Vec::with_capacity(1 + SUM + said.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&sum(&said));
        bytes.extend_from_slice(&said);
        bytes
    }

    fn from_bytes_at(bytes: &[u8], now: Instant, since_1970: Duration) -> Result<Self, StoreError> {
        let damaged = || StoreError::new(StoreErrorKind::Corrupt, "an answer that was kept");
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *version > VERSION {
            return Err(StoreError::new(StoreErrorKind::NewerSchema, "an answer that was kept"));
        }
        let (kept, said) = rest.split_at_checked(SUM).ok_or_else(damaged)?;
        if !(OF_NOBODY..=VERSION).contains(version) || kept != sum(said) {
            return Err(damaged());
        }
        Self::read(*version, &mut Reader::new(said), now, since_1970).map_err(|DecodeError| damaged())
    }

    fn read(version: u8, said: &mut Reader<'_>, now: Instant, since_1970: Duration) -> Result<Self, DecodeError> {
        let facts = said.facts(version, now, since_1970)?;
        let answer = match said.tag()? {
            0 => Self::whole(said.message()?, None, facts),
            1 => {
                let (message, dialect) = (said.message()?, said.dialect()?);
                Self::whole(message, Some((dialect, &said.raw()?)), facts)
            }
            2 => Self::stream(compacted(said.list(Reader::frame)?), facts),
            _ => return Err(DecodeError),
        };
        said.end()?;
        Ok(answer)
    }
}

fn sum(said: &[u8]) -> [u8; SUM] {
    let hash: [u8; 32] = Sha256::digest(said).into();
    let mut sum = [0; SUM];
    sum.copy_from_slice(&hash[..SUM]);
    sum
}

impl Writer {
    fn facts(&mut self, facts: &Facts, made: Duration) {
        let Facts { provider, model, notes, degraded, feature, fresh_for, stale_for, tenant, session, task, .. } =
            facts;
        for name in [provider, model, feature] {
            self.optional_text(name.as_deref());
        }
        self.list(notes, |writer, note| writer.text(note));
        self.optional(degraded.as_ref(), |writer, degradation| {
            writer.tag(degradation.level);
            writer.reason(degradation.reason);
        });
        for time in [made, *fresh_for, *stale_for] {
            self.duration(time);
        }
        for name in [tenant, session, task] {
            self.optional_text(name.as_deref());
        }
    }

    #[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its tag")]
    fn reason(&mut self, reason: DegradedReason) {
        match reason {
            DegradedReason::Failure(kind) => {
                self.tag(0);
                self.kind(kind);
            }
            DegradedReason::SteppedDown => self.tag(1),
            DegradedReason::Pinned => self.tag(2),
            DegradedReason::Drained => self.tag(3),
            DegradedReason::Route => self.tag(4),
            DegradedReason::Order => self.tag(5),
            DegradedReason::RequiresHuman => self.tag(6),
            _ => unreachable!("steadfast-core has no other reason"),
        }
    }
}

impl Reader<'_> {
    fn facts(&mut self, version: u8, now: Instant, since_1970: Duration) -> Result<Facts, DecodeError> {
        let (provider, model, feature) = (self.name()?, self.name()?, self.name()?);
        let notes: Vec<Cow<'static, str>> = self.list(|reader| reader.text().map(Cow::Owned))?;
        let degraded = self.optional(|reader| Ok(Degradation::new(reader.tag()?, reader.reason()?)))?;
        let age = since_1970.saturating_sub(self.duration()?);
        let (fresh_for, stale_for) = (self.duration()?, self.duration()?);
        let (tenant, session, task) = match version {
            OF_NOBODY => (None, None, None),
            _ => (self.name()?, self.name()?, self.name()?),
        };
        // The answer may be older than this machine's clock.
        let (made_at, older_by) = now.checked_sub(age).map_or((now, age), |made_at| (made_at, Duration::ZERO));
        let notes = notes.into();
        Ok(Facts {
            provider,
            model,
            notes,
            degraded,
            feature,
            tenant,
            session,
            task,
            made_at,
            older_by,
            fresh_for,
            stale_for,
        })
    }

    fn name(&mut self) -> Result<Option<std::sync::Arc<str>>, DecodeError> {
        Ok(self.optional(Self::text)?.map(Into::into))
    }

    fn reason(&mut self) -> Result<DegradedReason, DecodeError> {
        Ok(match self.tag()? {
            0 => DegradedReason::Failure(self.kind()?),
            1 => DegradedReason::SteppedDown,
            2 => DegradedReason::Pinned,
            3 => DegradedReason::Drained,
            4 => DegradedReason::Route,
            5 => DegradedReason::Order,
            6 => DegradedReason::RequiresHuman,
            _ => return Err(DecodeError),
        })
    }
}
