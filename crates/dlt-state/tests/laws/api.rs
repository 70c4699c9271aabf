//! The public items of the crate are those of `API.txt`, and none of them needs `std`.
//!
//! The scanner relies on the layout that rustfmt gives: items at the margin, members four columns
//! further.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `src`, in the order of the alphabet, with its code: no comments, no
/// empty lines, no unit tests.
fn sources() -> Vec<(PathBuf, Vec<String>)> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }

    files.sort();
    let code = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").filter(is_code);
        let lines = lines.map(str::to_owned).collect();
        (path.strip_prefix(root()).unwrap().to_owned(), lines)
    };

    files.into_iter().map(code).collect()
}

/// What the lines that are indented belong to.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Impl,
    Trait,
    Struct,
    Enum,
    /// An invocation of the macro that declares enums of readings.
    Readings,
    /// Nothing public.
    Other,
}

/// The public items of one file, one a line.
fn outline(lines: &[String]) -> Vec<String> {
    let mut items = Vec::new();
    let mut inside = Inside::Other;
    let mut header = None;
    let mut attributes = Vec::new();
    let mut place = 0;

    while place < lines.len() {
        let line = &lines[place];
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let end = |ends: &[&str]| {
            let ends = |line: &String| ends.iter().any(|end| line.trim_end().ends_with(end));
            place + lines[place..].iter().position(ends).unwrap_or(0)
        };

        let is_public = text.starts_with("pub ");
        let is_named = text.starts_with(|first: char| first.is_uppercase());
        let mut last = place;
        match (indent, inside) {
            (0, _) if text == "}" => (inside, header) = (Inside::Other, None),
            (0, _) if text.starts_with("#[") => {
                last = end(&["]"]);
                attributes.push(joined(&lines[place..=last]));
            }
            (0, _) if text.starts_with("readings! {") => inside = Inside::Readings,
            (0, _) if is_public || text.starts_with("impl") => {
                last = end(&["{", ";"]);
                let item = joined(&lines[place..=last]);
                inside = match item.split_whitespace().nth(usize::from(is_public)).unwrap() {
                    "struct" => Inside::Struct,
                    "enum" => Inside::Enum,
                    "trait" => Inside::Trait,
                    first if first.starts_with("impl") && !item.contains(" for ") => Inside::Impl,
                    _ => Inside::Other,
                };

                if inside == Inside::Impl {
                    header = Some(item);
                } else {
                    items.push(item);
                }

                let attributes = std::mem::take(&mut attributes);
                if let Inside::Struct | Inside::Enum = inside {
                    items.extend(attributes.into_iter().map(|one| format!("    {one}")));
                }
            }
            (0, _) => {
                inside = Inside::Other;
                attributes.clear();
            }
            (4, Inside::Impl) if is_public => {
                last = end(&["{", ";"]);
                items.extend(header.take());
                items.push(format!("    {}", joined(&lines[place..=last])));
            }
            (4, Inside::Trait) if text.starts_with("fn ") => {
                last = end(&["{", ";"]);
                items.push(format!("    {}", joined(&lines[place..=last])));
            }
            (4, Inside::Struct) if is_public => {
                items.push(format!("    {}", joined(&lines[place..=place])))
            }
            (4, Inside::Enum) if is_named => {
                last = if text.ends_with('{') { end(&["},"]) } else { place };
                items.push(format!("    {}", joined(&lines[place..=last])));
            }
            (4, Inside::Readings) if text.ends_with('{') => {
                items.push(format!("readings! pub enum {}", joined(&lines[place..=place])));
            }
            (8, Inside::Readings) if is_named => {
                items.push(format!("    {}", joined(&lines[place..=place])))
            }
            _ => {}
        }

        place = last + 1;
    }

    items
}

/// Lines as one, without the body that follows and without the value of a constant.
fn joined(lines: &[String]) -> String {
    let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let value = if text.starts_with("pub const ") { text.find(" = ") } else { None };
    let text = text[..value.unwrap_or(text.len())].trim_end_matches(" {}");
    let text = text.trim_end_matches(['{', ';', ',', ' ']);
    text.replace("( ", "(").replace(", )", ")").replace(" )", ")").replace(", }", " }")
}

fn listing() -> String {
    let mut listing = String::new();
    // What serde reads and writes in between is not public.
    let is_public = |(path, _): &(PathBuf, _)| !path.ends_with("serialised.rs");
    for (path, lines) in sources().into_iter().filter(is_public) {
        let items = outline(&lines);
        if !items.is_empty() {
            let lines: String = items.iter().map(|item| format!("    {item}\n")).collect();
            listing += &format!("{}\n{lines}\n", path.to_string_lossy().replace('\\', "/"));
        }
    }

    listing.trim_end().to_owned() + "\n"
}

#[test]
fn the_public_api_is_the_one_in_the_list() {
    let found = listing();
    let listed = fs::read_to_string(root().join("API.txt")).unwrap_or_default();
    if found == listed {
        return;
    }

    let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("API.txt");
    fs::write(&renewed, &found).unwrap();
    let line = found.lines().zip(listed.lines()).take_while(|(one, other)| one == other).count();
    panic!(
        "the public items differ from crates/dlt-state/API.txt, first in line {}:\n\
         listed: {}\nfound:  {}\n\
         If that is meant, say in CHANGELOG.md what changes for users, and renew the list:\n\
         cp {} crates/dlt-state/API.txt",
        line + 1,
        listed.lines().nth(line).unwrap_or("nothing"),
        found.lines().nth(line).unwrap_or("nothing"),
        renewed.display(),
    );
}

#[test]
fn the_list_has_each_kind_of_item() {
    let listing = listing();
    for item in [
        "src/action.rs\n    pub struct Action\n        #[derive(",
        "\n    impl Action\n        pub fn new(values: Vec<usize>) -> Result<Self, StateError>\n",
        "\n        Syntax { column: usize, expected: &'static str, got: Option<char> }\n",
        "\n    pub trait Draw\n        fn below(&mut self, bound: usize) -> usize\n",
        "\n    impl<F: FnMut() -> u64> Draw for F\n",
        "\n        #[non_exhaustive]\n        Empty\n",
        "layers: impl IntoIterator<Item = usize>) -> V\n",
        "\n    pub struct StorageId(pub usize)\n",
        "\n        pub owner: usize\n",
        "\n        pub const PAPER: Self\n",
        "\n    readings! pub enum Retied\n        Follow\n        Keep\n",
        "\n    pub fn cycle(n_layers: usize) -> State\n",
        "\n    pub mod pattern\n",
    ] {
        assert!(listing.contains(item), "{item} is missing in\n{listing}");
    }

    for hidden in ["pub(crate)", "from_valid", "mod tests", "///"] {
        assert!(!listing.contains(hidden), "{hidden} is in\n{listing}");
    }
}

/// Built for a target without `std`, the crate would fail at the first use of it. Not every
/// toolchain has such a target, so the sources are searched.
#[test]
fn no_source_needs_std() {
    let mut files = 0;
    for (path, lines) in sources() {
        files += 1;
        for line in lines {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            assert!(words.all(|word| word != "std"), "{}: {line}", path.display());
        }
    }

    assert!(files > 15, "all source files are searched");
    let read = |name| fs::read_to_string(root().join(name)).unwrap();
    assert!(read("src/lib.rs").contains("\n#![no_std]\n"));
    let serde = "serde = { version = \"1\", default-features = false, features = [\"alloc\",";
    assert!(read("Cargo.toml").contains(serde), "serde's default features need std");
}
