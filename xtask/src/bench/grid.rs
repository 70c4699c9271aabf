//! What is measured: workloads, their sides, and the targets of their ratios. This module holds only
//! data and runs nothing.

/// A training step of one size, with all its sides.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) sides: Vec<Side>,
    pub(crate) comparisons: Vec<Comparison>,
}

/// The sizes of a GPT-2 and its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) tokens: usize,
    pub(crate) batch: usize,
    pub(crate) vocabulary: usize,
}

/// One way to compute the step.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// Processes that divide the batch.
    pub(crate) processes: usize,
    /// Options besides those of the shape.
    pub(crate) options: Vec<String>,
}

impl Side {
    /// Whether its activations are bf16.
    pub(crate) fn is_bf16(&self) -> bool {
        self.options.windows(2).any(|pair| pair == ["--dtype", "bf16"])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Dlt,
    PyTorch,
}

/// A ratio of two sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) side: &'static str,
    pub(crate) against: &'static str,
    pub(crate) measure: Measure,
    pub(crate) target: Target,
    pub(crate) models: Models,
}

/// The models whose programs a comparison accepts as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Models {
    /// Two programs train as many parameters.
    Same,
    /// Ours ties layers, and the peer's model is the same without tying.
    TiedToUntied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    TokensPerS,
    StepTime,
    PeakMemory,
    /// The peak of the process with the most.
    MemoryOfProcess,
}

/// The target of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(Bound),
    AtMost(Bound),
    /// No target: the ratio is shown for information.
    Shown,
}

/// What a ratio must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) must: f64,
    /// Better than that, and wanted.
    pub(crate) aim: Option<f64>,
}

impl Target {
    pub(crate) const fn at_least(must: f64) -> Self {
        Self::AtLeast(Bound { must, aim: None })
    }

    pub(crate) const fn at_most(must: f64) -> Self {
        Self::AtMost(Bound { must, aim: None })
    }

    /// With an aim beyond it.
    pub(crate) const fn aiming(self, aim: f64) -> Self {
        match self {
            Self::AtLeast(Bound { must, .. }) => Self::AtLeast(Bound { must, aim: Some(aim) }),
            Self::AtMost(Bound { must, .. }) => Self::AtMost(Bound { must, aim: Some(aim) }),
            Self::Shown => Self::Shown,
        }
    }
}

/// The names that `--only` takes, in the order of [`workloads`].
pub(crate) const NAMES: [&str; 4] = ["gpt2-12x384", "gpt2-6x768", "gpt2-24x256", "gpt2-24x1024"];

const VOCABULARY: usize = 50_257;

/// Every workload, in the order in which they run.
pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        main_size(),
        against_pytorch(NAMES[1], [6, 768, 12]),
        against_pytorch(NAMES[2], [24, 256, 4]),
        tied_against_conventional(),
    ]
}

/// The shape of the first workload.
const MAIN: Shape =
    Shape { layers: 12, width: 384, heads: 6, tokens: 256, batch: 8, vocabulary: VOCABULARY };

fn main_size() -> Workload {
    let one_group = vec![0; MAIN.layers];
    let mut sides = vec![
        dlt("dlt none", "f32", "none", &[], "none"),
        pytorch("pytorch eager none", "eager", "f32", "none", &[]),
        dlt("dlt owner", "f32", "owner", &one_group, "none"),
        pytorch("pytorch eager owner", "eager", "f32", "owner", &one_group),
        dlt("dlt sum", "f32", "sum", &one_group, "none"),
        dlt("dlt none block", "f32", "none", &[], "block"),
    ];
    sides.extend(compiled_and_bf16(MAIN.layers));
    let mut split = dlt("dlt none bf16x3", "f32", "none", &[], "none");
    split.options.extend(["--kernels", "fused-bf16x3"].map(str::to_owned));
    sides.push(split);
    sides.push(pytorch("pytorch compile owner bf16", "compile", "bf16", "owner", &one_group));

    let mut comparisons = vec![
        speed("dlt none", "pytorch eager none", Target::at_least(2.0)),
        speed("dlt owner", "pytorch eager owner", Target::at_least(2.0)),
        speed("dlt none", "pytorch compile none bf16", Target::Shown),
        memory("dlt none", "pytorch eager none", Target::at_most(0.40)),
        memory("dlt owner", "pytorch eager owner", Target::at_most(0.40)),
        memory("dlt none block", "pytorch eager none", Target::at_most(0.28)),
        memory("dlt none", "pytorch compile none", Target::Shown),
        speed("dlt none block", "pytorch eager none", Target::Shown),
        step_time("dlt sum", "dlt none", Target::Shown),
        step_time("dlt owner", "dlt none", Target::Shown),
    ];
    comparisons.extend(of_compiled_and_bf16());
    comparisons.push(speed("dlt none bf16x3", "dlt none", Target::Shown));
    comparisons.push(speed("dlt owner bf16", "pytorch compile owner bf16", Target::Shown));

    Workload { name: NAMES[0], shape: MAIN, sides, comparisons }
}

