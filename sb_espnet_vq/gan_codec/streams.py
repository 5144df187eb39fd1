"""Number and sizes of a codec's codebooks, read from its quantizer.

ESPnet's codecs copy them from their options at construction, and ESPnet's tokenizers,
embeddings and speech language models use the copies, which would be wrong for another
quantizer.
"""

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer


class StreamsOfQuantizer:
    """Mixin for codecs with their quantizer at ``generator.quantizer``.

    For a quantizer of another package, the values stored by the codec are returned.
    """

    @property
    def num_streams(self) -> int:
        """Number of codebooks."""
        quantizer = _ours(self)
        return quantizer.n_q if quantizer else self.__dict__["num_streams"]

    @num_streams.setter
    def num_streams(self, value: int) -> None:
        self.__dict__["num_streams"] = value

    @property
    def code_size_per_stream(self) -> list[int]:
        """Number of codes in each codebook."""
        quantizer = _ours(self)
        if quantizer:
            return list(quantizer.vq.codebook_sizes)
        return self.__dict__["code_size_per_stream"]

    @code_size_per_stream.setter
    def code_size_per_stream(self, value: list[int]) -> None:
        self.__dict__["code_size_per_stream"] = value


def _ours(codec) -> CodecQuantizer | None:
    quantizer = getattr(getattr(codec, "generator", None), "quantizer", None)
    return quantizer if isinstance(quantizer, CodecQuantizer) else None
