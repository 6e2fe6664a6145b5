//! The memory of sealed reasoning: the account that sealed each token.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, VecDeque, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, DefaultHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    Dialect, StreamEvent,
    chat::{Message, Opaque, Part},
    internal::sync::{Mutex, lock},
    wire::{responses::sealed, thoughts},
};

/// A memory of the accounts that sealed reasoning.
///
/// OpenAI's `encrypted_content`, Anthropic's signatures and Gemini's thought signatures can be read by the account that
/// made them, and another account refuses a request that carries them. Leaves that share a memory note the account
/// behind each token of an answer. A request to another account goes out without the token's thought, and
/// [`LlmResponse::notes`](crate::LlmResponse::notes) lists the omission. Anthropic's signatures hold in every account
/// and cloud for models of one family, so they stay there.
///
/// An account is a base URL and a key: models behind one key share it. The memory holds hashes under a random key of
/// its own, and neither tokens nor keys. As long as its leaves of a protocol have one account, it stays empty and no
/// request is searched for tokens; for a caller of Chat Completions, as long as all its leaves have one.
///
/// Servers of Chat Completions sign nothing, and their thoughts reach a caller of that dialect without a mark. For such
/// a caller the memory notes the texts of thoughts too, and a turn goes to another account without its thoughts.
///
/// A token that the memory does not know is passed on. If its provider refuses it, a leaf sends the request again
/// without it, and the memory notes the refusal.
///
/// # Bounds
///
/// The memory holds 65,536 tokens, in about 5 MB. It counts them by the request's
/// [tenant](crate::LlmRequest::tenant), and a tenant's requests find that tenant's tokens alone. A full memory forgets
/// the oldest token of the tenant that has the most. A tenant with few tokens therefore keeps them, and the loss of one
/// costs no more than the refused request of an unknown token.
///
/// ```
/// use steadfast::{providers::OpenAi, translate::SealMemory};
///
/// let seals = SealMemory::new();
/// let first = OpenAi::new("key of one organization").model("gpt-5.2").responses().seals(&seals);
/// let second = OpenAi::new("key of another one").model("gpt-5.2").responses().seals(&seals);
/// # drop((first, second));
/// ```
#[derive(Clone, Default)]
pub struct SealMemory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    hasher: RandomState,
    /// The accounts of each dialect's leaves.
    accounts: [Accounts; 4],
    /// The accounts of all leaves.
    all: Accounts,
    /// True once there is a seal; read without a lock.
    any: AtomicBool,
    seals: Mutex<Seals>,
}

/// The accounts of the leaves of one dialect.
#[derive(Default)]
struct Accounts {
    /// The first account, or zero.
    first: AtomicU64,
    several: AtomicBool,
}

impl Accounts {
    fn add(&self, account: u64) {
        if self.first.compare_exchange(0, account, Relaxed, Relaxed).is_err_and(|first| first != account) {
            self.several.store(true, Relaxed);
        }
    }
}

/// An account that uses a [`SealMemory`].
#[doc(hidden)]
#[derive(Clone)]
pub struct SealAccount {
    memory: SealMemory,
    account: u64,
}

/// The seals of one account and model, for the requests of one tenant.
#[doc(hidden)]
#[derive(Clone)]
pub struct AccountSeals {
    memory: SealMemory,
    tenant: u64,
    seal: Seal,
    /// True if the account has just refused some of the request's tokens: those of unknown origin are suspected.
    doubts: bool,
    /// True if the caller sends each account's thoughts in the same fields.
    shares_thoughts: bool,
}

/// The account that thought a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinker {
    /// This one, and maybe another one too.
    Own,
    Another,
    Unknown,
}

/// A text that grows, as the memory knows it: its white space makes no difference.
pub(crate) struct ThoughtText(DefaultHasher, bool);

impl ThoughtText {
    /// Adds more of the text.
    pub(crate) fn push(&mut self, text: &str) {
        for word in text.split_ascii_whitespace() {
            self.0.write(word.as_bytes());
            self.1 = true;
        }
    }
}

