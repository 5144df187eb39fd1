"""Contrastive adapter: quantized targets and perplexities, as in wav2vec 2.0."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sb_espnet_vq.lobes.quantizers.brain_scale import BrainScale
from sb_espnet_vq.nnet.quantisers import GumbelVectorQuantizer
from sb_espnet_vq.nnet.state_names import keep_upstream_names
from sb_espnet_vq.ops.entropy import entropy
from sb_espnet_vq.ops.estimators import attach_loss, straight_through
from sb_espnet_vq.ops.usage import code_shares
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import positive_int, true_or_false
from sb_espnet_vq.quantizers.precision import full_precision, project
from sb_espnet_vq.registry import build, same_quantizer
from sb_espnet_vq.toolkit_words import translate

_DROP_IN_OPTIONS = {"dim", "codebook_size", "n_codebooks", "temperature"}


class ContrastiveQuantizer(FreezableModule):
    """Adapter for any quantizer, with the interface of `GumbelVectorQuantizer`.

    `W2VTargetQuantiser` takes it as its ``quantiser``. That class returns no loss, so
    the quantizer's loss is attached to ``x``: its gradient is added in the backward
    pass, with weight 1 relative to the trainer's loss. ``scale_loss`` applies the loss
    scaling of the trainer. By default it follows the SpeechBrain Brain that has the
    adapter among its modules: it divides by ``grad_accumulation_factor`` and applies
    the gradient scaler. In a custom loop that scales its loss, set it to a function
    that does the same.

    If ``vq_dim`` differs from ``input_dim``, quantizers other than `gumbel` are
    followed by a learned linear layer without bias. A layer before the quantizer could
    reduce the commitment loss by shrinking the frames, and the codes would not be those
    of the input.

    Arguments
    ---------
    input_dim : int
        Width of the input frames.
    num_vars : int
        Codes in each codebook.
    temp_tuple : tuple of float
        (start, stop, decay) of the temperature, for quantizers that sample codes.
    groups : int
        Number of codebooks, for quantizers that can have several.
    vq_dim : int
        Width of the output.
    quantizer : str
        A registered name. `gumbel` is the drop-in class itself, with the values and
        checkpoint keys of upstream; the step of ``update_temp`` is saved in the
        metadata of the state dict.
    quantizer_conf : dict, optional
        Options of the quantizer; they override the arguments above.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range.

    Example
    -------
    >>> import torch
    >>> arguments = 128, 64, (2.0, 0.25, 0.999995), 2, 50
    >>> quantiser = ContrastiveQuantizer(*arguments, quantizer="entropy_vq")
    >>> output = quantiser(torch.rand(10, 12, 128))
    >>> output["x"].shape, output["num_vars"]
    (torch.Size([10, 12, 50]), 64)
    """

    quantizer: Any
    project_out: nn.Module

    def __init__(
        self,
        input_dim: int,
        num_vars: int,
        temp_tuple: tuple[float, float, float],
        groups: int,
        vq_dim: int,
        *,
        quantizer: str = "gumbel",
        quantizer_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.step = 0
        self.scale_loss: Callable[[Tensor], Tensor] = BrainScale()
        self.vq_dim = positive_int("vq_dim", vq_dim)
        words = {
            "input_dim": input_dim,
            "num_vars": num_vars,
            "groups": groups,
            "temp_tuple": temp_tuple,
        }
        options = translate(quantizer, words, quantizer_conf)
        self.project_out = nn.Identity()
        is_gumbel = same_quantizer(quantizer, "gumbel")
        self._is_drop_in = is_gumbel and set(options) - {"frozen"} == _DROP_IN_OPTIONS
        if self._is_drop_in:
            self.quantizer = GumbelVectorQuantizer(
                input_dim,
                options["codebook_size"],
                options["temperature"],
                options["n_codebooks"],
                vq_dim,
            )
            keep_upstream_names(self)
            # The keys must be upstream's, so the step goes into the metadata.
            self.register_state_dict_post_hook(_save_step)
            self.register_load_state_dict_pre_hook(_load_step)
            if true_or_false("frozen", options.get("frozen", False)):
                self.requires_grad_(False)
            return
        self.quantizer = build(quantizer, **options)
        if vq_dim != input_dim:
            self.project_out = nn.Linear(input_dim, vq_dim, bias=False)

    def update_temp(self, steps: int) -> None:
        """Set the temperature for training step ``steps``, if it follows a schedule."""
        self.step = steps
        if self._is_drop_in:
            self.quantizer.update_temp(steps)
        else:
            self.quantizer.set_step(steps)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> dict:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float.
        mask : torch.Tensor, optional
            (B, T) bool, True at valid frames; padding is then ignored everywhere.

        Returns
        -------
        dict
            Upstream's keys and two more. ``used_codes``: number of codes in use (of at
            least one frame), summed over codebooks; the perplexity alone cannot
            distinguish few codes with uniform usage from many with nonuniform usage.
            ``codes``: (B, T, n_codebooks) int64, -1 at padding and non-finite frames;
            for `gumbel` in training, the most likely codes, not the sampled ones.

            ``x`` (B, T, vq_dim); ``num_vars``, number of codes in all codebooks;
            ``temp``, 0 for quantizers that do not sample; ``code_perplexity``, the
            perplexity of the codes, and ``prob_perplex``, both summed over codebooks
            and, in training, computed over the frames of all ranks. With `gumbel`,
            ``prob_perplex`` is the perplexity of the mean code probabilities, with
            gradient. With `entropy_vq`, `bsq` and `lfq`, which do not sample, its value
            is the perplexity of the codes and its gradient that of their soft
            assignment. For the others (also `bsq` and `lfq` with entropy_weight 0) it
            equals ``code_perplexity`` and has no gradient, so a diversity loss has no
            effect.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        if self._is_drop_in:
            answer, used, codes = self.quantizer.forward_with_used_codes(x, mask=mask)
            return answer | {"used_codes": used, "codes": codes}
        temperature = self.quantizer.sampling_temperature
        out, usage = self.quantizer.forward_with_usage(x, mask=mask)
        n_codebooks = self.quantizer.n_codebooks
        perplexity = out.stats["perplexity"] * n_codebooks
        return {
            "x": self._outward(attach_loss(out.quantized, self.scale_loss(out.loss))),
            "num_vars": sum(self.quantizer.codebook_sizes),
            "temp": temperature,
            "code_perplexity": perplexity,
            "used_codes": out.stats["used_codes"] * n_codebooks,
            "codes": out.codes,
            "prob_perplex": (
                perplexity
                if usage is None
                else entropy(self._chosen(out.codes, usage), 1e-7).exp().sum()
            ),
        }

    def _chosen(self, codes: Tensor, usage: Tensor) -> Tensor:
        """Return the relative frequency of each code, with the gradient of ``usage``.

        These quantizers do not sample. Their soft assignment may be uniform although
        few codes are used, so its perplexity alone would hide a collapse.
        """
        shares = code_shares(codes, usage.shape[1], self.training, usage.dtype)
        return straight_through(usage, shares)

    def _outward(self, quantized: Tensor) -> Tensor:
        with full_precision(quantized):
            wide = project(self.project_out, quantized.flatten(0, -2))
        return wide.to(quantized.dtype).view(*quantized.shape[:-1], self.vq_dim)


def _save_step(module: Any, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
    metadata["step"] = module.step


def _load_step(
    module: Any, state: dict[str, Any], prefix: str, metadata: dict[str, Any], *_
) -> None:
    # Earlier versions saved it under its own key.
    step = state.pop(f"{prefix}step", metadata.get("step"))
    if step is not None:
        module.update_temp(int(step))
