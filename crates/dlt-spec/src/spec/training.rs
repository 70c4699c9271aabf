//! Length of training, evaluation, checkpoints and the optimizer.

use serde::{Deserialize, Serialize};

use super::{MOST, MOST_OF_TOML, Size};
use crate::fields::{Interval, Values};

section! {
    /// Length of training and shape of a batch.
    TrainingSpec in [training.] {
        /// Number of training steps. auto is training.epochs full passes.
        steps: Size = Size::AUTO, Values::WholeOrAuto(1, MOST_OF_TOML), unit_is("steps");
        /// Number of full passes over the training split, if training.steps is auto.
        epochs: usize = 1, Values::Whole(1, MOST), unit_is("passes"),
            paper_says("300", "section 4"),
            code_does("200 by default; tied training counts (L - 1) x 4 steps as one epoch");
        /// Windows of one training step, B.
        batch: usize = 8, Values::Whole(1, MOST), unit_is("windows"),
            paper_says("16", "section 4, Table 3"), code_does("20 by default");
        /// Windows in memory at once. Divides the batch; auto is the whole batch, or a whole shard.
        micro_batch: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("windows");
        /// Equal parts of a batch, S, whose gradients are computed apart and summed in a binary
        /// tree. A power of two that divides the batch. Every number of processes that divides S
        /// trains to the same bits.
        shards: usize = 1, Values::Whole(1, MOST), unit_is("parts");
        /// What is kept between forward and backward pass. none keeps all activations. block keeps
        /// the input of each block and computes the rest again.
        checkpointing: Checkpointing = Checkpointing::None, Checkpointing::WORDS;
        /// Number format of activations in forward and backward pass and in evaluation. Weights,
        /// their gradients and moments, and the loss are always f32. bf16 saves memory; on a CPU with
        /// instructions for bf16, and on a GPU, it also saves time.
        activations: Activations = Activations::F32, Activations::WORDS,
            code_does("bf16 on a GPU, also for weights, gradients and moments");
        /// What multiplies the f32 matrices of linear maps and of the output on a CPU. f32:
        /// multiply-adds. bf16x3: three products of bf16, which a processor with AMX computes
        /// faster. The error is below 1.2e-5 of the sum of the terms' sizes.
        products: Products = Products::F32, Products::WORDS;
        /// What happens at a step whose loss or gradient is not a finite number. stop ends the run;
        /// the last checkpoint stays. skip leaves weights and moments as they are and counts the
        /// step.
        non_finite: NonFinite = NonFinite::Stop, NonFinite::WORDS;
        /// Parameters that are trained. all: every one. head: only those of the head of the
        /// objective classes.
        trains: Trains = Trains::All, Trains::WORDS;
    }
}

words! {
    /// Which parameters train.
    Trains {
        /// All of them.
        All,
        /// Only those of the objective's head; everything below it stays as it is.
        Head,
    }
}

words! {
    /// What the forward pass keeps for the backward pass.
    Checkpointing {
        /// All activations of all blocks.
        None,
        /// Only the input of each block. The backward pass computes the rest again.
        Block,
    }
}

words! {
    /// Number format of activations (DEVIATIONS row 20): of what passes between operations, forward and backward, and
    /// of what is kept for the backward pass. Weights, their gradients and moments, and the loss
    /// are always f32.
    Activations {
        /// Four bytes, with 24 significant bits.
        F32,
        /// Two bytes, with 8 significant bits and the range of f32.
        Bf16,
    }
}

words! {
    /// What multiplies f32 matrices on a CPU (DEVIATIONS row 20).
    Products {
        /// Multiply-adds of f32.
        F32,
        /// Three products of bf16: each number is the sum of two.
        Bf16x3,
    }
}

words! {
    /// What happens at a step whose loss or gradient is not a finite number.
    NonFinite {
        /// The run stops.
        Stop,
        /// The step changes nothing and is counted in the metrics.
        Skip,
    }
}

