"""The units that a recognizer outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sb_espnet_vq.errors import CorpusError

BLANK = 0


class Vocabulary:
    """Maps text to indices of characters or words, and back; index 0 is CTC's blank.

    Arguments
    ---------
    units : str
        ``characters`` or ``words``. Words are separated by spaces, which are characters
        too.
    symbols : sequence of str
        The units; the first has index 1.

    Example
    -------
    >>> vocabulary = Vocabulary.of(["one two", "two"], "words")
    >>> vocabulary.encode("two two six one"), len(vocabulary)
    ([2, 2, 1], 3)
    >>> Vocabulary("characters", " ab").words([2, 1, 3, 3])
    ['a', 'bb']
    """

    def __init__(self, units: str, symbols: Sequence[str]):
        self.units = units
        self.symbols = list(symbols)
        self._index = {symbol: n for n, symbol in enumerate(self.symbols, BLANK + 1)}

    @classmethod
    def of(cls, texts: Iterable[str], units: str) -> Vocabulary:
        """Return the vocabulary of all units in some texts.

        Arguments
        ---------
        texts : iterable of str
        units : str
            As for the class.

        Returns
        -------
        Vocabulary

        Raises
        ------
        CorpusError
            If the texts contain no word.
        """
        words = {word for text in texts for word in text.split()}
        if not words:
            raise CorpusError("none of the transcripts has a word")
        symbols = words if units == "words" else {" "}.union(*words)
        return cls(units, sorted(symbols))

    def __len__(self) -> int:
        """Return the number of indices, with the blank."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> list[int]:
        """Return the indices of a text; unknown units are left out."""
        words = text.split()
        found = words if self.units == "words" else " ".join(words)
        return [self._index[unit] for unit in found if unit in self._index]

    def words(self, indices: Iterable[int]) -> list[str]:
        """Return the words that some indices (without blanks) spell."""
        symbols = [self.symbols[index - 1] for index in indices]
        return symbols if self.units == "words" else "".join(symbols).split()
