//! The part of a failure's message that anybody may read.

use std::{collections::HashSet, sync::LazyLock};

use super::{ErrorKind, ErrorMessage};

/// The longest excerpt, in bytes.
const MOST: usize = 200;
/// The bytes of a message that are looked at: a provider's may be of any length.
const READ: usize = 1000;

/// Returns the words of a failure's message that providers and networks use of themselves, with `…` for each gap.
///
/// A provider's message may repeat its caller's prompt or key, and those who read logs and the status may see neither.
/// A name, a number or a sentence of a prompt is no such word. A message of mostly other words gives an empty excerpt,
/// and so does one about the request.
pub(super) fn excerpt(kind: ErrorKind, message: &ErrorMessage) -> ErrorMessage {
    if kind.is_about_the_request() {
        return ErrorMessage::default();
    }
    known(message, is_known)
}

/// Returns the words of any failure's message in which services speak of themselves and of requests, for those who may
/// read what an operator reads: the names of parameters, and what is wrong with them. No prompt is in it either.
pub(super) fn excerpt_for_operators(message: &ErrorMessage) -> ErrorMessage {
    known(message, |word| is_known(word) || is_about_a_parameter(word))
}

fn known(message: &ErrorMessage, is_known: impl Fn(&str) -> bool) -> ErrorMessage {
    let text = message.as_str();
    let read = (0..=READ.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (mut known, mut unknown, mut in_gap, mut excerpt) = (0_usize, 0_usize, false, String::new());
    for word in text[..read].split_whitespace() {
        let is_known = is_known(word);
        known += usize::from(is_known);
        unknown += usize::from(!is_known);
        let shown = if is_known { word } else { "…" };
        if !is_known && in_gap {
            continue;
        }
        in_gap = !is_known;
        if excerpt.len() + 1 + shown.len() > MOST {
            in_gap = true;
            excerpt.push('…');
            break;
        }
        if !excerpt.is_empty() {
            excerpt.push(' ');
        }
        excerpt.push_str(shown);
    }
    if known == 0 || unknown > known {
        return ErrorMessage::default();
    }
    if read < text.len() && !in_gap {
        excerpt.push('…');
    }
    excerpt.into()
}

/// Returns whether a word, without the marks around it, is one of the list, or several joined by hyphens and the like.
/// A status of HTTP is one too.
fn is_known(word: &str) -> bool {
    const JOINTS: [char; 4] = ['-', '_', '/', '\''];
    let marks = |mark: char| matches!(mark, '.' | ',' | ':' | ';' | '!' | '(' | ')' | '"' | '\'' | '`' | '…');
    let bare = word.trim_matches(marks);
    let mut parts = bare.split(JOINTS);
    !bare.is_empty() && word.len() <= bare.len() + 3 && parts.all(is_in_list)
}

/// Returns whether a word names a parameter or a place among them, as `messages.0.content` does, or says what is wrong
/// with one.
fn is_about_a_parameter(word: &str) -> bool {
    static LIST: LazyLock<HashSet<&str>> = LazyLock::new(|| REQUEST_WORDS.split(' ').collect());
    let bare = word.trim_matches(|mark: char| !mark.is_ascii_alphanumeric());
    let mut parts = bare.split(['.', '-', '_', '/', '\'', '[', ']', '`']).filter(|part| !part.is_empty()).peekable();
    let begins_with_word = parts.peek().is_some_and(|part| !part.bytes().all(|byte| byte.is_ascii_digit()));
    let is_index = |part: &str| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_listed =
        |part: &str| LIST.contains(part.to_ascii_lowercase().as_str()) || is_in_list(part) || is_index(part);
    begins_with_word && word.len() <= bare.len() + 4 && parts.all(is_listed)
}

fn is_in_list(part: &str) -> bool {
    static LIST: LazyLock<HashSet<&str>> = LazyLock::new(|| WORDS.split(' ').collect());
    let status = part.len() == 3 && part.parse::<u16>().is_ok_and(|number| (400..600).contains(&number));
    status || LIST.contains(part.to_ascii_lowercase().as_str())
}

/// Words in which services speak of themselves.
const WORDS: &str = "\
    a abandoned access account after again allowed an and answer api are at authentication authorization available \
    bad balance be been before began beyond billing body broke broken busy by call came capacity certificate check \
    chunk circuit closed connect connection content could credit credits current currently data deadline denied \
    details disabled dns does due during empty encountered end ended eof error errors exceeded exhausted exist \
    expired failed failure far first for forbidden format found from gateway handshake has have high host http if in \
    incomplete incorrect insufficient internal invalid io is it json key later limit limits line load long lookup \
    low made many message middle minute model name network no not nothing occurred of on or our out over overload \
    overloaded page passed payment peer per permission plan please provided provider proxy quota rate reached read \
    ready refused request requests required reset resource response retry server servers service size something \
    stream temporarily temporary than that the there this time timed timeout tls to token tokens too traffic try \
    type unable unauthorized unavailable unexpected unexpectedly unknown upstream usage usual waiting was went while \
    with within wrong x you your";

/// Words in which services speak of requests.
const REQUEST_WORDS: &str = "\
    additional array assistant beta block blocks boolean both budget but by can cannot choice contain contains content \
    context deprecated description developer document does duplicate each effort either enabled equal exactly expected \
    extra field fields file files following format function functions got greater header headers id image images input \
    inputs instead instructions integer invalid items last least length less long longer max maximum may messages min \
    minimum missing more must name null number object one only output parameter parameters parse permitted prefill \
    previous prompt properties property range reasoning received result role roles schema sequences should stop stream \
    string supported syntax system temperature then thinking tool tools top type types unknown unrecognized \
    unsupported use used user using validation value values version window without";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_which_parameter_is_wrong_and_no_prompt() {
        for (message, shown) in [
            ("prefill is not supported", "prefill is not supported"),
            ("messages.0.content: Field required", "messages.0.content: Field required"),
            ("`temperature` must be less than 2", "`temperature` must be less than …"),
            ("Unsupported parameter: 'max_tokens'", "Unsupported parameter: 'max_tokens'"),
            ("tools.3.name: string should match Miller-has-17-debts", "tools.3.name: string should …"),
            ("messages: patient Miller has cancer and 17 debts", ""),
            ("17 18 19", ""),
        ] {
            assert_eq!(excerpt_for_operators(&message.to_owned().into()).as_str(), shown, "{message}");
        }
    }

    fn of(message: &str) -> String {
        excerpt(ErrorKind::Server, &message.to_owned().into()).as_str().to_owned()
    }

    #[test]
    fn what_a_service_says_of_itself_is_read_by_all() {
        for message in [
            "Service unavailable",
            "Overloaded",
            "The server had an error while processing your request",
            "invalid x-api-key",
            "the connection broke: unexpected EOF during chunk size line",
            "HTTP 503: the upstream's capacity is exceeded. Please try again later!",
        ] {
            let shown = of(message);
            assert!(!shown.is_empty() && shown.split_whitespace().all(|word| word == "…" || message.contains(word)));
        }
        assert_eq!(of("The model `gpt-9` does not exist"), "The model … does not exist");
    }

    #[test]
    fn no_key_no_name_and_no_prompt_is_in_it() {
        assert_eq!(of("Incorrect API key provided: sk-proj-1234abcd."), "Incorrect API key provided: …");
        assert_eq!(of("error: patient Miller has cancer and 17 debts"), "");
        assert_eq!(of("<html><body>error</body></html>"), "");
        assert_eq!(of("{\"error\":{\"message\":\"overloaded\"}}"), "");
        assert_eq!(of("сервер перегружен"), "");
        assert_eq!(excerpt(ErrorKind::InvalidRequest, &"the server is overloaded".into()).as_str(), "");
    }

    #[test]
    fn a_message_without_end_is_cut_with_a_sign() {
        for message in ["server error ".repeat(1 << 20), format!("server error {}", "x".repeat(10 << 20))] {
            let shown = of(&message);
            assert!(shown.ends_with('…') && shown.len() <= MOST + '…'.len_utf8(), "{shown}");
        }
    }
}
