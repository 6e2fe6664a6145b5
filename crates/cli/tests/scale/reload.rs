//! The configuration changes again and again while requests are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{Client, Gateway, PATHS, Provider, SOON, client, common::http::Answer, gateway::config, size};

const CALLERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_request() {
    let (requests, reloads) = (size(3_000, 50_000), size(10, 100));
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let (sent, reloaded) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (address, sent, reloaded) = (gateway.address().to_owned(), sent.clone(), reloaded.clone());
        callers.spawn(async move {
            let mut failed = Vec::new();
            let mut client = Client::connect(&address).await.expect("connected");
            // The promised number of requests, and until the last reload.
            for number in caller.. {
                if sent.fetch_add(1, Ordering::Relaxed) >= requests && reloaded.load(Ordering::Relaxed) {
                    break;
                }
                // Both dialects, streams, and now and then a new connection.
                if number % 50 == 0 {
                    client = Client::connect(&address).await.expect("connected");
                }
                let request = client::request(PATHS[number % 2], number % 4 < 2, "hello");
                let answered = match client.send(request).await {
                    Ok(()) => client.answer().await,
                    Err(error) => Err(error),
                };
                if !answered.as_ref().is_ok_and(Answer::is_whole) {
                    failed.push(format!("{answered:?}"));
                    client = Client::connect(&address).await.expect("connected");
                }
            }
            failed
        });
    }
    for reload in 0..reloads {
        let change = format!("\nretry: {{ base: {}ms }}\n", 100 + reload);
        gateway.configure(&config(&provider.address, &change));
        // By the change of the file alone, and by a signal on top of it.
        if reload % 2 == 0 {
            gateway.signal("-HUP");
        }
        let since = Instant::now();
        while gateway.log().matches("event=\"reloaded\"").count() <= reload {
            assert!(since.elapsed() < 4 * SOON, "reload {reload} was not seen: {}", gateway.log());
            sleep(Duration::from_millis(5)).await;
        }
    }
    reloaded.store(true, Ordering::Relaxed);
    let failed: Vec<String> = callers.join_all().await.into_iter().flatten().collect();
    let sent = sent.load(Ordering::Relaxed) - CALLERS;
    let said = gateway.end();
    println!("{sent} requests during {reloads} reloads in {:.1?}, {} failed", begun.elapsed(), failed.len());
    assert!(failed.is_empty(), "{} of {sent}: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    assert!(sent >= requests && !said.contains("reload_refused"), "{said}");
}
