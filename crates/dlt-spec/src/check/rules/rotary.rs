//! Rules of what the families with rotary positions have and the others lack.

use super::Rules;
use crate::spec::*;

impl Rules<'_> {
    /// Widths of heads, and windows of attention. In the other families both are `auto`.
    pub(super) fn heads(&mut self) {
        let model = &self.spec.model;
        let is_rotary = model.architecture.is_rotary();

        self.holds(
            "model.head_width",
            // Rotary positions turn the numbers of a head in pairs.
            || model.head_width.or(2).is_multiple_of(2),
            "even, for rotary positions",
        );

        self.holds_given(
            "model.heads",
            &["model.width", "model.head_width"],
            || !is_rotary || model.head_width.or(model.width / model.heads).is_multiple_of(2),
            || {
                let width = model.width;
                format!(
                    "a number that divides model.width = {width} into even widths, for rotary \
                     positions"
                )
            },
        );

        let context = model.context;

        self.holds_given(
            "model.attention_window",
            &["model.context"],
            || model.attention_window.or(context) >= context,
            || format!("at least model.context = {context}: a sliding window is not supported"),
        );
    }

    /// Rules of rotary positions.
    pub(super) fn rotary(&mut self) {
        let model = &self.spec.model;
        let ModelSpec { rotary_kind, rotary_stretch, rotary_attention, .. } = *model;
        let is_rotary = model.architecture.is_rotary();
        let [factor, low, high, original_context] = rotary_stretch;

        self.holds(
            "model.rotary_stretch",
            || high > low,
            "a factor of the high bound above that of the low bound",
        );

        self.holds(
            "model.rotary_stretch",
            || !is_rotary || factor >= 1.0,
            "a factor of at least 1",
        );

        self.holds(
            "model.rotary_stretch",
            || original_context.round() >= 1.0,
            "at least one token of the original context",
        );

        let has_factor = matches!(
            rotary_kind,
            RotaryKind::Yarn | RotaryKind::YarnUnrounded | RotaryKind::LongRope
        );

        self.holds_given(
            "model.rotary_attention",
            &["model.rotary_kind"],
            || has_factor || rotary_attention == 1.0,
            "1 unless model.rotary_kind is \"yarn\", \"yarn-unrounded\" or \"longrope\"",
        );

        self.holds_given(
            "model.rotary_base",
            &["model.rotary_kind"],
            || !is_rotary || model.rotary_base >= 1.0,
            "at least 1",
        );

        self.holds_given(
            "model.rotary_base",
            &["model.rotary_kind"],
            || {
                !matches!(rotary_kind, RotaryKind::Yarn | RotaryKind::YarnUnrounded)
                    || model.rotary_base > 1.0
            },
            "above 1 under yarn",
        );

        let count = match rotary_kind {
            RotaryKind::LongRope => {
                model.head_width.or(model.width.checked_div(model.heads).unwrap_or(0)) / 2
            }
            _ => 0,
        };

        for (key, factors) in
            [("model.rotary_short", &model.rotary_short), ("model.rotary_long", &model.rotary_long)]
        {
            self.holds_given(
                key,
                &["model.rotary_kind", "model.heads", "model.head_width", "model.width"],
                || factors.len() == count,
                || match rotary_kind {
                    RotaryKind::LongRope => format!("{count} numbers, one for each frequency"),
                    _ => "empty unless model.rotary_kind is \"longrope\"".into(),
                },
            );
        }
    }
}
