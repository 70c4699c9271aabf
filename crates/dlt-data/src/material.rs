//! What a run learns from: text, sentences with their class, or pictures.

pub(crate) mod batches;
mod examples;
mod masking;
pub(crate) mod plan;
pub(crate) mod prefetch;

pub use examples::{Draw, ExampleBatch, Examples};

use crate::{
    checksum::hex,
    error::DataError,
    hub::HubConfig,
    pictures::{CIFAR10_MEAN, CIFAR10_SIDE, CIFAR10_STD, PictureSettings, Pictures, load_pictures},
    sentences::{Example, Framing, SentenceIds, load_sentences},
    split::Split,
    text::load::{DataRequest, Progress, load},
    text::stream::{HubProvenance, Provenance, SplitProvenance, TokenSplits},
    tokenizer::Tokenizer,
};
use dlt_spec::{
    CheckedSpec,
    size::Extents,
    spec::{Architecture, Augment, Normalise, Objective},
};
use examples::ExampleKind;
use masking::Masking;
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// Before a picture is cropped, it gets a border as wide as its side divided by this number.
const BORDER_PART: usize = 8;

/// Share of train, in percent, that becomes the test split if the published one has no classes.
const TEST_PERCENT: usize = 5;

/// Number of classes of the supported pictures.
const PICTURE_CLASSES: usize = 10;

/// What a run learns from.
#[derive(Clone, Debug)]
pub struct Material {
    provenance: Provenance,
    extents: Extents,
    examples: [Examples; 3],
    text: Option<TokenSplits>,
}

/// Where to find material.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places<'a> {
    /// Folder of cached tokens, made if it is missing; `None` keeps tokens in memory.
    pub cache: Option<&'a Path>,
    /// How to reach the hub; `None` refuses names that come from the hub.
    pub hub: Option<&'a HubConfig>,
    /// Most bytes of tokens of a split; `None` as in [`DataRequest`].
    pub limit: Option<u64>,
}

