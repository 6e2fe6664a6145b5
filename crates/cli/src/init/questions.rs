//! The questions about a first configuration, each with an answer that Enter takes.

use std::io::{self, BufRead, Write};

use super::draft::{Draft, Found};

/// A conversation with a person.
pub(super) struct Questions<R, W> {
    answers: R,
    terminal: W,
}

impl<R: BufRead, W: Write> Questions<R, W> {
    pub(super) fn new(answers: R, terminal: W) -> Self {
        Self { answers, terminal }
    }

    /// Lets a person change a draft.
    ///
    /// # Errors
    ///
    /// The terminal is gone, or its end was typed in place of an answer.
    pub(super) fn ask(&mut self, draft: &mut Draft) -> io::Result<()> {
        writeln!(self.terminal, "Keys in the environment:")?;
        for (at, found) in draft.models.iter().enumerate() {
            writeln!(self.terminal, "  {}  {}: {}", at + 1, found.variable, found.offer.model)?;
        }
        let found = draft.models.clone();
        if found.len() > 1 {
            draft.models = self.answer("Use which of them?", "all", |answer| choice(&found, answer))?;
        }
        if draft.models.len() > 1 {
            let numbers: Vec<String> = draft.models.iter().map(|one| number(&found, one).to_string()).collect();
            let chosen = draft.models.clone();
            draft.models = self.answer("In which order?", &numbers.join(" "), |answer| {
                let ordered = choice(&found, answer)?;
                let is_whole = ordered.len() == chosen.len()
                    && chosen.iter().all(|one| ordered.iter().any(|other| one.variable == other.variable));
                is_whole.then_some(ordered).ok_or_else(|| format!("each of {} once", numbers.join(" ")))
            })?;
        }
        draft.usd_per_day = self.answer("At most how many dollars a day?", "none", dollars)?;
        Ok(())
    }

    /// Asks until the answer can be understood.
    fn answer<T>(
        &mut self,
        question: &str,
        usual: &str,
        understand: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<T> {
        loop {
            write!(self.terminal, "{question} [{usual}] ")?;
            self.terminal.flush()?;
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                writeln!(self.terminal)?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer = line.trim();
            match understand(if answer.is_empty() { usual } else { answer }) {
                Ok(understood) => return Ok(understood),
                Err(problem) => writeln!(self.terminal, "  {problem}")?,
            }
        }
    }
}

/// Returns the place of a model in the list, from 1.
fn number(found: &[Found], one: &Found) -> usize {
    found.iter().take_while(|other| other.variable != one.variable).count() + 1
}

/// Reads numbers of the list, or `all`.
fn choice(found: &[Found], answer: &str) -> Result<Vec<Found>, String> {
    if answer.eq_ignore_ascii_case("all") {
        return Ok(found.to_vec());
    }
    let mut chosen: Vec<Found> = Vec::new();
    for word in answer.split([' ', ',']).filter(|word| !word.is_empty()) {
        let one = word.parse::<usize>().ok().and_then(|number| found.get(number.checked_sub(1)?));
        let one = one.ok_or_else(|| format!("numbers from 1 to {}, such as `2 1`, or `all`", found.len()))?;
        if chosen.iter().any(|other| other.variable == one.variable) {
            return Err(format!("{word} is there twice"));
        }
        chosen.push(*one);
    }
    if chosen.is_empty() { Err("at least one".to_owned()) } else { Ok(chosen) }
}

/// Reads an amount of dollars, or `none`.
fn dollars(answer: &str) -> Result<Option<f64>, String> {
    if answer.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let usd = answer.trim_start_matches('$').parse().ok().filter(|usd: &f64| *usd > 0.0 && usd.is_finite());
    usd.map(Some).ok_or_else(|| "an amount such as 20 or 2.50, or `none`".to_owned())
}

#[cfg(test)]
mod tests {
    use steadfast_stack::Environment;

    use super::*;

    fn asked(answers: &str) -> (io::Result<()>, Draft, String) {
        let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"];
        let environment: Environment = keys.into_iter().map(|name| (name, "sk-of-the-provider")).collect();
        let (mut draft, mut said) = (Draft::of(&environment).unwrap(), Vec::new());
        let done = Questions::new(answers.as_bytes(), &mut said).ask(&mut draft);
        (done, draft, String::from_utf8(said).unwrap())
    }

    #[test]
    fn enter_takes_the_usual_answers_and_no_key_is_shown() {
        let (done, draft, said) = asked("\n\n\n");
        assert!(done.is_ok() && draft.usd_per_day.is_none(), "{said}");
        assert_eq!(draft.tiers(), ["claude", "gpt", "gemini", "haiku"]);
        assert!(said.contains("2  OPENAI_API_KEY: gpt-5.2") && !said.contains("sk-"), "{said}");
        assert!(said.contains("which of them? [all]") && said.contains("order? [1 2 3]"), "{said}");
    }

    #[test]
    fn the_answers_choose_models_their_order_and_a_budget() {
        let (done, draft, said) = asked("2, 3\n3 2\n$2.50\n");
        assert!(done.is_ok() && said.contains("order? [2 3]"), "{said}");
        assert_eq!((draft.tiers(), draft.usd_per_day), (vec!["gemini", "gpt"], Some(2.5)));
        let (done, draft, said) = asked("1\n5\n");
        assert!(done.is_ok() && !said.contains("order"), "{said}");
        assert_eq!((draft.tiers(), draft.usd_per_day), (vec!["claude", "haiku"], Some(5.0)));
    }

    #[test]
    fn an_answer_that_means_nothing_is_asked_for_again() {
        let (done, draft, said) = asked("0\n4\nx\n1 1\n,\n1 2\n2\n2 3\n2 1\n-1\nnan\ninf\n0\ntwo\nnone\n");
        assert!(done.is_ok(), "{said}");
        assert_eq!(draft.tiers(), ["gpt", "claude", "haiku"]);
        for problem in ["from 1 to 3", "1 is there twice", "at least one", "each of 1 2 once", "such as 20 or 2.50"] {
            assert!(said.contains(problem), "{problem}: {said}");
        }
        assert_eq!(said.matches("dollars a day?").count(), 6, "{said}");
    }

    #[test]
    fn the_end_of_the_terminal_is_no_answer() {
        let (done, ..) = asked("1 2\n");
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