/// The origin of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seal {
    account: u64,
    /// The family of the model.
    family: u64,
    /// True if the account did not make the token, but refused it.
    refused: bool,
}

/// The number of tokens that a memory holds.
const MOST: usize = 65_536;

/// The seals, by tenant and token.
#[derive(Default)]
struct Seals {
    seals: HashMap<(u64, u64), Seal>,
    /// Each tenant's tokens, the oldest first.
    tenants: HashMap<u64, VecDeque<u64>>,
    /// The tenants by the number of their tokens.
    sizes: BTreeSet<(usize, u64)>,
}

impl SealMemory {
    /// Creates an empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the account of a leaf of this dialect.
    #[doc(hidden)]
    pub fn enroll(&self, dialect: Dialect, place: &str, key: Option<&str>) -> SealAccount {
        // Zero stands for no account.
        let account = self.hash(&(place, key)) | 1;
        self.accounts(dialect).add(account);
        self.0.all.add(account);
        SealAccount { memory: self.clone(), account }
    }

    fn accounts(&self, dialect: Dialect) -> &Accounts {
        let [anthropic, openai, gemini, responses] = &self.0.accounts;
        match dialect {
            Dialect::Anthropic => anthropic,
            Dialect::OpenAi => openai,
            Dialect::Gemini => gemini,
            Dialect::Responses => responses,
        }
    }

    fn hash(&self, value: &impl std::hash::Hash) -> u64 {
        self.0.hasher.hash_one(value)
    }
}

impl SealAccount {
    /// Returns the memory that the accounts share.
    pub fn memory(&self) -> &SealMemory {
        &self.memory
    }

    /// Returns the seals of this account for a request; `None` if no other account has the dialect. A caller of Chat
    /// Completions (`shares_thoughts`) sends each account's thoughts in the same fields, so that any other account
    /// counts.
    pub(crate) fn seals(
        &self,
        dialect: Dialect,
        tenant: Option<&str>,
        family: &str,
        shares_thoughts: bool,
    ) -> Option<AccountSeals> {
        let shares_thoughts = shares_thoughts && self.memory.0.all.several.load(Relaxed);
        if !shares_thoughts && !self.memory.accounts(dialect).several.load(Relaxed) {
            return None;
        }
        let (tenant, family) = (self.memory.hash(&tenant), self.memory.hash(&family));
        let seal = Seal { account: self.account, family, refused: false };
        Some(AccountSeals { memory: self.memory.clone(), tenant, seal, doubts: false, shares_thoughts })
    }
}

impl AccountSeals {
    /// Returns the seals of an account that can read no token at all.
    pub(crate) fn of_stranger() -> Self {
        let seal = Seal { account: 0, family: 0, refused: false };
        Self { memory: SealMemory::new(), tenant: 0, seal, doubts: true, shares_thoughts: false }
    }

    /// Suspects the tokens of unknown origin: the account has refused a request that carries them.
    pub fn doubting(mut self) -> Self {
        self.doubts = true;
        self
    }

    /// Returns true if the account has just refused some of the request's tokens.
    pub(crate) fn doubts(&self) -> bool {
        self.doubts
    }

    /// Returns true if the memory may know any token of a request.
    pub(crate) fn is_any(&self) -> bool {
        self.doubts || self.memory.0.any.load(Relaxed)
    }

    /// Returns true if the account's thoughts are to be told from those of others by their texts.
    pub(crate) fn shares_thoughts(&self) -> bool {
        self.shares_thoughts
    }

    /// Returns an empty text, to be [remembered](Self::remember_text); `None` if the texts of thoughts do not count.
    pub(crate) fn text(&self) -> Option<ThoughtText> {
        self.shares_thoughts.then(|| ThoughtText(self.memory.0.hasher.build_hasher(), false))
    }

    /// Remembers a text that this account thought.
    pub(crate) fn remember_text(&self, text: &ThoughtText) {
        if text.1 {
            let text = text.0.finish();
            self.insert(self.memory.hash(&(text, 0_u64)), self.seal);
            self.insert(self.memory.hash(&(text, self.seal.account)), self.seal);
        }
    }

