"""What held-out speech sounds like after the codec, at every bandwidth."""

from typing import NamedTuple

import torch
from speechbrain.utils.distributed import if_main_process

from sb_espnet_vq.evaluation.codecs import cost, mean_quality, quality
from sb_espnet_vq.training.data import make_loader, minutes


class Example(NamedTuple):
    """A string of test speech, and what it sounds like at each bandwidth.

    name : str; signals : text, like "original" or "3.2 kbit/s", to (L,) float32.
    """

    name: str
    signals: dict[str, torch.Tensor]


def evaluate(brain, datasets, untrained):
    """Evaluate the checkpoint with the least mel distance on valid.

    Arguments
    ---------
    brain : CodecBrain
        After training.
    datasets : dict[str, DynamicItemDataset]
        train, valid and test.
    untrained : Codec
        As it was before training.

    Returns
    -------
    tuple[dict, list[Example]] | None
        All figures, of plain numbers and lists, and audio; None but on the main
        process.
    """
    hparams = dict(vars(brain.hparams))
    # Loading the best checkpoint takes the record back to its epoch.
    epochs = list(brain.hparams.record.epochs)
    brain.on_evaluate_start(min_key=brain.min_key)
    if not if_main_process():
        return None
    models = {"trained": hparams["codec"], "untrained": untrained.to(brain.device)}
    strings = list(test_strings(datasets["test"], hparams))
    levels = bandwidths_in_use(hparams["codec"], hparams["bandwidths"])
    rows = [
        {name: measure(model, strings, kbps) for name, model in models.items()}
        for kbps in levels
    ]
    some = strings[: hparams["reconstructions"]]
    results = {
        "utterances": {part: len(data) for part, data in datasets.items()},
        "minutes": {part: minutes(data) for part, data in datasets.items()},
        "parameters": sum(p.numel() for p in hparams["codec"].parameters()),
        "quantizer": hparams["quantizer"],
        "codebook_size": hparams["codec"].quantizer.codebook_size,
        "sample_rate": hparams["sample_rate"],
        "frame_rate": hparams["codec"].frame_rate,
        "steps": epochs[-1]["step"],
        "best_epoch": brain.hparams.record.epochs[-1]["epoch"],
        "bandwidths": rows,
        "epochs": epochs,
        "seconds": brain.seconds,
    }
    return results, [listen(hparams["codec"], *each, levels) for each in some]


def bandwidths_in_use(codec, bandwidths):
    """Leave out bandwidths that use as many codebooks as another.

    Arguments
    ---------
    codec : Codec
        Knows what each buys.
    bandwidths : list[float]
        In kbit/s.

    Returns
    -------
    list[float]
        The true rates in kbit/s, rising.
    """
    return [
        codec.bitrate(n) for n in sorted({codec.codebooks_for(b) for b in bandwidths})
    ]


def test_strings(dataset, hparams):
    """Strings of test speech, as they are joined for training.

    Arguments
    ---------
    dataset : DynamicItemDataset
        The test part.
    hparams : dict
        From the YAML.

    Yields
    ------
    tuple[str, torch.Tensor]
        The name of the first utterance, and (L,) float32.
    """
    for batch in make_loader(dataset, hparams):
        rows = zip(batch.ids, batch.signals, batch.samples, strict=True)
        yield from ((name, signal[:count]) for name, signal, count in rows)


def measure(codec, strings, bandwidth):
    """Send speech through a codec and compare.

    Arguments
    ---------
    codec : Codec
        Trained or not.
    strings : list[tuple[str, torch.Tensor]]
        From `test_strings`.
    bandwidth : float
        kbit/s.

    Returns
    -------
    dict[str, float]
        The figures of `Quality` and `Cost`.
    """
    codec.eval()
    qualities, all_codes, samples = [], [], 0
    for _, signal in strings:
        codes, estimate = send(codec, signal, bandwidth)
        qualities.append(quality(estimate, signal, codec.sample_rate))
        all_codes.append(codes)
        samples += len(signal)
    codes, size = torch.cat(all_codes), codec.quantizer.codebook_size
    spent = cost(codes, size, samples / codec.sample_rate)
    return mean_quality(qualities)._asdict() | spent._asdict()


def send(codec, signal, bandwidth):
    """Encode, and decode what came of it.

    Arguments
    ---------
    codec : Codec
        In eval mode.
    signal : torch.Tensor
        (L,) float32.
    bandwidth : float
        kbit/s.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        Codes (T, K) and audio (L,), both on the CPU.
    """
    device = next(codec.parameters()).device
    codes = codec.encode(signal[None].to(device), bandwidth=bandwidth)
    audio = codec.decode(codes)[0, : len(signal)]
    return codes[0].cpu(), audio.cpu()


def listen(codec, name, signal, bandwidths):
    """Make an example to listen to.

    Arguments
    ---------
    codec : Codec
        In eval mode.
    name : str
        Of the string.
    signal : torch.Tensor
        (L,) float32.
    bandwidths : list[float]
        kbit/s.

    Returns
    -------
    Example
    """
    signals = {"original": signal}
    for kbps in bandwidths:
        signals[f"{kbps:g} kbit/s"] = send(codec, signal, kbps)[1]
    return Example(name, signals)
