use std::borrow::Cow;

use crate::{ErrorKind, LlmError};

/// A change on the way to Converse: the feature, in the names of the rules of [`translate`](crate::translate), and its
/// fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    feature: &'static str,
    how: &'static str,
    /// True if a part of the request is left out.
    is_dropped: bool,
}

impl Loss {
    const fn dropped(feature: &'static str, how: &'static str) -> Self {
        Self { feature, how, is_dropped: true }
    }

    const fn changed(feature: &'static str, how: &'static str) -> Self {
        Self { feature, how, is_dropped: false }
    }
}

const NO_PLACE: &str = "left out: Converse has no place for it";

pub(super) const SYSTEM: Loss =
    Loss::changed("system_in_the_middle", "sent as a user's text that begins with `[system]`");
pub(super) const OWN_PART: Loss = Loss::dropped("own_part", NO_PLACE);
pub(super) const CITATIONS: Loss = Loss::dropped("citations", NO_PLACE);
pub(super) const TOOL_SETTING: Loss = Loss::dropped("tool_setting", NO_PLACE);
pub(super) const TOOL_NAME: Loss =
    Loss::changed("tool_name", "sent under a name that Converse takes; calls come back under the tool's own");
pub(super) const SERVER_TOOL: Loss = Loss::dropped("server_tool", "left out: Bedrock does not run it");
pub(super) const END_USER: Loss =
    Loss::dropped("end_user", "left out: it has letters that Converse does not take, or too many");
pub(super) const SERVICE_TIER: Loss = Loss::dropped("service_tier", NO_PLACE);
pub(super) const OTHER_FIELD: Loss = Loss::dropped("other_field", NO_PLACE);
pub(super) const CACHE: Loss = Loss::changed("cache", "moved behind the tool's result");
pub(super) const FILE_NAME: Loss = Loss::changed("file_name", "spelled in the letters that Converse takes");
pub(super) const DOCUMENT_ALONE: Loss =
    Loss::changed("document_alone", "sent with the text `(document)`: Converse wants a text beside a document");
pub(super) const UNDECLARED: Loss =
    Loss::changed("undeclared_tool", "declared without a schema: Converse wants the tools of the history");

/// The changes so far: each with its first field, and the number of further ones.
#[derive(Default)]
pub(super) struct Notes(Vec<(Loss, Option<String>, u64)>);

/// The longest name in a note, in characters.
const LONGEST: usize = 80;

impl Notes {
    pub(super) fn record(&mut self, loss: Loss, field: Option<&str>) {
        match self.0.iter_mut().find(|(known, ..)| *known == loss) {
            Some((_, first, _)) if first.as_deref() == field => {}
            Some((.., more)) => *more += 1,
            None => self.0.push((loss, field.map(|field| field.chars().take(LONGEST).collect()), 0)),
        }
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.0.iter().any(|(loss, ..)| loss.is_dropped)
    }

    pub(super) fn into_texts(self) -> Vec<Cow<'static, str>> {
        let text = |(loss, field, more): (Loss, Option<String>, u64)| {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            match field {
                Some(field) => format!("{} ({field}{more}): {}", loss.feature, loss.how).into(),
                None => format!("{}: {}", loss.feature, loss.how).into(),
            }
        };
        self.0.into_iter().map(text).collect()
    }
}

/// The place of a block in a request, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) message: usize,
    pub(super) block: usize,
    /// The place within a tool's result.
    pub(super) inner: Option<usize>,
}

impl Place {
    /// Creates the error of a block that does not follow the API of Messages.
    pub(super) fn invalid(self, field: &str, what: &str) -> LlmError {
        LlmError::new(ErrorKind::InvalidRequest, format!("{}{field}: {what}", self.text()))
    }

    /// Creates the error of a block that Converse cannot take.
    pub(super) fn refused(self, feature: &str, why: &str) -> LlmError {
        LlmError::new(ErrorKind::UnsupportedFeature, format!("{feature} ({}): {why}", self.text()))
    }

    fn text(self) -> String {
        let Self { message, block, inner } = self;
        match inner {
            Some(inner) => format!("messages.{message}.content.{block}.content.{inner}"),
            None => format!("messages.{message}.content.{block}"),
        }
    }
}

/// Creates the error of a request that would be another one without this part.
pub(super) fn refused(feature: &str, part: &str, why: &str) -> LlmError {
    let part: String = part.chars().take(LONGEST).filter(|letter| !letter.is_control()).collect();
    LlmError::new(ErrorKind::UnsupportedFeature, format!("{feature} ({part}): {why}"))
}

/// Creates the error of a field that does not follow the API of Messages.
pub(super) fn invalid(field: &str, what: &str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, format!("{field}: {what}"))
}
