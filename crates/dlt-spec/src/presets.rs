//! The built-in presets: models with their data, and methods that replace the method settings of a
//! model's preset. The file of a method names what differs from the defaults.

use crate::error::{SpecError, nearest};
use crate::overlay::{Origin, Overlay};
use crate::spec::Spec;

/// The preset that is used if none is named: the project's main job.
pub const DEFAULT_PRESET: &str = "shakespeare-12";

/// The sections of which a method replaces every setting.
pub const METHOD_SECTIONS: [&str; 3] = ["optimizer", "tying", "agent"];

/// One preset: a TOML file. Its first comment names the source of its values, its cost, the
/// expected result and the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    name: &'static str,
    kind: PresetKind,
    text: &'static str,
}

/// What a preset sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresetKind {
    /// Model, data, length of training, and its own method.
    Model,
    /// Only the method: `--method`.
    Method,
}

macro_rules! embedded {
    ($kind:expr, $folder:literal, $($name:literal),+) => {
        &[$(Preset {
            name: $name,
            kind: $kind,
            text: include_str!(concat!("../presets/", $folder, $name, ".toml")),
        }),+]
    };
}

/// Presets of a model and its data.
pub const PRESETS: &[Preset] = embedded!(
    PresetKind::Model,
    "",
    "smoke",
    "shakespeare-12",
    "shakespeare-one-block",
    "gpt2-small",
    "gpt2-paper",
    "bert-small",
    "bert-paper",
    "llama-small",
    "vit-cifar",
    "vit-paper"
);

/// Presets of a method.
pub const METHODS: &[Preset] = embedded!(
    PresetKind::Method,
    "methods/",
    "paper",
    "reference",
    "reference-vision",
    "reference-glue",
    "short",
    "growth"
);

/// The preset of a model with this name.
///
/// # Errors
/// If there is none; the error names the nearest.
pub fn preset(name: &str) -> Result<&'static Preset, SpecError> {
    find(PRESETS, "preset", name)
}

/// The method with this name.
///
/// # Errors
/// If there is none; the error names the nearest.
pub fn method(name: &str) -> Result<&'static Preset, SpecError> {
    find(METHODS, "method", name)
}

impl Preset {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it sets.
    #[must_use]
    pub fn kind(&self) -> PresetKind {
        self.kind
    }

    /// The file, with its comments.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The comment at its top, without the `#` marks.
    #[must_use]
    pub fn header(&self) -> String {
        let marked = self.text.lines().map_while(|line| line.strip_prefix('#'));
        marked.map(str::trim).collect::<Vec<_>>().join("\n")
    }

    /// Its values, as an overlay. A method has a value for every setting of [`METHOD_SECTIONS`]:
    /// the default where its file has none, so that nothing of another method stays below it.
    ///
    /// # Errors
    /// If there is a fault in the file.
    pub fn overlay(&self) -> Result<Overlay, SpecError> {
        match self.kind {
            PresetKind::Model => Overlay::from_toml(Origin::Preset(self.name.into()), self.text),
            PresetKind::Method => Overlay::from_toml(Origin::Method(self.name.into()), self.text)
                .map(|named| named.over_defaults(&METHOD_SECTIONS)),
        }
    }

    /// Its values over the defaults.
    ///
    /// # Errors
    /// If there is a fault in the file.
    pub fn spec(&self) -> Result<Spec, SpecError> {
        Spec::assemble(&[self.overlay()?])
    }
}

fn find(
    presets: &'static [Preset],
    kind: &'static str,
    name: &str,
) -> Result<&'static Preset, SpecError> {
    presets.iter().find(|preset| preset.name == name).ok_or_else(|| SpecError::UnknownPreset {
        kind,
        name: name.to_owned(),
        nearest: nearest(name, presets.iter().map(Preset::name)),
        known: presets.iter().map(|preset| preset.name.to_owned()).collect(),
    })
}
