//! Limits on the size of a request that is parsed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{ErrorKind, LlmError};

/// The limits on a request in wire form that is parsed: to be translated, or to be counted.
///
/// A request over a limit fails with [`ErrorKind::TooLarge`], which names the limit. A request that is forwarded in its
/// own dialect is not parsed, and has no limit here. The defaults are well above what clients of today send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    messages: u32,
    parts: u32,
    tools: u32,
    tool_calls: u32,
    nodes: u32,
    depth: u32,
    schema_nodes: u32,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            messages: 10_000,
            parts: 50_000,
            tools: 5_000,
            tool_calls: 10_000,
            nodes: 1_000_000,
            depth: 100,
            schema_nodes: 20_000,
        }
    }
}

impl WireLimits {
    /// The deepest nesting that can be allowed: the JSON parser's own limit is just above.
    pub const DEEPEST: u32 = 120;

    /// Returns limits without bounds, except for the deepest nesting.
    pub fn unlimited() -> Self {
        let most = u32::MAX;
        Self {
            messages: most,
            parts: most,
            tools: most,
            tool_calls: most,
            nodes: most,
            depth: Self::DEEPEST,
            schema_nodes: most,
        }
    }

    /// Limits the messages (Gemini: contents, Responses: items). Default: 10,000.
    #[must_use]
    pub fn messages(mut self, most: u32) -> Self {
        self.messages = most;
        self
    }

    /// Limits the parts of all messages together, those in tool results included. Default: 50,000.
    #[must_use]
    pub fn parts(mut self, most: u32) -> Self {
        self.parts = most;
        self
    }

    /// Limits the tools. Default: 5,000.
    #[must_use]
    pub fn tools(mut self, most: u32) -> Self {
        self.tools = most;
        self
    }

    /// Limits the tool calls of all messages together. Default: 10,000.
    #[must_use]
    pub fn tool_calls(mut self, most: u32) -> Self {
        self.tool_calls = most;
        self
    }

    /// Limits the JSON values: each list, object, text and number counts as one. Default: 1,000,000.
    #[must_use]
    pub fn nodes(mut self, most: u32) -> Self {
        self.nodes = most;
        self
    }

    /// Limits the nesting of JSON, up to [`DEEPEST`](Self::DEEPEST). Default: 100.
    #[must_use]
    pub fn depth(mut self, most: u32) -> Self {
        self.depth = most.min(Self::DEEPEST);
        self
    }

    /// Limits the JSON values of a schema that must be rewritten for another provider. Default: 20,000.
    #[must_use]
    pub fn schema_nodes(mut self, most: u32) -> Self {
        self.schema_nodes = most;
        self
    }

    /// Checks a schema against the limits before it is parsed.
    #[doc(hidden)]
    pub fn check_schema(&self, json: &str) -> Result<(), LlmError> {
        measure(json.as_bytes(), (self.schema_nodes, "schema_nodes"), self.depth)
    }
}

fn over(most: u32, what: &str, name: &str) -> LlmError {
    let message =
        format!("the request has more than {most} {what}, which is the limit `{name}` (gateway.limits.{name})");
    LlmError::new(ErrorKind::TooLarge, message)
}

/// Counts the values of a JSON text and their nesting. The text must be valid JSON.
fn measure(json: &[u8], (most, name): (u32, &str), deepest: u32) -> Result<(), LlmError> {
    let (mut nodes, mut depth, mut at) = (1, 0, 0);
    // True right after the start of a list or an object; the next byte shows if it is empty.
    let mut begun = false;
    while let Some(byte) = json.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b']' | b'}' => {
                depth -= 1;
                begun = false;
            }
            b',' => nodes += 1,
            _ => {}
        }
        nodes += u32::from(std::mem::take(&mut begun));
        if nodes > most {
            return Err(over(most, "JSON values", name));
        }
        match byte {
            b'[' | b'{' => {
                depth += 1;
                begun = true;
                if depth > deepest {
                    return Err(over(deepest, "levels of JSON", "depth"));
                }
            }
            b'"' => at = end_of_text(json, at),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the position of the closing quote of the text that starts here.
fn end_of_text(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        if json[at] == b'"' {
            return at;
        }
        at += 2;
    }
    json.len()
}

