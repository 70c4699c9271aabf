//! Keys of a config that say nothing of what a model computes. Every other one is asked for, or
//! refused.

use super::Settings;
use crate::Result;

/// What the file is called and who wrote it.
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
    // Says of a Llama by another name that it is one.
    "is_llama_config",
];

/// What only training reads: this program has its own settings for it.
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

/// What a caller gets besides the scores, and how texts are continued.
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

/// What heads for something else read, and what changes memory and time only.
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
    // GPT-2's context by an older name: transformers reads `n_positions`.
    "n_ctx",
    // What the first GPT-2s were saved with; no release that knows `model_type` reads it.
    "n_special",
    "predict_special_tokens",
    // Of a decoder by nature; BERT, where it matters, asks for it.
    "is_decoder",
];

/// Refuses a key that was not asked for and is not known to say nothing.
pub(super) fn check(settings: &Settings<'_>) -> Result<()> {
    let lists = [ORIGIN, TRAINING, SERVING, WITHOUT_EFFECT];
    let is_known = |key: &str| {
        let is_token = key.ends_with("_token_id") || key.ends_with("_token_ids");
        key.starts_with('_') || is_token || lists.iter().any(|list| list.contains(&key))
    };

    match settings.unread().find(|(key, _)| !is_known(key)) {
        Some((key, value)) => {
            let expected =
                "no such key, as a model may compute with it (remove it if this one does not)";
            Err(settings.refuse(key, expected, &value.to_string()))
        }
        None => Ok(()),
    }
}
