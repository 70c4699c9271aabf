//! Tables of every kind: which column is the text, how rows without a text are handled, and what is
//! no table.

use crate::{bytes_of, gzip, loaded, rejection, some_text, text_of, write};
use dlt_data::{BadRows, ColumnChoice, DataRequest, Progress, load};
use dlt_hub_stand_in::{Column, Compression, parquet, parquet_with};
use dlt_spec::spec::{CsvSeparator, DataSpec, Newlines, OnBadRow};
use std::{fs, io::Write, path::Path};
use tempfile::TempDir;

fn read(data: &DataSpec) -> String {
    text_of(&loaded(data, 1).unwrap())
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A tar archive of one file, as GNU tar writes it.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';

    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let padding = vec![0; content.len().div_ceil(512) * 512 - content.len() + 1024];
    [&header[..], content, &padding].concat()
}

const TEXTS: [&str; 4] = ["one two", "with \"quotes\"\tand more", "", "世 and 😀"];

fn objects() -> Vec<serde_json::Value> {
    let row = |text: &&str| serde_json::json!({ "id": 7, "text": text, "deep": [{ "a": "]}" }] });
    TEXTS.iter().map(row).collect()
}

#[test]
fn json_is_read_as_rows_in_lines_and_in_arrays_plain_and_packed() {
    let folder = TempDir::new().unwrap();
    let lines: String = objects().iter().map(|row| format!("{row}\n")).collect();
    let array = serde_json::to_string(&objects()).unwrap();
    let pretty = serde_json::to_string_pretty(&objects()).unwrap();

    for (number, content) in [lines, array, pretty].iter().enumerate() {
        for (ending, content) in [
            ("json", content.clone().into_bytes()),
            ("jsonl", content.clone().into_bytes()),
            ("json.gz", gzip(content.as_bytes())),
            ("json.zst", zstd(content.as_bytes())),
        ] {
            let path = write(&folder, &format!("{number}.{ending}"), content);
            assert_eq!(read(&bytes_of(&path)), TEXTS.join("\n"), "{}", path.display());
        }
    }
}

#[test]
fn json_is_data_in_folders_and_the_files_of_models_are_not() {
    let folder = TempDir::new().unwrap();
    write(&folder, "a.json", "[{\"text\": \"first row\"}]");
    write(&folder, "b.jsonl", "{\"text\": \"second row\"}\n");

    for name in ["tokenizer.json", "config.json", "dataset_infos.json"] {
        write(&folder, name, "{\"text\": \"not this\"}");
    }

    assert_eq!(read(&bytes_of(folder.path())), "first row\nsecond row");
}

#[test]
fn rejects_arrays_that_are_broken_with_the_row() {
    let folder = TempDir::new().unwrap();

    for (content, says) in [
        (
            "[{\"text\": \"some words\"}, {\"text\": \"more",
            "row 2: expected the end of the element",
        ),
        ("[{\"text\": \"some words\"} {\"text\": 1}]", "row 1"),
        ("[{\"text\": \"some words\"},]", "row 2: expected an element"),
        ("[{\"text\": \"some words\"}] more", "follows the end of the array"),
        ("[]", "its columns are: none"),
        ("[1, 2]", "row 1: expected an object, got a number"),
        ("{\n  \"text\": \"some words\"\n}", "row 1: expected an object of JSON"),
    ] {
        let error = rejection(&bytes_of(write(&folder, "rows.json", content)), 1);
        assert!(error.contains("rows.json") && error.contains(says), "{content}: {error}");
    }
}

