//! The ids and models that a request names, and the ids that an answer gives.

use std::collections::BTreeSet;

use steadfast::{Dialect, ErrorKind, LlmError};

use super::scan::{Field, scan};

/// The text in which names stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A request or an answer in this dialect that asks a model.
    Conversation(Dialect),
    /// A request for an object, or its answer, in this dialect.
    Object(Dialect),
    /// A path that the gateway does not know.
    Unknown,
}

/// The names in a request or an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// The ids, each once.
    pub(crate) ids: BTreeSet<String>,
    /// The models, each once.
    pub(crate) models: BTreeSet<String>,
}

/// The beginnings of ids that a provider looks up in a conversation.
const IN_CONVERSATIONS: [&str; 12] = [
    "file-",
    "file_",
    "assistant-",
    "cfile_",
    "vs_",
    "cntr_",
    "container_",
    "conv_",
    "resp_",
    "audio_",
    "skill_",
    "mcpr_",
];
/// The beginnings of the ids of other objects, and of their parts.
const OF_OBJECTS: [&str; 26] = [
    "batch_",
    "upload_",
    "asst_",
    "thread_",
    "msg_",
    "run_",
    "step_",
    "vsfb_",
    "ftjob-",
    "ftckpt_",
    "msgbatch_",
    "video_",
    "eval_",
    "evalrun_",
    "voice_",
    "cons_",
    "sess_",
    "cthr_",
    "rs_",
    "fc_",
    "ig_",
    "ci_",
    "ws_",
    "fs_",
    "cu_",
    "mcpl_",
];

/// The fields that name an object whatever their text is: providers give ids of any form.
const NAMING: [&str; 9] = [
    "file_id",
    "file_ids",
    "input_file_id",
    "vector_store_id",
    "vector_store_ids",
    "container_id",
    "previous_response_id",
    "training_file",
    "validation_file",
];
/// The fields that may name an object, beside all that end in `id` or `ids`.
const MAYBE: [&str; 8] =
    ["file", "files", "result_files", "last_error_file", "container", "conversation", "after", "before"];
/// The fields that end so, and have the caller's own words.
const CALLERS: [&str; 5] = ["custom_id", "call_id", "tool_call_id", "tool_use_id", "user_id"];
/// The fields in which no provider looks for an object.
const WORDS: [&str; 5] = ["metadata", "attributes", "parameters", "schema", "input_schema"];

/// The longest id, in bytes.
pub(super) const MAX_ID: usize = 256;
/// The largest number of ids that one text may have.
const MAX_IDS: usize = 10_000;

impl Names {
    /// Reads the names in JSON.
    ///
    /// # Errors
    ///
    /// There are too many, or the JSON is nested too deeply.
    pub(crate) fn of(scope: Scope, json: &[u8]) -> Result<Self, LlmError> {
        let mut names = Self::default();
        names.read(scope, json, |name, _| field(scope, name))?;
        Ok(names)
    }

    /// Reads the ids that an answer gives to its caller. With `is_new` the object itself is one, and so is each object
    /// of a list, whatever the form of its id is.
    pub(crate) fn given(scope: Scope, json: &[u8], is_new: bool) -> BTreeSet<String> {
        let mut names = Self::default();
        // An id over a limit stays unknown to the caller's next request.
        let _read = names.read(scope, json, |name, depth| match field(scope, name) {
            _ if is_new && name == "id" && (depth == 1 || depth == 3) => Field::Names,
            own => own,
        });
        names.ids
    }

    /// Returns the texts under a field, however often it is there.
    pub(crate) fn under(wanted: &str, json: &[u8]) -> BTreeSet<String> {
        let mut names = Self::default();
        let _read = names.read(Scope::Unknown, json, |name, _| match name.eq_ignore_ascii_case(wanted) {
            true => Field::Names,
            false => Field::Other,
        });
        names.ids
    }

    /// Reads the ids of a response's items, whatever their form is.
    pub(crate) fn items(json: &[u8]) -> BTreeSet<String> {
        let mut names = Self::default();
        let _read = names.read(Scope::Conversation(Dialect::Responses), json, |name, _| match name {
            "id" => Field::Names,
            _ if WORDS.contains(&name) => Field::Skipped,
            _ => Field::Other,
        });
        names.ids
    }

    fn read(&mut self, scope: Scope, json: &[u8], classify: impl Fn(&str, usize) -> Field) -> Result<(), LlmError> {
        let read = scan(json, classify, |field, text| {
            let names = match field {
                Field::Model => &mut self.models,
                _ => &mut self.ids,
            };
            if names.len() <= MAX_IDS
                && let Some(name) = name(scope, field, text)
            {
                names.insert(name);
            }
        });
        let invalid = |what: &str| Err(LlmError::new(ErrorKind::InvalidRequest, format!("the body {what}")));
        match read {
            Err(_) => invalid("is nested too deeply"),
            Ok(()) if self.ids.len().max(self.models.len()) > MAX_IDS => invalid("has more than 10,000 ids"),
            Ok(()) => Ok(()),
        }
    }

