//! Keys in a store that gateways share: made on the command line, and known to all of them.

use std::{fs, time::Duration};

use serde_json::Value;

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
    let shown = done(two, &boss, &["show", "ci"]);
    assert!(shown.starts_with("ci: caller\n") && shown.contains("key ci: $0.00 of $5.00"), "{shown}");
    assert_eq!(shown.matches("  secret ").count(), 2, "{shown}");

    done(one, &boss, &["remove", "ci"]);
    assert_eq!(status(one, &ci), 401);
    within(KNOWN, "not known to all", || [two, three].iter().all(|gateway| status(gateway, &rotated) == 401));

    let log = done(three, &boss, &["log", "ci"]);
    let orders: Vec<&str> = log.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(orders, ["remove", "limit", "limit", "resume", "pause", "rotate", "create"], "{log}");
    assert!(log.contains("models: none -> [\"n\"]") && log.contains("team: \"search\" -> none"), "{log}");
    let log = done(three, &boss, &["log"]);
    assert!(log.contains("command line") && log.contains("boss"), "{log}");

    // What a process knew it knows again.
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
