//! Keys in a store that gateways share: made on the command line, and known to all of them.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::{Value, json};

use super::{SOON, keys::status};
use crate::common::{
    Folder, Ran, key,
    serve::{Serve, Served},
    steadfast, within,
};

/// A change is known to all replicas by then. A busy machine takes a little longer.
const KNOWN: Duration = Duration::from_secs(4);

fn config(folder: &Folder) -> String {
    format!(
        "stores: {{ durable: 'sqlite:{}' }}\ngateway: {{ keys: {{ store: durable, folder: '{}' }} }}\n\
         tiers: [{{ name: only, provider: simulated, model: m, simulated: {{ reply: word, latency: 1ms }} }},
         {{ name: second, provider: simulated, model: n }}]\n",
        folder.path("state.db").display(),
        folder.path("copy").display(),
    )
}

/// Runs `steadfast key` against a gateway, as its administrator.
fn order(served: &Served, admin: &str, arguments: &[&str]) -> Ran {
    let environment = [("STEADFAST_URL", &*served.url()), ("STEADFAST_ADMIN_KEY", admin)];
    steadfast(["key"].into_iter().chain(arguments.iter().copied()), &environment)
}

/// Returns the output of an order that is carried out.
fn done(served: &Served, admin: &str, arguments: &[&str]) -> String {
    let ran = order(served, admin, arguments);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {}", ran.out);
    ran.out
}

fn secret(out: &str) -> String {
    out.split_whitespace().find(|word| word.starts_with("sk-steadfast-")).unwrap().to_owned()
}

