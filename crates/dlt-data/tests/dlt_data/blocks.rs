use crate::{TOKENIZER, from_path, loaded, rejection, shakespeare, write};
use dlt_data::{GROUP_ROWS, MAX_SHARDS, Split};
use dlt_spec::spec::{DataSpec, Pipeline};
use tempfile::TempDir;

/// Context, T; blocks have one token less.
const CONTEXT: usize = 17;

fn blocks(folder: &TempDir) -> DataSpec {
    DataSpec { pipeline: Pipeline::Blocks, ..from_path(folder.path()) }
}

/// A folder whose train split is `train`. The other splits are long enough.
fn folder(train: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder, "train.txt", train);

    for name in ["valid.txt", "test.txt"] {
        write(&folder, name, crate::some_text());
    }

    folder
}

#[test]
fn few_rows_are_one_text_without_blank_rows_and_without_the_remainder() {
    let rows =
        " = Title = \n \n One row of words , and another . \n\n\t\nThe last row has no line end";
    let folder = folder(&rows.repeat(3));
    let kept: String = rows.repeat(3).replace(" \n \n", " \n").replace("\n\n\t\n", "\n");
    let ids = TOKENIZER.encode(&kept).unwrap();
    let splits = loaded(&blocks(&folder), CONTEXT).unwrap();

    let whole = ids.len() / (CONTEXT - 1) * (CONTEXT - 1);
    assert!(whole < ids.len());
    assert_eq!(splits.train.tokens().unwrap()[..], ids[..whole]);
    assert_eq!(splits.train.bytes(), TOKENIZER.decode(&ids[..whole]).unwrap().len());

    let windows = splits.windows(Split::Train).unwrap();
    assert_eq!(windows.count(), whole / (CONTEXT - 1));

    let mut inputs = [0; CONTEXT];
    let mut targets = [0; CONTEXT];
    windows.fill(1, &mut inputs, &mut targets).unwrap();
    assert_eq!((inputs[0], targets[CONTEXT - 1]), (50_256, 50_256));
    assert_eq!(inputs[1..], ids[CONTEXT - 1..2 * (CONTEXT - 1)]);
    assert_eq!(inputs[1..], targets[..CONTEXT - 1]);
}

/// Ten full groups and a rest are shared as 2, 2, 2, 1, 1, 1, 1, 1. Each worker drops its own
/// remainder.
#[test]
fn each_of_eight_workers_drops_its_own_remainder() {
    let rows: Vec<String> = (0..10 * GROUP_ROWS + 700).map(|row| format!("{row} \n")).collect();
    let folder = folder(&rows.concat());
    let splits = loaded(&blocks(&folder), CONTEXT).unwrap();
    let shares = [2, 2, 2, 1, 1, 1, 1, 1];

    assert_eq!(shares.len(), MAX_SHARDS);
    let mut groups = rows.chunks(GROUP_ROWS);
    let mut expected = Vec::new();
    let mut dropped = 0;

    for share in shares {
        let ids: Vec<u32> = groups
            .by_ref()
            .take(share)
            .flat_map(|group| TOKENIZER.encode(&group.concat()).unwrap())
            .collect();
        let whole = ids.len() / (CONTEXT - 1) * (CONTEXT - 1);
        dropped += ids.len() - whole;
        expected.extend_from_slice(&ids[..whole]);
    }

    assert_eq!(groups.next(), None);
    assert!(dropped > CONTEXT, "this text does not distinguish eight remainders from one");
    assert_eq!(splits.train.tokens().unwrap()[..], expected);
}

#[test]
fn rejects_a_context_of_one_and_a_split_without_a_block() {
    let folder = folder("short");
    assert!(rejection(&blocks(&folder), 1).contains("expected at least 2"));
    let error = rejection(&blocks(&folder), CONTEXT);
    assert!(error.contains("train") && error.contains("takes 16"), "{error}");
}

#[test]
fn rejects_a_tokenizer_without_an_end_of_text() {
    let folder = TempDir::new().unwrap();
    let model = r#"{"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}"#;
    let json = format!(r#"{{"version": "1.0", "added_tokens": [], "model": {model}}}"#);
    let path = write(&folder, "tokenizer.json", json);
    let tokenizer = path.to_string_lossy().into_owned();
    let error =
        rejection(&DataSpec { tokenizer, pipeline: Pipeline::Blocks, ..shakespeare() }, CONTEXT);

    assert!(error.contains("<|endoftext|>"), "{error}");
}
