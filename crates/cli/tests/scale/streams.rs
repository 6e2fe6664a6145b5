//! Very many streams at once.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Gateway, PATHS, Provider, as_many_as, gateway::config, held, size};

/// The memory limit of an open stream, everything included, in bytes: 300 MB for 10,000.
const MOST: usize = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_streams_stay_open_at_once_and_none_is_lost() {
    let count = as_many_as(size(300, 10_000));
    let mut provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    let (before, _) = gateway.memory();

    let begun = Instant::now();
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        // Hundreds connect at once; the line before the listener holds no more.
        if opening.len() >= 200 {
            open.push(opening.join_next().await.unwrap().unwrap());
        }
        let (address, path) = (gateway.address().to_owned(), PATHS[number % 2]);
        opening.spawn(async move { held(&address, path).await });
    }
    open.extend(opening.join_all().await);
    let took = begun.elapsed();

    // Memory that is freed late is given back by now, and a sign of life is due in none of them.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ((now, most), files) = (gateway.memory(), gateway.open_files());
    assert!(files >= 2 * count, "{files} files are open, and {count} streams should be");
    println!(
        "{count} open streams (in {took:.1?}): {before} kB before, {now} kB with them, {most} kB at most; {} bytes for each",
        (most - before) * 1000 / count
    );

    provider.release();
    let mut ending = JoinSet::new();
    for mut client in open {
        ending.spawn(async move { client.answer().await.is_ok_and(|answer| answer.is_whole()) });
    }
    let whole = ending.join_all().await.into_iter().filter(|whole| *whole).count();
    assert_eq!(whole, count, "{} were lost", count - whole);
    gateway.end();
    // Before any caller comes, the process takes a large part of what a few do; what many do is all within the promise.
    // A build without optimizations takes twice as much then, as much for a stream, and more at its first use.
    let (are_many, is_debug) = (count >= 5_000, cfg!(debug_assertions));
    let counted = if are_many && !is_debug { most } else { most - before };
    let is_promised = are_many || !is_debug;
    assert!(!is_promised || counted * 1024 < count * MOST, "{counted} kB for {count} streams");
}
