//! Parts of a request that a server refuses: those that an error names, a body without them, and a leaf's memory.
//!
//! Tables of models' parameters are never complete. After a 400 that names a part which the request can do without, the
//! leaf is therefore asked once more without it. If the model has no such part, the leaf omits it from then on.
//!
//! A part has a path in the body: `temperature`, `generationConfig.topK`, `tools[].strict` in each item of a list,
//! `**.cache_control` in each place where the dialect has it, `tools[web_search]` for the items of a type, and
//! `anthropic-beta: x` for a flag of the header.

mod complaint;
mod flags;
mod kinds;
mod memory;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::HeaderMap;

use self::complaint::Complaint;
pub use self::memory::RefusalMemory;
pub(crate) use self::{
    flags::{ANTHROPIC_BETA, flag, remove as remove_flag},
    kinds::without as without_kind,
};
use super::ErrorBody;
use crate::{
    Dialect,
    error::OmittedParameter,
    fields::{each, is_list, is_object},
    raw_json::RawJson,
    refit::Fields,
};

/// A part that a request can do without.
#[derive(Clone, Copy, Debug)]
pub struct Optional {
    /// Its path in the body.
    pub(crate) path: &'static str,
    /// Its other names and places in the provider's errors.
    aliases: &'static [&'static str],
    pub(crate) chooser: Chooser,
}

/// The one who decides that a request has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// The caller, for the model that it names.
    Caller,
    /// The dialect: its clients send the part to every server.
    Dialect,
    /// Another place of the same vendor: clients of the one send the part to the other.
    Twin,
    /// Another account. No caller can mend that.
    Stranger,
}

impl Optional {
    /// Creates a parameter that the provider's errors call by its path or the last name in it.
    pub(crate) const fn new(path: &'static str) -> Self {
        Self::called(path, &[])
    }

    /// Creates a parameter with further names.
    pub(crate) const fn called(path: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { path, aliases, chooser: Chooser::Caller }
    }

    /// Creates a part that clients of the dialect send to every server.
    pub(crate) const fn of_dialect(path: &'static str) -> Self {
        Self { path, aliases: &[], chooser: Chooser::Dialect }
    }

    /// Creates a part that clients of the dialect send to every server, with its places in the provider's errors.
    pub(crate) const fn placed(path: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { path, aliases, chooser: Chooser::Dialect }
    }

    /// Creates a part that another place of the vendor takes.
    pub(crate) const fn of_twin(path: &'static str) -> Self {
        Self { path, aliases: &[], chooser: Chooser::Twin }
    }

    /// Creates a part of turns that another account made.
    pub(crate) const fn of_stranger(path: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { path, aliases, chooser: Chooser::Stranger }
    }

    /// Returns true if a provider's word stands for this part, or for something within a caller's. What is wrong within
    /// another part is a mistake, and not that the server lacks the part.
    fn is(&self, word: &str) -> bool {
        let steps = complaint::steps(word);
        if let [word] = steps[..] {
            let last = self.path.rsplit(['.', ' ']).next().unwrap_or(self.path);
            return is_alike(word, last) || self.aliases.iter().any(|alias| is_alike(word, alias));
        }
        std::iter::once(&self.path).chain(self.aliases).any(|path| match path.strip_prefix("**.") {
            Some(end) => (0..steps.len()).any(|from| self.is_place(&steps[from..], end)),
            None => self.is_place(&steps, path),
        })
    }

    fn is_place(&self, steps: &[&str], path: &str) -> bool {
        within(steps, path).is_some_and(|inner| self.chooser == Chooser::Caller || inner == 0)
    }

    /// Returns the refusal that these words are.
    fn refusal(&self, says: &str) -> Refusal {
        // Fireworks repeats the caller's value.
        let says = says.split(", value:").next().unwrap_or(says);
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| says.contains(phrase));
        let is_unsupported = says(&UNSUPPORTED);
        // A refused value may be another caller's valid one, and so may a parameter that lacks another one.
        let depends =
            says(&["alue", "cannot both", " when ", " if ", " while ", " with thinking", " together ", "variant"]);
        let lasting = is_unsupported && (!depends || says(&["nly the default"])) && self.chooser != Chooser::Stranger;
        let parameter = OmittedParameter { path: self.path.into(), lasting };
        Refusal { parameter, is_unsupported, chooser: self.chooser }
    }
}

