//! The table of rules: the fate of each feature in each dialect. The table in the module's documentation is printed
//! from it.

#[cfg(test)]
use std::fmt::Write;

use crate::Dialect;

/// The fate of a feature in the dialect that a request is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives with its meaning. Nothing is reported.
    Carried,
    /// Only this dialect has the feature, so that none can come here from another one.
    Native,
    /// It arrives in another form, which the response reports.
    Changed(&'static str),
    /// It is left out, which the response reports; a strict leaf refuses the request instead.
    Dropped(&'static str),
    /// The request is refused with [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature), strict or
    /// not: the answer would be to another question.
    Refused(&'static str),
}

/// One row of the table of rules.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rule {
    /// The feature's name, at the start of notes and refusals.
    pub feature: &'static str,
    /// The feature in words.
    pub description: &'static str,
    /// The fate at Anthropic.
    pub anthropic: Fate,
    /// The fate at OpenAI and compatible servers.
    pub openai: Fate,
    /// The fate at Gemini.
    pub gemini: Fate,
    /// The fate at OpenAI's Responses.
    pub responses: Fate,
}

impl Rule {
    /// Returns the fate of the feature in this dialect.
    pub fn at(&self, dialect: Dialect) -> Fate {
        match dialect {
            Dialect::Anthropic => self.anthropic,
            Dialect::OpenAi => self.openai,
            Dialect::Gemini => self.gemini,
            Dialect::Responses => self.responses,
        }
    }
}

use Fate::{Carried, Changed, Dropped, Native, Refused};

macro_rules! rules {
    ($($feature:ident $name:literal $what:literal $anthropic:expr, $openai:expr, $gemini:expr, $responses:expr;)+) => {
        /// A feature that not every dialect has: a row of [`RULES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Feature { $($feature),+ }

        impl Feature {
            pub(crate) fn rule(self) -> &'static Rule {
                &RULES[self as usize]
            }
        }

        /// The rules, one for each feature.
        pub const RULES: &[Rule] = &[$(Rule {
            feature: $name, description: $what, anthropic: $anthropic, openai: $openai, gemini: $gemini,
            responses: $responses,
        }),+];
    };
}

const SYSTEM: Fate = Changed("sent as a user's text that begins with `[system]`");
const FIRST: Fate = Changed("sent behind a user's text `(continued)`");
const EMPTY: Fate = Changed("sent with the text `(empty)`");
const PREFILL: Fate = Dropped("sent, but the model need not continue it");
const NAME: Fate = Changed("sent under a name that the provider takes; calls come back under the tool's own");
const ORPHAN: Fate = Changed("sent as a text");
const UNANSWERED: Fate = Changed("sent with an added result that reports none");
const ARGUMENTS: Fate = Changed("sent as a text under the key `invalid_arguments`");
const TEXT: Fate = Changed("sent as a text");
const UNSIGNED: Fate = Dropped("left out: not signed by this provider");
const MEANINGLESS: Fate = Dropped("left out: it means nothing here");
const FUNCTION: Fate = Changed("sent as a function with its documented schema");
const ONE_TEXT: Fate = Changed("sent as a function with one text; calls come back as free text");
const JOINED: Fate = Changed("sent under joined names; calls come back under the tool's own");
const ALONE: Fate = Changed("sent with the allowed tools alone");
const MOVED: Fate = Changed("moved into the description");
const ADDED: Fate = Changed("moved into the description; an array without `items` gets items of any kind");
const WITHIN: Fate = Changed("sent within an object, which is taken off the answer");
const LAX: Fate = Changed("sent without `strict`: OpenAI's strict mode does not take the schema");
const IN_WORDS_TOO: Fate =
    Changed("requested in words too if no message has the word `json`, which the provider requires");
