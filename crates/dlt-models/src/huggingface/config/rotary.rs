//! Rotary positions. Since transformers 5 they are one object; before, they were two keys. A file
//! may have both, which must then say the same.

use dlt_spec::spec::{ModelSpec, RotaryKind};
use serde_json::json;

use super::super::settings::Settings;
use crate::Result;

/// How frequencies are stretched.
#[derive(Clone, Debug, PartialEq)]
struct Stretched {
    kind: RotaryKind,
    stretch: [f64; 4],
    attention: f64,
    short: Vec<f64>,
    long: Vec<f64>,
}

/// A model with its rotary positions. `positions` is the number in the config, even if the model
/// reads shorter windows.
pub(crate) fn rotary(
    settings: &Settings<'_>,
    model: ModelSpec,
    head_width: usize,
    positions: usize,
) -> Result<ModelSpec> {
    let new = settings.object("rope_parameters")?;
    let old = settings.object("rope_scaling")?;

    // Phi-3 has this key outside of the object. transformers looks for it there first, whatever the
    // family.
    let original = settings.whole_if_given("original_max_position_embeddings")?;
    let reader = Reader { model: &model, head_width, positions, original };
    let stretched = |within: &Option<Settings<'_>>| {
        within.as_ref().map(|within| reader.stretched(within)).transpose()
    };

    let stretched = match (stretched(&new)?, stretched(&old)?) {
        (Some(new), Some(old)) if new != old => {
            let expected = format!("{new:?} as in `rope_parameters`");
            return Err(settings.refuse("rope_scaling", &expected, &format!("{old:?}")));
        }
        (new, old) => new.or(old).unwrap_or_else(|| reader.none()),
    };

    let base = |settings: &Settings<'_>| settings.real_if_given("rope_theta");
    let within = new.as_ref().or(old.as_ref()).map(base).transpose()?.flatten();
    let outside = base(settings)?;

    if let (Some(within), Some(outside)) = (within, outside)
        && within != outside
    {
        let expected = format!("{within} as in `rope_parameters`");
        return Err(settings.refuse("rope_theta", &expected, &outside.to_string()));
    }

    let Stretched { kind, stretch, attention, short, long } = stretched;

    Ok(ModelSpec {
        rotary_base: within.or(outside).unwrap_or(1e4),
        rotary_kind: kind,
        rotary_stretch: stretch,
        rotary_attention: attention,
        rotary_short: short,
        rotary_long: long,
        ..model
    })
}

/// Reads the object of rotary positions, with what it needs of the rest of the config.
struct Reader<'a> {
    model: &'a ModelSpec,
    head_width: usize,
    positions: usize,
    original: Option<usize>,
}

