"""What a codec says of its codes, asked of the quantizer that gives them.

ESPnet's codecs copy the number of codebooks and their sizes from their options when
they are built; ESPnet's tokenizers, embeddings and speech language models read the
copies. With another quantizer in place they would be wrong.
"""

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer


class StreamsOfQuantizer:
    """Mixin of codecs whose quantizer lies at ``generator.quantizer``.

    Where that is none of this package, what the codec stored is returned.
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
            return [quantizer.bins] * quantizer.n_q
        return self.__dict__["code_size_per_stream"]

    @code_size_per_stream.setter
    def code_size_per_stream(self, value: list[int]) -> None:
        self.__dict__["code_size_per_stream"] = value


def _ours(codec) -> CodecQuantizer | None:
    quantizer = getattr(getattr(codec, "generator", None), "quantizer", None)
    return quantizer if isinstance(quantizer, CodecQuantizer) else None
