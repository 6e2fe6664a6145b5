use super::*;

fn embedding(body: &str) -> OpaqueCall {
    OpaqueCall::json(Dialect::OpenAi, "/v1/embeddings", body.to_owned()).unwrap()
}

fn problem(call: &OpaqueCall, answer: &str) -> String {
    call.read(answer.as_bytes()).err().map(|error| error.message().to_owned()).unwrap_or_default()
}

#[test]
fn a_body_that_is_no_request_is_refused_with_what_is_wrong() {
    for (body, words) in [
        ("[]", "no JSON object"),
        (r#"{"model":1}"#, "`model` must be a text"),
        (r#"{"stream":"yes"}"#, "`stream` must be true or false"),
        (r#"{"model":"a","input":"x","mod\u0065l":"b"}"#, "`model` is there twice"),
        (r#"{"model":"a","input":"x","MODEL":"b"}"#, "`model` is there in other letters"),
    ] {
        let error = OpaqueCall::json(Dialect::OpenAi, "/v1/embeddings", body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.message().contains(words) && error.message().contains("/v1/embeddings"), "{error}");
    }
}

#[test]
fn vectors_of_each_form_are_counted() {
    let call = embedding(r#"{"model":"m","input":"x","encoding_format":"base64"}"#).vectors(Some(3));
    for answer in [
        r#"{"data":[{"object":"embedding","index":0,"embedding":[1,2,3]},{"embedding" : [ 1e-5 , -2.0, 3 ]}]}"#,
        r#"{"data":[{"embedding":"AAAAAAAAAAAAAAAA"}]}"#,
        // RFC 8259 allows a slash to be escaped, as PHP's `json_encode` does.
        r#"{"data":[{"embedding":"\/\/\/\/\/\/\/\/AAAAAAAA"}]}"#,
        r#"{"data":[{"embedding":"AAAA\/AAA\/\/AAAAAA"}]}"#,
        r#"{"embedding":{"values":[1,2,3]}}"#,
        r#"{"embeddings":[{"values":[1,2,3]},{"values":[4,5,6]}]}"#,
        r#"{"id":"x","embeddings":{"float":[[1,2,3],[4,5,6]]},"texts":["[1,2"]}"#,
        r#"{"embeddings":[[1,2,3] , [4,5,6]],"texts":["a"]}"#,
        r#"{"embeddings":{"int8":[[1,2,3]]}}"#,
    ] {
        assert_eq!(problem(&call, answer), "", "{answer}");
        let longer = answer.replacen("2", "2,9", 1).replacen("AAAA\"", "AAAAAAAA\"", 1);
        let words = problem(&call, &longer);
        assert!(words.starts_with("the answer has a vector of 4 dimensions, and 3 are those of m"), "{words}");
    }
    for answer in ["", "{}", r#"{"data":[]}"#, r#"{"object":"embedding"}"#, "<html>", r#"{"data":[{"embedding":[]}]}"#]
    {
        assert_ne!(problem(&call, answer), "", "{answer}");
    }
}

#[test]
fn the_length_that_was_asked_for_comes_before_the_spaces() {
    let answer = r#"{"data":[{"embedding":[1,2]}]}"#;
    assert_eq!(problem(&embedding(r#"{"model":"m","dimensions":2}"#).vectors(Some(3)), answer), "");
    assert_ne!(problem(&embedding(r#"{"model":"m","dimensions":3}"#).vectors(Some(2)), answer), "");
    let of_any = embedding(r#"{"model":"m"}"#).vectors(None);
    assert_eq!(problem(&of_any, answer), "");
    assert_ne!(problem(&of_any, r#"{"data":[{"embedding":[1,2]},{"embedding":[1,2,3]}]}"#), "");
    let text = r#"{"data":[{"embedding":"AAAA"}]}"#;
    assert_eq!(problem(&embedding(r#"{"model":"m"}"#).vectors(Some(9)), text), "", "of numbers of any size");
    let packed = embedding(r#"{"model":"m","output_dtype":"binary"}"#).vectors(Some(16));
    assert_eq!(problem(&packed, answer), "");
}

#[test]
fn what_was_billed_is_read_at_either_end() {
    let long = "1,".repeat(20_000);
    for (unit, answer, units) in [
        (Unit::Tokens, format!(r#"{{"d":[{long}1],"usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#), Some((8, 0))),
        (Unit::Tokens, format!(r#"{{"usage":{{"total_tokens":9}},"d":[{long}1]}}"#), Some((9, 0))),
        (Unit::Tokens, r#"{"meta":{"billed_units":{"input_tokens":3.0}}}"#.to_owned(), Some((3, 0))),
        (Unit::Tokens, r#"{"usageMetadata":{"promptTokenCount":11}}"#.to_owned(), Some((11, 0))),
        (Unit::Tokens, r#"{"usage":{"prompt_tokens":5,"completion_tokens":7}}"#.to_owned(), Some((5, 7))),
        (Unit::Tokens, r#"{"usage":"none"}"#.to_owned(), None),
        (Unit::Searches, r#"{"meta":{"billed_units":{"search_units":2}}}"#.to_owned(), Some((2, 0))),
        (Unit::Searches, "{}".to_owned(), Some((1, 0))),
        (Unit::Seconds, r#"{"text":"hi","usage":{"type":"duration","seconds":4}}"#.to_owned(), Some((4, 0))),
        (Unit::Fixed(12), String::new(), Some((12, 0))),
    ] {
        let call = embedding("{}").billed_by(unit);
        let used = call.read(answer.as_bytes()).unwrap().map(|usage| (usage.input, usage.output));
        assert_eq!(used, units, "{unit:?}");
    }
}

#[test]
fn debug_shows_no_text() {
    assert!(!format!("{:?}", embedding(r#"{"input":"secret plans"}"#)).contains("secret"));
}
