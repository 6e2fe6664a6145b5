//! The acknowledgements that clients received, and their proof in the store.

use std::collections::{HashMap, HashSet};

use steadfast_handoff::{Desk, Task, TaskFilter, TaskId};

/// The clients' actions, and the answers that they received.
#[derive(Default)]
pub(crate) struct Told {
    /// By its text, which no other request has.
    requests: HashMap<String, Asked>,
    answers: HashMap<TaskId, Answers>,
}

#[derive(Default)]
struct Asked {
    /// The number of times that it was sent.
    sent: usize,
    /// True if it always had the same idempotency key.
    keyed: bool,
    /// The tasks that stand for it, as clients were told.
    acknowledged: HashSet<TaskId>,
}

#[derive(Default)]
struct Answers {
    /// The people who answered, with their texts.
    sent: HashMap<String, String>,
    /// Whose answer stands, as they were told.
    acknowledged: Option<String>,
}

/// The content of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) tasks: usize,
    /// Tasks that nobody was told of: what acknowledged them was ended first.
    pub(crate) unacknowledged: usize,
    pub(crate) answered: usize,
}

impl Told {
    /// A request is sent: it may become a task from now on.
    pub(crate) fn sends(&mut self, text: &str, keyed: bool) {
        let asked = self.requests.entry(text.to_owned()).or_default();
        asked.sent += 1;
        asked.keyed = keyed;
    }

    /// Its client is told that it is queued as this task.
    pub(crate) fn acknowledged(&mut self, text: &str, task: TaskId) {
        self.requests.get_mut(text).expect("it was sent").acknowledged.insert(task);
    }

    /// Returns the number of acknowledged requests.
    pub(crate) fn acknowledgements(&self) -> usize {
        self.requests.values().filter(|asked| !asked.acknowledged.is_empty()).count()
    }

    /// Somebody answers a task.
    pub(crate) fn answers(&mut self, task: TaskId, who: &str, text: &str) {
        self.answers.entry(task).or_default().sent.insert(who.to_owned(), text.to_owned());
    }

    /// They are told that their answer stands.
    pub(crate) fn answered(&mut self, task: TaskId, who: &str) {
        let before = self.answers.get_mut(&task).expect("it was sent").acknowledged.replace(who.to_owned());
        assert!(before.is_none_or(|before| before == who), "two people were told that theirs is the answer of {task}");
    }

    /// Holds it all against the store: what was acknowledged is there, once, and what is there is whole.
    ///
    /// `reason` is why its tasks were handed over.
    pub(crate) async fn is_borne_out(&self, desk: &Desk, reason: &str) -> Found {
        let tasks = all(desk).await;
        let mut by_text = HashMap::<String, HashSet<TaskId>>::new();
        let mut found = Found { tasks: tasks.len(), unacknowledged: 0, answered: 0 };
        for task in &tasks {
            let text = is_whole(task, reason);
            let asked = self.requests.get(&text).unwrap_or_else(|| panic!("nobody asked what is in {}", task.id));
            found.unacknowledged += usize::from(!asked.acknowledged.contains(&task.id));
            found.answered += usize::from(self.answer_is_borne_out(task));
            by_text.entry(text).or_default().insert(task.id);
        }
        for (text, asked) in &self.requests {
            let there = by_text.remove(text).unwrap_or_default();
            let lost: Vec<_> = asked.acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
            let most = if asked.keyed { 1 } else { asked.sent };
            assert!(there.len() <= most, "sent {} times (keyed: {}), there are {there:?}", asked.sent, asked.keyed);
        }
        let is_there: HashSet<_> = tasks.iter().map(|task| task.id).collect();
        assert!(self.answers.keys().all(|task| is_there.contains(task)), "an answered task is gone");
        found
    }

    /// Returns whether the task's answer is one that the store confirmed to its author.
    fn answer_is_borne_out(&self, task: &Task) -> bool {
        let answers = self.answers.get(&task.id);
        let Some(answer) = &task.answer else {
            let told = answers.and_then(|answers| answers.acknowledged.as_ref());
            assert_eq!(told, None, "the answer of {} is lost", task.id);
            return false;
        };
        let (by, said) = (&answer.by.name, answer.message.text());
        let answers = answers.unwrap_or_else(|| panic!("nobody answered {}", task.id));
        assert_eq!(answers.sent.get(by), Some(&said), "what {by} answered {}", task.id);
        assert!(answers.acknowledged.as_ref().is_none_or(|told| told == by), "another's answer stands in {}", task.id);
        true
    }
}

/// All tasks of a store, each once, in order.
async fn all(desk: &Desk) -> Vec<Task> {
    let mut tasks = Vec::<Task>::new();
    loop {
        let mut filter = TaskFilter::new().oldest_first().limit(1000);
        filter.after = tasks.last().map(|task| task.id);
        let page = desk.list(filter).await.unwrap();
        if page.is_empty() {
            break;
        }
        for listed in page {
            assert!(tasks.last().is_none_or(|before| before.id < listed.id), "{} is there twice", listed.id);
            let task = desk.show(listed.id).await.unwrap();
            assert_eq!((listed.preview, listed.state), (task.request.preview(200), task.state), "{}", task.id);
            tasks.push(task);
        }
    }
    // A list leaves damaged ones out.
    let stats = desk.stats().await.unwrap();
    let counted = stats.waiting + stats.claimed + stats.redriving + stats.answered + stats.expired;
    assert_eq!(counted, tasks.len() as u64, "some cannot be read: {stats:?}");
    tasks
}

/// Nothing of a task is missing; gives what was asked.
fn is_whole(task: &Task, reason: &str) -> String {
    let id = task.id;
    assert_eq!(task.reason, reason, "{id}");
    let [tried] = &task.attempts[..] else { panic!("{id}: {:?}", task.attempts) };
    assert_eq!((tried.tier.as_deref(), tried.kind.as_deref()), (Some("model"), Some(reason)), "{id}");
    assert!(task.created_at < task.expires_at, "{id}");
    let chat = task.request.chat().unwrap();
    let [message] = &chat.messages[..] else { panic!("{id}: {} messages", chat.messages.len()) };
    message.text()
}
