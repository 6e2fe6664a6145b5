//! The spending of one of several replicas.

use super::{super::FirstShare, *};

/// The number of answers until one is refused, and the refusal.
async fn answers(
    llm: &Budget<impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone>,
) -> (u32, LlmError) {
    let mut answers = 0;
    loop {
        match llm.clone().oneshot(ask()).await {
            Ok(_) => answers += 1,
            Err(refused) => return (answers, refused),
        }
    }
}

/// The part of an outage comes beside what is in flight at its beginning.
#[tokio::test(start_paused = true)]
async fn a_part_is_added_to_what_is_in_use() {
    let layer = layer(cap(20.0));
    let never = provider_fn(|_| std::future::pending::<Result<LlmResponse, LlmError>>());
    let (budget, llm) = (layer.handle(), layer.layer(never));
    let mut under_way = Vec::new();
    let mut asks = || {
        let mut asking = task::spawn(llm.clone().oneshot(ask()));
        let is_refused = matches!(asking.poll(), Poll::Ready(Err(_)));
        under_way.push(asking);
        is_refused
    };
    assert!(!asks());
    budget.set_first_room(FirstShare::OfLimit(100_000));
    budget.replica_caps().iter().for_each(|account| account.add_part(100_000));
    assert_eq!([asks(), asks(), asks()], [false, false, true], "two dollars beside the one");
    assert_eq!(books(&budget), (0, 3000));
}

#[tokio::test(start_paused = true)]
async fn a_replica_spends_its_part_and_is_told_when_it_has_more() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = layer(cap(12.0)).events(events);
    let (budget, llm) = (layer.handle(), layer.layer(leaf(1000)));
    assert!(!budget.snapshot()[0].shared);
    budget.set_first_room(FirstShare::Even(3));
    assert!(budget.snapshot()[0].shared);
    let (first, refused) = answers(&llm).await;
    assert_eq!(first, 4, "a third");
    assert_eq!(refused.retry_at(), Some(Instant::now() + Duration::from_secs(1)), "{refused}");
    assert!(refused.to_string().contains("$8.00 is kept for other replicas"), "{refused}");
    assert!(heard.try_recv().is_err(), "the cap is not reached");

    // The others have spent three.
    let account = budget.replica_cap("cap", None).unwrap().count(usd(7.0));
    assert_eq!((account.sum(), account.spent(), account.held()), (usd(7.0), usd(7.0), usd(0.0)));
    assert_eq!(answers(&llm).await.0, 0);
    account.set_room(usd(2.0));
    assert_eq!(answers(&llm).await.0, 2);
    assert_eq!(account.held(), usd(2.0), "they are in no sum yet");
    account.lower_room(usd(4.0));
    assert_eq!(answers(&llm).await.0, 0, "lowered, it is not raised");

    // A sum that has one of the two, and one of another replica.
    let account = budget.replica_cap("cap", None).unwrap();
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::Budget);
    let account = account.count(usd(10.0));
    assert_eq!((budget.spent("cap"), account.held()), (usd(10.0), usd(0.0)));
    account.forget_room();
    budget.set_first_room(FirstShare::All);
    assert!(!budget.snapshot()[0].shared);
    let (rest, refused) = answers(&llm).await;
    assert_eq!(rest, 2, "the rest");
    assert_eq!(refused.retry_at(), budget.resets_at("cap"));

    // A new period has the first part again.
    budget.set_first_room(FirstShare::OfLimit(250_000));
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert_eq!(answers(&llm).await.0, 3);
    account.set_room(usd(9.0));
    assert_eq!(answers(&llm).await.0, 0, "what was agreed on in the last one is void");
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_only_warns_has_no_part() {
    let layer = layer(cap(2.0).at_cap(AtCap::Warn));
    let (budget, llm) = (layer.handle(), layer.layer(leaf(1000)));
    budget.set_first_room(FirstShare::Even(100));
    for _ in 0..5 {
        llm.clone().oneshot(ask()).await.unwrap();
    }
    assert_eq!(budget.spent("cap"), usd(5.0));
}