/// Returns the number of steps that lead on from a path; `None` if they do not lead to it. Behind an index a server may
/// name the item's type.
fn within(steps: &[&str], path: &str) -> Option<usize> {
    let mut steps = steps.iter();
    let mut is_behind_index = false;
    let leads = path
        .split('.')
        .flat_map(|name| [Some(name.trim_end_matches("[]")), name.strip_suffix("[]").map(|_| "[]")])
        .flatten()
        .all(|wanted| {
            let is = |step: &&str| if wanted == "[]" { complaint::is_index(step) } else { is_alike(step, wanted) };
            let fits = steps
                .next()
                .is_some_and(|step| is(step) || std::mem::take(&mut is_behind_index) && steps.next().is_some_and(is));
            is_behind_index = wanted == "[]";
            fits
        });
    leads.then(|| steps.len())
}

/// Returns true for one name in two spellings: `top_k`, `topK`.
fn is_alike(one: &str, other: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
    };
    letters(one) == letters(other)
}

/// A part that a server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) parameter: OmittedParameter,
    /// True if the model does not take the part at all; false if the caller set it wrongly.
    pub(crate) is_unsupported: bool,
    pub(crate) chooser: Chooser,
}

impl Refusal {
    /// Creates the refusal of sealed reasoning at this place in a body.
    pub(crate) const fn of_seal(path: &'static str) -> Self {
        let parameter = OmittedParameter { path: Cow::Borrowed(path), lasting: false };
        Self { parameter, is_unsupported: false, chooser: Chooser::Stranger }
    }
}

/// The most complaints of an error that are read.
const MOST_COMPLAINTS: usize = 64;
/// The longest name of a caller's that is repeated: a tool's type, a flag.
const LONGEST_NAME: usize = 64;

/// Returns the parts that a provider's error is about, if a request can do without them. `has` tells if it has one.
///
/// Words count as the provider's only at the start of the message: further in they may be the caller's own.
pub(crate) fn named(facts: &ErrorBody, optional: &[Optional], has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
    for layer in facts.layers() {
        let listed = complaint::listed(layer);
        let found = match listed.is_empty() {
            true => in_words(layer, optional, has),
            false => {
                let of = |Complaint { place, says }: &Complaint<'_>| {
                    optional.iter().find(|part| part.is(place) && has(part.path)).map(|part| part.refusal(says))
                };
                let mut found: Vec<Refusal> = listed.iter().filter_map(of).collect();
                found.dedup_by(|one, other| one.parameter.path == other.parameter.path);
                found
            }
        };
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Returns the parts of a request that an error refuses by type, and the flags of its header.
pub(crate) fn of_kinds(facts: &ErrorBody, dialect: Dialect, body: &[u8], headers: &HeaderMap) -> Vec<Refusal> {
    let flags = if dialect == Dialect::Anthropic { flags::named(facts, headers) } else { Vec::new() };
    if flags.is_empty() { kinds::named(facts, dialect, body) } else { flags }
}

/// Returns true if an error may be about the type of an item, or a flag: only then is the request looked at.
pub(crate) fn may_be_of_kinds(facts: &ErrorBody) -> bool {
    facts.layers().into_iter().any(|layer| {
        let message = complaint::begin(&layer.message, kinds::BEGIN).to_ascii_lowercase();
        let is_meant = |words: &str| {
            ["tool", "input", "content", "type", "variant", "beta"].iter().any(|word| words.contains(word))
        };
        is_meant(&message) || layer.param.as_deref().is_some_and(is_meant) || !layer.fields.is_empty()
    })
}

fn in_words(facts: &ErrorBody, optional: &[Optional], has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
    let begin = beginning(&facts.message);
    let part = |word: &str, is_marked: bool| {
        // A name of two words is no word of a sentence.
        let is_name = is_marked || word.contains('_');
        let is = |part: &&Optional| (is_name || part.chooser == Chooser::Caller) && part.is(word) && has(part.path);
        optional.iter().find(is).map(|part| part.refusal(begin))
    };
    let long = complaint::begin(facts.message.trim_start(), LONGEST_ROW);
    let row: Vec<Refusal> = row(long).into_iter().filter_map(|word| part(word, true)).collect();
    if row.len() > 1 {
        return row;
    }
    let marked = facts.param.as_deref().into_iter().chain(marked(begin)).map(|word| (word, true));
    let told = ["upport parameter ", "upported: ", "upported parameter "].into_iter().filter_map(|it| after(begin, it));
    // "metadata is not supported": the message has no other word before.
    let told = told.chain(begin.split_once(" is not ").map(|(word, _)| word));
    let told = told.filter(is_name).map(|word| (word, true));
    let within = field_of(begin).and_then(|place| part(&place, true));
    let words = || {
        marked
            .chain(told)
            .chain(plain(begin).map(|word| (word, false)))
            .find_map(|(word, is_marked)| part(word, is_marked))
    };
    within.or_else(words).into_iter().collect()
}

/// Returns the part of a message in which words count as the provider's.
pub fn beginning(message: &str) -> &str {
    complaint::begin(message.trim_start(), BEGIN)
}

/// The bytes of a message that are searched.
const BEGIN: usize = 160;
/// The bytes that are searched for names that follow one another.
const LONGEST_ROW: usize = 1000;

/// The providers' words for a parameter that a model does not take.
const UNSUPPORTED: [&str; 14] = [
    "upport",
    "not permitted",
    "deprecated",
    "nknown",
    "nrecognized",
    "nexpected",
    "not enabled",
    "not available",
    "not allowed",
    "not implemented",
    "extraneous",
    "additional propert",
    "cannot both",
    "only works in thinking mode",
];

fn is_name(word: &&str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']'))
}

