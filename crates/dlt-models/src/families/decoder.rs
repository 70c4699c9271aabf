//! What the decoders share: what they predict, and the parameters of their heads.

use dlt_spec::spec::{Attention, Objective, Output};

use crate::Result;
use crate::architecture::{Form, HeadSettings, Projection, entry};
use crate::huggingface::config::HeadKind;
use crate::huggingface::settings::Settings;
use crate::parameters::Entry;

/// The table of classes (K, C).
const CLASSES: &str = "score.weight";
/// A table of the output's own (V, C).
pub(super) const OWN_OUTPUT: &str = "lm_head.weight";

/// What a decoder of transformers with such a head predicts.
pub(super) fn decodes(_: &Settings<'_>, head_kind: HeadKind) -> Result<(Objective, Attention)> {
    let objective = match head_kind {
        HeadKind::Classes => Objective::Classes,
        HeadKind::None | HeadKind::Next | HeadKind::Masked => Objective::NextToken,
    };

    Ok((objective, Attention::Causal))
}

/// The head's own parameter; `None` if the head uses the token table.
pub(super) fn head_entry(form: &Form, vocabulary: usize) -> Option<Entry> {
    let rows = if form.head.has_classes() { form.head.classes } else { vocabulary };
    let name = own_head(form.head).first()?;
    Some(entry(name, &[rows, form.width], form.normal()))
}

/// What turns the head's rows into scores, in a model whose token table is called `words`.
pub(super) fn output(head: HeadSettings, words: &'static str, vocabulary: usize) -> Projection {
    let rows = if head.has_classes() { head.told_classes() } else { vocabulary };
    let table = own_head(head).first().copied().unwrap_or(words);
    Projection { table, bias: None, rows }
}

/// The name of the head's own parameter, if it has one.
pub(super) fn own_head(head: HeadSettings) -> &'static [&'static str] {
    match (head.has_classes(), head.output) {
        (true, _) => &[CLASSES],
        (false, Output::Own) => &[OWN_OUTPUT],
        (false, Output::Tied) => &[],
    }
}
