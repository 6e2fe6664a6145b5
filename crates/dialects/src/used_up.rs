//! Accounts that are used up: what providers call an empty balance, and a limit of spending that is reached.
//!
//! Providers have no common status for it (400, 401, 402, 403, 412, 429, 500, and a 200), and many speak another one's
//! protocol. So the names and sentences of all count in every protocol; the
//! [table](super::sentences) has them.

use http::StatusCode;

use super::{protocol::ErrorBody, sentences::KnownMessage};
use crate::ErrorKind;

/// Returns true if the account is used up by a code, a type, the number in the place of a code, or by the message as a
/// whole.
pub(super) fn is_said(status: StatusCode, facts: &ErrorBody) -> bool {
    let of_account = Some(ErrorKind::QuotaExhausted);
    facts.kind_by_name(status) == of_account || facts.kind_by_sentence(status) == of_account
}

/// Returns true if a request asks for more than the rest of a balance covers. It fails alone, for the account serves
/// smaller ones. To believe these words closes nobody off, so that a part of the message is enough.
pub(super) fn is_one_requests(status: StatusCode, facts: &ErrorBody) -> bool {
    let affords = facts.message.split_once("can only afford ").is_some_and(|(_, rest)| !rest.starts_with('0'));
    match status.as_u16() {
        // The same words with a zero say that nothing is left.
        402 | 403 if facts.kind_by_sentence(status).is_some() => false,
        402 => affords || facts.consists_of(&MORE_THAN_IS_LEFT),
        403 => facts.consists_of(&MORE_THAN_IS_LEFT),
        _ => false,
    }
}