section! {
    /// Validation during training and the final evaluation.
    EvaluationSpec in [evaluation.] {
        /// Steps between two validations. auto is one validation a pass.
        every_steps: Size = Size::AUTO, Values::WholeOrAuto(1, MOST_OF_TOML), unit_is("steps");
        /// Windows of an evaluation batch. auto is the training batch.
        batch: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("windows"),
            code_does("10 by default");
        /// Windows of the validation split that are used during training. auto is all.
        windows: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("windows");
        /// Windows of validation and test that the final evaluation of the kept model reads. auto
        /// is all, which results need to be compared.
        final_windows: Size = Size::AUTO, Values::WholeOrAuto(1, MOST), unit_is("windows"),
            paper_says("all", "section 4");
        /// Split that chooses the model. This is always validation. validation-and-test also
        /// reports the perplexity that a choice on the test split would have given.
        select_on: Selection = Selection::Validation, Selection::WORDS,
            paper_says("a separate validation set", "section 4"), code_does("the test split");
    }
}

words! {
    /// Which split chooses the model (DEVIATIONS row 12). The kept model is always the best on
    /// validation.
    Selection {
        /// Only validation is reported; the test split is read once, at the end.
        Validation,
        /// The perplexity that a choice on the test split would have given is also reported, under
        /// its own name.
        ValidationAndTest,
    }
}

section! {
    /// When the whole of a run is saved, so that it can be resumed.
    CheckpointSpec in [checkpoint.] {
        /// Steps between two checkpoints, from which a run can be resumed. auto leaves it to
        /// every_minutes. The end of a run and an interruption always make one.
        every_steps: Size = Size::AUTO, Values::WholeOrAuto(1, MOST_OF_TOML), unit_is("steps");
        /// Minutes between two checkpoints, in addition to every_steps. inf leaves it to
        /// every_steps.
        every_minutes: f64 = 10.0, Values::Real(Interval::POSITIVE_OR_INF), unit_is("minutes");
        /// Number of newest checkpoints that are kept.
        keep_last: usize = 2, Values::Whole(1, MOST), unit_is("checkpoints");
    }
}

section! {
    /// AdamW and its schedule (DEVIATIONS rows 10 and 16).
    OptimizerSpec in [optimizer.] {
        /// Peak learning rate of AdamW.
        learning_rate: f64 = 1e-4, Values::Real(Interval::POSITIVE),
            paper_says("1e-4", "section 4");
        /// Decay of the first moment.
        beta1: f64 = 0.9, Values::Real(Interval::BELOW_ONE), code_does("0.9");
        /// Decay of the second moment.
        beta2: f64 = 0.999, Values::Real(Interval::BELOW_ONE), code_does("0.999");
        /// Added to the root of the second moment.
        epsilon: f64 = 1e-8, Values::Real(Interval::POSITIVE), code_does("1e-8");
        /// Decoupled weight decay.
        weight_decay: f64 = 0.01, Values::Real(Interval::NOT_NEGATIVE), code_does("0.01");
        /// Parameters that weight decay applies to: all, or matrices, those of at least two
        /// dimensions.
        decayed: Decayed = Decayed::All, Decayed::WORDS,
            code_does("all, also norms, biases and embeddings");
        /// Global norm to which gradients are clipped. inf never clips.
        clip_norm: f64 = 1.0, Values::Real(Interval::POSITIVE_OR_INF), code_does("1.0");
        /// Learning rate after warm-up. constant stays at the peak. cosine is half a cosine from
        /// the peak to final_share of it.
        schedule: Schedule = Schedule::Constant, Schedule::WORDS;
        /// Steps of linear warm-up. A warm-up longer than training ends with training.
        warmup_steps: usize = 0, Values::Whole(0, MOST_OF_TOML), unit_is("steps");
        /// Last learning rate of the cosine schedule, as a share of the peak.
        final_share: f64 = 0.1, Values::Real(Interval::SHARE);
    }
}

words! {
    /// Which parameters weight decay applies to.
    Decayed {
        /// Every parameter, also norms, biases and embeddings.
        All,
        /// Those of at least two dimensions.
        Matrices,
    }
}

words! {
    /// Shape of the learning rate after warm-up.
    Schedule {
        /// Stays at its peak.
        Constant,
        /// Half a cosine from the peak to `final_share` of it.
        Cosine,
    }
}
