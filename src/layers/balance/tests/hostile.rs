//! Callers that choose their keys so as to harm others.

use super::*;
use crate::{Dialect, Wire};

/// Servers of a second each, without circuits.
fn cluster(names: &[&'static str]) -> (Balance<Simulated>, Vec<SimulatedHandle>) {
    let leaves: Vec<_> = names.iter().map(|name| Simulated::new(*name).latency(secs(1))).collect();
    let handles = leaves.iter().map(Simulated::handle).collect();
    let deployments = names.iter().zip(leaves).map(|(name, leaf)| Deployment::new(*name, leaf));
    (of_with(BalanceLayer::new().slow_start(Duration::ZERO), deployments), handles)
}

/// Returns sessions whose home is the deployment of this name, as a caller finds them by trial.
async fn sessions_of(llm: &Balance<Simulated>, name: &str, many: usize) -> Vec<String> {
    let mut found = Vec::new();
    for nth in 0.. {
        let session = format!("session {nth}");
        let answer = llm.clone().oneshot(hi().with_session(session.clone())).await.unwrap();
        if answer.served_by().deployment == Some(name) {
            found.push(session);
        }
        if found.len() == many {
            break;
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn keys_chosen_for_one_deployment_do_not_pin_the_load_on_it() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let (llm, servers) = cluster(&NAMES);
    let chosen = sessions_of(&llm, "b", 200).await;
    let before: Vec<u64> = servers.iter().map(|server| server.stats().calls).collect();
    let most = Arc::new(AtomicUsize::new(0));
    // A hundred requests a second for half a minute, nine of ten of them from the hostile caller.
    let calls = (0..3000_u64).map(|nth| {
        let (llm, most) = (llm.clone(), most.clone());
        let request = match nth % 10 {
            0 => hi(),
            _ => hi().with_session(chosen[nth as usize % chosen.len()].clone()),
        };
        async move {
            sleep(ms(nth * 10)).await;
            let answer = llm.clone().oneshot(request).await.unwrap();
            let busiest = llm.handle().deployments().iter().map(|it| it.in_flight).max();
            most.fetch_max(busiest.unwrap(), SeqCst);
            drop(answer);
        }
    });
    join_all(calls).await;
    let calls: Vec<u64> = servers.iter().zip(before).map(|(server, before)| server.stats().calls - before).collect();
    // Twice the cheapest one's load and a few: of a hundred in flight, 44 at the fullest.
    assert!(most.load(SeqCst) <= 50, "{} at once", most.load(SeqCst));
    assert!(calls.iter().all(|calls| (300..1500).contains(calls)), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn one_key_of_everybody_uses_all_deployments() {
    let (llm, servers) = cluster(&["a", "b", "c", "d"]);
    let body = r#"{"prompt_cache_key":"the same","input":"hi"}"#;
    let request = || LlmRequest::from(Wire::new(Dialect::Responses, body).unwrap());
    let calls = (0..2000_u64).map(|nth| {
        let llm = llm.clone();
        async move {
            sleep(ms(nth * 10)).await;
            llm.oneshot(request()).await.map(drop)
        }
    });
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let calls: Vec<u64> = servers.iter().map(|server| server.stats().calls).collect();
    assert!(calls.iter().all(|calls| *calls >= 200), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_sessions_moves_nobody_whose_deployment_serves() {
    let (llm, _) = cluster(&["a", "b", "c", "d"]);
    let home = async |session: &str| {
        let answer = llm.clone().oneshot(hi().with_session(session.to_owned())).await.unwrap();
        answer.served_by().deployment.unwrap().to_owned()
    };
    let mine = home("mine").await;
    llm.handle().drain(if mine == "a" { "b" } else { "a" });
    let mut moved = String::new();
    for nth in 0..20_000 {
        home(&format!("flood {nth}")).await;
        if nth % 1000 == 0 {
            assert_eq!(home("mine").await, mine);
            // One that had to move finds the same place again, remembered or not.
            let now = home("flood 3").await;
            assert!(moved.is_empty() || moved == now, "{moved} {now}");
            moved = now;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_fails_by_its_own_fault_closes_no_deployment_to_others() {
    let leaf = provider_fn(|request: LlmRequest| async move {
        match request.session() {
            Some(_) => Err(failure(ErrorKind::InvalidRequest)),
            None => Ok(LlmResponse::from_text("hello")),
        }
    });
    let llm = of(["a", "b"].map(|name| Deployment::new(name, leaf)));
    for _ in 0..200 {
        assert!(llm.clone().oneshot(hi().with_session("hostile")).await.is_err());
    }
    for _ in 0..200 {
        llm.clone().oneshot(hi()).await.unwrap();
    }
    let answered: Vec<_> = llm.handle().deployments().iter().map(|it| it.answered).collect();
    assert!(answered.iter().all(|answered| *answered > 60), "{answered:?}");
}

#[test]
fn a_long_key_is_read_in_linear_time_and_nothing_of_it_is_kept() {
    let ask = |key: &str| {
        let body = format!(r#"{{"input":"hi","prompt_cache_key":"{key}"}}"#);
        affinity::key(&LlmRequest::from(Wire::new(Dialect::Responses, body).unwrap()))
    };
    let long = "k".repeat(1 << 20);
    assert!(ask(&long).is_some());
    let measured = allocation_counter::measure(|| assert!(ask("k").is_some()));
    let of_long = allocation_counter::measure(|| assert!(ask(&long).is_some()));
    assert_eq!(measured.count_current, 0);
    assert_eq!(of_long.count_current, 0);
}