    /// Returns the account that thought a text.
    pub(crate) fn thinker(&self, said: &str) -> Thinker {
        let Some(mut text) = self.text() else { return Thinker::Unknown };
        text.push(said);
        let (text, is_any) = (text.0.finish(), text.1);
        // An account's own number is odd.
        let refused = self.memory.hash(&(text, !self.seal.account));
        let (is_own, is_anothers) = {
            let seals = lock(&self.memory.0.seals);
            let knows = |token| seals.get(self.tenant, token).is_some();
            let by = |account| knows(self.memory.hash(&(text, account)));
            (by(self.seal.account), by(0) || knows(refused))
        };
        if !is_own && !is_anothers && is_any && self.doubts {
            self.insert(refused, self.seal);
            return Thinker::Another;
        }
        match (is_own, is_anothers) {
            (true, _) => Thinker::Own,
            (false, true) => Thinker::Another,
            (false, false) => Thinker::Unknown,
        }
    }

    /// Remembers the tokens of a whole answer.
    pub(crate) fn remember_message(&self, message: &Message) {
        if let Some(mut text) = self.text() {
            for part in &message.content {
                if let Part::Reasoning(reasoning) = part {
                    text.push(&reasoning.text);
                }
            }
            self.remember_text(&text);
        }
        for part in &message.content {
            match part {
                Part::Reasoning(reasoning) => reasoning.opaque.iter().for_each(|opaque| self.remember(opaque)),
                Part::ToolCall(call) => call.opaque.iter().for_each(|opaque| self.remember(opaque)),
                _ => {}
            }
        }
    }

    /// Remembers the token of a stream's event.
    #[inline]
    pub(crate) fn remember_event(&self, event: &StreamEvent) {
        if let StreamEvent::Signature { opaque, .. } | StreamEvent::ToolCall { opaque: Some(opaque), .. } = event {
            self.remember(opaque);
        }
    }

    fn remember(&self, opaque: &Opaque) {
        if opaque.dialect == Dialect::OpenAi {
            if self.shares_thoughts {
                let fields = serde_json::from_str(thoughts::split(&opaque.token).1).unwrap_or_default();
                thoughts::tokens(&fields, &mut |token| self.remember_token(Dialect::Gemini, token));
            }
            return;
        }
        let token = sealed_part(opaque);
        self.remember_token(opaque.dialect, token);
    }

    fn remember_token(&self, dialect: Dialect, token: &str) {
        if !token.is_empty() {
            self.insert(self.memory.hash(&&*in_one_alphabet(dialect, token)), self.seal);
        }
    }

    fn insert(&self, token: u64, seal: Seal) {
        lock(&self.memory.0.seals).insert(self.tenant, token, seal);
        self.memory.0.any.store(true, Relaxed);
    }

    /// Returns true if the account cannot read a token.
    pub(crate) fn is_anothers(&self, opaque: &Opaque) -> bool {
        self.is_sealed_elsewhere(opaque.dialect, sealed_part(opaque))
    }

    /// Returns true if the account cannot read a token, given as its provider wrote it.
    pub(crate) fn is_sealed_elsewhere(&self, dialect: Dialect, token: &str) -> bool {
        if token.is_empty() {
            return false;
        }
        let token = self.memory.hash(&&*in_one_alphabet(dialect, token));
        let known = lock(&self.memory.0.seals).get(self.tenant, token);
        let Some(known) = known else {
            if self.doubts {
                self.insert(token, Seal { refused: true, ..self.seal });
            }
            return self.doubts;
        };
        let is_same = known.account == self.seal.account;
        let is_readable = is_same || (dialect == Dialect::Anthropic && known.family == self.seal.family);
        if known.refused { is_same } else { !is_readable }
    }
}

/// Returns the token as its provider wrote it.
fn sealed_part(opaque: &Opaque) -> &str {
    match opaque.dialect {
        Dialect::Responses => sealed::split(&opaque.token).1,
        _ => &opaque.token,
    }
}

