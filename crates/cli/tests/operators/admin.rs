//! `steadfast admin` and the gateway that it operates, both of the real binary.

use std::time::Duration;

use crate::common::{
    Folder, Ran, key,
    serve::{Serve, Served},
    steadfast, within,
};

struct Operated {
    gateway: Served,
    key: String,
}

impl Operated {
    fn start() -> Self {
        let (key, entry) = key("ana");
        let text = "tiers:\n  - { name: a/b, provider: simulated }\n  - { name: small, provider: simulated, level: 3 }\ncache: {}\n";
        let gateway = Serve::with(text).keys(&format!("{entry}    admin: true\n")).start();
        Self { gateway, key }
    }

    fn admin(&self, arguments: &[&str]) -> Ran {
        self.admin_with(arguments, &self.key)
    }

    fn admin_with(&self, arguments: &[&str], key: &str) -> Ran {
        let environment = [("STEADFAST_URL", &*self.gateway.url()), ("STEADFAST_ADMIN_KEY", key)];
        steadfast(["admin"].into_iter().chain(arguments.iter().copied()), &environment)
    }

    /// Returns the output of a successful order, without the spaces between columns.
    fn done(&self, arguments: &[&str]) -> String {
        let ran = self.admin(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {}", ran.out);
        ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }
}

#[test]
fn an_operator_orders_from_the_command_line() {
    let served = Operated::start();
    let tiers = served.done(&["tiers"]);
    assert!(tiers.contains("a/b 1 closed - - - - 0 0") && tiers.ends_with("pinned: no level for all\n"), "{tiers}");
    let open = served.done(&["open", "a/b"]);
    assert!(open.contains("a/b 1 open forced open 2") && open.contains("by hand - 0 0"), "{open}");
    assert!(served.done(&["open", "a/b"]).starts_with("Nothing changed.\n"));
    assert!(served.done(&["close", "a/b"]).contains("closed forced closed"));
    assert!(served.done(&["auto", "a/b"]).contains("a/b 1 closed - 2"));
    assert!(served.done(&["drain", "small"]).contains("small 3 closed drained"));
    assert!(served.done(&["undrain", "small"]).contains("small 3 closed - -"));
    let pinned = |order: &[&str]| served.done(order).lines().next().unwrap().to_owned();
    assert_eq!(pinned(&["level", "3"]), "pinned: level 3 for all");
    assert_eq!(pinned(&["level", "1", "--feature", "chat"]), "pinned: level 3 for all, 1 for chat");
    assert_eq!(pinned(&["level", "none"]), "pinned: no level for all, 1 for chat");
    assert_eq!(served.done(&["forget"]), "forgotten: 0\nstill kept: 0\n");
    assert_eq!(served.done(&["forget", "--feature", "chat"]), "forgotten: 0\nstill kept: 0\n");
    assert_eq!(served.done(&["reload"]), "tiers kept: a/b, small\ntiers removed: none\nchanged: none\n");
    let json: serde_json::Value = serde_json::from_str(&served.admin(&["tiers", "--json"]).out).unwrap();
    assert_eq!((&json["tiers"][0]["name"], &json["pinnedFeatures"]["chat"]), (&"a/b".into(), &1.into()));
}

/// A question of a caller; an administrator's key asks for all.
fn asked(served: &Operated, key: &str, headers: &str) -> String {
    let headers = format!("authorization: Bearer {key}\r\n{headers}");
    let answer = served.gateway.ask("POST /v1/chat/completions", &headers, BODY);
    answer.header("x-steadfast-request-id").expect("an id").to_owned()
}

#[test]
fn requests_are_listed_and_explained_to_those_who_may_see_them() {
    let ((admin, of_admin), (team, of_team)) = (key("ana"), key("team"));
    let text = "tiers: [{ name: sonnet, provider: simulated, model: m, simulated: { latency: 1ms } }]\nfeatures: { chat: {} }\n";
    let gateway = Serve::with(text).keys(&format!("{of_admin}    admin: true\n{of_team}")).start();
    let served = Operated { gateway, key: admin.clone() };
    let by_team = asked(&served, &team, "x-steadfast-feature: chat\r\n");
    let by_admin = asked(&served, &admin, "");
    let listed = |arguments: &[&str], key: &str| {
        let ran = served.admin_with(&[&["requests"], arguments].concat(), key);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!ran.out.contains("secret"), "{}", ran.out);
        [by_team.as_str(), by_admin.as_str()].map(|id| ran.out.contains(id))
    };
    for (arguments, found) in [
        (&[][..], [true, true]),
        (&["--key", "team"], [true, false]),
        (&["--feature", "chat"], [true, false]),
        (&["--tier", "sonnet"], [true, true]),
        (&["--tier", "gpt"], [false, false]),
        (&["--outcome", "answered"], [true, true]),
        (&["--outcome", "failed"], [false, false]),
        (&["--limit", "1"], [false, true]),
    ] {
        assert_eq!(listed(arguments, &admin), found, "{arguments:?}");
    }
    // A caller sees its own, and asks for no other's.
    assert_eq!(listed(&[], &team), [true, false]);
    assert_eq!(listed(&["--key", "team"], &team), [true, false]);
    for (arguments, key, words) in [
        (&["requests", "--key", "ana"][..], &team, "only an administrator's key"),
        (&["requests", "--outcome", "gone"], &admin, "`outcome` is one of running, answered, failed"),
        (&["requests", "--limit", "0"], &admin, "`limit` is a number from 1 to 1000"),
        (&["explain", &by_admin], &team, "unknown request"),
        (&["explain", "sf-0-0"], &admin, "unknown request"),
    ] {
        let ran = served.admin_with(arguments, key);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    let explained = served.admin_with(&["explain", &by_team], &team).out;
    assert!(explained.starts_with(&format!("id: {by_team}\noutcome: answered\nkey: team\n")), "{explained}");
    assert!(explained.lines().last().unwrap().starts_with("1  sonnet  m "), "{explained}");
    let json: serde_json::Value =
        serde_json::from_str(&served.admin_with(&["explain", &by_team, "--json"], &team).out).unwrap();
    assert_eq!((&json["id"], &json["key"]), (&by_team.as_str().into(), &"team".into()));
    // The status needs no key.
    let status = served.admin_with(&["status"], "");
    assert_eq!((status.code, status.err.as_str()), (Some(0), ""));
    assert!(status.out.starts_with("state: primary\nactiveTier: sonnet\n"), "{}", status.out);
    assert!(status.out.contains("\ntiers:\nname    health"), "{}", status.out);
    let json: serde_json::Value = serde_json::from_str(&served.admin_with(&["status", "--json"], "").out).unwrap();
    assert_eq!(json["state"], "primary");
}

#[test]
fn without_keys_everybody_sees_all_requests() {
    let gateway = Serve::simulated().start();
    let served = Operated { gateway, key: String::new() };
    let id = asked(&served, "any", "");
    assert!(served.done(&["requests"]).contains(&id));
    assert!(served.done(&["explain", &id]).starts_with(&format!("id: {id}\n")));
    let answer = served.gateway.ask("GET /requests?outcom=failed", "", "");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("unknown parameter `outcom`; the parameters are key, feature"), "{answer:?}");
}

