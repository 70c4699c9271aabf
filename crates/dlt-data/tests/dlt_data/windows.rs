use dlt_data::{DataError, TokenStream, Windows};
use proptest::prelude::*;

fn counting(length: u32) -> TokenStream {
    TokenStream::new((0..length).collect(), length as usize)
}

fn window(windows: &Windows, index: usize) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    let mut inputs = vec![0; windows.context()];
    let mut targets = vec![0; windows.context()];
    windows.fill(index, &mut inputs, &mut targets)?;
    Ok((inputs, targets))
}

#[test]
fn windows_of_a_stream_overlap_by_one_token() {
    let windows = Windows::stream(counting(10), 3).unwrap();
    assert_eq!(windows.count(), 3);
    assert_eq!(window(&windows, 0).unwrap(), (vec![0, 1, 2], vec![1, 2, 3]));
    assert_eq!(window(&windows, 2).unwrap(), (vec![6, 7, 8], vec![7, 8, 9]));
    assert_eq!(windows.tail().unwrap(), None);

    let windows = Windows::stream(counting(9), 3).unwrap();
    assert_eq!(windows.count(), 2);
    assert_eq!(windows.tail().unwrap(), Some((vec![6, 7], vec![7, 8])));
}

#[test]
fn windows_of_blocks_stand_between_bos_and_eos() {
    let windows = Windows::blocks(counting(7), 4, 99).unwrap();
    assert_eq!(windows.count(), 2);
    assert_eq!(window(&windows, 0).unwrap(), (vec![99, 0, 1, 2], vec![0, 1, 2, 99]));
    assert_eq!(window(&windows, 1).unwrap(), (vec![99, 3, 4, 5], vec![3, 4, 5, 99]));
    assert_eq!(windows.predicted(1..2).unwrap(), [3, 4, 5]);
    assert_eq!(windows.tail().unwrap(), None);
}

proptest! {
    #[test]
    fn law_windows_and_tail_predict_every_token_but_the_first_once(
        length in 1_u32..200,
        context in 1_usize..40,
    ) {
        let windows = Windows::stream(counting(length), context).unwrap();
        let mut predicted = Vec::new();

        for index in 0..windows.count() {
            let (inputs, targets) = window(&windows, index).unwrap();
            prop_assert!(inputs.iter().zip(&targets).all(|(input, target)| input + 1 == *target));
            prop_assert_eq!(windows.predicted(index..index + 1).unwrap(), targets.as_slice());
            predicted.extend(targets);
        }

        prop_assert_eq!(windows.predicted(0..windows.count()).unwrap(), predicted.as_slice());
        if let Some((inputs, targets)) = windows.tail().unwrap() {
            prop_assert!(targets.len() < context && inputs.len() == targets.len());
            prop_assert_eq!(inputs[0] + 1, targets[0]);
            predicted.extend(targets);
        }

        prop_assert_eq!(predicted, (1..length).collect::<Vec<_>>());
    }
}

#[test]
fn the_first_windows_are_a_prefix_without_a_tail() {
    let windows = Windows::stream(counting(9), 3).unwrap();
    let first = windows.first(1).unwrap();
    assert_eq!((first.count(), first.tail().unwrap()), (1, None));
    assert_eq!(window(&first, 0).unwrap(), window(&windows, 0).unwrap());

    assert!(matches!(
        window(&first, 1),
        Err(DataError::TooFewWindows { asked: 2, count: 1, context: 3 })
    ));
}

#[test]
fn rejects_windows_that_do_not_exist() {
    let windows = Windows::stream(counting(10), 3).unwrap();
    for error in [
        window(&windows, 3).unwrap_err(),
        windows.first(4).unwrap_err(),
        windows.predicted(1..4).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "4 windows of 3 tokens were requested, but the text has 3: use a longer text, or \
             request fewer"
        );
    }

    assert!(window(&windows, usize::MAX).is_err());
    assert_eq!(Windows::stream(counting(0), 3).unwrap().count(), 0);
}

#[test]
fn rejects_buffers_of_another_length() {
    let windows = Windows::stream(counting(10), 3).unwrap();
    for (inputs, targets) in [(2, 3), (3, 4)] {
        let error = windows.fill(0, &mut vec![0; inputs], &mut vec![0; targets]).unwrap_err();
        assert!(error.to_string().contains("3 tokens does not fit"), "{error}");
    }
}

#[test]
fn rejects_a_context_that_predicts_nothing() {
    assert!(matches!(
        Windows::stream(counting(9), 0),
        Err(DataError::ContextTooShort { least: 1, .. })
    ));

    assert!(matches!(
        Windows::blocks(counting(9), 1, 0),
        Err(DataError::ContextTooShort { least: 2, .. })
    ));
}
