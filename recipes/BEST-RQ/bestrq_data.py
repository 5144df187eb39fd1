"""Datasets and loaders over the manifests that were prepared."""

import logging
from pathlib import Path

import speechbrain as sb
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.dataset import DynamicItemDataset

from sb_espnet_vq.corpora import CorpusError, read_audio
from sb_espnet_vq.lobes.batches import JoinShort

logger = logging.getLogger(__name__)


def read_datasets(hparams, data_root):
    """Read the three manifests.

    Arguments
    ---------
    hparams : dict
        From the YAML; gets `collate`, which makes batches.
    data_root : Path
        What `$data_root` stands for in the manifests.

    Returns
    -------
    dict[str, DynamicItemDataset]
        train (without what is too long or too short to train on), valid, test.
    """
    rate = hparams["sample_rate"]
    hparams["collate"] = JoinShort(rate, hparams["join_seconds"])

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio(wav):
        return read_audio(wav, rate)

    datasets = {}
    for part in ("train", "valid", "test"):
        path = Path(hparams["output_folder"], f"{part}.csv")
        data = DynamicItemDataset.from_csv(path, {"data_root": data_root})
        data.add_dynamic_item(audio)
        data.set_output_keys(["id", "sig"])
        datasets[part] = data
    datasets["train"] = _of_fit_length(datasets["train"], hparams)
    return datasets


def make_loader(dataset, hparams, collate=None):
    """Batches for evaluation, in the order of the manifest.

    Arguments
    ---------
    dataset : DynamicItemDataset
        One of the three.
    hparams : dict
        From the YAML.
    collate : callable, optional
        Makes batches; by default as in training.

    Returns
    -------
    SaveableDataLoader
    """
    return SaveableDataLoader(
        dataset,
        collate_fn=collate or hparams["collate"],
        **hparams["test_dataloader_options"],
    )


def _of_fit_length(dataset, hparams):
    shortest = hparams["avoid_if_shorter_than"]
    longest = hparams["avoid_if_longer_than"]
    fit = dataset.filtered_sorted(
        key_min_value={"duration": shortest}, key_max_value={"duration": longest}
    )
    dropped = len(dataset) - len(fit)
    if not len(fit):
        raise CorpusError(
            f"none of the {len(dataset)} training utterances lasts between {shortest} "
            f"and {longest} s (avoid_if_shorter_than, avoid_if_longer_than)"
        )
    if dropped:
        logger.warning(
            "%d of %d training utterances are left out: not between %g and %g s",
            dropped,
            len(dataset),
            shortest,
            longest,
        )
    return fit
