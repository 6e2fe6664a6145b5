//! A probe and its verdict.

use std::{fmt, pin::Pin};

use crate::{
    caller::Caller,
    prompt::Prompt,
    subject::Subject,
    upstreams::{Upstreams, Visits, reply},
};

/// A question to a gateway or provider, for a caller.
#[derive(Debug)]
pub struct Probe {
    /// The name: a group and a number or word, such as `faults/S06`.
    pub name: &'static str,
    /// The sentence that a pass makes true.
    pub title: &'static str,
    /// The reference that demands it.
    pub source: &'static str,
    pub(crate) needs: Needs,
    /// Returns whether the question makes sense for a caller.
    pub(crate) is_for: fn(Caller) -> bool,
    pub(crate) act: Act,
}

/// Makes a probe of an async function that returns an error for a fail, or a [`Verdict`].
macro_rules! probe {
    ($name:literal, $needs:ident, $is_for:expr, $act:ident, $title:literal, $source:expr) => {
        $crate::probe::Probe {
            name: $name,
            title: $title,
            source: $source,
            needs: $crate::probe::Needs::$needs,
            is_for: $is_for,
            act: |scene, caller| Box::pin(async move { $act(scene, caller).await.into() }),
        }
    };
}
pub(crate) use probe;

/// A probe's needs beside the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// A subject that has keys.
    Key,
    /// Simulated providers behind the subject.
    Upstreams,
    /// The same, whose health it changes.
    Faults,
}

pub(crate) type Act = for<'a> fn(&'a Scene<'a>, Caller) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// The end of a probe for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The promise holds.
    Pass,
    /// The caller heard of a failure after its answer had begun: it knows, and has to ask again.
    Told,
    /// It does not hold, with the observation.
    Fail(String),
    /// It was not asked, with the reason.
    Skip(String),
}

impl Verdict {
    /// Returns the word of a report: `pass`, `told`, `fail` or `skip`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Told => "told",
            Self::Fail(_) => "fail",
            Self::Skip(_) => "skip",
        }
    }

    /// Returns the observation or the reason.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Pass | Self::Told => "",
            Self::Fail(why) | Self::Skip(why) => why,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The error is the observation of a failed probe.
impl From<Result<(), String>> for Verdict {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Pass,
            Err(why) => Self::Fail(why),
        }
    }
}

/// The subject and the providers of a probe.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) upstreams: Option<&'a Upstreams>,
    pub(crate) visits: Option<[Visits; 2]>,
    /// The probe's and the caller's name, and a number of this run: no cache knows its prompts.
    pub(crate) topic: String,
}

impl Scene<'_> {
    /// Returns a prompt that was never asked before.
    pub(crate) fn prompt(&self) -> Prompt {
        Prompt::new(format!("Sixty words, please, on {}.", self.topic))
    }

    /// Returns the text of a whole answer, where it is known.
    pub(crate) fn reply(&self) -> Option<String> {
        self.upstreams.map(|_| reply())
    }

    /// Returns the providers, and what they saw since the probe began.
    ///
    /// # Errors
    ///
    /// The run has no simulated providers, and should not have asked this probe.
    pub(crate) fn providers(&self) -> Result<(&Upstreams, &Visits, &Visits), String> {
        match (self.upstreams, &self.visits) {
            (Some(upstreams), Some([primary, backup])) => Ok((upstreams, primary, backup)),
            _ => Err("no simulated providers".to_owned()),
        }
    }
}

/// The callers for whom a question makes sense: all, or those of streams or of whole answers alone.
pub(crate) const ALL: fn(Caller) -> bool = |_| true;
pub(crate) const STREAMS: fn(Caller) -> bool = |caller| caller.is_streamed;
pub(crate) const WHOLE: fn(Caller) -> bool = |caller| !caller.is_streamed;

/// Returns the observation as an error unless it is so.
pub(crate) fn ensure(is: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(why()) }
}
