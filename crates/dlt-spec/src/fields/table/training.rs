//! Length, evaluation, checkpoints, optimizer.

use super::{MOST, MOST_OF_TOML, words_of};
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

pub(super) const TRAINING: &[Field] = &[
    field!(
        training.steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Number of training steps. auto is training.epochs full passes."
    )
    .unit_of("steps"),
    field!(
        training.epochs,
        Values::Whole(1, MOST),
        "Number of full passes over the training split, if training.steps is auto."
    )
    .unit_of("passes")
    .paper_says("300", "section 4")
    .code_does("200 by default; tied training counts (L - 1) x 4 steps as one epoch"),
    field!(training.batch, Values::Whole(1, MOST), "Windows of one training step, B.")
        .unit_of("windows")
        .paper_says("16", "section 4, Table 3")
        .code_does("20 by default"),
    field!(
        training.micro_batch,
        Values::WholeOrAuto(1, MOST),
        "Windows in memory at once. Divides the batch; auto is the whole batch."
    )
    .unit_of("windows"),
    field!(
        training.checkpointing,
        words!(Checkpointing),
        "What is kept between forward and backward pass. none keeps all activations. block keeps \
         the input of each block and computes the rest again."
    ),
    field!(
        training.activations,
        words!(Activations),
        "Number format of activations in forward and backward pass and in evaluation. Weights, \
         their gradients and moments, and the loss are always f32. On a CPU bf16 saves memory and \
         costs time."
    )
    .code_does("bf16 on a GPU, also for weights, gradients and moments"),
    field!(
        training.non_finite,
        words!(NonFinite),
        "What happens at a step whose loss or gradient is not a finite number. stop ends the run; \
         the last checkpoint stays. skip leaves weights and moments as they are and counts the \
         step."
    ),
    field!(
        training.trains,
        words!(Trains),
        "Parameters that are trained. all: every one. head: only those of the head of the \
         objective classes."
    ),
    // Evaluation.
    field!(
        evaluation.every_steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Steps between two validations. auto is one validation a pass."
    )
    .unit_of("steps"),
    field!(
        evaluation.batch,
        Values::WholeOrAuto(1, MOST),
        "Windows of an evaluation batch. auto is the training batch."
    )
    .unit_of("windows")
    .code_does("10 by default"),
    field!(
        evaluation.windows,
        Values::WholeOrAuto(1, MOST),
        "Windows of the validation split that are used during training. auto is all."
    )
    .unit_of("windows"),
    field!(
        evaluation.final_windows,
        Values::WholeOrAuto(1, MOST),
        "Windows of validation and test that the final evaluation of the kept model reads. auto is \
         all, which results need to be compared."
    )
    .unit_of("windows")
    .paper_says("all", "section 4"),
    field!(
        evaluation.select_on,
        words!(Selection),
        "Split that chooses the model. This is always validation. validation-and-test also reports \
         the perplexity that a choice on the test split would have given."
    )
    .paper_says("a separate validation set", "section 4")
    .code_does("the test split"),
    // Checkpoints.
    field!(
        checkpoint.every_steps,
        Values::WholeOrAuto(1, MOST_OF_TOML),
        "Steps between two checkpoints, from which a run can be resumed. auto leaves it to \
         every_minutes. The end of a run and an interruption always make one."
    )
    .unit_of("steps"),
    field!(
        checkpoint.every_minutes,
        Values::Real(Interval::POSITIVE_OR_INF),
        "Minutes between two checkpoints, in addition to every_steps. inf leaves it to \
         every_steps."
    )
    .unit_of("minutes"),
    field!(
        checkpoint.keep_last,
        Values::Whole(1, MOST),
        "Number of newest checkpoints that are kept."
    )
    .unit_of("checkpoints"),
    // Optimizer.
    field!(
        optimizer.learning_rate,
        Values::Real(Interval::POSITIVE),
        "Peak learning rate of AdamW."
    )
    .paper_says("1e-4", "section 4"),
    field!(optimizer.beta1, Values::Real(Interval::BELOW_ONE), "Decay of the first moment.")
        .code_does("0.9"),
    field!(optimizer.beta2, Values::Real(Interval::BELOW_ONE), "Decay of the second moment.")
        .code_does("0.999"),
    field!(
        optimizer.epsilon,
        Values::Real(Interval::POSITIVE),
        "Added to the root of the second moment."
    )
    .code_does("1e-8"),
    field!(optimizer.weight_decay, Values::Real(Interval::NOT_NEGATIVE), "Decoupled weight decay.")
        .code_does("0.01"),
    field!(
        optimizer.decayed,
        words!(Decayed),
        "Parameters that weight decay applies to: all, or matrices, those of at least two \
         dimensions."
    )
    .code_does("all, also norms, biases and embeddings"),
    field!(
        optimizer.clip_norm,
        Values::Real(Interval::POSITIVE_OR_INF),
        "Global norm to which gradients are clipped. inf never clips."
    )
    .code_does("1.0"),
    field!(
        optimizer.schedule,
        words!(Schedule),
        "Learning rate after warm-up. constant stays at the peak. cosine is half a cosine from the \
         peak to final_share of it."
    ),
    field!(
        optimizer.warmup_steps,
        Values::Whole(0, MOST_OF_TOML),
        "Steps of linear warm-up. A warm-up longer than training ends with training."
    )
    .unit_of("steps"),
    field!(
        optimizer.final_share,
        Values::Real(Interval::SHARE),
        "Last learning rate of the cosine schedule, as a share of the peak."
    ),
];
