use crate::write;
use dlt_data::{
    Augment, CIFAR10_MEAN, CIFAR10_STD, Draw, ExampleBatch, Examples, Material, PictureSettings,
    Places, Split, TokenSplits, TokenStream, load_pictures,
};
use dlt_hub_stand_in::cifar_record;
use dlt_spec::{
    CheckedSpec, Spec,
    size::Extents,
    spec::{self, Architecture, Attention, Normalise, Objective, Pooling, Size},
};
use std::path::Path;
use tempfile::TempDir;

/// A tokenizer of the words `a` to `t`, and some more.
fn tokenizer(folder: &TempDir, more: &[&str]) -> String {
    let words = ('a'..='t').map(String::from).chain(more.iter().map(|&word| word.to_owned()));
    let vocabulary: Vec<String> =
        words.zip(0..).map(|(word, id)| format!("{word:?}: {id}")).collect();
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {{"type": "WhitespaceSplit"}},
        "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "a"}}}}"#,
        vocabulary.join(", ")
    );

    write(folder, &format!("tokenizer-{}.json", more.len()), json).display().to_string()
}

/// The spec of a small model that reads this source.
fn spec(
    objective: Objective,
    source: &Path,
    tokenizer: &str,
    change: impl Fn(&mut Spec),
) -> CheckedSpec {
    let mut spec = Spec::default();
    spec.data.source = source.display().to_string();
    spec.data.tokenizer = tokenizer.to_owned();
    spec.model.objective = objective;
    spec.model.context = 8;
    change(&mut spec);

    spec.check().unwrap()
}

fn material(spec: &CheckedSpec) -> Material {
    Material::load(spec, Places::default(), &mut |_| ()).unwrap()
}

fn refusal(spec: &CheckedSpec) -> String {
    Material::load(spec, Places::default(), &mut |_| ()).unwrap_err().to_string()
}

fn counts(material: &Material) -> [usize; 3] {
    Split::ALL.map(|split| material.examples(split).count())
}

fn checksums(material: &Material) -> Vec<String> {
    let provenance = material.provenance();
    let splits = provenance.splits.iter().map(|split| split.sha256.clone());
    splits.chain([provenance.sha256.clone()]).collect()
}

/// Hidden tokens, sentences and augmented pictures: few, so that passes are short.
pub(crate) fn one_of_each_kind() -> [Material; 3] {
    let folder = TempDir::new().unwrap();
    let place = sentences(&folder, &rows(0..40), &rows(40..50), None);
    let words = tokenizer(&folder, &["<|endoftext|>"]);
    [
        masked(&folder, &[], |spec| spec.model.context = 40),
        classes(&place, &words, |_| ()),
        pictures(&folder, |spec| spec.data.augment = spec::Augment::CropFlip),
    ]
    .map(|spec| material(&spec))
}

// Hidden tokens.

fn masked(folder: &TempDir, more: &[&str], change: impl Fn(&mut Spec)) -> CheckedSpec {
    let text: Vec<String> =
        (0..2_003).map(|at| char::from(b'a' + (at * at % 19) as u8).to_string()).collect();
    let source = write(folder, "text.txt", text.join(" "));

    spec(Objective::MaskedToken, &source, &tokenizer(folder, more), |spec| {
        spec.model.architecture = Architecture::Bert;
        spec.model.attention = Attention::Full;
        spec.data.mask_share = 0.5;
        change(spec);
    })
}

fn hidden(batch: ExampleBatch) -> (Vec<u32>, Vec<Option<u32>>) {
    let ExampleBatch::Masked { inputs, targets, .. } = batch else {
        panic!("hidden tokens, not {batch:?}")
    };
    (inputs, targets)
}

