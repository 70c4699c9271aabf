//! Keys of a config that say nothing about what a model computes. Every other key is read or
//! refused.

use super::Settings;
use crate::Result;

/// Name and origin of the file.
const ORIGIN: &[&str] = &[
    "author",
    "created_date",
    "name_or_path",
    "transformers_version",
    "transformers.js_config",
    "dtype",
    "torch_dtype",
    "use_bfloat16",
    "torchscript",
    "attn_implementation",
    "tokenizer_class",
    "language",
    "license",
    "unsloth_fixed",
    "unsloth_version",
    // Marks a Llama that has another name.
    "is_llama_config",
];

/// Keys that only training reads. This program has its own settings for them.
const TRAINING: &[&str] = &[
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "embd_pdrop",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "initializer_factor",
    "initializer_range",
    "layerdrop",
    "summary_first_dropout",
    "tf_legacy_loss",
];

/// Keys about what a caller gets besides the scores, and about how texts are continued.
const SERVING: &[&str] = &[
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    "use_return_dict",
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "model_max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Keys that only heads of other tasks read, and keys that change memory and time only.
const WITHOUT_EFFECT: &[&str] = &[
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "directionality",
    "pooler_act",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_output_size",
    "pooler_size_per_head",
    "pooler_type",
    "encoder_stride",
    "base_model_pp_plan",
    "base_model_tp_plan",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "pretraining_tp",
    // The older name of GPT-2's context; transformers reads `n_positions`.
    "n_ctx",
    // Keys of the first GPT-2 files; no release that knows `model_type` reads them.
    "n_special",
    "predict_special_tokens",
    // Says nothing about a family that is always a decoder. BERT's reader reads it.
    "is_decoder",
];

/// Refuses a key that no reader has read and that is not in the lists above.
pub(super) fn check(settings: &Settings<'_>) -> Result<()> {
    let lists = [ORIGIN, TRAINING, SERVING, WITHOUT_EFFECT];
    let is_known = |key: &str| {
        let is_token = key.ends_with("_token_id") || key.ends_with("_token_ids");
        key.starts_with('_') || is_token || lists.iter().any(|list| list.contains(&key))
    };

    match settings.unread().find(|(key, _)| !is_known(key)) {
        Some((key, value)) => {
            let expected =
                "no such key, as a model may compute with it (remove it if this model does not)";
            Err(settings.refuse(key, expected, &value.to_string()))
        }
        None => Ok(()),
    }
}
