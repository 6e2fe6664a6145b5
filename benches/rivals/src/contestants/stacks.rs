//! Whole stacks around a service that answers at once, and around one that is pending once, so that timers register.

use steadfast::{LlmError, LlmRequest, LlmResponse};
use tower::Service;

use super::{BARE, Contestant, Group, NOTHING, ON_LLM, OUR_FIVE, OUR_THREE, PENDING, READY};
use crate::{
    calls::Expect,
    ours::{self, Llm},
    rivals::{resilience, seatbelt, tower as towers},
    subject::{Answers, AnswersLater, Small, Subject},
};

pub(super) fn add(list: &mut Vec<Contestant>) {
    around::<Small, _>(list, READY, "", Answers::<Small>::new);
    around_liter(list, READY);
    around::<Llm, _>(list, READY, ON_LLM, Answers::<Llm>::new);
    ours_around(list, READY, Answers::<Llm>::new);

    around::<Small, _>(list, PENDING, "", AnswersLater::<Small>::new);
    around_liter(list, PENDING);
    around::<Llm, _>(list, PENDING, ON_LLM, AnswersLater::<Llm>::new);
    ours_around(list, PENDING, AnswersLater::<Llm>::new);
}

fn around<K, S>(list: &mut Vec<Contestant>, group: &'static str, suffix: &'static str, inner: fn() -> S)
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + Sync + 'static,
{
    let mut rows = Group::<K>::new(list, group, suffix, Expect::Answer);
    rows.add(BARE, inner);
    rows.add(NOTHING, move || towers::nothing_five::<K, _>(inner()));
    rows.add("tower's three", move || towers::three::<K, _>(inner()));
    rows.add("tower-resilience's five", move || resilience::five::<K, _>(inner()));
    rows.add("seatbelt's four", move || seatbelt::four::<K, _>(inner()));
}

#[cfg(feature = "liter-llm")]
fn around_liter(list: &mut Vec<Contestant>, group: &'static str) {
    use crate::rivals::liter::{self, Liter};

    let mut rows = Group::<Liter>::new(list, group, "", Expect::Answer);
    let ready = group == READY;
    if ready {
        rows.add("bare, on liter-llm's request", Answers::<Liter>::new);
        rows.add("liter-llm's three", || liter::three(Answers::<Liter>::new()));
    } else {
        rows.add("bare, on liter-llm's request", AnswersLater::<Liter>::new);
        rows.add("liter-llm's three", || liter::three(AnswersLater::<Liter>::new()));
    }
}

#[cfg(not(feature = "liter-llm"))]
fn around_liter(_: &mut Vec<Contestant>, _: &'static str) {}

/// On the request and answer of the bare service that was added last.
fn ours_around<S>(list: &mut Vec<Contestant>, group: &'static str, inner: fn() -> S)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let mut rows = Group::<Llm>::new(list, group, "", Expect::Answer);
    rows.add(OUR_FIVE, move || ours::five(inner()));
    rows.add(OUR_THREE, move || ours::three(inner()));
}
