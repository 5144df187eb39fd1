"""Valid values of the hyperparameters of all recipes.

A nested key is declared as `PARENT.KEY`. Undeclared keys are not checked, since a
copied recipe may have its own.
"""

from __future__ import annotations

from sb_espnet_vq.evaluation.metrics.table import METRICS
from sb_espnet_vq.training.kinds import (
    FLAG,
    MAPPING,
    TEXT,
    Kind,
    Number,
    OfType,
    OneOf,
    OrNull,
    Several,
    Shares,
    whole,
)

_POSITIVE = Number(above=0)
_WEIGHT = Number(least=0)
_SIZE = whole(1)
_COUNT = whole(0)
_SIZES = Several(_SIZE)
_PROBABILITY = Number(least=0, most=1)
_DROPOUT = Number(least=0, below=1)
_PATH = OrNull(TEXT)
_NAMES = OrNull(Several(TEXT))
_FOLDS = OrNull(Several(OfType(int | str, "a number or a name")))

# Keys that an evaluation of a trained model may change: they affect neither the model
# nor its training.
EVALUATION = frozenset(
    {
        "asr",
        "bandwidths",
        "beam",
        "cache_folder",
        "compare_with",
        "eval_precision",
        "metrics",
        "num_workers",
        # A run that the checkpoint's weights belong to, if it was moved.
        "pretrained",
        "probe_draws",
        "probe_labels",
        "probe_layer",
        "reconstructions",
        "tokens",
        "versa",
    }
)

