//! Generation with cached keys and values, compared with the same model without a cache.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use dlt_kernels::{Gelu, Kernels};
use dlt_models::Model;
use dlt_models::architecture::{Architecture, Form, HeadSettings, of_spec};
use dlt_models::binding::Binding;
use dlt_models::families::bert::Bert;
use dlt_models::families::gpt2::Gpt2;
use dlt_models::families::llama::Llama;
use dlt_models::families::qwen3::Qwen3;
use dlt_models::families::rotary::Turning;
use dlt_models::generation::{Continuation, Decoder, End, Event, Sampling, generate};
use dlt_models::huggingface::{Weights, read_config};
use dlt_spec::size::Extents;
use dlt_spec::spec::{Attention, AttentionBias, FeedForwardBias, Objective, Pooling};
use dlt_spec::{Spec, seeds};
use dlt_state::State;

use crate::fixtures::{PAPER, json, numbers, path, small};

const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Composed];
const VOCABULARY: usize = 31;
const POSITIONS: usize = 16;
/// Logits are below 4. Products of other shapes sum in another order.
const TOLERANCE: f32 = 1e-5;

fn form() -> Form {
    Form { initial_std: 0.3, ..small().form }
}

/// One model of each family, with all that generation depends on: learned and rotary positions,
/// types of tokens, norms after the branches, fewer heads of keys than of queries, norms of heads.
fn families() -> [(&'static str, Arc<dyn Architecture>); 5] {
    let vocabulary = VOCABULARY;
    let positions = POSITIONS;
    let gelu = Gelu::Tanh;
    let llama = Llama {
        form: Form { heads: 6, ..form() },
        key_heads: 2,
        head_width: 4,
        attention_bias: AttentionBias::Inputs,
        feed_forward_bias: FeedForwardBias::None,
        positions,
        vocabulary,
        turning: Turning::plain(100.0),
    };

    let scaled = Form { residual_factors: vec![0.5, 0.25, 1.0, 0.25], ..form() };

    [
        ("gpt2", Arc::new(Gpt2 { form: form(), positions, vocabulary, gelu })),
        ("gpt2 with scaled branches", Arc::new(Gpt2 { form: scaled, positions, vocabulary, gelu })),
        (
            "bert",
            Arc::new(Bert {
                form: form(),
                positions,
                vocabulary,
                gelu,
                attention: Attention::Causal,
            }),
        ),
        ("llama", Arc::new(llama.clone())),
        ("qwen3", Arc::new(Qwen3 { decoder: llama })),
    ]
}

fn bindings() -> Vec<Binding> {
    let of_owners =
        |owners: [usize; 4]| Binding::of_state(&State::new(owners.to_vec()).expect("a state"));
    vec![of_owners([0, 1, 2, 3]), of_owners([0, 0, 2, 0]), Binding::frozen(4)]
}

/// Every family with every binding and every implementation of the operations.
fn models() -> Vec<(String, Model)> {
    let mut models = Vec::new();
    for kernels in KERNELS {
        for binding in bindings() {
            for (name, family) in families() {
                let what = format!("{name} {kernels:?} {binding:?}");
                let model = Model::new(family, binding.clone(), PAPER, kernels, 7, &Device::Cpu);
                models.push((what, model.expect("a small model fits")));
            }
        }
    }

    models
}

fn gpt2() -> Model {
    let [(_, family), ..] = families();
    Model::new(family, Binding::frozen(4), PAPER, Kernels::Fused, 7, &Device::Cpu)
        .expect("a small model fits")
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5, 3, 5, 8, 9, 7, 9]]
}

fn wanted(prompts: &[Vec<u32>], sampling: Sampling) -> Continuation<'_> {
    Continuation {
        prompts,
        tokens: 6,
        context: POSITIONS,
        stop: &[],
        sampling,
        seed: 11,
        at_once: 8,
    }
}

fn samplings() -> [Sampling; 2] {
    let drawn = Sampling::new(0.9, Some(20), 0.95).expect("valid");
    [Sampling::GREEDY, drawn.penalising_repetition(1.3).expect("valid")]
}

/// The continuations and why each ends.
fn continued(model: &Model, wanted: &Continuation<'_>) -> Vec<(Vec<u32>, End)> {
    let mut texts = vec![(Vec::new(), None, false); wanted.prompts.len()];
    let generated = generate(model, wanted, |number, event| {
        let (tokens, end, read) = &mut texts[number];
        assert_eq!(*end, None, "nothing happens after the end");

        match event {
            Event::Read => *read = true,
            Event::Token(token) => {
                assert!(*read, "the prompt is read before its first token");
                tokens.push(token);
            }
            Event::End(why) => *end = Some(why),
        }

        ControlFlow::Continue(())
    });

    generated.expect("generates");
    texts.into_iter().map(|(tokens, end, _)| (tokens, end.expect("every text ends"))).collect()
}

