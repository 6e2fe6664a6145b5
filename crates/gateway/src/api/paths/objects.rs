//! The paths of objects that providers keep.

use http::HeaderMap;
use steadfast::Dialect;

use super::dialect_of;

/// A request for objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectCall {
    pub(crate) dialect: Dialect,
    /// The path behind the API's version.
    pub(crate) path: Box<str>,
    /// The id in the path: the outer one, where an object is in another.
    pub(crate) id: Option<Box<str>>,
    /// True if the path names the object itself, not a part or an action of it.
    pub(crate) is_object: bool,
    /// True if the path names the content of an object, which may be anything.
    pub(crate) is_content: bool,
}

/// The kinds of objects behind `/v1/`, with the dialect of those that one provider alone has.
pub(crate) const KINDS: [(&str, Option<Dialect>); 10] = [
    ("files", None),
    ("messages/batches", Some(Dialect::Anthropic)),
    ("uploads", Some(Dialect::OpenAi)),
    ("batches", Some(Dialect::OpenAi)),
    ("assistants", Some(Dialect::OpenAi)),
    ("threads", Some(Dialect::OpenAi)),
    ("vector_stores", Some(Dialect::OpenAi)),
    ("fine_tuning/jobs", Some(Dialect::OpenAi)),
    ("containers", Some(Dialect::OpenAi)),
    ("conversations", Some(Dialect::OpenAi)),
];

/// The paths, as an unknown path's error lists them.
pub(crate) const SERVED: [&str; 10] = [
    "/v1/files",
    "/v1/messages/batches",
    "/v1/uploads",
    "/v1/batches",
    "/v1/assistants",
    "/v1/threads",
    "/v1/vector_stores",
    "/v1/fine_tuning/jobs",
    "/v1/containers",
    "/v1/conversations",
];

/// The longest part of a path, in bytes.
const MAX_PART: usize = 256;
/// The largest number of parts behind the kind.
const MAX_PARTS: usize = 8;

impl ObjectCall {
    /// Returns true for a path that takes a file in a form.
    pub(crate) fn takes_forms(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').skip(1).collect();
        matches!(&parts[..], ["files"] | ["uploads", _, "parts"] | ["containers", _, "files"])
    }

    /// Returns the request that a path and its headers are, if it is one for objects.
    pub(crate) fn at(path: &str, headers: &HeaderMap) -> Option<Self> {
        let path = path.strip_prefix("/v1").filter(|path| path.starts_with('/'))?;
        let (parts, own) = KINDS.into_iter().find_map(|(kind, own)| {
            let rest = path[1..].strip_prefix(kind).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some((rest.strip_prefix('/'), own))
        })?;
        let dialect = match own.unwrap_or_else(|| dialect_of(path, headers)) {
            Dialect::Anthropic => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        };
        let parts: Vec<&str> = parts.map(|parts| parts.split('/').collect()).unwrap_or_default();
        // Sent with the provider's key: no part may lead to another path.
        if parts.len() > MAX_PARTS || !parts.iter().all(|part| is_plain(part)) {
            return None;
        }
        // `/threads/runs` makes a thread.
        let id = parts.first().filter(|part| **part != "runs").map(|part| Box::from(*part));
        Some(Self {
            dialect,
            path: path.into(),
            is_object: id.is_some() && parts.len() == 1,
            is_content: parts.len() > 1 && matches!(parts.last(), Some(&("content" | "results"))),
            id,
        })
    }
}

fn is_plain(part: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_PART).contains(&part.len()) && part.bytes().all(is_known) && !part.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_path_names_the_object_that_decides() {
        let of_anthropics = HeaderMap::from_iter([(
            http::HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static("2023-06-01"),
        )]);
        let at = |path: &str, headers: &HeaderMap| {
            ObjectCall::at(path, headers).map(|call| (call.dialect, call.id.map(String::from), call.is_object))
        };
        let none = HeaderMap::new();
        let id = |id: &str| Some(id.to_owned());
        for (path, expected) in [
            ("/v1/files", Some((Dialect::OpenAi, None, false))),
            ("/v1/files/file-1", Some((Dialect::OpenAi, id("file-1"), true))),
            ("/v1/files/file-1/content", Some((Dialect::OpenAi, id("file-1"), false))),
            ("/v1/messages/batches/msgbatch_1/results", Some((Dialect::Anthropic, id("msgbatch_1"), false))),
            ("/v1/threads/runs", Some((Dialect::OpenAi, None, false))),
            ("/v1/threads/thread_1/runs/run_1/steps", Some((Dialect::OpenAi, id("thread_1"), false))),
            ("/v1/fine_tuning/jobs/ftjob-1/cancel", Some((Dialect::OpenAi, id("ftjob-1"), false))),
            ("/v1/files/../chat/completions", None),
            ("/v1/files/%2e%2e/chat", None),
            ("/v1/files/a/../../responses", None),
            ("/v1/files/", None),
            ("/v1/files//content", None),
            ("/v1/filesystem", None),
            ("/v1/messages", None),
            ("/v1", None),
            ("/files", None),
        ] {
            assert_eq!(at(path, &none), expected, "{path}");
        }
        assert_eq!(at("/v1/files", &of_anthropics), Some((Dialect::Anthropic, None, false)));
        for (path, takes_forms) in [
            ("/v1/files", true),
            ("/v1/uploads/upload_1/parts", true),
            ("/v1/containers/cntr_1/files", true),
            ("/v1/files/file-1", false),
            ("/v1/containers", false),
            ("/v1/vector_stores/vs_1/files", false),
            ("/v1/assistants", false),
        ] {
            assert_eq!(ObjectCall::at(path, &none).unwrap().takes_forms(), takes_forms, "{path}");
        }
        assert!(ObjectCall::at("/v1/files/f/content", &none).unwrap().is_content);
        assert!(!ObjectCall::at("/v1/files/content", &none).unwrap().is_content);
    }
}