#[test]
fn rejects_what_is_neither_text_nor_rows_by_its_content_whatever_its_name() {
    let folder = TempDir::new().unwrap();
    let text = some_text();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked: Vec<u8> =
        [&[0xFE, 0xFF][..], &text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()]
            .concat();

    let widest: Vec<u8> = text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (tar("text.txt", text.as_bytes()), "is a tar archive"),
        (b"PK\x03\x04 and more".to_vec(), "is a zip archive"),
        (b"\xFD7zXZ\0 and more".to_vec(), "is xz data"),
        (b"BZh91AY&SY and more".to_vec(), "is bzip2 data"),
        (b"7z\xBC\xAF\x27\x1C and more".to_vec(), "is a 7z archive"),
        (b"ARROW1\0\0 and more".to_vec(), "is an Arrow (Feather) file"),
        (parquet(&[Column::Text("text", vec![text.clone()])], 1), "is a Parquet file"),
        (b"%PDF-1.7 and more".to_vec(), "is a PDF document"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "is an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(),
            "is a pointer of Git LFS",
        ),
        (wide, "is UTF-16 text without its mark"),
        (marked, "is UTF-16 text"),
        (widest, "is UTF-32 text"),
    ];

    for (content, says) in cases {
        for (name, content) in [
            ("data.txt", content.clone()),
            ("data.jsonl", content.clone()),
            ("data.csv", content.clone()),
            ("data", content.clone()),
            ("data.txt.gz", gzip(&content)),
            ("data.tar.zst", zstd(&content)),
            ("data.json.gz", content.clone()),
        ] {
            let error = rejection(&bytes_of(write(&folder, name, content)), 1);
            assert!(error.contains(name) && error.contains(says), "{name}: {error}");
        }

        if !says.contains("Parquet") {
            let error = rejection(&bytes_of(write(&folder, "data.parquet", content)), 1);
            assert!(error.contains(says), "{error}");
        }
    }

    for (name, content, says) in [
        (
            "packed.txt",
            gzip(text.as_bytes()),
            "is gzip data, expected text: give it a name that ends in .gz",
        ),
        ("packed.csv", zstd(text.as_bytes()), "is zstd data"),
        ("twice.txt.gz", gzip(&gzip(text.as_bytes())), "is gzip data"),
        (
            "plain.txt.gz",
            text.clone().into_bytes(),
            "is no gzip data, although its name ends in .gz",
        ),
        ("plain.txt.zst", text.clone().into_bytes(), "is no zstd data"),
    ] {
        let error = rejection(&bytes_of(write(&folder, name, content)), 1);
        assert!(error.contains(says), "{name}: {error}");
    }
}

#[test]
fn gzip_is_read_to_its_last_member_and_padding_is_none_of_it() {
    let folder = TempDir::new().unwrap();
    let content = [gzip(b"some words\n"), gzip(b"and more\n"), vec![0; 3_000]].concat();
    assert_eq!(read(&bytes_of(write(&folder, "a.txt.gz", &content))), "some words\nand more\n");

    let error =
        rejection(&bytes_of(write(&folder, "b.txt.gz", [&content[..], b"junk"].concat())), 1);
    assert!(error.contains("b.txt.gz") && error.contains("follows the gzip data"), "{error}");
}

#[test]
fn zstd_with_a_long_window_is_read() {
    let folder = TempDir::new().unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(some_text().as_bytes()).unwrap();

    let path = write(&folder, "long.txt.zst", encoder.finish().unwrap());
    assert_eq!(read(&bytes_of(path)), some_text());
}

#[test]
fn the_column_called_text_is_found_past_rows_where_it_is_null() {
    let folder = TempDir::new().unwrap();
    let rows = "{\"text\": null, \"url\": \"http://example.org/0\"}\n\
                {\"text\": \"some words\", \"url\": \"http://example.org/1\"}\n\
                {\"text\": \"and more\", \"url\": \"http://example.org/2\"}\n";
    let splits = loaded(&bytes_of(write(&folder, "rows.jsonl", rows)), 1).unwrap();
    assert_eq!(text_of(&splits), "\nsome words\nand more");

    let column = splits.provenance.column.unwrap();
    assert_eq!((column.name.as_str(), column.chosen), ("text", ColumnChoice::Found));
}

#[test]
fn a_member_of_a_member_is_read_where_it_is_named_in_json_as_in_parquet() {
    let folder = TempDir::new().unwrap();
    let rows = "{\"meta\": {\"s\": 1}, \"data\": {\"text\": \"some words\"}}\n\
                {\"meta\": {\"s\": 2}, \"data\": {\"text\": \"and more\"}}\n";
    let path = write(&folder, "rows.jsonl", rows);
    let error = rejection(&bytes_of(&path), 1);

    assert!(
        error.contains("data.text (text, as \"some words\")") && error.contains("meta.s (numbers)"),
        "{error}"
    );
    let named = bytes_of(format!("{}::data.text", path.display()));
    assert_eq!(read(&named), "some words\nand more");
    assert_eq!(loaded(&named, 1).unwrap().provenance.column.unwrap().chosen, ColumnChoice::Named);

    let picture = Column::Picture("img", vec![b"some words".to_vec(), b"and more".to_vec()]);
    let table = write(&folder, "rows.parquet", parquet(&[picture], 2));
    let error = rejection(&bytes_of(&table), 1);

    assert!(error.contains("img.bytes (text"), "{error}");
    assert_eq!(read(&bytes_of(format!("{}::img.bytes", table.display()))), "some words\nand more");
}

