//! `steadfast admin` and the gateway that it operates, both of the real binary.

use crate::common::{
    Ran, key,
    serve::{Serve, Served},
    steadfast,
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
    assert_eq!(served.done(&["level", "3"]), "pinned: level 3 for all\n");
    assert_eq!(served.done(&["level", "1", "--feature", "chat"]), "pinned: level 3 for all, 1 for chat\n");
    assert_eq!(served.done(&["level", "none"]), "pinned: no level for all, 1 for chat\n");
    assert_eq!(served.done(&["forget"]), "forgotten: 0\nstill kept: 0\n");
    assert_eq!(served.done(&["forget", "--feature", "chat"]), "forgotten: 0\nstill kept: 0\n");
    assert_eq!(served.done(&["reload"]), "tiers kept: a/b, small\ntiers removed: none\nchanged: none\n");
    let json: serde_json::Value = serde_json::from_str(&served.admin(&["tiers", "--json"]).out).unwrap();
    assert_eq!((&json["tiers"][0]["name"], &json["pinnedFeatures"]["chat"]), (&"a/b".into(), &1.into()));
}

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