/// A request for more than the rest of a balance covers. The account serves smaller ones.
const MORE_THAN_IS_LEFT: KnownMessage = KnownMessage {
    first: &[
        "this request requires more credits or fewer max_tokens you requested up to # tokens but can only afford #",
        "prompt tokens limit exceeded # > #",
        "more credits are required to run this request # token capacity required # available",
    ],
    then: &[
        "to increase visit @ and upgrade to a paid account",
        "to increase visit @ and add more credits",
        "to increase visit @ and create a key with a higher @ limit",
    ],
};

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use serde_json::{Value, json};

    use crate::codec::Codec;

    use crate::{Dialect, ErrorKind};

    /// Answers of providers whose account is used up, as their documentation or their users show them.
    fn bodies() -> Vec<(u16, Value)> {
        let claude = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
        let open = |kind: Value, code: Value, message: &str| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        let limits =
            "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.";
        let low = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.";
        let team = "Your team 16f2151a-40f4 has either used all available credits or reached its monthly spending limit. To continue making API requests, please purchase more credits or raise your spending limit.";
        vec![
            (400, claude("invalid_request_error", limits)),
            (400, claude("invalid_request_error", low)),
            (402, claude("billing_error", "There's an issue with your billing.")),
            (429, claude("rate_limit_error", limits)),
            (500, claude("api_error", "insufficient balance (1008)")),
            (429, open(json!("insufficient_quota"), json!("insufficient_quota"), "You exceeded your current quota.")),
            (
                402,
                open(
                    Value::Null,
                    json!(402),
                    "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
                ),
            ),
            (
                403,
                open(
                    Value::Null,
                    json!(403),
                    "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
                ),
            ),
            (403, open(Value::Null, json!(403), "Key limit exceeded. Manage it using https://openrouter.ai/keys")),
            (
                402,
                open(
                    Value::Null,
                    json!(402),
                    "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford 0. To increase, visit https://openrouter.ai/settings/keys and create a key with a higher monthly limit",
                ),
            ),
            (403, json!({"code": 30001, "message": "Sorry, your account balance is insufficient", "data": null})),
            (403, open(json!("new_api_error"), json!("insufficient_user_quota"), "用户额度不足")),
            (
                403,
                open(
                    json!("one_api_error"),
                    json!("insufficient_user_quota"),
                    "user quota is not enough (request id: 2024)",
                ),
            ),
            (403, json!({"code": "INSUFFICIENT_BALANCE", "message": "Insufficient account balance"})),
            (
                400,
                open(
                    json!("Arrearage"),
                    json!("Arrearage"),
                    "Access denied, please make sure your account is in good standing.",
                ),
            ),
            (
                400,
                json!({"code": "Arrearage", "message": "Access denied. For details, see: https://help.aliyun.com/x#overdue-payment", "request_id": "8af5"}),
            ),
            (
                412,
                open(
                    json!("error"),
                    json!("PRECONDITION_FAILED"),
                    "Account acme is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices. Please go to https://fireworks.ai/account/billing for more information.",
                ),
            ),
            (429, open(json!("budget_exceeded"), json!("429"), "The budget of your team is spent")),
            (
                400,
                open(
                    json!("auth_error"),
                    json!(400),
                    "Budget has been exceeded! Current cost: 0.0010747, Max budget: 0.0",
                ),
            ),
            (
                400,
                open(
                    json!("auth_error"),
                    json!(400),
                    "ExceededBudget: End User=ishaan3 over budget. Spend=0.0008, Budget=0.0001",
                ),
            ),
            (
                429,
                json!({"error": {"http_code": "429", "message": "insufficient balance (1008)", "type": "insufficient_balance_error"}}),
            ),
            (402, open(json!("unknown_error"), json!("invalid_request_error"), "Insufficient Balance")),
            (
                402,
                open(
                    json!("credit_limit"),
                    Value::Null,
                    "Credit limit exceeded. Please navigate to https://api.together.xyz/settings/billing to add credit or upgrade your plan.",
                ),
            ),
            (
                403,
                json!({"code": "The caller does not have permission to execute the specified operation", "error": team}),
            ),
            (429, json!({"code": "Some resource has been exhausted", "error": team})),
            (429, open(Value::Null, json!("1113"), "余额不足或无可用资源包,请充值。")),
            (429, open(json!("exceeded_current_quota_error"), Value::Null, "Your account org-1 is suspended")),
            (
                429,
                json!({"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 9}}),
            ),
        ]
    }

    fn kind_of(dialect: Dialect, status: u16, body: &Value) -> ErrorKind {
        let status = StatusCode::from_u16(status).expect("a status");
        Codec::new(dialect).error(status, &HeaderMap::new(), body.to_string()).kind()
    }

    /// The protocols that servers of other makers speak, too.
    const SPOKEN: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Responses];

    #[test]
    fn a_used_up_account_is_known_however_its_provider_says_it_and_in_any_protocol() {
        for (status, body) in bodies() {
            // By this type OpenAI's servers tell of a rate, whatever the words.
            let is_claudes = body.pointer("/error/type").is_some_and(|kind| kind == "rate_limit_error");
            for dialect in SPOKEN.into_iter().filter(|dialect| !is_claudes || *dialect == Dialect::Anthropic) {
                assert_eq!(kind_of(dialect, status, &body), ErrorKind::QuotaExhausted, "{dialect:?} {status} {body}");
            }
        }
    }

    #[test]
    fn a_request_that_speaks_of_credit_is_still_the_callers() {
        let plain = [
            "The credit card field is invalid.",
            "messages.0.content: credit balance is no known block",
            "tools.0: insufficient_quota is no valid name",
            "Unknown field `budget_exceeded`",
        ];
        let echoes = bodies().into_iter().filter_map(|(_, body)| {
            let message = body.pointer("/error/message").or_else(|| body.get("message"))?.as_str()?.to_owned();
            Some(["messages.0.content: ", "Unknown text: '"].map(|before| format!("{before}{message}")))
        });
        for message in plain.map(str::to_owned).into_iter().chain(echoes.flatten()) {
            let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
            for dialect in SPOKEN {
                assert_eq!(kind_of(dialect, 400, &body), ErrorKind::InvalidRequest, "{dialect:?} {message}");
            }
        }
    }

    #[test]
    fn a_request_for_more_than_is_left_closes_no_account() {
        for message in [
            "This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 1200",
            "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford 3395. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account",
            "This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 1200. See https://openrouter.ai/docs",
            "Prompt tokens limit exceeded: 230799 > 91442. To increase, visit https://openrouter.ai/settings/keys and create a key with a higher monthly limit",
        ] {
            let body = json!({"error": {"message": message, "code": 402, "metadata": {"provider_name": null}}});
            let named = json!({"type": "error", "error": {"message": message, "type": "billing_error"}});
            for (dialect, body) in SPOKEN.into_iter().flat_map(|dialect| [(dialect, &body), (dialect, &named)]) {
                assert_eq!(kind_of(dialect, 402, body), ErrorKind::TooLarge, "{dialect:?} {message}");
            }
        }
    }
}