#[test]
fn rejects_a_column_that_would_be_a_guess_in_every_format() {
    let folder = TempDir::new().unwrap();
    let addresses: Vec<String> = (0..9).map(|row| format!("http://example.org/{row}")).collect();
    let csv = format!("url\n{}\n", addresses.join("\n"));
    let json: String =
        addresses.iter().map(|url| format!("{{\"url\": {url:?}, \"n\": 1}}\n")).collect();
    let table =
        parquet(&[Column::Whole("n", vec![1; 9]), Column::Text("url", addresses.clone())], 9);

    for (name, content) in [
        ("rows.csv", csv.clone().into_bytes()),
        ("rows.tsv", csv.into_bytes()),
        ("rows.jsonl", json.into_bytes()),
        ("rows.parquet", table),
    ] {
        let path = write(&folder, name, content);
        let error = rejection(&bytes_of(&path), 1);
        assert!(error.contains("url (addresses, as \"http://example.org/0\")"), "{error}");

        // On request it is read.
        assert_eq!(read(&bytes_of(format!("{}::url", path.display()))), addresses.join("\n"));
        let error = rejection(&bytes_of(format!("{}::body", path.display())), 1);
        assert!(error.contains("no column \"body\"") && error.contains("url"), "{error}");
    }
}

#[test]
fn rejects_files_of_one_folder_whose_columns_differ() {
    let folder = TempDir::new().unwrap();
    write(&folder, "a.jsonl", "{\"text\": \"some words\"}\n");
    write(&folder, "b.jsonl", "{\"body\": \"and more\"}\n");

    let error = rejection(&bytes_of(folder.path()), 1);

    assert!(
        error.contains("\"text\"")
            && error.contains("\"body\"")
            && error.contains("name the column"),
        "{error}"
    );
}

#[test]
fn the_column_that_was_found_is_reported_before_anything_is_read() {
    let folder = TempDir::new().unwrap();
    let data = bytes_of(write(
        &folder,
        "rows.csv",
        "id,review\n1,some good words\n2,and some bad words\n",
    ));

    let mut said = Vec::new();
    load(&DataRequest::new(&data, 1), &mut |progress| said.push(progress)).unwrap();

    let column = said.iter().find_map(|progress| match progress {
        Progress::Column(column) => Some(column.name.as_str()),
        _ => None,
    });

    assert_eq!(column, Some("review"));
}

#[test]
fn the_separator_of_csv_is_found_or_given() {
    let folder = TempDir::new().unwrap();
    let expected = "some, words; and\tmore | of them\nand \"more\"";

    for separator in [',', ';', '\t', '|'] {
        let rows = format!(
            "id{separator}text\n1{separator}\"some, words; and\tmore | of them\"\n2{separator}\"and \"\"more\"\"\"\n"
        );
        let path = write(&folder, "rows.csv", rows);
        assert_eq!(read(&bytes_of(&path)), expected, "{separator:?}");
    }

    let unsure = write(&folder, "unsure.csv", "a,b;text\n1,2;some words\n3,4;and more\n");
    let error = rejection(&bytes_of(&unsure), 1);
    assert!(error.contains("',' or ';'") && error.contains("data.csv_separator"), "{error}");

    let given = DataSpec { csv_separator: CsvSeparator::Semicolon, ..bytes_of(&unsure) };
    assert_eq!(read(&given), "some words\nand more");
}

#[test]
fn rejects_a_single_column_that_is_several() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "rows.csv", "id;text\n0;some words\n1;and more\n");
    let given = DataSpec { csv_separator: CsvSeparator::Comma, ..bytes_of(&path) };
    let error = rejection(&given, 1);

    assert!(error.contains("\"id;text\"") && error.contains("data.csv_separator"), "{error}");
    assert_eq!(read(&bytes_of(&path)), "some words\nand more");
}

#[test]
fn rejects_a_quote_that_is_never_closed_with_row_and_line() {
    let folder = TempDir::new().unwrap();
    for (end, name) in [("\n", "unix.csv"), ("\r\n", "windows.csv")] {
        let rows =
            ["id,text", "1,\"a row\nof two lines\"", "2,\"never closed", "3,another row", ""]
                .join(end);
        let error = rejection(&bytes_of(write(&folder, name, rows)), 1);

        assert!(
            error.contains("row 3: a quote that is opened in this row (line 4) is never closed"),
            "{error}"
        );
    }

    // In TSV quotes mean nothing.
    let path = write(&folder, "rows.tsv", "id\ttext\n1\t\"never closed\n2\tand more\n");
    assert_eq!(read(&bytes_of(path)), "\"never closed\nand more");

    // The byte that marks the end of a table for its reader is not mistaken for the end if a file
    // contains it.
    let error =
        rejection(&bytes_of(write(&folder, "latin.csv", b"text\nsome words\n\xFF\nand more\n")), 1);
    assert!(error.contains("not UTF-8"), "{error}");
}