const FAILED: Fate = Changed("sent in words: the text begins with `Error: `");
const UPLOADED: Fate = Refused("the file is at another provider");
const MEDIA: Fate = Refused("the provider takes JPEG, PNG, GIF, WebP and PDF");
const FETCH: Fate = Refused("nothing is fetched on the caller's behalf");
const STATE: Fate = Refused("the conversation's state is at another provider");
const CACHED: Fate = Refused("a part of the conversation is at another provider");
const FORCED: Fate = Refused("only its own provider runs the tool that the model must call");
const OWN: Fate = Dropped("left out: only its own dialect knows it");
const NONE: Fate = Dropped("left out: the provider has no equivalent");
const ANSWER: Fate = Dropped("left out: the answer could not carry it back");
const REFUSED: Fate = Dropped("left out: the model refuses it");
const THOUGHTLESS: Fate = Dropped("left out: the model does not reason");
const WISH: Fate = Dropped("requested in words only: the model cannot be forced");
const PRIVATE: Fate = Dropped("left out: not passed to another provider");
const FOUR: Fate = Dropped("only four were sent");
const COLD: Fate = Dropped("left out: another provider's cache does not help");
const WORDS: Fate = Changed("requested in words: the model cannot be held to it, or not together with tools");
const LONGEST: Fate = Changed("set as the longest answer: the caller set no limit, or one above the model's");
const RANGE: Fate = Changed("brought into the range from 0 to 2");
const NOT_SAMPLED: Fate = Dropped("left out: not allowed with reasoning, or with this model");
const NEAREST: Fate = Changed("sent as the nearest that the model has");
const LEAST: Fate = Changed("sent as the least possible: the model always reasons");
const LEFT: Fate = Changed("left to the model, or sent as a medium effort");

/// The name under which a request carries the wish for an answer without thoughts, on its way to an encoder.
pub(crate) const HIDDEN: &str = "thoughts.hidden";

