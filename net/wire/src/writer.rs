//! Writing of protocol primitives to the end of a vector.

use highwater_base::TopicId;

use crate::array::{Array, Element};
use crate::error::EncodeError;

/// Longest string of the protocol, in every version.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A value of fixed size, big endian.
pub trait Fixed: Copy {
    /// Its size.
    const BYTES: usize;
    /// Reads it from exactly [`Fixed::BYTES`] bytes.
    fn get(bytes: &[u8]) -> Self;
    /// Appends it.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! fixed_numbers {
    ($($kind:ty),*) => {$(
        impl Fixed for $kind {
            const BYTES: usize = size_of::<$kind>();

            fn get(bytes: &[u8]) -> Self {
                let mut value = [0; Self::BYTES];
                value.copy_from_slice(bytes);
                Self::from_be_bytes(value)
            }

            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
fixed_numbers!(i8, i16, u16, i32, i64, u32);

impl Fixed for bool {
    const BYTES: usize = 1;

    fn get(bytes: &[u8]) -> Self {
        bytes != [0]
    }

    fn put(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl Fixed for TopicId {
    const BYTES: usize = 16;

    fn get(bytes: &[u8]) -> Self {
        let mut value = [0; 16];
        value.copy_from_slice(bytes);
        TopicId(value)
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Appends an unsigned variable-length integer.
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag variable-length integer, as records use it.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length prefix; `None` is null.
fn put_length(
    out: &mut Vec<u8>,
    length: Option<usize>,
    short: bool,
    flexible: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    let allowed = if short {
        STRING_BYTES_MAX
    } else {
        i32::MAX as usize - 1
    };
    if let Some(length) = length.filter(|length| *length > allowed) {
        return Err(EncodeError::TooLong {
            field,
            length,
            allowed,
        });
    }
    if flexible {
        put_unsigned_varint(out, length.map_or(0, |length| length as u32 + 1));
    } else if short {
        length.map_or(-1, |length| length as i16).put(out);
    } else {
        length.map_or(-1, |length| length as i32).put(out);
    }
    Ok(())
}

/// Appends a string.
///
/// # Errors
/// Longer than 32767 bytes.
pub fn put_string(
    out: &mut Vec<u8>,
    value: &str,
    flexible: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(out, Some(value.len()), true, flexible, field)?;
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

/// Appends a string or null.
///
/// # Errors
/// Too long, or null where not `allowed`.
pub fn put_nullable_string(
    out: &mut Vec<u8>,
    value: Option<&str>,
    flexible: bool,
    allowed: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    match value {
        Some(value) => put_string(out, value, flexible, field),
        None if allowed => put_length(out, None, true, flexible, field),
        None => Err(EncodeError::Null { field }),
    }
}

/// Appends a byte string.
///
/// # Errors
/// Longer than 2^31-2 bytes.
pub fn put_bytes(
    out: &mut Vec<u8>,
    value: &[u8],
    flexible: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(out, Some(value.len()), false, flexible, field)?;
    out.extend_from_slice(value);
    Ok(())
}

/// Appends a byte string or null.
///
/// # Errors
/// Too long, or null where not `allowed`.
pub fn put_nullable_bytes(
    out: &mut Vec<u8>,
    value: Option<&[u8]>,
    flexible: bool,
    allowed: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    match value {
        Some(value) => put_bytes(out, value, flexible, field),
        None if allowed => put_length(out, None, false, flexible, field),
        None => Err(EncodeError::Null { field }),
    }
}

/// Appends an array.
///
/// # Errors
/// Too long, or an element that does not fit.
pub fn put_array<'a, T: Element<'a>>(
    out: &mut Vec<u8>,
    value: &Array<'a, T>,
    version: i16,
    flexible: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(out, Some(value.len()), false, flexible, field)?;
    for element in value.iter() {
        element.write(version, flexible, out)?;
    }
    Ok(())
}

/// Appends an array or null.
///
/// # Errors
/// As [`put_array`], or null where not `allowed`.
pub fn put_nullable_array<'a, T: Element<'a>>(
    out: &mut Vec<u8>,
    value: Option<Array<'a, T>>,
    version: i16,
    flexible: bool,
    allowed: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    match value {
        Some(value) => put_array(out, &value, version, flexible, field),
        None if allowed => put_length(out, None, false, flexible, field),
        None => Err(EncodeError::Null { field }),
    }
}

/// Appends a struct behind its marker byte, or the marker of null.
///
/// # Errors
/// A field that does not fit.
pub fn put_nullable_struct<'a, T: Element<'a>>(
    out: &mut Vec<u8>,
    value: Option<T>,
    version: i16,
    flexible: bool,
) -> Result<(), EncodeError> {
    match value {
        None => (-1i8).put(out),
        Some(value) => {
            1i8.put(out);
            value.write(version, flexible, out)?;
        }
    }
    Ok(())
}

/// Ends a struct of a flexible version that has no tagged fields to say.
pub fn put_no_tags(out: &mut Vec<u8>) {
    out.push(0);
}

/// Collects tagged fields, which are rare, and writes them with their sizes.
#[derive(Debug, Default)]
pub struct TagWriter {
    count: u32,
    tag: u32,
    field: Vec<u8>,
    bytes: Vec<u8>,
}

impl TagWriter {
    /// Starts a field; tags ascend. The caller appends its bytes.
    pub fn begin(&mut self, tag: u32) -> &mut Vec<u8> {
        self.tag = tag;
        self.field.clear();
        &mut self.field
    }

    /// Ends the field begun last.
    pub fn end(&mut self) {
        self.count += 1;
        put_unsigned_varint(&mut self.bytes, self.tag);
        put_unsigned_varint(&mut self.bytes, self.field.len() as u32);
        self.bytes.extend_from_slice(&self.field);
    }

    /// Appends all fields.
    pub fn finish(self, out: &mut Vec<u8>) {
        put_unsigned_varint(out, self.count);
        out.extend_from_slice(&self.bytes);
    }
}