/// A flag by which work is stopped: its caller may have left, and then its result has no use.
#[derive(Clone, Debug, Default)]
pub struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// Returns a flag, and a guard that sets it when dropped.
    #[doc(hidden)]
    pub fn pair() -> (Self, StopOnDrop) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Some(flag.clone())), StopOnDrop(flag))
    }

    /// Fails once the flag is set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Deadline`] once no caller waits any longer.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), LlmError> {
        match &self.0 {
            Some(flag) if flag.load(Ordering::Relaxed) => {
                Err(LlmError::new(ErrorKind::Deadline, "the caller no longer waits for the request"))
            }
            _ => Ok(()),
        }
    }

    #[doc(hidden)]
    pub fn is_given(&self) -> bool {
        self.check().is_err()
    }
}

/// Stops the work when it is dropped.
#[derive(Debug)]
pub struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts the values of a request while it is read, and ends the reading at a limit or a stop.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Meter<'a> {
    limits: WireLimits,
    stop: &'a Stop,
    parts: u32,
    tools: u32,
    tool_calls: u32,
}

impl<'a> Meter<'a> {
    /// Checks the whole body first, before room is made for any of it.
    pub fn of(body: &[u8], limits: WireLimits, stop: &'a Stop) -> Result<Self, LlmError> {
        stop.check()?;
        measure(body, (limits.nodes, "nodes"), limits.depth)?;
        Ok(Self { limits, stop, parts: 0, tools: 0, tool_calls: 0 })
    }

    /// Checks the number of messages.
    pub fn messages(&self, count: usize) -> Result<(), LlmError> {
        if count > self.limits.messages as usize {
            return Err(over(self.limits.messages, "messages", "messages"));
        }
        Ok(())
    }

    /// Counts the parts that come next.
    pub fn parts(&mut self, count: usize) -> Result<(), LlmError> {
        self.stop.check()?;
        add(&mut self.parts, count, self.limits.parts, "parts", "parts")
    }

    /// Counts a tool.
    pub fn tool(&mut self) -> Result<(), LlmError> {
        self.stop.check()?;
        add(&mut self.tools, 1, self.limits.tools, "tools", "tools")
    }

    /// Counts a call of a tool.
    pub fn tool_call(&mut self) -> Result<(), LlmError> {
        add(&mut self.tool_calls, 1, self.limits.tool_calls, "tool calls", "tool_calls")
    }
}

fn add(so_far: &mut u32, more: usize, most: u32, what: &str, name: &str) -> Result<(), LlmError> {
    let count = u32::try_from(more).ok().and_then(|more| so_far.checked_add(more)).filter(|count| *count <= most);
    *so_far = count.ok_or_else(|| over(most, what, name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_nesting_are_counted() {
        for (json, nodes, depth) in [
            ("1", 1, 0),
            ("[]", 1, 1),
            ("[[],[]]", 3, 2),
            ("[ [ ] , { } ]", 3, 2),
            (r#"{"a":1,"b":[1,2,"]}"]}"#, 6, 2),
            (r#"{"a\"":"[\\\"[","b":{}}"#, 3, 2),
            ("[[[[1]]]]", 5, 4),
        ] {
            let is_allowed = |nodes, depth| measure(json.as_bytes(), (nodes, "nodes"), depth).is_ok();
            assert!(is_allowed(nodes, depth), "{json}");
            assert!(!is_allowed(nodes - 1, depth), "{json}: not so many values");
            assert!(depth == 0 || !is_allowed(nodes, depth - 1), "{json}: not so deep");
        }
    }

    #[test]
    fn what_is_over_a_limit_is_told_with_its_setting() {
        let error = measure(b"[1,2]", (2, "nodes"), 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(
            error.message().contains("more than 2 JSON values") && error.message().contains("gateway.limits.nodes")
        );
    }

    #[test]
    fn a_stop_is_given_by_leaving() {
        let (stop, guard) = Stop::pair();
        assert!(!stop.is_given() && stop.check().is_ok());
        drop(guard);
        assert!(stop.is_given() && Meter::of(b"{}", WireLimits::default(), &stop).is_err());
        assert!(!Stop::default().is_given(), "nobody can stop this one");
    }
}
