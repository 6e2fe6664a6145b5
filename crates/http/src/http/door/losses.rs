//! The notes of a door on the parts that it leaves out, and its refusals.

use std::borrow::Cow;

use crate::{ErrorKind, LlmError};

/// A reason for which a door leaves a part out: the feature, in the names of the rules of
/// [`translate`](crate::translate), and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss(pub(super) &'static str, pub(super) &'static str);

/// The parts left out so far: each with its first field, and the number of further ones.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<(Loss, String, u64)>);

/// The longest name in a note, in characters.
const LONGEST: usize = 80;

impl Losses {
    pub(super) fn record(&mut self, loss: Loss, field: &str) {
        let field: String = field.chars().take(LONGEST).filter(|letter| !letter.is_control()).collect();
        match self.0.iter_mut().find(|(known, ..)| *known == loss) {
            Some((_, first, _)) if *first == field => {}
            Some((.., more)) => *more += 1,
            None => self.0.push((loss, field, 0)),
        }
    }

    pub(super) fn into_texts(self) -> Vec<Cow<'static, str>> {
        let text = |(Loss(feature, why), field, more): (Loss, String, u64)| {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Cow::Owned(format!("{feature} ({field}{more}): {why}"))
        };
        self.0.into_iter().map(text).collect()
    }
}

/// Creates the error of a request that would be another one without a part. It names the part's place.
pub(super) fn refused(feature: &str, place: &str, why: &str) -> LlmError {
    let place: String = place.chars().take(LONGEST).filter(|letter| !letter.is_control()).collect();
    LlmError::new(ErrorKind::UnsupportedFeature, format!("{feature} ({place}): {why}"))
}