    /// Adds the ids in a field of a form, or in a parameter of a query. A list has commas.
    pub(crate) fn add(&mut self, scope: Scope, field: &str, value: &str) {
        let field = self::field(scope, field.trim_end_matches("[]"));
        for text in value.split(',').map(str::trim) {
            let is_id = is_id(scope, text);
            let own = if is_id { Some(text.to_owned()) } else { name(scope, field, text) };
            if let Some(own) = own {
                let names = if field == Field::Model { &mut self.models } else { &mut self.ids };
                names.insert(own);
            }
        }
    }
}

/// Returns true if a text has the form of an id.
pub(crate) fn is_id(scope: Scope, text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let begins = |beginnings: &[&str]| {
        beginnings.iter().any(|beginning| text.len() > beginning.len() && text.starts_with(beginning))
    };
    let is_known = begins(&IN_CONVERSATIONS) || !matches!(scope, Scope::Conversation(_)) && begins(&OF_OBJECTS);
    is_known && text.len() <= MAX_ID && text.bytes().all(is_plain)
}

fn name(scope: Scope, field: Field, text: &str) -> Option<String> {
    let is_name = match field {
        Field::Names | Field::Model => !text.is_empty(),
        Field::MayName => is_id(scope, text),
        Field::Address => return file_at_google(text),
        Field::Skipped | Field::Other => false,
    };
    is_name.then(|| text.to_owned())
}

/// Returns the treatment of a field.
fn field(scope: Scope, name: &str) -> Field {
    let is_one_of = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if scope == Scope::Conversation(Dialect::Gemini) {
        return googles(name);
    }
    let is_words = match scope {
        Scope::Unknown => name == "metadata",
        // A call of a tool, which a model wrote.
        Scope::Conversation(Dialect::Anthropic) | Scope::Object(Dialect::Anthropic) if name == "input" => true,
        _ => WORDS.contains(&name),
    };
    if is_words {
        return Field::Skipped;
    }
    if is_one_of(&NAMING) {
        return Field::Names;
    }
    if is_one_of(&CALLERS) {
        return Field::Other;
    }
    let last = |length: usize| name.len().checked_sub(length).and_then(|start| name.get(start..)).unwrap_or_default();
    if is_one_of(&MAYBE) || last(2).eq_ignore_ascii_case("id") || last(3).eq_ignore_ascii_case("ids") {
        return Field::MayName;
    }
    if name.eq_ignore_ascii_case("model") { Field::Model } else { Field::Other }
}

fn googles(name: &str) -> Field {
    match name {
        "fileUri" | "file_uri" => Field::Address,
        "cachedContent" | "cached_content" | "fileSearchStoreNames" | "file_search_store_names" => Field::Names,
        "args" | "response" | "parameters" | "parametersJsonSchema" | "parameters_json_schema" => Field::Skipped,
        "responseSchema" | "response_schema" | "responseJsonSchema" | "response_json_schema" => Field::Skipped,
        _ => Field::Other,
    }
}

