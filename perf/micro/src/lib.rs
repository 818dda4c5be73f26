//! The pieces of the hot path, each by itself and always with the same input: `benches/pieces` times
//! them, the program of this crate runs one of them so that `perf/count` can count its instructions.
//!
//! Both call the same [`Piece`]s, and these call the broker's own functions and copy none. Whatever
//! a piece needs around them (frames, a disk) happens where it is neither timed nor counted, or is
//! said beside the piece. No clock, no random source, no thread: two runs execute the same
//! instructions.

#![forbid(unsafe_code)]

pub mod append;
pub mod codec;
pub mod disk;
pub mod inputs;
pub mod meter;
pub mod node;
pub mod piece;
pub mod turn;

pub use meter::Meter;
pub use piece::{NAMES, Piece, piece};