impl Reader<'_> {
    /// Frequencies that are not stretched.
    fn none(&self) -> Stretched {
        Stretched {
            kind: RotaryKind::Llama3,
            stretch: self.model.rotary_stretch,
            attention: 1.0,
            short: Vec::new(),
            long: Vec::new(),
        }
    }

    fn stretched(&self, scaling: &Settings<'_>) -> Result<Stretched> {
        if let Some((key, value)) = scaling.iter().find(|(_, value)| value.is_object()) {
            return Err(scaling.refuse(key, "one setting for all layers", &value.to_string()));
        }

        // `type` is the older name of `rope_type`.
        scaling.must_be("partial_rotary_factor", &json!(1))?;
        let new = scaling.word("rope_type")?;
        let old = scaling.word("type")?;

        // The caller reads the base; here it is only marked as a key that is read.
        scaling.given("rope_theta");
        let stretched = match new.or(old) {
            None | Some("default") => self.none(),
            Some("linear") => self.scaled(RotaryKind::Linear, factor(scaling, None)?),
            // It differs from `linear` only if a part of each head is not rotated.
            Some("proportional") => self.scaled(RotaryKind::Linear, factor(scaling, Some(1.0))?),
            Some("dynamic") => self.dynamic(scaling)?,
            Some("yarn") => self.yarn(scaling)?,
            Some("longrope") => self.longrope(scaling)?,
            Some("llama3") => self.llama3(scaling)?,
            Some(other) => {
                let key = if new.is_some() { "rope_type" } else { "type" };
                let known = "one of default, linear, dynamic, yarn, longrope, llama3, proportional";
                return Err(scaling.refuse(key, known, &format!("\"{other}\"")));
            }
        };

        match scaling.unread().next() {
            Some((key, value)) => {
                let expected = "no such key for this kind";
                Err(scaling.refuse(key, expected, &value.to_string()))
            }
            None => Ok(stretched),
        }
    }

    fn scaled(&self, kind: RotaryKind, factor: f64) -> Stretched {
        let [_, low, high, original] = self.model.rotary_stretch;
        Stretched { kind, stretch: [factor, low, high, original], ..self.none() }
    }

    fn dynamic(&self, scaling: &Settings<'_>) -> Result<Stretched> {
        // transformers ignores the key here and counts from the positions of the config.
        scaling.must_be("original_max_position_embeddings", &json!(self.positions))?;
        let mut stretched = self.scaled(RotaryKind::Dynamic, factor(scaling, None)?);
        stretched.stretch[3] = self.positions as f64;
        Ok(stretched)
    }

    fn yarn(&self, scaling: &Settings<'_>) -> Result<Stretched> {
        let original = self.original_context(scaling)?;
        let factor = factor(scaling, Some(self.positions as f64 / original))?;

        // transformers uses Python's `or`, so 0 is the same as an absent key.
        let bound = |key: &str, usual: f64| -> Result<f64> {
            Ok(scaling.real_if_given(key)?.filter(|bound| *bound != 0.0).unwrap_or(usual))
        };
        let high = bound("beta_fast", 32.0)?;
        let low = bound("beta_slow", 1.0)?;

        if !(low > 0.0 && high > low) {
            let expected = format!("above beta_slow = {low}, which is above 0");
            return Err(scaling.refuse("beta_fast", &expected, &high.to_string()));
        }

        let scale = scaling.real_if_given("mscale")?;
        let scale_all = scaling.real_if_given("mscale_all_dim")?;
        let grown = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let usual = match (scale, scale_all) {
            (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => grown(scale) / grown(all),
            _ => grown(1.0),
        };

        let kind = if scaling.flag("truncate", true)? {
            RotaryKind::Yarn
        } else {
            RotaryKind::YarnUnrounded
        };

        let attention = attention(scaling, usual)?;
        Ok(Stretched { kind, stretch: [factor, low, high, original], attention, ..self.none() })
    }

    fn longrope(&self, scaling: &Settings<'_>) -> Result<Stretched> {
        let original = self.original_context(scaling)?;
        let given = scaling.real_if_given("factor")?;

        // The ratio may be below 1, and then counts as 1.
        let factor = given.unwrap_or(self.positions as f64 / original).max(1.0);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        let half = self.head_width / 2;

        let factors = |key: &str| {
            let factors = scaling.reals_if_given(key)?.unwrap_or_default();
            let is_right = factors.len() == half && factors.iter().all(|factor| *factor > 0.0);
            let refuse = || {
                let expected = format!("{half} numbers above 0, one for each frequency");
                scaling.refuse(key, &expected, &format!("{factors:?}"))
            };

            if is_right { Ok(factors.clone()) } else { Err(refuse()) }
        };

        let [_, low, high, _] = self.model.rotary_stretch;

        Ok(Stretched {
            kind: RotaryKind::LongRope,
            stretch: [factor, low, high, original],
            attention: attention(scaling, usual)?,
            short: factors("short_factor")?,
            long: factors("long_factor")?,
        })
    }

    fn llama3(&self, scaling: &Settings<'_>) -> Result<Stretched> {
        let needed = |key| {
            scaling.real_if_given(key)?.ok_or_else(|| scaling.refuse(key, "a number", "nothing"))
        };
        let factor = factor(scaling, None)?;
        let low = needed("low_freq_factor")?;
        let high = needed("high_freq_factor")?;

        if !(low > 0.0 && high > low) {
            let expected = format!("above low_freq_factor = {low}, which is above 0");
            return Err(scaling.refuse("high_freq_factor", &expected, &high.to_string()));
        }

        let original = self.original_context(scaling)?;
        Ok(Stretched { stretch: [factor, low, high, original], ..self.none() })
    }

    /// Tokens of the context before stretching: the key outside of the object, or the key in it,
    /// or the positions.
    fn original_context(&self, scaling: &Settings<'_>) -> Result<f64> {
        let key = "original_max_position_embeddings";
        let within = scaling.whole_if_given(key)?;
        match self.original.or(within).unwrap_or(self.positions) {
            0 | 1 => Err(scaling.refuse(key, "at least 2 tokens", "fewer")),
            original => Ok(original as f64),
        }
    }
}

/// The factor of stretching. It must be at least 1.
fn factor(scaling: &Settings<'_>, usual: Option<f64>) -> Result<f64> {
    let given = scaling.real_if_given("factor")?.or(usual);
    let factor = given.ok_or_else(|| scaling.refuse("factor", "a number", "nothing"))?;
    if factor < 1.0 {
        return Err(scaling.refuse("factor", "at least 1", &factor.to_string()));
    }

    Ok(factor)
}

/// What queries and keys are multiplied by. It must be above 0.
fn attention(scaling: &Settings<'_>, usual: f64) -> Result<f64> {
    let attention = scaling.real_if_given("attention_factor")?.unwrap_or(usual);
    if !(attention > 0.0 && attention.is_finite()) {
        return Err(scaling.refuse("attention_factor", "a number above 0", &attention.to_string()));
    }
    Ok(attention)
}