#[test]
fn an_order_says_in_how_many_processes_it_holds() {
    let served = Operated::start();
    let said = format!("Orders hold in this process only (id {}), until", served.gateway.id());
    assert!(!served.done(&["tiers"]).contains("Orders hold"), "nothing is by hand");
    for order in [&["open", "small"][..], &["auto", "small"], &["drain", "small"], &["level", "3"], &["tiers"]] {
        let told = served.done(order);
        assert!(told.lines().last().unwrap().starts_with(&said), "{order:?}: {told}");
    }
    let json: serde_json::Value = serde_json::from_str(&served.admin(&["undrain", "small", "--json"]).out).unwrap();
    assert_eq!(json["scope"], "process");
    assert!(json["scopeNote"].as_str().unwrap().contains("replicas need their own"), "{json}");
}

/// A gateway of the store in this folder.
fn of_store(folder: &Folder, tiers: &str, (secret, entry): &(String, String)) -> Operated {
    let text = format!("tiers:\n{tiers}stores: {{ durable: 'sqlite:{}' }}\n", folder.path("state.db").display());
    let gateway = Serve::with(&text).keys(&format!("{entry}    admin: true\n")).start();
    Operated { gateway, key: secret.clone() }
}

#[test]
fn an_order_holds_at_all_gateways_of_a_durable_store_and_over_restarts() {
    let (folder, ana) = (Folder::new("standing-orders"), key("ana"));
    let (big, small) =
        ("  - { name: big, provider: simulated }\n", "  - { name: small, provider: simulated, level: 3 }\n");
    let (one, mut other) = (of_store(&folder, &(big.to_owned() + small), &ana), of_store(&folder, small, &ana));
    let all = "Orders hold at all gateways of the durable store, within two seconds and over restarts, until they are taken back.";
    for order in [&["drain", "small"][..], &["open", "big"], &["level", "3", "--feature", "chat"]] {
        assert!(one.done(order).ends_with(&format!("{all}\n")), "{order:?}");
    }
    let sees = |served: &Operated, words: &str| {
        within(Duration::from_secs(20), words, || served.done(&["tiers"]).contains(words));
    };
    let held = format!("pinned: no level for all, 3 for chat\norders that hold nothing here: circuit big\n{all}\n");
    sees(&other, "small 3 closed drained");
    sees(&other, &held);
    other.gateway.start_again();
    assert!(other.done(&["tiers"]).contains("small 3 closed drained"), "from the first request on");
    let answer =
        other.gateway.ask("POST /v1/chat/completions", &format!("authorization: Bearer {}\r\n", other.key), BODY);
    assert_eq!(answer.status, 503, "{answer:?}");
    // Of a tier that is not there an order can be taken back all the same.
    assert_eq!(other.done(&["auto", "big"]), format!("{all}\n"));
    assert!(other.admin(&["auto", "big"]).err.contains("unknown tier `big`"));
    other.done(&["undrain", "small"]);
    sees(&one, "small 3 closed - -");
    within(Duration::from_secs(20), "big is free", || !one.done(&["tiers"]).contains("forced"));
    let log = one.gateway.ask("GET /admin/audit", &format!("authorization: Bearer {}\r\n", one.key), "").body;
    assert!(log.contains(r#""action":"take back","after":null,"#) && log.contains(r#""by":"ana""#), "{log}");
}

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"a secret"}]}"#;

#[test]
fn an_order_that_is_refused_says_why() {
    let served = Operated::start();
    for (arguments, key, code, words) in [
        (&["open", "opus"][..], &*served.key, 1, "unknown tier `opus`; the tiers are a/b, small"),
        (&["level", "5"], &served.key, 1, "no tier has level 5"),
        (&["level", "low"], &served.key, 2, "a level is a number from 1 to 5, or none"),
        (&["tiers"], "sk-of-nobody", 1, "does not know this key"),
        (&["tiers"], "", 2, "the variable STEADFAST_ADMIN_KEY is not set"),
        (&["tiers", "--url", "127.0.0.1"], &served.key, 2, "must begin with http://"),
        (&["tiers", "--url", "http://127.0.0.1:1"], &served.key, 1, "http://127.0.0.1:1/: "),
    ] {
        let ran = served.admin_with(arguments, key);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(words) && !ran.err.contains(&served.key), "{arguments:?}: {}", ran.err);
    }
}
