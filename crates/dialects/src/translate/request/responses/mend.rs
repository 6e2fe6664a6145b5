//! Repairs a request of Responses whose earlier turn another provider answered.

use bytes::Bytes;
use memchr::memmem;

use crate::{
    Dialect, LlmError,
    chat::{Json, Opaque},
    fields::{Object, each, is_list},
    raw_json::RawJson,
    translate::{
        request::{
            mend::{Edits, place},
            report::Report,
        },
        rules::Feature,
        seals::AccountSeals,
    },
    wire::{
        foreign::{ENVELOPE, unseal},
        responses::sealed,
    },
};

/// Removes the reasoning items that another provider or account has signed. OpenAI refuses their `encrypted_content`,
/// and it knows no item of their ids. The items behind them stay: OpenAI asks for the reasoning of its own items alone.
pub(in crate::translate::request) fn mend(
    top: RawJson<'_>,
    body: &Bytes,
    report: &mut Report,
) -> Result<Edits, LlmError> {
    let mut edits = Edits::new();
    let Some(input) = Object::read(top, &["input"])?.get("input").filter(|input| is_list(input)) else {
        return Ok(edits);
    };
    let (mut list, mut any) = (String::from("["), false);
    let seals = report.seals().cloned();
    each(input, |item| {
        report.check_stopped()?;
        let repair = Repair::of(item, seals.as_deref())?;
        any |= !matches!(repair, Repair::None);
        let text = match &repair {
            Repair::None => item.get(),
            Repair::Rewritten(text) => text,
            Repair::Removed => {
                report.record(Feature::Reasoning);
                return Ok(());
            }
        };
        list.push_str(if list.len() > 1 { "," } else { "" });
        list.push_str(text);
        Ok(())
    })?;
    list.push(']');
    if any {
        edits.push((place(input, body), list));
    }
    Ok(edits)
}

/// The repair of an item.
enum Repair {
    /// The item stays.
    None,
    /// Another provider's or account's thought.
    Removed,
    /// OpenAI's own thought, without its envelope.
    Rewritten(String),
}

impl Repair {
    fn of(item: RawJson<'_>, seals: Option<&AccountSeals>) -> Result<Self, LlmError> {
        if seals.is_none() && memmem::find(item.get().as_bytes(), ENVELOPE.as_bytes()).is_none() {
            return Ok(Self::None);
        }
        let fields = Object::read(item, &["type", "id", "encrypted_content"])?;
        let token = fields.word("encrypted_content").unwrap_or_default();
        if fields.word("type").as_deref() != Some("reasoning") {
            return Ok(Self::None);
        }
        if !token.starts_with(ENVELOPE) {
            let is_anothers = seals.is_some_and(|seals| seals.is_sealed_elsewhere(Dialect::Responses, &token));
            return Ok(if is_anothers { Self::Removed } else { Self::None });
        }
        let is_anothers = |opaque: &Opaque| seals.is_some_and(|seals| seals.is_anothers(opaque));
        let unsealed = unseal(token.into_owned(), Dialect::Responses, true);
        let own = unsealed.filter(|unsealed| !unsealed.of_call).map(|unsealed| unsealed.opaque);
        Ok(match own.filter(|opaque| opaque.dialect == Dialect::Responses && !is_anothers(opaque)) {
            Some(own) => Self::Rewritten(rewritten(item, &fields, &own.token)),
            None => Self::Removed,
        })
    }
}

/// Writes the id and the content of a thought whose answer had begun under another id.
fn rewritten(item: RawJson<'_>, fields: &Object<'_>, token: &str) -> String {
    let (id, encrypted) = sealed::split(token);
    let mut edits = vec![(fields.get("encrypted_content"), encrypted)];
    if !id.is_empty() {
        edits.push((fields.get("id"), id));
    }
    let text = item.get();
    let start = |raw: RawJson<'_>| raw.get().as_ptr() as usize - text.as_ptr() as usize;
    let mut edits: Vec<(RawJson<'_>, &str)> =
        edits.into_iter().filter_map(|(raw, value)| Some((raw?, value))).collect();
    edits.sort_by_key(|(raw, _)| start(*raw));
    let (mut repaired, mut kept) = (String::with_capacity(text.len()), 0);
    for (raw, value) in edits {
        repaired.push_str(&text[kept..start(raw)]);
        repaired.push_str(Json::from(serde_json::Value::from(value)).as_str());
        kept = start(raw) + raw.get().len();
    }
    repaired.push_str(&text[kept..]);
    repaired
}