/// The same tokens, each from a pass over all that the model sees.
fn uncached(model: &Model, wanted: &Continuation<'_>) -> Vec<Vec<u32>> {
    let one = |(number, prompt): (usize, &Vec<u32>)| {
        let mut rng = seeds::stream(wanted.seed, &format!("generation/{number}"));
        let mut text = prompt.clone();
        let mut first = prompt.len().saturating_sub(wanted.context);

        for _ in 0..wanted.tokens {
            if text.len() - first > wanted.context {
                first = text.len() - wanted.context.div_ceil(2);
            }

            let mut logits = model.next_logits(&text[first..]).expect("logits");
            let mut present = text.clone();
            present.sort_unstable();
            present.dedup();
            wanted.sampling.penalise(&mut logits, present);
            text.push(wanted.sampling.choose(&logits, &mut rng));
        }

        text.split_off(prompt.len())
    };

    wanted.prompts.iter().enumerate().map(one).collect()
}

fn assert_near(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len());
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    assert!(
        apart.clone().all(|apart| apart < TOLERANCE),
        "{what}: {apart:?}",
        apart = apart.fold(0.0, f32::max)
    );
}

/// One at a time, several at a time, and in pieces of several tokens: the logits are those of a
/// pass over everything.
#[test]
fn matches_reference_logits_without_a_cache() {
    for (what, model) in models() {
        let mut texts = prompts();
        let mut decoder = Decoder::new(&model, texts.len(), POSITIONS).expect("memory");
        let whole = |text: &[u32]| model.next_logits(text).expect("logits");

        for (sequence, text) in texts.iter().enumerate() {
            let logits = decoder.feed(&[sequence], text).expect("feeds");
            assert_near(&logits[0], &whole(text), &format!("{what}: prompt {sequence}"));
        }

        for (sequences, new) in [
            (&[0, 1, 2][..], &[7, 8, 9][..]),
            (&[2, 0], &[1, 2]),
            (&[1, 0], &[30, 29, 28, 27]),
            (&[0, 1, 2], &[4, 4, 4]),
        ] {
            let logits = decoder.feed(sequences, new).expect("feeds");
            let each = new.len() / sequences.len();
            for ((&sequence, new), logits) in sequences.iter().zip(new.chunks(each)).zip(&logits) {
                texts[sequence].extend(new);
                assert_near(
                    logits,
                    &whole(&texts[sequence]),
                    &format!("{what}: sequence {sequence}"),
                );
                assert_eq!(decoder.held(sequence), texts[sequence].len());
            }
        }

        decoder.truncate(0, 3).expect("it holds more");
        let logits = decoder.feed(&[0], &[13, 14]).expect("feeds");
        assert_near(
            &logits[0],
            &whole(&[&texts[0][..3], &[13, 14]].concat()),
            &format!("{what}: after forgetting"),
        );
    }
}

#[test]
fn law_a_cache_changes_no_text() {
    for (what, model) in models() {
        for sampling in samplings() {
            let prompts = prompts();
            let wanted = wanted(&prompts, sampling);
            let cached = continued(&model, &wanted);

            assert!(
                cached.iter().all(|(tokens, end)| tokens.len() == 6 && *end == End::Length),
                "{what}"
            );
            let cached: Vec<_> = cached.into_iter().map(|(tokens, _)| tokens).collect();
            assert_eq!(cached, uncached(&model, &wanted), "{what} {sampling:?}");
        }
    }
}

fn of_transformers(name: &str, kernels: Kernels) -> Model {
    let folder = path("huggingface").join(name);
    let model = read_config(&folder.join("config.json")).expect("a config").model;
    let spec = Spec { model, ..Spec::default() }.check().expect("a model that can be");
    let architecture = of_spec(&spec, Extents::default());
    let weights = Weights::open(&folder, architecture.as_ref(), &Device::Cpu).expect("weights");
    let binding = Binding::of_state(&State::independent(architecture.n_layers()));

    let lookup = |name: &str| weights.lookup(name);
    Model::from_weights(architecture, binding, PAPER, kernels, &lookup, None, &Device::Cpu)
        .expect("every weight")
}

