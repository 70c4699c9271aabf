//! The files of the repository: those that git tracks, and new files that it does not ignore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Endings of files that are read as text. Of every other file only the path is known.
const TEXT_ENDINGS: [&str; 7] = [".md", ".py", ".rs", ".sh", ".toml", ".yml", "/run"];

/// Folders that are skipped without git, because git would ignore them.
const IGNORED_FOLDERS: [&str; 4] = [".git", "target", "runs", "__pycache__"];

/// Paths with their contents, relative to the root, with `/` between folders.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let listed =
            if root.join(".git").exists() { listed_by_git(root)? } else { found_below(root)? };
        let mut tree = Self::default();

        for path in listed {
            let file = root.join(&path);
            // Git also lists a tracked file that was just deleted.
            if !file.is_file() {
                continue;
            }

            if TEXT_ENDINGS.iter().any(|ending| path.ends_with(ending)) {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {path} as text"))?;
                tree.texts.insert(path.clone(), text);
            }

            tree.paths.insert(path);
        }

        Ok(tree)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Paths and contents of the text files with this ending.
    pub(crate) fn texts<'t>(&'t self, ending: &str) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Whether this is a file of the repository, or a folder with one. The empty path is the root.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.range(format!("{path}/")..).next().is_some_and(|next| {
                next.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
            })
    }
}

fn listed_by_git(root: &Path) -> Result<Vec<String>> {
    // Without `safe.directory`, git refuses a checkout of another user, as in a container.
    let output = git_in(root)
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("cannot start git, which lists the files of a checkout")?;

    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git ls-files failed: {}", said.trim());

    let listed = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

/// Git for the checkout at `root`. The variables that git sets in a hook are removed, because they
/// would select the repository of the hook.
pub(crate) fn git_in(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE");

    git
}

/// All files below `root`, for an unpacked archive without git.
fn found_below(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(root.join(&folder)).with_context(|| format!("cannot list {folder}/"))?
        {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };

            let kind = entry.file_type()?;
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir()
                && !IGNORED_FOLDERS.contains(&&*name)
                && !name.starts_with(".venv")
            {
                folders.push(path);
            }
        }
    }

    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tree {
        /// A tree that exists in memory only.
        pub(crate) fn of(texts: &[(&str, &str)]) -> Self {
            let texts: BTreeMap<_, _> =
                texts.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
            Self { paths: texts.keys().cloned().collect(), texts }
        }
    }

    #[test]
    fn holds_files_and_their_folders_only() {
        let tree = Tree::of(&[("crates/one/src/lib.rs", ""), ("crates/one-more/a.md", "")]);
        for path in
            ["", "crates", "crates/", "crates/one", "crates/one/src/lib.rs", "crates/one-more"]
        {
            assert!(tree.holds(path), "{path}");
        }

        for path in ["crate", "crates/on", "crates/one/src/lib", "crates/one/src/lib.rs/x", "zoo"] {
            assert!(!tree.holds(path), "{path}");
        }
    }

    #[test]
    fn an_archive_without_git_is_walked() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("src")).unwrap();
        fs::create_dir_all(root.path().join("target")).unwrap();

        for path in ["README.md", "src/lib.rs", "target/junk.rs", "picture.png"] {
            fs::write(root.path().join(path), path).unwrap();
        }

        let tree = Tree::read(root.path()).unwrap();
        assert_eq!(tree.paths().collect::<Vec<_>>(), ["README.md", "picture.png", "src/lib.rs"]);
        assert_eq!(tree.text("src/lib.rs"), Some("src/lib.rs"));
        assert_eq!(tree.text("picture.png"), None);
    }

    #[test]
    fn git_lists_new_files_and_neither_ignored_nor_deleted_ones() {
        let root = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            assert!(git_in(root.path()).args(arguments).status().unwrap().success());
        };

        for (path, text) in
            [(".gitignore", "/junk\n"), ("junk", ""), ("kept.md", ""), ("gone.md", "")]
        {
            fs::write(root.path().join(path), text).unwrap();
        }

        git(&["init", "--quiet"]);
        git(&["add", "gone.md"]);
        fs::remove_file(root.path().join("gone.md")).unwrap();

        let tree = Tree::read(root.path()).unwrap();
        assert_eq!(tree.paths().collect::<Vec<_>>(), [".gitignore", "kept.md"]);
    }
}
