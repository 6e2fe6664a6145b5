//! The alerts that a file asks for: to its webhooks, by its rules, while its stack runs and is reloaded.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{
    BoxLlmService, LlmRequest,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Environment, Format, Loader, Stack, StackBuilder};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(300);

const FILE: &str = "
tiers:
  - { name: sonnet, provider: simulated, retry: { max_attempts: 1 }, circuit_breaker: { cooldown: 30s } }
  - { name: gpt, provider: simulated }
alerts:
  webhooks:
    - { url: 'https://a.example/services/${PLACE}', authorization: '${TOKEN}' }
";

/// A webhook more, in the list's next place.
fn and(webhook: &str) -> String {
    format!("{FILE}    - {{ url: 'https://{webhook}.example/', format: json }}\n")
}

/// The messages that webhooks received: the host, whether the secret was with it, and the message. Hosts at
/// `hangs.example` never answer.
#[derive(Clone, Default)]
struct Webhooks(Arc<Mutex<Vec<(String, bool, Value)>>>);

impl Webhooks {
    fn transport(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let all = self.0.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let all = all.clone();
            async move {
                let (parts, body) = request.into_parts();
                let host = parts.uri.host().unwrap_or_default().to_owned();
                let secret = parts.uri.path() == "/services/T0"
                    && parts.headers.get(AUTHORIZATION).is_some_and(|value| value == "Bearer hook");
                let message = serde_json::from_slice(&body.collect().await?.to_bytes())?;
                let hangs = host == "hangs.example";
                all.lock().unwrap().push((host, secret, message));
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(Response::new(Full::default()))
            }
        })
    }

    /// The messages of a host: Slack's text, or state and summary.
    fn at(&self, host: &str) -> Vec<String> {
        let text = |message: &Value| match message["text"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("{}: {}", message["state"].as_str().unwrap(), message["summary"].as_str().unwrap()),
        };
        let all = self.0.lock().unwrap();
        all.iter().filter(|(of, ..)| of == host).map(|(.., message)| text(message)).collect()
    }
}

fn environment() -> Environment {
    [("PLACE", "T0"), ("TOKEN", "Bearer hook"), ("HOSTNAME", "pod-1")].into_iter().collect()
}

