//! A small run of a family of transformer that this file makes. Attention and feed-forward of a
//! block read the same norm, and both results are added to its input.
//!
//! ```sh
//! cargo run -p own-parts --example own_architecture -- [RUN]
//! ```
//!
//! `RUN` is the folder of the run, else a temporary one. It takes seconds on one core.
#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use dlt_data::{BYTES, Material, Places};
use dlt_kernels::{Gelu, Mask};
use dlt_models::Result;
use dlt_models::architecture::{Architecture, Form, Projection, StemInput};
use dlt_models::division::{BlockParts, Half};
use dlt_models::families::gpt2::Gpt2;
use dlt_models::graph::{Graph, Node};
use dlt_models::huggingface::FileNames;
use dlt_models::parameters::Layout;
use dlt_run::{Program, provenance};
use dlt_spec::spec::Size;
use dlt_spec::{CheckedSpec, Spec, presets};
use dlt_train::{DeviceChoice, Plan, Products, RunFolder, Trainer, open_device};

/// A GPT-2 of parallel blocks. Stem and head are those of the GPT-2 inside.
#[derive(Debug)]
struct Parallel(Gpt2);

/// How files of transformers name its tensors: transformers has no such model.
impl FileNames for Parallel {}

impl Architecture for Parallel {
    /// As in a GPT-2, without the second norm.
    fn block_layout(&self) -> Layout {
        let mut entries = self.0.block_layout().entries().to_vec();
        entries.retain(|entry| !entry.name.starts_with("ln_2."));
        Layout::new(entries)
    }

    fn block(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        let Form { heads, norm_epsilon, .. } = self.0.form;
        let normed = graph.layer_norm(x, "ln_1.weight", "ln_1.bias", norm_epsilon)?;

        let qkv = graph.linear(normed, "attn.c_attn.weight", "attn.c_attn.bias")?;
        let mixed = graph.attention(qkv, [heads, heads], Mask::Causal);
        let attended = graph.linear(mixed, "attn.c_proj.weight", "attn.c_proj.bias")?;

        let wide = graph.linear_gelu(normed, "mlp.c_fc.weight", "mlp.c_fc.bias", self.0.gelu)?;
        let projected = graph.linear(wide, "mlp.c_proj.weight", "mlp.c_proj.bias")?;

        let x = graph.add_branch(x, attended, Half::Attention)?;
        graph.add_branch(x, projected, Half::FeedForward)
    }

    fn form(&self) -> &Form {
        &self.0.form
    }

    fn shared_layout(&self) -> Layout {
        self.0.shared_layout()
    }

    fn block_parts(&self) -> BlockParts {
        self.0.block_parts()
    }

    fn stem_input(&self) -> StemInput {
        self.0.stem_input()
    }

    fn output(&self) -> Projection {
        self.0.output()
    }

    fn own_head(&self) -> &'static [&'static str] {
        self.0.own_head()
    }

    fn branch_ends(&self) -> &'static [&'static str] {
        self.0.branch_ends()
    }

    fn block_prefix(&self, layer: usize) -> String {
        format!("parallel.{layer}.")
    }

    fn shared_prefix(&self) -> &'static str {
        "parallel."
    }

    fn max_tokens(&self) -> usize {
        self.0.max_tokens()
    }

    fn embed(&self, graph: &mut Graph, rows: Node) -> Result<Node> {
        self.0.embed(graph, rows)
    }

    fn head(&self, graph: &mut Graph, x: Node) -> Result<Node> {
        self.0.head(graph, x)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let (device, device_name) = open_device(DeviceChoice::Cpu, Products::F32)?;
    // Dropping this removes the folder, so it has to live as long as the run.
    let temporary = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or(temporary.path().join("run"), PathBuf::from);

    let spec = spec()?;
    let material = Material::load(&spec, Places::default(), &mut |_| ())?;
    let family = Arc::new(Parallel(Gpt2 {
        form: Form::of_spec(&spec, material.extents()),
        positions: spec.positions(),
        vocabulary: spec.extents(material.extents()).vocabulary,
        gelu: Gelu::Tanh,
    }));

    let plan = Plan::of_architecture(family, spec, material, None, device)?;
    let program = Program::new(env!("CARGO_PKG_VERSION"), 1);
    let provenance = provenance::of(plan.spec(), plan.material(), &device_name, &program);
    let folder = RunFolder::create(&path, plan.spec(), &provenance)?;
    let mut trainer = Trainer::new(plan.with_weights(None)?, folder);

    while let Some(report) = trainer.advance()? {
        if let Some(decision) = &report.decision {
            println!("step {}: loss {:.3}, owners {:?}", report.step, report.loss, decision.state);
        }
    }

    let summary = trainer.finish()?;
    let [model, counts] = [summary.validation_perplexity, summary.unigram_perplexity];
    println!("validation perplexity {model:.2}, of a model that only counts bytes {counts:.2}");
    if model > 0.9 * counts {
        return Err("expected the model to learn more than counts".into());
    }
    Ok(())
}

fn spec() -> std::result::Result<CheckedSpec, Box<dyn Error>> {
    let layers = [presets::preset("smoke")?.overlay()?, presets::method("growth")?.overlay()?];
    let mut spec = Spec::assemble(&layers)?;
    spec.name = "own-architecture".to_owned();
    spec.model.layers = 4;
    spec.data.tokenizer = BYTES.to_owned();
    spec.training.steps = Size::Fixed(120);
    spec.optimizer.learning_rate = 4e-3;

    Ok(spec.check()?)
}
