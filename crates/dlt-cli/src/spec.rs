//! `dlt spec`: prints a preset in full, or the spec of a run that is not trained yet.

use dlt_run::SpecLayers;
use dlt_spec::fields;
use dlt_spec::presets::{DEFAULT_PRESET, METHODS, PRESETS, Preset, preset};

use crate::arguments::SpecTask;
use crate::failure::Result;
use crate::output;

pub(crate) const HELP: &str = "\
Examples:
  dlt spec --list
  dlt spec smoke
  dlt spec gpt2-paper --method reference > my-spec.toml && dlt train my-spec.toml";

pub(crate) fn run(task: &SpecTask) -> Result {
    if task.list {
        return output::print(&list());
    }

    let name = task.preset.as_deref().unwrap_or(DEFAULT_PRESET);
    let spec_layers = SpecLayers {
        preset: Some(name),
        method: task.method.as_deref(),
        set: &task.set,
        ..SpecLayers::default()
    };

    let spec = spec_layers.spec()?;
    // The preset's header describes the unchanged preset only.
    let header: String = if task.method.is_none() && task.set.is_empty() {
        let header = preset(name)?.header();
        header.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect()
    } else {
        String::new()
    };

    let gap = if header.is_empty() { "" } else { "\n" };
    output::print(&format!("{header}{gap}{}", fields::render(&spec)))
}

fn list() -> String {
    let mut text = "Presets, for --preset (a model with its data and method):\n".to_owned();
    PRESETS.iter().for_each(|preset| describe(&mut text, preset));
    text.push_str("\nMethods, for --method (they replace a preset's method settings):\n");
    METHODS.iter().for_each(|method| describe(&mut text, method));
    text.push_str("\n`dlt spec NAME` prints a preset in full, with the meaning of every field.\n");

    text
}

fn describe(text: &mut String, preset: &Preset) {
    let header = preset.header();
    let says = header.lines().next().unwrap_or_default();
    let is_default = if preset.name() == DEFAULT_PRESET { " (default)" } else { "" };
    text.push_str(&format!("  {:<15} {says}{is_default}\n", preset.name()));
}
