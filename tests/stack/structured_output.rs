//! Structured output is held to its schema, whoever answers, as a file says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde_json::json;
use steadfast::{
    Chat, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, Wire,
    chat::{Message, OutputSchema},
    provider_fn,
};
use steadfast_handoff::MemoryTasks;
use steadfast_stack::{Config, Format, Stack};
use tower::ServiceExt;

const TIERS: &str = "
retry: { max_attempts: 1 }
tiers:
  - { name: careless, provider: simulated }
  - { name: chatty, provider: simulated }
features:
  report: {}
  free: { validate: off }
  strict: { validate: { reasks: 0, repair: false } }
";

/// A stack of two models that say these things, and how often each was asked.
struct World {
    stack: Stack,
    asked: [Arc<AtomicUsize>; 2],
}

fn config(file: &str) -> Config {
    Config::from_str(file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

impl World {
    fn new(file: &str, says: [&'static str; 2]) -> Self {
        let asked = [Arc::<AtomicUsize>::default(), Arc::default()];
        let mut builder = Stack::builder().seed(1);
        for ((name, says), asked) in ["careless", "chatty"].into_iter().zip(says).zip(&asked) {
            let asked = asked.clone();
            let leaf = provider_fn(move |_| {
                asked.fetch_add(1, SeqCst);
                async move { Ok::<_, LlmError>(LlmResponse::from_text(says)) }
            });
            builder = builder.leaf(name, leaf);
        }
        Self { stack: builder.build(config(file)).unwrap(), asked }
    }

    async fn ask(&self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        self.stack.service().oneshot(request).await
    }

    fn asked(&self) -> [usize; 2] {
        self.asked.each_ref().map(|asked| asked.load(SeqCst))
    }
}

fn capital() -> LlmRequest {
    let mut chat = Chat::new([Message::user("The capital of France?")]);
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    chat.output = Some(OutputSchema { name: "capital".into(), schema: Some(schema.into()), strict: true });
    LlmRequest::from(chat)
}

const PROSE: &str = "It is Paris.";
const FENCED: &str = "Here:\n```json\n{\"city\": \"Paris\"}\n```";

#[tokio::test(start_paused = true)]
async fn a_model_that_stays_careless_is_asked_again_once_and_then_the_next() {
    let world = World::new(&format!("validate: on\n{TIERS}"), [PROSE, FENCED]);
    let answer = world.ask(capital().with_feature("report")).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("chatty"));
    assert!(answer.notes().iter().any(|note| note.starts_with("output: ")), "{:?}", answer.notes());
    let failed: Vec<_> = answer.attempts().iter().map(|step| (step.tier.as_deref(), step.failure)).collect();
    let careless = (Some("careless"), Some(ErrorKind::InvalidOutput));
    assert_eq!(failed, [careless, careless]);
    assert_eq!(answer.text().await.unwrap(), "{\"city\": \"Paris\"}");
    assert_eq!(world.asked(), [2, 1]);
    // A careless model is not down.
    assert_eq!(world.stack.handle().circuits()["careless"].consecutive_failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_feature_goes_by_its_own_word_and_the_others_by_the_files() {
    for (file, of_file) in [("validate: { reasks: 0 }", [1, 1]), ("validate: off", [1, 0]), ("", [1, 0])] {
        for (feature, expected) in [("report", of_file), ("other", of_file), ("free", [1, 0]), ("strict", [1, 1])] {
            let world = World::new(&format!("{file}\n{TIERS}"), [PROSE, FENCED]);
            let answer = world.ask(capital().with_feature(feature)).await;
            assert_eq!(world.asked(), expected, "{file}, {feature}");
            match (feature, expected) {
                // Nothing is repaired there.
                ("strict", _) => assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidOutput),
                (_, [1, 1]) => assert_eq!(answer.unwrap().text().await.unwrap(), "{\"city\": \"Paris\"}"),
                _ => assert_eq!(answer.unwrap().text().await.unwrap(), PROSE),
            }
        }
    }
    let others = format!("validate: {{ reasks: 0 }}\ndefault_feature: {{ validate: off }}\n{TIERS}");
    for (feature, expected) in [("report", [1, 1]), ("other", [1, 0])] {
        let world = World::new(&others, [PROSE, FENCED]);
        world.ask(capital().with_feature(feature)).await.unwrap();
        assert_eq!(world.asked(), expected, "{feature}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_no_shape_passes_as_it_is_and_so_does_what_fits() {
    let world = World::new(&format!("validate: on\n{TIERS}"), [PROSE, FENCED]);
    assert_eq!(world.ask(LlmRequest::prompt("And?")).await.unwrap().text().await.unwrap(), PROSE);
    let world = World::new(&format!("validate: on\n{TIERS}"), ["{\"city\":\"Paris\"}", FENCED]);
    let answer = world.ask(capital()).await.unwrap();
    assert!(answer.notes().is_empty() && answer.attempts().is_empty());
    assert_eq!((answer.text().await.unwrap().as_str(), world.asked()), ("{\"city\":\"Paris\"}", [1, 0]));
}

#[tokio::test(start_paused = true)]
async fn requests_in_wire_form_are_held_to_theirs_in_each_dialect() {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let said = json!([{ "role": "user", "content": "The capital of France?" }]);
    let openai = json!({ "model": "m", "messages": said,
        "response_format": { "type": "json_schema", "json_schema": { "name": "capital", "schema": schema } } });
    let anthropic = json!({ "model": "m", "max_tokens": 99, "messages": said,
        "output_config": { "format": { "type": "json_schema", "schema": schema } } });
    for (dialect, body) in [(Dialect::OpenAi, openai), (Dialect::Anthropic, anthropic)] {
        let world = World::new(&format!("validate: {{ reasks: 0 }}\n{TIERS}"), [PROSE, FENCED]);
        let wire = Wire::new(dialect, body.to_string()).unwrap();
        let answer = world.ask(LlmRequest::from(wire)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "{\"city\": \"Paris\"}", "{dialect:?}");
        assert_eq!(world.asked(), [1, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_text_of_no_shape_is_no_answer_and_what_people_are_told_is() {
    let sorry =
        TIERS.replace("{ name: chatty, provider: simulated }", "{ name: chatty, provider: canned, text: Later. }");
    let world = World::new(&format!("validate: on\n{}", sorry.replace("name: chatty", "name: sorry")), [PROSE, PROSE]);
    assert_eq!(world.ask(capital()).await.unwrap_err().kind(), ErrorKind::InvalidOutput);
    assert_eq!(world.ask(LlmRequest::prompt("And?").with_feature("free")).await.unwrap().text().await.unwrap(), PROSE);

    let mut config = config(&format!("validate: on\n{TIERS}"));
    config.tiers[1].provider = steadfast_stack::Provider::Handoff;
    config.tiers[1].name = "people".to_owned();
    let tasks = MemoryTasks::new();
    let careless = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text(PROSE)) });
    let stack = Stack::builder().tasks(tasks.clone()).leaf("careless", careless).build(config).unwrap();
    // In memory nothing is promised for longer than the call: one task was written, and not a second one.
    let asked = tokio::spawn(stack.service().oneshot(capital()));
    let _ = asked.await.unwrap();
    let stats = stack.handle().desk().unwrap().stats().await.unwrap();
    assert!(stats.waiting <= 1, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_turns_it_on_without_a_new_circuit() {
    let world = World::new(TIERS, [PROSE, FENCED]);
    assert_eq!(world.ask(capital()).await.unwrap().text().await.unwrap(), PROSE);
    let reload = world.stack.handle().reload(config(&format!("validate: on\n{TIERS}"))).unwrap();
    assert_eq!(reload.kept.len(), 2);
    assert_eq!(world.ask(capital()).await.unwrap().text().await.unwrap(), "{\"city\": \"Paris\"}");
}
