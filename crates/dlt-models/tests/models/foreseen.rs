//! A model as a decision would make it computes what the model computes after the decision.

use dlt_models::binding::{Binding, Change, Rules, Tie};
use dlt_spec::spec::FirstTie;
use dlt_state::State;

use crate::families::{Family, KERNELS};
use crate::fixtures::states;

/// Every family, from starts with frozen layers and with groups, to every state of four layers: the
/// loss has the same bits, and nothing of the model has changed.
#[test]
fn law_what_is_foreseen_has_the_loss_of_what_is_entered() {
    let replicate = Rules { tie: Tie::Replicate, ..Rules::PAPER };
    let literal = Rules { first_tie: FirstTie::Literal, ..Rules::PAPER };
    let grouped = State::new(vec![0, 1, 0, 1]).expect("a state");
    let independent = State::independent(4);

    for family in Family::ALL {
        let examples = family.examples(2);
        let batch = examples.batch();
        let starts = [
            (State::all_tied(4), Binding::frozen(4), Rules::PAPER),
            (State::all_tied(4), Binding::frozen(4), literal),
            (grouped.clone(), Binding::of_state(&grouped), Rules::PAPER),
            (independent.clone(), Binding::of_state(&independent), replicate),
        ];

        for (from, binding, rules) in starts {
            let new = || family.drawn(binding.clone(), rules, KERNELS[0]);
            let model = new();
            let before = model.loss_sum(&batch).expect("a loss");
            let mut different = 0;

            for to in states() {
                let change = Change::joint(&from, &to);
                let foreseen = model.foreseen(&change).expect("equal depths");
                let loss = foreseen.loss_sum(&batch).expect("a loss");

                let mut entered = new();
                entered.apply(&change).expect("equal depths");
                let expected = entered.loss_sum(&batch).expect("a loss");
                assert_eq!(loss.to_bits(), expected.to_bits(), "{family:?}: {from} to {to}");
                different += usize::from(loss != before);
            }

            assert!(different > 5, "{family:?}: most states compute something else");
            assert_eq!(model.loss_sum(&batch).expect("a loss"), before);
            assert_eq!(model.binding(), &binding);
        }
    }
}

#[test]
fn rejects_a_state_that_is_foreseen_at_another_depth() {
    let model = Family::Gpt2.drawn(Binding::frozen(4), Rules::PAPER, KERNELS[0]);
    let (from, to) = (State::all_tied(4), State::all_tied(3));
    assert!(model.foreseen(&Change::joint(&from, &to)).is_err());
}
