"""A recognizer that a run of recipes/CTC trained, loaded to transcribe audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from speechbrain.decoders.ctc import ctc_greedy_decode
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sb_espnet_vq.errors import CheckpointError
from sb_espnet_vq.recognition.base import Input
from sb_espnet_vq.recognition.vocabulary import BLANK, Vocabulary
from sb_espnet_vq.training.checkpoints import WholeCheckpointer
from sb_espnet_vq.training.trained import best_checkpoint, read_run

# The recipe selects its best checkpoint by this metric.
_MIN_KEY = "word_error"


class SavedRecognizer(nn.Module):
    """Transcribes audio; see `load_recognizer`.

    Attributes
    ----------
    sample_rate : int
        In Hz, of the audio that it was trained on.

    Arguments
    ---------
    source : Input
        Computes frames of audio.
    network : torch.nn.Module
        Maps frames to log-probabilities of the units.
    vocabulary : Vocabulary
        The units.
    sample_rate : int
        As above.
    """

    def __init__(
        self,
        source: Input,
        network: nn.Module,
        vocabulary: Vocabulary,
        sample_rate: int,
    ):
        super().__init__()
        self.source, self.network = source, network
        self.vocabulary, self.sample_rate = vocabulary, sample_rate

    @torch.no_grad()
    def transcribe(self, signals: Sequence[Tensor]) -> list[list[str]]:
        """Return the words of some signals, by greedy decoding.

        Arguments
        ---------
        signals : sequence of torch.Tensor
            Each (L,) float32, at ``sample_rate``.

        Returns
        -------
        list of list of str
            The words of each.
        """
        if not signals:
            return []
        self.eval()
        device = next(self.network.parameters()).device
        inputs = [self.source.prepare(signal).to(device) for signal in signals]
        samples = torch.tensor([len(each) for each in inputs], device=device)
        frames, lengths = self.source(pad_sequence(inputs, True), samples)
        log_probs = self.network(frames, lengths)
        shares = lengths / log_probs.shape[1]
        decoded = ctc_greedy_decode(log_probs, shares, blank_id=BLANK)
        return [self.vocabulary.words(units) for units in decoded]


def load_recognizer(folder: str | Path) -> SavedRecognizer:
    """Load the best checkpoint of a run of recipes/CTC.

    Loading the run's hyperparams.yaml executes the code that it names: load only runs
    that you trust.

    Arguments
    ---------
    folder : str or Path
        The run's output folder.

    Returns
    -------
    SavedRecognizer
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If there is no such run or checkpoint, or it is one of another recipe.
    """
    file = Path(folder, "vocabulary.json")
    best = best_checkpoint(folder, _MIN_KEY)
    if not file.is_file():
        raise CheckpointError(f"{folder}: no run of recipes/CTC; it has {file.name}")
    symbols = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = Vocabulary(symbols["units"], symbols["symbols"])
    hparams = read_run(folder)
    source = hparams["source"]
    network = hparams["recognizer"](source.width, len(vocabulary))
    modules = {"source": source, "recognizer": network}
    WholeCheckpointer(best.path.parent, modules).load_checkpoint(best)
    rate = hparams["sample_rate"]
    return SavedRecognizer(source, network, vocabulary, rate).eval()
