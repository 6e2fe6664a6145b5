//! A response as a careful client understands it.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

/// An answer as its client read it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    /// The reason for the end.
    pub(crate) end: Option<End>,
    /// True once the dialect's end mark has come. An answer that is not a stream is its own mark.
    pub(crate) is_marked: bool,
    /// The message of an error in the dialect's form.
    pub(crate) error: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// The places where a client stumbles: no form of the dialect, something after the end.
    pub(crate) defects: Vec<String>,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The arguments as JSON.
    pub(crate) arguments: String,
}

/// The reason for an end, in no dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stop,
    Length,
    Call,
    Other(String),
}

impl Answer {
    pub(crate) fn new(status: u16, headers: HeaderMap) -> Self {
        Self {
            status,
            headers,
            text: String::new(),
            calls: Vec::new(),
            end: None,
            is_marked: false,
            error: None,
            model: None,
            input_tokens: None,
            output_tokens: None,
            defects: Vec::new(),
        }
    }

    /// Notes a place where a client stumbles.
    pub(crate) fn stumble(&mut self, defect: impl Into<String>) {
        // One of each answer is enough to mend it.
        if self.defects.len() < 4 {
            self.defects.push(defect.into());
        }
    }

    /// Takes the message of an error.
    pub(crate) fn tell(&mut self, error: &Value) {
        match error["message"].as_str() {
            Some(message) => self.error = Some(message.to_owned()),
            None => self.stumble("the error has no message"),
        }
    }

    /// Returns whether it is an answer, ended for this reason, without a defect.
    pub(crate) fn ended(&self, end: &End) -> bool {
        self.status == 200
            && self.error.is_none()
            && self.is_marked
            && self.end.as_ref() == Some(end)
            && self.defects.is_empty()
    }

    /// Returns whether the client has a whole text and its end: this one, where it is known.
    pub(crate) fn is_whole(&self, text: Option<&str>) -> bool {
        let is_it = text.map_or(!self.text.is_empty(), |text| self.text == text);
        self.ended(&End::Stop) && is_it
    }

    /// Returns whether the client hears of a failure, and had nothing but the beginning of a text before.
    pub(crate) fn is_told(&self, text: &str) -> bool {
        self.error.is_some() && self.defects.is_empty() && text.starts_with(&self.text)
    }
}

/// A summary for a report: no text of an answer, which may be long.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(defect) = self.defects.first() {
            write!(f, ", {defect}")?;
        }
        if let Some(error) = &self.error {
            let error: String = error.chars().take(160).collect();
            write!(f, ", error {error:?}")?;
        }
        if self.status == 200 {
            write!(f, ", {} characters", self.text.chars().count())?;
            match &self.end {
                Some(end) => write!(f, ", end {end:?}")?,
                None => write!(f, ", no reason for the end")?,
            }
            if !self.is_marked {
                write!(f, ", no end mark")?;
            }
        }
        Ok(())
    }
}