DECLARED: dict[str, Kind] = {
    # The run
    "seed": whole(0, 2**32 - 1),
    "output_folder": TEXT,
    "save_folder": TEXT,
    "train_log": TEXT,
    "num_workers": _COUNT,
    "ckpt_interval_minutes": whole(-1),
    "ckpt_interval_steps": whole(-1),
    "test_dataloader_options.batch_size": _SIZE,
    # Data
    "data_folder": _PATH,
    "manifest": _PATH,
    "cache_folder": _PATH,
    "train_splits": _NAMES,
    "dev_splits": _NAMES,
    "test_splits": _NAMES,
    "train_folds": _FOLDS,
    "test_folds": _FOLDS,
    "held_out": Shares(2),
    "esc10_only": FLAG,
    "n_classes": whole(2),
    "sample_rate": whole(1000, 768_000),
    "avoid_if_longer_than": _POSITIVE,
    "avoid_if_shorter_than": Number(least=0),
    "join_seconds": Number(least=0),
    "segment_seconds": _POSITIVE,
    "train_minutes": OrNull(_POSITIVE),
    "units": OneOf(("characters", "words")),
    # Training
    "number_of_epochs": _SIZE,
    "classifier_epochs": _SIZE,
    "piq_epochs": _SIZE,
    "optimizer_step_limit": OrNull(_SIZE),
    "lr": _POSITIVE,
    "encoder_lr": _POSITIVE,
    "classifier_lr": _POSITIVE,
    "piq_lr": _POSITIVE,
    "warmup_steps": _COUNT,
    "weight_decay": _WEIGHT,
    "optimizer.weight_decay": _WEIGHT,
    "optimizer.betas": Several(Number(least=0, below=1), 2),
    "optimizer.eps": _POSITIVE,
    # 0 or below: no clipping.
    "max_grad_norm": Number(),
    "seconds_per_batch": _POSITIVE,
    "train_num_buckets": _SIZE,
    "grad_accumulation_factor": _SIZE,
    "find_unused_parameters": FLAG,
    "nonfinite_patience": _COUNT,
    "precision": OneOf(("fp32", "fp16", "bf16")),
    "eval_precision": OneOf(("fp32", "fp16", "bf16")),
    # Features
    "n_fft": whole(2),
    "win_length": _SIZE,
    "hop_length": _SIZE,
    "frames": _SIZE,
    "n_mels": _SIZE,
    "f_max": OrNull(_POSITIVE),
    "stack": _SIZE,
    "pad_to_divisible_by": _SIZE,
    "normalize.update_until_epoch": _SIZE,
    "extractor_channels": _SIZES,
    "extractor_kernels": _SIZES,
    "extractor_strides": _SIZES,
    # Masks
    "mask_prob": Number(above=0, most=1),
    "mask_length": _SIZE,
    "noise_mean": Number(),
    "noise_std": Number(least=0),
    # Quantizers
    "quantizer": TEXT,
    "quantizer_conf": MAPPING,
    "p_input": _SIZE,
    "cb_dim": _SIZE,
    "cb_vocab": _SIZE,
    "num_vars": _SIZE,
    "codebook_size": _SIZE,
    "n_codebooks": _SIZE,
    "shared_keys": _COUNT,
    "bandwidths": Several(_POSITIVE),
    "temperature": Several(_POSITIVE, 3),
    "latent_dim": _SIZE,
    "final_dim": _SIZE,
    # Input of a recognizer
    "pretrained": _PATH,
    "untrained": FLAG,
    "encoder_use": OneOf(("frozen", "fine_tuned", "weighted_sum")),
    "tokens": _PATH,
    "token_codebooks": OrNull(_SIZE),
    "token_stack": _SIZE,
    "token_embedding": OneOf(("codebook", "learned")),
    # Networks
    "hidden_size": _SIZE,
    "num_layers": _SIZE,
    "dim": _SIZE,
    "channels": _SIZE,
    "ratios": _SIZES,
    "residual_units": _SIZE,
    "causal": FLAG,
    "kernel_size": _SIZE,
    "d_model": _SIZE,
    "embedding_dim": _SIZE,
    "d_ffn": _SIZE,
    "nhead": _SIZE,
    "num_encoder_layers": _SIZE,
    "dropout": _DROPOUT,
    "transformer_dropout": _DROPOUT,
    "encoder_layerdrop": _DROPOUT,
    "streaming": FLAG,
    "CNN.dim": _SIZE,
    "CNN.unflattened_size": Several(whole(-1)),
    "CNN.input_shape": _SIZES,
    "CNN.num_blocks": _SIZE,
    "CNN.num_layers_per_block": _SIZE,
    "CNN.out_channels": _SIZES,
    "CNN.kernel_sizes": _SIZES,
    "CNN.strides": _SIZES,
    "Transformer.input_size": _SIZE,
    "Transformer.num_decoder_layers": _COUNT,
    "positional_encoding.max_len": _SIZE,
    "dynchunktrain_config_sampler.chunkwise_prob": _PROBABILITY,
    "dynchunktrain_config_sampler.chunk_size_min": _SIZE,
    "dynchunktrain_config_sampler.chunk_size_max": _SIZE,
    "dynchunktrain_config_sampler.limited_left_context_prob": _PROBABILITY,
    "dynchunktrain_config_sampler.left_context_chunks_min": _COUNT,
    "dynchunktrain_config_sampler.left_context_chunks_max": _COUNT,
    "valid_config.chunk_size": _SIZE,
    "valid_config.left_context_size": _COUNT,
    "discriminator.windows": _SIZES,
    "discriminator.channels": _SIZE,
    "spectral_loss.windows": _SIZES,
    "spectral_loss.n_mels": _SIZES,
    # Losses
    "num_negatives": _SIZE,
    "logit_temperature": _POSITIVE,
    "diversity_weight": _WEIGHT,
    "wave_weight": _WEIGHT,
    "stft_weight": _WEIGHT,
    "mel_weight": _WEIGHT,
    "quantizer_weight": _WEIGHT,
    "adversarial_weight": _WEIGHT,
    "feature_weight": _WEIGHT,
    "adversarial_start": _COUNT,
    "mask_weight": _WEIGHT,
    "mask_threshold": Number(above=0, below=1),
    "vq_weight": _WEIGHT,
    "commitment_weight": _WEIGHT,
    "fidelity_weight": _WEIGHT,
    # Evaluation
    "probe_layer": whole(-1),
    "probe_labels": _SIZES,
    "probe_draws": _SIZE,
    "reconstructions": _SIZE,
    "beam": _SIZE,
    "metrics": OrNull(Several(OneOf(tuple(METRICS)))),
    "asr": _PATH,
    "versa": FLAG,
    "compare_with": _NAMES,
}
