"""Number and sizes of a codec's codebooks, read from its quantizer.

ESPnet's codecs copy them from their options at construction, and ESPnet's tokenizers,
embeddings and speech language models use the copies, which would be wrong for another
quantizer.
"""


class StreamsOfQuantizer:
    """Mixin for codecs with their quantizer at ``generator.quantizer``.

    For a quantizer of another package, the values stored by the codec are returned.
    """

    @property
    def num_streams(self) -> int:
        """Number of codebooks."""
        sizes = _sizes(self)
        return len(sizes) if sizes else self.__dict__["num_streams"]

    @num_streams.setter
    def num_streams(self, value: int) -> None:
        self.__dict__["num_streams"] = value

    @property
    def code_size_per_stream(self) -> list[int]:
        """Number of codes in each codebook."""
        sizes = _sizes(self)
        return list(sizes) if sizes else self.__dict__["code_size_per_stream"]

    @code_size_per_stream.setter
    def code_size_per_stream(self, value: list[int]) -> None:
        self.__dict__["code_size_per_stream"] = value


def _sizes(codec) -> tuple[int, ...] | None:
    """Return the sizes of the codebooks; None for a quantizer of ESPnet."""
    quantizer = getattr(getattr(codec, "generator", None), "quantizer", None)
    return getattr(quantizer, "codebook_sizes", None)
