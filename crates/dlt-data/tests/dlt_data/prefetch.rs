use dlt_data::{
    BatchPosition, Batches, Draw, ExampleBatch, Examples, Prefetcher, Ready, Split, TokenStream,
    Windows, prefetch,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const AHEAD: NonZeroUsize = NonZeroUsize::new(3).unwrap();

fn windows() -> Windows {
    Windows::stream(TokenStream::new((0..101).collect(), 101), 4).unwrap()
}

fn batches() -> Batches {
    Batches::new(25, 4, ChaCha8Rng::seed_from_u64(5)).unwrap()
}

/// Batches made one at a time, without a thread.
fn plain(count: usize) -> Vec<(Vec<u32>, Vec<u32>, BatchPosition)> {
    let windows = windows();
    let mut batches = batches();

    (0..count)
        .map(|_| {
            let mut inputs = vec![0; 16];
            let mut targets = vec![0; 16];
            let indices = batches.next_batch().to_vec();

            for (row, index) in indices.into_iter().enumerate() {
                let place = row * 4..row * 4 + 4;
                windows.fill(index, &mut inputs[place.clone()], &mut targets[place]).unwrap();
            }

            (inputs, targets, batches.position())
        })
        .collect()
}

#[test]
fn law_prefetched_batches_and_positions_are_those_without_a_thread() {
    let prefetched = prefetch(Examples::from(windows()), batches(), AHEAD).unwrap();
    for (ready, (inputs, targets, position)) in prefetched.zip(plain(20)) {
        let batch = ExampleBatch::Windows { inputs, targets, windows: 4 };
        assert_eq!(ready.unwrap(), Ready { batch, position });
    }
}

#[test]
fn a_run_resumes_from_the_position_of_its_last_batch() {
    let mut prefetched = prefetch(Examples::from(windows()), batches(), AHEAD).unwrap();
    let seventh = prefetched.by_ref().nth(6).unwrap().unwrap();
    drop(prefetched);

    let resumed = Batches::resume(25, 4, seventh.position).unwrap();
    let next =
        prefetch(Examples::from(windows()), resumed, AHEAD).unwrap().next().unwrap().unwrap();
    let (inputs, targets, position) = plain(8).swap_remove(7);

    assert_eq!(
        next,
        Ready { batch: ExampleBatch::Windows { inputs, targets, windows: 4 }, position }
    );
}

/// Random draws for an example depend on the pass, not on the thread that prepares it or on where a
/// run resumes.
#[test]
fn every_kind_of_examples_is_prepared_as_it_would_be_one_at_a_time() {
    for material in crate::material::one_of_each_kind() {
        let examples = material.examples(Split::Train);
        let batches = || Batches::new(examples.count(), 6, ChaCha8Rng::seed_from_u64(5)).unwrap();
        let mut plain = batches();
        let mut one_at_a_time = || {
            let numbers = plain.next_batch().to_vec();
            let position = plain.position();
            Ready { batch: examples.batch(&numbers, Draw::Pass(position.pass)).unwrap(), position }
        };

        let expected: Vec<Ready> = (0..12).map(|_| one_at_a_time()).collect();
        assert!(expected[11].position.pass >= 1, "the test wants more than one pass");

        let ready = |batches: Batches, count: usize| {
            let ready = prefetch(examples.clone(), batches, AHEAD).unwrap().take(count);
            ready.collect::<Result<Vec<_>, _>>().unwrap()
        };

        assert_eq!(ready(batches(), 12), expected);
        for done in [1, 4, 9] {
            let resumed =
                Batches::resume(examples.count(), 6, expected[done - 1].position.clone()).unwrap();
            assert_eq!(ready(resumed, 12 - done), expected[done..]);
        }
    }
}

#[test]
fn no_more_is_made_than_was_asked_for_and_dropping_ends_it() {
    let made = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&made);
    let mut numbers =
        Prefetcher::new(AHEAD, move || Some(counting.fetch_add(1, Ordering::SeqCst))).unwrap();

    assert_eq!(numbers.by_ref().take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    drop(numbers);

    let at_end = made.load(Ordering::SeqCst);
    assert!((5..=9).contains(&at_end), "{at_end} were made");

    // The thread has ended: it no longer holds its part of the counter.
    assert_eq!(Arc::strong_count(&made), 1);
}

#[test]
#[should_panic(expected = "a fault of the maker")]
fn a_panic_of_the_maker_reaches_the_consumer() {
    let mut left = 2;
    let make = move || {
        left -= 1;
        assert!(left > 0, "a fault of the maker");
        Some(left)
    };

    let numbers = Prefetcher::new(AHEAD, make).unwrap();
    assert_eq!(numbers.count(), 1);
}
