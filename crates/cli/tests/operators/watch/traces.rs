//! Traces, as a collector gets them.

use std::collections::BTreeMap;

use super::{harness::*, outage};

/// A protobuf message's fields of bytes, by their numbers; numbers and the like are left out.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        if tag & 7 == 2 {
            found.push((tag >> 3, field));
        }
        bytes = rest;
    }
    found
}

fn all(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter(move |(of, _)| *of == number).map(|(_, field)| field)
}

fn text(message: &[u8], number: u64) -> String {
    all(message, number).next().map(|field| String::from_utf8_lossy(field).into_owned()).unwrap_or_default()
}

struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    /// The attributes that are texts.
    attributes: BTreeMap<String, String>,
}

/// The spans of `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`, and the names of their services.
fn read(export: &[u8]) -> (Vec<Span>, Vec<String>) {
    let bytes = |span: &[u8], number| all(span, number).next().unwrap_or_default().to_vec();
    let attributes = |of: &[u8], number| -> BTreeMap<String, String> {
        let pairs = all(of, number).map(|pair| (text(pair, 1), all(pair, 2).next().map(|value| text(value, 1))));
        pairs.map(|(name, value)| (name, value.unwrap_or_default())).collect()
    };
    let (mut spans, mut services) = (Vec::new(), Vec::new());
    for resource_spans in all(export, 1) {
        services.extend(all(resource_spans, 1).filter_map(|resource| attributes(resource, 1).remove("service.name")));
        for span in all(resource_spans, 2).flat_map(|scope| all(scope, 2).collect::<Vec<_>>()) {
            spans.push(Span {
                trace: bytes(span, 1),
                id: bytes(span, 2),
                parent: bytes(span, 4),
                name: text(span, 5),
                attributes: attributes(span, 9),
            });
        }
    }
    (spans, services)
}

/// The spans that came to a collector while the primary failed and came back, and after the end.
fn traced(delay: &str) -> (Vec<Span>, Vec<String>) {
    let (collector, came) = receiver();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", delay)];
    let watched = Watched::start(&[], &environment);
    outage(&watched);
    let log = watched.log();
    let (mut spans, mut services) = (Vec::new(), Vec::new());
    for (path, export) in came.lock().unwrap().iter() {
        assert_eq!(path, "/v1/traces");
        for secret in SECRETS {
            assert!(!String::from_utf8_lossy(export).contains(secret));
        }
        let (more, of) = read(export);
        spans.extend(more);
        services.extend(of);
    }
    assert!(!spans.is_empty(), "{log}");
    (spans, services)
}

#[test]
fn a_collector_gets_a_span_of_each_request_with_its_attempts_below_it() {
    let (spans, services) = traced("100");
    assert!(services.iter().all(|name| name == "steadfast"), "{services:?}");
    let requests: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert!(requests.len() >= 6 && requests.iter().all(|span| span.trace.len() == 16), "{}", requests.len());
    let rescued = requests.iter().find(|span| span.attributes["steadfast.tier"] == "gpt").unwrap();
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.parent == rescued.id).collect();
    assert!(attempts.iter().all(|span| span.trace == rescued.trace));
    let tiers: Vec<&str> = attempts.iter().map(|span| span.attributes["steadfast.tier"].as_str()).collect();
    assert_eq!(tiers, ["sonnet", "sonnet", "gpt"]);
    assert_eq!(attempts[0].attributes["error.type"], "server");
    assert_eq!(attempts[2].name, "chat gpt-4o");
    assert_eq!(attempts[2].attributes["gen_ai.provider.name"], "openai");
}

#[test]
fn unsent_spans_are_sent_before_the_gateway_ends() {
    let (spans, _) = traced("600000");
    assert!(spans.iter().filter(|span| span.parent.is_empty()).count() >= 6);
}
