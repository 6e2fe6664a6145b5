//! Callers' keys in a database whose server goes away: who had a key keeps it, over a restart of the gateway too.

use std::time::Duration;

use crate::{
    common::{
        Folder,
        serve::{Serve, Served},
        steadfast, within,
    },
    durability::{LONG, cluster::Cluster},
};

const HELLO: &str = r#"{"model":"m","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
/// A change is known to all replicas by then, on a busy machine too.
const KNOWN: Duration = Duration::from_secs(5);

fn status(gateway: &Served, key: &str) -> u16 {
    gateway.ask("POST /v1/messages", &format!("x-api-key: {key}\r\n"), HELLO).status
}

#[test]
fn who_had_a_key_keeps_it_while_the_database_is_away() {
    let Some(cluster) = Cluster::start("keys-away") else { return };
    let folder = Folder::new("keys-away");
    let config = |copy: &str| {
        format!(
            "stores: {{ durable: '{}' }}\ngateway: {{ keys: {{ store: durable{copy} }} }}\n\
             tiers: [{{ name: only, provider: simulated, model: m, simulated: {{ reply: word, latency: 1ms }} }}]\n",
            cluster.url()
        )
    };
    let with_copy = config(&format!(", folder: '{}'", folder.path("copy").display()));
    let file = folder.file("steadfast.yaml", &with_copy);
    let made = steadfast(["key", "create", "boss", "--admin", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let boss = made.out.split_whitespace().find(|word| word.starts_with("sk-steadfast-")).unwrap().to_owned();
    let (mut one, mut two) = (Serve::with(&with_copy).start(), Serve::with(&config("")).start());
    let order = |gateway: &Served, order: &[&str]| {
        let environment = [("STEADFAST_URL", &*gateway.url()), ("STEADFAST_ADMIN_KEY", &boss)];
        steadfast(["key"].into_iter().chain(order.iter().copied()), &environment)
    };
    assert_eq!((status(&one, &boss), status(&two, &boss)), (200, 200));
    within(KNOWN, "no copy is written", || folder.path("copy").join("keys.json").is_file());

    cluster.crashes();
    for gateway in [&one, &two] {
        within(LONG, "nobody is told", || gateway.ask("GET /readyz", "", "").body.contains("keys: "));
        assert_eq!((status(gateway, &boss), status(gateway, "sk-guess")), (200, 401));
        let refused = order(gateway, &["create", "late"]);
        assert!(refused.code == Some(1) && refused.err.contains("the store of keys failed"), "{refused:?}");
    }
    // A restart goes by the copy; without one callers hear to come again, and no replica is taken for ready.
    one.kill();
    one.start_again();
    assert_eq!((status(&one, &boss), status(&one, "sk-guess")), (200, 401));
    two.kill();
    two.start_again();
    let answer = two.ask("POST /v1/messages", &format!("x-api-key: {boss}\r\n"), HELLO);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(two.ask("GET /readyz", "", "").status, 503);

    cluster.starts_again();
    within(LONG, "it is not read again", || status(&two, &boss) == 200);
    assert_eq!(two.ask("GET /readyz", "", "").status, 200);
    within(LONG, "it is not written again", || order(&one, &["pause", "boss"]).code == Some(0));
    within(KNOWN, "the change is not known", || status(&two, &boss) == 403);
}
