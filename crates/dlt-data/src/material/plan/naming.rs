//! What the name of a file gives: its split, its place among numbered parts, and its packing.

use crate::{
    split::{Split, split_of_word},
    text::files::{Format, Packing},
};
use dlt_spec::record::Reason;
use std::cmp::Ordering;

/// Files about data, by their names without endings. Nothing is learned from their content.
const ABOUT_DATA: [&str; 17] = [
    "authors",
    "changelog",
    "citation",
    "copying",
    "data_card",
    "dataset_card",
    "dataset_dict",
    "dataset_info",
    "dataset_infos",
    "datasheet",
    "licence",
    "license",
    "metadata",
    "notice",
    "readme",
    "requirements",
    "state",
];

/// A folder that is ignored: its files count as files of the folder above.
const TRANSPARENT: &str = "data";

/// The hub's prefix for a split of which it has converted only a part.
const PARTIAL: &str = "partial-";

/// A file of text or rows, by its name alone.
#[derive(Clone, Debug)]
pub(super) struct NamedFile<'a> {
    pub(super) name: &'a str,
    pub(super) format: Format,
    pub(super) packing: Packing,
    /// The first folder that names no split: on the hub, the configuration. Empty for files at the
    /// top.
    pub(super) config: &'a str,
    /// Words that name a split, sorted, each once, with the split that they name.
    pub(super) says: Vec<(String, Split)>,
    /// Its number among parts, where the name has one.
    pub(super) part: Option<Part>,
}

/// `00003-of-00007`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) of: u64,
}

impl<'a> NamedFile<'a> {
    /// Reads a path below a folder, or gives the reason why the file is not read. If the folder at
    /// the top is `config`, its name is not read as a split.
    pub(super) fn new(name: &'a str, config: Option<&str>) -> Result<Self, Reason> {
        let mut folders: Vec<&str> = name.split('/').collect();
        let file = folders.pop().unwrap_or_default();

        if name.split('/').any(|part| part.starts_with('.')) {
            return Err(Reason::Hidden);
        }

        let (format, packing) = Format::of_name(file).ok_or(Reason::NoData)?;
        let stem = file.split('.').next().unwrap_or_default().to_ascii_lowercase();
        if ABOUT_DATA.contains(&stem.as_str()) {
            return Err(Reason::AboutData);
        }

        let mut says = Vec::new();
        let mut own = "";

        for (depth, folder) in folders.into_iter().enumerate() {
            let is_named = depth == 0 && config == Some(folder);
            let found = if is_named {
                Vec::new()
            } else {
                splits(folder.strip_prefix(PARTIAL).unwrap_or(folder))
            };

            if found.is_empty() && own.is_empty() && (is_named || folder != TRANSPARENT) {
                own = folder;
            }

            says.extend(found);
        }

        says.extend(splits(file));
        says.sort_unstable();
        says.dedup();

        Ok(Self { name, format, packing, config: own, says, part: part(file) })
    }

    /// The split that the name gives; if it gives two, the first.
    pub(super) fn split(&self) -> Option<Split> {
        self.says.first().map(|(_, split)| *split)
    }

    /// Whether a file of a repository may hold rows or text. Repositories describe themselves in
    /// `.json` files, so such a file counts only if its name gives a split.
    pub(super) fn is_data_of_hub(&self) -> bool {
        let ending = self.name[self.stem().len()..].to_ascii_lowercase();
        let is_description = ending == ".json" || ending.starts_with(".json.");
        !is_description || self.split().is_some()
    }

    /// Whether the name gives more than one split.
    pub(super) fn contradicts_itself(&self) -> bool {
        self.says.iter().any(|(_, split)| Some(*split) != self.split())
    }

    /// The name without its endings. It is equal for a file, its packed copy and its copy in
    /// another format.
    pub(super) fn stem(&self) -> &'a str {
        let cut = |name: &'a str| name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        match self.packing {
            Packing::Plain => cut(self.name),
            _ => cut(cut(self.name)),
        }
    }

    /// What the name says before the number of the part: equal for the parts of one whole. The rest
    /// is ignored, because the hub used to put a checksum there, which differs between parts.
    pub(super) fn whole(&self) -> String {
        let words: Vec<&str> = words(self.name).collect();
        let number = words.windows(3).position(|window| part_of(window).is_some());
        words[..number.unwrap_or(words.len())].join(" ")
    }
}

/// Words of a name that name a split.
fn splits(name: &str) -> Vec<(String, Split)> {
    let said = |word: &str| Some((word.to_lowercase(), split_of_word(word)?));
    words(name).filter_map(said).collect()
}

/// The words of a name: runs of letters or of digits. They are cut between letters and digits and
/// before a capital that follows a small letter, so `wikiTrain2` has three.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|letter: char| !letter.is_alphanumeric()).flat_map(|run| {
        let mut cuts = vec![0];
        let pairs = run.char_indices().zip(run.chars().skip(1));
        cuts.extend(pairs.filter_map(|((at, left), right)| {
            let is_cut = left.is_numeric() != right.is_numeric()
                || (left.is_lowercase() && right.is_uppercase());
            is_cut.then(|| at + left.len_utf8())
        }));

        cuts.push(run.len());
        let ranges: Vec<&str> = cuts.windows(2).map(|pair| &run[pair[0]..pair[1]]).collect();
        ranges.into_iter().filter(|word| !word.is_empty())
    })
}

