//! Bounded reading of protocol primitives from a frame. Every read checks what is left first.

use crate::array::{Array, Element};
use crate::error::DecodeError;
use crate::writer::{Fixed, STRING_BYTES_MAX};

/// A cursor over the bytes of a frame, or of one tagged field.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

/// Iterates the tagged fields at the end of a struct (KIP-482).
#[derive(Clone, Copy, Debug)]
pub struct Tags {
    left: u32,
}

impl Tags {
    /// The next tag and a reader over exactly its bytes.
    ///
    /// # Errors
    /// Truncated or oversized fields.
    pub fn next<'a>(
        &mut self,
        reader: &mut Reader<'a>,
    ) -> Result<Option<(u32, Reader<'a>)>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let tag = reader.unsigned_varint("tag")?;
        let size = reader.unsigned_varint("tag size")? as usize;
        let bytes = reader.take(size, "tagged field")?;
        Ok(Some((tag, Reader::new(bytes))))
    }
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Everything must have been read.
    ///
    /// # Errors
    /// Trailing bytes.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                left: self.bytes.len(),
            })
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated {
                field,
                needed: count,
                left: self.bytes.len(),
            });
        }
        let (head, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(head)
    }

    /// A value of fixed size.
    ///
    /// # Errors
    /// Too few bytes.
    pub fn fixed<T: Fixed>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        let bytes = self.take(T::BYTES, field)?;
        Ok(T::get(bytes))
    }

    /// An unsigned variable-length integer of at most 32 bits.
    ///
    /// # Errors
    /// More than five bytes, or more than 32 bits.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1, field)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Invalid {
                    field,
                    found: value as i64,
                    allowed: "a varint of at most 32 bits",
                });
            }
        }
        Err(DecodeError::Invalid {
            field,
            found: value as i64,
            allowed: "a varint of at most five bytes",
        })
    }

    /// A zigzag variable-length integer of at most 64 bits, as records use it.
    ///
    /// # Errors
    /// More than ten bytes.
    pub fn varlong(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1, field)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(DecodeError::Invalid {
            field,
            found: value as i64,
            allowed: "a varint of at most ten bytes",
        })
    }

    /// A length prefix: `None` for null.
    fn length(
        &mut self,
        short: bool,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        let length = if flexible {
            i64::from(self.unsigned_varint(field)?) - 1
        } else if short {
            i64::from(self.fixed::<i16>(field)?)
        } else {
            i64::from(self.fixed::<i32>(field)?)
        };
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            found => Err(DecodeError::Invalid {
                field,
                found,
                allowed: "a length of -1 or more",
            }),
        }
    }

    fn not_null<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
        value.ok_or(DecodeError::Invalid {
            field,
            found: -1,
            allowed: "anything but null",
        })
    }

    fn null_checked<T>(
        value: Option<T>,
        allowed: bool,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if value.is_none() && !allowed {
            return Self::not_null(value, field).map(Some);
        }
        Ok(value)
    }

    fn any_string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.length(true, flexible, field)? else {
            return Ok(None);
        };
        // A compact length can say more than a string may hold, in Kafka too: what is read here
        // must fit every version it is answered in.
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::Invalid {
                field,
                found: length as i64,
                allowed: "a length of at most 32767",
            });
        }
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| DecodeError::Utf8 { field })
    }

    /// A string.
    ///
    /// # Errors
    /// Null, truncated, or not UTF-8.
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Result<&'a str, DecodeError> {
        let value = self.any_string(flexible, field)?;
        Self::not_null(value, field)
    }

    /// A string that may be null where `allowed`.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        allowed: bool,
        field: &'static str,
    ) -> Result<Option<&'a str>, DecodeError> {
        let value = self.any_string(flexible, field)?;
        Self::null_checked(value, allowed, field)
    }

    fn any_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        let Some(length) = self.length(false, flexible, field)? else {
            return Ok(None);
        };
        self.take(length, field).map(Some)
    }

    /// A byte string.
    ///
    /// # Errors
    /// Null or truncated.
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let value = self.any_bytes(flexible, field)?;
        Self::not_null(value, field)
    }

    /// A byte string that may be null where `allowed`.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        allowed: bool,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        let value = self.any_bytes(flexible, field)?;
        Self::null_checked(value, allowed, field)
    }

    fn any_array<T: Element<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Array<'a, T>>, DecodeError> {
        let Some(count) = self.length(false, flexible, field)? else {
            return Ok(None);
        };
        // Every element takes at least one byte, so this bounds the walk by the frame's own size.
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated {
                field,
                needed: count,
                left: self.bytes.len(),
            });
        }
        let start = self.bytes;
        for _ in 0..count {
            T::read(version, flexible, self)?;
        }
        let used = start.len() - self.bytes.len();
        Ok(Some(Array::walked(
            &start[..used],
            count,
            version,
            flexible,
        )))
    }

    /// An array.
    ///
    /// # Errors
    /// Null, truncated, or an element that does not decode.
    pub fn array<T: Element<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
        field: &'static str,
    ) -> Result<Array<'a, T>, DecodeError> {
        let value = self.any_array(version, flexible, field)?;
        Self::not_null(value, field)
    }

    /// An array that may be null where `allowed`.
    ///
    /// # Errors
    /// As [`Reader::array`].
    pub fn nullable_array<T: Element<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
        allowed: bool,
        field: &'static str,
    ) -> Result<Option<Array<'a, T>>, DecodeError> {
        let value = self.any_array(version, flexible, field)?;
        Self::null_checked(value, allowed, field)
    }

    /// A struct behind a marker byte: negative is null.
    ///
    /// # Errors
    /// Truncated, or a field that does not decode.
    pub fn nullable_struct<T: Element<'a>>(
        &mut self,
        version: i16,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if self.fixed::<i8>(field)? < 0 {
            return Ok(None);
        }
        T::read(version, flexible, self).map(Some)
    }

    /// Starts the tagged fields.
    ///
    /// # Errors
    /// More tags than bytes left.
    pub fn tags(&mut self) -> Result<Tags, DecodeError> {
        let left = self.unsigned_varint("number of tagged fields")?;
        if left as usize > self.bytes.len() {
            return Err(DecodeError::Truncated {
                field: "tagged fields",
                needed: left as usize,
                left: self.bytes.len(),
            });
        }
        Ok(Tags { left })
    }

    /// Skips all tagged fields.
    ///
    /// # Errors
    /// Truncated fields.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.tags()?;
        while tags.next(self)?.is_some() {}
        Ok(())
    }
}
