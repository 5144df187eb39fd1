"""Griffe extension: names of docstring sections, from SpeechBrain's to NumPy's."""

import re

import griffe

_NAMES = {"Arguments": "Parameters", "Example": "Examples"}


class SectionNames(griffe.Extension):
    """Rename the sections that the NumPy parser does not know."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rename the sections of an object's docstring."""
        if obj.docstring is None:
            return
        for ours, theirs in _NAMES.items():
            obj.docstring.value = re.sub(
                rf"^{ours}\n-+$",
                f"{theirs}\n{'-' * len(theirs)}",
                obj.docstring.value,
                flags=re.M,
            )