/// Returns the name of a file that Google's API keeps, if the address is one's.
fn file_at_google(address: &str) -> Option<String> {
    let name = match address.split_once("://") {
        None => address,
        Some((_, rest)) => {
            let (host, path) = rest.split_once('/')?;
            let host = host.rsplit('@').next().unwrap_or(host).to_ascii_lowercase();
            // Addresses of buckets and of videos are anybody's.
            host.contains("generativelanguage").then_some(path)?
        }
    };
    let at = name.find("files/").unwrap_or_default();
    Some(name[at..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: Scope = Scope::Conversation(Dialect::OpenAi);
    const MESSAGES: Scope = Scope::Conversation(Dialect::Anthropic);
    const GEMINI: Scope = Scope::Conversation(Dialect::Gemini);
    const OBJECT: Scope = Scope::Object(Dialect::OpenAi);

    fn ids(scope: Scope, json: &str) -> Vec<String> {
        Names::of(scope, json.as_bytes()).unwrap().ids.into_iter().collect()
    }

    #[test]
    fn an_id_is_found_where_a_field_names_an_object() {
        for (scope, json, found) in [
            (OBJECT, r#"{"id":"file-1","object":"file","filename":"file-2","purpose":"batch"}"#, &["file-1"][..]),
            (OBJECT, r#"{"input_file_id":"file-1","output_file_id":null,"metadata":{"a_id":"file-2"}}"#, &["file-1"]),
            (OBJECT, r#"{"tool_resources":{"file_search":{"vector_store_ids":["vs_1","vs_2"]}}}"#, &["vs_1", "vs_2"]),
            (OBJECT, r#"{"training_file":"0a-1","model":"gpt-4o","file\u005fid":"file-2"}"#, &["0a-1", "file-2"]),
            (OBJECT, r#"{"content":"file-1","tool_call_id":"run_1","user_id":"me","id":"file-"}"#, &[]),
            (
                OBJECT,
                r#"[{"source":{"type":"file","file_id":"file_01"}},{"source":{"file_id":"file_01"}}]"#,
                &["file_01"],
            ),
            (OBJECT, r#"{"id":"file-../x"}"#, &[]),
            (OBJECT, r#"{"File_ID":"file-1","assistantId":"asst_1"}"#, &["asst_1", "file-1"]),
            (CHAT, r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#, &["file-1"]),
            (
                CHAT,
                r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}},{"tool_call_id":"fc_1"}]}"#,
                &["audio_1"],
            ),
            (CHAT, r#"{"tools":[{"function":{"parameters":{"properties":{"file_id":{"default":"file-1"}}}}}]}"#, &[]),
            (CHAT, r#"{"user":"file-1","id":"thread_1","metadata":{"file_id":"file-1"}}"#, &[]),
            (
                MESSAGES,
                r#"{"container":"container_1","messages":[{"content":[{"type":"tool_use","input":{"file_id":"x"}}]}]}"#,
                &["container_1"],
            ),
            (
                MESSAGES,
                r#"{"container":{"id":"container_1","skills":[{"type":"custom","skill_id":"skill_1"},{"skill_id":"pptx"}]}}"#,
                &["container_1", "skill_1"],
            ),
            (
                MESSAGES,
                r#"{"content":[{"type":"tool_result","content":[{"source":{"type":"file","file_id":"any"}}]}]}"#,
                &["any"],
            ),
            (
                GEMINI,
                r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/a1"}}]}]}"#,
                &["files/a1"],
            ),
            (
                GEMINI,
                r#"{"cachedContent":"cachedContents/c","x":{"file_uri":"https://youtu.be/1"},"y":{"file_uri":"gs://b/files/x"},"z":{"file_uri":"https://storage.googleapis.com/b/files/x"}}"#,
                &["cachedContents/c"],
            ),
            (
                GEMINI,
                r#"{"functionCall":{"args":{"fileUri":"files/1"}},"functionResponse":{"response":{"fileUri":"files/2"}}}"#,
                &[],
            ),
            (Scope::Unknown, r#"{"input":{"file_id":"a"},"parameters":{"video_id":"video_1"}}"#, &["a", "video_1"]),
            (OBJECT, "7.5", &[]),
        ] {
            assert_eq!(ids(scope, json), found, "{json}");
        }
        let many = |count: usize| {
            format!("{{\"ids\":[{}\"vs_0\"]}}", (1..count).map(|id| format!("\"vs_{id}\",")).collect::<String>())
        };
        assert_eq!(ids(OBJECT, &many(MAX_IDS)).len(), MAX_IDS);
        assert!(Names::of(OBJECT, many(MAX_IDS + 1).as_bytes()).is_err());
    }

    #[test]
    fn models_are_found_wherever_they_stand() {
        let json = br#"{"requests":[{"custom_id":"file-1","params":{"model":"a"}},{"params":{"model":"b"}}],"metadata":{"model":"c"}}"#;
        let names = Names::of(Scope::Object(Dialect::Anthropic), json).unwrap();
        assert_eq!((names.models.len(), names.ids.len()), (2, 0), "{names:?}");
    }

    #[test]
    fn a_list_in_a_query_has_commas() {
        let mut names = Names::default();
        for (field, value) in [("after", "file-1"), ("limit", "20"), ("any", "x,vs_1"), ("file_ids[]", "seven")] {
            names.add(OBJECT, field, value);
        }
        assert_eq!(names.ids.into_iter().collect::<Vec<_>>(), ["file-1", "seven", "vs_1"]);
    }

    #[test]
    fn an_answer_gives_ids_of_any_form_to_who_made_the_object() {
        let json = br#"{"id":"0a-1","data":[{"id":"0a-2","x":{"id":"0a-3"}}],"metadata":{"id":"file-1"}}"#;
        let given = |is_new| Names::given(OBJECT, json, is_new).into_iter().collect::<Vec<_>>();
        assert_eq!((given(true), given(false)), (vec!["0a-1".to_owned(), "0a-2".to_owned()], vec![]));
    }
}