#[test]
fn byte_order_marks_are_dropped_everywhere() {
    let folder = TempDir::new().unwrap();
    let table = |name: &str| -> String {
        match name.rsplit('.').next().unwrap() {
            "txt" => "some words\nand more".to_owned(),
            "csv" => "text,id\nsome words,1\nand more,2\n".to_owned(),
            "tsv" => "text\tid\nsome words\t1\nand more\t2\n".to_owned(),
            "json" => "[{\"text\": \"some words\"}, {\"text\": \"and more\"}]".to_owned(),
            _ => "{\"text\": \"some words\"}\n{\"text\": \"and more\"}\n".to_owned(),
        }
    };

    for name in ["a.txt", "a.csv", "a.tsv", "a.json", "a.jsonl"] {
        let marked = format!("\u{feff}{}", table(name));
        assert_eq!(
            read(&bytes_of(write(&folder, name, &marked))),
            "some words\nand more",
            "{name}"
        );

        for (packed, content) in [("gz", gzip(marked.as_bytes())), ("zst", zstd(marked.as_bytes()))]
        {
            let path = write(&folder, &format!("{name}.{packed}"), content);
            assert_eq!(read(&bytes_of(path)), "some words\nand more", "{name}.{packed}");
        }
    }

    let several = TempDir::new().unwrap();
    write(&several, "a.txt", "\u{feff}some words\n");
    write(&several, "b.txt", "\u{feff}and more\n");
    assert_eq!(read(&bytes_of(several.path())), "some words\nand more\n");
}

#[test]
fn line_ends_of_windows_become_those_of_unix_unless_they_are_kept() {
    let folder = TempDir::new().unwrap();
    let texts = ["one\r\ntwo", "three\rfour"];
    let quoted = |text: &str| format!("\"{text}\"");
    let json: String =
        texts.iter().map(|text| format!("{}\r\n", serde_json::json!({ "text": text }))).collect();

    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a.txt", texts.join("\r\n").into_bytes()),
        ("a.jsonl", json.into_bytes()),
        ("a.csv", format!("text\r\n{}\r\n{}\r\n", quoted(texts[0]), quoted(texts[1])).into_bytes()),
        ("a.parquet", parquet(&[Column::Text("text", texts.map(str::to_owned).to_vec())], 1)),
    ];

    for (name, content) in cases {
        let path = write(&folder, name, content);
        assert_eq!(read(&bytes_of(&path)), "one\ntwo\nthree\rfour", "{name}");

        let kept = read(&DataSpec { newlines: Newlines::Keep, ..bytes_of(&path) });
        let joined = if name == "a.txt" { texts.join("\r\n") } else { texts.join("\n") };
        assert_eq!(kept, joined, "{name}");
    }
}

#[test]
fn tokens_in_the_cache_are_of_one_way_of_reading() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.txt", "some\r\nwords and more");
    let cache = folder.path().join("cache");
    let read = |newlines: Newlines| {
        let data = DataSpec { newlines, ..bytes_of(&path) };
        text_of(
            &load(&DataRequest { cache: Some(&cache), ..DataRequest::new(&data, 1) }, &mut |_| ())
                .unwrap(),
        )
    };

    assert_eq!(read(Newlines::Keep), "some\r\nwords and more");
    assert_eq!(read(Newlines::Lf), "some\nwords and more");
    assert_eq!(read(Newlines::Keep), "some\r\nwords and more");
}

/// Rows of which the second to fifth have no text that could be read.
const HOLES: &str = "{\"text\": \"some words\"}\n\
    {\"text\": null}\n\
    {\"other\": 1}\n\
    {\"text\": 3}\n\
    {\"text\": \"half of \\ud83d\"}\n\
    {\"text\": \"and more\", \"n\": NaN, \"half\": \"\\udc00\"}\n";

#[test]
fn rows_without_text_are_skipped_on_request_and_counted_once() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "rows.jsonl", HOLES);
    let splits = loaded(&DataSpec { on_bad_row: OnBadRow::Skip, ..bytes_of(&path) }, 1).unwrap();

    assert_eq!(text_of(&splits), "some words\nand more");
    let BadRows { empty, skipped, first } = splits.provenance.bad_rows;
    assert_eq!((empty, skipped, first.len()), (0, 4, 3));
    assert!(first[0].ends_with("rows.jsonl, row 2: no text"), "{first:?}");
    assert!(first[2].contains("row 4: expected text in \"text\", got a number"), "{first:?}");

    let error = rejection(&bytes_of(&path), 1);
    assert!(error.contains("row 4") && error.contains("data.on_bad_row = \"skip\""), "{error}");
}

