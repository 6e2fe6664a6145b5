//! The file of a batch: requests of a caller's, which the provider makes later under the account's key.
//!
//! Each line is a request. The caller needs the right to its ids and models, as if it had sent the request here.

use std::collections::BTreeSet;

use axum::body::Body;
use futures_util::StreamExt;
use http_body_util::BodyDataStream;
use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;
use steadfast::{Dialect, ErrorKind, LlmError, Wire};

use crate::api::{
    conversation::item_ids,
    named_models::NamedModels,
    ownership::{Names, Scope},
};

/// The largest file that is read, and the longest line, in bytes. OpenAI takes 200 MB.
const MAX_FILE: usize = 256 << 20;
const MAX_LINE: usize = 32 << 20;
/// The largest number of ids and of models in a file.
const MAX_NAMES: usize = 10_000;

/// Returns the id of a new batch's file: one at least, and more where readers differ about which counts.
pub(super) fn files_of(json: &[u8]) -> BTreeSet<String> {
    Names::under("input_file_id", json)
}

/// The names in a file.
#[derive(Debug, Default)]
pub(super) struct BatchNames {
    pub(super) ids: BTreeSet<String>,
    pub(super) models: NamedModels,
}

/// Reads the names in a file.
///
/// # Errors
///
/// It breaks off, is too long, or names too much.
pub(super) async fn names_in(file: Body) -> Result<BatchNames, LlmError> {
    let invalid = |what: &str| Err(LlmError::new(ErrorKind::InvalidRequest, format!("the batch's file {what}")));
    let (mut names, mut line, mut length) = (BatchNames::default(), Vec::new(), 0);
    let mut pieces = BodyDataStream::new(file);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            LlmError::new(ErrorKind::StreamBroken, "the batch's file could not be read whole").with_source(error)
        })?;
        length += piece.len();
        let mut piece = &piece[..];
        while let Some(end) = memchr(b'\n', piece) {
            line.extend_from_slice(&piece[..end]);
            read(&mut names, &line)?;
            line.clear();
            piece = &piece[end + 1..];
        }
        line.extend_from_slice(piece);
        if length > MAX_FILE || line.len() > MAX_LINE {
            return invalid("is too long for this gateway to read what its requests name");
        }
        if names.ids.len().max(names.models.len()) > MAX_NAMES {
            return invalid("names more than 10,000 objects");
        }
    }
    read(&mut names, &line)?;
    Ok(names)
}

/// Adds the names in a line.
fn read(names: &mut BatchNames, line: &[u8]) -> Result<(), LlmError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        body: Option<&'a RawValue>,
    }
    let mut own = Names::of(Scope::Conversation(Dialect::OpenAi), line)?;
    names.ids.append(&mut own.ids);
    names.models.add(line);
    let body = serde_json::from_slice::<Line<'_>>(line).ok().and_then(|line| line.body);
    let wire = body.and_then(|body| Wire::new(Dialect::Responses, body.get().to_owned()).ok());
    names.ids.extend(wire.into_iter().flat_map(|wire| item_ids(&wire).referenced));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_of_a_file_is_read_however_it_comes() {
        let file = concat!(
            r#"{"custom_id":"file-1","url":"/v1/chat/completions","body":{"model":"a","messages":[{"content":[{"file":{"file_id":"file-2"}}]}]}}"#,
            "\n\n",
            r#"{"custom_id":"x","url":"/v1/responses","body":{"model":"b","input":[{"type":"item_reference","id":"rs_1"},{"type":"message","id":"msg_1","content":"x"}]}}"#,
        );
        for size in [1, 7, 64, file.len()] {
            let pieces = file.as_bytes().chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
            let names =
                names_in(Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))).await.unwrap();
            assert_eq!(names.ids.into_iter().collect::<Vec<_>>(), ["file-2", "rs_1"], "{size}");
            assert_eq!(names.models.iter().collect::<Vec<_>>(), ["a", "b"], "{size}");
        }
        assert_eq!(files_of(br#"{"input_file_id":"file-1","Input_File_ID":"file-2"}"#).len(), 2);
        assert!(files_of(b"{}").is_empty());
    }
}