#[test]
fn a_tokenizer_without_a_mask_gets_one_more_entry() {
    let folder = TempDir::new().unwrap();

    for (more, vocabulary, mask) in
        [(&[][..], 21, 20), (&["[MASK]"], 21, 20), (&["<mask>", "x"], 22, 20)]
    {
        let material = material(&masked(&folder, more, |_| ()));
        assert_eq!(material.extents(), Extents::of_text(vocabulary), "{more:?}");

        let windows = material.tokens().unwrap().windows(Split::Train).unwrap();
        let numbers: Vec<usize> = (0..50).collect();
        let (inputs, targets) =
            hidden(material.examples(Split::Train).batch(&numbers, Draw::Pass(0)).unwrap());
        let mut text = vec![0; inputs.len()];
        let mut rest = vec![0; inputs.len()];

        for (number, (text, rest)) in text.chunks_mut(8).zip(rest.chunks_mut(8)).enumerate() {
            windows.fill(number, text, rest).unwrap();
        }

        let mut masks = 0;
        let mut drawn = 0;

        for ((&input, &target), &token) in inputs.iter().zip(&targets).zip(&text) {
            match target {
                Some(target) => {
                    assert_eq!(target, token);
                    masks += usize::from(input == mask);
                    drawn += usize::from(input != mask && input != token);
                }
                None => assert_eq!(input, token),
            }
        }

        assert_eq!(targets.iter().flatten().count(), 50 * 4, "half of each window");
        assert!(masks > 130 && drawn > 5, "{masks} masks, {drawn} random tokens");
    }
}

#[test]
fn what_is_hidden_is_drawn_by_seed_pass_and_window_and_evaluations_never_change() {
    let folder = TempDir::new().unwrap();
    let material = material(&masked(&folder, &[], |_| ()));
    let of = |examples: &Examples, numbers: &[usize], draw| {
        hidden(examples.batch(numbers, draw).unwrap())
    };
    let train = material.examples(Split::Train);

    let all: Vec<usize> = (0..20).collect();
    let first = of(train, &all, Draw::Pass(0));
    assert_eq!(of(train, &[11], Draw::Pass(0)).0, first.0[11 * 8..12 * 8]);
    assert_ne!(of(train, &all, Draw::Pass(1)), first);
    assert_ne!(of(train, &all, Draw::Fixed), first);
    assert_eq!(of(train, &all, Draw::Fixed), of(train, &all, Draw::Fixed));
    assert_eq!(of(&train.first(20).unwrap(), &all, Draw::Fixed), of(train, &all, Draw::Fixed));

    let other = self::material(&masked(&folder, &[], |spec| spec.seed = 2));
    assert_ne!(of(other.examples(Split::Train), &all, Draw::Pass(0)), first);

    // The rest after the last window: 100 tokens of validation are 12 windows and 3 more tokens
    // before the last one.
    let (rest, targets) = hidden(material.examples(Split::Validation).tail().unwrap().unwrap());
    assert_eq!((rest.len(), targets.iter().flatten().count()), (3, 2));
    assert_eq!(train.class_counts(), None);
    assert!(train.first(train.count() + 1).is_err());
}

// Sentences.

/// Rows of one sentence each, of two classes.
fn rows(range: std::ops::Range<usize>) -> String {
    let words = |row: usize| ["a", "b c", "d e f", "g h i j"][row % 4];
    range.map(|row| format!("{}\t{}\n", words(row), row % 2)).collect()
}

fn sentences(folder: &TempDir, train: &str, validation: &str, test: Option<&str>) -> TempDir {
    let place = TempDir::new_in(folder.path()).unwrap();
    let table = |rows: &str| format!("sentence\tlabel\n{rows}");
    write(&place, "train.tsv", table(train));
    write(&place, "dev.tsv", table(validation));

    if let Some(test) = test {
        write(&place, "test.tsv", test);
    }

    place
}

fn classes(place: &TempDir, tokenizer: &str, change: impl Fn(&mut Spec)) -> CheckedSpec {
    spec(Objective::Classes, place.path(), tokenizer, change)
}

