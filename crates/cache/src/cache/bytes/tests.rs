use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Number, Value, json};

use super::{super::answer::Requester, *};
use crate::{
    CacheReason, Dialect, ErrorKind, Frame, LlmResponse, StreamEvent,
    body::Continued,
    chat::{
        Document, Extra, ExtraOf, FinishReason, Image, Media, Message, Opaque, Part, Reasoning, Role, ToolCall,
        ToolResult, Usage,
    },
};

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(vec![Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses])
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("JSON has no such number", Number::from_f64).prop_map(Value::Number),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((any::<String>(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn fields() -> impl Strategy<Value = Map<String, Value>> {
    vec((any::<String>(), value()), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn opaque() -> impl Strategy<Value = Opaque> {
    let parts = (dialect(), any::<String>(), any::<bool>());
    parts.prop_map(|(dialect, token, redacted)| Opaque { dialect, token, redacted })
}

fn media() -> impl Strategy<Value = Media> {
    prop_oneof![
        (any::<String>(), any::<String>()).prop_map(|(media_type, data)| Media::Base64 { media_type, data }),
        any::<String>().prop_map(Media::Url),
        any::<String>().prop_map(Media::File),
    ]
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<[u64; 5]>().prop_map(|[input, cache_read, cache_write, output, reasoning]| {
        let mut usage = Usage::new(input, output);
        (usage.cache_read, usage.cache_write, usage.reasoning) = (cache_read, cache_write, reasoning);
        usage
    })
}

fn finish() -> impl Strategy<Value = FinishReason> {
    prop_oneof![
        prop::sample::select(vec![
            FinishReason::Stop,
            FinishReason::ToolUse,
            FinishReason::Length,
            FinishReason::ContextFull,
            FinishReason::Filtered,
            FinishReason::Refusal,
            FinishReason::Paused,
        ]),
        any::<String>().prop_map(FinishReason::ModelError),
        any::<String>().prop_map(FinishReason::Other),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let text = any::<String>;
    let leaf = prop_oneof![
        text().prop_map(Part::Text),
        text().prop_map(Part::Refusal),
        media().prop_map(|media| Part::Image(Image { media })),
        (media(), option::of(text())).prop_map(|(media, name)| Part::Document(Document { media, name })),
        (text(), text(), text(), option::of(opaque())).prop_map(|(id, name, arguments, opaque)| {
            let mut call = ToolCall::new(id, name, arguments);
            call.opaque = opaque;
            Part::ToolCall(call)
        }),
        (text(), option::of(opaque())).prop_map(|(text, opaque)| Part::Reasoning(Reasoning { text, opaque })),
        (dialect(), value()).prop_map(|(dialect, value)| Part::Other { dialect, value: value.into() }),
        (prop::sample::select(vec![ExtraOf::Part, ExtraOf::Turn, ExtraOf::Answer]), dialect(), fields())
            .prop_map(|(of, dialect, fields)| Part::Extra { of, extra: Extra::new(dialect, fields) }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let parts = (any::<String>(), option::of(any::<String>()), vec(inner, 0..3), any::<bool>());
        parts.prop_map(|(id, name, content, is_error)| {
            let mut result = ToolResult::new(id, "");
            (result.name, result.content, result.is_error) = (name, content, is_error);
            Part::ToolResult(result)
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let role = prop::sample::select(vec![Role::System, Role::User, Role::Assistant]);
    let names = (option::of(any::<String>()), option::of(any::<String>()));
    (role, vec(part(), 0..4), option::of(finish()), option::of(usage()), names).prop_map(
        |(role, content, finish, usage, (id, model))| {
            let mut message = Message::new(role, content);
            (message.finish, message.usage, message.id, message.model) = (finish, usage, id, model);
            message
        },
    )
}

fn event() -> impl Strategy<Value = StreamEvent> {
    let (at, text) = (any::<u32>, any::<String>);
    prop_oneof![
        (option::of(text()), option::of(text())).prop_map(|(id, model)| StreamEvent::Start { id, model }),
        (at(), text()).prop_map(|(index, text)| StreamEvent::Text { index, text }),
        (at(), text()).prop_map(|(index, text)| StreamEvent::Reasoning { index, text }),
        (at(), text()).prop_map(|(index, text)| StreamEvent::Refusal { index, text }),
        (at(), text()).prop_map(|(index, json)| StreamEvent::Arguments { index, json }),
        (at(), opaque()).prop_map(|(index, opaque)| StreamEvent::Signature { index, opaque }),
        (at(), text(), text(), option::of(opaque())).prop_map(|(index, id, name, opaque)| StreamEvent::ToolCall {
            index,
            id,
            name,
            opaque
        }),
        (at(), part()).prop_map(|(index, part)| StreamEvent::Part { index, part }),
        usage().prop_map(StreamEvent::Usage),
        finish().prop_map(StreamEvent::Finish),
        prop::sample::select(vec![StreamEvent::End, StreamEvent::KeepAlive, StreamEvent::Other]),
        prop::sample::select(ErrorKind::ALL).prop_map(|reason| StreamEvent::Restarted { reason }),
        (prop::sample::select(ErrorKind::ALL), at(), text(), vec(option::of(text()), 4)).prop_map(
            |(reason, index, so_far, names)| {
                let mut place = Continued::new(reason, so_far, index);
                (place.tier, place.model) = (names[0].clone().map(Into::into), names[1].clone().map(Into::into));
                place.begun_as = (names[2].clone(), names[3].clone());
                StreamEvent::Continued(Box::new(place))
            }
        ),
    ]
}

fn raw() -> impl Strategy<Value = Option<(Dialect, Bytes)>> {
    option::of((dialect(), vec(any::<u8>(), 0..60).prop_map(Bytes::from)))
}

fn frame() -> impl Strategy<Value = Frame> {
    (raw(), vec(event(), 0..3)).prop_map(|(raw, events)| {
        let frame = Frame::events_of(events);
        match raw {
            Some((dialect, raw)) => frame.with_raw(dialect, raw),
            None => frame,
        }
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let name = || option::of(any::<String>().prop_map(Arc::<str>::from));
    let reason = prop_oneof![
        prop::sample::select(ErrorKind::ALL).prop_map(DegradedReason::Failure),
        prop::sample::select(vec![
            DegradedReason::SteppedDown,
            DegradedReason::Pinned,
            DegradedReason::Drained,
            DegradedReason::Route,
            DegradedReason::Order,
        ]),
    ];
    let degraded = option::of((2u8..=5, reason).prop_map(|(level, reason)| Degradation::new(level, reason)));
    let times = (any::<Duration>(), any::<Duration>());
    let names = (name(), name(), name(), name(), name(), name());
    (names, vec(any::<String>(), 0..3), degraded, times).prop_map(
        |((provider, model, feature, tenant, session, task), notes, degraded, (fresh_for, stale_for))| {
            let notes: Vec<_> = notes.into_iter().map(Cow::Owned).collect();
            let made_at = Instant::now();
            let older_by = Duration::ZERO;
            let notes = notes.into();
            Facts {
                provider,
                model,
                notes,
                degraded,
                feature,
                tenant,
                session,
                task,
                made_at,
                older_by,
                fresh_for,
                stale_for,
            }
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (message(), raw(), facts()).prop_map(|(message, raw, facts)| {
            Answer::whole(message, raw.as_ref().map(|(dialect, raw)| (*dialect, raw)), facts)
        }),
        (vec(frame(), 0..5), facts()).prop_map(|(frames, facts)| Answer::stream(frames.into(), facts)),
    ]
}

fn assert_same(one: &Answer, other: &Answer) {
    assert_eq!((&one.message, one.size()), (&other.message, other.size()));
    match (&one.form, &other.form) {
        (Form::Whole(one), Form::Whole(other)) => assert_eq!(one, other),
        (Form::Stream(one), Form::Stream(other)) => {
            assert_eq!(one.len(), other.len());
            for (one, other) in one.iter().zip(other.iter()) {
                assert_eq!((one.raw(), one.events()), (other.raw(), other.events()));
            }
        }
        _ => panic!("it came in another form"),
    }
    let (one, other) = (&one.facts, &other.facts);
    assert_eq!((&one.provider, &one.model, &one.feature), (&other.provider, &other.model, &other.feature));
    assert_eq!((&one.tenant, &one.session, &one.task), (&other.tenant, &other.session, &other.task));
    assert_eq!((&one.notes, one.degraded, one.made_at), (&other.notes, other.degraded, other.made_at));
    assert_eq!((one.fresh_for, one.stale_for), (other.fresh_for, other.stale_for));
}

/// A time in 2026.
const TODAY: Duration = Duration::from_secs(1_790_000_000);

fn plain() -> Answer {
    let response = LlmResponse::from_text("hello").with_model("openai", "gpt-4o").with_note("a note");
    let hour = Duration::from_secs(3600);
    let requester = Requester { feature: Some("chat".into()), tenant: Some("ada".into()), session: Some("s-1".into()) };
    let facts = Facts::kept_for(&response, requester, hour, hour);
    Answer::whole(Message::assistant("hello"), Some((Dialect::OpenAi, &Bytes::from_static(b"{\"hello\": 1}"))), facts)
}

proptest! {
    #[test]
    fn an_answer_comes_back_as_it_was(answer in answer()) {
        let made = answer.facts.made_at;
        let bytes = answer.to_bytes_at(made, TODAY);
        assert_same(&answer, &Answer::from_bytes_at(&bytes, made, TODAY).unwrap());
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(Answer::from_bytes(&bytes).is_err(), "the checksum is not by chance");
        // The bytes behind the checksum must withstand any change too.
        let _ = Answer::read(VERSION, &mut Reader::new(&bytes), Instant::now(), TODAY);
    }

    #[test]
    fn an_answer_with_a_changed_byte_is_an_error(answer in answer(), at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut bytes = answer.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(Answer::from_bytes(&bytes).is_err());
        let said = &bytes[(1 + SUM).min(bytes.len())..];
        let _ = Answer::read(VERSION, &mut Reader::new(said), Instant::now(), TODAY);
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error(answer in answer(), at in any::<prop::sample::Index>()) {
        let bytes = answer.to_bytes();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Answer::from_bytes(cut).is_err());
        let said = &cut[(1 + SUM).min(cut.len())..];
        let _ = Answer::read(VERSION, &mut Reader::new(said), Instant::now(), TODAY);
    }
}

#[test]
fn an_age_goes_on_in_another_process() {
    let answer = plain();
    let made = answer.facts.made_at;
    let minute = Duration::from_secs(60);
    let bytes = answer.to_bytes_at(made + minute, TODAY);
    // Two minutes later, by a clock that began at another time.
    let now = made + 100 * minute;
    let again = Answer::from_bytes_at(&bytes, now, TODAY + 2 * minute).unwrap();
    assert_eq!(again.age(now), 3 * minute);
    assert!(again.is_fresh(now) && !again.is_fresh(now + 57 * minute) && again.is_usable(now + 57 * minute));
    let cached = again.response(false, CacheReason::Replayed, now).cached().unwrap();
    assert_eq!(cached.age, 3 * minute);
}

#[test]
fn an_answer_of_a_clock_that_is_ahead_is_new() {
    let answer = plain();
    let made = answer.facts.made_at;
    let bytes = answer.to_bytes_at(made, TODAY + Duration::from_secs(3600));
    assert_eq!(Answer::from_bytes_at(&bytes, made, TODAY).unwrap().age(made), Duration::ZERO);
}

#[test]
fn a_float_keeps_its_last_bit() {
    // A number that serde_json's own text does not preserve.
    let numbers: Vec<f64> = (0..2000).map(|seed| f64::from_bits(0x3fb9_9999_9999_0000 + seed)).collect();
    let mut message = Message::assistant("");
    message.content.push(Part::Other { dialect: Dialect::OpenAi, value: json!(numbers).into() });
    let answer = Answer::whole(message.clone(), None, plain().facts);
    assert_eq!(Answer::from_bytes(&answer.to_bytes()).unwrap().message, message);
}

#[test]
fn what_is_nested_without_end_is_an_error_and_no_overflow() {
    let nested = [6u8, 1].repeat(1_000_000);
    assert!(Reader::new(&nested).value().is_err());
    let deepest = [[6u8, 1].repeat(126), vec![6, 0]].concat();
    let text = "[".repeat(127) + &"]".repeat(127);
    assert_eq!(Reader::new(&deepest).value().unwrap().to_string(), text, "what was ever kept can be read");
}

#[test]
fn a_count_without_items_takes_no_room() {
    let mut writer = Writer::default();
    writer.number(u64::MAX);
    let bytes = writer.finish();
    assert!(Reader::new(&bytes).list(Reader::tag).is_err());
    assert!(Reader::new(&bytes).text().is_err());
    assert_eq!(Reader::new(&bytes).number().unwrap(), u64::MAX);
    assert!(Reader::new(&[0xff; 11]).number().is_err());
}

#[test]
fn versions_and_damage_are_told_apart() {
    let mut bytes = plain().to_bytes();
    let kind = |bytes: &[u8]| Answer::from_bytes(bytes).unwrap_err().kind();
    bytes[0] = VERSION + 1;
    assert_eq!(kind(&bytes), StoreErrorKind::NewerSchema);
    bytes[0] = 0;
    assert_eq!(kind(&bytes), StoreErrorKind::Corrupt);
    assert_eq!(kind(&[]), StoreErrorKind::Corrupt);
    assert_eq!(kind(&[VERSION]), StoreErrorKind::Corrupt);
}

#[test]
fn the_bytes_of_every_version_are_read_for_ever() {
    let answer = Answer::whole(Message::assistant("hi"), None, {
        let response = LlmResponse::from_text("hi").with_model("openai", "gpt-4o");
        Facts::kept_for(&response, Requester::default(), Duration::from_secs(60), Duration::ZERO)
    });
    let made = answer.facts.made_at;
    let bytes = answer.to_bytes_at(made, Duration::from_secs(1000));
    let said: &[u8] =
        b"\x01\x06openai\x01\x06gpt-4o\x00\x00\x00\xe8\x07\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00\x02hi\x00\x00\x00\x00";
    assert_eq!(&bytes[1 + SUM..], said, "a change of the pieces is a new version");
    assert_eq!(bytes[0], 2);
    let first: &[u8] =
        b"\x01\x06openai\x01\x06gpt-4o\x00\x00\x00\xe8\x07\x00\x3c\x00\x00\x00\x00\x02\x01\x00\x02hi\x00\x00\x00\x00";
    let first = [&[1][..], &sum(first), first].concat();
    assert_same(&answer, &Answer::from_bytes_at(&first, made, Duration::from_secs(1000)).unwrap());
}

#[test]
fn what_only_one_dialect_knows_was_pieces_in_version_1() {
    // A part `{"a":[1,true]}` of OpenAI's, and the field `b` of the part before it.
    let other = [&[7, 1, 7, 1, 1][..], b"a", &[6, 2, 2, 1, 1, 1]].concat();
    let extra = [&[8, 0, 1, 1, 1][..], b"b", &[5, 1], b"c"].concat();
    let part = |bytes: &[u8]| Reader::new(bytes).part().unwrap();
    assert_eq!(part(&other), Part::Other { dialect: Dialect::OpenAi, value: json!({"a": [1, true]}).into() });
    let fields = json!({"b": "c"});
    assert_eq!(part(&extra), Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::OpenAi, fields) });
}
