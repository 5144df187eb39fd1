"""`AudioTokenizer`: a trained model as an encoder of audio to tokens, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sb_espnet_vq.corpora.audio import read_audio
from sb_espnet_vq.errors import CorpusError, ShapeError
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.tokenizer import hub_folder
from sb_espnet_vq.tokenizer.hub_model import FORMAT, HubModel
from sb_espnet_vq.tokenizer.kinds import read_run
from sb_espnet_vq.tokenizer.rows import by_length, pad, row_lengths
from sb_espnet_vq.tokenizer.streaming import StreamingDecoder, StreamingEncoder
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource


class AudioTokenizer(HubModel):
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
        return self.model.sizes()

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
        options = self._search(n_codebooks, beam)
        rows = self._of_signals(
            signals, lengths, lambda rows: self.model.codes(rows, **options)
        )
        levels = options["n_codebooks"]
        none = torch.zeros(0, levels, dtype=torch.int64, device=self._device())
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

    def streaming_encoder(
        self, n_codebooks: int | None = None, beam: int | None = None
    ) -> StreamingEncoder:
        """Return an encoder of audio that arrives in chunks.

        Arguments
        ---------
        n_codebooks, beam : int, optional
            As in ``encode``.

        Returns
        -------
        StreamingEncoder
            For one stream, or a batch of streams.

        Raises
        ------
        ConfigError
            If the model is no causal codec, or as in ``encode``.
        """
        return StreamingEncoder(self.model, self._search(n_codebooks, beam))

    def streaming_decoder(self) -> StreamingDecoder:
        """Return a decoder of codes that arrive in chunks.

        Returns
        -------
        StreamingDecoder
            For one stream, or a batch of streams.

        Raises
        ------
        ConfigError
            If the model is no causal codec.
        """
        return StreamingDecoder(self.model)

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
            self.fingerprint,
            self.sample_rate,
            self.model.hop,
            self.model.sizes(n_codebooks),
        )

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
        return by_length(signals.to(self._device(), torch.float32), counts, call)

    def _search(self, n_codebooks: int | None, beam: int | None) -> dict[str, int]:
        """Return the options of the quantizer's ``encode``."""
        chains = self.model.beam if beam is None else beam
        used = len(self.model.sizes(n_codebooks))
        return beam_options(self.model.quantizer, chains) | {"n_codebooks": used}

    def _device(self) -> torch.device:
        return next(iter(self.model.state_dict().values())).device
