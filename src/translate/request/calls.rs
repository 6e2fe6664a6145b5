//! Tool calls and their results: each result right after its call, under an id that the target takes.

use std::collections::HashSet;

use super::report::Report;
use crate::{
    Dialect,
    chat::{ExtraOf, Message, Part, Role, ToolResult},
    translate::{
        ids::{Target, fit_id, id_fits},
        rules::Feature,
    },
};

/// Whether nothing has to be mended: ids fit and differ, and results answer exactly the calls of the turn before.
pub(super) fn is_well(messages: &[Message], target: Target) -> bool {
    let mut seen = HashSet::new();
    let mut open: Vec<&str> = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let mut called = Vec::new();
        for part in &message.content {
            match part {
                Part::ToolCall(call) => {
                    if message.role != Role::Assistant || !id_fits(&call.id, target) || !seen.insert(call.id.as_str()) {
                        return false;
                    }
                    called.push(call.id.as_str());
                }
                Part::ToolResult(result) => {
                    let Some(at) = open.iter().position(|id| *id == result.call_id) else { return false };
                    // Without ids it is the order that tells which result is whose.
                    if at > 0 && target.dialect == Dialect::Gemini {
                        return false;
                    }
                    open.remove(at);
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

/// Whether the target takes the ids of all calls and results.
pub(super) fn ids_fit(messages: &[Message], target: Target) -> bool {
    messages.iter().flat_map(|message| &message.content).all(|part| match part {
        Part::ToolCall(call) => id_fits(&call.id, target),
        Part::ToolResult(result) => id_fits(&result.call_id, target),
        _ => true,
    })
}

/// Mends ids and pairs.
pub(super) fn fit(messages: &mut Vec<Message>, target: Target, report: &mut Report) {
    merge(messages);
    let mut used = HashSet::new();
    let mut place = 0;
    // The calls of the turn before, with their old and new ids.
    let mut open: Vec<Open> = Vec::new();
    while place < messages.len() {
        let message = &mut messages[place];
        if message.role == Role::Assistant {
            answer_the_rest(messages, place, &mut open, report);
            let place_now = if messages[place].role == Role::Assistant { place } else { place + 1 };
            for part in &mut messages[place_now].content {
                if let Part::ToolCall(call) = part {
                    let mut id = fit_id(&call.id, target);
                    let mut n = 0;
                    while !used.insert(id.clone()) {
                        n += 1;
                        id = fit_id(&format!("{}#{n}{}", call.id, "~".repeat(41)), target);
                    }
                    let old = std::mem::replace(&mut call.id, id.clone());
                    open.push(Open { old, id, name: call.name.clone() });
                }
            }
            place = place_now + 1;
            continue;
        }
        let order: Vec<String> = open.iter().map(|call| call.id.clone()).collect();
        for part in &mut message.content {
            let Part::ToolResult(result) = part else { continue };
            let same = open.iter().position(|call| call.old == result.call_id);
            let named = || open.iter().position(|call| Some(&call.name) == result.name.as_ref());
            let unnamed = result.call_id.is_empty();
            match same.or_else(|| unnamed.then(named).flatten()) {
                Some(at) => result.call_id = open.remove(at).id,
                None => {
                    report.say(Feature::OrphanResult);
                    *part = Part::Text(told(result));
                }
            }
        }
        if target.dialect == Dialect::Gemini {
            in_order(&mut message.content, &order);
        }
        // A system message may stand between a call and its result.
        if message.role == Role::User {
            answer_the_rest(messages, place + 1, &mut open, report);
        }
        place += 1;
    }
    let end = messages.len();
    answer_the_rest(messages, end, &mut open, report);
}

struct Open {
    old: String,
    id: String,
    name: String,
}

/// Puts results into the order of their calls, unless they have ids of this dialect's own beside them.
fn in_order(parts: &mut [Part], order: &[String]) {
    if parts.iter().any(|part| part.as_extra(ExtraOf::Part, Dialect::Gemini).is_some()) {
        return;
    }
    let places: Vec<usize> = (0..parts.len()).filter(|at| matches!(parts[*at], Part::ToolResult(_))).collect();
    let mut results: Vec<Part> = places.iter().map(|at| parts[*at].clone()).collect();
    results.sort_by_key(|part| match part {
        Part::ToolResult(result) => order.iter().position(|id| *id == result.call_id),
        _ => None,
    });
    for (at, result) in places.into_iter().zip(results) {
        parts[at] = result;
    }
}

/// A result that says that there is none, for each call that has none in the turn after it, which ends at `end`.
fn answer_the_rest(messages: &mut Vec<Message>, end: usize, open: &mut Vec<Open>, report: &mut Report) {
    if open.is_empty() {
        return;
    }
    report.say(Feature::Unanswered);
    let results = open.drain(..).map(|call| {
        let mut result = ToolResult::new(call.id, "(no result)");
        result.name = Some(call.name);
        result.is_error = true;
        Part::ToolResult(result)
    });
    let results: Vec<Part> = results.collect();
    match messages[..end].last_mut() {
        Some(last) if last.role == Role::User => last.content.extend(results),
        _ => messages.insert(end, Message::new(Role::User, results)),
    }
}

/// Neighbours of one role become one turn where tools are in play: a result may be a message after the first one.
fn merge(messages: &mut Vec<Message>) {
    let tools =
        |message: &Message| message.content.iter().any(|part| matches!(part, Part::ToolCall(_) | Part::ToolResult(_)));
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        match merged.last_mut() {
            Some(last)
                if last.role == message.role
                    && message.role != Role::System
                    && (tools(&message) || (tools(last) && message.role == Role::Assistant)) =>
            {
                last.content.extend(message.content);
            }
            _ => merged.push(message),
        }
    }
    *messages = merged;
}

/// A tool's result as a text.
fn told(result: &ToolResult) -> String {
    let texts: Vec<&str> = result.content.iter().filter_map(Part::as_text).collect();
    let kind = if result.is_error { "tool error" } else { "tool result" };
    format!("[{kind}]\n{}", texts.join("\n"))
}
