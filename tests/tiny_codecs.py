"""ESPnet's codecs in a size that a test can train."""

import copy

RATE, HOP = 8000, 8
GENERATOR = {
    "hidden_dim": 8,
    "encdec_channels": 1,
    "encdec_n_filters": 2,
    "encdec_n_residual_layers": 1,
    "encdec_ratios": [4, 2],
    "encdec_lstm": 0,
    "quantizer_n_q": 4,
    "quantizer_bins": 16,
    "quantizer_kmeans_iters": 2,
    "quantizer_target_bandwidth": [4.0, 16.0],
}
MEL = {"fs": RATE, "range_start": 6, "range_end": 7, "n_mels": 8}
DISCRIMINATORS = {
    "vq_soundstream": {
        "scales": 1,
        "scale_discriminator_params": {
            "in_channels": 1,
            "out_channels": 1,
            "kernel_sizes": [5, 5, 3, 3],
            "channels": 4,
            "max_downsample_channels": 8,
            "max_groups": 2,
            "downsample_scales": [2],
        },
        "complexstft_discriminator_params": {
            "in_channels": 1,
            "channels": 2,
            "strides": [[1, 2], [2, 2]],
            "chan_mults": [1, 2],
            "n_fft": 64,
            "hop_length": 16,
            "win_length": 64,
        },
    },
    "vq_encodec": {
        "msstft_discriminator_params": {
            "filters": 2,
            "n_ffts": [64],
            "hop_lengths": [16],
            "win_lengths": [64],
        },
    },
    "vq_dac": {
        "msmpmb_discriminator_params": {
            "rates": [],
            "fft_sizes": [64],
            "sample_rate": RATE,
            "periods": [2],
            "period_discriminator_params": {
                "in_channels": 1,
                "out_channels": 1,
                "kernel_sizes": [5, 3],
                "channels": 2,
                "downsample_scales": [3, 1],
                "max_downsample_channels": 4,
            },
            "band_discriminator_params": {
                "hop_factor": 0.25,
                "sample_rate": RATE,
                "bands": [[0.0, 0.5], [0.5, 1.0]],
                "channel": 2,
            },
        },
    },
}


def codec_conf(codec, **more):
    generator = dict(GENERATOR)
    if codec == "vq_dac":
        generator |= {"quantizer_dropout": True}
    return {
        "sampling_rate": RATE,
        "generator_params": generator,
        "discriminator_params": copy.deepcopy(DISCRIMINATORS[codec]),
        "mel_loss_params": dict(MEL),
        **more,
    }
