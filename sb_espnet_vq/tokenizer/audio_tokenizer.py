"""`AudioTokenizer`: a trained model as an encoder of audio to tokens, and back."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from sb_espnet_vq.corpora.audio import read_audio
from sb_espnet_vq.errors import CheckpointError, ConfigError, CorpusError, ShapeError
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.tokenizer import hub_folder, trees
from sb_espnet_vq.tokenizer.kinds import MODELS, read_run
from sb_espnet_vq.tokenizer.rows import by_length, pad, row_lengths
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource

FORMAT = 1


class AudioTokenizer(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="sb_espnet_vq",
    tags=["audio", "vector-quantization"],
):
    """Encodes audio to discrete tokens; decodes them, if the model is a codec.

    `from_run` reads a run of a recipe of this package or of ESPnet's codec training.
    ``save_pretrained(DIR)``, ``from_pretrained(DIR or hub id)`` and ``push_to_hub(ID)``
    are those of huggingface_hub: a folder with config.json and model.safetensors, which
    can be loaded without the run. Nothing in it is pickled, and it can name no other
    classes than those that a tokenizer consists of (`trees.CLASSES`).

    The tokens of an utterance do not depend on its batch: rows of equal length are
    computed together, and no row is padded. A code whose score equals another's up to
    rounding may differ.

    Arguments
    ---------
    config : dict
        ``format`` (1), ``kind`` (a key of `kinds.MODELS`) and ``options``, the tree of
        the model's arguments.

    Attributes
    ----------
    model : TokenModel
        The networks.

    Raises
    ------
    ConfigError
        If the configuration is not one of this version, or names a class that no
        tokenizer consists of.

    Example
    -------
    >>> sizes = {"dim": 8, "channels": 4, "ratios": [4, 5]}
    >>> networks = "sb_espnet_vq.codec.networks"
    >>> codec = {"sample_rate": 8000, "dim": 8, "codebook_size": 16, "n_codebooks": 4}
    >>> codec["encoder"] = {"class": f"{networks}.ConvEncoder", "options": sizes}
    >>> codec["decoder"] = {"class": f"{networks}.ConvDecoder", "options": sizes}
    >>> model = {"class": "sb_espnet_vq.codec.model.Codec", "options": codec}
    >>> config = {"format": 1, "kind": "codec", "options": {"codec": model}}
    >>> tokenizer = AudioTokenizer(config)
    >>> tokenizer.sample_rate, tokenizer.frame_rate, tokenizer.codebook_sizes
    (8000, 400.0, (16, 16, 16, 16))
    >>> codes, lengths = tokenizer.encode(torch.randn(2, 810), torch.tensor([810, 400]))
    >>> codes.shape, lengths
    (torch.Size([2, 41, 4]), tensor([41, 20]))
    >>> tokenizer.decode(codes, lengths).shape
    torch.Size([2, 820])
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        _check(config)
        self.config = config
        model = MODELS[config["kind"]]
        self.model = model(**trees.build(config["options"])).eval()
        self.requires_grad_(False)

    @classmethod
    def from_run(cls, folder: str | Path) -> AudioTokenizer:
        """Load the best checkpoint of a recipe's run, or the model of an ESPnet run.

        Arguments
        ---------
        folder : str or Path
            The output folder of BEST-RQ, wav2vec 2.0 or the codec; or the ``expdir``
            of ESPnet's codec training, whose latest.pth is loaded.

        Returns
        -------
        AudioTokenizer
            On the CPU, in eval mode.

        Raises
        ------
        CheckpointError
            If the folder is no such run, its checkpoint is missing, unreadable or that
            of another model.
        ConfigError
            If the run contains a class that no tokenizer consists of.
        """
        kind, options, state = read_run(folder)
        tokenizer = cls({"format": FORMAT, "kind": kind, "options": options})
        # Constants of the features are not in checkpoints.
        constant = "compute_features."
        own = tokenizer.model.state_dict()
        state |= {k: v for k, v in own.items() if k.startswith(constant)}
        hub_folder.load_state(tokenizer.model, state, str(folder))
        return tokenizer

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.model.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second (Hz)."""
        return self.model.sample_rate / self.model.hop

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each codebook."""
        return self.model.quantizer.codebook_sizes

    def codebook_vectors(self) -> Tensor:
        """Return (K, V, D), as `Quantizer.codebook_vectors` does.

        Raises
        ------
        ConfigError
            If the values of the codebooks do not add up, or are too many to list.
        """
        return self.model.quantizer.codebook_vectors()

    @torch.no_grad()
    def encode(
        self,
        signals: Tensor,
        lengths: Tensor | None = None,
        n_codebooks: int | None = None,
        beam: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the codes of audio.

        Arguments
        ---------
        signals : torch.Tensor
            (B, L) float, at ``sample_rate``, padded at the end.
        lengths : torch.Tensor, optional
            (B,) int64, valid samples of each row. Default: all.
        n_codebooks : int, optional
            Use only the first codebooks. Default: all.
        beam : int, optional
            Chains of codes that the search of a residual quantizer keeps (see its
            ``encode``): more give audio that is closer to the input, in more time.
            Default: ``codec_conf.beam`` of an ESPnet codec, otherwise 1.

        Returns
        -------
        codes : torch.Tensor
            (B, T, n_codebooks) int64, -1 in padding and at frames that are not finite
            (ESPnet's codecs included).
        code_lengths : torch.Tensor
            (B,) int64, frames of each row. Audio that is too short for a frame has
            none.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        ConfigError
            If there are fewer codebooks than ``n_codebooks``, or the quantizer cannot
            search with this beam.
        """
        used = self._used(n_codebooks)
        chains = self.model.beam if beam is None else beam
        options = beam_options(self.model.quantizer, chains) | {"n_codebooks": used}
        rows = self._of_signals(
            signals, lengths, lambda rows: self.model.codes(rows, **options)
        )
        none = torch.zeros(0, used, dtype=torch.int64, device=self._device())
        return pad([none if row is None else row for row in rows], -1)

    @torch.no_grad()
    def features(
        self, signals: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the output of the encoder: for codecs, the frames before quantization.

        Arguments
        ---------
        signals, lengths
            As in ``encode``.

        Returns
        -------
        frames : torch.Tensor
            (B, T, D) float32, 0 in padding.
        frame_lengths : torch.Tensor
            (B,) int64.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        rows = self._of_signals(signals, lengths, self.model.features)
        width = next((row.shape[1] for row in rows if row is not None), 0)
        none = torch.zeros(0, width, device=self._device())
        return pad([none if row is None else row for row in rows], 0)

    @torch.no_grad()
    def decode(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the audio of codes.

        Arguments
        ---------
        codes : torch.Tensor
            (B, T, K) integers of the first K codebooks.
        lengths : torch.Tensor, optional
            (B,) int64, frames of each row, as ``encode`` returns them. Default: up to
            the last frame that has a code.

        Returns
        -------
        torch.Tensor
            (B, L) float32, 0 in padding; ``sample_rate / frame_rate`` samples a frame.

        Raises
        ------
        ConfigError
            If the model is no codec.
        ShapeError
            If a shape or dtype is wrong.
        ValueError
            If a code is out of range.
        """
        if not isinstance(codes, Tensor) or codes.dim() != 3 or not len(codes):
            got = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes)
            raise ShapeError(f"codes must be (B, T, K) with B above 0, got {got}")
        codes = codes.to(self._device())
        if lengths is None:
            steps = torch.arange(1, codes.shape[1] + 1, device=codes.device)
            valid = steps * (codes >= 0).any(-1)
            counts = [int(row.max()) if len(row) else 0 for row in valid]
        else:
            counts = row_lengths(lengths, len(codes), codes.shape[1], "frames")
        rows = by_length(codes, counts, self.model.audio)
        none = torch.zeros(0, device=codes.device)
        return pad([none if row is None else row for row in rows], 0)[0]

    def encode_file(
        self,
        path: str | Path,
        n_codebooks: int | None = None,
        beam: int | None = None,
    ) -> Tensor:
        """Return the codes of an audio file.

        Arguments
        ---------
        path : str or Path
            In any format of libsndfile; it is mixed to mono and resampled.
        n_codebooks, beam : int, optional
            As in ``encode``.

        Returns
        -------
        torch.Tensor
            (T, n_codebooks) int64.

        Raises
        ------
        CorpusError
            If the file cannot be read, is empty or has samples that are not finite.
        """
        return self.tokens_of_file(path, n_codebooks, beam).codes

    def tokens_of_file(
        self,
        path: str | Path,
        n_codebooks: int | None = None,
        beam: int | None = None,
    ) -> Tokens:
        """Return the codes of an audio file with what a file of tokens records.

        Arguments
        ---------
        path, n_codebooks, beam
            As in ``encode_file``.

        Returns
        -------
        Tokens
            On the CPU.

        Raises
        ------
        CorpusError
            As ``encode_file``.
        """
        signal = read_audio(path, self.sample_rate)
        if not bool(signal.isfinite().all()):
            raise CorpusError(f"{path}: it has samples that are NaN or infinite")
        codes, _ = self.encode(signal[None], None, n_codebooks, beam)
        return Tokens(codes[0].cpu(), len(signal), self.source(n_codebooks))

    @functools.cached_property
    def _fingerprint(self) -> str:
        return hub_folder.fingerprint(self.config, self.model)

    def source(self, n_codebooks: int | None = None) -> TokenSource:
        """Return what a file of tokens records about its model.

        Arguments
        ---------
        n_codebooks : int, optional
            Codebooks in use. Default: all.

        Returns
        -------
        TokenSource

        Raises
        ------
        ConfigError
            If there are fewer codebooks than ``n_codebooks``.
        """
        return TokenSource(
            self.config["kind"],
            self._fingerprint,
            self.sample_rate,
            self.model.hop,
            tuple(self.codebook_sizes[: self._used(n_codebooks)]),
        )

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save config.json, model.safetensors and a model card into a folder.

        Each file is replaced atomically, so a full disk leaves a usable folder. A model
        card that is there stays.

        Arguments
        ---------
        save_directory : str or Path
            Created if missing.
        **options
            As in huggingface_hub: ``push_to_hub``, ``repo_id``, ...

        Returns
        -------
        str, optional
            Address of the commit, if it was pushed.
        """
        with hub_folder.staged(save_directory) as folder:
            card = Path(save_directory, "README.md")
            if card.is_file():
                shutil.copy(card, folder)
            if options.get("push_to_hub"):
                options.setdefault("repo_id", Path(save_directory).name)
            return super().save_pretrained(folder, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        hub_folder.write_weights(self.model, save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config=None, **options: Any):
        if config is None:
            raise CheckpointError(
                f"{model_id}: no tokenizer, since it has no config.json; save one with "
                "AudioTokenizer.from_run(RUN).save_pretrained(DIR)"
            )
        tokenizer = cls(config)
        state = hub_folder.read_weights(model_id, options)
        hub_folder.load_state(tokenizer.model, state, model_id)
        return tokenizer.to(options.get("map_location", "cpu"))

    def _of_signals(
        self,
        signals: Tensor,
        lengths: Tensor | None,
        call: Callable[[Tensor], Tensor],
    ) -> list[Tensor | None]:
        good = isinstance(signals, Tensor) and signals.dim() == 2 and len(signals)
        if not good or not signals.is_floating_point():
            got = type(signals).__name__
            if isinstance(signals, Tensor):
                got = f"{tuple(signals.shape)} {signals.dtype}"
            raise ShapeError(f"signals must be (B, L) float with B above 0, got {got}")
        counts = row_lengths(lengths, len(signals), signals.shape[1], "samples")
        return by_length(signals.to(self._device()), counts, call)

    def _used(self, n_codebooks: int | None) -> int:
        most = len(self.codebook_sizes)
        used = most if n_codebooks is None else n_codebooks
        if not isinstance(used, int) or not 1 <= used <= most:
            raise ConfigError(f"n_codebooks must be in [1, {most}], got {n_codebooks}")
        return used

    def _device(self) -> torch.device:
        return next(iter(self.model.state_dict().values())).device


def _check(config: Any) -> None:
    if not isinstance(config, dict) or not {"format", "kind", "options"} <= set(config):
        raise ConfigError(
            "not the configuration of a tokenizer: it has format, kind and options"
        )
    if config["format"] != FORMAT:
        raise ConfigError(
            f"the configuration has format {config['format']}, but this version of "
            f"sb_espnet_vq reads format {FORMAT}; install a newer version"
        )
    if config["kind"] not in MODELS:
        raise ConfigError(
            f"kind must be one of {', '.join(MODELS)}, got {config['kind']!r}"
        )
