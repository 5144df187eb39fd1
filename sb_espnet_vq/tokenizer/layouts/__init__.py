"""State dicts of quantizers elsewhere, by name: `LAYOUTS`."""

from sb_espnet_vq.tokenizer.layouts import (
    dac,
    encodec,
    gumbel,
    mimi,
    random_projection,
    tables,
)
from sb_espnet_vq.tokenizer.layouts.base import Layout

LAYOUTS: dict[str, Layout] = {
    "encodec": encodec.ENCODEC,
    "transformers_encodec": encodec.TRANSFORMERS_ENCODEC,
    "dac": dac.DAC,
    "dac_parametrized": dac.DAC_PARAMETRIZED,
    "transformers_dac": dac.TRANSFORMERS_DAC,
    "mimi": mimi.MIMI,
    "transformers_mimi": mimi.TRANSFORMERS_MIMI,
    "speechbrain_best_rq": random_projection.SPEECHBRAIN_BEST_RQ,
    "nemo_best_rq": random_projection.NEMO_BEST_RQ,
    "speechbrain_gumbel": gumbel.SPEECHBRAIN_GUMBEL,
    "transformers_wav2vec2": gumbel.TRANSFORMERS_WAV2VEC2,
    "speechbrain_piq": tables.SPEECHBRAIN_PIQ,
    "kmeans": tables.KMEANS,
}