#[test]
fn a_team_of_gateways_has_one_set_of_keys() {
    let folder = Folder::new("stored-keys");
    let text = config(&folder);
    let file = folder.file("steadfast.yaml", &text);
    let file = file.to_str().unwrap();
    let first = steadfast(["key", "create", "boss", "--admin", "--config", file], &[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let boss = secret(&first.out);
    let mut gateways: Vec<Served> = (0..3).map(|_| Serve::with(&text).start()).collect();
    let [one, two, three] = &gateways[..] else { panic!() };
    assert_eq!(status(one, "sk-guess"), 401);

    let limits = ["--team", "search", "--concurrency", "3", "--usd", "5", "--period", "day"];
    let made = done(one, &boss, &[&["create", "ci"], &limits[..]].concat());
    let ci = secret(&made);
    assert_eq!(status(one, &ci), 200, "it holds at once where it was made");
    within(KNOWN, "not known to all", || status(two, &ci) == 200 && status(three, &ci) == 200);

    let rotated = secret(&done(two, &boss, &["rotate", "ci", "--overlap", "1h"]));
    within(KNOWN, "not known to all", || [one, three].iter().all(|gateway| status(gateway, &rotated) == 200));
    assert_eq!((status(two, &ci), status(three, &ci)), (200, 200), "the earlier one goes on");
    done(three, &boss, &["pause", "ci"]);
    within(KNOWN, "not known to all", || [one, two].iter().all(|gateway| status(gateway, &ci) == 403));
    done(one, &boss, &["resume", "ci"]);
    done(one, &boss, &["limit", "ci", "--models", "n", "--clear", "team"]);
    within(KNOWN, "not known to all", || [two, three].iter().all(|gateway| status(gateway, &ci) == 403));
    done(one, &boss, &["limit", "ci", "--clear", "models"]);
    within(KNOWN, "not known to all", || [two, three].iter().all(|gateway| status(gateway, &ci) == 200));
    done(one, &boss, &["limit", "ci", "--usd", "4"]);
    within(KNOWN, "not known to all", || done(two, &boss, &["show", "ci"]).contains("of $4.00"));
    assert!(
        done(one, &boss, &["log", "ci", "--limit", "1"]).contains("\"period\":\"day\",\"usd\":4"),
        "it is a day's still"
    );
    done(two, &boss, &["limit", "ci", "--usd", "5"]);
    let shown = done(two, &boss, &["show", "ci"]);
    assert!(shown.starts_with("ci: caller\n") && shown.contains("key ci: $0.00 of $5.00"), "{shown}");
    assert_eq!(shown.matches("  secret ").count(), 2, "{shown}");

    done(one, &boss, &["remove", "ci"]);
    assert_eq!(status(one, &ci), 401);
    within(KNOWN, "not known to all", || [two, three].iter().all(|gateway| status(gateway, &rotated) == 401));

    let log = done(three, &boss, &["log", "ci"]);
    let orders: Vec<&str> = log.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(orders, ["remove", "limit", "limit", "limit", "limit", "resume", "pause", "rotate", "create"], "{log}");
    assert!(log.contains("models: none -> [\"n\"]") && log.contains("team: \"search\" -> none"), "{log}");
    let log = done(three, &boss, &["log"]);
    assert!(log.contains("command line") && log.contains("boss"), "{log}");

    // A caller by token is paused by a key of its name.
    for arguments in [["create", "oidc:ann@example.com/a b"], ["pause", "oidc:ann@example.com/a b"]] {
        done(two, &boss, &arguments);
    }
    assert!(done(two, &boss, &["show", "oidc:ann@example.com/a b"]).contains("paused"));

    // A process that starts again knows the keys that it knew.
    let gateway = &mut gateways[0];
    gateway.kill();
    gateway.start_again();
    assert_eq!((status(gateway, &boss), status(gateway, &ci)), (200, 401));
    for gateway in gateways {
        let said = gateway.stop().err;
        assert!([&boss, &ci, &rotated].into_iter().all(|secret| !said.contains(&**secret)), "{said}");
    }
}

#[test]
fn the_keys_of_a_file_are_imported_whole_or_not_at_all() {
    let folder = Folder::new("imported-keys");
    let served = Serve::with(&config(&folder));
    let file = folder.file("steadfast.yaml", &config(&folder));
    let boss = secret(&steadfast(["key", "create", "boss", "--admin", "-c", file.to_str().unwrap()], &[]).out);
    let served = served.start();
    let ((one, first), (two, second)) = (key("one"), key("two"));
    let list = folder.file("keys.yaml", &format!("keys:\n{first}    models: [n]\n{second}"));
    let list = list.to_str().unwrap();
    assert_eq!(done(&served, &boss, &["import", list]), "imported: 2\n");
    assert_eq!((status(&served, &one), status(&served, &two)), (403, 200));
    let again = order(&served, &boss, &["import", list]);
    assert!(again.code == Some(1) && again.err.contains("there is a key `one` already"), "{again:?}");
    let listed: Value = serde_json::from_str(&done(&served, &boss, &["list", "--json"])).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3);
    fs::write(list, "keys: [{ name: three, hash: sk-secret }]").unwrap();
    let wrong = order(&served, &boss, &["import", list]);
    assert!(wrong.code == Some(2) && wrong.err.contains("64 hexadecimal"), "{wrong:?}");
    assert!(!wrong.err.contains("sk-secret") && !served.log().contains("sk-secret"), "{wrong:?}");
    // A caller orders nothing.
    for arguments in [&["list"][..], &["create", "mine"], &["rotate", "boss"], &["remove", "boss"], &["log"]] {
        let refused = order(&served, &two, arguments);
        assert!(refused.code == Some(1) && refused.err.contains("administrator"), "{refused:?}");
    }
    let nothing = order(&served, &boss, &["limit", "two"]);
    assert!(nothing.code == Some(2) && nothing.err.contains("name what to change"), "{nothing:?}");
    within(SOON, "the copy is not written", || folder.path("copy").join("keys.json").is_file());
}

/// Every path of the gateway's `openapi/keys.json`, with answers that are as it says, in all states of a key.
#[test]
fn the_openapi_file_is_what_the_gateway_answers() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/openapi/keys.json")).unwrap();
    let api: Value = serde_json::from_str(&text).unwrap();
    let folder = Folder::new("openapi-keys");
    let file = folder.file("steadfast.yaml", &config(&folder));
    let boss = secret(&steadfast(["key", "create", "boss", "--admin", "-c", file.to_str().unwrap()], &[]).out);
    let served = Serve::with(&config(&folder)).start();
    let mut left: BTreeSet<String> = BTreeSet::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().filter(|name| *name != "parameters");
        left.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let is = |value: &Value, schema: &Value, what: &str| {
        let mut whole = schema.clone();
        whole["components"] = api["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap();
        let wrong: Vec<String> = validator.iter_errors(value).map(|error| format!("{error}")).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?} in {value}");
    };
    let mut ask = |operation: &str, name: &str, body: Value, status: u16| {
        left.remove(operation);
        let (method, path) = operation.split_once(' ').unwrap();
        let said = &api["paths"][path][method.to_lowercase()];
        let request = operation.replace("{name}", name);
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let answer = served.ask(&request, &format!("authorization: Bearer {boss}\r\n"), &sent);
        assert_eq!(answer.status, status, "{operation}: {answer:?}");
        if !body.is_null() && status < 300 {
            is(&body, &said["requestBody"]["content"]["application/json"]["schema"], &request);
        }
        let schema = &said["responses"][status.to_string()]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{operation}: the file does not know the status {status}");
        is(&answer.json(), schema, &request);
    };
    let (whole, hash) = (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
    let rights = json!({ "name": "ci", "team": "search", "models": ["m"], "requests_per_minute": 5,
        "tokens_per_minute": 6, "concurrency": 7, "expires": "2027-01-01", "handoff": true, "objects": "all",
        "budget": { "usd": 5, "period": "week", "at_cap": "warn", "warn_at": [0.5] }, "pass_through": true });
    let file = json!({ "keys": [{ "name": "filed", "hash": whole },
        { "name": "two", "hashes": [{ "hash": hash, "until": "2099-01-01T00:00:00Z" }] }] });
    ask("POST /admin/keys", "", rights.clone(), 201);
    ask("POST /admin/keys", "", rights, 409);
    ask("POST /admin/keys", "", json!({ "name": "x", "modles": [] }), 400);
    ask("POST /admin/keys", "", file, 200);
    ask("GET /admin/keys", "", Value::Null, 200);
    ask("GET /admin/keys/{name}", "two", Value::Null, 200);
    ask("GET /admin/keys/{name}", "gone", Value::Null, 404);
    ask("PATCH /admin/keys/{name}", "ci", json!({ "paused": true, "budget": null, "models": ["n"] }), 200);
    ask("PATCH /admin/keys/{name}", "ci", json!({ "expires": "soon" }), 400);
    ask("POST /admin/keys/{name}/rotate", "two", json!({ "overlap": "1h" }), 200);
    ask("POST /admin/keys/{name}/rotate", "two", json!({}), 200);
    ask("DELETE /admin/keys/{name}", "filed", Value::Null, 200);
    ask("GET /admin/audit", "", Value::Null, 200);
    ask("GET /v1/key", "", Value::Null, 200);
    assert!(left.is_empty(), "not asked: {left:?}");
}

#[test]
fn keys_without_a_durable_store_are_refused_at_the_start() {
    let tiers = "tiers: [{ name: only, provider: simulated, model: m }]\n";
    for (text, says) in [
        ("gateway: { keys: { store: durable } }\n", "add `stores: { durable: sqlite:steadfast.db }`"),
        ("gateway: { keys: { store: memory } }\n", "there are `durable`"),
        ("gateway: { keys: { store: durable, path: k } }\n", "path"),
        (
            "stores: { durable: 'sqlite:/nowhere/x.db' }\ngateway: { keys: { store: durable, folder: ' ' } }\n",
            "the folder's name is empty",
        ),
    ] {
        let refused = Serve::with(&format!("{text}{tiers}")).refused();
        assert!(refused.code == Some(2) && refused.err.contains(says), "{text}: {refused:?}");
    }
}
