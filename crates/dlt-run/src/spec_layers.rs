//! The layers that a spec is made from: preset, method, file, options.

use std::path::Path;

use dlt_spec::presets::{self, DEFAULT_PRESET, Preset};
use dlt_spec::{CheckedSpec, Origin, Overlay, Spec, diff, fields};

use crate::error::RunError;
use crate::{Result, rehearsal};

/// The lowest layer if neither a preset nor a file is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// The default preset.
    #[default]
    Preset,
    /// The plain defaults of the spec.
    Plain,
}

/// The layers of a spec; each overrides those before it. See [`assembled`](Self::assembled).
#[derive(Clone, Debug, Default)]
pub struct SpecLayers<'a> {
    /// The lowest layer if there is no preset and no file.
    pub ground: Ground,
    /// Between preset and method.
    pub under_method: Vec<Overlay>,
    /// Between method and file.
    pub over_method: Vec<Overlay>,
    /// `--preset`.
    pub preset: Option<&'a str>,
    /// `--method`.
    pub method: Option<&'a str>,
    /// The user's file.
    pub file: Option<&'a Path>,
    /// Options that set one key each: the option, the key, the value.
    pub options: Vec<(&'static str, &'static str, String)>,
    /// `--set`, in order.
    pub set: &'a [String],
    /// Whether the run is a [rehearsal], which makes it tiny.
    pub rehearses: bool,
    /// The topmost layers: a rehearsal's.
    pub over_all: Vec<Overlay>,
    /// Processes that train the run together; 0 and 1 mean one. If no layer cuts a batch into
    /// shards, it is cut into as many.
    pub processes: usize,
}

impl SpecLayers<'_> {
    /// The checked spec.
    ///
    /// # Errors
    /// If a layer cannot be read, or the result breaks a rule of specs.
    pub fn spec(&self) -> Result<CheckedSpec> {
        Ok(self.assembled()?.check()?)
    }

    /// Sets a key over the method, as `option` asks.
    pub(crate) fn put_over_method(&mut self, option: &str, key: &str, value: &str) -> Result<()> {
        self.over_method.push(Overlay::from_option(option, key, value)?);
        Ok(())
    }

    /// The spec before its rules are checked: preset, method, file, options, `--set`, each one over
    /// those before it. Without a file, the lowest layer is the default preset. A file without a
    /// preset starts from the plain defaults: what it leaves out must not depend on a preset that
    /// nobody named.
    ///
    /// # Errors
    /// If a layer cannot be read.
    pub fn assembled(&self) -> Result<Spec> {
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
            // The file comes after the method, so it may undo all of it unnoticed.
            if let Some(method) = method {
                warn_of_overrides(method, &file)?;
            }
            overlays.push(file);
        }

        overlays.extend(self.assignments()?);
        overlays.extend(self.over_all.iter().cloned());
        if self.processes > 1 && Spec::assemble(&overlays)?.training.shards == 1 {
            let shards = self.processes.to_string();
            overlays.push(Overlay::from_option("--processes", "training.shards", &shards)?);
        }
        Ok(Spec::assemble(&overlays)?)
    }

    /// The spec of preset, method and file alone, without options, `--set` and rehearsal.
    pub(crate) fn usual(&self) -> Result<Spec> {
        SpecLayers { options: Vec::new(), set: &[], over_all: Vec::new(), ..self.clone() }
            .assembled()
    }

    /// Whether the user sets a key: in the file, by an option or by `--set`.
    pub(crate) fn sets(&self, key: &str) -> Result<bool> {
        let file = self.file.map(read).transpose()?;
        Ok(self
            .assignments()?
            .iter()
            .chain(&file)
            .any(|overlay| overlay.keys().any(|set| set == key)))
    }

    /// The spec of an existing run with the changes of the command line: file, options, `--set`,
    /// each one over those before it. `origin` names the run's spec in messages.
    pub(crate) fn over(&self, run: &CheckedSpec, origin: Origin) -> Result<CheckedSpec> {
        let mut overlays = vec![Overlay::from_toml(origin, &fields::render(run))?];
        if let Some(path) = self.file {
            overlays.push(read(path)?);
        }

        overlays.extend(self.assignments()?);
        let wanted = Spec::assemble(&overlays)?;
        if self.rehearses {
            overlays.extend(rehearsal::over(run, &wanted)?);
        }

        Ok(Spec::assemble(&overlays)?.check()?)
    }

    /// Options and `--set`, as overlays in this order.
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

/// Warns about keys that the file sets otherwise than the method: a whole spec on top of a method
/// leaves nothing of it, and a user who asked for both should know that.
fn warn_of_overrides(method: &Preset, file: &Overlay) -> Result<()> {
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

        tracing::warn!("{file} overrides --method {method} in {keys}");
    }

    Ok(())
}

/// The overlay in a spec file.
fn read(path: &Path) -> Result<Overlay> {
    let text = dlt_spec::file::read_text(path, dlt_spec::file::CONFIGURATION_BYTES)
        .map_err(|error| RunError::ReadSpec { path: path.to_owned(), source: error })?;

    Ok(Overlay::from_toml(Origin::File(path.display().to_string()), &text)?)
}