fn quoted(begin: &str) -> impl Iterator<Item = &str> + Clone {
    begin.split(['\'', '`', '"']).skip(1).step_by(2)
}

fn after<'a>(begin: &'a str, phrase: &str) -> Option<&'a str> {
    begin.split_once(phrase).and_then(|(_, after)| after.split([' ', '.', ',', ']', ':']).next())
}

/// Returns the names that a message lists one after the other: "Unsupported parameters: 'a', 'b' and 'c'".
fn row(begin: &str) -> Vec<&str> {
    if let Some((_, list)) = begin.split_once("arguments supplied: ") {
        return list.trim_end_matches('.').split(", ").filter(is_name).collect();
    }
    let pieces: Vec<&str> = begin.split(['\'', '`', '"']).collect();
    let mut row = Vec::new();
    for (at, word) in pieces.iter().enumerate().skip(1).step_by(2) {
        let is_next = at == 1 || matches!(pieces[at - 1].trim(), "," | "and" | ", and");
        if !is_next || !is_name(word) || begin.contains("cannot both") {
            break;
        }
        row.push(*word);
    }
    row
}

/// Returns the place of a field that a server names by its own name, behind the place of the object that has it:
/// "'tools.0' : property 'strict' is unsupported", "tools[0]: unknown field `strict`".
fn field_of(begin: &str) -> Option<String> {
    const BEFORE: [&str; 4] = ["property '", "unknown field `", "unknown field \"", "extraneous key ["];
    let (before, name) = BEFORE.iter().find_map(|phrase| begin.split_once(phrase))?;
    let name = name.split(['\'', '`', '"', ']']).next().filter(is_name)?;
    let object = quoted(before).filter(is_name).last();
    let object = object.or_else(|| before.split(": ").next().filter(is_name)).unwrap_or_default();
    Some(if object.is_empty() { name.to_owned() } else { format!("{object}.{name}") })
}

/// Returns the words at a message's start that a server marks as names, the likeliest first.
fn marked(begin: &str) -> impl Iterator<Item = &str> {
    let quoted = quoted(begin).filter(is_name);
    // "`temperature` and `top_p` cannot both be specified": the first of them stays.
    let second = quoted.clone().nth(1).filter(|_| begin.contains("cannot both"));
    let before_colon = begin.split_once(':').map(|(before, _)| before);
    let others = [before_colon, after(begin, "supplied: "), after(begin, "arameter: "), after(begin, "param: ")];
    second.into_iter().chain(quoted.take(1)).chain(others.into_iter().flatten().filter(is_name))
}

/// Returns other words at a message's start that may name a parameter, the likeliest first.
fn plain(begin: &str) -> impl Iterator<Item = &str> {
    let verbs = [" is ", " are ", " must ", " may ", " cannot "];
    let verb = verbs.iter().filter_map(|verb| begin.find(verb)).min();
    let subject = verb.and_then(|verb| begin[..verb].rsplit(' ').next());
    // "This model only works in thinking mode", "Thinking budget ..", "Adaptive thinking is .."
    let first = begin.split(' ').next().filter(|word| word.starts_with(char::is_uppercase));
    let words = [
        subject,
        after(begin, "upport parameter "),
        after(begin, "upport the "),
        after(begin, "upport "),
        after(begin, "upported: "),
        after(begin, "on this model: "),
        first,
    ];
    words.into_iter().flatten().filter(is_name)
}

/// Returns false if a body has no part at a path, by a look at its bytes: most bodies lack what was once refused.
fn may_have(body: &[u8], path: &str) -> bool {
    memchr::memmem::find(body, last_name(path).as_bytes()).is_some()
}

/// Returns the last name in a path, or the type of its items.
pub(crate) fn last_name(path: &str) -> &str {
    path.trim_end_matches(']').rsplit(['.', '[']).next().unwrap_or(path)
}

