//! The repositories of the paper's data sets in their true layout, with a small content of our own.

use crate::{
    pictures::png,
    repository::Repository,
    table::{Column, parquet},
};

/// Rows of one row group: small, so that every file has several.
const GROUP: usize = 37;

/// Every repository of the catalogue, with so many rows in each train split and a quarter of them
/// in the others. The content is made by rule, differs between splits and data sets, and is the
/// same every time.
#[must_use]
pub fn catalogue(rows: usize) -> Vec<Repository> {
    vec![
        wikitext(rows),
        lambada(rows),
        lm1b(rows),
        ptb(rows),
        tiny_shakespeare(rows),
        cifar10(rows),
        glue(rows),
    ]
}

const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// Rows of a split.
fn count(split: &str, rows: usize) -> usize {
    if split == "train" { rows } else { rows.div_ceil(4) }
}

/// A sentence that no other seed gives.
fn sentence(seed: &str, row: usize) -> String {
    const WORDS: [&str; 12] = [
        "the", "layer", "copies", "another", "of", "weights", "and", "learns", "a", "model", "in",
        "time",
    ];
    let words: Vec<&str> =
        (0..8).map(|word| WORDS[(row * 7 + word * word * 5 + seed.len()) % WORDS.len()]).collect();

    format!("{seed} {row} {}", words.join(" "))
}

fn sentences(seed: &str, split: &str, rows: usize) -> Vec<String> {
    (0..count(split, rows)).map(|row| sentence(&format!("{seed}-{split}"), row)).collect()
}

/// Adds the parts of a split, `CONFIG/SPLIT-00000-of-0000N.parquet`.
fn parts(
    mut repository: Repository,
    config: &str,
    split: &str,
    of: usize,
    columns: &[Column],
) -> Repository {
    let rows = match &columns[0] {
        Column::Text(_, rows) => rows.len(),
        Column::MaybeText(_, rows) => rows.len(),
        Column::Whole(_, rows) => rows.len(),
        Column::Picture(_, rows) => rows.len(),
    };

    let share = rows.div_ceil(of);
    for part in 0..of {
        let range = (part * share).min(rows)..((part + 1) * share).min(rows);
        let columns: Vec<Column> = columns
            .iter()
            .map(|column| match column {
                Column::Text(name, rows) => Column::Text(name, rows[range.clone()].to_vec()),
                Column::MaybeText(name, rows) => {
                    Column::MaybeText(name, rows[range.clone()].to_vec())
                }
                Column::Whole(name, rows) => Column::Whole(name, rows[range.clone()].to_vec()),
                Column::Picture(name, rows) => Column::Picture(name, rows[range.clone()].to_vec()),
            })
            .collect();

        let name = format!("{config}/{split}-{part:05}-of-{of:05}.parquet");
        repository = repository.file(&name, parquet(&columns, GROUP));
    }

    repository
}

fn with_card(repository: Repository) -> Repository {
    repository.file(".gitattributes", "*.parquet filter=lfs").file("README.md", "# A data set\n")
}

/// Rows with their line ends, a heading between blank rows now and then; blank rows are empty.
fn wikitext(rows: usize) -> Repository {
    let mut repository = with_card(Repository::dataset("Salesforce/wikitext"));
    for (config, of) in [
        ("wikitext-103-raw-v1", 2),
        ("wikitext-103-v1", 2),
        ("wikitext-2-raw-v1", 1),
        ("wikitext-2-v1", 1),
    ] {
        for split in SPLITS {
            let text = sentences(config, split, rows).into_iter().enumerate().map(|(row, text)| {
                match row % 5 {
                    0 | 2 => String::new(),
                    1 => format!(" = {text} = \n"),
                    _ => format!(" {text} . \n"),
                }
            });

            let of = if split == "train" { of } else { 1 };
            repository =
                parts(repository, config, split, of, &[Column::Text("text", text.collect())]);
        }
    }

    repository
}

