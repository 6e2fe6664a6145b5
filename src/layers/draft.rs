//! The settings of a layer as its builder is told them, and the state that its services share.
//!
//! A handle reads both from the first moment on: it follows the settings that come after it, until the layer is wrapped
//! around a service. A layer that is changed after that, or beside a clone of it, has a draft of its own.

use std::sync::{Arc, OnceLock, Weak};

use crate::internal::sync::{Mutex, lock};

/// The settings from which the shared state of a layer's services is made.
pub(crate) trait Plan: Clone {
    type State;

    /// Makes the state. `before` is the one that handles have seen until the last change.
    // Settings that are the state need no copy: their services are foreign code.
    fn make(self: &Arc<Self>, before: Option<&Self::State>) -> Arc<Self::State>;
}

/// The settings of one layer and its clones.
pub(crate) struct Draft<P: Plan> {
    slot: Arc<Slot<P>>,
    /// Counts the layers with this draft, without their handles.
    layers: Arc<()>,
}

/// The place that a layer, its clones and their handles share.
pub(crate) struct Slot<P: Plan> {
    /// Set once a service has the state: it changes no more.
    settled: OnceLock<Arc<P::State>>,
    pending: Mutex<Pending<P>>,
}

struct Pending<P: Plan> {
    plan: Arc<P>,
    /// The state that a handle has asked for.
    state: Option<Arc<P::State>>,
    /// True if the plan has changed since that state was made.
    is_stale: bool,
}

impl<P: Plan> Draft<P> {
    pub(crate) fn new(plan: P) -> Self {
        Self::of(Arc::new(plan))
    }

    fn of(plan: Arc<P>) -> Self {
        let pending = Mutex::new(Pending { plan, state: None, is_stale: false });
        Self { slot: Arc::new(Slot { settled: OnceLock::new(), pending }), layers: Arc::default() }
    }

    /// Changes the settings. Handles follow, unless a service or a clone of the layer has the former ones.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut P)) {
        if self.slot.settled.get().is_some() || Arc::strong_count(&self.layers) > 1 {
            *self = Self::of(self.plan());
        }
        let mut pending = lock(&self.slot.pending);
        change(Arc::make_mut(&mut pending.plan));
        pending.is_stale = true;
    }

    pub(crate) fn plan(&self) -> Arc<P> {
        lock(&self.slot.pending).plan.clone()
    }

    /// Returns the state for a service. It changes no more.
    pub(crate) fn settle(&self) -> Arc<P::State> {
        self.slot.settled.get_or_init(|| self.slot.pending_state()).clone()
    }

    /// Returns a view of the state for a handle.
    pub(crate) fn view(&self) -> View<P> {
        View::Draft(self.slot.clone())
    }
}

impl<P: Plan> Clone for Draft<P> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), layers: self.layers.clone() }
    }
}

impl<P: Plan> Slot<P> {
    fn pending_state(&self) -> Arc<P::State> {
        let mut pending = lock(&self.pending);
        let Pending { plan, state, is_stale } = &mut *pending;
        if state.is_none() || *is_stale {
            *state = Some(plan.make(state.as_deref()));
            *is_stale = false;
        }
        pending.state.clone().expect("it was made above")
    }
}

/// The state of a layer as a handle sees it.
pub(crate) enum View<P: Plan> {
    /// That of a layer which may still change.
    Draft(Arc<Slot<P>>),
    /// That of a service.
    Settled(Arc<P::State>),
}

impl<P: Plan> View<P> {
    /// Looks at the state. That of a service costs no lock.
    #[inline]
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Arc<P::State>) -> R) -> R {
        match self {
            Self::Settled(state) => look(state),
            Self::Draft(slot) => match slot.settled.get() {
                Some(state) => look(state),
                // The lock is free again when it looks.
                None => look(&slot.pending_state()),
            },
        }
    }

    pub(crate) fn state(&self) -> Arc<P::State> {
        self.look(Arc::clone)
    }

    pub(crate) fn downgrade(&self) -> WeakView<P> {
        let slot = match self {
            Self::Draft(slot) => Some(Arc::downgrade(slot)),
            Self::Settled(_) => None,
        };
        WeakView { slot, state: Arc::downgrade(&self.state()) }
    }
}

/// A view that keeps nothing alive, of a state that a service may have.
pub(crate) struct WeakView<P: Plan> {
    /// `None` for a service's state.
    slot: Option<Weak<Slot<P>>>,
    state: Weak<P::State>,
}

impl<P: Plan> WeakView<P> {
    /// Returns the state, if a layer, a service or a handle has it.
    pub(crate) fn upgrade(&mut self) -> Option<Arc<P::State>> {
        if let Some(slot) = self.slot.as_ref().and_then(Weak::upgrade) {
            let state = View::Draft(slot).state();
            self.state = Arc::downgrade(&state);
            return Some(state);
        }
        self.state.upgrade()
    }
}

impl<P: Plan> Clone for View<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Draft(slot) => Self::Draft(slot.clone()),
            Self::Settled(state) => Self::Settled(state.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds up its numbers, and remembers the sum before.
    #[derive(Clone)]
    struct Numbers(Vec<u32>);

    impl Plan for Numbers {
        type State = (u32, Option<u32>);

        fn make(self: &Arc<Self>, before: Option<&Self::State>) -> Arc<Self::State> {
            Arc::new((self.0.iter().sum(), before.map(|before| before.0)))
        }
    }

    fn add(draft: &mut Draft<Numbers>, number: u32) {
        draft.change(|plan| plan.0.push(number));
    }

    #[test]
    fn a_view_follows_until_a_service_has_the_state() {
        let mut draft = Draft::new(Numbers(vec![1]));
        let view = draft.view();
        assert_eq!(*view.state(), (1, None));
        assert!(Arc::ptr_eq(&view.state(), &view.state()), "made once");
        add(&mut draft, 2);
        add(&mut draft, 3);
        assert_eq!(*view.state(), (6, Some(1)));
        assert!(Arc::ptr_eq(&draft.settle(), &view.state()));
        add(&mut draft, 4);
        assert_eq!((*view.state(), *draft.settle()), ((6, Some(1)), (10, None)));
    }

    #[test]
    fn a_layer_that_is_changed_beside_its_clone_goes_its_own_way() {
        let mut one = Draft::new(Numbers(vec![1]));
        let (view, mut other) = (one.view(), one.clone());
        add(&mut other, 2);
        add(&mut one, 3);
        assert_eq!((*view.state(), *other.settle()), ((4, None), (3, None)));
        assert!(Arc::ptr_eq(&one.clone().settle(), &view.state()));
    }
}