/// The number of parts that are looked for one by one: so many searches cost less than a look at each text.
const FEW: usize = 4;

/// Returns, for each of these words, whether a body may have it as a whole text, by one look at the body's bytes for
/// all of them. `None` stands for a part without such a word, which is always looked for.
pub(crate) fn present(body: &[u8], words: &[Option<&str>]) -> Vec<bool> {
    if words.len() <= FEW {
        return vec![true; words.len()];
    }
    let mut present: Vec<bool> = words.iter().map(Option::is_none).collect();
    let mut left = present.iter().filter(|is_present| !**is_present).count();
    let mut begins = [false; 256];
    words.iter().flatten().filter_map(|word| word.bytes().next()).for_each(|byte| begins[usize::from(byte)] = true);
    for quote in memchr::memchr_iter(b'"', body) {
        if left == 0 {
            break;
        }
        let text = &body[quote + 1..];
        if !text.first().is_some_and(|byte| begins[usize::from(*byte)]) {
            continue;
        }
        for (word, is_present) in words.iter().zip(&mut present) {
            let is = |word: &str| text.strip_prefix(word.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'));
            if !*is_present && word.is_some_and(is) {
                *is_present = true;
                left -= 1;
            }
        }
    }
    present
}

/// Returns a body without the part at a path, with every other value spelled as before. Returns `None` if it has no
/// such part.
pub(crate) fn without(body: &[u8], path: &str) -> Option<Vec<u8>> {
    if let Some(path) = path.strip_prefix("**.") {
        return without_everywhere(body, &[path], &|_, text| text);
    }
    let body = Some(body).filter(|body| may_have(body, path))?;
    changed(serde_json::from_slice(body).ok()?, |fields| leave_out(fields, path)).map(String::into_bytes)
}

/// The fields of a body in which objects with a mark for a cache stand.
const WITHIN: [&str; 6] = ["system", "tools", "function", "messages", "content", "tool_calls"];

/// Returns a body without the parts at these paths from each object that may bear a mark for a cache; `None` if it has
/// none. `made` returns the text of a field in which there was one, of its name and the text without it.
pub(crate) fn without_everywhere(
    body: &[u8],
    paths: &[&str],
    made: &dyn Fn(&str, String) -> String,
) -> Option<Vec<u8>> {
    let body = Some(body).filter(|body| paths.iter().any(|path| may_have(body, path)))?;
    everywhere(serde_json::from_slice(body).ok()?, paths, made).map(String::into_bytes)
}

fn everywhere(object: RawJson<'_>, paths: &[&str], made: &dyn Fn(&str, String) -> String) -> Option<String> {
    changed(object, |fields| {
        paths.iter().for_each(|path| leave_out(fields, path));
        for name in WITHIN {
            let shorter = match fields.stood(name) {
                Some(list) if is_list(list) => in_each(list, |item| everywhere(item, paths, made)),
                Some(object) if is_object(object) => everywhere(object, paths, made),
                _ => None,
            };
            if let Some(text) = shorter {
                fields.set(name, made(name, text));
            }
        }
    })
}

/// Returns an object after a change of its fields; `None` if there was none.
fn changed<'a>(object: RawJson<'a>, change: impl FnOnce(&mut Fields<'a>)) -> Option<String> {
    let mut fields = Fields::of(object).ok()?;
    change(&mut fields);
    fields.finish()
}

fn leave_out(fields: &mut Fields<'_>, path: &str) {
    let Some((name, path)) = path.split_once('.') else {
        fields.remove(path);
        return;
    };
    let Some(name) = name.strip_suffix("[]") else {
        // Another value has no such part.
        let _none = fields.within(name, |inner| {
            leave_out(inner, path);
            Ok(())
        });
        return;
    };
    let list = fields.stood(name).filter(|list| is_list(list));
    if let Some(shorter) = list.and_then(|list| in_each(list, |item| changed(item, |inner| leave_out(inner, path)))) {
        fields.set(name, shorter);
    }
}

/// Returns a list whose items are changed; `None` if none of them is.
fn in_each<'a>(list: RawJson<'a>, change: impl Fn(RawJson<'a>) -> Option<String>) -> Option<String> {
    let (mut kept, mut any) = (String::with_capacity(list.get().len()), false);
    kept.push('[');
    each(list, |item| {
        kept.push_str(if kept.len() > 1 { "," } else { "" });
        let shorter = change(item);
        any |= shorter.is_some();
        kept.push_str(shorter.as_deref().unwrap_or_else(|| item.get()));
        Ok(())
    })
    .ok()?;
    kept.push(']');
    any.then_some(kept)
}