/// What transformers generates with the most likely token each time, with and without a penalty.
#[test]
fn matches_reference_continuations() {
    let oracle = json("huggingface/generation.json");

    for name in ["gpt2-causal", "llama-causal"] {
        let runs = oracle[name]["runs"].as_array().expect("runs");
        let ids = |value| numbers(value).into_iter().map(|id| id as u32).collect::<Vec<_>>();
        let new_tokens = oracle[name]["max_new_tokens"].as_u64().expect("a number") as usize;

        assert_eq!(runs.len(), 4);
        for kernels in KERNELS {
            let model = of_transformers(name, kernels);
            for penalty in [1.0, 1.3] {
                let runs: Vec<_> =
                    runs.iter().filter(|run| run["repetition_penalty"] == penalty).collect();
                let prompts: Vec<_> = runs.iter().map(|run| ids(&run["prompt"])).collect();
                let sampling = Sampling::GREEDY.penalising_repetition(penalty).expect("valid");
                let context = model.architecture().max_tokens();
                let wanted =
                    Continuation { tokens: new_tokens, context, ..wanted(&prompts, sampling) };

                let expected: Vec<_> =
                    runs.iter().map(|run| (ids(&run["tokens"]), End::Length)).collect();
                assert_eq!(expected.len(), 2);
                assert_eq!(continued(&model, &wanted), expected, "{name} {kernels:?} {penalty}");
            }
        }
    }
}

/// When a text is longer than the context, the model sees from half to all of a context. The
/// windows are those that the documentation promises.
#[test]
fn law_a_text_outgrows_the_context_by_halves() {
    let prompts = [prompts(), vec![(0..20).collect()]].concat();

    for (what, model) in models().into_iter().take(3) {
        for (context, sampling) in [1, 2, 5, 8, 99].into_iter().zip(samplings().into_iter().cycle())
        {
            let wanted = Continuation { tokens: 23, context, ..wanted(&prompts, sampling) };
            let cached = continued(&model, &wanted)
                .into_iter()
                .map(|(tokens, _)| tokens)
                .collect::<Vec<_>>();
            let seen = Continuation { context: context.min(POSITIONS), ..wanted };

            assert_eq!(cached, uncached(&model, &seen), "{what}: {context}");
        }
    }
}

#[test]
fn law_a_text_does_not_depend_on_the_others() {
    let model = gpt2();

    for sampling in samplings() {
        let together = prompts();
        let wanted = wanted(&together, sampling);
        let texts = continued(&model, &wanted);

        for at_once in 0..4 {
            assert_eq!(
                continued(&model, &Continuation { at_once, ..wanted }),
                texts,
                "{at_once} at once"
            );
        }

        for number in 0..together.len() {
            let mut others = vec![vec![17, 18], vec![19], vec![20, 21, 22]];
            others[number].clone_from(&together[number]);
            assert_eq!(
                continued(&model, &Continuation { prompts: &others, ..wanted })[number],
                texts[number]
            );
        }
    }
}

#[test]
fn law_a_seed_settles_every_text() {
    let model = gpt2();
    let [_, drawn] = samplings();
    let same = vec![vec![1, 2]; 2];
    let run = |seed| continued(&model, &Continuation { seed, tokens: 12, ..wanted(&same, drawn) });

    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert_ne!(run(1)[0], run(1)[1], "equal prompts have separate streams");
}

#[test]
fn a_text_ends_at_any_stop_token_and_does_not_hold_it() {
    let model = gpt2();
    let prompts = prompts();
    let free = wanted(&prompts, samplings()[1]);
    let texts = continued(&model, &free);
    let stop = [texts[0].0[2], texts[2].0[4]];

    for ((tokens, end), (whole, _)) in
        continued(&model, &Continuation { stop: &stop, ..free }).iter().zip(&texts)
    {
        let at = whole.iter().position(|token| stop.contains(token));
        assert_eq!(*tokens, whole[..at.unwrap_or(whole.len())]);
        assert_eq!(*end, at.map_or(End::Length, |at| End::Stop(whole[at])));
    }
}

#[test]
fn a_text_that_is_broken_off_leaves_the_others() {
    let model = gpt2();
    let prompts = prompts();
    let wanted = wanted(&prompts, samplings()[1]);
    let whole = continued(&model, &wanted);
    let mut events = vec![Vec::new(); 3];

    let generated = generate(&model, &wanted, |number, event| {
        events[number].push(event);
        let breaks = number == 0 && event == Event::Read || number == 1 && events[1].len() == 3;
        if breaks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });

    generated.expect("generates");
    let tokens = |number: usize, count: usize| {
        let (tokens, _) = &whole[number];
        [vec![Event::Read], tokens[..count].iter().map(|&token| Event::Token(token)).collect()]
            .concat()
    };

    let ended = |events: Vec<Event>, why| [events, vec![Event::End(why)]].concat();
    assert_eq!(events[0], ended(tokens(0, 0), End::Broken));
    assert_eq!(events[1], ended(tokens(1, 2), End::Broken));
    assert_eq!(events[2], ended(tokens(2, 6), End::Length));
}

