//! The sizes of models of a spec, read off the layouts of their families, against shapes written
//! out here and against published numbers.

use dlt_models::architecture::of_spec;
use dlt_spec::presets::preset;
use dlt_spec::size::Extents;
use dlt_spec::spec::{Architecture, Attention, ModelSpec, Objective, Pooling, Size};
use dlt_spec::{CheckedSpec, Overlay, Spec};

const TEXT: Extents = Extents { vocabulary: 50_257, classes: 0 };
const PICTURES: Extents = Extents { vocabulary: 0, classes: 10 };

/// Shapes of weights, of a matrix or of a vector.
type Shapes<'a> = &'a [&'a [usize]];

fn numbers(shapes: Shapes<'_>) -> usize {
    shapes.iter().map(|shape| shape.iter().product::<usize>()).sum()
}

/// The weights of a block with biases and layer norms: queries, keys, values, output, two layers,
/// two norms.
fn block_with_biases(c: usize, f: usize) -> usize {
    let attention = numbers(&[&[c, 3 * c], &[3 * c], &[c, c], &[c]]);
    attention + numbers(&[&[c, f], &[f], &[f, c], &[c], &[c], &[c], &[c], &[c]])
}

/// The weights of a block of llama with heads of keys of `keys` numbers together.
fn block_of_llama(c: usize, keys: usize, f: usize) -> usize {
    numbers(&[&[c, c], &[c, keys], &[c, keys], &[c, c], &[c, f], &[c, f], &[f, c], &[c], &[c]])
}

/// Parameters of one model.
#[derive(Debug, PartialEq, Eq)]
struct ModelSize {
    /// Outside the blocks.
    shared: usize,
    /// Of one block.
    block: usize,
    /// Of the model with no layer tied.
    conventional: usize,
}

impl ModelSize {
    /// Parameters of the model with `blocks` distinct blocks.
    fn with_blocks(&self, blocks: usize) -> usize {
        self.shared + self.block * blocks
    }
}

/// The size of a spec's model with data of these extents.
fn sized(spec: &CheckedSpec, data: Extents) -> ModelSize {
    let architecture = of_spec(spec, data);
    let shared = architecture.shared_layout().n_parameters();
    let block = architecture.block_layout().n_parameters();
    let conventional = shared + architecture.n_layers() * block;

    ModelSize { shared, block, conventional }
}

fn checked(name: &str) -> CheckedSpec {
    preset(name).and_then(|preset| preset.spec()?.check()).expect("a preset")
}

/// The size of the default spec with these assignments.
fn size_of(assignments: &[&str], data: Extents) -> ModelSize {
    let overlays: Result<Vec<_>, _> =
        assignments.iter().map(|text| Overlay::from_assignment(text)).collect();
    let spec = Spec::assemble(&overlays.expect("known keys")).expect("a spec");
    sized(&spec.check().expect("a model that can be"), data)
}

#[test]
fn parameters_of_gpt2_follow_from_the_shapes() {
    for (c, f) in [(4, 16), (32, 128), (768, 3072), (1600, 6400), (8, 7)] {
        let [width, feed_forward] = [format!("model.width={c}"), format!("model.feed_forward={f}")];
        let gpt2 = [&width, &feed_forward, "model.heads=4", "model.positions=200"];
        let size = size_of(&gpt2, Extents::of_text(100));

        assert_eq!(size.block, block_with_biases(c, f));
        if f == 4 * c {
            assert_eq!(size.block, 12 * c * c + 13 * c);
        }

        assert_eq!(size.shared, numbers(&[&[100, c], &[200, c], &[c], &[c]]));
    }

    // GPT-2 small, as published: 124,439,808.
    assert_eq!(sized(&checked("gpt2-small"), TEXT).conventional, 124_439_808);
}

#[test]
fn parameters_of_the_papers_bert_follow_from_the_shapes() {
    let v = 50_257;
    let c = 768;
    let stem = numbers(&[&[v, c], &[256, c], &[2, c], &[c], &[c]]);
    let head = numbers(&[&[c, c], &[c], &[c], &[c], &[v]]);
    let size = sized(&checked("bert-paper"), TEXT);

    assert_eq!((size.shared, size.block), (stem + head, block_with_biases(c, 4 * c)));
    assert_eq!(size.conventional, 124_493_905);

    // Table 2, 1-Billion-Word: three layers at the end, 60 M; WikiText-2: 46 M, which is one block.
    assert_eq!(size.with_blocks(3) / 1_000_000, 60);
    assert_eq!(size.with_blocks(1) / 1_000_000, 46);
}

#[test]
fn parameters_of_a_bert_with_classes_follow_from_the_shapes() {
    let bert = [
        "model.architecture=bert",
        "model.objective=classes",
        "model.attention=full",
        "model.pooling=first",
    ];

    let c = 128;
    let stem = numbers(&[&[40, 128], &[128, 128], &[2, 128], &[128], &[128]]);

    for k in [1, 2, 3] {
        let data = Extents { vocabulary: 40, classes: k };
        let head = numbers(&[&[c, c], &[c], &[c, k], &[k]]);
        assert_eq!(size_of(&bert, data).shared, stem + head);

        // There is no output table and no bias of it, whatever `model.output` says.
        assert_eq!(size_of(&[&bert[..], &["model.output=own"]].concat(), data).shared, stem + head);
    }

    let data = Extents { vocabulary: 40, classes: 2 };
    let single = size_of(&[&bert[..], &["model.classes=1"]].concat(), data);
    assert_eq!(size_of(&bert, data).shared - single.shared, c + 1);
}

#[test]
fn parameters_of_masked_tokens_and_an_own_output_follow_from_the_shapes() {
    let bert = ["model.architecture=bert", "model.objective=masked-token", "model.attention=full"];
    let v = 40;
    let c = 128;
    let tied = size_of(&bert, Extents::of_text(v));

    assert_eq!(tied, size_of(&bert[..1], Extents::of_text(v)), "as of a decoder");
    let own = size_of(&[&bert[..], &["model.output=own"]].concat(), Extents::of_text(v));
    assert_eq!(own.shared - tied.shared, v * c);
    assert_eq!(own.block, tied.block);
}

#[test]
fn parameters_of_the_papers_vision_transformer_are_630_million() {
    let c = 1280;
    let f = 5120;
    let k = 10;
    let tokens = 14 * 14 + 1;
    let stem = numbers(&[&[16 * 16 * 3, c], &[c], &[c], &[tokens, c]]);
    let head = numbers(&[&[c], &[c], &[c, k], &[k]]);

    let spec = checked("vit-paper");
    let size = sized(&spec, PICTURES);
    assert_eq!((spec.tokens(), spec.positions()), (tokens, tokens));
    assert_eq!((size.shared, size.block), (stem + head, block_with_biases(c, f)));

    // Table 5: 630 M, and at the end 139 M in 7 layers.
    assert_eq!(size.conventional, 630_931_210);
    assert_eq!(size.with_blocks(7).div_ceil(1_000_000), 139);
}

#[test]
fn parameters_of_the_small_vision_transformer_follow_from_the_shapes() {
    let c = 128;
    let k = 10;
    let tokens = 8 * 8 + 1;
    let spec = checked("vit-cifar");
    let size = sized(&spec, PICTURES);
    let shared = numbers(&[&[4 * 4 * 3, c], &[c], &[c], &[tokens, c], &[c], &[c], &[c, k], &[k]]);

    assert_eq!((spec.tokens(), spec.positions(), size.shared), (tokens, tokens, shared));
    assert_eq!(size.conventional, shared + 6 * block_with_biases(c, 4 * c));
    assert_eq!(size.conventional, 1_205_898);
}

#[test]
fn parameters_of_llamas_follow_from_the_shapes() {
    let v = 50_257;
    let c = 128;
    let size = sized(&checked("llama-small"), TEXT);

    assert_eq!(
        (size.shared, size.block),
        (numbers(&[&[v, c], &[c]]), block_of_llama(c, 2 * 32, 344))
    );
    assert_eq!(size.conventional, 8_611_072);

    let llama = ["model.architecture=llama", "model.layers=3", "model.width=96", "model.heads=6"];
    let grouped =
        [&llama[..], &["model.key_heads=2", "model.feed_forward=200", "model.output=own"]].concat();
    let size = size_of(&grouped, Extents::of_text(v));

    assert_eq!(size.block, block_of_llama(96, 2 * 16, 200));
    assert_eq!(size.shared, numbers(&[&[v, 96], &[96], &[v, 96]]));
    assert_eq!(size.conventional, size.shared + 3 * size.block);

    // By default there are as many heads of keys as of queries, and the feed-forward width is 4 C.
    assert_eq!(size_of(&llama, TEXT).block, block_of_llama(96, 96, 384));

    // Heads with `head_width`, three of them for keys. Then biases of queries, keys and values; of
    // all projections of attention; also of the gated layer.
    let wide =
        [&llama[..], &["model.key_heads=3", "model.head_width=10", "model.feed_forward=200"]]
            .concat();

    let plain = numbers(&[
        &[96, 60],
        &[60, 96],
        &[96, 30],
        &[96, 30],
        &[96],
        &[96],
        &[200, 96],
        &[200, 96],
        &[96, 200],
    ]);
    assert_eq!(size_of(&wide, TEXT).block, plain);

    let inputs = [&wide[..], &["model.attention_bias=inputs"]].concat();
    assert_eq!(size_of(&inputs, TEXT).block, plain + 60 + 30 + 30);

    let all = [&wide[..], &["model.attention_bias=all", "model.feed_forward_bias=all"]].concat();
    assert_eq!(size_of(&all, TEXT).block, plain + 60 + 30 + 30 + 96 + 200 + 200 + 96);

    // Qwen3 has a norm of queries and one of keys besides, which all heads of a layer share.
    let normed = [&wide[..], &["model.architecture=qwen3", "model.attention_bias=all"]].concat();
    assert_eq!(size_of(&normed, TEXT).block, plain + 60 + 30 + 30 + 96 + 10 + 10);

    let classes = [&llama[..], &["model.objective=classes"]].concat();
    let data = Extents { vocabulary: v, classes: 3 };
    assert_eq!(size_of(&classes, data).shared, numbers(&[&[v, 96], &[96], &[3, 96]]));
}

#[test]
fn a_head_for_classes_of_gpt2_is_one_matrix() {
    let data = Extents { vocabulary: 100, classes: 2 };
    let classes = ["model.objective=classes"];
    let plain = size_of(&[], Extents::of_text(100)).shared;

    assert_eq!(size_of(&classes, data).shared, plain + 2 * 128);
    // Row 24: one score, without a bias.
    assert_eq!(size_of(&[classes[0], "model.classes=1"], data).shared, plain + 128);
}

#[test]
fn the_large_preset_has_the_papers_parameter_counts() {
    let spec = checked("gpt2-paper");
    let paper = sized(&spec, TEXT);

    // Table 1: 1.6B; with the authors' T + 1 positions, 1,556.4 M.
    assert_eq!(paper.conventional, 1_556_382_400);
    assert_eq!(paper.with_blocks(48), paper.conventional);

    // Figure of Table 1, WikiText-2, end of training: 264 M is six blocks.
    assert_eq!(paper.with_blocks(6) / 1_000_000, 265);
    let positions = Spec {
        model: ModelSpec { positions: Size::Fixed(257), ..spec.model.clone() },
        ..(*spec).clone()
    };

    assert_eq!(sized(&positions.check().expect("a model"), TEXT).conventional, 1_556_384_000);
}

/// The check of a spec bounds the size of a model without knowing its family. Here every family is
/// counted at the greatest power of two that passes as a width.
#[test]
fn law_a_checked_model_can_be_addressed_in_every_family() {
    // Weight, gradient and two moments, of four bytes each.
    const TRAINING_BYTES: u128 = 16;
    // Twice the width is four times the bytes, and the bound may be twice the size.
    const SLACK: u128 = 8;

    for family in Architecture::ALL {
        let data = Extents { vocabulary: 40, classes: 3 };
        let of_width = |width: usize| {
            let model = ModelSpec { architecture: *family, width, ..Spec::default().model };
            let model = ModelSpec { heads: width / 64, ..model };
            let pictures = ModelSpec {
                objective: Objective::Classes,
                attention: Attention::Full,
                pooling: Pooling::First,
                ..model.clone()
            };

            let model = if *family == Architecture::Vit { pictures } else { model };
            Spec { model, ..Spec::default() }.check().ok()
        };

        let widths = (6..31).map(|power| 1 << power);
        let widest = widths.map_while(of_width).last().expect("a width that passes");
        let bytes = TRAINING_BYTES * sized(&widest, data).conventional as u128;
        let most = isize::MAX as u128;

        assert!((most / SLACK..=most).contains(&bytes), "{family:?}: {bytes}");
    }
}
