//! The layers that a spec is laid together from, by what the command line says.

use std::path::Path;

use dlt_spec::presets::{self, DEFAULT_PRESET, Preset};
use dlt_spec::{CheckedSpec, ExitCode, Origin, Overlay, Spec, diff, fields};

use crate::failure::{Failure, Result};
use crate::rehearsal;

/// What lies at the bottom where neither a preset nor a file is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The default preset.
    #[default]
    Preset,
    /// The plain defaults.
    Plain,
}

/// What the command line says about a spec.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecLayers<'a> {
    /// What lies at the bottom.
    pub(crate) ground: Ground,
    /// Between preset and method.
    pub(crate) under_method: Vec<Overlay>,
    /// Between method and file.
    pub(crate) over_method: Vec<Overlay>,
    /// `--preset`.
    pub(crate) preset: Option<&'a str>,
    /// `--method`.
    pub(crate) method: Option<&'a str>,
    /// The user's file.
    pub(crate) file: Option<&'a Path>,
    /// Options that stand for one key: the option, the key, the value.
    pub(crate) options: Vec<(&'static str, &'static str, String)>,
    /// `--set`, in order.
    pub(crate) set: &'a [String],
    /// Over all of that.
    pub(crate) over_all: Vec<Overlay>,
}

impl SpecLayers<'_> {
    /// The spec that they make.
    pub(crate) fn spec(&self) -> Result<CheckedSpec> {
        Ok(self.assembled()?.check()?)
    }

    /// The same before any rule is looked at: preset, method, file, options, `--set`, each over the
    /// one before. Without a file the default preset lies at the bottom; a file without a preset
    /// lies on the plain defaults, so that what it does not say is not taken from a preset that
    /// nobody named.
    pub(crate) fn assembled(&self) -> Result<Spec> {
        let mut overlays = Vec::new();
        match (self.preset, self.file, self.ground) {
            (Some(name), ..) => overlays.push(presets::preset(name)?.overlay()?),
            (None, None, Ground::Preset) => {
                overlays.push(presets::preset(DEFAULT_PRESET)?.overlay()?)
            }
            _ => {}
        }

        overlays.extend(self.under_method.iter().cloned());
        let method = self.method.map(presets::method).transpose()?;
        if let Some(method) = method {
            overlays.push(method.overlay()?);
        }

        overlays.extend(self.over_method.iter().cloned());
        if let Some(path) = self.file {
            let file = read(path)?;
            if let Some(method) = method {
                warn_of_overrides(method, &file)?;
            }
            overlays.push(file);
        }

        overlays.extend(self.assignments()?);
        overlays.extend(self.over_all.iter().cloned());
        Ok(Spec::assemble(&overlays)?)
    }

    /// The spec of preset, method and file alone, without what else the command line says.
    pub(crate) fn usual(&self) -> Result<Spec> {
        SpecLayers { options: Vec::new(), set: &[], over_all: Vec::new(), ..self.clone() }
            .assembled()
    }

    /// Whether the person sets a key: in the file, by an option or by `--set`.
    pub(crate) fn sets(&self, key: &str) -> Result<bool> {
        let file = self.file.map(read).transpose()?;
        Ok(self
            .assignments()?
            .iter()
            .chain(&file)
            .any(|overlay| overlay.keys().any(|set| set == key)))
    }

    /// What the command line changes in a run's spec: file, options, `--set`, each over the one
    /// before.
    pub(crate) fn over(&self, run: &CheckedSpec, origin: Origin) -> Result<CheckedSpec> {
        let mut overlays = vec![Overlay::from_toml(origin, &fields::render(run))?];
        if let Some(path) = self.file {
            overlays.push(read(path)?);
        }

        overlays.extend(self.assignments()?);
        let wanted = Spec::assemble(&overlays)?;
        overlays.extend(rehearsal::over(run, &wanted)?);

        Ok(Spec::assemble(&overlays)?.check()?)
    }

    fn assignments(&self) -> Result<Vec<Overlay>> {
        let mut overlays = Vec::new();
        for (option, key, value) in &self.options {
            overlays.push(Overlay::from_option(option, key, value)?);
        }

        for assignment in self.set {
            overlays.push(Overlay::from_assignment(assignment)?);
        }

        Ok(overlays)
    }
}

/// A whole spec over a method leaves nothing of the method, which somebody who asked for both
/// should know.
fn warn_of_overrides(method: &Preset, file: &Overlay) -> Result {
    let asked = method.spec()?;
    let found = Spec::assemble(&[method.overlay()?, file.clone()])?;
    let of_method: Vec<_> = method.overlay()?.keys().collect();
    let other: Vec<_> = diff(&asked, &found)
        .iter()
        .map(|change| change.key)
        .filter(|key| of_method.contains(key))
        .collect();

    if !other.is_empty() {
        let method = method.name();
        let file = file.origin();
        let keys = other.join(", ");

        tracing::warn!("{file} stands over --method {method} and says otherwise about {keys}");
    }

    Ok(())
}

fn read(path: &Path) -> Result<Overlay> {
    let text =
        dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES).map_err(|error| {
            Failure::refused(
                ExitCode::BadSpec,
                format!("cannot read the spec {}: {error}", path.display()),
            )
        })?;

    Ok(Overlay::from_toml(Origin::File(path.display().to_string()), &text)?)
}
