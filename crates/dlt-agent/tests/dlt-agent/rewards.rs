//! Rewards for measurements.

use crate::settings::{agent, agent_spec};
use dlt_agent::{AgentError, MAX_LOSS, Measured, Rewarder};
use dlt_spec::spec::{Decision, PolicyKind, Reward};

/// Rewards are single f64 operations; only the exponential may round differently.
const TOLERANCE: f64 = 1e-12;

fn rewards<const N: usize>(kind: Reward, measured: [f64; N]) -> [f64; N] {
    let mut rewarder = Rewarder::new(kind);
    measured.map(|measured| rewarder.reward(Measured::of_loss(measured), None).unwrap())
}

#[test]
fn each_kind_rewards_as_defined() {
    let [low, high] = rewards(Reward::NegPpl, [2.0_f64.ln(), 500.0_f64.ln()]);
    assert!((low + 2.0).abs() < TOLERANCE && (high + 500.0).abs() < 500.0 * TOLERANCE);

    let [low, high] = rewards(Reward::NegPplClipped, [2.0_f64.ln(), 500.0_f64.ln()]);
    assert!((low + 2.0).abs() < TOLERANCE);
    assert_eq!(high, -10.0);
    assert_eq!(rewards(Reward::NegLoss, [4.0, 3.5]), [-4.0, -3.5]);
    assert_eq!(rewards(Reward::LossDelta, [4.0, 3.5, 3.75]), [0.0, 0.5, -0.25]);

    for (kind, expected) in [(Reward::Accuracy, 0.25), (Reward::NegAccuracy, -0.25)] {
        let measured = Measured { loss: 3.0, accuracy: Some(0.25) };
        assert_eq!(Rewarder::new(kind).reward(measured, None).unwrap(), expected);
    }
}

#[test]
fn a_gain_is_what_the_loss_fell_by_on_the_same_batches() {
    let mut rewarder = Rewarder::new(Reward::Gain);
    let mut gain = |before, after| rewarder.reward(Measured::of_loss(after), Some(before)).unwrap();
    assert_eq!((gain(4.0, 3.5), gain(3.0, 3.25), gain(2.0, 2.0)), (0.5, -0.25, 0.0));

    // Other rewards ignore the loss before the decision.
    let mut other = Rewarder::new(Reward::NegLoss);
    assert_eq!(other.reward(Measured::of_loss(3.5), Some(4.0)).unwrap(), -3.5);
}

#[test]
fn rejects_a_gain_without_the_loss_before() {
    let mut rewarder = Rewarder::new(Reward::Gain);
    let error = rewarder.reward(Measured::of_loss(3.5), None).unwrap_err();
    assert!(matches!(error, AgentError::NoLossBefore), "{error}");

    for before in [f64::NAN, f64::INFINITY] {
        let error = rewarder.reward(Measured::of_loss(3.5), Some(before)).unwrap_err();
        assert!(matches!(error, AgentError::NotFinite { .. }), "{error}");
    }
}

#[test]
fn law_perplexity_stays_finite_for_huge_losses() {
    let [at_bound, beyond] = rewards(Reward::NegPpl, [MAX_LOSS, 1e6]);
    assert_eq!(at_bound, beyond);
    assert!(((beyond * beyond) as f32).is_finite());
}

#[test]
fn the_spec_names_the_reward() {
    for (word, first) in [
        (Reward::NegPpl, -2.0_f64.exp()),
        (Reward::NegPplClipped, -2.0_f64.exp()),
        (Reward::NegLoss, -2.0),
        (Reward::LossDelta, 0.0),
        (Reward::Accuracy, 0.75),
        (Reward::NegAccuracy, -0.75),
        (Reward::Gain, 1.5),
    ] {
        let mut spec = agent_spec(PolicyKind::Random);
        spec.reward = word;

        let mut agent = agent(&spec, Decision::Joint, 3, 1);
        assert_eq!(
            agent.reward(Measured { loss: 2.0, accuracy: Some(0.75) }, Some(3.5)).unwrap(),
            first,
            "{word:?}"
        );
    }
}

#[test]
fn rejects_a_measurement_that_is_not_finite() {
    for measured in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut rewarder = Rewarder::new(Reward::LossDelta);
        assert!(matches!(
            rewarder.reward(Measured::of_loss(measured), None),
            Err(AgentError::NotFinite { .. })
        ));

        assert_eq!(
            rewarder.reward(Measured::of_loss(3.0), None).unwrap(),
            0.0,
            "a refused measurement is not remembered"
        );
    }
}

#[test]
fn rejects_an_accuracy_that_was_not_measured() {
    for kind in [Reward::Accuracy, Reward::NegAccuracy] {
        let refused = Rewarder::new(kind).reward(Measured::of_loss(2.0), None);
        assert!(matches!(refused, Err(AgentError::NotFinite { .. })));
    }
}