fn config(text: &str) -> steadfast_stack::Config {
    let loader = Loader::new().environment(environment());
    loader.text(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// A builder with both tiers simulated, and what makes the first one fail.
fn builder(webhooks: &Webhooks) -> (StackBuilder, SimulatedHandle) {
    let tier = |name: &str| Simulated::new(name).latency(LATENCY);
    let sonnet = tier("sonnet");
    let handle = sonnet.handle();
    let builder = Stack::builder()
        .environment(environment())
        .leaf("sonnet", sonnet)
        .leaf("gpt", tier("gpt"))
        .transport(webhooks.transport())
        .seed(1);
    (builder, handle)
}

/// A request each second, for so long: how long each took.
async fn traffic(llm: &BoxLlmService, lasts: Duration) -> Vec<Duration> {
    let (until, mut took) = (Instant::now() + lasts, Vec::new());
    while Instant::now() < until {
        let begun = Instant::now();
        llm.clone().oneshot(LlmRequest::prompt("?")).await.expect("a tier answers");
        took.push(begun.elapsed());
        sleep(SECOND.saturating_sub(begun.elapsed())).await;
    }
    took
}

/// Ten seconds of health, five minutes of outage, two of health.
async fn outage(llm: &BoxLlmService, sonnet: &SimulatedHandle) -> Vec<Duration> {
    let mut took = traffic(llm, SECOND * 10).await;
    sonnet.fail(Fault::ServerError);
    took.extend(traffic(llm, MINUTE * 5).await);
    sonnet.heal();
    took.extend(traffic(llm, MINUTE * 2).await);
    took
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_alert_and_its_resolution_at_the_files_webhook() {
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let stack = builder.build(config(FILE)).unwrap();
    let alerting = stack.handle().alert();
    outage(&stack.service(), &sonnet).await;
    let said = webhooks.at("a.example");
    let [firing, resolved] = &said[..] else { panic!("one alert and its resolution: {said:?}") };
    assert!(firing.starts_with("*Warning:* gpt serves in place of sonnet"), "{firing}");
    assert!(resolved.starts_with("*Resolved:* sonnet serves again in place of gpt, after 4 min 59 s"), "{resolved}");
    assert!(webhooks.0.lock().unwrap().iter().all(|(_, secret, _)| *secret), "the secrets came from the environment");
    assert_eq!(alerting.webhooks().iter().map(|webhook| webhook.sent()).collect::<Vec<_>>(), [2]);
    let shown = format!("{alerting:?} {:?}", stack.handle().config().alerts);
    assert!(!shown.contains("T0") && !shown.contains("Bearer"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn each_alert_says_where_it_comes_from_and_no_deployment_ends_anothers() {
    let webhooks = Webhooks::default();
    let said = async |file: &str, host: &'static str| {
        let (builder, sonnet) = builder(&webhooks);
        let variables = [("PLACE", "T0"), ("TOKEN", "Bearer hook"), ("HOSTNAME", host)];
        let file = format!("listen: 127.0.0.1:9100\n{file}").replace("services/${PLACE}'", "', format: json");
        let stack = builder.environment(variables.into_iter().collect()).build(config(&file)).unwrap();
        let _alerting = stack.handle().alert();
        outage(&stack.service(), &sonnet).await;
        let messages: Vec<_> = webhooks.0.lock().unwrap().drain(..).map(|(.., message)| message).collect();
        let all = |name: &str| messages.iter().map(|one| one[name].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(all("state"), ["firing", "resolved"]);
        let [ids, sources, instances] = ["id", "source", "instance"].map(all);
        assert!(ids[0] == ids[1] && sources[0] == sources[1] && instances[0] == instances[1], "{messages:?}");
        [ids[0].clone(), sources[0].clone(), instances[0].clone()]
    };
    let named = |source: &str| FILE.replace("alerts:", &format!("alerts:\n  source: {source}"));
    let (production, staging) = (named("production"), named("staging"));
    let [first, source, instance] = said(&production, "pod-1").await;
    assert_eq!((source.as_str(), instance.as_str()), ("production", "pod-1:9100"));
    let [second, _, instance] = said(&production, "pod-2").await;
    assert_eq!((&second, instance.as_str()), (&first, "pod-2:9100"), "replicas report one alert");
    assert_ne!(said(&staging, "pod-1").await[0], first);
    let [unnamed, source, instance] = said(FILE, "pod-1").await;
    assert_eq!((source.as_str(), instance.as_str()), ("pod-1:9100", "pod-1:9100"));
    assert_ne!(unnamed, said(FILE, "pod-2").await[0], "what has no name is a deployment of its own");
    for wrong in ["''", "\"a\\nb\"", &"x".repeat(65)] {
        let refused = Loader::new().environment(environment()).text(&named(wrong), Format::Yaml).unwrap_err();
        assert!(refused.to_string().contains("it must have 1 to 64 characters"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_files_rules_say_when() {
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let rules =
        "  rules: { failover: off, tier_failure_rate: { share: 10%, min_requests: 3, within: 1m }, repeat: 2m }";
    let stack = builder.build(config(&format!("{FILE}{rules}"))).unwrap();
    let _alerting = stack.handle().alert();
    sonnet.fail(Fault::ServerError);
    traffic(&stack.service(), SECOND * 10).await;
    assert_eq!(webhooks.at("a.example"), ["*Warning:* 100.0 % of 4 calls to sonnet failed [pod-1]"]);
    // One probe fails in half a minute: the rate stays, but there are too few.
    traffic(&stack.service(), MINUTE * 4).await;
    let last = webhooks.at("a.example").pop().unwrap();
    assert_eq!(last, "*Resolved:* the failure rate is below its limit again [pod-1]");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_slows_no_answer_and_no_other_webhook() {
    let (quiet, sonnet) = builder(&Webhooks::default());
    let quiet = quiet.build(config(FILE)).unwrap();
    let expected = outage(&quiet.service(), &sonnet).await;

    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let text = and("hangs").replace("a.example", "hangs.example") + "    - { url: 'https://b.example/', format: json }";
    let stack = builder.build(config(&text)).unwrap();
    let alerting = stack.handle().alert();
    assert_eq!(outage(&stack.service(), &sonnet).await, expected);
    let said = webhooks.at("b.example");
    assert!(said[0].starts_with("firing: gpt") && said[1].starts_with("resolved: sonnet"), "{said:?}");
    assert_eq!(said.len(), 2);
    // The last attempts of the alert's end.
    sleep(MINUTE * 2).await;
    let counts: Vec<_> = alerting.webhooks().iter().map(|webhook| (webhook.sent(), webhook.failed())).collect();
    assert_eq!(counts, [(0, 2), (0, 2), (2, 0)], "given up after five attempts each");
}

#[tokio::test(start_paused = true)]
async fn after_a_reload_the_new_webhook_is_told_and_what_fires_goes_on() {
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let stack = builder.build(config(&and("kept"))).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let alerting = handle.alert();
    sonnet.fail(Fault::ServerError);
    traffic(&llm, SECOND * 10).await;
    assert_eq!((webhooks.at("a.example").len(), webhooks.at("kept.example").len()), (1, 1));

    let kept = alerting.webhooks()[1].clone();
    // In another order, and by other rules.
    let rules = "  rules: { failovers: { more_than: 9, within: 1h } }";
    let next = and("kept").replace("a.example", "new.example") + rules;
    let next = next.replace("webhooks:\n", "webhooks:\n    - { url: 'https://first.example/' }\n");
    handle.reload(config(&next)).unwrap();
    sleep(SECOND).await;
    assert_eq!(alerting.webhooks().len(), 3);
    assert_eq!((alerting.webhooks()[2].sent(), kept.sent()), (1, 1), "it is the one that was there");

    sonnet.heal();
    traffic(&llm, MINUTE * 2).await;
    for (host, count) in [("a", 1), ("kept", 2), ("new", 1), ("first", 1)] {
        let said = webhooks.at(&format!("{host}.example"));
        assert_eq!(said.len(), count, "{host}: {said:?}");
        let is_over = said[count - 1].contains("sonnet serves again in place of gpt");
        assert_eq!(is_over, host != "a", "{host}: {said:?}");
    }

    // And of an alert after it, it is told from its beginning.
    sonnet.fail(Fault::ServerError);
    traffic(&llm, SECOND * 10).await;
    assert!(webhooks.at("new.example")[1].starts_with("*Warning:* gpt serves in place of sonnet"));
}

#[tokio::test(start_paused = true)]
async fn events_are_checked_only_while_there_is_a_webhook() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let none = FILE.split("alerts:").next().unwrap();
    let stack = builder.build(config(none)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let before = tasks();
    let alerting = handle.alert();
    sleep(SECOND).await;
    assert_eq!((tasks(), alerting.webhooks().len()), (before + 1, 0), "it waits for a reload");
    sonnet.fail(Fault::ServerError);
    traffic(&llm, SECOND * 10).await;
    sonnet.heal();
    traffic(&llm, MINUTE).await;

    handle.reload(config(FILE)).unwrap();
    sleep(SECOND).await;
    assert_eq!(tasks(), before + 3, "its check and its webhook");
    sonnet.fail(Fault::ServerError);
    traffic(&llm, SECOND * 10).await;
    let said = webhooks.at("a.example");
    assert!(said.len() == 1 && said[0].starts_with("*Warning:* gpt serves in place of sonnet"), "{said:?}");

    handle.reload(config(none)).unwrap();
    sleep(SECOND).await;
    assert_eq!(tasks(), before + 1);
    sonnet.heal();
    traffic(&llm, MINUTE).await;
    assert_eq!(webhooks.at("a.example").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_refused_leaves_the_webhooks_as_they_are() {
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let stack = builder.build(config(FILE)).unwrap();
    let alerting = stack.handle().alert();
    let mut wrong = config(&and("b"));
    wrong.alerts.webhooks[1].authorization = Some(steadfast_stack::KeyRef::env("NO_SUCH_TOKEN"));
    let error = stack.handle().reload(wrong).unwrap_err();
    assert_eq!(error.problems()[0].variable.as_deref(), Some("NO_SUCH_TOKEN"));
    sonnet.fail(Fault::ServerError);
    traffic(&stack.service(), SECOND * 10).await;
    let said = webhooks.at("a.example");
    assert!(
        said[0].starts_with("*Warning:* a new configuration was refused, and the one before goes on: "),
        "{said:?}"
    );
    assert_eq!((alerting.webhooks().len(), said.len(), webhooks.at("b.example").len()), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_alerts_is_told_when_the_stack_is_built() {
    let refused = |change: fn(&mut steadfast_stack::Alerts)| {
        let mut config = config(FILE);
        change(&mut config.alerts);
        let (builder, _) = builder(&Webhooks::default());
        builder.build(config).unwrap_err().to_string()
    };
    let share = steadfast_stack::RuleThreshold::Numbers(steadfast_stack::RuleNumbers {
        share: Some(steadfast_stack::Share(1.0)),
        ..steadfast_stack::RuleNumbers::default()
    });
    let message = refused(|alerts| {
        alerts.webhooks[0].authorization = Some(steadfast_stack::KeyRef::env("NOT_SET"));
        alerts.webhooks[0].url = steadfast_stack::Secret::new("https://b.example/x");
    });
    assert!(message.contains("alerts.webhooks.0.authorization: the environment variable NOT_SET"), "{message}");
    let message = refused(|alerts| alerts.webhooks[0].url = steadfast_stack::Secret::new("ftp://b.example/secret"));
    assert!(message.contains("alerts.webhooks.0.url") && !message.contains("secret"), "{message}");
    let mut wrong = config(FILE);
    wrong.alerts.rules.failure_rate = Some(share);
    let message = builder(&Webhooks::default()).0.build(wrong).unwrap_err().to_string();
    assert!(message.contains("alerts.rules.failure_rate"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_and_nothing_runs_when_it_is_dropped() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let stack = builder.build(config(&and("hangs"))).unwrap();
    let before = tasks();
    let alerting = stack.handle().alert();
    assert_eq!(tasks(), before + 4);
    sonnet.fail(Fault::ServerError);
    traffic(&stack.service(), SECOND * 10).await;
    // The webhook that is left out is sent nothing more, though it has not answered yet.
    stack.handle().reload(config(FILE)).unwrap();
    sleep(SECOND).await;
    assert_eq!(tasks(), before + 3);
    drop(alerting);
    sleep(SECOND).await;
    assert_eq!(tasks(), before);
    sonnet.heal();
    traffic(&stack.service(), MINUTE * 2).await;
    assert_eq!((webhooks.at("a.example").len(), webhooks.at("hangs.example").len()), (1, 1));

    // Nor does it keep a stack alive that nobody else has.
    let alerting = stack.handle().alert();
    drop(stack);
    sleep(SECOND).await;
    assert_eq!(tasks(), before + 1, "its webhook's");
    drop(alerting);
    sleep(SECOND).await;
    assert_eq!(tasks(), before);
}

/// The `alerts` that the guide shows.
fn guide() -> String {
    let page = include_str!("../../crates/guide/src/gateway_observation.md");
    let mut blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.find(|block| block.starts_with("alerts:\n")).unwrap();
    let tiers = "tiers:
  - { name: sonnet, provider: simulated, retry: { max_attempts: 1 }, circuit_breaker: { cooldown: 30s } }
  - { name: gpt, provider: simulated }
";
    format!("{tiers}{block}")
}

/// The fields that each receiver documents of its messages: no more fields than these, and none of another type.
mod documented {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    /// <https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-post>
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct JiraIssue {
        pub(super) fields: JiraFields,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct JiraFields {
        pub(super) project: BTreeMap<String, String>,
        pub(super) issuetype: BTreeMap<String, String>,
        pub(super) labels: Vec<String>,
        pub(super) summary: String,
        pub(super) description: Doc,
    }

    /// <https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/>
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Doc {
        pub(super) r#type: String,
        pub(super) version: u8,
        pub(super) content: Vec<Block>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Block {
        pub(super) r#type: String,
        pub(super) content: Vec<Inline>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Inline {
        pub(super) r#type: String,
        pub(super) text: String,
    }

    /// <https://developer.pagerduty.com/docs/send-alert-event>
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct PagerDutyEvent {
        pub(super) routing_key: String,
        pub(super) event_action: Action,
        pub(super) dedup_key: String,
        pub(super) payload: Payload,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub(super) enum Action {
        Trigger,
        Acknowledge,
        Resolve,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Payload {
        pub(super) summary: String,
        pub(super) source: String,
        pub(super) component: String,
        pub(super) severity: PagerDutySeverity,
        pub(super) timestamp: String,
        pub(super) class: String,
        pub(super) custom_details: BTreeMap<String, String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub(super) enum PagerDutySeverity {
        Critical,
        Error,
        Warning,
        Info,
    }

    /// <https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Mail {
        pub(super) personalizations: Vec<To>,
        pub(super) from: Address,
        pub(super) subject: String,
        pub(super) content: Vec<Content>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct To {
        pub(super) to: Vec<Address>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Address {
        pub(super) email: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Content {
        pub(super) r#type: String,
        pub(super) value: String,
    }
}

#[tokio::test(start_paused = true)]
async fn the_guides_templates_are_what_their_receivers_document() {
    let secrets = [
        ("SLACK_WEBHOOK", "https://hooks.slack.example/x"),
        ("JIRA_AUTHORIZATION", "Basic x"),
        ("SENDGRID_AUTHORIZATION", "Bearer x"),
        // Digits alone are a text too.
        ("PAGERDUTY_KEY", "01234567890123456789012345678901"),
    ];
    let environment: Environment = secrets.into_iter().collect();
    let loader = Loader::new().environment(environment.clone());
    let config = loader.text(&guide(), Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("0123456789") && !shown.contains("on-call"), "{shown}");
    let webhooks = Webhooks::default();
    let (builder, sonnet) = builder(&webhooks);
    let stack = builder.environment(environment).build(config).unwrap();
    let _alerting = stack.handle().alert();
    outage(&stack.service(), &sonnet).await;
    // Until the share of answers by the fallback is small again.
    traffic(&stack.service(), MINUTE * 30).await;

    let all = webhooks.0.lock().unwrap().clone();
    let at = |host: &str| all.iter().filter(|(of, ..)| of == host).map(|(.., body)| body.clone()).collect::<Vec<_>>();
    let jira: Vec<documented::JiraIssue> =
        at("example.atlassian.net").into_iter().map(|body| serde_json::from_value(body).unwrap()).collect();
    let titles: Vec<&str> = jira.iter().map(|issue| issue.fields.summary.as_str()).collect();
    assert!(titles.iter().any(|title| title.starts_with("Warning: gpt serves in place of sonnet")), "{titles:?}");
    assert!(titles.iter().all(|title| title.starts_with("Warning: ") && title.len() <= 255), "{titles:?}");
    let issue = &jira[0].fields;
    assert_eq!((issue.project["key"].as_str(), issue.issuetype["name"].as_str()), ("OPS", "Task"));
    assert!(issue.labels.iter().all(|label| !label.contains(' ')), "Jira takes no label with a space: {issue:?}");
    let (doc, block) = (&issue.description, &issue.description.content[0]);
    assert_eq!((doc.r#type.as_str(), doc.version, block.r#type.as_str()), ("doc", 1, "paragraph"));
    assert!(block.content[0].r#type == "text" && block.content[0].text.contains("since 20"), "{block:?}");

    let pages: Vec<documented::PagerDutyEvent> =
        at("events.pagerduty.com").into_iter().map(|body| serde_json::from_value(body).unwrap()).collect();
    let [begun, over] = &pages[..] else { panic!("{pages:?}") };
    assert_eq!((&begun.event_action, &over.event_action), (&documented::Action::Trigger, &documented::Action::Resolve));
    assert_eq!((begun.routing_key.len(), &begun.dedup_key), (32, &over.dedup_key));
    assert!(begun.dedup_key.starts_with("steadfast/production/"), "{}", begun.dedup_key);
    let payload = &begun.payload;
    let told = [&*payload.class, &*payload.source];
    assert_eq!(told, ["fallback_share", "production"]);
    assert!(!payload.component.is_empty(), "the process");
    assert_eq!(payload.severity, documented::PagerDutySeverity::Critical);
    assert!(payload.summary.ends_with("answers came from fallbacks") && payload.summary.len() <= 1024, "{payload:?}");
    assert!(payload.timestamp.ends_with('Z') && payload.custom_details.contains_key("share"), "{payload:?}");

    let mails: Vec<documented::Mail> =
        at("api.sendgrid.com").into_iter().map(|body| serde_json::from_value(body).unwrap()).collect();
    let subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.split(':').next().unwrap()).collect();
    for word in ["Warning", "Critical", "Resolved"] {
        assert!(subjects.contains(&word), "{subjects:?}");
    }
    let mail = &mails[0];
    assert!(mail.from.email.contains('@') && mail.personalizations[0].to[0].email.contains('@'));
    assert!(mail.content[0].r#type == "text/plain" && !mail.content[0].value.is_empty());
    assert!(mails.iter().all(|mail| !mail.subject.contains('\n')), "a subject is one line");
}
