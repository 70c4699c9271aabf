//! What a file holds, by its first bytes, if that is neither text nor rows.
//!
//! Names can be wrong: an archive that is read as text would train a model on its headers, and an
//! error page on its markup. So the first bytes decide, both of the file as it is stored and of
//! what is packed in it.

use super::Packing;

/// Bytes that are examined: a header of a tar archive has 512.
pub(super) const HEAD: usize = 4096;

/// Fewest units of two or four bytes from which a text without a mark is recognised as UTF-16 or
/// UTF-32.
const LEAST_UNITS: usize = 8;

/// Content that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// What it is.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) todo: &'static str,
}

const UNPACK: &str = "unpack it and name the files in it, or the folder of them";
const REPACK: &str = "unpack it, or pack it with gzip or zstd instead";
const CONVERT_TABLE: &str = "write it as Parquet or JSON Lines first";
const CONVERT_TEXT: &str = "convert it to UTF-8 first, as with `iconv -f UTF-16 -t UTF-8`";
const CONVERT_WIDE: &str = "convert it to UTF-8 first, as with `iconv -f UTF-32 -t UTF-8`";
const EXTRACT: &str = "extract its text first";
const RENAME: &str = "give it a name that says so";

/// First bytes that decide by themselves.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"PK\x05\x06", "an empty zip archive", UNPACK),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
    (b"Rar!\x1A\x07", "a RAR archive", UNPACK),
    (b"\xFD7zXZ\x00", "xz data", REPACK),
    (b"LZIP", "lzip data", REPACK),
    (b"\x04\x22\x4D\x18", "lz4 data", REPACK),
    (b"\x1F\x9D", "data of compress", REPACK),
    (b"\x1F\x8B", "gzip data", "give it a name that ends in .gz"),
    (b"\x28\xB5\x2F\xFD", "zstd data", "give it a name that ends in .zst"),
    (b"ARROW1\0\0", "an Arrow (Feather) file", CONVERT_TABLE),
    (b"FEA1", "a Feather file", CONVERT_TABLE),
    (b"\xFF\xFF\xFF\xFF", "a stream of Arrow", CONVERT_TABLE),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet"),
    (b"ORC", "an ORC file", CONVERT_TABLE),
    (b"Obj\x01", "an Avro file", CONVERT_TABLE),
    (b"\x89HDF\r\n\x1A\n", "an HDF5 file", CONVERT_TABLE),
    (b"\x93NUMPY", "an array of NumPy", CONVERT_TABLE),
    (b"SQLite format 3\0", "a data base of SQLite", CONVERT_TABLE),
    (b"%PDF-", "a PDF document", EXTRACT),
    (b"{\\rtf", "an RTF document", EXTRACT),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "a document of Microsoft Office", EXTRACT),
    (b"\x89PNG\r\n\x1A\n", "a picture (PNG)", "name a text"),
    (b"\xFF\xD8\xFF", "a picture (JPEG)", "name a text"),
    (b"\x7FELF", "a program", "name a text"),
    (b"\xFF\xFE\0\0", "UTF-32 text", CONVERT_WIDE),
    (b"\0\0\xFE\xFF", "UTF-32 text", CONVERT_WIDE),
    (b"\xFF\xFE", "UTF-16 text", CONVERT_TEXT),
    (b"\xFE\xFF", "UTF-16 text", CONVERT_TEXT),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
];

/// The beginnings of an HTML page, in lower case.
const PAGES: [&[u8]; 2] = [b"<!doctype html", b"<html"];

/// The kind of content that begins with these bytes, if it is not read. `None` if it may be text or
/// rows.
pub(super) fn foreign(head: &[u8]) -> Option<Foreign> {
    let known = MAGIC.iter().find(|(magic, ..)| head.starts_with(magic));
    if let Some(&(magic, what, todo)) = known
        && !(magic == b"ORC" && is_words(head))
    {
        return Some(Foreign { what, todo });
    }

    // "BZh", the size of a block, and the digits of pi.
    if head.starts_with(b"BZh") && head.get(4..10) == Some(b"1AY&SY") {
        return Some(Foreign { what: "bzip2 data", todo: REPACK });
    }

    // The protocol's number and the first opcode of a pickle.
    if let [0x80, 2..=5, b'\x95' | b'}' | b']' | b'c' | b'(', ..] = head {
        return Some(Foreign { what: "a Python pickle", todo: CONVERT_TABLE });
    }
    if is_tar(head) {
        return Some(Foreign { what: "a tar archive", todo: UNPACK });
    }

    if is_page(head) {
        return Some(Foreign {
            what: "an HTML page, as a failed download leaves it",
            todo: "fetch the file itself, or extract the page's text first",
        });
    }

    wide(head)
}

