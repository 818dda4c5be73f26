//! Every message of every version against the kafka-protocol crate, which is generated from Apache
//! Kafka's own definitions: both decode the same bytes, to the same values under the same names, and
//! encode them back to the same bytes.

mod support;

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use support::{Sample, for_each_api, samples};

/// Versions kafka-protocol does not know yet, and the one they are like: ListOffsets 11 only gives a
/// new meaning to a timestamp (KIP-1023).
const NEWER: [(&str, i16, i16); 2] = [
    ("ListOffsetsRequest", 11, 10),
    ("ListOffsetsResponse", 11, 10),
];

/// Versions with topic ids in place of names (KIP-848), which kafka-protocol has for the responses
/// only: these are compared with the schema's own encoder alone.
const UNKNOWN: [(&str, i16); 2] = [("OffsetCommitRequest", 10), ("OffsetFetchRequest", 10)];

/// Tagged fields of our own (numbers from 10000 on): others keep them as bytes without a name.
const OURS: [&str; 5] = [
    "segments",
    "log_start_offset",
    "high_watermark",
    "from_offset",
    "to_offset",
];
const MESSAGES_WITH_OURS: [&str; 1] = ["DescribeLogDirsResponse"];

/// Numbers by value with the names of the fields that hold them, from a message's debug text.
/// Small ones are left out: defaults of fields that a version lacks.
fn named_numbers(debug: &str) -> BTreeMap<i64, Vec<String>> {
    let mut numbers: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (at, _) in debug.match_indices(": ") {
        let name = debug[..at]
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        let rest = debug[at + 2..].trim_start_matches(|c: char| c.is_alphabetic() || c == '(');
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse::<i64>() else {
            continue;
        };
        if number.unsigned_abs() > 1_000_000 {
            let name = name.unwrap_or_default().to_owned();
            numbers.entry(number).or_default().push(name);
        }
    }
    numbers
}

/// Compares one sample. `ours` and `our_bytes` are what the generated type made of it.
fn compare<K>(sample: &Sample, ours: &str, our_bytes: &[u8])
where
    K: Decodable + Encodable + Message + std::fmt::Debug,
{
    let what = format!("{} version {}", sample.name, sample.version);
    assert_eq!(
        our_bytes, sample.bytes,
        "{what}: not the bytes decoded\n{ours}"
    );
    if UNKNOWN.contains(&(sample.name.as_str(), sample.version)) {
        return;
    }
    let known = K::VERSIONS;
    let version = match NEWER.iter().find(|(name, ..)| *name == sample.name) {
        Some((_, newer, like)) if *newer == sample.version => *like,
        _ => sample.version,
    };
    assert!(
        (known.min..=known.max).contains(&version),
        "{what}: kafka-protocol knows {known:?}"
    );
    let mut bytes = Bytes::from(sample.bytes.clone());
    let theirs = K::decode(&mut bytes, version)
        .unwrap_or_else(|error| panic!("{what}: {error}\n{ours}\n{:x?}", sample.bytes));
    assert_eq!(
        bytes.remaining(),
        0,
        "{what}: they left bytes\n{ours}\n{theirs:?}"
    );
    let mut encoded = BytesMut::new();
    theirs
        .encode(&mut encoded, version)
        .expect("what was decoded encodes");
    assert_eq!(
        encoded, our_bytes,
        "{what}: other bytes\n{ours}\n{theirs:?}"
    );
    let their_numbers = named_numbers(&format!("{theirs:?}"));
    let has_ours = MESSAGES_WITH_OURS.contains(&sample.name.as_str());
    for (number, names) in named_numbers(ours) {
        if has_ours && names.iter().any(|name| OURS.contains(&name.as_str())) {
            continue;
        }
        let known = their_numbers.get(&number);
        assert_eq!(known, Some(&names), "{what}: {number}\n{ours}\n{theirs:?}");
    }
}

fn compare_all(sample: &Sample) -> bool {
    let mut known = false;
    macro_rules! one {
        ($module:ident $message:ident) => {
            if sample.name == stringify!($message) {
                known = true;
                let message =
                    highwater_wire::$module::$message::parse(sample.version, &sample.bytes);
                let message = message
                    .unwrap_or_else(|error| panic!("{} {}: {error}", sample.name, sample.version));
                let mut bytes = Vec::new();
                message
                    .encode(sample.version, &mut bytes)
                    .expect("what was decoded encodes");
                let ours = format!("{message:?}");
                compare::<kafka_protocol::messages::$message>(sample, &ours, &bytes);
            }
        };
    }
    macro_rules! every {
        ($($module:ident $request:ident $response:ident,)*) => {
            $(one!($module $request); one!($module $response);)*
        };
    }
    for_each_api!(every);
    known
}

#[test]
fn both_read_and_write_the_same() {
    let samples = samples(100, 2);
    assert!(samples.len() > 20_000, "{} samples", samples.len());
    for sample in &samples {
        assert!(
            compare_all(sample),
            "{} is missing from the table",
            sample.name
        );
    }
}

#[test]
fn named_numbers_sees_through_wrappers() {
    let text = "A { node_id: BrokerId(1234567), x: Some(-7654321), small: 12, list: [9999999] }";
    let numbers = named_numbers(text);
    assert_eq!(numbers.len(), 2);
    assert_eq!(numbers[&1_234_567], ["node_id"]);
    assert_eq!(numbers[&-7_654_321], ["x"]);
}
