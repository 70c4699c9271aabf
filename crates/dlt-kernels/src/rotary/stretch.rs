//! How rotary frequencies are stretched for texts that are longer than those that a model was
//! trained on.

use candle_core::{Result, bail};

use super::{Longer, Rotary, plain};

/// A way of stretching, under the name that transformers has for it. Factors are finite and at
/// least 1.
///
/// # Source
/// `modeling_rope_utils.py` of transformers 5.24.0, whose rounding to f32 is followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Stretch {
    /// `linear`: every frequency is divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// `dynamic`: in texts longer than the original context the base grows with the length of the
    /// text (NTK scaling).
    Dynamic {
        /// How much faster than the text the base grows.
        factor: f64,
        /// Tokens of the texts before stretching.
        original_context: usize,
    },
    /// `yarn`: low frequencies are divided by the factor, high ones stay, those in between are
    /// blended; queries and keys grow (Peng et al., YaRN).
    Yarn {
        /// The factor.
        factor: f64,
        /// Waves in the original context up to which a frequency is divided whole.
        low: f64,
        /// Waves in the original context from which on a frequency stays as it is.
        high: f64,
        /// Tokens of the texts before stretching.
        original_context: usize,
        /// Whether the bounds are rounded outwards to the numbers of frequencies.
        is_rounded: bool,
        /// What queries and keys are multiplied by.
        attention: f64,
    },
    /// `longrope`: each frequency is divided by a factor of its own, in texts longer than the
    /// original context by another one (Ding et al., LongRoPE).
    LongRope {
        /// D/2 factors.
        short: Vec<f64>,
        /// D/2 factors of longer texts.
        long: Vec<f64>,
        /// Tokens of the texts before stretching.
        original_context: usize,
        /// What queries and keys are multiplied by.
        attention: f64,
    },
    /// `llama3`: low frequencies are divided by the factor, high ones stay, those in between are
    /// blended.
    Llama3 {
        /// What the frequencies of waves longer than `original_context / low` are divided by.
        factor: f64,
        /// Waves in the original context up to which a frequency is stretched whole.
        low: f64,
        /// Waves in the original context from which on a frequency stays as it is; in between it is
        /// interpolated.
        high: f64,
        /// Tokens of the texts before stretching.
        original_context: usize,
    },
}

impl Stretch {
    /// Refuses numbers that no stretch can have, of frequencies of this base in heads of D numbers.
    pub(super) fn check(&self, head_width: usize, base: f64) -> Result<()> {
        match self {
            Self::Linear { factor } => check_factor(*factor),
            Self::Dynamic { factor, original_context } => {
                check_factor(*factor)?;
                check_context(*original_context)
            }
            Self::Yarn { factor, low, high, original_context, attention, .. } => {
                if base <= 1.0 {
                    bail!("rotary: expected a base above 1 for yarn, got {base}")
                }

                check_factor(*factor)?;
                check_bounds(*low, *high)?;
                check_context(*original_context)?;
                check_attention(*attention)
            }
            Self::LongRope { short, long, original_context, attention } => {
                for factors in [short, long] {
                    if factors.len() != head_width / 2
                        || !factors.iter().all(|factor| is_positive(*factor))
                    {
                        bail!(
                            "rotary: expected {} finite factors above 0, got {factors:?}",
                            head_width / 2
                        )
                    }
                }

                check_context(*original_context)?;
                check_attention(*attention)
            }
            Self::Llama3 { factor, low, high, original_context } => {
                check_factor(*factor)?;
                check_bounds(*low, *high)?;
                check_context(*original_context)
            }
        }
    }

    /// The angles of a base, of which these are the powers. The numbers must have been checked.
    pub(super) fn apply(self, powers: &[f32], base: f64) -> Rotary {
        let of = |frequencies| Rotary { frequencies, factor: 1.0, longer: Longer::Same };

        match self {
            Self::Linear { factor } => {
                of(plain(powers).into_iter().map(|frequency| frequency / factor as f32).collect())
            }
            Self::Dynamic { factor, original_context } => Rotary {
                longer: Longer::Growing { base, factor, original_context },
                ..of(plain(powers))
            },
            Self::Yarn { factor, low, high, original_context, is_rounded, attention } => {
                let ramp = Ramp::new(powers.len(), base, [low, high], original_context, is_rounded);
                let blend = |(number, power): (usize, &f32)| {
                    let kept = 1.0 - ramp.at(number);
                    1.0 / (factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
                };

                let frequencies = powers.iter().enumerate().map(blend).collect();
                Rotary { factor: attention as f32, ..of(frequencies) }
            }
            Self::LongRope { short, long, original_context, attention } => {
                let divided = |factors: Vec<f64>| -> Vec<f32> {
                    let divide = |(power, factor): (&f32, f64)| 1.0 / (factor as f32 * power);
                    powers.iter().zip(factors).map(divide).collect()
                };

                let longer = Longer::Other { frequencies: divided(long), original_context };
                Rotary { frequencies: divided(short), factor: attention as f32, longer }
            }
            Self::Llama3 { factor, low, high, original_context } => {
                let apply = |frequency: f32| {
                    let frequency = f64::from(frequency);
                    let waves = original_context as f64 * frequency / std::f64::consts::TAU;
                    let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);

                    ((1.0 - kept) * frequency / factor + kept * frequency) as f32
                };

                of(plain(powers).into_iter().map(apply).collect())
            }
        }
    }
}

/// From 0 at the number of a frequency that stays to 1 at that of one that is stretched whole.
struct Ramp {
    from: f32,
    width: f32,
}

impl Ramp {
    fn new(
        count: usize,
        base: f64,
        [low, high]: [f64; 2],
        original_context: usize,
        is_rounded: bool,
    ) -> Self {
        let head_width = 2.0 * count as f64;
        let number_of = |waves: f64| {
            head_width * (original_context as f64 / (waves * std::f64::consts::TAU)).ln()
                / (2.0 * base.ln())
        };
        let [mut from, mut to] = [number_of(high), number_of(low)];
        if is_rounded {
            (from, to) = (from.floor(), to.ceil());
        }
        (from, to) = (from.max(0.0), to.min(head_width - 1.0));
        // As transformers has it: a step without a width would divide by zero.
        let to = if from == to { to + 0.001 } else { to };
        Self { from: from as f32, width: (to - from) as f32 }
    }

    fn at(&self, number: usize) -> f32 {
        ((number as f32 - self.from) / self.width).clamp(0.0, 1.0)
    }
}

fn is_positive(number: f64) -> bool {
    number > 0.0 && number.is_finite()
}

fn check_factor(factor: f64) -> Result<()> {
    if !(factor >= 1.0 && factor.is_finite()) {
        bail!("rotary: expected a finite factor of at least 1, got {factor}")
    }
    Ok(())
}

fn check_bounds(low: f64, high: f64) -> Result<()> {
    if !(low > 0.0 && low < high && high.is_finite()) {
        bail!("rotary: expected 0 < low < high, both finite, got low {low} and high {high}")
    }
    Ok(())
}

fn check_context(original_context: usize) -> Result<()> {
    if original_context == 0 {
        bail!("rotary: expected an original context of at least one token, got 0")
    }
    Ok(())
}

fn check_attention(attention: f64) -> Result<()> {
    if !is_positive(attention) {
        bail!("rotary: expected a finite factor of queries and keys above 0, got {attention}")
    }
    Ok(())
}
