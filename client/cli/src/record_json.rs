//! Records as JSON, one object per line: what `consume --json` prints and `produce --json` takes.
//!
//! Text stands as `NAME`, bytes that are no text as `NAME_base64`, so that nothing is lost.

use highwater_client::FetchedRecord;
use highwater_client::consumer::Fetched;
use serde_json::{Map, Value, json};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A record read from JSON, to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

/// The line of a fetched record, without its end.
pub(crate) fn line_of(fetched: &Fetched, record: &FetchedRecord) -> String {
    let mut object = Map::new();
    object.insert("topic".to_string(), json!(*fetched.topic));
    object.insert("partition".to_string(), json!(fetched.partition));
    object.insert("offset".to_string(), json!(record.offset));
    object.insert("timestamp".to_string(), json!(record.timestamp));
    put_bytes(&mut object, "key", record.key.as_deref());
    put_bytes(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".to_string(), json!(name));
        put_bytes(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    object.insert("headers".to_string(), headers.collect());
    Value::Object(object).to_string()
}

fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_string(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_string(), json!(text)),
        Some(Err(_)) => object.insert(
            format!("{name}_base64"),
            json!(base64(bytes.unwrap_or_default())),
        ),
    };
}

/// Reads a line. Topic, partition and offset say where a record was, not where it goes.
pub(crate) fn parse(line: &[u8]) -> Result<JsonRecord, String> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| format!("no JSON ({error}); each line is one object"))?;
    let Value::Object(mut object) = value else {
        return Err("no JSON object, for example {\"key\": \"k\", \"value\": \"v\"}".to_string());
    };
    for place in ["topic", "partition", "offset"] {
        object.remove(place);
    }
    let key = take_bytes(&mut object, "key")?.flatten();
    let value = take_bytes(&mut object, "value")?;
    let timestamp = match object.remove("timestamp") {
        None | Some(Value::Null) => None,
        Some(number) => Some(number.as_i64().ok_or("\"timestamp\" is no whole number")?),
    };
    let headers = match object.remove("headers") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .into_iter()
            .map(parse_header)
            .collect::<Result<_, String>>()?,
        Some(_) => return Err("\"headers\" is no list".to_string()),
    };
    nothing_left(&object)?;
    let value = value.ok_or("no \"value\"; a record without one has \"value\": null")?;
    Ok(JsonRecord {
        key,
        value,
        headers,
        // -1 is how a record without a time is printed.
        timestamp: timestamp.filter(|timestamp| *timestamp >= 0),
    })
}

fn parse_header(header: Value) -> Result<(String, Option<Vec<u8>>), String> {
    let Value::Object(mut object) = header else {
        return Err("a header that is no {\"name\": ..., \"value\": ...}".to_string());
    };
    let Some(Value::String(name)) = object.remove("name") else {
        return Err("a header without a \"name\"".to_string());
    };
    let value = take_bytes(&mut object, "value")?.flatten();
    nothing_left(&object)?;
    Ok((name, value))
}

/// `None` when neither `NAME` nor `NAME_base64` is there, `Some(None)` for null.
fn take_bytes(
    object: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<Option<Vec<u8>>>, String> {
    let encoded_name = format!("{name}_base64");
    match (object.remove(name), object.remove(&encoded_name)) {
        (None, None) => Ok(None),
        (Some(Value::Null), None) => Ok(Some(None)),
        (Some(Value::String(text)), None) => Ok(Some(Some(text.into_bytes()))),
        (None, Some(Value::String(text))) => match from_base64(&text) {
            Some(bytes) => Ok(Some(Some(bytes))),
            None => Err(format!("{encoded_name:?} is no base64 with padding")),
        },
        (Some(_), Some(_)) => Err(format!("both {name:?} and {encoded_name:?}")),
        (Some(_), None) => Err(format!("{name:?} is neither text nor null; quote it")),
        (None, Some(_)) => Err(format!("{encoded_name:?} is no text")),
    }
}

/// A misspelt name must not lose what it stands for.
fn nothing_left(object: &Map<String, Value>) -> Result<(), String> {
    match object.keys().next() {
        None => Ok(()),
        Some(name) => Err(format!(
            "the unknown name {name:?}; known are key, value, headers, timestamp"
        )),
    }
}

/// Base64 of RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let groups = text.len() / 4;
    for (at, group) in text.as_bytes().chunks_exact(4).enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < groups) {
            return None;
        }
        let mut bits = 0u32;
        for byte in group.get(..4 - padding)? {
            let digit = ALPHABET.iter().position(|one| one == byte)?;
            bits = bits << 6 | digit as u32;
        }
        let [_, decoded @ ..] = (bits << (6 * padding)).to_be_bytes();
        bytes.extend_from_slice(decoded.get(..3 - padding)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn base64_agrees_with_the_rfc_both_ways() {
        let known = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (bytes, text) in known {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for wrong in ["Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9*", "Zäö"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_consume_prints_produce_takes() {
        let record = FetchedRecord {
            offset: 7,
            timestamp: 9,
            key: Some(b"k\"".to_vec()),
            value: Some(vec![0xff, 0]),
            headers: vec![
                ("h".to_string(), None),
                ("g".to_string(), Some(vec![0x80])),
                ("g".to_string(), Some(b"text".to_vec())),
            ],
        };
        let fetched = Fetched {
            topic: Rc::from("t"),
            partition: 1,
            records: Vec::new(),
        };
        let line = line_of(&fetched, &record);
        assert!(!line.contains('\n'));
        let parsed = parse(line.as_bytes()).expect("a record");
        let expected = JsonRecord {
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp: Some(9),
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn a_line_that_could_lose_something_is_refused() {
        let tombstone = parse(br#"{"key": "k", "value": null}"#).expect("a tombstone");
        assert_eq!(
            (tombstone.key, tombstone.value),
            (Some(b"k".to_vec()), None)
        );
        for (line, why) in [
            ("hello", "no JSON"),
            ("[1]", "no JSON object"),
            (r#"{"key": "k"}"#, "\"value\": null"),
            (r#"{"value": 7}"#, "quote it"),
            (r#"{"value": "v", "kye": "k"}"#, "unknown name \"kye\""),
            (r#"{"valu": "v"}"#, "unknown name \"valu\""),
            (r#"{"value": "v", "value_base64": "Zg=="}"#, "both"),
            (r#"{"value_base64": "Zg"}"#, "no base64"),
            (r#"{"value": "v", "headers": {"a": "b"}}"#, "no list"),
            (r#"{"value": "v", "headers": [{"value": "b"}]}"#, "\"name\""),
            (r#"{"value": "v", "timestamp": "now"}"#, "whole number"),
        ] {
            let error = parse(line.as_bytes()).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
