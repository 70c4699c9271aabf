//! The crates of the workspace and their dependencies, from cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use dlt_study::metadata;
use serde_json::Value;

/// Every crate, with its normal dependencies in the workspace, without those of tests and build
/// scripts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Workspace {
    pub(crate) edges: BTreeMap<String, BTreeSet<String>>,
}

impl Workspace {
    /// Reads the workspace from the manifests.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        Self::from_metadata(&metadata::of_members(root)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let packages =
            metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        let mut edges = BTreeMap::new();
        for package in packages {
            edges.insert(text(package, "name")?.to_owned(), BTreeSet::new());
        }

        let crates: BTreeSet<String> = edges.keys().cloned().collect();
        for package in packages {
            let name = text(package, "name")?;
            let dependencies = package["dependencies"]
                .as_array()
                .with_context(|| format!("cargo metadata has no dependencies of {name}"))?;

            for dependency in dependencies {
                let target = text(dependency, "name")?;
                // Cargo writes no kind for a normal dependency.
                if dependency["kind"].is_null() && crates.contains(target) {
                    edges.entry(name.to_owned()).or_default().insert(target.to_owned());
                }
            }
        }

        Ok(Self { edges })
    }
}

fn text<'v>(object: &'v Value, key: &str) -> Result<&'v str> {
    object[key].as_str().with_context(|| format!("cargo metadata has an entry without '{key}'"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    impl Workspace {
        /// A workspace that exists in memory only.
        pub(crate) fn of(edges: &[(&str, &[&str])]) -> Self {
            let edges = edges
                .iter()
                .map(|&(name, targets)| {
                    (name.to_owned(), targets.iter().map(|&target| target.to_owned()).collect())
                })
                .collect();

            Self { edges }
        }
    }

    #[test]
    fn only_normal_dependencies_on_members_are_edges() {
        let metadata = json!({ "packages": [
            { "name": "one", "dependencies": [
                { "name": "two", "kind": null },
                { "name": "three", "kind": "dev" },
                { "name": "serde", "kind": null },
            ] },
            { "name": "two", "dependencies": [] },
            { "name": "three", "dependencies": [{ "name": "one", "kind": "build" }] },
        ] });

        let workspace = Workspace::from_metadata(&metadata).unwrap();
        assert_eq!(workspace, Workspace::of(&[("one", &["two"]), ("two", &[]), ("three", &[])]));
    }

    /// The names of the packages that a program `dlt` is built of.
    fn packages_of_dlt(arguments: &[&str]) -> BTreeSet<String> {
        let listed = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--package", "dlt-cli", "--prefix", "none"])
            .args(["--edges", "no-dev"])
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            // It would ask for the features of every crate at once.
            .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
            .output()
            .unwrap();

        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let lines = String::from_utf8(listed.stdout).unwrap();
        lines.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    #[test]
    fn a_program_without_an_optional_part_is_built_without_its_packages() {
        let parts: [(&str, &[&str]); 3] = [
            ("figures", &["dejavu", "plotters", "plotters-backend", "resvg"]),
            ("hub", &["hf-hub", "rustls", "ureq"]),
            ("parquet", &["brotli", "parquet"]),
        ];
        let all = packages_of_dlt(&[]);

        for (without, packages) in parts {
            let others: Vec<_> =
                parts.iter().map(|(part, _)| *part).filter(|part| *part != without).collect();
            let found =
                packages_of_dlt(&["--no-default-features", "--features", &others.join(",")]);

            for package in packages {
                assert!(all.contains(*package), "{package} is in no program");
                assert!(!found.contains(*package), "{package} is in one without {without}");
            }
        }
    }

    #[test]
    fn rejects_an_answer_without_packages() {
        assert!(Workspace::from_metadata(&json!({})).is_err());
    }
}
