//! Recognises from its first bytes what a file is if it is not what was expected.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::file;

/// Bytes from the beginning of a file that are enough to recognise it.
pub(crate) const HEAD: u64 = 512;

/// A file other than the expected one. Its text says what it is and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing.
    Empty,
    /// The small text that git keeps in place of a large file.
    LfsPointer,
    /// A web page.
    Page,
    /// A zip archive.
    Zip,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
    /// Python objects.
    Pickle,
    /// A JSON text.
    Json,
}

impl Foreign {
    /// What a file is, by its first bytes; `None` if they do not show it or cannot be read.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let mut head = Vec::new();
        file::regular(path, u64::MAX).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
        Self::of(&head)
    }

    /// What a file with these first bytes is; `None` if they do not show it.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
        if head.is_empty() {
            return Some(Self::Empty);
        }

        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let lower = text[..text.len().min(64)].to_ascii_lowercase();

        match () {
            () if head.starts_with(LFS) => Some(Self::LfsPointer),
            () if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") => {
                Some(Self::Page)
            }
            () if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") => {
                Some(Self::Zip)
            }
            () if head.starts_with(b"\x1f\x8b") => Some(Self::Gzip),
            () if head.starts_with(b"\x28\xb5\x2f\xfd") => Some(Self::Zstd),
            () if head.starts_with(b"\x80")
                && head.get(1).is_some_and(|protocol| (2..6).contains(protocol)) =>
            {
                Some(Self::Pickle)
            }
            () if text.starts_with(b"{") || text.starts_with(b"[") => Some(Self::Json),
            () => None,
        }
    }
}

/// Why a file is not JSON: what it is instead if its first bytes show that, otherwise the error of
/// the JSON reader.
#[must_use]
pub fn not_json(content: &[u8], error: &serde_json::Error) -> String {
    match Foreign::of(content) {
        None | Some(Foreign::Json) => format!("not JSON: {error}"),
        Some(foreign) => format!("expected JSON, got {foreign}"),
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file: get it again",
            Self::LfsPointer => {
                "a Git LFS pointer, which only names the file: run `git lfs pull` in its folder, \
                 or download the file itself"
            }
            Self::Page => {
                "a web page (HTML), for example of a log-in or an error: download the file itself"
            }
            Self::Zip => {
                "a zip archive: unpack it first, or name it pytorch_model.bin if it is weights \
                 that PyTorch saved"
            }
            Self::Gzip => "packed by gzip: unpack it first",
            Self::Zstd => "packed by zstd: unpack it first",
            Self::Pickle => {
                "pickled Python objects: name the file pytorch_model.bin if they are weights that \
                 PyTorch saved"
            }
            Self::Json => "a JSON text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_known() {
        for (head, kind) in [
            (&b""[..], Some(Foreign::Empty)),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
                Some(Foreign::LfsPointer),
            ),
            (b"\xef\xbb\xbf\n <!DOCTYPE HTML>\n", Some(Foreign::Page)),
            (b"<HTML lang=en>", Some(Foreign::Page)),
            (b"PK\x03\x04....", Some(Foreign::Zip)),
            (b"\x1f\x8b\x08", Some(Foreign::Gzip)),
            (b"\x28\xb5\x2f\xfd", Some(Foreign::Zstd)),
            (b"\x80\x02\x8a", Some(Foreign::Pickle)),
            (b"  {\"a\": 1}", Some(Foreign::Json)),
            (b"version 1 of a poem", None),
            (b"\x40\0\0\0\0\0\0\0{", None),
        ] {
            assert_eq!(Foreign::of(head), kind, "{}", String::from_utf8_lossy(head));
        }
    }
}
