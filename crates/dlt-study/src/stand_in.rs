//! Data for scale smoke, which must run without a network: pictures and sentences in the published
//! layouts, made by a rule. So everything that runs on CIFAR-10 and GLUE can run anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::program::replace;
use crate::store::make_parent;

const PICTURES_FILE: &str = "cifar10.bin";
const PICTURES: usize = 160;
const CLASSES: usize = 10;
/// Bytes of a channel of a CIFAR-10 picture.
const CHANNEL: usize = 32 * 32;
const SENTENCES: usize = 120;
const SUBJECTS: [&str; 5] = ["the play", "this scene", "a fool", "the king", "her letter"];
const VERBS: [&str; 4] = ["delights", "bores", "moves", "tires"];
const ENDINGS: [&str; 6] =
    ["us", "the crowd", "nobody", "an old friend", "the court", "every guest"];

/// Paths of the data sets below `folder`, by their names in the catalogue.
pub(crate) fn sources(folder: &Path) -> BTreeMap<String, String> {
    let named =
        |(name, path): &(&str, &str)| ((*name).to_owned(), folder.join(path).display().to_string());
    [("cifar10", PICTURES_FILE), ("glue/sst2", "SST-2"), ("glue/cola", "CoLA"), ("glue/rte", "RTE")]
        .iter()
        .map(named)
        .collect()
}

/// Writes the data sets below `folder`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut files = vec![(folder.join(PICTURES_FILE), cifar10())];
    let tsv = |rows: Vec<String>, head: &str| format!("{head}{}\n", rows.join("\n")).into_bytes();
    type Line = fn(usize, &str, &str, bool) -> String;

    let tasks: [(&str, &str, &str, Line); 3] = [
        ("SST-2", "train.tsv", "sentence\tlabel\n", |_, one, _, good| {
            format!("{one}\t{}", u8::from(good))
        }),
        ("CoLA", "train_full.tsv", "", |_, one, _, good| format!("s\t{}\t\t{one}", u8::from(good))),
        ("RTE", "train_full.tsv", "index\tsentence1\tsentence2\tlabel\n", |row, one, two, good| {
            format!("{row}\t{one}\t{two}\t{}", if good { "entailment" } else { "not_entailment" })
        }),
    ];

    for (own, train, head, line) in tasks {
        let task = folder.join(own);
        let rows = |range: std::ops::Range<usize>| {
            range
                .map(|row| {
                    let (one, good) = sentence(row);
                    line(row, &one, &sentence(row * 7 + 3).0, good)
                })
                .collect()
        };

        files.push((task.join(train), tsv(rows(0..SENTENCES), head)));
        files.push((task.join("dev.tsv"), tsv(rows(SENTENCES..SENTENCES + 24), head)));
    }

    for (path, bytes) in files {
        // A file that has these bytes stays, because another process may be reading it. Two
        // processes can write at once: each renames a whole file into place.
        if !fs::read(&path).is_ok_and(|found| found == bytes) {
            make_parent(&path)?;
            replace(&path, bytes)?;
        }
    }

    Ok(())
}

/// Records in CIFAR-10's binary layout: a byte for the class, then the red, green and blue channels.
/// The place of a bright stripe shows the class.
fn cifar10() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PICTURES * (1 + 3 * CHANNEL));
    for picture in 0..PICTURES {
        let class = picture % CLASSES;
        bytes.push(class as u8);

        for channel in 0..3 {
            bytes.extend((0..CHANNEL).map(|pixel| {
                let is_on = pixel % 32 / 3 == class;
                (if is_on { 200 } else { 40 } + (picture * 13 + pixel * 7 + channel * 29) % 40)
                    as u8
            }));
        }
    }

    bytes
}

/// A sentence, and whether it is a kind one.
fn sentence(row: usize) -> (String, bool) {
    let verb = row % VERBS.len();
    let words = [SUBJECTS[row / 4 % SUBJECTS.len()], VERBS[verb], ENDINGS[row / 3 % ENDINGS.len()]];
    (words.join(" "), verb.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_have_the_published_layouts() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();

        let sources = sources(folder.path());
        assert_eq!(fs::read(&sources["cifar10"]).unwrap().len(), PICTURES * 3073);

        let lines = |name: &str, file: &str| {
            fs::read_to_string(Path::new(&sources[name]).join(file)).unwrap()
        };
        assert_eq!(lines("glue/sst2", "train.tsv").lines().count(), 1 + SENTENCES);
        assert!(lines("glue/cola", "dev.tsv").lines().all(|line| line.split('\t').count() == 4));

        assert!(
            lines("glue/rte", "dev.tsv").lines().skip(1).all(|line| line.ends_with("entailment"))
        );
    }
}
