//! Expands `${NAME}` references in the file's texts.

use super::{
    environment::Environment,
    report::Report,
    suggest::nearest,
    tree::{Node, Value},
};

/// Expands the references in all texts except keys, which stay references. With `stand_ins`, a placeholder replaces an
/// unset variable that may be a secret.
pub(super) fn expand(tree: &mut Node, environment: &Environment, stand_ins: bool, report: &mut Report<'_>) {
    walk(tree, "", "", &mut |node: &mut Node, parent: &str, key: &str| {
        let (Value::Text(text) | Value::Untyped(text)) = &node.value else { return };
        if !text.contains('$') {
            return;
        }
        match fill(text, environment) {
            // A text that is only a reference is untyped: it may be a number.
            Ok(filled) if text.starts_with("${") && text.find('}') == Some(text.len() - 1) => {
                node.value = Value::Untyped(filled);
            }
            Ok(filled) => node.value = Value::Text(filled),
            Err(ReferenceError { name: Some(_), .. }) if stand_ins && placeholder(parent, key).is_some() => {
                node.value = Value::Text(placeholder(parent, key).unwrap_or_default().to_owned());
            }
            Err(ReferenceError { name, message }) => {
                let near = name.and_then(|name| nearest(&name, environment.iter().map(|(name, _)| name)));
                report.add(&node.place, message, near.map(str::to_owned));
            }
        }
    });
}

fn walk(node: &mut Node, parent: &str, key: &str, fill: &mut dyn FnMut(&mut Node, &str, &str)) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| walk(item, parent, key, fill)),
        Value::Map(entries) => {
            for entry in entries {
                walk(&mut entry.value, key, &entry.key, fill);
            }
        }
        // These fields hold a reference and not its value. A header may have any name.
        Value::Text(_) if is_key(key) && parent != "headers" => {}
        Value::Text(_) if parent == "credential" && matches!(key, "key_id" | "session") => {}
        _ => fill(node, parent, key),
    }
}

/// Returns whether a key holds a secret. Misspelled names count too; the schema reports them later.
fn is_key(name: &str) -> bool {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    ["apikey", "authorization", "secret"].iter().any(|key| letters.clone().eq(key.bytes()))
}

/// Returns a harmless placeholder for a missing secret: it has the right form and leads nowhere.
fn placeholder(parent: &str, key: &str) -> Option<&'static str> {
    match (parent, key) {
        ("headers", _) => Some("unset"),
        (_, "durable") => Some("sqlite:unset.db"),
        (_, "shared") => Some("redis://unset.invalid"),
        (_, "url" | "base_url" | "link" | "webhooks") => Some("https://unset.invalid"),
        _ => None,
    }
}

struct ReferenceError {
    name: Option<String>,
    message: String,
}

fn fill(text: &str, environment: &Environment) -> Result<String, ReferenceError> {
    let wrong = |message: &str| ReferenceError { name: None, message: message.to_owned() };
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or_else(|| wrong("a `${` without its `}`; write `$$` for a dollar sign"))?;
            let (reference, default) = match after[..end].split_once(":-") {
                Some((name, default)) => (name.trim(), Some(default)),
                None => (after[..end].trim(), None),
            };
            if reference.is_empty() || !reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(wrong(
                    "a reference is `${NAME}` or `${NAME:-default}`, its name of letters, digits and `_`",
                ));
            }
            // An empty variable takes the default too, as in a shell.
            let value = environment.get(reference).filter(|value| default.is_none() || !value.is_empty());
            match value.or(default) {
                Some(value) => filled.push_str(value),
                None => {
                    let message =
                        format!("the variable `{reference}` is not set; set it, or write `${{{reference}:-default}}`");
                    return Err(ReferenceError { name: Some(reference.to_owned()), message });
                }
            }
            rest = &after[end + 1..];
        } else {
            filled.push('$');
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in_and_dollars_escaped() {
        let environment: Environment = [("NAME", "sonnet"), ("EMPTY", ""), ("DOLLAR", "${NAME}")].into_iter().collect();
        for (text, filled) in [
            ("${NAME}", "sonnet"),
            ("a-${NAME}-b-${NAME}", "a-sonnet-b-sonnet"),
            ("${NONE:-small}", "small"),
            ("${NONE:-}", ""),
            ("${EMPTY:-small}", "small"),
            ("${EMPTY}", ""),
            ("$${NAME}", "${NAME}"),
            ("5 $ and $NAME", "5 $ and $NAME"),
            // A variable's value is not expanded again.
            ("${DOLLAR}", "${NAME}"),
            ("100%", "100%"),
        ] {
            assert_eq!(fill(text, &environment).ok().as_deref(), Some(filled), "{text}");
        }
        for text in ["${NONE}", "${NAME", "${}", "${a b}", "x ${NAME:+y}"] {
            assert!(fill(text, &environment).is_err(), "{text}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn without_secrets_something_harmless_stands_for_them() {
        let text = "
tiers: [{ name: a, provider: openai, model: m, base_url: '${BASE}', headers: { x-team: 'team ${TEAM}' } }]
stores: { durable: 'postgres://u:${PASSWORD}@db/steadfast' }
";
        let loader = crate::Loader::new().environment(Environment::default());
        assert_eq!(loader.text(text, crate::Format::Yaml).unwrap_err().problems().len(), 3);
        let config = loader.without_secrets().text(text, crate::Format::Yaml).unwrap();
        assert_eq!(config.tiers[0].base_url.as_deref(), Some("https://unset.invalid"));
        assert_eq!(config.tiers[0].headers["x-team"].as_str(), "unset");
        // A setting that decides the stack's behaviour is still an error.
        let wrong = "tiers: [{ name: a, provider: simulated, model: '${MODEL}' }]";
        assert!(crate::Loader::new().without_secrets().text(wrong, crate::Format::Yaml).is_err());
    }
}
