//! Deletion of answers by their owner.
//!
//! Only the answer itself names its owner, so this reads all answers, a few at a time.

use redis::FromRedisValue;

use super::{Redis, link::Purpose};
use steadfast::{
    layers::cache::{Answer, AnswerOwner},
    store::StoreError,
};

/// The approximate number of names that one step requests.
const STEP: usize = 128;

impl Redis {
    /// Reads everything under names with this prefix, and returns the number of deleted answers.
    pub(super) async fn delete_owner(
        &self,
        purpose: Purpose,
        begins: &str,
        owner: &AnswerOwner,
    ) -> Result<u64, StoreError> {
        let names = pattern(&self.key(begins));
        let (mut cursor, mut gone) = (0u64, 0);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&names).arg("COUNT").arg(STEP);
            let (next, found): (u64, Vec<String>) =
                self.run_command(purpose, "reading the answers", false, &scan).await?;
            for name in found {
                let mut get = redis::cmd("HGET");
                get.arg(&name).arg("answer");
                let bytes: Option<Vec<u8>> = self.run_command(purpose, "reading an answer", false, &get).await?;
                let is_theirs = |bytes: Vec<u8>| Answer::from_bytes(&bytes).is_ok_and(|answer| answer.is_of(owner));
                if bytes.is_some_and(is_theirs) {
                    let mut del = redis::cmd("DEL");
                    gone += self.run_command::<u64>(purpose, "deleting an answer", true, del.arg(&name)).await?;
                }
            }
            match next {
                0 => return Ok(gone),
                next => cursor = next,
            }
        }
    }

    async fn run_command<T: FromRedisValue>(
        &self,
        purpose: Purpose,
        what: &'static str,
        writes: bool,
        command: &redis::Cmd,
    ) -> Result<T, StoreError> {
        let asking = async { command.query_async(&mut self.link.connection().await?).await };
        self.link.ask(what, Some(purpose), self.limit, |_| writes, asking).await
    }
}

/// Returns a `MATCH` pattern for names with this prefix.
fn pattern(begins: &str) -> String {
    let mut pattern = String::new();
    for character in begins.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_prefix_stands_for_itself() {
        assert_eq!(pattern("steadfast:answer:"), "steadfast:answer:*");
        assert_eq!(pattern("a*b?[c]:"), r"a\*b\?\[c\]:*");
    }
}