#[test]
fn rejects_half_a_character_by_name() {
    let folder = TempDir::new().unwrap();
    let rows = "{\"text\": \"some words\"}\n{\"text\": \"half of \\ud83d\"}\n";
    let error = rejection(&bytes_of(write(&folder, "rows.jsonl", rows)), 1);
    assert!(error.contains("row 2") && error.contains("lone surrogate"), "{error}");
}

#[test]
fn nulls_and_missing_members_are_empty_alike_in_every_format() {
    let folder = TempDir::new().unwrap();
    let texts = vec![Some("some words".to_owned()), None, None, Some("and more".to_owned())];
    let lines =
        "{\"text\": \"some words\"}\n{\"text\": null}\n{}\n{\"text\": \"and more\", \"n\": NaN}\n";
    let array = format!("[{}]", lines.trim().replace('\n', ","));

    for (name, content) in [
        ("rows.jsonl", lines.as_bytes().to_vec()),
        ("rows.json", array.into_bytes()),
        ("rows.parquet", parquet(&[Column::MaybeText("text", texts)], 2)),
    ] {
        let path = write(&folder, name, content);
        let splits = loaded(&bytes_of(&path), 1).unwrap();
        assert_eq!(text_of(&splits), "some words\n\n\nand more", "{name}");

        let rows = &splits.provenance.bad_rows;
        assert_eq!((rows.empty, rows.skipped, rows.first.len()), (2, 0, 2), "{name}");
        assert!(rows.first[0].ends_with("row 2: no text"), "{rows:?}");

        let splits =
            loaded(&DataSpec { on_bad_row: OnBadRow::Skip, ..bytes_of(&path) }, 1).unwrap();
        assert_eq!(text_of(&splits), "some words\nand more", "{name}");
        assert_eq!(splits.provenance.bad_rows.skipped, 2, "{name}");
    }
}

#[test]
fn rows_of_other_lengths_and_encodings_are_skipped_in_csv() {
    let folder = TempDir::new().unwrap();
    let rows = b"id,text\n1,some words\n2\n3,a,b\n4,caf\xE9\n5,and more\n";
    let path = write(&folder, "rows.csv", rows);
    let splits = loaded(&DataSpec { on_bad_row: OnBadRow::Skip, ..bytes_of(&path) }, 1).unwrap();

    assert_eq!(
        (text_of(&splits).as_str(), splits.provenance.bad_rows.skipped),
        ("some words\nand more", 3)
    );
    let error = rejection(&bytes_of(&path), 1);

    assert!(
        error.contains("row 3: expected 2 fields as the line of names has, got 1 (line 3)"),
        "{error}"
    );
}

#[test]
fn rejects_pages_that_are_larger_than_they_say_before_they_fill_the_memory() {
    let folder = TempDir::new().unwrap();

    for codec in [Compression::GZIP(Default::default()), Compression::BROTLI(Default::default())] {
        let mut bytes = parquet_with(&[Column::Text("text", vec!["a ".repeat(1 << 22)])], 1, codec);
        // The first page's header begins after the magic number: its type, then its size. Only the
        // low bits of the size are kept.
        assert_eq!((bytes[4], bytes[6]), (0x15, 0x15));
        (7..9).for_each(|at| bytes[at] &= 0x80);

        let error = rejection(&bytes_of(write(&folder, "bomb.parquet", bytes)), 1);
        assert!(error.contains("bomb.parquet") && error.contains("larger than it says"), "{error}");
    }
}

/// The files of `data/fixtures/parquet` hold four rows, written by pyarrow with each codec.
#[test]
fn every_codec_of_parquet_is_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures/parquet");
    let mut names: Vec<String> = fs::read_dir(&fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    names.sort();

    let codecs = ["brotli", "gzip", "lz4-raw", "none", "snappy", "zstd"];
    assert_eq!(names, codecs.map(|codec| format!("{codec}.parquet")));

    let texts = ["some words", "and more", "世 and 😀", "the end"];
    for name in names {
        assert_eq!(read(&bytes_of(fixtures.join(&name))), texts.join("\n"), "{name}");
    }

    let folder = TempDir::new().unwrap();
    let column = Column::Text("text", texts.map(str::to_owned).to_vec());
    let path = write(&folder, "hadoop.parquet", parquet_with(&[column], 2, Compression::LZ4));

    assert_eq!(read(&bytes_of(path)), texts.join("\n"));
}
