//! `DEVIATIONS.md` names only tests and switches that exist.
//!
//! The names are in backticks, outside code blocks. `test: NAME` or `test: CRATE::NAME` is a test
//! function. `switch: SECTION.FIELD` or `switch: SECTION.FIELD = VALUE` is a field of a run spec,
//! with `|` between several values; the word `switch:` may be left out. A numbered entry is a table
//! row or a heading that starts with a number. If it names a switch, it has to name a test too.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::markdown;
use crate::rust_source::declares_function;
use crate::tree::Tree;

pub(crate) const PATH: &str = "DEVIATIONS.md";
const SPEC_FOLDER: &str = "crates/dlt-spec/src/";
/// Values of fields that are part of the algebra.
const READINGS: &str = "crates/dlt-state/src/binding/rules.rs";

/// A name with one of these starts is a test, with or without the word `test:`.
const TEST_STARTS: [&str; 4] = ["law_", "matches_reference_", "regression_", "rejects_"];

/// A claim of a code span, which can be wrong.
#[derive(Debug, PartialEq, Eq)]
enum Claim<'t> {
    Test {
        krate: Option<&'t str>,
        name: &'t str,
    },
    Switch {
        section: &'t str,
        field: &'t str,
        values: Vec<&'t str>,
    },
    /// It starts like a claim, but is none.
    Unreadable,
}

pub(crate) fn check(tree: &Tree, text: &str) -> Vec<Finding> {
    let switches = Switches::read(tree);
    let mut findings = Vec::new();
    let mut entries = Entries::default();

    for (number, line) in markdown::prose(text) {
        entries.start_line(number, line);
        for span in markdown::code_spans(line) {
            let Some(claim) = claim(&switches, span) else { continue };
            entries.count(&claim);

            if let Some(complaint) = complaint(tree, &switches, &claim) {
                findings.push(Finding::new(PATH, number, format!("`{span}`: {complaint}")));
            }
        }
    }

    findings.extend(entries.finish());
    findings
}

fn claim<'t>(switches: &Switches, span: &'t str) -> Option<Claim<'t>> {
    if let Some(named) = span.strip_prefix("test:") {
        let (krate, name) = match named.trim().split_once("::") {
            Some((krate, name)) => (Some(krate), name),
            None => (None, named.trim()),
        };

        return Some(if is_word(name) { Claim::Test { krate, name } } else { Claim::Unreadable });
    }

    if is_word(span) && TEST_STARTS.iter().any(|start| span.starts_with(start)) {
        return Some(Claim::Test { krate: None, name: span });
    }

    let (named, announced) = match span.strip_prefix("switch:") {
        Some(named) => (named, true),
        None => (span, false),
    };

    let (field, values) = named.split_once('=').unwrap_or((named, ""));
    let values = values
        .split('|')
        .map(|value| value.trim().trim_matches('"'))
        .filter(|value| !value.is_empty());

    match field.trim().split_once('.') {
        Some((section, field))
            if is_word(field) && (announced || switches.sections.contains_key(section)) =>
        {
            Some(Claim::Switch { section, field, values: values.collect() })
        }
        _ => announced.then_some(Claim::Unreadable),
    }
}

