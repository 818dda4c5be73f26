//! The annotated view of bytes: position, bytes, and beside them the field they are and its value.

use std::io::{self, Write};

use highwater_store::inspect::Field;

/// Bytes in one row.
const ROW_BYTES: usize = 16;
/// Longer fields of one repeated byte are told, not shown.
const SHOWN_BYTES_MAX: usize = 64;

/// Bytes as digits, two each, without gaps.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows the bytes of one field, which lie at `position`.
pub(super) fn write(
    position: u64,
    bytes: &[u8],
    field: &Field,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut label = format!("{} = {}", field.name, field.value);
    let is_alike = bytes.windows(2).all(|pair| pair[0] == pair[1]);
    let mut shown = bytes;
    if bytes.len() > SHOWN_BYTES_MAX && is_alike {
        shown = &bytes[..ROW_BYTES];
        label.push_str(&format!(" ({} bytes alike)", bytes.len()));
    }
    let mut rest = label.as_str();
    let rows = shown
        .chunks(ROW_BYTES)
        .chain(shown.is_empty().then_some(shown));
    for (row, chunk) in rows.enumerate() {
        let at = position + (row * ROW_BYTES) as u64;
        let pairs: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("  {at:010}  {:<47}  {rest}", pairs.join(" "));
        writeln!(out, "{}", line.trim_end())?;
        rest = "";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let field = Field {
            at: 0,
            len: bytes.len(),
            name: "crc",
            value: "7".to_string(),
        };
        let mut out = Vec::new();
        write(32, bytes, &field, &mut out).expect("into memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn bytes_stand_beside_their_name_and_long_runs_are_told() {
        let gap = " ".repeat(47 - 5);
        assert_eq!(
            shown(&[1, 255]),
            format!("  0000000032  01 ff{gap}  crc = 7\n")
        );
        let text = shown(&[5; 17]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with("  0000000048  05\n"), "{text}");
        let text = shown(&[0; 4000]);
        assert!(text.ends_with("crc = 7 (4000 bytes alike)\n"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(shown(&[]).ends_with("crc = 7\n"));
    }
}
