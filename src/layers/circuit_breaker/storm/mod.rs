//! A storm of 400s: the provider's fault, not the callers'.
//!
//! On 2026-03-09 a provider answered 400 to every request for one model, for twenty hours. One bad request shows
//! nothing about the provider; many *different* ones that are suddenly all bad do. So the machine keeps the last
//! 20 different requests that were called invalid (by a fingerprint), with the number of calls between
//! them that ended well. They are a storm if they lie within a minute and no more calls than that have ended well
//! since the first of them.
//!
//! Well before that there is reason to doubt: by default at the third different one, with no more calls that ended
//! well since the first of them, whenever that was. In thin traffic a storm is never seen as one, and each of its
//! callers would get an error that is not their mistake. A doubt does not count against the provider; but another
//! tier may give a second opinion. If that agrees, the request is no evidence any more.
//!
//! A few callers' requests are no storm among several callers. With two, three, and four or more met, each stands for
//! at most a half, a third and a quarter of a storm. So it takes all that have been met, up to four of them, and
//! as many to find in a half-open circuit's probes that it goes on. A named caller that seems to be the only one
//! decides alone once no other has come for a minute. Callers without a name are one.

mod circuit;
mod detector;
mod errors;

pub(super) use self::detector::Storm;
#[cfg(test)]
pub(super) use self::detector::{CALM, DISTINCT};
