"""ESPnet's codecs in a size that a test can train."""

import copy

from sb_espnet_vq import list_quantizers

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


_PERIODS = {
    "periods": [2],
    "period_discriminator_params": DISCRIMINATORS["vq_dac"][
        "msmpmb_discriminator_params"
    ]["period_discriminator_params"],
}
_SCALES = DISCRIMINATORS["vq_soundstream"]
DISCRIMINATORS["vq_funcodec"] = _SCALES | _PERIODS
DISCRIMINATORS["vq_hificodec"] = {
    **DISCRIMINATORS["vq_encodec"],
    **{name: _SCALES[name] for name in ("scales", "scale_discriminator_params")},
    "periods": _PERIODS["periods"],
    "periods_discriminator_params": _PERIODS["period_discriminator_params"],
}
QUANTIZER = {name: each for name, each in GENERATOR.items() if "quantizer" in name}
# A frame is 8 samples in these too: a hop of 4, and every second spectrum.
GENERATORS = {
    "vq_dac": GENERATOR | {"quantizer_dropout": True},
    "vq_funcodec": GENERATOR
    | {
        "codebook_dim": 8,
        "encdec_channels": 3,
        "encdec_ratios": [[4, 1], [2, 2]],
        "encdec_lstm": 1,
        "codec_domain": ["mag_phase", "mag_phase"],
        "domain_conf": {"n_fft": 16, "hop_length": 4},
    },
    "vq_hificodec": QUANTIZER
    | {
        "hidden_dim": 256,
        "resblock_num": "2",
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
        "upsample_rates": [2, 2, 2, 1],
        "upsample_kernel_sizes": [4, 4, 4, 1],
        "upsample_initial_channel": 16,
    },
}


def pairs():
    """Codecs with the quantizers to test them with: all for the first.

    The swap matrix trains all of them in ESPnet's other codecs.
    """
    few = dict.fromkeys(list(DISCRIMINATORS)[1:], ["rvq", "bsq"])
    return [
        (codec, name)
        for codec in DISCRIMINATORS
        for name in few.get(codec, list_quantizers())
    ]


def frames_of(codec, samples):
    """Frames of a codec; FunCodec's spectra begin and end at the edges."""
    return samples // HOP + (codec == "vq_funcodec")


def streams_of(codec, n_codebooks):
    """Codes per frame: HiFi-Codec has two quantizers."""
    return n_codebooks * (2 if codec == "vq_hificodec" else 1)


def codec_conf(codec, **more):
    return {
        "sampling_rate": RATE,
        "generator_params": copy.deepcopy(GENERATORS.get(codec, GENERATOR)),
        "discriminator_params": copy.deepcopy(DISCRIMINATORS[codec]),
        "mel_loss_params": dict(MEL),
        **more,
    }