/// Returns a token in the alphabet of base64 in which Google writes it: its Python SDK sends it back in the other one.
fn in_one_alphabet(dialect: Dialect, token: &str) -> Cow<'_, str> {
    if dialect != Dialect::Gemini || !token.contains(['-', '_', '=']) {
        return Cow::Borrowed(token);
    }
    Cow::Owned(token.trim_end_matches('=').replace('-', "+").replace('_', "/"))
}

impl Seals {
    fn get(&self, tenant: u64, token: u64) -> Option<Seal> {
        self.seals.get(&(tenant, token)).copied()
    }

    fn insert(&mut self, tenant: u64, token: u64, seal: Seal) {
        if let Some(known) = self.seals.get_mut(&(tenant, token)) {
            *known = seal;
            return;
        }
        if self.seals.len() >= MOST {
            self.forget_one();
        }
        let tokens = self.tenants.entry(tenant).or_default();
        self.sizes.remove(&(tokens.len(), tenant));
        tokens.push_back(token);
        self.sizes.insert((tokens.len(), tenant));
        self.seals.insert((tenant, token), seal);
    }

    /// Forgets the oldest token of the tenant with the most.
    fn forget_one(&mut self) {
        let Some((_, tenant)) = self.sizes.pop_last() else { return };
        let Some(tokens) = self.tenants.get_mut(&tenant) else { return };
        if let Some(oldest) = tokens.pop_front() {
            self.seals.remove(&(tenant, oldest));
        }
        match tokens.len() {
            0 => _ = self.tenants.remove(&tenant),
            left => _ = self.sizes.insert((left, tenant)),
        }
    }
}

impl fmt::Debug for SealMemory {
    /// Writes no hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealMemory").field("tokens", &lock(&self.0.seals).seals.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SealAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealAccount").finish_non_exhaustive()
    }
}

