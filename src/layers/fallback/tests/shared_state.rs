//! Tests of two fallbacks with one state, and requests under way in both.

use tokio::sync::broadcast::Receiver;

use super::*;
use crate::{
    BoxLlmService,
    providers::{Simulated, simulated::Fault},
};

fn fallback(events: &Events, names: [&'static str; 2], tier: &Simulated) -> FallbackLayer {
    FallbackLayer::new(names[0]).tier(names[1], tier.clone()).events(events.clone())
}

fn boxed(layer: &FallbackLayer, primary: &Simulated) -> BoxLlmService {
    BoxLlmService::new(layer.layer(primary.clone()))
}

async fn served(llm: &BoxLlmService) -> String {
    tier_of(&llm.clone().oneshot(prompt()).await.unwrap())
}

fn switches(heard: &mut Receiver<Event>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        match event {
            Event::ModelSwitched { from, to, .. } => told.push(format!("{from} > {to}")),
            Event::ModelRecovered { from, to, after, .. } => told.push(format!("{from} > {to} after {after:?}")),
            other => panic!("{other:?}"),
        }
    }
    told
}

fn simulated() -> (Simulated, Simulated) {
    (Simulated::new("a").latency(Duration::from_secs(1)), Simulated::new("b"))
}

#[tokio::test(start_paused = true)]
async fn an_outage_goes_on_and_ends_in_the_one_that_follows() {
    let (events, (a, b)) = (Events::new(), simulated());
    let mut heard = events.subscribe();
    let first = fallback(&events, ["a", "b"], &b);
    let old = boxed(&first, &a);
    a.handle().fail(Fault::ServerError);
    assert_eq!(served(&old).await, "b");
    tokio::time::sleep(Duration::from_secs(9)).await;
    let second = fallback(&events, ["a", "b"], &b).state(&first);
    let new = boxed(&second, &a);
    assert_eq!(served(&new).await, "b");
    a.handle().heal();
    assert_eq!(served(&new).await, "a");
    assert_eq!(switches(&mut heard), ["a > b", "b > a after 11s"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_last_requests_of_the_old_one_find_out_is_told_once_and_known_to_the_new_one() {
    let (events, (a, b)) = (Events::new(), simulated());
    let mut heard = events.subscribe();
    let first = fallback(&events, ["a", "b"], &b);
    let old = boxed(&first, &a);
    a.handle().fail(Fault::ServerError);
    let [one, two] = [(), ()].map(|()| tokio::spawn(old.clone().oneshot(prompt())));
    tokio::task::yield_now().await;
    let second = fallback(&events, ["a", "b"], &b).state(&first);
    let new = boxed(&second, &a);
    assert_eq!(served(&new).await, "b");
    assert!(one.await.unwrap().is_ok() && two.await.unwrap().is_ok());
    assert_eq!(switches(&mut heard), ["a > b"]);
    a.handle().heal();
    // The old one's own request brings it back, for both.
    assert_eq!(served(&old).await, "a");
    assert_eq!(served(&new).await, "a");
    assert_eq!(switches(&mut heard).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_what_is_no_longer_the_primary_is_over() {
    let (events, (a, b)) = (Events::new(), simulated());
    let mut heard = events.subscribe();
    let first = fallback(&events, ["a", "b"], &b);
    a.handle().fail(Fault::ServerError);
    assert_eq!(served(&boxed(&first, &a)).await, "b");
    let second = fallback(&events, ["b", "a"], &a).state(&first);
    assert_eq!(served(&boxed(&second, &b)).await, "b");
    assert_eq!(switches(&mut heard), ["a > b", "b > a after 0ns"]);
}

#[tokio::test(start_paused = true)]
async fn sessions_stay_with_their_tier_whatever_its_place() {
    let (events, (a, b)) = (Events::new(), simulated());
    let first = fallback(&events, ["a", "b"], &b).session(SessionPolicy::Pin);
    let old = boxed(&first, &a);
    let mine = || prompt().with_session("mine");
    assert_eq!(tier_of(&old.clone().oneshot(mine()).await.unwrap()), "a");
    let slow = tokio::spawn(old.clone().oneshot(prompt().with_session("slow")));
    tokio::task::yield_now().await;
    let second = fallback(&events, ["b", "a"], &a).session(SessionPolicy::Pin).state(&first);
    let new = boxed(&second, &b);
    assert_eq!(tier_of(&new.clone().oneshot(mine()).await.unwrap()), "a");
    slow.await.unwrap().unwrap();
    assert_eq!(
        tier_of(&new.clone().oneshot(prompt().with_session("slow")).await.unwrap()),
        "a",
        "pinned in the old one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gradual_return_goes_on_where_it_was() {
    let (events, (a, b)) = (Events::new(), simulated());
    let steps = || [RampStep::new(50, Duration::from_secs(100))];
    let first = fallback(&events, ["a", "b"], &b).gradually(steps());
    let old = boxed(&first, &a);
    a.handle().fail(Fault::ServerError);
    assert_eq!(served(&old).await, "b");
    a.handle().heal();
    assert_eq!(served(&old).await, "a");
    let second = fallback(&events, ["a", "b"], &b).gradually(steps()).state(&first);
    let new = boxed(&second, &a);
    let mut to_the_primary = 0;
    for _ in 0..20 {
        to_the_primary += usize::from(served(&new).await == "a");
    }
    assert_eq!(to_the_primary, 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_tier_that_the_settings_in_force_lack_is_no_switch() {
    let (events, (a, b)) = (Events::new(), simulated());
    let mut heard = events.subscribe();
    let first = fallback(&events, ["a", "b"], &b);
    a.handle().fail(Fault::ServerError);
    let old = tokio::spawn(boxed(&first, &a).oneshot(prompt()));
    tokio::task::yield_now().await;
    let c = Simulated::new("c");
    let second = fallback(&events, ["a", "c"], &c).state(&first);
    let new = boxed(&second, &a);
    assert_eq!(tier_of(&old.await.unwrap().unwrap()), "b");
    assert_eq!(switches(&mut heard), Vec::<String>::new());
    assert_eq!(served(&new).await, "c");
    assert_eq!(switches(&mut heard), ["a > c"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_tier_is_gone_is_pinned_to_another() {
    let (events, (a, b)) = (Events::new(), simulated());
    let first = fallback(&events, ["a", "b"], &b).session(SessionPolicy::Pin);
    a.handle().fail(Fault::ServerError);
    let mine = || prompt().with_session("mine");
    let old = tokio::spawn(boxed(&first, &a).oneshot(mine()));
    tokio::task::yield_now().await;
    let c = Simulated::new("c");
    let second = fallback(&events, ["a", "c"], &c).session(SessionPolicy::Pin).state(&first);
    let new = boxed(&second, &a);
    assert_eq!(tier_of(&old.await.unwrap().unwrap()), "b");
    assert_eq!(tier_of(&new.clone().oneshot(mine()).await.unwrap()), "c");
    a.handle().heal();
    assert_eq!(tier_of(&new.clone().oneshot(mine()).await.unwrap()), "c", "pinned");
    assert_eq!(tier_of(&new.clone().oneshot(prompt()).await.unwrap()), "a");
}

#[tokio::test(start_paused = true)]
async fn a_gradual_return_with_other_steps_is_over() {
    let (events, (a, b)) = (Events::new(), simulated());
    let steps = |percent| [RampStep::new(percent, Duration::from_secs(100))];
    let first = fallback(&events, ["a", "b"], &b).gradually(steps(1));
    let old = boxed(&first, &a);
    a.handle().fail(Fault::ServerError);
    assert_eq!(served(&old).await, "b");
    a.handle().heal();
    assert_eq!([served(&old).await, served(&old).await], ["a", "b"]);
    let second = fallback(&events, ["a", "b"], &b).gradually(steps(2)).state(&first);
    let new = boxed(&second, &a);
    for _ in 0..10 {
        assert_eq!(served(&new).await, "a");
    }
}
