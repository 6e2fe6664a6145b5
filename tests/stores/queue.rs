//! A request that was queued in vain is a task, which a model is given as soon as one works.

use std::time::Duration;

use steadfast::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_handoff::{
    Claimant, Delivery, DeliveryOutcome, Desk, Handoff, MemoryTasks, NewAnswer, NewTask, RedriveScope, Release, Task,
    TaskFilter, TaskFuture, TaskId, TaskScope, TaskState, TaskStats, TaskStore, TaskSummary,
};
use steadfast_stack::{Config, Format, Stack, StackHandle};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

const FILE: &str = "
retry: { max_attempts: 1 }
tiers: [{ name: sonnet, provider: simulated }]
features:
  background: { worst_level: 2, all_open: { queue: 10s } }
  chat: {}
";

/// Tasks in memory that stand for durable ones.
struct Durable {
    tasks: MemoryTasks,
    /// Reading a task never ends.
    reads_hang: bool,
}

impl Durable {
    fn new() -> Self {
        Self { tasks: MemoryTasks::new(), reads_hang: false }
    }
}

macro_rules! as_in_memory {
    ($($name:ident($($argument:ident: $of:ty),*) -> $given:ty;)*) => {
        impl TaskStore for Durable {
            fn is_durable(&self) -> bool {
                true
            }

            fn call_timeout(&self) -> Duration {
                Duration::from_millis(400)
            }

            fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
                if self.reads_hang { Box::pin(std::future::pending()) } else { self.tasks.get(id) }
            }

            $(fn $name(&self, $($argument: $of),*) -> TaskFuture<'_, $given> {
                self.tasks.$name($($argument),*)
            })*
        }
    };
}

as_in_memory! {
    insert(task: NewTask) -> TaskId;
    state(id: TaskId) -> TaskState;
    list(filter: TaskFilter) -> Vec<TaskSummary>;
    stats() -> TaskStats;
    claim(id: TaskId, by: Claimant, visibility: Duration) -> Task;
    renew(id: TaskId, by: Claimant, visibility: Duration) -> u64;
    release(id: TaskId, by: Claimant, then: Release) -> ();
    claim_oldest(by: Claimant, visibility: Duration, which: RedriveScope) -> Option<Task>;
    order_redrive(id: Option<TaskId>) -> u64;
    answer(id: TaskId, answer: NewAnswer, force: bool) -> Task;
    due(limit: usize, lease: Duration) -> Vec<Delivery>;
    settle(delivery: Delivery, outcome: DeliveryOutcome) -> bool;
    forget(which: TaskScope) -> u64;
    sweep(keep: Duration) -> u64;
}