fn lambada(rows: usize) -> Repository {
    let mut repository = with_card(Repository::dataset("cimec/lambada"));
    for split in SPLITS {
        let text = sentences("lambada", split, rows);
        let domain = vec!["fiction".to_owned(); text.len()];
        let columns = [Column::Text("text", text), Column::Text("domain", domain)];

        repository =
            parts(repository, "plain_text", split, if split == "train" { 2 } else { 1 }, &columns);
    }

    repository
}

/// Adds a split as the hub's conversion names its parts, `CONFIG/SPLIT/0000.parquet`.
fn converted(
    repository: Repository,
    config: &str,
    split: &str,
    part: usize,
    columns: &[Column],
) -> Repository {
    repository.file(&format!("{config}/{split}/{part:04}.parquet"), parquet(columns, GROUP))
}

fn lm1b(rows: usize) -> Repository {
    let mut repository =
        Repository::dataset("billion-word-benchmark/lm1b").at("refs/convert/parquet");
    let train = sentences("lm1b", "train", rows);
    let (first, second) = train.split_at(rows / 2);

    for (part, rows) in [first, second].into_iter().enumerate() {
        let columns = [Column::Text("text", rows.to_vec())];
        repository = converted(repository, "plain_text", "train", part, &columns);
    }

    converted(
        repository,
        "plain_text",
        "test",
        0,
        &[Column::Text("text", sentences("lm1b", "test", rows))],
    )
}

fn ptb(rows: usize) -> Repository {
    let repository = Repository::dataset("ptb-text-only/ptb_text_only").at("refs/convert/parquet");
    SPLITS.iter().fold(repository, |repository, split| {
        let columns = [Column::Text("sentence", sentences("ptb", split, rows))];
        converted(repository, "penn_treebank", split, 0, &columns)
    })
}

/// One row a split: the whole text.
fn tiny_shakespeare(rows: usize) -> Repository {
    let repository = Repository::dataset("karpathy/tiny_shakespeare").at("refs/convert/parquet");
    SPLITS.iter().fold(repository, |repository, split| {
        let text = sentences("shakespeare", split, rows).join("\n");
        converted(repository, "default", split, 0, &[Column::Text("text", vec![text])])
    })
}

/// Pictures whose first channel tells the label.
fn cifar10(rows: usize) -> Repository {
    let mut repository = with_card(Repository::dataset("uoft-cs/cifar10"));
    for split in ["train", "test"] {
        let pictures = (0..count(split, rows)).map(|row| {
            let pixel =
                |at: usize| [(row % 10 * 25) as u8, (at % 251) as u8, (row * 31 % 256) as u8];
            png(32, 32, &(0..32 * 32).flat_map(pixel).collect::<Vec<u8>>())
        });

        let labels = (0..count(split, rows)).map(|row| (row % 10) as i64).collect();
        let columns = [Column::Picture("img", pictures.collect()), Column::Whole("label", labels)];
        repository = parts(repository, "plain_text", split, 1, &columns);
    }

    repository
}

fn glue(rows: usize) -> Repository {
    let mut repository = with_card(Repository::dataset("nyu-mll/glue"));
    for (config, first, second) in [
        ("cola", "sentence", None),
        ("mrpc", "sentence1", Some("sentence2")),
        ("qnli", "question", Some("sentence")),
        ("rte", "sentence1", Some("sentence2")),
        ("sst2", "sentence", None),
        ("wnli", "sentence1", Some("sentence2")),
    ] {
        for split in SPLITS {
            let of = count(split, rows);
            let label = |row: usize| if split == "test" { -1 } else { (row % 2) as i64 };

            // One word tells the label, so that a few steps learn something.
            let texts = |part: &str| -> Vec<String> {
                let word = |row: usize| if row.is_multiple_of(2) { "bad" } else { "good" };
                let seed = format!("{config}-{split}-{part}");
                (0..of).map(|row| format!("{} {}", sentence(&seed, row), word(row))).collect()
            };

            let mut columns = vec![Column::Text(first, texts("a"))];
            columns.extend(second.map(|name| Column::Text(name, texts("b"))));
            columns.push(Column::Whole("label", (0..of).map(label).collect()));
            columns.push(Column::Whole("idx", (0..of as i64).collect()));
            repository = parts(repository, config, split, 1, &columns);
        }
    }

    repository
}
