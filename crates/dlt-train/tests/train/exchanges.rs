//! Runs of several processes: they have the bits of one, whatever their number, also when that
//! changes at a resume. Here the processes are threads; tests of the program use MPI.

use std::thread;

use candle_core::Device;
use dlt_models::parameters::Layout;
use dlt_spec::ExitCode;
use dlt_spec::record::Summary;
use dlt_train::{Exchange, Plan, Resumption, RunFolder, Share, Threads, TrainError, Trainer};

use crate::bench::{Bench, provenance};
use crate::materials::{KINDS, LLAMA};

/// Runs `work` in each of `size` processes, and returns what they return, by rank.
fn among<R: Send>(size: usize, work: impl Fn(Exchange) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = Threads::among(size)
            .into_iter()
            .map(|end| scope.spawn(move || work(Exchange::over(Box::new(end)))))
            .collect();
        started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// The trainer of one process of a new run.
fn begun(bench: &Bench, run: &str, settings: &[&str], mut exchange: Exchange) -> Trainer {
    let spec = bench.spec(settings);
    let material = bench.material(&spec);
    let plan = Plan::among(exchange.share(), spec, material, None, Device::Cpu).expect("a plan");

    let path = bench.path(run);
    let created = exchange.writes().then(|| RunFolder::create(&path, plan.spec(), &provenance()));
    exchange.meet("the run folder").expect("nobody is gone");
    let folder = created.unwrap_or_else(|| RunFolder::followed(&path)).expect("a folder");
    Trainer::among(plan.with_weights(None).expect("it fits"), folder, exchange)
}

/// The trainer of one process of a run that is resumed.
fn resumed(bench: &Bench, run: &str, settings: &[&str], mut exchange: Exchange) -> Trainer {
    let spec = bench.spec(settings);
    let resumption = Resumption::open_among(&bench.path(run), exchange.writes()).expect("a run");
    let plan = resumption.plan_among(exchange.share(), bench.material(&spec), None, Device::Cpu);
    Trainer::resume_among(plan.expect("a plan"), None, &mut exchange).expect("it is resumed").0
}

/// Trains up to a step, or to the end.
fn advance(trainer: &mut Trainer, until: usize) {
    while trainer.step() < until && trainer.advance().expect("it does not diverge").is_some() {}
}

fn finish(mut trainer: Trainer) -> Summary {
    advance(&mut trainer, usize::MAX);
    trainer.finish().expect("it finishes")
}

/// Fails unless two runs have the same bits. Only what one process holds and sends may differ.
fn assert_same(bench: &Bench, run: &str, other: &str, what: &str) {
    let own = ["weights_gradients_moments_mb_peak", "processes", "sent_bytes_per_step"];
    let [run, other] = [run, other].map(|run| bench.outcome(run).without(&own));
    run.assert_same(&other, what);
}

/// Dropout, decisions with their rewards, evaluations and a checkpoint, all with four shards.
const SETTINGS: [&str; 4] =
    ["training.shards=4", "model.dropout=0.1", "training.steps=12", "checkpoint.every_steps=5"];

#[test]
fn law_every_number_of_processes_has_the_bits_of_one_for_every_family() {
    for kind in KINDS {
        let bench = Bench::new();
        let settings = [kind.settings, &SETTINGS].concat();
        let one = bench.run("1", &settings);

        for size in [2, 4] {
            let run = size.to_string();
            let summaries =
                among(size, |exchange| finish(begun(&bench, &run, &settings, exchange)));
            let what = format!("{} with {size} processes", kind.name);
            assert_same(&bench, &run, "1", &what);
            for summary in summaries {
                assert_eq!(summary.validation_loss, one.validation_loss, "{what}");
                assert_eq!(summary.block_parameters_mean, one.block_parameters_mean, "{what}");
            }
        }
    }
}

/// What decides which gradients exist, which are exchanged, and what a reward measures.
#[test]
fn law_every_number_of_processes_has_the_bits_of_one_for_every_method() {
    let methods: [&[&str]; 11] = [
        &["method paper"],
        &["method reference", "data.pipeline=stream", "data.order=sweep"],
        &["method growth", "tying.grow=[0.2,0.5]"],
        &[
            "agent.policy=conflict",
            "tying.decision=swap",
            "tying.initial=sequence",
            "tying.merge=average",
            "tying.gate=0.05",
        ],
        &["tying.gradient=owner", "tying.moments=resume", "training.checkpointing=block"],
        &["tying.initial=frozen", "training.micro_batch=1", "training.activations=bf16"],
        &["agent.reward=gain", "agent.reward_batches=3", "evaluation.batch=3"],
        &["tying.unit=attention", "tying.exempt=[0]", "agent.policy=random"],
        &["tying.own=['norms', 'scales', 'biases']", "tying.gradient=owner"],
        &["tying.unit=feed-forward", "tying.own=scales", "training.activations=bf16"],
        &["agent.policy=mcts", "tying.initial=independent", "agent.price=0.5"],
    ];

    for method in methods {
        let bench = Bench::new();
        let settings = [method, &SETTINGS].concat();
        bench.run("1", &settings);
        among(2, |exchange| finish(begun(&bench, "2", &settings, exchange)));
        assert_same(&bench, "2", "1", &format!("{method:?}"));
    }
}

/// Matrices of several pieces, and a token table of which few rows are touched.
#[test]
fn law_parameters_that_are_cut_have_the_bits_of_whole_ones() {
    let wide = [
        "model.width=304",
        "model.heads=2",
        "model.layers=2",
        "training.shards=4",
        "training.steps=3",
        "tying.decide_every=2",
        "evaluation.every_steps=3",
    ];
    for more in [&[][..], LLAMA.settings] {
        let bench = Bench::new();
        let settings = [&wide[..], more].concat();
        bench.run("1", &settings);

        for size in [2, 4] {
            let run = size.to_string();
            let bytes = among(size, |exchange| {
                let mut trainer = begun(&bench, &run, &settings, exchange);
                advance(&mut trainer, 3);
                let model = trainer.model();
                let trained = model.n_trainable_parameters();
                let numbers = (trained, trainer.optimizer().bytes());
                trainer.finish().expect("it finishes");
                numbers
            });
            assert_same(&bench, &run, "1", &format!("{size} {more:?}"));

            // Each process holds its share of the moments, as near as pieces allow.
            for (trained, moments) in bytes {
                let expected = 8 * trained / size;
                let piece = 8 * dlt_kernels::optimizer::PIECE;
                assert!(moments.abs_diff(expected) <= 3 * piece, "{moments} of {expected}");
            }
        }
    }
}

#[test]
fn law_a_run_resumes_with_another_number_of_processes_to_the_same_bits() {
    let bench = Bench::new();
    // Moments of tied layers rest on disk as soon as there are any.
    let settings = [&SETTINGS[..], &["tying.moments=resume", "agent.policy=random"]].concat();
    bench.run("undisturbed", &settings);

    let stop = |run: &str, sizes: &[usize]| {
        for (leg, &size) in sizes.iter().enumerate() {
            let last = leg + 1 == sizes.len();
            among(size, |exchange| {
                let mut trainer = match leg {
                    0 => begun(&bench, run, &settings, exchange),
                    _ => resumed(&bench, run, &settings, exchange),
                };
                // Beyond the checkpoint of step 5, whose rest is cut off.
                advance(&mut trainer, if last { usize::MAX } else { 3 + 3 * leg });
                if last {
                    trainer.finish().expect("it finishes");
                } else {
                    trainer.save_checkpoint().expect("it is saved");
                }
            });
        }
        assert_same(&bench, run, "undisturbed", &format!("{sizes:?}"));
    };

    stop("up", &[1, 2, 4]);
    stop("down", &[4, 1, 2]);
}

#[test]
fn law_only_owners_and_shared_parameters_are_exchanged() {
    let bench = Bench::new();
    let sent = |initial: &str, size: usize| -> (u64, usize) {
        let initial = format!("tying.initial={initial}");
        // No decision, no evaluation, no checkpoint: steps alone.
        let settings = [
            "training.shards=4",
            "agent.policy=none",
            "training.steps=2",
            "model.width=64",
            &initial,
        ];
        let run = format!("{initial}-{size}");
        let all = among(size, |exchange| {
            let mut trainer = begun(&bench, &run, &settings, exchange);
            let before = trainer.exchange().traffic().sent_bytes;
            trainer.advance().expect("it does not diverge");
            let sent = trainer.exchange().traffic().sent_bytes - before;
            (sent, 4 * trainer.model().n_trainable_parameters())
        });
        (all.iter().map(|(sent, _)| sent).sum(), all[0].1)
    };

    for size in [2, 4] {
        let [(one, one_bytes), (four, four_bytes)] =
            [sent("tied", size), sent("independent", size)];
        assert!(four_bytes > 2 * one_bytes);
        for (sent, bytes) in [(one, one_bytes), (four, four_bytes)] {
            // 2 (R - 1) / R of the bytes for each of R processes, and a little for losses and norms.
            let expected = 2 * (size as u64 - 1) * bytes as u64;
            assert!(sent >= expected && sent < expected + expected / 20, "{sent} of {expected}");
        }
    }
}

#[test]
fn rejects_a_number_of_processes_that_does_not_divide_the_shards() {
    let bench = Bench::new();
    for (shards, size) in [(1, 2), (2, 4), (4, 3)] {
        let spec = bench.spec(&[&format!("training.shards={shards}")]);
        let refused = among(size, |exchange| {
            let plan = Plan::among(
                exchange.share(),
                spec.clone(),
                bench.material(&spec),
                None,
                Device::Cpu,
            );
            plan.err().expect("it is refused")
        });

        for error in refused {
            assert_eq!(error.exit_code(), ExitCode::Usage);
            let text = error.to_string();
            let expected = format!("training.shards = {shards}, got {size}");
            assert!(text.contains(&expected), "{text}");
        }
    }
}

/// A process that ends early is an error in every other one, and never a wait without end.
#[test]
fn a_process_that_is_gone_ends_the_others() {
    let bench = Bench::new();
    let ended = among(2, |exchange| {
        let is_second = !exchange.writes();
        let mut trainer = begun(&bench, "gone", &SETTINGS[..4], exchange);
        advance(&mut trainer, 4);
        if is_second { Ok(()) } else { trainer.advance().map(drop) }
    });

    assert!(ended[1].is_ok());
    match &ended[0] {
        Err(TrainError::Exchange(error)) => {
            let text = error.to_string();
            assert!(text.contains("process 1") && text.contains("after step 4"), "{text}");
        }
        other => panic!("expected a failed exchange, got {other:?}"),
    }
}

#[test]
fn shares_follow_the_layout_and_every_process_knows_all_of_them() {
    let layout = Layout::new(Vec::new());
    assert!(Share { rank: 1, size: 2 }.ranges(&layout).is_empty());
    assert!(Share::WHOLE.is_whole());
    assert_eq!(Share { rank: 0, size: 4 }.of(3), Share { rank: 3, size: 4 });
}