impl fmt::Debug for AccountSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountSeals").field("doubts", &self.doubts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect::Responses;

    fn opaque(dialect: Dialect, token: &str) -> Opaque {
        Opaque { dialect, token: token.to_owned(), redacted: true }
    }

    /// Returns the seals of two accounts of one memory.
    fn accounts(dialect: Dialect, tenants: [Option<&str>; 2], families: [&str; 2]) -> [AccountSeals; 2] {
        let memory = SealMemory::new();
        let one = memory.enroll(dialect, "https://api", Some("one"));
        let other = memory.enroll(dialect, "https://api", Some("other"));
        let seals = |account: &SealAccount, at: usize| account.seals(dialect, tenants[at], families[at], false);
        [seals(&one, 0).expect("several"), seals(&other, 1).expect("several")]
    }

    #[test]
    fn a_token_is_anothers_at_every_account_but_its_own() {
        let [one, other] = accounts(DIALECT, [None; 2], ["gpt"; 2]);
        let token = opaque(DIALECT, "rs_1:sealed");
        assert!(!one.is_anothers(&token) && !other.is_anothers(&token), "unknown");
        one.remember(&token);
        assert!(!one.is_anothers(&token) && other.is_anothers(&token));
        // The id of the item is no part of the seal.
        assert!(other.is_anothers(&opaque(DIALECT, "rs_2:sealed")));
        assert!(other.is_sealed_elsewhere(DIALECT, "sealed"));
        assert!(!other.is_anothers(&opaque(DIALECT, "rs_1:")));
    }

    #[test]
    fn a_familys_signatures_hold_at_every_account() {
        for (dialect, family, anothers) in [
            (Dialect::Anthropic, "claude-4-5", false),
            (Dialect::Anthropic, "claude-4", true),
            (Dialect::Gemini, "claude-4-5", true),
            (DIALECT, "claude-4-5", true),
        ] {
            let [one, other] = accounts(dialect, [None; 2], ["claude-4-5", family]);
            let token = opaque(dialect, "signed");
            one.remember(&token);
            assert_eq!(other.is_anothers(&token), anothers, "{dialect} {family}");
        }
    }

    #[test]
    fn a_refused_token_is_anothers_there_alone() {
        let [one, other] = accounts(DIALECT, [None; 2], ["gpt"; 2]);
        let (own, unknown) = (opaque(DIALECT, "rs_1:own"), opaque(DIALECT, "rs_2:unknown"));
        other.remember(&own);
        let doubting = other.clone().doubting();
        assert!(doubting.is_anothers(&unknown) && !doubting.is_anothers(&own));
        assert!(other.is_anothers(&unknown) && !one.is_anothers(&unknown));
    }

    #[test]
    fn one_account_remembers_nothing() {
        let memory = SealMemory::new();
        let account = memory.enroll(DIALECT, "https://api", Some("key"));
        memory.enroll(DIALECT, "https://api", Some("key"));
        memory.enroll(Dialect::Gemini, "https://other", Some("key"));
        assert!(account.seals(DIALECT, None, "gpt", false).is_none());
        for (place, key) in [("https://other", Some("key")), ("https://api", None)] {
            let memory = SealMemory::new();
            let account = memory.enroll(DIALECT, "https://api", Some("key"));
            memory.enroll(DIALECT, place, key);
            assert!(account.seals(DIALECT, None, "gpt", false).is_some(), "{place}");
        }
    }

    #[test]
    fn a_tenant_neither_sees_nor_flushes_anothers_tokens() {
        let [quiet, busy] = accounts(DIALECT, [Some("quiet"), Some("busy")], ["gpt"; 2]);
        let token = |n: usize| opaque(DIALECT, &format!("rs:{n}"));
        (0..100).for_each(|n| quiet.remember(&token(n)));
        assert!(!busy.is_anothers(&token(0)));
        (0..MOST * 2).for_each(|n| busy.remember(&token(n)));
        let seals = lock(&busy.memory.0.seals);
        assert_eq!((seals.seals.len(), seals.tenants[&quiet.tenant].len()), (MOST, 100));
        assert_eq!(seals.tenants[&busy.tenant].len(), MOST - 100);
        assert_eq!(seals.sizes.len(), 2);
        // The oldest went first.
        let has = |n: usize| seals.get(busy.tenant, busy.memory.hash(&n.to_string().as_str())).is_some();
        assert!(!has(0) && !has(MOST) && has(MOST * 2 - 1) && has(MOST + 100));
    }

    #[test]
    fn a_text_is_known_to_all_who_thought_it() {
        let memory = SealMemory::new();
        let seals = |dialect, place| memory.enroll(dialect, place, Some("key")).seals(dialect, None, "x", true);
        assert!(seals(Dialect::OpenAi, "https://one").is_none(), "there is no other account");
        let other = seals(Dialect::Anthropic, "https://two").expect("one of several");
        let one = seals(Dialect::OpenAi, "https://one").expect("one of several");
        let think = |of: &AccountSeals, pieces: &[&str]| {
            let mut text = of.text().expect("texts count");
            pieces.iter().for_each(|piece| text.push(piece));
            of.remember_text(&text);
        };
        think(&other, &["I lo", "ok it", " up.\n"]);
        let said = "I look it up.";
        assert_eq!((one.thinker(said), other.thinker(said)), (Thinker::Another, Thinker::Own));
        think(&one, &[said]);
        assert_eq!((one.thinker(said), other.thinker(said)), (Thinker::Own, Thinker::Own));
        think(&one, &[" "]);
        assert_eq!((one.thinker("else"), one.thinker("")), (Thinker::Unknown, Thinker::Unknown));
        // A refusal is the refusing account's alone.
        let doubting = one.clone().doubting();
        assert_eq!((doubting.thinker("new"), doubting.thinker(said)), (Thinker::Another, Thinker::Own));
        assert_eq!((one.thinker("new"), other.thinker("new")), (Thinker::Another, Thinker::Unknown));
        let not_shared =
            memory.enroll(Dialect::Anthropic, "https://three", None).seals(Dialect::Anthropic, None, "x", false);
        assert!(not_shared.expect("one of two").text().is_none());
    }

    #[test]
    fn nothing_shows_a_key_or_a_token() {
        let [one, _] = accounts(DIALECT, [Some("tenant"); 2], ["gpt"; 2]);
        one.remember(&opaque(DIALECT, "rs_1:sealed"));
        let shown = format!("{:?} {:?}", one.memory, one);
        for secret in ["one", "sealed", "tenant", "https"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
