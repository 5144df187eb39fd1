"""Exceptions of this package."""


class VQError(Exception):
    """Base class of the errors below."""


class ConfigError(VQError, ValueError):
    """An option is unknown, missing or has an invalid value."""


class ShapeError(VQError, ValueError):
    """A tensor has an unsupported shape, dtype, layout or device."""


class CorpusError(VQError, RuntimeError):
    """Audio, a manifest or a corpus is missing, broken or could not be downloaded.

    The message names the file or the command, what was expected and what to do.
    """


class CheckpointError(VQError, RuntimeError):
    """A checkpoint could not be written or loaded; existing files are unchanged."""


class TokenFileError(VQError, RuntimeError):
    """A file of tokens is truncated, altered, foreign, newer or of another model."""


class ChildError(VQError, RuntimeError):
    """A benchmark in a process of its own failed, or its process was ended."""