rules! {
    MidSystem "system_in_the_middle" "a system message after the first turn" SYSTEM, Carried, SYSTEM, Carried;
    FirstTurn "first_turn" "a conversation that begins with the model's turn" FIRST, Carried, FIRST, Carried;
    Prefill "prefill" "a last turn of the model's, for it to continue"
        Changed("sent without white space at its end, and before a user's text `(go on)` if the model does not continue answers"),
        PREFILL, PREFILL, PREFILL;
    EmptyText "empty_text" "a conversation without content" EMPTY, Carried, EMPTY, Carried;
    ParticipantName "participant_name" "a message's `name`" NONE, Native, NONE, NONE;
    OwnPart "own_part" "a part that only one dialect has (audio, executed code, a web search in the history)"
        OWN, OWN, OWN, OWN;
    TextDocument "text_document" "a document that is a text, or a search result" TEXT, TEXT, TEXT, TEXT;
    Refusal "refusal" "a turn in which the model declined, in its own field" TEXT, Carried, TEXT, Carried;
    Reasoning "reasoning" "thoughts in the history that the target has not signed"
        UNSIGNED, Dropped("left out: not given by this server"), UNSIGNED, UNSIGNED;
    CallSignature "call_signature" "Gemini's signature of a tool call in the history"
        MEANINGLESS, MEANINGLESS,
        Changed("sent with the stand-in that Google documents for other models' calls"), MEANINGLESS;
    Citations "citations" "citations asked for, or in a text" OWN, NONE, NONE, NONE;
    ToolName "tool_name" "a tool's name that the target does not take" NAME, NAME, NAME, NAME;
    ServerTool "server_tool" "a tool that runs at the provider, or that only its models know (web search, code execution)"
        OWN, OWN, OWN, OWN;
    ForcedServerTool "forced_server_tool" "a forced call of such a tool" FORCED, FORCED, FORCED, FORCED;
    ClientTool "client_tool" "a tool of Anthropic's that the caller runs (bash, text editor, computer, memory)"
        Native, FUNCTION, FUNCTION, FUNCTION;
    CustomTool "custom_tool" "a tool that takes free text" ONE_TEXT, ONE_TEXT, ONE_TEXT, Native;
    Namespace "namespace" "tools in a namespace" JOINED, JOINED, JOINED, Native;
    ToolSetting "tool_setting" "a setting of a tool that only one dialect has" OWN, OWN, OWN, OWN;
    AllowedTools "allowed_tools" "a tool choice among several named tools" ALONE, ALONE, ALONE, ALONE;
    ParallelOff "parallel_tool_calls" "at most one tool call in an answer" Carried, Carried, NONE, Carried;
    SchemaKeywords "schema_keywords" "keywords of a JSON Schema that the target refuses, or misses" MOVED, ADDED, MOVED, ADDED;
    SchemaRoot "schema_root" "a JSON Schema for the answer whose root is no object" Carried, WITHIN, Carried, WITHIN;
    Strict "strict" "a schema that the provider must hold the model to"
        Changed("sent without `strict`: Anthropic does not hold a model to the schema, or to no more of them"), LAX,
        Dropped("left out for tools: the provider does not hold the model to their schemas"), LAX;
    JsonMode "json_mode" "JSON output without a schema"
        Changed("requested in words: the provider has no mode for it"), IN_WORDS_TOO, Carried, IN_WORDS_TOO;
    Arguments "invalid_arguments" "a tool call in the history whose arguments are not a JSON object"
        ARGUMENTS, Carried, ARGUMENTS, Carried;
    OrphanResult "orphan_result" "a tool's result without a call in the turn before" ORPHAN, ORPHAN, ORPHAN, ORPHAN;
    Unanswered "unanswered_call" "a tool call without a result in the turn after"
        UNANSWERED, UNANSWERED, UNANSWERED, UNANSWERED;
    ToolError "tool_error" "the mark that a tool failed" Carried, FAILED, Carried, FAILED;
    ToolMedia "tool_media" "parts of a tool's result beside text"
        Carried, Changed("sent in a user's turn after it"), Changed("sent beside it in the same turn"), Carried;
    UrlImage "image_url" "a picture at a web address" Carried, Carried, Carried, Carried;
    UrlDocument "document_url" "a document at a web address" Carried, FETCH, Carried, Carried;
    UploadedFile "uploaded_file" "a file that was uploaded to one provider" UPLOADED, UPLOADED, UPLOADED, UPLOADED;
    State "state" "an earlier answer, a conversation, an item or a prompt that one provider keeps, or an answer in the background"
        STATE, STATE, STATE, Native;
    MediaType "media_type" "a picture or file of a type that not all providers take"
        MEDIA, MEDIA, Refused("the provider takes no pictures of this type"), MEDIA;
    FileName "file_name" "a document's name" Carried, Carried, NONE, Carried;
    ImageDetail "image_detail" "how closely to look at a picture" NONE, Carried, NONE, Carried;
    Stops "stop" "more stop texts than the provider takes, or some of white space"
        Dropped("those of white space were left out"), Dropped("only the first four were sent"),
        Dropped("only the first five were sent"), NONE;
    Temperature "temperature" "a temperature that is out of range"
        Changed("brought into the range from 0 to 1"), RANGE, RANGE, RANGE;
    Sampling "sampling" "temperature and top_p for a model that takes none or only one"
        Dropped("left out: not allowed with thinking, with this model, or in this version of the API"),
        NOT_SAMPLED, Carried, NOT_SAMPLED;
    TopK "top_k" "sampling from the most likely k tokens" Carried, NONE, Carried, NONE;
    Seed "seed" "a seed for sampling" NONE, Carried, Carried, NONE;
    Penalties "penalties" "presence and frequency penalties" NONE, Carried, Carried, NONE;
    LogitBias "logit_bias" "a bias for single tokens" NONE, Native, NONE, NONE;
    Choices "choices" "several answers at once" ANSWER, ANSWER, ANSWER, ANSWER;
    Logprobs "logprobs" "the probabilities of tokens" ANSWER, ANSWER, ANSWER, ANSWER;
    Include "include" "more about the answer than its content (search results, a program's output)"
        ANSWER, ANSWER, ANSWER, Native;
    Modalities "modalities" "an answer in sound or pictures" ANSWER, ANSWER, ANSWER, ANSWER;
    Prediction "prediction" "a predicted answer" NONE, Native, NONE, NONE;
    Verbosity "verbosity" "how many words the answer has" NONE, Carried, NONE, Carried;
    Truncation "truncation" "what to do with a conversation that is too long" NONE, NONE, NONE, Native;
    ModelSetting "model_setting" "a setting that the model refuses and other models of its provider take"
        REFUSED, REFUSED, REFUSED, REFUSED;
    ModelReasoning "model_reasoning" "reasoning for a model without it" THOUGHTLESS, THOUGHTLESS, THOUGHTLESS, THOUGHTLESS;
    ForcedTool "forced_tool" "a forced tool call for a model that cannot be forced" WISH, WISH, Carried, WISH;
    JsonInWords "json_in_words" "JSON output that the model cannot be held to, or not beside tools" WORDS, WORDS, WORDS, WORDS;
    MaxOutput "max_output" "the longest answer, if none is set or the model gives less" LONGEST, LONGEST, LONGEST, LONGEST;
    Thinking "thinking" "thinking where it is not possible"
        Dropped("left out: not allowed with a forced tool call, a begun answer, a small max_tokens, or tool turns without thoughts"),
        Dropped("left out: not allowed with tools"), Carried, Carried;
    ThinkingBudget "thinking_budget" "a token budget for thinking" NEAREST, NEAREST, NEAREST, NEAREST;
    ThinkingEffort "thinking_effort" "an effort of thinking" NEAREST, NEAREST, NEAREST, NEAREST;
    ThinkingAuto "thinking_auto" "thinking as much as the model decides"
        Changed("sent as a medium budget or effort, or left to the model"), LEFT, Carried, LEFT;
    ThinkingOff "thinking_off" "no thinking" LEAST, LEAST, LEAST, LEAST;
    ThoughtSummary "thought_summary" "a summary of the thoughts in the answer" Carried, NONE, Carried, Native;
    HiddenThoughts "hidden_thoughts" "an answer without the thoughts"
        Dropped("left out: the model cannot leave its thoughts out of the answer"), Native, Carried, Carried;
    Cache "cache" "marks and keys for the provider's cache, where the target takes none" COLD, COLD, COLD, COLD;
    CacheMarks "cache_marks" "more marks for the cache than Anthropic takes"
        FOUR, FOUR, Carried, Carried;
    CachedContent "cached_content" "a part of the conversation that is only in the provider's cache"
        CACHED, CACHED, Native, CACHED;
    EndUser "end_user" "an id of the end user" PRIVATE, PRIVATE, PRIVATE, PRIVATE;
    Metadata "metadata" "labels, and settings for storage" OWN, OWN, OWN, OWN;
    ServiceTier "service_tier" "the provider's service tier or speed" OWN, OWN, OWN, OWN;
    Safety "safety_settings" "thresholds of the provider's filters" OWN, OWN, Native, OWN;
    OtherField "other_field" "any other field" OWN, OWN, OWN, OWN;
}

/// Returns the rules as a Markdown table.
#[cfg(test)]
pub(crate) fn table() -> String {
    let mut table = String::from(
        "| feature | what it is | to Anthropic | to OpenAI | to Gemini | to Responses |\n|---|---|---|---|---|---|\n",
    );
    let cell = |fate| match fate {
        Carried => "carried".to_owned(),
        Native => "its own".to_owned(),
        Changed(how) => format!("*changed*: {how}"),
        Dropped(how) => format!("**dropped**: {how}"),
        Refused(why) => format!("**refused**: {why}"),
    };
    for rule in RULES {
        let cells = [rule.anthropic, rule.openai, rule.gemini, rule.responses].map(cell);
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", rule.feature, rule.description, cells.join(" | "));
    }
    table
}
