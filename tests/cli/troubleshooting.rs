//! The page of troubleshooting is about this program.

use std::fs;
use std::path::Path;

use dlt_spec::ExitCode;

fn read(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else {
            *into += &fs::read_to_string(&path).unwrap_or_default();
        }
    }
}

/// A message that is written over several lines is one line.
fn unbroken(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

#[test]
fn each_exit_code_has_a_section_and_each_message_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    for code in ExitCode::ALL {
        let heading = format!("\n## {}: {}\n", code.number(), code.meaning());
        assert!(page.contains(&heading), "{heading} is missing");
    }

    let mut sources = String::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        read(&entry.unwrap().path().join("src"), &mut sources);
    }

    let sources = unbroken(&sources);
    let messages: Vec<_> = page
        .split("| words of the message |")
        .skip(1)
        .flat_map(|table| table.split("\n\n").next().unwrap_or_default().lines())
        .filter_map(|row| row.strip_prefix("| `")?.split_once("` |").map(|(words, _)| words))
        .collect();

    assert!(messages.len() > 25, "{messages:?}");
    for message in messages {
        assert!(sources.contains(message), "no message has the words {message:?}");
    }
}
