//! Lists, in which a key sees its own objects alone.

use super::*;
use crate::api::paths::objects::KINDS;

/// Returns all ids of a list, page by page, as an SDK asks for them.
async fn listed(world: &World, key: &str, kind: &str, is_anthropics: bool, limit: usize) -> Vec<String> {
    let cursor = if is_anthropics { "after_id" } else { "after" };
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/{kind}?limit={limit}{after}");
        let answer = world.send_as(key, "GET", &path, "", is_anthropics).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.body.contains("others"), "{path}: {}", answer.body);
        let page = answer.json();
        let ids: Vec<String> =
            page["data"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(
            (page["first_id"].as_str(), page["last_id"].as_str()),
            (ids.first().map(String::as_str), ids.last().map(String::as_str))
        );
        after = ids.last().map(|id| format!("&{cursor}={id}")).unwrap_or_default();
        let is_full = ids.len() == limit;
        found.extend(ids);
        match page["has_more"] == true {
            true => assert!(is_full, "a page that is not the last is full: {}", answer.body),
            false => return found,
        }
    }
}

#[tokio::test]
async fn a_list_has_the_keys_own_objects_and_tells_nothing_of_others() {
    let world = World::start().await;
    let mut cells = 0;
    for (number, (kind, only)) in KINDS.into_iter().enumerate() {
        for is_anthropics in [false, true] {
            if is_anthropics != (only == Some(steadfast::Dialect::Anthropic)) && only.is_some() {
                continue;
            }
            let id = |whose: &str, at: usize| format!("x{number}{}-{whose}-{at}", u8::from(is_anthropics));
            // Every 25th is the key's own.
            let all: Vec<String> = (0..250).map(|at| id(if at % 25 == 24 { "own" } else { "others" }, at)).collect();
            let tier = if is_anthropics { "claude" } else { "resp" };
            for id in &all {
                world.give_at(id, if id.contains("own") { "two" } else { "one" }, tier).await;
            }
            let own: Vec<&String> = all.iter().filter(|id| id.contains("own")).collect();
            world.provider.list(all.clone());
            for limit in [1, 3, 10, 100] {
                let found = listed(&world, "two", kind, is_anthropics, limit).await;
                assert!(found.iter().eq(own.iter().copied()), "{kind}: {found:?}");
                assert_eq!(listed(&world, "small", kind, is_anthropics, limit).await, [""; 0], "who has none");
                cells += 2;
            }
            let path = format!("/v1/{kind}?limit=20");
            let whole = world.send_as("admin", "GET", &path, "", is_anthropics).await.json();
            assert_eq!(whole["data"].as_array().unwrap().len(), 20, "an administrator sees the provider's page");
        }
    }
    println!("{cells} lists");
}

#[tokio::test]
async fn a_list_of_very_many_others_ends_after_twenty_pages() {
    let world = World::start().await;
    world.provider.list((0..5000).map(|at| format!("x-{at}")).collect());
    let answer = world.send("two", "GET", "/v1/batches", "").await;
    assert_eq!(answer.body, r#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}"#);
    assert_eq!(world.provider.calls().len(), 20);
    world.provider.answer_with(200, "text/plain", r#"{"data":[{"id":"x-1"}],"has_more":false}"#);
    let odd = world.send("two", "GET", "/v1/batches", "").await;
    assert_eq!(odd.json()["data"], serde_json::json!([]), "whatever type the provider says");
    world.provider.answer_with(200, "application/json", "[]");
    assert_eq!(world.send("two", "GET", "/v1/batches", "").await.status, 502);
}
