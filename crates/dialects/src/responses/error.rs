use http::StatusCode;

use crate::{
    ErrorKind, openai,
    protocol::{ErrorBody, Refusal},
    sentences::KnownMessage,
};

/// Classifies an error: by the codes of this API, then as Chat Completions does.
pub(super) fn classify(status: StatusCode, facts: &ErrorBody) -> ErrorKind {
    if refuses_sealed_reasoning(facts) {
        return ErrorKind::InvalidRequest;
    }
    let code = facts.code.as_deref().unwrap_or_default();
    match code {
        // The state is at another account, or gone: the provider is well, and another tier may hold it.
        "previous_response_not_found" => ErrorKind::NotFound,
        "image_content_policy_violation" | "bio_policy" | "cyber_policy" | "misalignment_policy_violation" => {
            ErrorKind::ContentPolicy
        }
        "vector_store_timeout" => ErrorKind::Timeout,
        // From a gateway of ours, whose errors have OpenAI's codes alone.
        "server_error" if status == StatusCode::GATEWAY_TIMEOUT => ErrorKind::Timeout,
        "data_residency_mismatch"
        | "invalid_image"
        | "invalid_image_format"
        | "invalid_base64_image"
        | "invalid_image_url"
        | "image_too_large"
        | "image_too_small"
        | "image_parse_error"
        | "invalid_image_mode"
        | "image_file_too_large"
        | "unsupported_image_media_type"
        | "empty_image_file"
        | "failed_to_download_image"
        | "image_file_not_found" => ErrorKind::InvalidRequest,
        _ => openai::classify(status, facts),
    }
}

/// The place of reasoning that only the account that made it can read.
pub(super) const SEALED: &str = "input.reasoning";

/// Returns the refusal of sealed reasoning, if the error is one.
pub(super) fn sealed_reasoning(facts: &ErrorBody) -> Option<Refusal> {
    refuses_sealed_reasoning(facts).then_some(Refusal::of_seal(SEALED))
}

fn refuses_sealed_reasoning(facts: &ErrorBody) -> bool {
    // Azure gives no code.
    facts.code.as_deref() == Some("invalid_encrypted_content")
        || facts.consists_of(&SEALED_ELSEWHERE)
        || (facts.consists_of(&NO_ITEM) && facts.message.contains("'rs_"))
}

const SEALED_ELSEWHERE: KnownMessage = KnownMessage {
    first: &["the encrypted content @ could not be verified", "the encrypted content for item @ could not be verified"],
    then: &[
        "reason encrypted content could not be decrypted or parsed",
        "reason encrypted content organization_id did not match the target organization",
    ],
};

const NO_ITEM: KnownMessage = KnownMessage {
    first: &["item with id @ not found"],
    then: &[
        "items are not persisted when `store` is set to false",
        "try again with `store` set to true or remove this item from your input",
    ],
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(error: serde_json::Value) -> ErrorBody {
        ErrorBody::of_error(&json!({ "error": error })).unwrap()
    }

    /// The messages are OpenAI's and Azure's, as their users report them.
    #[test]
    fn sealed_reasoning_is_refused_in_several_words() {
        let of_this_kind = [
            json!({"message": "The encrypted content gAAA...DQ== could not be verified.", "code": "invalid_encrypted_content"}),
            json!({"message": "The encrypted content gAAA...wXBV could not be verified.", "code": null}),
            json!({"message": "The encrypted content gAAA...Rg== could not be verified. Reason: Encrypted content could not be decrypted or parsed."}),
            json!({"message": "The encrypted content for item rs_0f26 could not be verified."}),
            json!({"message": "Item with id 'rs_0496' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input."}),
        ];
        for error in of_this_kind {
            let facts = read(error);
            assert_eq!(classify(StatusCode::BAD_REQUEST, &facts), ErrorKind::InvalidRequest, "{facts:?}");
            assert_eq!(classify(StatusCode::NOT_FOUND, &facts), ErrorKind::InvalidRequest, "{facts:?}");
            assert!(sealed_reasoning(&facts).is_some(), "{facts:?}");
        }
        let others = [
            json!({"message": "Item with id 'msg_0496' not found."}),
            json!({"message": "Invalid value: 'The encrypted content x could not be verified.'"}),
        ];
        for error in others {
            assert!(sealed_reasoning(&read(error.clone())).is_none(), "{error}");
        }
    }

    #[test]
    fn a_missing_response_is_no_failure_of_its_provider() {
        let facts =
            read(json!({"message": "Previous response with id 'resp_1' not found.", "type": "invalid_request_error",
            "param": "previous_response_id", "code": "previous_response_not_found"}));
        for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND] {
            assert_eq!(classify(status, &facts), ErrorKind::NotFound);
        }
        assert_eq!(ErrorKind::NotFound.circuit_counts(), steadfast_core::classify::Count::Neutral);
    }

    #[test]
    fn the_codes_of_a_failed_response_have_their_kinds() {
        for (code, kind) in [
            ("server_error", ErrorKind::Server),
            ("rate_limit_exceeded", ErrorKind::RateLimited),
            ("insufficient_quota", ErrorKind::QuotaExhausted),
            ("context_length_exceeded", ErrorKind::ContextLength),
            ("invalid_prompt", ErrorKind::ContentPolicy),
            ("image_too_large", ErrorKind::InvalidRequest),
            ("vector_store_timeout", ErrorKind::Timeout),
        ] {
            assert_eq!(classify(StatusCode::OK, &read(json!({"code": code, "message": "No."}))), kind, "{code}");
        }
    }
}
