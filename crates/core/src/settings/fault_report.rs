use super::Span;

/// A report of the errors in meaning of a block, each with its place.
pub trait FaultReport {
    /// Runs a check inside the value of a key.
    fn within(&mut self, key: &str, look: impl FnOnce(&mut Self))
    where
        Self: Sized;

    /// Reports an error in the value of a key.
    fn wrong(&mut self, key: &str, message: impl Into<String>);

    /// Reports an error in this key, not in its value.
    fn wrong_key(&mut self, key: &str, message: impl Into<String>);

    /// Reports an error in the current value.
    fn wrong_here(&mut self, message: impl Into<String>);

    /// Checks that a span of time is longer than zero.
    fn nonzero_time(&mut self, key: &str, span: Option<Span>) {
        if span.is_some_and(|span| span.0.is_zero()) {
            self.wrong(key, format!("`{key}` must be longer than zero"));
        }
    }

    /// Checks that a number is not zero; `why` follows in the message.
    fn at_least_one(&mut self, key: &str, number: Option<u64>, why: &str) {
        if number == Some(0) {
            self.wrong(key, format!("`{key}` must be 1 or more{why}"));
        }
    }
}
