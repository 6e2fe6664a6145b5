use super::{
    memory::{LIFE, MOST},
    *,
};

fn broke(repeats: &Arc<Repeats>, key: &str, prompt: &str) -> Repeat {
    let repeat = repeats.mark(&HeaderMap::new(), Some(key), &request(prompt), &Arc::default());
    repeat.broke(&"sonnet".into(), ErrorKind::StreamBroken);
    repeat
}

fn request(prompt: &str) -> LlmRequest {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    LlmRequest::from(steadfast::Wire::new(steadfast::Dialect::OpenAi, body).unwrap())
}

fn is_known(repeat: &Repeat) -> bool {
    repeat.repeats.memory.lock().unwrap().find(repeat.caller, repeat.body).is_some()
}

#[tokio::test(start_paused = true)]
async fn no_caller_takes_the_place_of_one_with_fewer_failures() {
    let repeats = Arc::new(Repeats::default());
    let few: Vec<Repeat> = (0..10).map(|number| broke(&repeats, "few", &number.to_string())).collect();
    let many: Vec<Repeat> = (0..5 * MOST).map(|number| broke(&repeats, "many", &number.to_string())).collect();
    assert_eq!(repeats.len(), MOST);
    assert!(few.iter().all(is_known));
    assert_eq!(many.iter().filter(|repeat| is_known(repeat)).count(), MOST - 10);
    assert!(many.last().is_some_and(is_known), "its newest stay");
}

#[tokio::test(start_paused = true)]
async fn of_two_thousand_callers_the_last_thousand_are_known() {
    let repeats = Arc::new(Repeats::default());
    let mut all = Vec::new();
    for number in 0..2_000 {
        all.push(broke(&repeats, &format!("caller {number}"), "hello"));
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(repeats.len(), MOST);
    let known: Vec<bool> = all.iter().map(is_known).collect();
    assert!(known[2_000 - MOST..].iter().all(|known| *known) && !known[..2_000 - MOST].iter().any(|known| *known));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_forgotten_after_its_minute_and_an_old_memory_costs_nobody_a_lock() {
    let repeats = Arc::new(Repeats::default());
    let other = repeats.mark(&HeaderMap::new(), Some("other"), &request("hello"), &Arc::default());
    let repeat = broke(&repeats, "one", "hello");
    tokio::time::advance(LIFE - Duration::from_secs(1)).await;
    let _ = repeat.inform(request("hello"));
    assert!(is_known(&repeat));
    tokio::time::advance(Duration::from_secs(1)).await;
    let _ = repeat.inform(request("hello"));
    assert!(!is_known(&repeat));
    broke(&repeats, "one", "hello");
    tokio::time::advance(2 * LIFE).await;
    let _ = other.inform(request("hello"));
    assert_eq!(repeats.kept.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_differ_in_the_middle_of_their_length_alone_are_two() {
    let repeats = Arc::new(Repeats::default());
    let long = |middle: &str| format!("{}{middle}{}", "a".repeat(20_000), "b".repeat(20_000));
    let one = broke(&repeats, "one", &long("x"));
    let other = repeats.mark(&HeaderMap::new(), Some("one"), &request(&long("y")), &Arc::default());
    assert!(is_known(&one) && !is_known(&other));
}
