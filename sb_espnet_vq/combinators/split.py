"""`split`: the first codebook apart from the rest, as in Mimi."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.combinators.composed import Composed, build_part, run_part
from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.ops.estimators import keep_in_graph
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.quantizers.base import Quantized, QuantizerOutput
from sb_espnet_vq.quantizers.options import in_range, positive_int
from sb_espnet_vq.quantizers.precision import project


class Split(Composed):
    """Two quantizers of the same frames, whose values are added.

    Défossez et al. 2024, "Moshi", https://arxiv.org/abs/2410.00037, section 3.3.2: the
    first codebook is quantized apart from the residual chain of the others, so that it
    may learn content that is not best for reconstruction. Each of the two has learned
    projections of the frames and of its value, without bias.

    With ``target_dim``, ``forward`` takes ``targets``: features of a self-supervised
    model, to which a learned linear map brings the value of the first quantizer. The
    term ``distillation`` is 1 - cos, averaged over valid frames (Zhang et al. 2023,
    "SpeechTokenizer", https://arxiv.org/abs/2308.16692, equation 2, for each frame).

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Codes in each codebook, for quantizers that choose no other number.
    n_codebooks : int
        Codes of a frame: the first quantizer has one, unless ``first_conf`` sets more,
        and the second the others; with none left there is no second.
    code_dim : int, optional
        Width of both quantizers. Default: ``dim``.
    first : str
        The first quantizer: a registered name, or the full path of a class.
    first_conf : Mapping, optional
        Options of the first quantizer.
    rest : str
        The quantizer of the rest: a registered name, or the full path of a class.
    rest_conf : Mapping, optional
        Options of the quantizer of the rest.
    quantizer_dropout : bool
        In training, keep for each utterance only a random number of codebooks. Dropped
        codes are returned as -1; every codebook still learns from every frame.
    target_dim : int, optional
        Width of ``targets``.
    distill_weight : float
        Weight of the term ``distillation``.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.

    Example
    -------
    >>> q = Split(dim=16, codebook_size=32, n_codebooks=4, target_dim=24)
    >>> x, targets = torch.randn(2, 50, 16), torch.randn(2, 50, 24)
    >>> out = q(x, targets=targets)
    >>> out.codes.shape, sorted(out.stats)
    (torch.Size([2, 50, 4]), ['commitment', 'distillation', 'perplexity', 'used_codes'])
    """

    contract_options = {"n_codebooks": 3}

    project_target: nn.Linear | None

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        n_codebooks: int = 8,
        code_dim: int | None = None,
        first: str = "vq",
        first_conf: Mapping[str, Any] | None = None,
        rest: str = "rvq",
        rest_conf: Mapping[str, Any] | None = None,
        quantizer_dropout: bool = False,
        target_dim: int | None = None,
        distill_weight: float = 1.0,
        frozen: bool = False,
    ):
        positive_int("dim", dim)
        width = dim if code_dim is None else positive_int("code_dim", code_dim)
        words = {
            "dim": width,
            "codebook_size": positive_int("codebook_size", codebook_size),
            "n_codebooks": 1,
        }
        parts = [build_part(first, words, first_conf)]
        own = parts[0].n_codebooks
        left = positive_int("n_codebooks", n_codebooks) - own
        if left > 0 or "n_codebooks" in (rest_conf or {}):
            words["n_codebooks"] = max(1, left)
            parts.append(build_part(rest, words, rest_conf))
        columns = [range(own)]
        columns += [range(own, own + part.n_codebooks) for part in parts[1:]]
        super().__init__(dim, parts, columns, quantizer_dropout)
        self.project_in = nn.ModuleList(
            nn.Linear(dim, width, bias=False) for _ in parts
        )
        self.project_out = nn.ModuleList(
            nn.Linear(width, dim, bias=False) for _ in parts
        )
        self.target_dim, self.project_target = target_dim, None
        in_range("distill_weight", distill_weight, 0, float("inf"))
        if target_dim is not None:
            target_dim = positive_int("target_dim", target_dim)
            self.project_target = nn.Linear(dim, target_dim)
            self.loss_weights["distillation"] = distill_weight
        self.freeze_if(frozen)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
        targets: Tensor | None = None,
    ) -> QuantizerOutput:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in `Quantizer.forward`.
        targets : torch.Tensor, optional
            (B, T, target_dim) float, or any leading shape of ``x``: features for the
            value of the first quantizer. Padding is ignored. Without them the term
            ``distillation`` is 0.

        Returns
        -------
        QuantizerOutput

        Raises
        ------
        ShapeError
            If a shape, dtype or device is wrong, also that of ``targets``. No state has
            changed then.
        ConfigError
            If there are targets, but the quantizer has no ``target_dim``.
        """
        if targets is not None:
            self._check_targets(x, targets)
        return self._forward(x, mask, labels, n_codebooks, targets=targets)[0]

    def _check_targets(self, x: Tensor, targets: Tensor) -> None:
        if self.target_dim is None:
            raise ConfigError(
                "targets are given, but this quantizer was built without target_dim; "
                "build it with the width of the targets as target_dim"
            )
        # Of a wrong x the other checks tell.
        lead = x.shape[:-1] if isinstance(x, Tensor) else ()
        shape = (*lead, self.target_dim)
        is_float = isinstance(targets, Tensor) and targets.is_floating_point()
        if not is_float or targets.shape != shape:
            got = type(targets).__name__
            if isinstance(targets, Tensor):
                got = f"{targets.dtype} {tuple(targets.shape)}"
            raise ShapeError(
                f"{type(self).__name__}: targets must be float {shape}, one row for "
                f"each frame; got {got}"
            )
        self._check_placement(targets=targets)

    def _quantize(self, frames: Frames, targets: Tensor | None = None) -> Quantized:
        frames = self._with_kept(frames)
        values, results = [], {}
        for number, part in enumerate(self._parts()):
            inner = self._input_of(frames, number)
            if inner is not None:
                results[number] = run_part(part, inner)
                values.append(project(self.project_out[number], results[number].value))
        joined = self._joined(sum(values[1:], values[0]), results)
        if self.project_target is not None:
            term = self._distillation(frames, values[0], targets)
            joined.terms["distillation"] = term
        return joined

    def _distillation(
        self, frames: Frames, value: Tensor, targets: Tensor | None
    ) -> Tensor:
        """Return the mean of 1 - cos of the first value, mapped, and the targets."""
        assert self.project_target is not None
        if targets is None:
            zero = value[:1].sum() * 0
            layer = self.project_target
            mine: list[Tensor] = [p for p in layer.parameters() if p.requires_grad]
            # DDP waits for the gradient of every parameter.
            return keep_in_graph(zero, mine) if self.training else zero
        mapped = project(self.project_target, value)
        flat = targets.reshape(-1, targets.shape[-1]).to(mapped.dtype)
        flat = torch.where(frames.valid[:, None], flat, 0)
        return frames.mean(1 - F.cosine_similarity(mapped, flat, 1))

    def _search(self, frames: Frames) -> Tensor:
        codes = []
        for number, part in enumerate(self._parts()):
            inner = self._input_of(frames, number)
            if inner is not None:
                codes.append(part._search(inner))
        return torch.cat(codes, 1)

    def _decode(self, codes: Tensor) -> Tensor:
        values = []
        for number, part in enumerate(self._parts()):
            mine = self._codes_of(codes, number)
            if mine is not None:
                values.append(project(self.project_out[number], part._decode(mine)))
        return sum(values[1:], values[0])

    def _input_of(self, frames: Frames, number: int) -> Frames | None:
        x = project(self.project_in[number], frames.x)
        return self._frames_of(frames, number, x)
