//! One line of output: a word that says what it is about, then names and values. As text for people,
//! as a JSON object for programs, with the same names.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::Format;

/// A line under construction.
#[derive(Debug)]
pub(super) struct Line {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    pub fn new(kind: &'static str) -> Line {
        Line {
            kind,
            fields: Vec::new(),
        }
    }

    /// The same with one more value.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Line {
        self.fields.push((name, value.into()));
        self
    }

    /// The same with bytes: as text where they are text.
    pub fn with_bytes(self, name: &'static str, bytes: Option<&[u8]>) -> Line {
        match bytes.map(std::str::from_utf8) {
            None => self.with(name, Value::Null),
            Some(Ok(text)) => self.with(name, text),
            Some(Err(_)) => self.with(name, bytes_value(bytes.unwrap_or_default())),
        }
    }

    /// Writes it.
    pub fn write(self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Json => {
                let mut object = Map::new();
                object.insert("type".to_string(), self.kind.into());
                let fields = self.fields.into_iter();
                object.extend(fields.map(|(name, value)| (name.to_string(), value)));
                writeln!(out, "{}", Value::Object(object))
            }
            Format::Text => {
                write!(out, "{:<9}", self.kind)?;
                for (name, value) in &self.fields {
                    match value {
                        Value::String(text) if is_plain(text) => write!(out, " {name}={text}")?,
                        value => write!(out, " {name}={value}")?,
                    }
                }
                writeln!(out)
            }
        }
    }
}

/// Whether a text needs no quotes to be told from what follows it.
fn is_plain(text: &str) -> bool {
    let plain = |it: char| it.is_alphanumeric() || "-_./:+,;@#".contains(it);
    !text.is_empty() && text.chars().all(plain)
}

/// Bytes that are no text.
pub(super) fn bytes_value(bytes: &[u8]) -> Value {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex:{hex}").into()
}
