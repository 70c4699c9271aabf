//! Rules of policies that judge states before they enter one.

use super::{all_pass, each_breaks};

const POLICIES: [&str; 4] = [
    "agent.policy=backtrack",
    "agent.policy=beam",
    "agent.policy=mcts",
    "agent.policy=random-search",
];

#[test]
fn rejects_searches_that_cannot_judge_two_states() {
    for policy in POLICIES {
        each_breaks(&[
            (&[policy, "agent.budget=0"], "agent.budget", "is 0: must be a whole number from 1"),
            (&[policy, "agent.budget=1"], "agent.budget", "at least 2, which judges"),
            (
                &[policy, "agent.budget=7", "agent.reward_batches=4"],
                "agent.budget",
                "at least 8, which judges the present state and one other (agent.reward_batches = 4)",
            ),
            (&[policy, "agent.beam_width=0"], "agent.beam_width", "from 1"),
            (&[policy, "agent.price=-0.1"], "agent.price", "at least 0"),
            (&[policy, "agent.price=inf"], "agent.price", "finite"),
        ]);

        all_pass(&[
            &[policy],
            &[policy, "agent.budget=2", "agent.price=0.0"],
            &[policy, "tying.initial=independent", "tying.gate=0.1", "agent.reward=gain"],
        ]);
    }

    // Other policies do not read it.
    all_pass(&[&["agent.policy=random", "agent.budget=1"]]);
}

#[test]
fn rejects_searches_in_decisions_of_one_layer_and_of_groups() {
    for policy in POLICIES {
        each_breaks(&[
            (&[policy, "tying.decision=per-layer"], "agent.policy", "(\"joint\")"),
            (&[policy, "tying.decision=single"], "agent.policy", "\"q\", \"random\" or \"none\""),
            (
                &[policy, "tying.decision=split", "tying.initial=tied", "tying.grow=[0.5]"],
                "agent.policy",
                "\"grow\", \"even\"",
            ),
            (
                &[policy, "tying.decision=swap", "tying.initial=sequence"],
                "agent.policy",
                "\"conflict\"",
            ),
        ]);
    }
}

/// A candidate is judged by the weights that are there, so these have to be those that the state
/// names, and a tie must not make new ones.
#[test]
fn rejects_searches_over_weights_that_are_elsewhere_than_the_state_says() {
    let ground = ["agent.policy=mcts", "tying.initial=independent"];
    for (setting, key) in [
        ("tying.tie=replicate", "tying.tie"),
        ("tying.untie=alias", "tying.untie"),
        ("tying.retied=keep", "tying.retied"),
        ("tying.gradient=owner", "tying.gradient"),
    ] {
        each_breaks(&[(&[&ground[..], &[setting]].concat(), key, "where agent.policy searches")]);
    }

    let average = [&ground[..], &["tying.merge=average"]].concat();
    each_breaks(&[(&average, "tying.merge", "an average would have to be made for every state")]);
}
