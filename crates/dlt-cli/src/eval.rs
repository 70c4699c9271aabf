//! `dlt eval`: the loss of a saved model on a split or on a text.

use std::path::Path;

use candle_core::Device;
use dlt_data::{DataError, Split, TokenStream, bits_per_byte, unigram_perplexity_of};
use dlt_run::Saved;
use dlt_run::provenance::{as_trained, of_run};
use dlt_spec::spec::{DataSpec, Pipeline};
use dlt_train::Exchange;
use dlt_train::evaluation::{Evaluation, evaluate_stream, evaluate_watched};
use serde_json::json;

use crate::arguments::EvalTask;
use crate::failure::Result;
use crate::numbers::{decimal, perplexity, whole};
use crate::table::Table;
use crate::{hub, loading, machine, output, processes};

pub(crate) fn run(task: &EvalTask) -> Result {
    let mut exchange = processes::exchange(&task.several)?;
    let measured = measure(task, &mut exchange);
    let measured = processes::settle(exchange, measured)?;
    output::print(&if task.json { measured.json() } else { measured.table() })
}

fn measure(task: &EvalTask, exchange: &mut Exchange) -> Result<Measured> {
    let open = || {
        let saved = Saved::open(&task.run)?;
        saved.verify_tokenizer(hub::config()?.as_ref(), output::note)?;
        Ok((saved, machine::open(&task.machine)?.0))
    };

    let (saved, device) = processes::together(exchange, "the model", open())?;
    match &task.text {
        Some(text) => on_text(&saved, text, task, &device, exchange),
        None => {
            let split = task.split.unwrap_or(Split::Validation);
            on_split(&saved, split, &task.run, &device, exchange)
        }
    }
}

/// An evaluation, and figures to compare it with.
struct Measured {
    evaluation: Evaluation,
    /// The split; `None` for the user's own text.
    split: Option<Split>,
    /// Bytes of text that the predicted tokens represent.
    bytes: usize,
    unigram_perplexity: f64,
}

impl Measured {
    fn new(evaluation: Evaluation, split: Option<Split>, tokens: &TokenStream) -> Result<Self> {
        // Not all tokens are predicted, the first one never is. The bytes are counted in
        // proportion, so that bits per byte stay comparable.
        let share = (evaluation.tokens as f64 / tokens.len().max(1) as f64).min(1.0);
        let bytes = (tokens.bytes() as f64 * share).round() as usize;
        Ok(Self { evaluation, split, bytes, unigram_perplexity: unigram_perplexity_of(tokens)? })
    }

    fn bits_per_byte(&self) -> f64 {
        bits_per_byte(self.evaluation.loss_sum, self.bytes)
    }

    fn json(&self) -> String {
        let loss = self.evaluation.loss();
        let tokens = self.evaluation.tokens;

        if let Some(scores) = self.evaluation.scores() {
            let split = self.split.map(Split::name);
            let line =
                json!({ "split": split, "loss": loss, "scores": scores, "examples": tokens });
            return format!("{line}\n");
        }

        let line = match self.split {
            None => json!({ "loss": loss, "tokens": tokens }),
            Some(split) => json!({
                "split": split.name(),
                "loss": loss,
                "perplexity": self.evaluation.perplexity(),
                "unigram_perplexity": self.unigram_perplexity,
                "bits_per_byte": self.bits_per_byte(),
                "tokens": tokens,
            }),
        };

        format!("{line}\n")
    }

    fn table(&self) -> String {
        let mut table = Table::new(&[]);
        table.row(["evaluated on", self.split.map_or("the text", Split::name)]);

        if let Some(scores) = self.evaluation.scores() {
            table.row(["accuracy", &decimal(scores.accuracy, 4)]);
            table.row(["accuracy of the majority class", &decimal(scores.majority_accuracy, 4)]);

            for (name, score) in
                [("Matthews correlation", scores.matthews), ("F1 of class 1", scores.f1)]
            {
                if let Some(score) = score {
                    table.row([name, &decimal(score, 4)]);
                }
            }

            table.row(["loss, nats an example", &decimal(self.evaluation.loss(), 4)]);
            table.row(["examples", &whole(self.evaluation.tokens)]);
            return table.render();
        }

        table.row(["loss, nats a token", &decimal(self.evaluation.loss(), 4)]);
        table.row(["perplexity", &perplexity(self.evaluation.perplexity())]);
        table.row(["unigram floor", &perplexity(self.unigram_perplexity)]);
        table.row(["bits per byte", &decimal(self.bits_per_byte(), 3)]);
        table.row(["tokens predicted", &whole(self.evaluation.tokens)]);

        table.render()
    }
}

/// Evaluates on the user's own text, read as the run's own data were.
fn on_text(
    saved: &Saved,
    source: &str,
    task: &EvalTask,
    device: &Device,
    exchange: &mut Exchange,
) -> Result<Measured> {
    let load = || {
        let spec = as_trained(&saved.spec, &task.run)?;
        let data =
            DataSpec { source: source.to_owned(), pipeline: Pipeline::Stream, ..spec.data.clone() };
        Ok((loading::load_text(&data, task.split, &mut |_| ())?, saved.model(device)?))
    };

    let (text, model) = processes::together(exchange, "the text", load())?;
    let context = saved.spec.model.context;
    let evaluation =
        evaluate_stream(&model, text.tokens.clone(), context, exchange)?.finite("the text")?;

    Measured::new(evaluation, None, &text.tokens)
}

/// Evaluates on a split of the run's own data.
fn on_split(
    saved: &Saved,
    split: Split,
    run: &Path,
    device: &Device,
    exchange: &mut Exchange,
) -> Result<Measured> {
    let load = || {
        let spec = as_trained(&saved.spec, run)?;
        let material = loading::load(&spec, &mut |_| ())?;
        if !material.has(split) {
            let advice = "evaluate on validation, or on a text with --text";
            let name = spec.data.source.clone();
            return Err(DataError::NoSplit { name, split, advice }.into());
        }

        if trained_on(run).is_some_and(|sha256| sha256 != material.provenance().sha256) {
            let source = &spec.data.source;
            tracing::warn!(source, "the data have changed since the model was trained on them");
        }

        Ok((spec, material, saved.model(device)?))
    };

    let (spec, material, model) = processes::together(exchange, "the data", load())?;
    let (examples, batch) = (material.examples(split), spec.evaluation_batch());
    let evaluation =
        evaluate_watched(&model, examples, batch, exchange, &mut |_| ())?.finite(split.name())?;

    Ok(match material.tokens().map(|tokens| tokens.split(split)) {
        Some(text) => Measured::new(evaluation, Some(split), text)?,
        None => Measured::new(evaluation, Some(split), &TokenStream::new(Vec::new(), 0))?,
    })
}

/// Checksum of the text that a run was trained on, if its folder says so.
fn trained_on(run: &Path) -> Option<String> {
    // It is not known for an imported model.
    Some(of_run(run)?.data.sha256).filter(|sha256| !sha256.is_empty())
}
