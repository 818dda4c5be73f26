//! The Kafka wire protocol without I/O: borrowed, bounded, allocation-free decoding and encoding for
//! exactly the versions that are offered.
//!
//! Message types are generated at build time from `schema/*.txt`. One type serves both directions:
//! decoding borrows from the frame, arrays are checked once and then walked in place ([`Array`]);
//! encoding takes the same type over slices. A decoder allocates nothing and never panics, whatever
//! the bytes; an array that claims more elements than the frame has bytes is refused before it is
//! walked. Policy (what to do with a message) is the broker's.
//!
//! [`fetch_response`] is written by hand, because record bytes are spliced in by the sender and never
//! pass through an encoder. [`records`] and [`compression`] look inside record batches.

#![forbid(unsafe_code)]

pub mod array;
pub mod compression;
pub mod error;
pub mod fetch_response;
pub mod header;
pub mod offered;
pub mod produce_response;
pub mod reader;
pub mod records;
pub mod writer;

mod prelude {
    pub use highwater_base::TopicId;

    pub use crate::array::{Array, Element};
    pub use crate::error::{DecodeError, EncodeError};
    pub use crate::reader::Reader;
    pub use crate::writer::{
        Fixed, TagWriter, put_array, put_bytes, put_no_tags, put_nullable_array,
        put_nullable_bytes, put_nullable_string, put_nullable_struct, put_string,
    };
}

#[allow(clippy::all, unused_imports, unused_mut)]
mod generated {
    use super::prelude;

    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use array::Array;
pub use error::{DecodeError, EncodeError};
pub use generated::*;
pub use reader::Reader;
