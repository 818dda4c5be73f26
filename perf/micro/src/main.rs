//! `highwater-perf-micro PIECE`: runs one piece for `perf/count`, which runs it under callgrind and
//! counts what happens while the meter is on. Without an argument it lists the pieces.

use std::process::ExitCode;

use highwater_perf_micro::{Meter, NAMES, piece};

/// As in the broker, so that what allocates costs what it costs there.
#[global_allocator]
static ALLOCATOR: highwater_reactor::CountingAllocator = highwater_reactor::CountingAllocator;

/// Steps before counting begins: vectors have grown by then, and windows are of their full size.
const WARM_UP_STEPS: usize = 256;
/// Steps that are counted; what happens once in a few of them is in the mean.
const COUNTED_STEPS: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name] = arguments.as_slice() else {
        NAMES.iter().for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some(mut piece) = piece(name) else {
        eprintln!("there is no piece {name:?}; without an argument the pieces are listed");
        return ExitCode::from(2);
    };
    for step in 0..WARM_UP_STEPS + COUNTED_STEPS {
        piece.prepare();
        piece.step(match step < WARM_UP_STEPS {
            true => Meter::Idle,
            false => Meter::Counting,
        });
        if let Err(reason) = piece.verify() {
            eprintln!("{name}, step {step}: {reason}");
            return ExitCode::FAILURE;
        }
    }
    println!("operations {}", COUNTED_STEPS * piece.operations());
    ExitCode::SUCCESS
}
