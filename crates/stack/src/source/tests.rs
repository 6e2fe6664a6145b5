use super::*;
use crate::Format;

fn shown(text: &str, word: &str) -> Problem {
    let at = text.find(word).unwrap();
    Source::new(None, text.to_owned()).problem(Some(&Place::Text(at..at + word.len())), "wrong")
}

#[test]
fn the_mark_is_under_the_word() {
    for (text, word, line, column, mark) in [
        ("a: b", "b", 1, 4, (3, 1)),
        ("x\n\ta: bcd\n", "bcd", 2, 5, (4, 3)),
        ("é: \"ü\", b: 日本", "日本", 1, 12, (11, 2)),
        ("a: b\r\nc: dd\r\n", "dd", 2, 4, (3, 2)),
        ("a: b\r\nc: dd\r\n", "\nc", 1, 5, (4, 1)),
    ] {
        let problem = shown(text, word);
        assert_eq!((problem.line, problem.column, problem.mark), (line, column, mark), "{text}");
    }
    let long = format!("a: [{}, wrong, {}]", "x, ".repeat(300), "y, ".repeat(300));
    let problem = shown(&long, "wrong");
    assert_eq!(problem.column, 907);
    let (at, length) = problem.mark;
    assert_eq!(problem.snippet.chars().skip(at).take(length).collect::<String>(), "wrong");
    assert!(problem.snippet.chars().count() <= WIDE);
}

#[test]
fn what_may_be_a_secret_is_hidden_in_a_text_that_cannot_be_read() {
    for text in [
        "api_key: hidden-123 }",
        "{\"apiKey\": \"hidden-123\", broken",
        "api_key = hidden-123",
        "authorization: Bearer hidden-123",
        "a: { my_token: 'hidden-123', b: [ }",
        "api_key:\n  hidden-123: [",
        "OPENAI_API_KEY=hidden-123",
        "password : \"hidden-123",
    ] {
        let problem = shown(text, "hidden");
        assert!(!problem.to_string().contains("hidden"), "{problem}");
        assert!(problem.to_string().contains("***"), "{problem}");
    }
    for text in ["x: sk-hidden-12345678", "- [AIzahidden12345, b"] {
        assert!(!shown(text, "hidden").snippet.contains("hidden"), "{text}");
    }
    for text in ["max_output_tokens: 4096", "tokens_per_minute: 90000", "key: research", "api_key: ${OPENAI_API_KEY}"] {
        assert_eq!(shown(text, text).snippet, text);
    }
}

#[test]
fn a_value_that_may_be_a_secret_is_not_repeated() {
    for text in [
        "tiers: [{ name: a, provider: simulated, headers: hidden }]",
        "tiers: [{ name: a, provider: simulated, headers: { x: [hidden] } }]",
        "alerts: { webhooks: https://example.com/hidden }",
        "alerts: { webhooks: [https://example.com/hidden] }",
        "tiers: [{ name: a, provider: '${KEY}' }]",
        "tiers: [{ name: a, provider: simulated, level: '${KEY}' }]",
        "timeout: ${KEY}",
    ] {
        let environment = [("KEY", "hidden"), ("STEADFAST__ALERTS__WEBHOOKS", "hidden")].into_iter().collect();
        let error = crate::Loader::new().environment(environment).text(text, Format::Yaml).unwrap_err();
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

/// Each form of a secret in each place of a file that is wrong there: none is in what an operator reads.
#[test]
fn no_secret_is_printed_whatever_its_form_and_its_place() {
    const SECRET: &str = "Hidden0123456789";
    let forms = [
        format!("https://user:{SECRET}@example.com/v1"),
        format!("https://{SECRET}@example.com/v1"),
        format!("https://user:a/{SECRET}@example.com/v1"),
        format!("postgress://user:{SECRET}@db.example/steadfast"),
        format!("redis://:{SECRET}@cache.example"),
        format!("user:{SECRET}@example.com"),
        format!("sk-ant-{SECRET}"),
        format!("AIza{SECRET}"),
        format!("whsec_{SECRET}"),
        format!("eyJ{SECRET}.{SECRET}.{SECRET}"),
    ];
    let places = [
        "tiers: [{ name: a, provider: compatible, model: m, base_url: SECRET }]",
        "tiers: [{ name: a, provider: SECRET }]",
        "tiers: [{ name: a, provider: simulated, level: SECRET }]",
        "tiers: [{ name: a, provider: simulated, SECRET: 1 }]",
        "tiers: [{ name: a, provider: simulated, nobody_knows: SECRET }]",
        "tiers: [{ name: a, provider: simulated, api_kye: SECRET }]",
        "tiers: [{ name: SECRET, provider: simulated }, { name: SECRET, provider: simulated }]",
        "stores: { durable: SECRET }\ntiers: [{ name: a, provider: simulated }]",
        "stores: { shared: SECRET }\ntiers: [{ name: a, provider: simulated }]",
        "timeout: SECRET",
        "handoff: { callbacks: { secret: SECRET, hosts: [SECRET] } }",
        "handoff: { notify: { url: SECRET, link: [] } }",
        "alerts: { webhooks: [{ url: SECRET, nobody: SECRET }] }",
        "gateway: { keys: SECRET, max_body: SECRET, cors: [SECRET] }",
        "models: { m: [SECRET] }\ntiers: [{ name: a, provider: simulated }]",
        "listen: SECRET",
        "pasword: SECRET",
        "SECRET",
        "a: [ SECRET",
    ];
    let spellings: [fn(&str) -> String; 4] = [
        str::to_owned,
        |form| format!("'{form}'"),
        |form| format!("\"{form}\""),
        |form| format!("\"{}\"", form.replace('@', "\\x40").replace('-', "\\u002d").replace('_', "\\x5f")),
    ];
    let mut cells = 0;
    for form in &forms {
        for place in places {
            for spell in spellings {
                let text = place.replace("SECRET", &spell(form));
                let read = crate::Loader::new().environment(Default::default()).text(&text, Format::Yaml);
                let Err(error) = read else { continue };
                for shown in [error.to_string(), format!("{error:?}")] {
                    assert!(!shown.contains(SECRET), "{text}:\n{shown}");
                }
                cells += 1;
            }
        }
    }
    assert!(cells > 600, "{cells}");
}