fn against_pytorch(name: &'static str, [layers, width, heads]: [usize; 3]) -> Workload {
    let mut sides = vec![
        dlt("dlt none", "f32", "none", &[], "none"),
        pytorch("pytorch eager none", "eager", "f32", "none", &[]),
    ];
    sides.extend(compiled_and_bf16(layers));

    let mut comparisons = vec![
        speed("dlt none", "pytorch eager none", Target::at_least(1.5)),
        memory("dlt none", "pytorch eager none", Target::Shown),
    ];
    comparisons.extend(of_compiled_and_bf16());

    Workload {
        name,
        shape: Shape { layers, width, heads, tokens: 128, batch: 16, vocabulary: VOCABULARY },
        sides,
        comparisons,
    }
}

/// Sides of every size that is compared with PyTorch. Its sides are compiled.
fn compiled_and_bf16(layers: usize) -> [Side; 4] {
    [
        dlt("dlt none bf16", "bf16", "none", &[], "none"),
        dlt("dlt owner bf16", "bf16", "owner", &vec![0; layers], "none"),
        pytorch("pytorch compile none", "compile", "f32", "none", &[]),
        pytorch("pytorch compile none bf16", "compile", "bf16", "none", &[]),
    ]
}

/// Comparisons with the sides of [`compiled_and_bf16`].
fn of_compiled_and_bf16() -> [Comparison; 5] {
    let compiled = "pytorch compile none bf16";
    let tied = speed("dlt owner bf16", compiled, Target::at_least(1.2).aiming(1.6));

    [
        speed("dlt none", "pytorch compile none", Target::at_least(1.5).aiming(2.0)),
        speed("dlt none bf16", compiled, Target::at_least(1.0).aiming(1.3)),
        Comparison { models: Models::TiedToUntied, ..tied },
        speed("dlt none bf16", "dlt none", Target::at_least(2.0).aiming(3.0)),
        memory("dlt none bf16", compiled, Target::at_most(0.45).aiming(0.35)),
    ]
}

fn tied_against_conventional() -> Workload {
    let layers = 24;
    // A random action has 1 + 1/2 + ... + 1/24 = 3.8 independent layers in the mean, so 4 groups
    // are a typical tied state.
    let owners = spread_owners(layers, 4);
    let against = "dlt none";

    Workload {
        name: NAMES[3],
        shape: Shape {
            layers,
            width: 1024,
            heads: 16,
            tokens: 256,
            batch: 4,
            vocabulary: VOCABULARY,
        },
        sides: vec![
            dlt(against, "f32", "none", &[], "none"),
            dlt("dlt sum", "f32", "sum", &owners, "none"),
            dlt("dlt owner", "f32", "owner", &owners, "none"),
        ],
        comparisons: vec![
            step_time("dlt sum", against, Target::at_most(1.0)),
            step_time("dlt owner", against, Target::at_most(0.85)),
            memory("dlt sum", against, Target::Shown),
            memory("dlt owner", against, Target::Shown),
        ],
    }
}