#[test]
fn nothing_wanted_is_nothing_read() {
    let model = gpt2();
    let prompts = prompts();
    let wanted = Continuation { tokens: 0, ..wanted(&prompts, Sampling::GREEDY) };
    assert!(continued(&model, &wanted).iter().all(|text| *text == (vec![], End::Length)));
    assert!(continued(&model, &Continuation { prompts: &[], ..wanted }).is_empty());
}

#[test]
fn rejects_models_that_predict_something_else() {
    let settings = |objective| HeadSettings { objective, ..HeadSettings::NEXT_TOKEN };
    let heads = [
        (settings(Objective::MaskedToken), "masked tokens"),
        (HeadSettings::of_classes(3, Pooling::LastReal), "classes"),
    ];

    for (head, got) in heads {
        let family = Gpt2 { form: Form { head, ..form() }, ..small() };
        let model = Model::new(
            Arc::new(family),
            Binding::frozen(4),
            PAPER,
            Kernels::Fused,
            7,
            &Device::Cpu,
        );

        let model = model.expect("a small model fits");
        let expected =
            format!("expected a model that predicts the next token, got one that predicts {got}");
        assert_eq!(Decoder::new(&model, 1, 4).expect_err("it cannot").to_string(), expected);

        let refused = generate(&model, &wanted(&prompts(), Sampling::GREEDY), |_, _| {
            ControlFlow::Continue(())
        });
        assert_eq!(refused.expect_err("it cannot").to_string(), expected);
    }
}

#[test]
fn rejects_prompts_that_do_not_fit() {
    let model = gpt2();
    let refusal = |prompts: &[Vec<u32>]| {
        let generated =
            generate(&model, &wanted(prompts, Sampling::GREEDY), |_, _| ControlFlow::Continue(()));
        generated.expect_err("does not fit").to_string()
    };

    let none = "batch: expected at least one token in each prompt, got none in prompt 1";
    assert_eq!(refusal(&[vec![1], vec![]]), none);
    assert_eq!(refusal(&[vec![1], vec![2, 31]]), "batch: expected token ids below 31, got 31");
}

#[test]
fn rejects_what_a_decoder_has_no_room_for() {
    let model = gpt2();
    for (sequences, capacity) in [(0, 4), (1, 0), (1, POSITIONS + 1)] {
        let refused = Decoder::new(&model, sequences, capacity).expect_err("no room").to_string();
        let got = format!("{sequences} sequences of {capacity} tokens");
        assert_eq!(refused, format!("batch: expected sequences of 1 to 16 tokens, got {got}"));
    }
}

#[test]
fn rejects_feeding_what_cannot_be_and_holds_what_it_held() {
    let model = gpt2();
    let mut decoder = Decoder::new(&model, 2, 5).expect("memory");
    decoder.feed(&[0], &[1, 2, 3]).expect("feeds");

    for (sequences, tokens, word) in [
        (
            &[0, 1][..],
            &[1, 2, 3, 4, 5, 6][..],
            "expected at most 2 more tokens in sequence 0, got 3",
        ),
        (&[0], &[31], "token ids below 31, got 31"),
        (&[0, 1], &[1], "expected tokens in windows of one length, got 1 tokens in 2 windows"),
        (&[0], &[], "expected tokens in windows of one length"),
        (&[], &[], "expected tokens in windows of one length"),
        (&[0, 2], &[1, 2], "expected a sequence below 2, got 2"),
        (&[1, 1], &[1, 2], "expected distinct sequences, got 1 twice"),
    ] {
        let refused = decoder.feed(sequences, tokens).expect_err("it cannot").to_string();
        assert!(refused.contains(word), "{word} in {refused}");
        assert_eq!((decoder.held(0), decoder.held(1)), (3, 0));
    }

    assert!(decoder.truncate(0, 4).is_err() && decoder.truncate(2, 0).is_err());
    let logits = decoder.feed(&[0, 1], &[4, 5]).expect("feeds");
    assert_near(&logits[0], &model.next_logits(&[1, 2, 3, 4]).expect("logits"), "after refusals");
    assert_near(&logits[1], &model.next_logits(&[5]).expect("logits"), "after refusals");
}
