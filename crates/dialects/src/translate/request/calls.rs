//! Pairs tool calls and results: each result right after its call, under an id that the target takes.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use super::report::Report;
use crate::{
    Dialect,
    chat::{ExtraOf, Message, Part, Role, ToolResult},
    translate::{
        ids::{Target, fit_id, id_fits, made_id},
        rules::Feature,
    },
};

/// Returns true if there is nothing to repair: ids fit and differ, and results answer exactly the calls of the turn
/// before.
pub(super) fn is_paired(messages: &[Message], target: Target) -> bool {
    let mut seen = HashSet::new();
    // The calls of the turn before without a result yet, each with its position.
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        let (mut called, mut answered) = (HashMap::new(), 0);
        // Its own model's ids may be the same in each turn.
        if target.any_ids {
            seen.clear();
        }
        for part in &message.content {
            match part {
                Part::ToolCall(call) => {
                    if message.role != Role::Assistant || !id_fits(&call.id, target) || !seen.insert(call.id.as_str()) {
                        return false;
                    }
                    called.insert(call.id.as_str(), called.len());
                }
                Part::ToolResult(result) => {
                    let Some(at) = open.remove(result.call_id.as_str()) else { return false };
                    // Without ids the order pairs results with calls.
                    if at > answered && target.dialect == Dialect::Gemini {
                        return false;
                    }
                    answered += 1;
                }
                _ => {}
            }
        }
        if !open.is_empty() || (!called.is_empty() && place + 1 == messages.len()) {
            return false;
        }
        open = called;
    }
    true
}

/// Returns true if the target takes the ids of all calls and results.
pub(super) fn ids_fit(messages: &[Message], target: Target) -> bool {
    messages.iter().flat_map(|message| &message.content).all(|part| match part {
        Part::ToolCall(call) => id_fits(&call.id, target),
        Part::ToolResult(result) => id_fits(&result.call_id, target),
        _ => true,
    })
}

/// Repairs ids and pairs.
pub(super) fn fit(messages: &mut Vec<Message>, target: Target, report: &mut Report) {
    merge(messages);
    let mut used = UsedIds::default();
    let mut open = OpenCalls::default();
    let mut fitted = Vec::with_capacity(messages.len());
    for mut message in messages.drain(..) {
        if message.role == Role::Assistant {
            open.answer_remaining(&mut fitted, report);
            if target.any_ids {
                used = UsedIds::default();
            }
            open = OpenCalls::of(&mut message, fitted.len(), |id| used.fit(id, target));
            fitted.push(message);
            continue;
        }
        let mut order = Vec::new();
        for part in &mut message.content {
            let Part::ToolResult(result) = part else { continue };
            match open.take(result, &fitted) {
                Some((place, id)) => {
                    result.call_id = id;
                    order.push(place);
                }
                None => {
                    report.record(Feature::OrphanResult);
                    *part = Part::Text(result_text(result));
                }
            }
        }
        if target.dialect == Dialect::Gemini {
            in_order(&mut message.content, order);
        }
        // A system message may stand between a call and its result.
        let is_users = message.role == Role::User;
        fitted.push(message);
        if is_users {
            open.answer_remaining(&mut fitted, report);
        }
    }
    open.answer_remaining(&mut fitted, report);
    *messages = fitted;
}

/// The ids so far, by a hash of each. Where two hashes meet, an id is changed needlessly.
#[derive(Default)]
struct UsedIds {
    hashes: HashSet<u64>,
    state: RandomState,
}

impl UsedIds {
    /// Returns the id in the target's form, or another one if an earlier call has it.
    fn fit(&mut self, id: &str, target: Target) -> String {
        let mut fitted = fit_id(id, target);
        // The number of ids so far occurs in no earlier one. Only colliding hashes make it insufficient.
        let mut n = self.hashes.len();
        while !self.hashes.insert(self.state.hash_one(&fitted)) {
            n += 1;
            fitted = made_id(&format!("{n}#{id}"), target);
        }
        fitted
    }
}

/// The calls of the turn before, some of them without a result yet.
#[derive(Default)]
struct OpenCalls {
    /// The index of the message.
    message: usize,
    /// The position in it of each call; `None` once the call has its result.
    parts: Vec<Option<u32>>,
    /// The calls of an old id, in order.
    by_id: Queues,
    /// The calls of a name: only for results without ids.
    by_name: Option<Queues>,
    left: usize,
}

impl OpenCalls {
    /// Collects the calls of a turn, which get new ids.
    fn of(turn: &mut Message, message: usize, mut new_id: impl FnMut(&str) -> String) -> Self {
        let mut open = Self { message, ..Self::default() };
        for (part, place) in turn.content.iter_mut().zip(0..) {
            let Part::ToolCall(call) = part else { continue };
            let id = new_id(&call.id);
            open.by_id.push(std::mem::replace(&mut call.id, id));
            open.parts.push(Some(place));
        }
        open.left = open.parts.len();
        open
    }

