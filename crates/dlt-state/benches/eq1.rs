//! The time of Equation 1 at the depth of the paper's GPT-2, 48 layers.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dlt_state::{Action, State};

const N_LAYERS: usize = 48;

/// An action with chains of many lengths. It is the same each time.
fn mixed_action() -> Action {
    let values = (0..N_LAYERS).map(|layer| (layer * 31 + 7) % (layer + 1)).collect();
    Action::new(values).expect("a remainder by `layer + 1` is at most `layer`")
}

fn eq1(criterion: &mut Criterion) {
    let action = mixed_action();
    let mut owners = Vec::with_capacity(N_LAYERS);
    criterion.bench_function("eq1/48 layers, into a buffer", |bencher| {
        bencher.iter(|| {
            State::from_action_into(black_box(&action), black_box(&mut owners));
        });
    });

    criterion.bench_function("eq1/48 layers, new state", |bencher| {
        bencher.iter(|| State::from_action(black_box(&action)));
    });
}

criterion_group!(benches, eq1);
criterion_main!(benches);