#[test]
fn a_test_split_without_classes_is_carved_from_the_end_of_train() {
    let folder = TempDir::new().unwrap();
    let words = tokenizer(&folder, &["<|endoftext|>"]);
    let test_without = "index\tsentence\n0\ta\n1\tb\n";

    for test in [None, Some(test_without)] {
        let place = sentences(&folder, &rows(0..45), &rows(45..55), test);
        let material = material(&classes(&place, &words, |_| ()));

        // A twentieth of 45, rounded down.
        assert_eq!(counts(&material), [43, 10, 2]);
        assert_eq!(material.extents(), Extents { vocabulary: 21, classes: 2 });

        let batch = material.examples(Split::Test).batch(&[0, 1], Draw::Fixed).unwrap();
        let ExampleBatch::Sentences { rows, labels } = batch else { panic!("sentences") };

        // Rows 43 and 44 of train: four words and one word, each with the end of text after it.
        assert_eq!((rows.ids, rows.lengths), (vec![6, 7, 8, 9, 20, 0, 20, 20, 20, 20], vec![5, 2]));
        assert_eq!((labels, rows.masks_padding), (vec![1, 0], true));
        assert_eq!(material.examples(Split::Test).class_counts(), Some(vec![1, 1]));
        assert!(material.tokens().is_none());
    }

    let place = sentences(
        &folder,
        &rows(0..45),
        &rows(45..55),
        Some(&format!("sentence\tlabel\n{}", rows(0..6))),
    );
    assert_eq!(counts(&material(&classes(&place, &words, |_| ()))), [45, 10, 6]);
}

#[test]
fn rejects_too_few_sentences_for_three_splits() {
    let folder = TempDir::new().unwrap();
    let words = tokenizer(&folder, &["<|endoftext|>"]);
    let said = |train: &str, validation: &str| {
        refusal(&classes(&sentences(&folder, train, validation, None), &words, |_| ()))
    };

    assert!(said(&rows(0..19), &rows(0..2)).contains("the test split"));
    assert!(said(&rows(0..40), "").contains("the validation split"));

    let without = sentences(&folder, &rows(0..40), &rows(0..9), None);
    let bare = tokenizer(&folder, &[]);
    assert!(refusal(&classes(&without, &bare, |_| ())).contains("no token that ends a text"));
}

#[test]
fn framing_follows_the_spec_and_what_the_tokenizer_has() {
    let folder = TempDir::new().unwrap();
    let place = sentences(&folder, &rows(0..40), &rows(40..50), None);
    let first = |tokenizer: &str, change: &dyn Fn(&mut Spec)| {
        let material = material(&classes(&place, tokenizer, change));
        let batch = material.examples(Split::Train).batch(&[1, 0], Draw::Pass(3)).unwrap();
        let ExampleBatch::Sentences { rows, .. } = batch else { panic!("sentences") };

        (rows.ids, rows.lengths, rows.masks_padding)
    };

    let marked = tokenizer(&folder, &["[PAD]", "[CLS]", "[SEP]"]);
    assert_eq!(first(&marked, &|_| ()), (vec![21, 1, 2, 22, 21, 0, 22, 20], vec![4, 3], true));

    let ended = tokenizer(&folder, &["<|endoftext|>"]);
    assert_eq!(first(&ended, &|_| ()), (vec![1, 2, 20, 0, 20, 20], vec![3, 2], true));

    let bare = |spec: &mut Spec| {
        spec.data.framing = spec::Framing::Bare;
        spec.model.classes = Size::Fixed(1);
        spec.model.pooling = Pooling::LastPosition;
    };

    let filled = [vec![1, 2], vec![20; 6], vec![0], vec![20; 7]].concat();
    assert_eq!(first(&ended, &bare), (filled, vec![2, 1], false));
}