/// Names of the sides of [`among`]: ours in several processes, ours in one, and PyTorch's
/// DistributedDataParallel. The first word is the state.
pub(super) const AMONG: [[&str; 3]; 3] = [
    ["untied dlt", "untied dlt in one", "untied ddp"],
    ["4-groups dlt", "4-groups dlt in one", "4-groups ddp"],
    ["one-group dlt", "one-group dlt in one", "one-group ddp"],
];

/// The main size in several processes, and in one, in three states.
pub(crate) fn among(processes: usize) -> Workload {
    let layers = MAIN.layers;
    let states =
        [("none", Vec::new()), ("sum", spread_owners(layers, 4)), ("sum", vec![0; layers])];
    let mut sides = Vec::new();
    let mut comparisons = Vec::new();

    for ([ours, in_one, ddp], (tying, owners)) in AMONG.into_iter().zip(states) {
        let several = |side| Side { processes, ..side };
        sides.push(several(dlt(ours, "f32", tying, &owners, "none")));
        sides.push(dlt(in_one, "f32", tying, &owners, "none"));
        sides.push(several(pytorch(ddp, "eager", "f32", tying, &owners)));

        for (against, measure) in [
            (ddp, Measure::TokensPerS),
            (in_one, Measure::TokensPerS),
            (ddp, Measure::MemoryOfProcess),
        ] {
            comparisons.push(comparison(ours, against, measure, Target::Shown));
        }
    }

    Workload { name: NAMES[0], shape: MAIN, sides, comparisons }
}

/// A state with `groups` owners at equal distances. Every other layer uses the weights of the owners
/// before it in turn, so that groups interleave as they do in a random state.
fn spread_owners(layers: usize, groups: usize) -> Vec<usize> {
    let owners: Vec<usize> = (0..groups).map(|group| group * layers / groups).collect();

    (0..layers)
        .map(|layer| {
            if owners.contains(&layer) {
                return layer;
            }

            let present = owners.iter().filter(|&&owner| owner < layer).count();
            owners[layer % present]
        })
        .collect()
}

fn speed(side: &'static str, against: &'static str, target: Target) -> Comparison {
    comparison(side, against, Measure::TokensPerS, target)
}

fn step_time(side: &'static str, against: &'static str, target: Target) -> Comparison {
    comparison(side, against, Measure::StepTime, target)
}

fn memory(side: &'static str, against: &'static str, target: Target) -> Comparison {
    comparison(side, against, Measure::PeakMemory, target)
}

fn comparison(
    side: &'static str,
    against: &'static str,
    measure: Measure,
    target: Target,
) -> Comparison {
    Comparison { side, against, measure, target, models: Models::Same }
}

fn dlt(
    name: &'static str,
    dtype: &str,
    tying: &str,
    owners: &[usize],
    checkpointing: &str,
) -> Side {
    let mut options = ["--dtype", dtype, "--tying", tying].map(str::to_owned).to_vec();
    options.extend(owners_option(owners));
    options.extend(["--checkpointing".to_owned(), checkpointing.to_owned()]);
    Side { name, program: Program::Dlt, processes: 1, options }
}

fn pytorch(name: &'static str, mode: &str, dtype: &str, tying: &str, owners: &[usize]) -> Side {
    let mut options =
        ["--mode", mode, "--dtype", dtype, "--tying", tying].map(str::to_owned).to_vec();
    options.extend(owners_option(owners));
    Side { name, program: Program::PyTorch, processes: 1, options }
}

fn owners_option(owners: &[usize]) -> Vec<String> {
    let words: Vec<String> = owners.iter().map(ToString::to_string).collect();
    if words.is_empty() { Vec::new() } else { vec!["--owners".to_owned(), words.join(",")] }
}

impl Workload {
    /// The workload without the sides of the peer and the comparisons with them.
    pub(crate) fn ours_only(mut self) -> Self {
        self.sides.retain(|side| side.program == Program::Dlt);
        let sides = &self.sides;
        let has = |name| sides.iter().any(|side| side.name == name);
        self.comparisons.retain(|comparison| has(comparison.side) && has(comparison.against));
        self
    }
}

