//! Past questions, for finding answers to similar ones.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use super::{
    CacheKey,
    canonical::{Hash, Meaning},
    key::{has_turns_at_provider, of_message, of_shape},
};
use crate::{
    LlmRequest,
    chat::{Part, Role},
    internal::sync::{Mutex, lock},
    request::Tenant,
    text_similarity::Words,
};

/// The last turn of a request with a kept answer, and what must be equal for another request to be similar.
pub(crate) struct Question {
    pub(crate) key: CacheKey,
    pub(crate) scope: Scope,
    pub(crate) text: Arc<str>,
    pub(crate) words: Words,
    /// The embedding, once the comparing service has computed it.
    pub(crate) vector: OnceLock<Box<[f32]>>,
}

/// The context of a question.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) feature: Option<Arc<str>>,
    pub(crate) system: Hash,
    /// A hash of the earlier turns, the tools, and the format of the answer.
    pub(crate) rest: Hash,
}

/// The longest question that is remembered, in bytes. A longer text is never similar to another in all that
/// matters.
const LONGEST: usize = 4096;

impl Question {
    /// Returns the question of a request, or `None` if its last turn is not a person's short text, or if earlier turns
    /// are only at the provider.
    pub(crate) fn of(key: CacheKey, request: &LlmRequest) -> Option<Self> {
        let chat = request.chat().ok()?;
        if has_turns_at_provider(chat) {
            return None;
        }
        let (last, before) = chat.messages.split_last()?;
        let texts_only = last.content.iter().all(|part| matches!(part, Part::Text(_) | Part::Extra { .. }));
        if last.role != Role::User || !texts_only {
            return None;
        }
        let text = last.text();
        if text.len() > LONGEST {
            return None;
        }
        let words = Words::of(&text);
        if words.is_empty() {
            return None;
        }
        let mut system = Meaning::of("system");
        system.optional_text(chat.system.as_deref());
        let mut rest = Meaning::of("rest");
        rest.count(before.len());
        before.iter().for_each(|message| of_message(&mut rest, message));
        of_shape(&mut rest, chat);
        let scope = Scope {
            tenant: Tenant::of(request).cloned(),
            feature: request.shared_feature(),
            system: system.finish(),
            rest: rest.finish(),
        };
        Some(Self { key, scope, text: text.into(), words, vector: OnceLock::new() })
    }
}

impl fmt::Debug for Question {
    /// Omits the text of the question.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("key", &self.key).field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

/// The newest questions with kept answers. None is remembered before a service wants to compare.
#[derive(Debug)]
pub(crate) struct Questions {
    wanted: AtomicBool,
    most: AtomicUsize,
    newest: Mutex<VecDeque<Arc<Question>>>,
}

/// The default of [`CachedAnswers::remember`](crate::cached::CachedAnswers::remember).
pub(crate) const REMEMBERED: usize = 4096;

impl Default for Questions {
    fn default() -> Self {
        Self { wanted: AtomicBool::new(false), most: AtomicUsize::new(REMEMBERED), newest: Mutex::default() }
    }
}

impl Questions {
    /// Starts to remember questions.
    pub(crate) fn start_remembering(&self) {
        self.wanted.store(true, Release);
    }

    pub(crate) fn remember(&self, most: usize) {
        self.most.store(most, Relaxed);
        self.with(|newest| newest.truncate(most));
    }

    /// Returns the question of a request, if questions are remembered.
    pub(super) fn read(&self, key: CacheKey, request: &LlmRequest) -> Option<Question> {
        self.wanted.load(Acquire).then(|| Question::of(key, request)).flatten()
    }

    /// Adds a question whose answer was kept.
    pub(super) fn add(&self, question: Arc<Question>) {
        let most = self.most.load(Relaxed);
        let old = self.with(|newest| {
            let known = newest.iter().position(|known| known.key == question.key);
            let old = known.and_then(|place| newest.remove(place));
            newest.push_front(question);
            let over = if newest.len() > most { newest.pop_back() } else { None };
            (old, over)
        });
        drop(old);
    }

    /// Returns the questions that match, the newest first.
    pub(crate) fn matching(&self, fits: impl Fn(&Question) -> bool) -> Vec<Arc<Question>> {
        self.with(|newest| newest.iter().filter(|question| fits(question)).cloned().collect())
    }

    /// Forgets a question whose answer is gone.
    pub(crate) fn forget(&self, key: &CacheKey) {
        self.with(|newest| newest.retain(|known| known.key != *key));
    }

    pub(super) fn clear(&self) {
        let old = self.with(std::mem::take);
        drop(old);
    }

    fn with<R>(&self, change: impl FnOnce(&mut VecDeque<Arc<Question>>) -> R) -> R {
        change(&mut lock(&self.newest))
    }
}