#[test]
fn checksums_of_sentences_change_with_every_part_of_them() {
    let folder = TempDir::new().unwrap();
    let words = tokenizer(&folder, &["<|endoftext|>"]);
    let of = |train: &str, validation: &str| {
        let material =
            material(&classes(&sentences(&folder, train, validation, None), &words, |_| ()));
        let splits = &material.provenance().splits;
        assert_eq!(splits.iter().map(|split| split.split).collect::<Vec<_>>(), Split::ALL);
        assert!(splits.iter().all(|split| split.tokens > 0 && split.bytes > 0));
        checksums(&material)
    };

    let train = rows(0..40);
    let validation = rows(40..50);
    let known = of(&train, &validation);

    assert_eq!(of(&train, &validation), known, "a folder's name is no part of it");
    let changed = |train: &str, validation: &str| -> Vec<bool> {
        of(train, validation).iter().zip(&known).map(|(ours, known)| ours != known).collect()
    };
    assert_eq!(changed(&train.replacen("b c", "b d", 1), &validation), [true, false, false, true]);

    assert_eq!(
        changed(&train.replacen("b c\t1", "b c\t0", 1), &validation),
        [true, false, false, true]
    );
    assert_eq!(changed(&train, &validation.replacen("b c", "c b", 1)), [false, true, false, true]);

    // The last two rows of train are the test split.
    let last = format!("{}a b\t1\n", rows(0..39));
    assert_eq!(changed(&last, &validation), [false, false, true, true]);

    let pairs = |first: &str, second: &str| {
        let place = TempDir::new_in(folder.path()).unwrap();
        let rows = format!("{first}\t{second}\t1\n").repeat(40);
        for name in ["train.tsv", "dev.tsv"] {
            write(&place, name, format!("sentence1\tsentence2\tlabel\n{rows}"));
        }
        checksums(&material(&classes(&place, &words, |_| ())))
    };

    assert_ne!(pairs("a b", " c"), pairs("a b ", "c"), "where one sentence ends is a part of it");
}

// Pictures.

fn pictures(folder: &TempDir, change: impl Fn(&mut Spec)) -> CheckedSpec {
    let rgb = |row: usize| {
        (0..3 * 1024).map(|at| ((at * 7 % 251) ^ (row * 13)) as u8).collect::<Vec<_>>()
    };
    let records: Vec<u8> =
        (0..40).flat_map(|row| cifar_record((row % 4) as u8, &rgb(row))).collect();
    let source = write(folder, "some.bin", &records);

    spec(Objective::Classes, &source, "gpt2", |spec| {
        spec.model.architecture = Architecture::Vit;
        spec.model.attention = Attention::Full;
        spec.model.pooling = Pooling::First;
        spec.data.split = [0.5, 0.25, 0.25];
        change(spec);
    })
}

fn pixels(examples: &Examples, draw: Draw) -> Vec<f32> {
    let numbers: Vec<usize> = (0..examples.count()).collect();
    let ExampleBatch::Pictures(batch) = examples.batch(&numbers, draw).unwrap() else {
        panic!("pictures")
    };
    batch.pixels
}

#[test]
fn pictures_follow_the_settings_of_the_spec() {
    let folder = TempDir::new().unwrap();
    let plain = pictures(&folder, |_| ());
    let loaded =
        load_pictures(&plain.data.source, plain.data.split, None, None, &mut |_| ()).unwrap();

    for (augment, crop, flip) in [
        (spec::Augment::None, 0, false),
        (spec::Augment::Flip, 0, true),
        (spec::Augment::CropFlip, 4, true),
    ] {
        for (normalise, mean, std) in
            [(Normalise::Own, CIFAR10_MEAN, CIFAR10_STD), (Normalise::Half, [0.5; 3], [0.5; 3])]
        {
            for side in [32, 8] {
                let material = material(&pictures(&folder, |spec| {
                    (spec.data.augment, spec.data.normalise, spec.model.picture) =
                        (augment, normalise, side);
                }));

                assert_eq!(
                    (counts(&material), material.extents()),
                    ([20, 10, 10], Extents { vocabulary: 0, classes: 10 })
                );
                let settings = PictureSettings { side, mean, std, crop, flip };

                let expected = |split: Split, augment| {
                    let pictures = loaded.split(split);
                    let numbers: Vec<usize> = (0..pictures.len()).collect();
                    pictures.batch(&numbers, &settings, augment).unwrap().pixels
                };

                let drawn = Augment::Drawn { seed: plain.seed, pass: 3 };
                let train = material.examples(Split::Train);
                assert_eq!(pixels(train, Draw::Pass(3)), expected(Split::Train, drawn));

                for split in Split::ALL {
                    let fixed = pixels(material.examples(split), Draw::Fixed);
                    assert_eq!(fixed, expected(split, Augment::Never));
                }

                let changes = pixels(train, Draw::Pass(3)) != pixels(train, Draw::Pass(4));
                assert_eq!(changes, augment != spec::Augment::None);
            }
        }
    }
}