impl Shape {
    pub(crate) fn options(self) -> Vec<String> {
        let Self { layers, width, heads, tokens, batch, vocabulary } = self;
        let options = [
            ("--layers", layers),
            ("--width", width),
            ("--heads", heads),
            ("--seq", tokens),
            ("--batch", batch),
            ("--vocab", vocabulary),
        ];

        options.into_iter().flat_map(|(flag, size)| [flag.to_owned(), size.to_string()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_workloads() {
        assert_eq!(workloads().iter().map(|workload| workload.name).collect::<Vec<_>>(), NAMES);
    }

    #[test]
    fn comparisons_name_sides_that_exist_once() {
        for workload in workloads().into_iter().chain([among(2)]) {
            for comparison in &workload.comparisons {
                for name in [comparison.side, comparison.against] {
                    let count = workload.sides.iter().filter(|side| side.name == name).count();
                    assert_eq!(count, 1, "{}: {name}", workload.name);
                }
            }
        }
    }

    #[test]
    fn the_tied_state_has_four_owners_at_equal_distances() {
        let owners = spread_owners(24, 4);
        let expected =
            [0, 0, 0, 0, 0, 0, 6, 6, 0, 6, 0, 6, 12, 6, 12, 0, 6, 12, 18, 18, 0, 6, 12, 18];
        assert_eq!(owners, expected);

        for (layer, &owner) in owners.iter().enumerate() {
            assert!(owner <= layer && owners[owner] == owner, "layer {layer}");
        }
    }

    #[test]
    fn each_state_runs_in_several_processes_and_in_one() {
        let workload = among(4);
        let processes: Vec<usize> = workload.sides.iter().map(|side| side.processes).collect();
        assert_eq!(processes, [4, 1, 4, 4, 1, 4, 4, 1, 4]);

        let names: Vec<&str> = workload.sides.iter().map(|side| side.name).collect();
        assert_eq!(names, AMONG.concat());
        assert_eq!(workload.ours_only().comparisons.len(), 3);
    }

    #[test]
    fn without_the_peer_only_our_own_sides_are_compared() {
        for (index, sides, comparisons) in [(0, 7, 4), (1, 3, 1)] {
            let workload = workloads().remove(index).ours_only();
            let got = (workload.sides.len(), workload.comparisons.len());
            assert_eq!(got, (sides, comparisons), "{workload:?}");
        }
    }

    #[test]
    fn no_side_is_measured_twice() {
        for workload in workloads() {
            let what = |side: &Side| (side.program, side.processes, side.options.clone());
            for (index, side) in workload.sides.iter().enumerate() {
                let rest = &workload.sides[index + 1..];
                assert!(rest.iter().all(|other| what(other) != what(side)), "{}", side.name);
            }
        }
    }

    #[test]
    fn an_aim_is_beyond_what_must_be() {
        for comparison in workloads().iter().flat_map(|workload| &workload.comparisons) {
            let is_beyond = match comparison.target {
                Target::AtLeast(Bound { must, aim }) => aim.is_none_or(|aim| aim > must),
                Target::AtMost(Bound { must, aim }) => aim.is_none_or(|aim| aim < must),
                Target::Shown => true,
            };
            assert!(is_beyond, "{comparison:?}");
        }
    }

    #[test]
    fn the_peer_script_knows_every_flag_that_the_grid_uses() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../", "data/peers/pytorch_step.py");
        let script = std::fs::read_to_string(path).unwrap();

        assert!(script.contains("\"processes\": "), "--processes");
        for workload in workloads().into_iter().chain([among(2)]) {
            for side in workload.sides.iter().filter(|side| side.program == Program::PyTorch) {
                for flag in side.options.iter().filter(|option| option.starts_with("--")) {
                    assert!(script.contains(&format!("\"{flag}\"")), "{flag}");
                }
            }

            for flag in
                workload.shape.options().iter().filter_map(|option| option.strip_prefix("--"))
            {
                assert!(script.contains(&format!("\"{flag}\": ")), "{flag}");
            }
        }
    }
}
