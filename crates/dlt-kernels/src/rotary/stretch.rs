//! Stretching of rotary frequencies, for texts that are longer than those that a model was trained
//! on.

use candle_core::{Result, bail};

use super::{Longer, Rotary, plain};

/// A way of stretching, with the name that transformers gives it. Factors are finite and at least
/// 1; those of `LongRope`, and those of queries and keys, are above 0.
///
/// # Source
/// `modeling_rope_utils.py` of transformers 5.24.0; this code follows its rounding to f32.
#[derive(Clone, Debug, PartialEq)]
pub enum Stretch {
    /// `linear`: every frequency is divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// `dynamic`: in texts longer than the original context, the base grows with the length of the
    /// text (NTK scaling).
    Dynamic {
        /// How much faster the base grows than the text.
        factor: f64,
        /// Tokens of the longest text before stretching.
        original_context: usize,
    },
    /// `yarn`: low frequencies are divided by the factor, high ones stay, and those in between are
    /// blended. Queries and keys are scaled (Peng et al., YaRN).
    Yarn {
        /// The factor.
        factor: f64,
        /// Up to this many waves in the original context, a frequency is divided by the whole
        /// factor.
        low: f64,
        /// From this many waves in the original context on, a frequency stays as it is.
        high: f64,
        /// Tokens of the longest text before stretching.
        original_context: usize,
        /// Whether the bounds are rounded outwards to whole indices of frequencies.
        is_rounded: bool,
        /// The factor of queries and keys.
        attention: f64,
    },
    /// `longrope`: each frequency is divided by its own factor; texts longer than the original
    /// context have other factors (Ding et al., LongRoPE).
    LongRope {
        /// D/2 factors.
        short: Vec<f64>,
        /// D/2 factors in longer texts.
        long: Vec<f64>,
        /// Tokens of the longest text before stretching.
        original_context: usize,
        /// The factor of queries and keys.
        attention: f64,
    },
    /// `llama3`: low frequencies are divided by the factor, high ones stay, and those in between
    /// are blended.
    Llama3 {
        /// The divisor of frequencies whose waves are longer than `original_context / low`.
        factor: f64,
        /// Up to this many waves in the original context, a frequency is divided by the whole
        /// factor.
        low: f64,
        /// From this many waves in the original context on, a frequency stays as it is; in between
        /// it is interpolated.
        high: f64,
        /// Tokens of the longest text before stretching.
        original_context: usize,
    },
}

impl Stretch {
    /// Refuses numbers outside of their ranges, for frequencies of this base in heads of
    /// `head_width` numbers.
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

    /// The stretched angles of a base, from its powers. The numbers must have been checked.
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
                // In this order of operations, so that each step rounds to f32 as in transformers.
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

/// Rises from 0, at the index of the last frequency that stays, to 1, at that of the first one that
/// is divided by the whole factor.
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

        let mut from = number_of(high);
        let mut to = number_of(low);
        if is_rounded {
            from = from.floor();
            to = to.ceil();
        }

        from = from.max(0.0);
        to = to.min(head_width - 1.0);

        // As in transformers: a ramp of width zero would divide by zero.
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