/// What is wrong with a claim, and how to fix it; `None` if it is right.
fn complaint(tree: &Tree, switches: &Switches, claim: &Claim) -> Option<String> {
    match claim {
        Claim::Unreadable => {
            Some("write `test: name` or `switch: section.field = value`".to_owned())
        }
        Claim::Test { krate, name } => {
            let folder = krate.map(|krate| format!("crates/{krate}/")).unwrap_or_default();
            let mut sources = tree.texts(".rs").filter(|(path, _)| path.starts_with(&folder));
            (!sources.any(|(_, text)| declares_function(text, name))).then(|| {
                format!("no `fn {name}(` in the sources: name the test that pins this entry")
            })
        }
        Claim::Switch { section, field, values } => {
            let Some(kind) = switches.sections.get(*section).and_then(|fields| fields.get(*field))
            else {
                return Some(format!(
                    "{SPEC_FOLDER} has no field '{field}' in '{section}': use the name of the field there"
                ));
            };

            let words = switches.words(kind)?;
            let wrong = values.iter().find(|value| !words.iter().any(|word| word == *value))?;
            Some(format!(
                "{section}.{field} is never '{wrong}', expected one of {}",
                words.join(", ")
            ))
        }
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// Counts the claims of numbered entries.
#[derive(Default)]
struct Entries {
    /// Line, and numbers of switches and tests, of the entry that is being read.
    open: Option<(usize, usize, usize)>,
    open_is_row: bool,
    tests: usize,
    findings: Vec<Finding>,
}

impl Entries {
    fn start_line(&mut self, number: usize, line: &str) {
        let row = line.starts_with('|');
        let heading = line.starts_with('#');
        if row || heading || self.open_is_row {
            self.close();
        }

        let title = line.trim_start_matches(['|', '#', ' ']);

        if (row || heading) && title.starts_with(|first: char| first.is_ascii_digit()) {
            self.open = Some((number, 0, 0));
            self.open_is_row = row;
        }
    }

    fn count(&mut self, claim: &Claim) {
        let is_test = matches!(claim, Claim::Test { .. });
        self.tests += usize::from(is_test);

        if let Some((_, switches, tests)) = &mut self.open {
            *tests += usize::from(is_test);
            *switches += usize::from(matches!(claim, Claim::Switch { .. }));
        }
    }

    fn close(&mut self) {
        self.open_is_row = false;
        if let Some((number, 1.., 0)) = self.open.take() {
            let advice = "the entry names a switch and no test: add the `test: name` that pins it";
            self.findings.push(Finding::new(PATH, number, advice));
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        self.close();
        if self.tests == 0 {
            let advice = "names no test: add `test: name` to each entry";
            self.findings.push(Finding::new(PATH, 1, advice));
        }

        self.findings
    }
}

/// The sections, fields and values of a run spec, as the sources declare them.
struct Switches {
    /// Types of fields by field name, for each section by the name that it has in a spec file.
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// Values as a spec file spells them, for each enum by name.
    enums: BTreeMap<String, Vec<String>>,
}

impl Switches {
    /// Reads the sources line by line. This works because each declaration starts a line.
    fn read(tree: &Tree) -> Self {
        let mut switches = Self { sections: BTreeMap::new(), enums: BTreeMap::new() };
        let is_source = |path: &str| path.starts_with(SPEC_FOLDER) || path == READINGS;
        for (_, source) in tree.texts(".rs").filter(|(path, _)| is_source(path)) {
            switches.add(source);
        }
        switches
    }

    fn add(&mut self, source: &str) {
        let mut in_section = None;
        let mut in_enum = None;
        let mut renamed = None;

        for line in source.lines().map(str::trim) {
            if let Some((_, name)) =
                line.strip_suffix(".] {").and_then(|line| line.split_once(" in ["))
            {
                in_section = Some(name.to_owned());
            } else if line.starts_with('}') {
                in_section = None;
                in_enum = None;
            } else if let (Some(name), Some((field, kind))) = (&in_section, field(line)) {
                let fields = self.sections.entry(name.clone()).or_default();
                fields.insert(field.to_owned(), kind.to_owned());
            } else if let Some(name) = line.strip_suffix(" {").filter(|name| is_word(name)) {
                in_enum = Some(name.to_owned());
            } else if let Some(rename) = line.strip_prefix("#[serde(rename = \"") {
                renamed = rename.split('"').next().map(str::to_owned);
            } else if let (Some(name), Some(variant)) =
                (&in_enum, line.strip_suffix(',').filter(|name| is_word(name)))
            {
                let word = renamed.take().unwrap_or_else(|| kebab_case(variant));
                self.enums.entry(name.clone()).or_default().push(word);
            }
        }
    }

    /// The values that a field of this type can have; `None` if its type is no enum.
    fn words(&self, kind: &str) -> Option<&Vec<String>> {
        // `Initial` is a name or a list, and its names are in the enum `InitialName`.
        self.enums.get(kind).or_else(|| self.enums.get(&format!("{kind}Name")))
    }
}

/// The name and the type of a field, if the line starts one: `name: Type = default, values`.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(": ").filter(|(name, _)| is_word(name))?;
    rest.split_once(" = ").map(|(kind, _)| (name, kind))
}

/// A variant's name as serde spells it: a dash before every capital except the first.
fn kebab_case(variant: &str) -> String {
    let mut word = String::new();
    for character in variant.chars() {
        if character.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(character.to_ascii_lowercase());
    }

    word
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SPEC: &str = "section! {\n    /// Tying.\n    TyingSpec in [tying.] {\n        \
        /// What untying does: a = b.\n        untie: Untie = Untie::CopyOwn, Untie::WORDS,\n            \
        paper_says(\"a: b = c\", \"d\");\n        initial: Initial = Initial::Frozen, Initial::WORDS;\n        \
        decide_every: usize = 15, Values::Whole(1, MOST);\n    }\n}\n\
        words! {\n    /// What untying does.\n    Untie {\n        /// One.\n        CopyOwn,\n        \
        #[serde(rename = \"as-2\")]\n        Alias2,\n    }\n}\n\
        words! {\n    InitialName {\n        Frozen,\n    }\n}\n";

    fn findings(text: &str) -> Vec<String> {
        let test = "#[test]\nfn law_untie() {}\n";
        let tree = Tree::of(&[
            ("crates/dlt-spec/src/spec.rs", SPEC),
            ("crates/dlt-models/tests/laws.rs", test),
        ]);

        check(&tree, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn entries_that_hold_have_no_findings() {
        let text = "| # | switch | test |\n|---|---|---|\n\
            | 1 | `switch: tying.untie = copy-own` | `test: dlt-models::law_untie` |\n\
            | 2 | `tying.untie = copy-own | as-2` | `law_untie` |\n\n\
            ## 3. Steps\n`switch: tying.decide_every = 15`\n`test: law_untie` of `states.jsonl`\n\n\
            ## Presets\n`tying.initial = \"frozen\"`\n";
        assert!(findings(text).is_empty(), "{:?}", findings(text));
    }

    #[test]
    fn rejects_tests_that_do_not_exist() {
        for gone in
            ["test: law_gone", "law_gone", "test: dlt-train::law_untie", "test: law untie", "test:"]
        {
            let found = findings(&format!("`test: law_untie`\n`{gone}`\n"));
            assert!(
                found.len() == 1 && found[0].starts_with("DEVIATIONS.md:2: "),
                "{gone}: {found:?}"
            );
        }
    }

    #[test]
    fn rejects_switches_and_values_that_do_not_exist() {
        let gone = [
            "switch: tying.gone",
            "tying.gone = 1",
            "switch: gone.untie",
            "switch: untie",
            "tying.untie = CopyOwn",
            "tying.untie = copy-own|alias",
            "tying.initial = owners",
        ];

        for gone in gone {
            let found = findings(&format!("`test: law_untie`\n`{gone}`\n"));
            assert!(
                found.len() == 1 && found[0].starts_with("DEVIATIONS.md:2: "),
                "{gone}: {found:?}"
            );
        }
    }

    #[test]
    fn rejects_numbered_entries_with_a_switch_and_no_test() {
        let row = findings("`test: law_untie`\n| 1 | `tying.untie` |\n`test: law_untie`\n");
        assert!(row.len() == 1 && row[0].starts_with("DEVIATIONS.md:2: the entry"), "{row:?}");

        let section = findings("### 1\n`tying.untie`\n\n### 2\n`test: law_untie`\n");
        assert!(
            section.len() == 1 && section[0].starts_with("DEVIATIONS.md:1: the entry"),
            "{section:?}"
        );
    }

    #[test]
    fn rejects_a_document_that_names_no_test() {
        assert_eq!(findings("Nothing.\n").len(), 1);
    }

    #[test]
    fn the_switches_of_this_repository_are_read() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let switches = Switches::read(&Tree::read(root).unwrap());

        for section in ["model", "data", "training", "evaluation", "optimizer", "tying", "agent"] {
            assert!(
                switches.sections.get(section).is_some_and(|fields| !fields.is_empty()),
                "{section}"
            );
        }

        let kind = &switches.sections["tying"]["untie"];
        assert_eq!(switches.words(kind).unwrap(), &["copy", "alias"]);
    }
}
