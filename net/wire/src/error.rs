//! What can be wrong with bytes or with a message.

/// Bytes that are not the message they should be. Fields are named `Struct.field`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("{field}: {needed} bytes needed, {left} left in the frame")]
    Truncated {
        field: &'static str,
        needed: usize,
        left: usize,
    },
    /// A value outside what the field allows.
    #[error("{field} is {found}; allowed is {allowed}")]
    Invalid {
        field: &'static str,
        found: i64,
        allowed: &'static str,
    },
    /// A string that is not UTF-8.
    #[error("{field} is not valid UTF-8")]
    Utf8 { field: &'static str },
    /// Bytes left over behind the message.
    #[error("{left} bytes behind the end of the message")]
    Trailing { left: usize },
}

/// A message that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than the length prefix of its version can say.
    #[error("{field} has {length} bytes or elements; its length prefix allows {allowed}")]
    TooLong {
        field: &'static str,
        length: usize,
        allowed: usize,
    },
    /// Null in a version that has no null here.
    #[error("{field} is null, which its version cannot say")]
    Null { field: &'static str },
}