fn part(file: &str) -> Option<Part> {
    let words: Vec<&str> = words(file).collect();
    words.windows(3).find_map(part_of)
}

/// Three words that count a part: `00003`, `of`, `00007`.
fn part_of(words: &[&str]) -> Option<Part> {
    match words {
        [number, of, all] if of.eq_ignore_ascii_case("of") => {
            Some(Part { number: number.parse().ok()?, of: all.parse().ok()? })
        }
        _ => None,
    }
}

/// The order of names in which numbers count as numbers: `part-2` before `part-10`.
pub(super) fn natural(left: &str, right: &str) -> Ordering {
    let mut one = left;
    let mut other = right;
    while let (Some(first), Some(second)) = (one.chars().next(), other.chars().next()) {
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, rest) = number(one);
            let (second, rest_of_second) = self::number(other);
            one = rest;
            other = rest_of_second;
            // Without leading zeros, more digits are a larger number.
            number.len().cmp(&second.len()).then_with(|| number.cmp(second))
        } else {
            one = &one[first.len_utf8()..];
            other = &other[second.len_utf8()..];
            first.cmp(&second)
        };

        if order != Ordering::Equal {
            return order;
        }
    }

    // Equal except for leading zeros: a tie must still have one order, or sorting would not be
    // total.
    one.len().cmp(&other.len()).then_with(|| left.cmp(right))
}

/// The digits that a text begins with, without leading zeros, and what follows.
fn number(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_cut_at_marks_numbers_and_capitals() {
        let cut = |name: &'static str| words(name).collect::<Vec<_>>();
        assert_eq!(cut("data_train_part3.jsonl"), ["data", "train", "part", "3", "jsonl"]);
        assert_eq!(cut("wikiTrain-2017 (old)"), ["wiki", "Train", "2017", "old"]);
        assert_eq!(cut("TEST.txt"), ["TEST", "txt"]);
        assert_eq!(cut("développement_été"), ["développement", "été"]);
        assert!(cut("--..").is_empty());
    }

    #[test]
    fn names_say_their_split_as_a_word_or_a_folder() {
        let split = |name: &'static str| NamedFile::new(name, None).unwrap().split();
        for (name, expected) in [
            ("train-00000-of-00001.parquet", Split::Train),
            ("data_train_part3.jsonl", Split::Train),
            ("TrainingSet.csv", Split::Train),
            ("wiki.valid.tokens", Split::Validation),
            ("x_dev.TXT", Split::Validation),
            ("eval2.txt.gz", Split::Validation),
            ("corpus/val/0001.jsonl", Split::Validation),
            ("testing.csv", Split::Test),
            ("partial-test/0000.parquet", Split::Test),
            ("my-test-files/a.txt", Split::Test),
        ] {
            assert_eq!(split(name), Some(expected), "{name}");
        }

        for name in [
            "contest.txt",
            "latest-news.txt",
            "strains.txt",
            "device.csv",
            "evaluator.txt",
            "part-1.txt",
        ] {
            assert_eq!(split(name), None, "{name}");
        }

        assert!(NamedFile::new("train/test-1.txt", None).unwrap().contradicts_itself());

        // A configuration that was requested by name is not read as a split.
        assert_eq!(
            NamedFile::new("test-of-time/train.txt", Some("test-of-time")).unwrap().split(),
            Some(Split::Train)
        );
    }

    #[test]
    fn files_about_data_and_others_are_left_out() {
        let reason = |name: &'static str| NamedFile::new(name, None).unwrap_err();
        assert_eq!(reason("README.txt"), Reason::AboutData);
        assert_eq!(reason("c/LICENSE.txt"), Reason::AboutData);
        assert_eq!(reason("train.png"), Reason::NoData);
        assert_eq!(reason(".cache/train.txt"), Reason::Hidden);
    }

    #[test]
    fn parts_are_counted_and_sorted_as_numbers() {
        let part = |name| part(name).map(|Part { number, of }| (number, of));
        assert_eq!(part("train-00003-of-00007.parquet"), Some((3, 7)));
        assert_eq!(part("train-00000-of-00004-2d5a1467fff1081b.parquet"), Some((0, 4)));
        assert_eq!(part("best-of-rock.txt"), None);

        let mut names = ["part-10", "part-2", "part-02", "part-1", "Part-3", "part", "part-1a"];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(names, ["Part-3", "part", "part-1", "part-1a", "part-02", "part-2", "part-10"]);
    }

    proptest! {
        #[test]
        fn law_the_natural_order_is_total(names in proptest::collection::vec("[aB0-2é.]{0,5}", 3)) {
            let [a, b, c] = &names[..] else { unreachable!("three were requested") };
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);

            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le(), "{a} {b} {c}");
            }
        }
    }
}
