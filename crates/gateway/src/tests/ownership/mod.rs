//! Objects and their owners: what a key may name, in every place of a request, and what an answer gives it.

mod answers;
mod lists;
mod provider;
mod rights;
mod table;

use serde_json::Value;
use steadfast_stack::{Config, Environment, Format, Stack};
use steadfast_stores::places::Place;

use self::provider::Provider;
use super::harness::*;
use crate::{api::Keys, limits::Settings};

/// The account's key at the provider.
const ACCOUNT: &str = "sk-account-0123456789";

/// A gateway in front of one provider, whose account all keys share.
struct World {
    provider: Provider,
    stack: Stack,
    server: Server,
}

/// The keys: two callers, one that sees all objects, one that sees none, and an administrator.
fn keys() -> Keys {
    keys_of(&[
        entry("one", "one", ""),
        entry("two", "two", ""),
        entry("all", "all", ", objects: all"),
        entry("none", "none", ", objects: false"),
        entry("small", "small", ", models: ['m-*', 'cheap-*']"),
        entry("passes", "passes", ", pass_through: true"),
        entry("admin", "admin", ", admin: true"),
    ])
}

fn config(url: &str, other: &str, more: &str) -> String {
    let tier = |name: &str, provider: &str, base: &str| {
        format!("{{ name: {name}, provider: {provider}, model: m-{name}, base_url: '{base}', api_key: '${{KEY}}' }}")
    };
    let openais = format!("{url}/v1");
    format!(
        "
tiers:
  - {}
  - {}
  - {}
  - {}
lane: {{ other: {other}, tiers: [{}] }}
retry: {{ max_attempts: 1 }}
{more}",
        tier("chat", "openai, api: chat", &openais),
        tier("resp", "openai, api: responses, compaction: true", &openais),
        tier("claude", "anthropic", url),
        tier("gem", "gemini", url),
        tier("more", "openai", &openais),
    )
}

impl World {
    async fn start() -> Self {
        Self::with("refuse", "", Some(keys())).await
    }

    async fn with(other: &str, more: &str, keys: Option<Keys>) -> Self {
        Self::over(Provider::start().await, other, more, keys).await
    }

    async fn over(provider: Provider, other: &str, more: &str, keys: Option<Keys>) -> Self {
        let file = config(&provider.url(), other, more);
        let environment = [("KEY", ACCOUNT)].into_iter().collect::<Environment>();
        let config = Config::from_str(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}\n{file}"));
        let stack = Stack::builder().environment(environment).build(config).unwrap();
        let server = Server::with_stack(&stack, keys, Settings::default()).await;
        Self { provider, stack, server }
    }

    /// Makes an id a key's.
    async fn give(&self, id: &str, owner: &str) {
        self.give_at(id, owner, if id.starts_with("file_") { "claude" } else { "resp" }).await;
    }

    async fn give_at(&self, id: &str, owner: &str, tier: &str) {
        let place = Place { id: id.to_owned(), owner: owner.to_owned(), tier: tier.to_owned() };
        self.stack.handle().object_places().put(vec![place], None).await.unwrap();
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(key, "POST", path, &body.to_string()).await
    }

    /// Sends a request as a client of the path's API does.
    async fn send(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        self.send_as(key, method, path, body, path.contains("/messages") && !path.contains("threads")).await
    }

    /// Sends a form whose boundary is `xyz`.
    async fn form(&self, key: &str, path: &str, body: &str) -> Answer {
        let key = format!("Bearer {key}");
        let headers = [("authorization", &*key), ("content-type", "multipart/form-data; boundary=xyz")];
        let mut client = self.server.connect().await;
        client.send(&request("POST", path, &headers, body.as_bytes())).await;
        client.answer().await
    }

    async fn send_as(&self, key: &str, method: &str, path: &str, body: &str, is_anthropics: bool) -> Answer {
        let key = format!("Bearer {key}");
        let mut headers = vec![("authorization", &*key)];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        if is_anthropics {
            headers.push(("anthropic-version", "2023-06-01"));
        }
        let mut client = self.server.connect().await;
        client.send(&request(method, path, &headers, body.as_bytes())).await;
        client.answer().await
    }
}
