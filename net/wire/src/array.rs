//! Arrays that are walked in place: the bytes of a decoded one, or a slice to encode.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::writer::{Fixed, put_string};

/// What an array can hold.
pub trait Element<'a>: Copy {
    /// Reads one.
    ///
    /// # Errors
    /// Bytes that are not one.
    fn read(version: i16, flexible: bool, reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Writes one.
    ///
    /// # Errors
    /// A field that does not fit its length prefix.
    fn write(&self, version: i16, flexible: bool, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// An array of a message.
///
/// Decoded, it is the checked bytes of its elements, decoded again one by one as they are visited;
/// for encoding it is a slice.
#[derive(Clone, Copy)]
pub struct Array<'a, T>(Form<'a, T>);

#[derive(Clone, Copy)]
enum Form<'a, T> {
    Walked {
        bytes: &'a [u8],
        count: usize,
        version: i16,
        flexible: bool,
    },
    Slice(&'a [T]),
}

impl<'a, T> Array<'a, T> {
    pub(crate) fn walked(bytes: &'a [u8], count: usize, version: i16, flexible: bool) -> Self {
        Array(Form::Walked {
            bytes,
            count,
            version,
            flexible,
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Form::Walked { count, .. } => count,
            Form::Slice(slice) => slice.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Element<'a>> Array<'a, T> {
    /// The elements in order, by value.
    #[must_use]
    pub fn iter(&self) -> Iter<'a, T> {
        match self.0 {
            Form::Walked {
                bytes,
                count,
                version,
                flexible,
            } => Iter(IterForm::Walked {
                reader: Reader::new(bytes),
                left: count,
                version,
                flexible,
            }),
            Form::Slice(slice) => Iter(IterForm::Slice(slice.iter())),
        }
    }
}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Array(Form::Slice(&[]))
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        Array(Form::Slice(slice))
    }
}

impl<'a, T> From<&'a Vec<T>> for Array<'a, T> {
    fn from(elements: &'a Vec<T>) -> Self {
        Array(Form::Slice(elements))
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Array<'a, T> {
    fn from(elements: &'a [T; N]) -> Self {
        Array(Form::Slice(elements))
    }
}

impl<'a, T: Element<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Visits the elements of an [`Array`].
#[derive(Clone)]
pub struct Iter<'a, T>(IterForm<'a, T>);

#[derive(Clone)]
enum IterForm<'a, T> {
    Walked {
        reader: Reader<'a>,
        left: usize,
        version: i16,
        flexible: bool,
    },
    Slice(std::slice::Iter<'a, T>),
}

impl<'a, T: Element<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            IterForm::Slice(slice) => slice.next().copied(),
            IterForm::Walked {
                reader,
                left,
                version,
                flexible,
            } => {
                *left = left.checked_sub(1)?;
                // The elements decoded when the array was checked; they do so again.
                T::read(*version, *flexible, reader).ok()
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            IterForm::Slice(slice) => slice.len(),
            IterForm::Walked { left, .. } => *left,
        };
        (left, Some(left))
    }
}

impl<'a, T: Element<'a>> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a> Element<'a> for &'a str {
    fn read(_: i16, flexible: bool, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string(flexible, "string of an array")
    }

    fn write(&self, _: i16, flexible: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_string(out, self, flexible, "string of an array")
    }
}

impl<'a> Element<'a> for i32 {
    fn read(_: i16, _: bool, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.fixed("number of an array")
    }

    fn write(&self, _: i16, _: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put(out);
        Ok(())
    }
}

impl<'a> Element<'a> for i8 {
    fn read(_: i16, _: bool, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.fixed("number of an array")
    }

    fn write(&self, _: i16, _: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put(out);
        Ok(())
    }
}