    /// Takes the call of a result: that of its id or, without one, the first of its name. Returns its position and its
    /// new id.
    fn take(&mut self, result: &ToolResult, messages: &[Message]) -> Option<(usize, String)> {
        let turn = messages.get(self.message)?;
        let call = |part: Option<u32>| match turn.content.get(part? as usize)? {
            Part::ToolCall(call) => Some(call),
            _ => None,
        };
        let mut place = self.by_id.pop(&result.call_id, &self.parts);
        if place.is_none()
            && result.call_id.is_empty()
            && let Some(name) = &result.name
        {
            let by_name = self.by_name.get_or_insert_with(|| {
                let mut queues = Queues::default();
                turn.tool_calls().for_each(|call| queues.push(call.name.clone()));
                queues
            });
            place = by_name.pop(name, &self.parts);
        }
        let place = place?;
        let id = call(self.parts[place].take())?.id.clone();
        self.left -= 1;
        Some((place, id))
    }

    /// Adds a result that reports none for each unanswered call, at the end of the turn after it.
    fn answer_remaining(&mut self, messages: &mut Vec<Message>, report: &mut Report) {
        let open = std::mem::take(self);
        if open.left == 0 {
            return;
        }
        report.record(Feature::Unanswered);
        let of = &messages[open.message].content;
        let results = open.parts.into_iter().flatten().filter_map(|part| match &of[part as usize] {
            Part::ToolCall(call) => {
                let mut result = ToolResult::new(call.id.as_str(), "(no result)");
                result.name = Some(call.name.clone());
                result.is_error = true;
                Some(Part::ToolResult(result))
            }
            _ => None,
        });
        let results: Vec<Part> = results.collect();
        match messages.last_mut() {
            Some(last) if last.role == Role::User => last.content.extend(results),
            _ => messages.push(Message::new(Role::User, results)),
        }
    }
}

/// Queues of positions, each under a name.
#[derive(Default)]
struct Queues {
    /// The first and the last position of each queue.
    ends: HashMap<String, (u32, u32)>,
    /// For each position the next one of its queue, or itself at the end.
    next: Vec<u32>,
}

impl Queues {
    /// Appends the next position to the queue of this name.
    fn push(&mut self, name: String) {
        // There are fewer than the bytes of a body.
        let place = self.next.len() as u32;
        self.next.push(place);
        match self.ends.entry(name) {
            Entry::Occupied(mut ends) => {
                let (_, last) = ends.get_mut();
                self.next[std::mem::replace(last, place) as usize] = place;
            }
            Entry::Vacant(ends) => _ = ends.insert((place, place)),
        }
    }

    /// Returns the first position of the queue that is not taken.
    fn pop(&mut self, name: &str, parts: &[Option<u32>]) -> Option<usize> {
        let (first, last) = self.ends.get_mut(name)?;
        while parts[*first as usize].is_none() {
            if first == last {
                return None;
            }
            *first = self.next[*first as usize];
        }
        Some(*first as usize)
    }
}

/// Sorts results into the order of their calls, given by `calls`, unless they have ids of this dialect's own beside
/// them.
fn in_order(parts: &mut [Part], calls: Vec<usize>) {
    if calls.is_sorted() || parts.iter().any(|part| part.as_extra(ExtraOf::Part, Dialect::Gemini).is_some()) {
        return;
    }
    let places: Vec<usize> = (0..parts.len()).filter(|at| matches!(parts[*at], Part::ToolResult(_))).collect();
    let take = |at: &usize| std::mem::replace(&mut parts[*at], Part::Text(String::new()));
    let mut results: Vec<(usize, Part)> = calls.into_iter().zip(places.iter().map(take)).collect();
    results.sort_by_key(|(call, _)| *call);
    for (at, (_, result)) in places.into_iter().zip(results) {
        parts[at] = result;
    }
}

/// Merges neighbours of one role where tools are involved: a result may be a message after the first one.
fn merge(messages: &mut Vec<Message>) {
    let tools =
        |message: &Message| message.content.iter().any(|part| matches!(part, Part::ToolCall(_) | Part::ToolResult(_)));
    // True if tools are involved in the last message kept.
    let mut before = messages.first().is_some_and(tools);
    messages.dedup_by(|message, last| {
        let now = tools(message);
        let is_one = last.role == message.role
            && message.role != Role::System
            && (now || (before && message.role == Role::Assistant));
        if is_one {
            last.content.append(&mut message.content);
        }
        before = now || (is_one && before);
        is_one
    });
}

/// Returns a tool's result as a text.
fn result_text(result: &ToolResult) -> String {
    let texts: Vec<&str> = result.content.iter().filter_map(Part::as_text).collect();
    let kind = if result.is_error { "tool error" } else { "tool result" };
    format!("[{kind}]\n{}", texts.join("\n"))
}