/// The description of a file whose name promises packed data that it does not hold.
pub(super) fn unpacked(packing: Packing) -> Foreign {
    match packing {
        Packing::Gzip => {
            Foreign { what: "no gzip data, although its name ends in .gz", todo: RENAME }
        }
        _ => Foreign { what: "no zstd data, although its name ends in .zst", todo: RENAME },
    }
}

/// Whether the first bytes are printable: "ORC" also begins words.
fn is_words(head: &[u8]) -> bool {
    head.iter().take(64).all(|&byte| byte >= b' ' || byte.is_ascii_whitespace())
}

/// A header of tar states the sum of its bytes, whatever its dialect.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    let stated = std::str::from_utf8(&header[148..156]).unwrap_or_default();
    let stated = stated.trim_matches(['\0', ' ']);
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    let field: u32 = header[148..156].iter().map(|&byte| u32::from(byte)).sum();

    // In the sum, the eight bytes of the field itself count as blanks.
    header[0] != 0 && u32::from_str_radix(stated, 8) == Ok(sum - field + 8 * u32::from(b' '))
}

fn is_page(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    PAGES
        .iter()
        .any(|page| head.get(..page.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(page)))
}

/// UTF-16 and UTF-32 without a mark. UTF-32 is recognised because every unit is a character. In
/// UTF-16 texts of most languages, blanks, digits and line ends have a zero in the same one of
/// their two bytes.
fn wide(head: &[u8]) -> Option<Foreign> {
    let (words, _) = head.as_chunks::<4>();
    if words.len() >= LEAST_UNITS {
        let scalars = |scalar: fn([u8; 4]) -> u32| {
            words
                .iter()
                .all(|&word| char::from_u32(scalar(word)).is_some_and(|letter| letter != '\0'))
        };

        if scalars(u32::from_le_bytes) || scalars(u32::from_be_bytes) {
            return Some(Foreign { what: "UTF-32 text", todo: CONVERT_WIDE });
        }
    }

    let (pairs, _) = head.as_chunks::<2>();
    let zeros = |place: usize| pairs.iter().filter(|pair| pair[place] == 0).count();
    let first = zeros(0);
    let second = zeros(1);
    let is_wide = |some: usize, none: usize| some * 8 >= pairs.len() && none * 64 <= pairs.len();
    let is_found = pairs.len() >= LEAST_UNITS && (is_wide(second, first) || is_wide(first, second));

    is_found.then_some(Foreign { what: "UTF-16 text without its mark", todo: CONVERT_TEXT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> Option<&'static str> {
        foreign(bytes).map(|foreign| foreign.what)
    }

    #[test]
    fn text_and_rows_are_not_foreign() {
        for text in [
            "",
            "a",
            "ORCs and elves, as the book says at length",
            "BZhang went home and read a long book",
            "PK is a name",
            "{\"text\": \"<html>\"}",
            "中文没有空格的文字，也是文字。",
            "\u{feff}word",
            "some words and one \0 byte that should not be there, but is there for once in a while",
        ] {
            assert_eq!(what(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn wide_text_is_known_with_and_without_its_mark() {
        let text = "Wörter über Wörter, 12 Zeilen\nund mehr";

        for (mark, end) in [("\u{feff}", ""), ("", " without its mark")] {
            let text = format!("{mark}{text}");
            let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();

            assert_eq!(what(&little), what(&big));
            assert_eq!(what(&little).unwrap(), format!("UTF-16 text{end}"));

            let little: Vec<u8> =
                text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect();
            let big: Vec<u8> =
                text.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect();
            assert_eq!((what(&little), what(&big)), (Some("UTF-32 text"), Some("UTF-32 text")));
        }
    }

    #[test]
    fn a_tar_header_is_known_by_its_sum_in_every_dialect() {
        let mut header = [0_u8; 512];
        header[..8].copy_from_slice(b"text.txt");
        header[100..107].copy_from_slice(b"0000644");
        header[148..156].fill(b' ');

        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(what(&header), Some("a tar archive"));
        header[0] ^= 1;
        assert_eq!(what(&header), None);
    }
}