#[test]
fn checksums_of_pictures_change_with_pixels_and_classes_and_not_with_settings() {
    let folder = TempDir::new().unwrap();
    let known = checksums(&material(&pictures(&folder, |_| ())));
    let other = pictures(&folder, |spec| spec.data.augment = spec::Augment::CropFlip);

    assert_eq!(checksums(&material(&other)), known);
    let path = folder.path().join("some.bin");
    let whole = std::fs::read(&path).unwrap();

    // A class of train, a pixel of validation, one of test.
    for (at, changed) in [
        (0, [true, false, false, true]),
        (25 * 3073 + 9, [false, true, false, true]),
        (40 * 3073 - 1, [false, false, true, true]),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();

        let now = checksums(&material(&other));
        assert_eq!(
            now.iter().zip(&known).map(|(now, known)| now != known).collect::<Vec<_>>(),
            changed
        );
    }

    std::fs::write(&path, &whole).unwrap();
    assert_eq!(material(&other).examples(Split::Validation).class_counts(), Some(vec![3, 3, 2, 2]));
}

#[test]
fn rejects_material_for_another_task() {
    let folder = TempDir::new().unwrap();
    let empty = refusal(&pictures(&folder, |spec| spec.data.split = [0.98, 0.01, 0.01]));
    assert!(empty.contains("the validation split"), "{empty}");

    for (objective, source) in
        [(Objective::Classes, "shakespeare"), (Objective::Classes, "cifar10")]
    {
        let said = refusal(&spec(objective, Path::new(source), "gpt2", |_| ()));
        assert!(said.contains("not for classification of sentences"), "{said}");
    }
}

#[test]
fn tokens_made_elsewhere_become_windows_with_their_checksums() {
    let stream = |tokens: std::ops::Range<u32>| {
        let bytes = tokens.len();
        TokenStream::new(tokens.collect(), bytes)
    };
    let splits = |test| {
        let streams = [stream(0..17), stream(3..12), test];
        TokenSplits::of_streams("mine", "numbers", 17, 8, streams)
    };

    let without_test = Material::text(splits(stream(0..0)).unwrap()).unwrap();
    assert_eq!(counts(&without_test), [2, 1, 0]);
    assert!(!without_test.has(Split::Test));
    assert_eq!(without_test.extents(), Extents::of_text(17));

    let one = Material::text(splits(stream(0..9)).unwrap()).unwrap();
    let other = Material::text(splits(stream(1..10)).unwrap()).unwrap();
    assert_eq!(checksums(&one)[..2], checksums(&other)[..2]);
    assert_ne!(checksums(&one)[2], checksums(&other)[2]);
    assert_ne!(one.provenance().sha256, other.provenance().sha256);
}

#[test]
fn rejects_tokens_made_elsewhere_that_cannot_be_trained_on() {
    let refused = |train: &[u32], test: &[u32]| {
        let stream = |tokens: &[u32]| TokenStream::new(tokens.to_vec(), tokens.len());
        let streams = [stream(train), stream(&[0; 9]), stream(test)];
        TokenSplits::of_streams("mine", "numbers", 17, 8, streams).unwrap_err().to_string()
    };

    let short = "split of mine has 8 tokens, but one window of context 8 takes 9";
    assert!(refused(&[0; 8], &[]).contains(short), "{}", refused(&[0; 8], &[]));
    assert!(refused(&[0; 9], &[0; 8]).contains(short), "{}", refused(&[0; 9], &[0; 8]));
    assert_eq!(
        refused(&[17; 9], &[]),
        "a token: expected a number below 17 in the train split of mine, got 17"
    );
}
