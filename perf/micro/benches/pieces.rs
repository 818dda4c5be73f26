//! Times every piece. Prints what it finds and judges nothing: a time depends on the machine and on
//! who else is on it; what fails a build is the number of instructions (`perf/count`).
//!
//! `cargo bench -p highwater-perf-micro [-- FILTER]`

use std::time::Duration;

use criterion::measurement::{Measurement, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};
use highwater_perf_micro::{Meter, NAMES, Piece, piece};

/// As in the broker.
#[global_allocator]
static ALLOCATOR: highwater_reactor::CountingAllocator = highwater_reactor::CountingAllocator;

const WARM_UP_TIME: Duration = Duration::from_millis(500);
const MEASUREMENT_TIME: Duration = Duration::from_secs(2);

/// The time of so many operations. Whole steps are run, the input of each is made outside the time.
fn time(piece: &mut dyn Piece, operations: u64) -> Duration {
    let of_step = piece.operations() as u64;
    let steps = operations.div_ceil(of_step);
    let mut total = WallTime.zero();
    for _ in 0..steps {
        piece.prepare();
        let started = WallTime.start();
        piece.step(Meter::Idle);
        total = WallTime.add(&total, &WallTime.end(started));
    }
    total.mul_f64(operations as f64 / (steps * of_step) as f64)
}

fn pieces(criterion: &mut Criterion) {
    for name in NAMES {
        let mut piece = piece(name).expect("a listed piece exists");
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|operations| time(piece.as_mut(), operations));
        });
        assert_eq!(piece.verify(), Ok(()), "{name}");
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .warm_up_time(WARM_UP_TIME)
        .measurement_time(MEASUREMENT_TIME)
        .without_plots();
    targets = pieces
}
criterion_main!(all);