fn config(file: &str) -> Config {
    Config::from_str(file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn stack(file: &str) -> (Stack, SimulatedHandle) {
    let sonnet = Simulated::new("sonnet").reply("It rains.");
    let model = sonnet.handle();
    let builder = Stack::builder().tasks(Durable::new()).leaf("sonnet", sonnet).seed(5);
    (builder.build(config(file)).unwrap(), model)
}

async fn ask(stack: &Stack, feature: &str) -> Result<LlmResponse, LlmError> {
    stack.service().oneshot(LlmRequest::prompt("How is the weather?").with_feature(feature)).await
}

fn task_of(pending: &LlmResponse) -> TaskId {
    pending.task_id().expect("it is a task").parse().unwrap()
}

async fn state(handle: &StackHandle, task: TaskId) -> TaskState {
    handle.desk().unwrap().show(task).await.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn a_request_queued_in_vain_is_answered_when_a_model_works_again() {
    let (stack, model) = stack(FILE);
    let handle = stack.handle();
    let _redriving = handle.hand_over();
    model.fail(Fault::Unavailable);
    assert_eq!(ask(&stack, "chat").await.unwrap_err().kind(), ErrorKind::Overloaded, "that is not queued");
    let begun = Instant::now();
    let pending = ask(&stack, "background").await.unwrap();
    assert!((9 * SECOND..=10 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let task = task_of(&pending);
    assert!(pending.degraded().is_some() && !pending.attempts().is_empty());
    assert_eq!(pending.text().await.unwrap(), format!("Your request is queued as {task}."));
    sleep(600 * SECOND).await;
    assert_eq!(state(&handle, task).await, TaskState::Waiting);

    // Nobody asks for anything from here on.
    model.heal();
    sleep(700 * SECOND).await;
    let task = handle.desk().unwrap().show(task).await.unwrap();
    assert_eq!((task.state, task.result().output.as_deref()), (TaskState::Answered, Some("It rains.")));
    assert_eq!(handle.desk().unwrap().stats().await.unwrap().answered, 1, "the redrive was no task of its own");
}

#[tokio::test(start_paused = true)]
async fn a_request_answered_in_the_queue_becomes_no_task() {
    let (stack, model) = stack(FILE);
    let handle = stack.handle();
    model.fail(Fault::Unavailable);
    let asked = tokio::spawn(stack.service().oneshot(LlmRequest::prompt("Well?").with_feature("background")));
    // Before its circuit opens, which would be for a minute.
    sleep(2 * SECOND).await;
    model.heal();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.task_id(), None);
    assert_eq!(answer.text().await.unwrap(), "It rains.");
    assert_eq!(handle.desk().unwrap().list(TaskFilter::new()).await.unwrap().len(), 0);
    // Nor is one that is wrong itself.
    model.fail(Fault::Status(400));
    assert_eq!(ask(&stack, "background").await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(handle.desk().unwrap().list(TaskFilter::new()).await.unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_within_its_own_time() {
    let (stack, model) = stack(FILE);
    model.fail(Fault::Unavailable);
    let begun = Instant::now();
    let request = LlmRequest::prompt("Well?").with_feature("background").with_timeout(5 * SECOND);
    let pending = stack.service().oneshot(request).await.unwrap();
    assert!(pending.task_id().is_some() && begun.elapsed() <= 5 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_store_or_with_people_but_no_redrive_no_request_is_queued() {
    let sonnet = Simulated::new("sonnet");
    sonnet.handle().fail(Fault::Unavailable);
    let alone = Stack::builder().leaf("sonnet", sonnet).seed(5).build(config(FILE)).unwrap();
    assert!(alone.handle().desk().is_none());
    assert!(ask(&alone, "background").await.is_err());

    for (redrive, queued) in [("", false), ("handoff: { redrive: { per_second: 1 } }", true)] {
        let mut config = config(&FILE.replace("]", ", { name: people, provider: simulated }]"));
        config.tiers[1].provider = steadfast_stack::Provider::Handoff;
        config.features.get_mut("background").unwrap().tiers = Some(vec!["sonnet".to_owned()]);
        config.handoff = (!redrive.is_empty()).then(|| steadfast_stack::Handoff {
            redrive: Some(steadfast_stack::HandoffRedrive::default()),
            ..steadfast_stack::Handoff::default()
        });
        let sonnet = Simulated::new("sonnet");
        sonnet.handle().fail(Fault::Unavailable);
        let builder = Stack::builder().tasks(Durable::new()).leaf("sonnet", sonnet).seed(5);
        let stack = builder.build(config).unwrap();
        assert_eq!(ask(&stack, "background").await.is_ok(), queued, "{redrive}");
    }
}

#[tokio::test]
async fn a_queued_request_outlives_a_restart() {
    let folder = std::env::temp_dir().join(format!("steadfast-queued-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = format!("stores: {{ durable: 'sqlite:{}' }}{FILE}", folder.join("tasks.db").display());
    let file = file.replace("queue: 10s", "queue: 10ms");
    let built = |fails: bool| {
        let sonnet = Simulated::new("sonnet").reply("It rains.");
        if fails {
            sonnet.handle().fail(Fault::Unavailable);
        }
        Stack::builder().leaf("sonnet", sonnet).build(config(&file)).unwrap()
    };
    let task = task_of(&ask(&built(true), "background").await.unwrap());

    let handle = built(false).handle();
    let _redriving = handle.hand_over();
    let answered = tokio::time::timeout(60 * SECOND, handle.desk().unwrap().wait(task)).await.unwrap().unwrap();
    assert_eq!(answered.result().output.as_deref(), Some("It rains."));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A store stopped between the writing and the reading.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_after_the_writing_holds_no_caller_up() {
    let tasks = Durable { reads_hang: true, ..Durable::new() };
    let call_timeout = tasks.call_timeout();
    let people = Handoff::new(&Desk::new(tasks));
    let asks = || people.clone().oneshot(LlmRequest::prompt("May I?").with_idempotency_key("k-1"));
    let begun = Instant::now();
    let first = asks().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "a new task has no answer to look for");
    let begun = Instant::now();
    let again = asks().await.unwrap();
    assert!(begun.elapsed() <= call_timeout, "{:?}", begun.elapsed());
    assert_eq!(task_of(&first), task_of(&again));
}
