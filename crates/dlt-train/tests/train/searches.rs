//! Policies that judge states before they enter one, in whole runs.

use dlt_spec::record::DecisionRow;
use dlt_state::{Recording, State};

use crate::bench::{Bench, finish, losses};

const POLICIES: [&str; 4] = [
    "agent.policy=backtrack",
    "agent.policy=beam",
    "agent.policy=mcts",
    "agent.policy=random-search",
];

/// A model that begins without ties, and ties what costs little.
const SEARCH: [&str; 5] = [
    "tying.initial=independent",
    "tying.group_rate=inverse",
    "agent.budget=20",
    "agent.price=0.4",
    "agent.reward_batches=2",
];

fn search<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SEARCH[..], more].concat()
}

fn run(bench: &Bench, name: &str, settings: &[&str]) -> (Vec<DecisionRow>, Recording) {
    finish(bench.trainer(name, settings, None));
    (bench.decisions(name), bench.recording(name))
}

/// What a search says of its choice is what is measured after the choice was really entered, on the
/// same batches, bit for bit. The gate, which lets all pass, measures it.
#[test]
fn law_the_judged_loss_is_that_of_the_state_that_is_entered() {
    const FROZEN: &str = "tying.initial=frozen";
    let starts: [&[&str]; 5] = [
        &["tying.initial=independent"],
        &[FROZEN],
        &["tying.initial=[0, 1, 0, 3]"],
        &["tying.initial=[0, 1, 0, 3]", "tying.unit=attention", "tying.own=scales"],
        &["tying.initial=independent", "tying.exempt=[0]"],
    ];
    for (policy, start) in
        POLICIES.into_iter().flat_map(|policy| starts.map(|start| (policy, start)))
    {
        let bench = Bench::new();
        let plain = search(&[&[policy], start].concat());
        let (rows, recording) =
            run(&bench, "gated", &[&plain[..], &["tying.gate=1000.0"]].concat());
        let measured: Vec<_> = rows.iter().filter(|row| row.loss_after.is_some()).collect();
        assert!(!measured.is_empty(), "{policy} {start:?}: a decision that ties");

        for row in measured {
            let bits = |loss: Option<f64>| loss.map(f64::to_bits);
            assert_eq!(
                bits(row.loss_after),
                bits(row.search.map(|search| search.loss_after)),
                "{policy} {start:?}"
            );

            // From frozen layers on, even the present state asks for a first tie.
            if !start.contains(&FROZEN) {
                assert_eq!(
                    bits(row.loss_before),
                    bits(row.search.map(|search| search.loss_before)),
                    "{policy} {start:?}"
                );
            }
        }

        // The gate changes nothing but what is measured.
        let (plain, other) = run(&bench, "plain", &plain);
        assert_eq!(recording.rows(), other.rows(), "{policy} {start:?}");
        assert!(plain.iter().all(|row| row.loss_after.is_none()));
    }
}

/// Each decision says what it judged and what that took, and the summary has the sum.
#[test]
fn a_search_is_recorded_and_stays_within_its_budget() {
    for policy in POLICIES {
        let bench = Bench::new();
        let summary = bench.run("searched", &search(&[policy]));
        let rows = bench.decisions("searched");
        assert_eq!(rows.len(), 7, "{policy}");

        let mut state = State::independent(4);
        for row in &rows {
            let search = row.search.unwrap();
            assert_eq!(search.passes, 2 * search.candidates, "{policy}");
            assert!((2..=20).contains(&search.passes), "{policy}: {search:?}");

            let cost = |loss: f64, state: &State| loss + 0.4 * (state.n_independent() as f64 / 4.0);
            let next = State::new(row.state.clone()).unwrap();
            let before = cost(search.loss_before, &state);
            assert!(cost(search.loss_after, &next) <= before, "{policy}: {row:?}");
            state = next;
        }

        let passes: usize =
            rows.iter().filter_map(|row| row.search).map(|search| search.passes).sum();
        assert_eq!(summary.search_passes, Some(passes), "{policy}");
        assert!(state.n_independent() < 4, "{policy}: a price ties layers");
    }
}

/// Without a search nothing is judged, and nothing is said of it.
#[test]
fn a_run_without_a_search_says_nothing_of_one() {
    let bench = Bench::new();
    let summary = bench.run("random", &["agent.policy=random"]);
    assert_eq!(summary.search_passes, None);
    assert!(bench.decisions("random").iter().all(|row| row.search.is_none()));
}

/// A replay of what a search decided has the weights of the search: judging leaves no trace in
/// them.
#[test]
fn law_judging_changes_no_weight() {
    let bench = Bench::new();
    let (_, recording) = run(&bench, "beam", &search(&["agent.policy=beam"]));
    assert!(recording.rows().iter().any(|row| row.state().n_independent() < 4));

    let replay = search(&["agent.policy=replay", "agent.recording=beam"]);
    finish(bench.trainer("replay", &replay, Some(&recording)));
    assert_eq!(losses(&bench.metrics("beam")), losses(&bench.metrics("replay")));
}

/// A price of nothing leaves a model without ties as it is, unless a tie lowers the loss; a high one
/// ties all of its layers.
#[test]
fn the_price_decides_how_much_is_tied() {
    let bench = Bench::new();
    let end = |name: &str, price: &str| {
        let settings = search(&["agent.policy=backtrack", "agent.budget=60", price]);
        let (_, recording) = run(&bench, name, &settings);
        recording.rows().last().unwrap().state().n_independent()
    };

    let [none, high] = [end("none", "agent.price=0.0"), end("high", "agent.price=100.0")];
    assert_eq!(high, 1);
    assert!(none > high, "{none}");
}
