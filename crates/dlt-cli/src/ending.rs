//! The text at the end of a run: its result, what it is measured against, and what to try next.

use std::path::Path;

use dlt_models::binding::Binding;
use dlt_report::shell::quoted;
use dlt_run::map;
use dlt_spec::CheckedSpec;
use dlt_spec::baseline::Baseline;
use dlt_spec::record::{Scores, Summary};
use dlt_spec::spec::{Decision, Objective, Order};
use dlt_state::State;

use crate::baselines;
use crate::numbers::{decimal, duration, perplexity, units, whole};
use crate::table::Table;

/// A run that has just ended, with everything that the text is made from.
pub(crate) struct Ending<'a> {
    /// Its spec.
    pub(crate) spec: &'a CheckedSpec,
    /// Its result.
    pub(crate) summary: &'a Summary,
    /// The state at the end of training.
    pub(crate) state: &'a State,
    /// Which layers share storage at the end of training.
    pub(crate) binding: &'a Binding,
    /// The run folder.
    pub(crate) run: &'a Path,
}

impl Ending<'_> {
    /// The whole text, with its line ends.
    pub(crate) fn text(&self) -> String {
        let Summary { name, seed, steps, best_step, elapsed_s, .. } = self.summary;
        let mut text = format!(
            "{name}, seed {seed}: {} steps in {}; result in {}\n\n",
            whole(*steps),
            duration(*elapsed_s),
            self.run.display()
        );

        let tokenizer = &self.spec.data.tokenizer;
        text += &match self.spec.model.objective {
            Objective::NextToken => {
                format!(
                    "The best model on validation, of step {best_step} (per token of {tokenizer})\n"
                )
            }
            Objective::MaskedToken => format!(
                "The best model on validation, of step {best_step} (pseudo-perplexity per hidden token of {tokenizer}, \
                 seen from both sides; not comparable with the perplexity of a decoder)\n"
            ),
            Objective::Classes => format!("The best model on validation, of step {best_step}\n"),
        };

        text += &self.quality();
        text += &self.reservations();
        text += "\nWhat it took, over training\n";
        text += &self.cost();
        text += &self.machine();
        text += "\nWho uses whose weights at the end\n\n";
        text += &map::draw(self.state, Some(self.binding));
        text += &self.recorded_results(&baselines::recorded_for(self.spec));
        text += "\nWhat to try next\n";
        self.next().iter().for_each(|(why, command)| text += &format!("  {why}\n    {command}\n"));

        text
    }

    fn quality(&self) -> String {
        let summary = self.summary;
        if let Some(validation) = summary.validation_scores {
            return scores(summary, validation, summary.test_scores);
        }

        let mut table = perplexities(summary);
        if summary.bits_per_byte.is_finite() {
            table.row(["validation bits per byte", &decimal(summary.bits_per_byte, 3)]);
        }

        if let Some(selected) = summary.test_perplexity_selected_on_test {
            table.row([
                "test perplexity if the model were chosen on test (not a fair result)",
                &perplexity(selected),
            ]);
        }

        table.render()
    }

    /// Lines about why the figures are not comparable with those of other runs, if there is a
    /// reason.
    fn reservations(&self) -> String {
        let mut text = String::new();
        if let Some(windows) = self.summary.final_windows {
            text += &format!(
                "  only for the first {} windows of each split (evaluation.final_windows)\n",
                whole(windows)
            );
        }

        if self.summary.decisions == Some(0) {
            text += &format!(
                "  no decision was made in {} steps: these figures are for the tying at the start, not for dynamic \
                 tying\n",
                whole(self.summary.steps)
            );
        }

        text
    }

    fn cost(&self) -> String {
        let summary = self.summary;
        let layers = self.spec.model.layers;
        let mut table = Table::new(&["", "mean", "end", "conventional"]);
        let mut row = |name: &str, mean: String, end: String, conventional: String| {
            table.row([name, &mean, &end, &conventional]);
        };

        row(
            "trainable parameters",
            decimal(summary.trainable_parameters_mean, 0),
            whole(summary.trainable_parameters_end),
            whole(summary.conventional_parameters),
        );

        row(
            "of them in blocks",
            decimal(summary.block_parameters_mean, 0),
            whole(summary.block_parameters_end),
            whole(summary.conventional_block_parameters),
        );

        let share =
            |parameters: f64| decimal(parameters / summary.conventional_block_parameters as f64, 3);
        let end = summary.block_parameters_end as f64;
        row(
            "share of conventional",
            share(summary.block_parameters_mean),
            share(end),
            "1.000".into(),
        );

        row(
            "independent layers",
            decimal(summary.independent_layers_mean, 2),
            summary.independent_layers_end.to_string(),
            layers.to_string(),
        );

        row(
            "distinct layers in memory",
            decimal(summary.distinct_layers_mean, 2),
            summary.distinct_layers_end.to_string(),
            layers.to_string(),
        );

        table.render()
    }

    fn machine(&self) -> String {
        let summary = self.summary;
        let megabytes =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |mb| decimal(mb, 1));
        let mut table = Table::new(&["", "mean", "peak"]);

        table.row([
            "resident memory, MB",
            &megabytes(summary.mean_rss_mb),
            &megabytes(summary.peak_rss_mb),
        ]);
        table.row(["predicted, MB", "", &megabytes(summary.predicted_peak_rss_mb)]);

        let state = decimal(summary.weights_gradients_moments_mb_peak, 1);
        table.row(["weights + gradients + moments, MB", "", &state]);

        let share = |part: f64| decimal(100.0 * part / summary.elapsed_training_s, 2);
        let Some(rate) = summary.tokens_per_s else {
            return format!(
                "\n{}\n  the clock showed no time passing: speeds are not known\n",
                table.render()
            );
        };

        format!(
            "\n{}\n  {} {}/s; a pass over the training data takes {}\n  {} % of the training time went into \
             rewards, {} % into decisions\n",
            table.render(),
            decimal(rate, 0),
            units(self.spec),
            duration(summary.seconds_per_epoch),
            share(summary.elapsed_rewarding_s),
            share(summary.elapsed_deciding_s),
        ) + &searches(summary)
    }

    /// A table of recorded results for the same budget, and the commands that made them.
    fn recorded_results(&self, recorded: &[Baseline]) -> String {
        if recorded.is_empty() {
            return String::new();
        }

        let summary = self.summary;
        let whole_model = summary.conventional_block_parameters as f64;
        let mut table = Table::new(&[
            "",
            "validation",
            "test",
            "block parameters, mean",
            "share",
            "steps",
            "seed",
        ]);

        let mut row =
            |label: &str, validation, test: Option<f64>, blocks: f64, steps: usize, seed: u64| {
                table.row([
                    label.to_owned(),
                    perplexity(validation),
                    test.map_or_else(|| "-".to_owned(), perplexity),
                    decimal(blocks, 0),
                    decimal(blocks / whole_model, 3),
                    whole(steps),
                    seed.to_string(),
                ]);
            };

        let validation = summary.validation_perplexity;
        let test = summary.test_perplexity;
        row(
            "this run",
            validation,
            test,
            summary.block_parameters_mean,
            summary.steps,
            summary.seed,
        );

        for one in recorded {
            let validation = one.validation_perplexity;
            let test = Some(one.test_perplexity);
            row(&one.label, validation, test, one.block_parameters_mean, one.steps, one.seed);
        }

        let mut text = "\nRecorded results of the same model, text, steps and batch\n".to_owned();
        text += &table.render();
        text += "  made by these commands, each with --seed and the seed of its row\n";

        let mut said: Vec<&str> = Vec::new();
        for one in recorded {
            if !said.contains(&one.command.as_str()) {
                said.push(&one.command);
                text += &format!("    {}: {}\n", one.label, one.command);
            }
        }

        text
    }

    /// Three commands, each after a line that says what it is for.
    fn next(&self) -> [(&'static str, String); 3] {
        // As the user has called it, so that the commands can be typed as they are.
        let program =
            quoted(&std::env::args_os().next().unwrap_or_else(|| "dlt".into()).to_string_lossy());
        let run = quoted(&self.run.to_string_lossy());
        let spec = quoted(&self.run.join(dlt_spec::record::SPEC_FILE).to_string_lossy());
        let other = |name: &str| quoted(&format!("{}-{name}", self.run.to_string_lossy()));
        let shown = match self.spec.model.objective {
            Objective::NextToken => (
                "see what it writes",
                format!("{program} generate {run} --prompt \"To be, or not to be\""),
            ),
            Objective::MaskedToken | Objective::Classes => (
                "export a folder that transformers loads",
                format!("{program} export {run} --format hf --out {}", other("exported")),
            ),
        };
        // Frozen layers have random weights, so a run that starts from a model cannot have any.
        let initial =
            if self.spec.model.start.is_empty() { " --set tying.initial=frozen" } else { "" };
        let compared = if self.spec.is_conventional() {
            (
                "train the same model with the paper's method, to compare",
                format!(
                    "{program} train {spec} --set agent.policy=q{initial}{} --out {}",
                    joint(self.spec),
                    other("tied")
                ),
            )
        } else {
            (
                "train the same model conventionally, with as many steps and the same learning rate, to compare",
                format!(
                    "{program} train {spec} {} --out {}",
                    conventional(self.spec),
                    other("conventional")
                ),
            )
        };

        [
            shown,
            compared,
            (
                "train the same model on your own text",
                format!("{program} train {spec} --data YOUR.txt --out {}", other("mine")),
            ),
        ]
    }
}

