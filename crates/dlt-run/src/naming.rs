//! The default folder of a run: words that say what kind of run it is, and the next free number.

use std::path::{Path, PathBuf};

use dlt_spec::{Spec, fields};

/// Folder in which all runs without --out are.
const FOLDER: &str = "runs";

/// Longest name of a run folder, without its number. File systems allow 255 bytes.
const LONGEST: usize = 120;

/// The folder of a spec: `runs/NAME[-START][-DATA][-METHOD][-POLICY]-SEED`. The words say what
/// differs from `usual`, the spec of preset, method and file alone.
pub(crate) fn folder(
    spec: &Spec,
    usual: &Spec,
    method: Option<&str>,
    start: Option<&str>,
) -> PathBuf {
    let mut words = vec![spec.name.clone()];
    words.extend(start.and_then(short));

    if spec.data.source != usual.data.source {
        words.extend(short(&spec.data.source));
    }

    words.extend(method.map(str::to_owned));
    words.extend(policy(spec, usual));
    numbered(words, spec.seed)
}

/// The folder of a fine-tuned run, whose name already has its start and its task.
pub(crate) fn folder_of_task(spec: &Spec, method: Option<&str>) -> PathBuf {
    numbered(
        [Some(spec.name.clone()), method.map(str::to_owned)].into_iter().flatten().collect(),
        spec.seed,
    )
}

fn numbered(words: Vec<String>, seed: u64) -> PathBuf {
    let name: String = words.join("-").chars().take(LONGEST).collect();
    Path::new(FOLDER).join(format!("{name}-{seed}"))
}

/// The first of `NAME`, `NAME-2`, `NAME-3` and so on that does not exist, not even as a dangling
/// link.
pub(crate) fn free(folder: &Path) -> PathBuf {
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    let named = |number: u64| PathBuf::from(format!("{}-{number}", folder.display()));
    let first = folder.to_owned();
    if is_free(&first) { first } else { (2..).map(named).find(is_free).unwrap_or(first) }
}

/// A word for the policy, if it differs from that of preset and method.
fn policy(spec: &Spec, usual: &Spec) -> Option<String> {
    if spec.agent.policy == usual.agent.policy {
        return None;
    }

    if spec.is_conventional() {
        return Some("conventional".to_owned());
    }

    Some(fields::word(&spec.agent.policy))
}

/// The last part of the name of a model or of data, with only the letters that a run's name may
/// have; `None` if no letter is left.
pub(crate) fn short(name: &str) -> Option<String> {
    let name = name.strip_prefix("hf:").map_or(name, |hub| hub.split(':').next().unwrap_or(hub));
    let name = name.split_once("::").map_or(name, |(path, _)| path);
    let name = name.split('@').next().unwrap_or(name);
    let is_file = Path::new(name).is_file();
    let last = name.trim_end_matches(['/', '.']).rsplit(['/', '\\']).next().unwrap_or_default();
    let last =
        if is_file { last.split('.').find(|part| !part.is_empty()).unwrap_or(last) } else { last };

    let is_fit = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
    let fit: String = last.chars().filter(is_fit).take(60).collect();
    Some(fit.trim_start_matches(['.', '-']).to_owned()).filter(|fit| !fit.is_empty())
}

/// The last part of a model's name, with only the letters that a run's name may have.
pub(crate) fn of_model(model: &str) -> String {
    let whole = model.split('@').next().unwrap_or(model);
    let whole = if Path::new(whole).is_file() {
        Path::new(whole).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned()
    } else {
        whole.to_owned()
    };

    short(&whole).unwrap_or_else(|| "model".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::spec::{Initial, InitialName, PolicyKind};

    #[test]
    fn a_run_is_named_for_its_model() {
        assert_eq!(of_model("runs/shakespeare-12-1/"), "shakespeare-12-1");
        assert_eq!(of_model("hf:someone/gpt2@0123"), "gpt2");
        assert_eq!(of_model("hf:gpt2"), "gpt2");
        assert_eq!(of_model("../.."), "model");
        assert_eq!(of_model("mine (2)"), "mine2");
    }

    #[test]
    fn a_folder_says_what_differs_from_the_preset() {
        let usual = Spec { name: "small".to_owned(), ..Spec::default() };
        let named = |change: &dyn Fn(&mut Spec), method, start| {
            let mut spec = usual.clone();
            change(&mut spec);
            folder(&spec, &usual, method, start).display().to_string()
        };

        assert_eq!(named(&|_| (), None, None), "runs/small-1");
        assert_eq!(named(&|spec| spec.seed = 7, Some("reference"), None), "runs/small-reference-7");
        assert_eq!(
            named(
                &|spec| spec.data.source = "hf:me/books:english:body".to_owned(),
                None,
                Some("hf:a/gpt2@0123")
            ),
            "runs/small-gpt2-books-1"
        );

        assert_eq!(
            named(&|spec| spec.agent.policy = PolicyKind::Random, None, None),
            "runs/small-random-1"
        );

        let conventional = |spec: &mut Spec| {
            spec.agent.policy = PolicyKind::None;
            spec.tying.initial = Initial::Named(InitialName::Independent);
        };

        assert_eq!(named(&conventional, None, None), "runs/small-conventional-1");
    }

    #[test]
    fn a_name_that_is_taken_gets_the_next_number() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("small-1");
        for expected in ["small-1", "small-1-2", "small-1-3"] {
            let free = free(&base);
            assert_eq!(free, folder.path().join(expected));
            std::fs::create_dir(free).unwrap();
        }
    }

    #[test]
    fn names_are_short_and_no_paths() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my text.jsonl.gz");
        std::fs::write(&file, "").unwrap();
        assert_eq!(short(&file.to_string_lossy()).as_deref(), Some("mytext"));

        for (name, expected) in [
            ("runs/shakespeare-12-1/", "shakespeare-12-1"),
            ("hf:someone/gpt2@0123", "gpt2"),
            ("wikitext-2@main", "wikitext-2"),
            ("glue/sst2", "sst2"),
            ("my.jsonl::body", "my.jsonl"),
            ("-rf", "rf"),
            ("\u{1b}[2J", "2J"),
        ] {
            assert_eq!(short(name).as_deref(), Some(expected), "{name}");
        }

        assert_eq!(short("../.."), None);
    }
}
