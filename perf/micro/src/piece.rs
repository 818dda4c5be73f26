//! What a piece is, and the list of them.

use crate::Meter;
use crate::append::Append;
use crate::codec::{BatchCheck, BuildFetch, BuildProduce, IndexLookup, ParseFetch, ParseProduce};
use crate::turn::{FetchTurn, ProduceTurn};

/// A part of the hot path that is run again and again.
pub trait Piece {
    /// Operations of one step: more than one where a single one is too short for a clock.
    fn operations(&self) -> usize {
        1
    }

    /// Makes the next step's input; neither timed nor counted.
    fn prepare(&mut self) {}

    /// The operations themselves.
    fn step(&mut self, meter: Meter);

    /// Whether the last step did what it is for.
    ///
    /// # Errors
    /// What it did instead.
    fn verify(&self) -> Result<(), String>;
}

/// The names of all pieces, in the order of the data path.
pub const NAMES: [&str; 13] = [
    "parse_produce",
    "batch_check_1k",
    "batch_check_64k",
    "append_1k",
    "append_64k",
    "build_produce",
    "parse_fetch",
    "index_lookup",
    "build_fetch",
    "turn_produce_1k",
    "turn_produce_64k",
    "turn_fetch_1k",
    "turn_fetch_64k",
];

/// The piece of that name.
#[must_use]
pub fn piece(name: &str) -> Option<Box<dyn Piece>> {
    Some(match name {
        "parse_produce" => Box::new(ParseProduce::new()),
        "batch_check_1k" => Box::new(BatchCheck::new(1)),
        "batch_check_64k" => Box::new(BatchCheck::new(64)),
        "append_1k" => Box::new(Append::new(1)),
        "append_64k" => Box::new(Append::new(64)),
        "build_produce" => Box::new(BuildProduce::new()),
        "parse_fetch" => Box::new(ParseFetch::new()),
        "index_lookup" => Box::new(IndexLookup::new()),
        "build_fetch" => Box::new(BuildFetch::new()),
        "turn_produce_1k" => Box::new(ProduceTurn::new(1)),
        "turn_produce_64k" => Box::new(ProduceTurn::new(64)),
        "turn_fetch_1k" => Box::new(FetchTurn::new(1)),
        "turn_fetch_64k" => Box::new(FetchTurn::new(64)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_does_what_it_is_for_step_after_step() {
        for name in NAMES {
            let mut piece = piece(name).expect("a listed piece exists");
            for step in 0..100 {
                piece.prepare();
                piece.step(if step % 2 == 0 {
                    Meter::Idle
                } else {
                    Meter::Counting
                });
                let verdict = piece.verify();
                assert_eq!(verdict, Ok(()), "{name}, step {step}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_no_piece() {
        assert!(piece("").is_none());
        assert!(piece("batch_check").is_none());
    }
}