/// Perplexities next to their floors.
pub(crate) fn perplexities(summary: &Summary) -> Table {
    let mut table = Table::new(&["", "this model", "unigram floor"]);
    let mut row = |name: &str, model: f64, floor: f64| {
        table.row([name, &perplexity(model), &perplexity(floor)])
    };
    row("validation perplexity", summary.validation_perplexity, summary.unigram_perplexity);

    if let (Some(test), Some(floor)) = (summary.test_perplexity, summary.unigram_test_perplexity) {
        row("test perplexity", test, floor);
    }

    table
}

/// A table of how well a model classifies, compared with always choosing the most frequent class.
pub(crate) fn scores(summary: &Summary, validation: Scores, test: Option<Scores>) -> String {
    let mut table = Table::new(&["", "this model", "majority class"]);
    let mut row =
        |name: &str, model: f64, floor: String| table.row([name, &decimal(model, 4), &floor]);

    for (split, scores) in [("validation", Some(validation)), ("test", test)] {
        let Some(scores) = scores else { continue };
        row(&format!("{split} accuracy"), scores.accuracy, decimal(scores.majority_accuracy, 4));

        if let Some(matthews) = scores.matthews {
            row(&format!("{split} Matthews correlation"), matthews, decimal(0.0, 4));
        }

        if let Some(f1) = scores.f1 {
            row(&format!("{split} F1 of class 1"), f1, String::new());
        }
    }

    row(
        "validation loss, nats",
        summary.validation_loss,
        decimal(summary.unigram_perplexity.ln(), 4),
    );

    table.render()
}

