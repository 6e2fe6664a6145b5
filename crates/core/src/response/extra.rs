//! The parts that few answers have, in a box, so that all others stay small.

use std::{
    borrow::Cow,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::time::Instant;

use super::{CacheOrigin, Degradation};
use crate::{
    error::Attempt,
    prices::{Price, PriceTable},
};

/// The parts that no layer adds to a healthy answer.
#[derive(Default)]
pub(super) struct Extras(ManuallyDrop<Option<Box<Extra>>>);

impl Deref for Extras {
    type Target = Option<Box<Extra>>;

    fn deref(&self) -> &Option<Box<Extra>> {
        &self.0
    }
}

impl DerefMut for Extras {
    fn deref_mut(&mut self) -> &mut Option<Box<Extra>> {
        &mut self.0
    }
}

impl Drop for Extras {
    /// Only looks: by itself the compiler calls the large code that drops them for each answer, with or without.
    #[inline]
    fn drop(&mut self) {
        // No `take` here: it would write to each answer.
        if self.0.is_some() {
            self.discard();
        }
    }
}

impl Extras {
    #[cold]
    #[inline(never)]
    fn discard(&mut self) {
        *self.0 = None;
    }
}

#[derive(Default)]
pub(super) struct Extra {
    pub(super) provider: Option<Arc<str>>,
    pub(super) model: Option<Arc<str>>,
    /// The model by the answer's own word, if that is another.
    pub(super) served_model: Option<Arc<str>>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) request_id: Option<Box<str>>,
    pub(super) notes: Vec<Cow<'static, str>>,
    pub(super) headers: Option<http::HeaderMap>,
    pub(super) degraded: Option<Degradation>,
    /// The prices, if not the built-in ones.
    pub(super) prices: Option<PriceTable>,
    pub(super) route: Option<RouteChoice>,
    /// The chain that the request took, if the tier that it asked first does not tell.
    pub(super) chain: Option<Arc<str>>,
    pub(super) away_since: Option<Instant>,
    pub(super) cached: Option<CacheOrigin>,
    pub(super) task_id: Option<Box<str>>,
    pub(super) missed: bool,
    pub(super) hedged: bool,
    pub(super) accepts: Option<u8>,
    pub(super) possible_repeat: bool,
}

/// The rule that chose a cheaper chain, and the price of the model that it replaced.
pub(super) struct RouteChoice {
    pub(super) rule: Arc<str>,
    pub(super) instead_of: Option<Price>,
}