impl Material {
    /// Loads the data that a spec names, for its objective.
    ///
    /// # Errors
    /// If the source or the tokenizer cannot be used, the source is for another task, or a split is
    /// too short.
    pub fn load(
        spec: &CheckedSpec,
        places: Places<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, DataError> {
        match (spec.model.objective, spec.model.architecture) {
            (Objective::Classes, Architecture::Vit) => Self::pictures(spec, places, progress),
            (Objective::Classes, _) => Self::sentences(spec, places, progress),
            (Objective::NextToken | Objective::MaskedToken, _) => {
                let request = DataRequest {
                    cache: places.cache,
                    hub: places.hub,
                    limit: places.limit,
                    ..DataRequest::new(&spec.data, spec.model.context)
                };

                let splits = load(&request, progress)?;
                match spec.model.objective {
                    Objective::MaskedToken => {
                        let tokenizer = tokenizer(spec, places)?;
                        Self::masked(splits, &tokenizer, spec.data.mask_share, spec.seed)
                    }
                    _ => Self::text(splits),
                }
            }
        }
    }

    /// Windows of a text, in which each token is predicted from those before it.
    ///
    /// # Errors
    /// Only errors that [`load`](fn@crate::load) has already reported.
    pub fn text(splits: TokenSplits) -> Result<Self, DataError> {
        let windows = |split| Ok(Examples::new(ExampleKind::Windows(splits.windows(split)?), 0));
        let [train, validation, test] = Split::ALL.map(windows);
        Ok(Self {
            provenance: splits.provenance.clone(),
            extents: Extents::of_text(splits.vocabulary),
            examples: [train?, validation?, test?],
            text: Some(splits),
        })
    }

    /// Windows of a text, in which hidden tokens are predicted. A tokenizer without a mask token
    /// gets one more entry at the end of the vocabulary.
    fn masked(
        splits: TokenSplits,
        tokenizer: &Tokenizer,
        share: f64,
        seed: u64,
    ) -> Result<Self, DataError> {
        let known = ["[MASK]", "<mask>"].iter().find_map(|token| tokenizer.id_of(token));
        let words = splits.vocabulary;
        let token = known.unwrap_or(words as u32);
        let masking = Masking { token, words, share };
        let windows =
            |split| Ok(Examples::new(ExampleKind::Masked(splits.windows(split)?, masking), seed));

        let [train, validation, test] = Split::ALL.map(windows);

        Ok(Self {
            provenance: splits.provenance.clone(),
            extents: Extents::of_text(words.max(token as usize + 1)),
            examples: [train?, validation?, test?],
            text: Some(splits),
        })
    }

    /// Sentences and their class. If the published test split has no classes, the last twentieth of
    /// train takes its place, and only the rest is trained on.
    fn sentences(
        spec: &CheckedSpec,
        places: Places<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, DataError> {
        let source = &spec.data.source;
        let loaded = load_sentences(&spec.data, places.hub, places.cache, progress)?;
        let tokenizer = tokenizer(spec, places)?;
        let framing = Framing::of(&tokenizer, spec.data.framing, spec.data.marks)?;
        let is_own = loaded.plan.is_some();

        let labelled = |examples: Vec<Example>| -> Vec<Example> {
            let all = examples.len();
            let labelled: Vec<Example> =
                examples.into_iter().filter(|example| example.label.is_some()).collect();
            if is_own && labelled.len() < all {
                tracing::warn!(rows = all - labelled.len(), "rows without a class are left out");
            }
            labelled
        };

        let mut train = labelled(loaded.train);
        let validation = labelled(loaded.validation);
        let mut test = labelled(loaded.test);

        // GLUE publishes its test split without classes. A user's own splits are used as they are.
        if test.is_empty() && loaded.plan.is_none() {
            test =
                train.split_off(train.len() - (train.len() * TEST_PERCENT / 100).min(train.len()));
        }

        let mut splits = Vec::new();
        let mut ids = |split: Split, examples: Vec<Example>| -> Result<Examples, DataError> {
            let rows = SentenceIds::new(&examples, &tokenizer, &framing, spec.model.context)?;
            splits.push(sentence_provenance(split, &examples, rows.tokens()));
            Ok(Examples::new(ExampleKind::Sentences(Arc::new(rows)), spec.seed))
        };

        let has_test = !test.is_empty() || loaded.plan.is_none();
        let examples = [
            ids(Split::Train, train)?,
            ids(Split::Validation, validation)?,
            ids(Split::Test, test)?,
        ];
        splits.retain(|split| split.split != Split::Test || has_test);

        let extents = Extents { vocabulary: tokenizer.vocabulary(), classes: loaded.classes };
        let provenance = Provenance {
            plan: loaded.plan,
            bad_rows: loaded.bad_rows,
            class_names: loaded.class_names,
            ..provenance(source, loaded.hub, tokenizer.id(), splits)
        };

        Self::checked(Self { provenance, extents, examples, text: None })
    }

    /// Pictures and their class.
    fn pictures(
        spec: &CheckedSpec,
        places: Places<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, DataError> {
        let source = &spec.data.source;
        let loaded = load_pictures(source, spec.data.split, places.hub, places.cache, progress)?;
        let (mean, std) = match spec.data.normalise {
            Normalise::Own => (CIFAR10_MEAN, CIFAR10_STD),
            Normalise::Half => ([0.5; 3], [0.5; 3]),
        };

        let settings = PictureSettings {
            side: spec.model.picture,
            mean,
            std,
            crop: if spec.data.augment == Augment::CropFlip {
                CIFAR10_SIDE / BORDER_PART
            } else {
                0
            },
            flip: spec.data.augment != Augment::None,
        };

        let mut splits = Vec::new();
        let mut kept = |split: Split, pictures: Pictures| {
            splits.push(picture_provenance(split, &pictures));
            Examples::new(ExampleKind::Pictures(Arc::new(pictures), settings.clone()), spec.seed)
        };

        let examples = [
            kept(Split::Train, loaded.train),
            kept(Split::Validation, loaded.validation),
            kept(Split::Test, loaded.test),
        ];
        let extents = Extents { vocabulary: 0, classes: PICTURE_CLASSES };

        let provenance = provenance(source, loaded.hub, "none", splits);
        Self::checked(Self { provenance, extents, examples, text: None })
    }

    fn checked(self) -> Result<Self, DataError> {
        match Split::ALL
            .into_iter()
            .find(|&split| self.has(split) && self.examples(split).count() == 0)
        {
            Some(split) => {
                Err(DataError::NoExamples { name: self.provenance.source.clone(), split })
            }
            None => Ok(self),
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The sizes of a model that depend on the data.
    #[must_use]
    pub fn extents(&self) -> Extents {
        self.extents
    }

    /// Tokens of the widest batch of any split; `None` if all batches are as wide as the model's
    /// context.
    #[must_use]
    pub fn widest(&self) -> Option<usize> {
        self.examples.iter().filter_map(Examples::widest).max()
    }

    /// Whether the data have this split. Only test may be missing.
    #[must_use]
    pub fn has(&self, split: Split) -> bool {
        self.provenance.split(split).is_some()
    }

    /// The examples of a split; empty if the data do not have it.
    #[must_use]
    pub fn examples(&self, split: Split) -> &Examples {
        let [train, validation, test] = &self.examples;
        split.of([train, validation, test])
    }

    /// The tokens, if the material is a text.
    #[must_use]
    pub fn tokens(&self) -> Option<&TokenSplits> {
        self.text.as_ref()
    }
}

fn tokenizer(spec: &CheckedSpec, places: Places<'_>) -> Result<Tokenizer, DataError> {
    match places.hub {
        Some(hub) => Tokenizer::open_from(&spec.data.tokenizer, hub, &|_| ()),
        None => Tokenizer::open(&spec.data.tokenizer),
    }
}

fn provenance(
    source: &str,
    hub: Option<HubProvenance>,
    tokenizer: &str,
    splits: Vec<SplitProvenance>,
) -> Provenance {
    let mut hash = Sha256::new();
    splits.iter().for_each(|split| hash.update(split.sha256.as_bytes()));

    Provenance {
        source: source.to_owned(),
        sha256: hex(&hash.finalize().into()),
        hub,
        tokenizer: tokenizer.to_owned(),
        splits,
        ..Provenance::default()
    }
}

/// Size and checksum of sentences: their texts and classes. The length before each text keeps texts
/// apart.
fn sentence_provenance(split: Split, examples: &[Example], tokens: usize) -> SplitProvenance {
    let mut hash = Sha256::new();
    let mut bytes = 0;

    for Example { first, second, label } in examples {
        for text in [Some(first), second.as_ref()].into_iter().flatten() {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
            bytes += text.len();
        }
        hash.update(label.unwrap_or(u32::MAX).to_le_bytes());
    }

    SplitProvenance { split, tokens, bytes, sha256: hex(&hash.finalize().into()) }
}

fn picture_provenance(split: Split, pictures: &Pictures) -> SplitProvenance {
    let mut hash = Sha256::new();
    hash.update(&pictures.labels);
    hash.update(&pictures.pixels);
    let sha256 = hex(&hash.finalize().into());
    SplitProvenance { split, tokens: 0, bytes: pictures.pixels.len(), sha256 }
}
