"""What families with several codebooks share: use of the first of them alone."""

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer, QuantizerOutput
from sb_espnet_vq.quantizers.options import positive_int


class SeveralCodebooks(Quantizer):
    """Base of families that can quantize with their first codebooks alone.

    ``_quantize`` and ``_search`` get the number to use as ``levels``. Arguments and
    errors are those of `Quantizer`.
    """

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
    ) -> QuantizerOutput:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x, mask, labels
            As in `Quantizer.forward`.
        n_codebooks : int, optional
            Use only the first so many codebooks; the others learn nothing.

        Returns
        -------
        QuantizerOutput
            ``codes`` has ``n_codebooks`` columns.

        Raises
        ------
        ShapeError
            As in `Quantizer.forward`.
        ConfigError
            If there are not so many codebooks.
        """
        self._check_input(x, mask, labels)
        options = self._options(x, self._levels(n_codebooks))
        return self._forward(x, mask, labels, **options)[0]

    @torch.no_grad()
    def encode(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        n_codebooks: int | None = None,
    ) -> Tensor:
        """Return the codes of a batch and change nothing.

        Arguments
        ---------
        x, mask, labels, n_codebooks
            As in ``forward``.

        Returns
        -------
        torch.Tensor
            (B, T, n_codebooks) int64, -1 where there is no real, finite frame.

        Raises
        ------
        ShapeError, ConfigError
            As in ``forward``.
        """
        return self._encode(x, mask, labels, levels=self._levels(n_codebooks))

    def _options(self, x: Tensor, levels: int) -> dict:
        """Return what ``_quantize`` gets beside the frames."""
        return {"levels": levels}

    def _levels(self, n_codebooks: int | None) -> int:
        if n_codebooks is None:
            return self.n_codebooks
        if positive_int("n_codebooks", n_codebooks) > self.n_codebooks:
            raise ConfigError(
                f"n_codebooks must be at most {self.n_codebooks}, got {n_codebooks}"
            )
        return n_codebooks
