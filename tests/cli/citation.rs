//! The citation of method and program: CITATION.cff, README and model cards name the same work.

use std::collections::BTreeMap;

const CITATION: &str = include_str!("../../CITATION.cff");
const README: &str = include_str!("../../README.md");

/// Keys at the margin of a YAML file, with the rest of their line.
fn keys(text: &str) -> BTreeMap<&str, &str> {
    let at_margin = text.lines().filter(|line| !line.starts_with([' ', '-', '#']));
    at_margin
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect()
}

/// Has the keys that the Citation File Format 1.2.0 demands, and no key that it does not know.
#[test]
fn the_citation_file_has_what_its_format_demands() {
    let found = keys(CITATION);
    for required in ["cff-version", "message", "title", "authors"] {
        assert!(found.contains_key(required), "{required} is missing");
    }

    let known = [
        "cff-version",
        "message",
        "title",
        "authors",
        "type",
        "version",
        "license",
        "keywords",
        "references",
        "preferred-citation",
    ];

    for key in found.keys() {
        assert!(known.contains(key), "{key} is not of the format");
    }

    assert_eq!(found["cff-version"], "1.2.0");
    assert_eq!(found["type"], "software");

    let version = format!("\nversion = \"{}\"\n", found["version"]);

    assert!(
        include_str!("../../Cargo.toml").contains(&version),
        "the version differs from that in Cargo.toml"
    );
}

#[test]
fn the_paper_is_named_with_its_authors_and_a_link() {
    const LINK: &str = "https://arxiv.org/abs/2401.12819";
    let card = include_str!("../../crates/dlt-run/src/card.rs");
    for (name, text) in [("CITATION.cff", CITATION), ("README.md", README), ("a model card", card)]
    {
        for part in
            ["Dynamic Layer Tying for Parameter-Efficient Transformers", "David-Hay", "Wolf", LINK]
        {
            assert!(text.contains(part), "{name} lacks {part}");
        }
    }

    assert!(CITATION.contains("preferred-citation:\n  type: conference-paper\n"));
}