/// A line about what searches cost, if there were any. Their passes are among those of the rewards.
fn searches(summary: &Summary) -> String {
    summary.search_passes.map_or_else(String::new, |passes| {
        format!("  searches took {} forward passes of a batch\n", whole(passes))
    })
}

/// Arguments that turn a spec of splits, which a Q-network cannot decide, into one of joint
/// decisions.
fn joint(spec: &CheckedSpec) -> &'static str {
    match spec.tying.decision {
        Decision::Joint | Decision::PerLayer | Decision::Single => "",
        Decision::Split | Decision::Swap => " --set tying.decision=joint --set 'tying.grow=[]'",
    }
}

/// Arguments that turn a spec into one of conventional training. Settings that only make sense for
/// its own policy are reset, because the spec would be refused with them.
fn conventional(spec: &CheckedSpec) -> String {
    let mut set = vec!["agent.policy=none", "tying.initial=independent"];
    if !spec.agent.recording.is_empty() {
        set.push("agent.recording=\"\"");
    }
    if !spec.agent.permutation.is_empty() {
        set.push("agent.permutation=[]");
    }

    if spec.data.order == Order::Sweep {
        set.push("data.order=pass");
    }

    set.iter().map(|set| format!("--set {}", quoted(set))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::{Overlay, Spec, presets};

    fn summary() -> Summary {
        let text = r#"{"schema": 1, "name": "smoke", "seed": 1, "steps": 30, "best_step": 20,
            "validation_loss": 5.0, "validation_perplexity": 148.41, "test_perplexity": 150.5,
            "unigram_perplexity": 400.0, "unigram_test_perplexity": 410.0, "bits_per_byte": 2.25,
            "trainable_parameters_mean": 1500.0, "trainable_parameters_end": 1000,
            "block_parameters_mean": 750.0, "block_parameters_end": 250, "conventional_parameters": 2000,
            "conventional_block_parameters": 1000, "independent_layers_mean": 1.5, "independent_layers_end": 1,
            "distinct_layers_mean": 2.5, "distinct_layers_end": 1, "tokens_per_s": 10.0,
            "seconds_per_epoch": 61.0, "elapsed_s": 3.0, "elapsed_training_s": 2.0, "elapsed_deciding_s": 0.01,
            "elapsed_rewarding_s": 0.05, "peak_rss_mb": null, "mean_rss_mb": null,
            "weights_gradients_moments_mb_peak": 1.0}"#;
        serde_json::from_str(text).unwrap()
    }

    fn text(sets: &[&str]) -> String {
        let mut overlays = vec![presets::preset("smoke").unwrap().overlay().unwrap()];
        overlays.extend(sets.iter().map(|set| Overlay::from_assignment(set).unwrap()));

        let spec = Spec::assemble(&overlays).unwrap().check().unwrap();
        let state = State::all_tied(3);
        let summary = summary();
        let binding = Binding::of_state(&state);
        let run = Path::new("runs/it's here");

        Ending { spec: &spec, summary: &summary, state: &state, binding: &binding, run }.text()
    }

    #[test]
    fn recorded_results_are_shown_with_the_run_and_their_commands() {
        let baseline = Baseline {
            preset: "smoke".into(),
            label: "conventional".into(),
            command: "dlt train --preset smoke --set agent.policy=none".into(),
            seed: 7,
            steps: 30,
            validation_perplexity: 141.25,
            test_perplexity: 143.5,
            block_parameters_mean: 1000.0,
        };

        let spec = Spec::default().check().unwrap();
        let state = State::all_tied(3);
        let summary = summary();
        let binding = Binding::of_state(&state);
        let run = Path::new("runs/x");
        let ending =
            Ending { spec: &spec, summary: &summary, state: &state, binding: &binding, run };

        assert_eq!(ending.recorded_results(&[]), "");
        let text = ending.recorded_results(&[baseline]);
        let cells = |label: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(label)).unwrap();
            line.trim_start()
                .trim_start_matches(label)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };

        assert_eq!(cells("this run"), ["148.41", "150.50", "750", "0.750", "30", "1"]);
        assert_eq!(cells("conventional"), ["141.25", "143.50", "1,000", "1.000", "30", "7"]);

        assert!(
            text.contains("conventional: dlt train --preset smoke --set agent.policy=none"),
            "{text}"
        );
    }

    #[test]
    fn what_to_try_next_can_be_typed_as_it_is() {
        let tied = text(&[]);
        let conventional = r"train 'runs/it'\''s here/spec.toml' --set agent.policy=none --set tying.initial=independent";
        assert!(tied.contains(conventional), "{tied}");

        let conventional = text(&["agent.policy=none", "tying.initial=independent"]);
        assert!(
            conventional.contains("--set agent.policy=q --set tying.initial=frozen"),
            "{conventional}"
        );

        let split = [
            "agent.policy=none",
            "tying.initial=independent",
            "tying.decision=split",
            "tying.grow=[0.5]",
        ];

        let joint =
            "--set tying.initial=frozen --set tying.decision=joint --set 'tying.grow=[]' --out";
        assert!(text(&split).contains(joint), "{}", text(&split));

        let started =
            text(&["agent.policy=none", "tying.initial=independent", "model.start=runs/a"]);
        assert!(started.contains("--set agent.policy=q --out"), "{started}");

        let classes = text(&["model.objective=classes"]);
        assert!(classes.contains("export") && !classes.contains("generate"), "{classes}");

        let replayed = text(&["agent.policy=replay", "agent.recording=runs/a"]);
        assert!(replayed.contains(r#"--set 'agent.recording=""'"#), "{replayed}");
    }

    #[test]
    fn what_the_figures_lack_is_said_next_to_them() {
        let of = |changed: Summary| {
            let spec = Spec::default().check().unwrap();
            let state = State::all_tied(3);
            let binding = Binding::of_state(&state);
            let run = Path::new("runs/x");

            Ending { spec: &spec, summary: &changed, state: &state, binding: &binding, run }.text()
        };

        let none = of(summary());
        assert!(
            !none.contains("no decision was made") && !none.contains("windows of each split"),
            "{none}"
        );

        let undecided = of(Summary { decisions: Some(0), ..summary() });
        assert!(undecided.contains("no decision was made in 30 steps"), "{undecided}");

        let bounded = of(Summary { final_windows: Some(8), ..summary() });
        assert!(bounded.contains("the first 8 windows of each split"), "{bounded}");

        assert!(!none.contains("searches"), "{none}");
        let searched = of(Summary { search_passes: Some(1_234), ..summary() });
        assert!(searched.contains("searches took 1,234 forward passes of a batch"), "{searched}");

        let timeless = of(Summary { tokens_per_s: None, ..summary() });
        assert!(timeless.contains("the clock showed no time passing"), "{timeless}");
    }

    #[test]
    fn memory_that_is_not_known_is_a_dash() {
        let text = text(&[]);
        let line = text.lines().find(|line| line.contains("resident memory")).unwrap();
        assert_eq!(line.split_whitespace().skip(3).collect::<Vec<_>>(), ["-", "-"]);
    }
}
