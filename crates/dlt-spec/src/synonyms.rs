//! Names that other programs use for the fields of a spec, so that the message about such a key
//! names ours.

/// One of our keys, and its names in transformers, PyTorch, nanoGPT, fairseq and llm.c: in lower
/// case with underscores, with blanks between them. A name that could mean several of our keys
/// belongs to the one that most people look for.
pub(crate) const SYNONYMS: &[(&str, &str)] = &[
    (
        "optimizer.learning_rate",
        "lr learning_rate peak_lr max_lr base_lr lr_max initial_lr eta alpha",
    ),
    ("optimizer.weight_decay", "wd decay weight_decay l2"),
    ("optimizer.beta1", "beta_1 adam_beta1 b1 momentum"),
    ("optimizer.beta2", "beta_2 adam_beta2 b2"),
    ("optimizer.epsilon", "eps adam_epsilon adam_eps"),
    (
        "optimizer.clip_norm",
        "clip grad_clip gradient_clip clip_grad clip_grad_norm max_grad_norm max_norm",
    ),
    ("optimizer.schedule", "scheduler lr_scheduler lr_scheduler_type lr_schedule decay_lr"),
    ("optimizer.warmup_steps", "warmup warmup_iters num_warmup_steps warmup_updates"),
    ("optimizer.final_share", "min_lr final_lr lr_min min_lr_ratio"),
    (
        "training.batch",
        "bs batch batch_size train_batch_size per_device_train_batch_size global_batch_size \
         total_batch_size",
    ),
    (
        "training.micro_batch",
        "micro_batch_size microbatch mbs grad_accum gradient_accumulation_steps grad_accumulation \
         accumulate_grad_batches",
    ),
    (
        "training.steps",
        "iters max_iters max_steps num_steps num_train_steps train_steps iterations max_updates",
    ),
    ("training.epochs", "epoch n_epochs num_epochs num_train_epochs max_epochs passes"),
    (
        "training.checkpointing",
        "gradient_checkpointing grad_checkpointing activation_checkpointing recompute",
    ),
    ("training.activations", "dtype precision fp16 bf16 amp torch_dtype mixed_precision autocast"),
    (
        "evaluation.every_steps",
        "eval_interval eval_steps eval_every val_check_interval val_loss_every validate_interval",
    ),
    ("evaluation.windows", "eval_iters val_max_batches limit_val_batches max_eval_samples"),
    ("evaluation.batch", "eval_batch_size per_device_eval_batch_size val_batch_size"),
    ("checkpoint.every_steps", "save_steps save_interval save_every checkpoint_interval"),
    ("checkpoint.keep_last", "save_total_limit keep_checkpoints max_checkpoints"),
    (
        "model.layers",
        "n_layer n_layers num_layers num_hidden_layers depth num_blocks n_blocks layer",
    ),
    (
        "model.width",
        "n_embd hidden_size d_model dim embed_dim emb_dim embedding_size hidden_dim channels",
    ),
    ("model.heads", "n_head n_heads num_heads num_attention_heads nhead"),
    ("model.key_heads", "num_key_value_heads n_kv_heads n_kv_head kv_heads num_kv_heads"),
    (
        "model.feed_forward",
        "n_inner intermediate_size d_ff dim_feedforward ffn_dim mlp_dim ffn_hidden_size",
    ),
    (
        "model.context",
        "seq_len seq_length sequence_length max_seq_len max_seq_length block_size context_length \
         ctx n_ctx window",
    ),
    ("model.positions", "n_positions max_position_embeddings"),
    ("model.vocabulary", "vocab vocab_size padded_vocab_size n_vocab"),
    (
        "model.dropout",
        "dropout drop resid_pdrop attn_pdrop embd_pdrop hidden_dropout_prob attention_dropout \
         drop_rate",
    ),
    ("model.initial_std", "initializer_range init_std"),
    ("model.norm_epsilon", "layer_norm_epsilon layer_norm_eps rms_norm_eps norm_eps"),
    ("model.rotary_base", "rope_theta rope_base"),
    ("model.output", "tie_word_embeddings tie_embeddings weight_tying"),
    ("model.gelu", "activation_function hidden_act activation act"),
    ("model.architecture", "model_type arch model architecture"),
    ("model.classes", "num_labels num_classes n_classes"),
    ("model.picture", "image_size img_size resolution"),
    ("model.patch", "patch_size"),
    ("model.start", "init_from pretrained checkpoint model_name_or_path resume_from from"),
    ("data.source", "dataset dataset_name data train_file data_path data_dir corpus"),
    ("data.tokenizer", "tokenizer_name tokenizer tokenizer_path enc"),
    ("data.split", "validation_split_percentage val_split test_size train_split"),
    ("data.mask_share", "mlm_probability mask_prob"),
    ("seed", "random_seed manual_seed rng_seed torch_seed root_seed"),
    ("tying.decide_every", "k decision_interval update_every"),
    ("agent.gamma", "discount discount_factor"),
    ("agent.epsilon_start", "exploration eps_start"),
];

/// Our key with the meaning of another program's name, whatever section the name is in.
pub(crate) fn meant(key: &str) -> Option<&'static str> {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase().replace('-', "_");
    let holds = |(_, names): &&(&str, &str)| names.split(' ').any(|known| known == name);
    SYNONYMS.iter().find(holds).map(|(ours, _)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields;

    #[test]
    fn law_every_synonym_means_one_key_that_exists() {
        let mut seen = Vec::new();

        for (key, names) in SYNONYMS {
            assert!(fields::find(key).is_some(), "{key} is no key");
            for name in names.split(' ') {
                let found = name.to_ascii_lowercase().replace('-', "_");
                assert!(*name == found && !name.is_empty(), "{name:?} is never found");
                assert!(!seen.contains(&name), "{name} means two keys");
                seen.push(name);
            }
        }
    }

    #[test]
    fn names_of_other_programs_are_known() {
        for (name, key) in [
            ("lr", "optimizer.learning_rate"),
            ("training.batch_size", "training.batch"),
            ("n-layer", "model.layers"),
            ("model.hidden_size", "model.width"),
            ("Block_Size", "model.context"),
            ("wd", "optimizer.weight_decay"),
        ] {
            assert_eq!(meant(name), Some(key), "{name}");
        }

        assert_eq!(meant("lrx"), None);
    }
}
