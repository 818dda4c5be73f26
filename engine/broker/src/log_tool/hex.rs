//! The annotated view of bytes: position, bytes, and beside them the field they are and its value.

use std::io::{self, Write};

use highwater_store::inspect::Field;

use super::Format;
use super::line::Line;

/// Bytes in one row.
const ROW_BYTES: usize = 16;
/// Longer fields of one repeated byte are told, not shown.
const SHOWN_BYTES_MAX: usize = 64;

/// Shows fields of `bytes`, which begin at `position` of the file.
pub(super) fn write_fields(
    position: u64,
    bytes: &[u8],
    fields: &[Field],
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    for field in fields {
        let covered = bytes.get(field.at..field.at + field.len);
        let covered = covered.unwrap_or_default();
        write_one(
            position + field.at as u64,
            covered,
            field.name,
            &field.value,
            format,
            out,
        )?;
    }
    Ok(())
}

/// Shows one run of bytes.
pub(super) fn write_one(
    position: u64,
    bytes: &[u8],
    name: &'static str,
    value: &str,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    let hex = |bytes: &[u8]| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(" ")
    };
    let is_long = bytes.len() > SHOWN_BYTES_MAX && bytes.iter().all(|byte| *byte == bytes[0]);
    let shown = if is_long { &bytes[..ROW_BYTES] } else { bytes };
    if format == Format::Json {
        return Line::new("bytes")
            .with("position", position)
            .with("length", bytes.len())
            .with("hex", hex(shown).replace(' ', ""))
            .with("field", name)
            .with("value", value)
            .write(format, out);
    }
    let mut label = format!("{name} = {value}");
    if is_long {
        label.push_str(&format!(" ({} bytes alike)", bytes.len()));
    }
    for (row, chunk) in shown.chunks(ROW_BYTES).enumerate() {
        let at = position + (row * ROW_BYTES) as u64;
        let label = if row == 0 { label.as_str() } else { "" };
        let line = format!("  {at:010}  {:<47}  {label}", hex(chunk));
        writeln!(out, "{}", line.trim_end())?;
    }
    if shown.is_empty() {
        writeln!(out, "  {position:010}  {:<47}  {label}", "")?;
    }
    Ok(())
}
