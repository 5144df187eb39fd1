"""The errors that users of this package may want to catch."""


class ConfigError(ValueError):
    """An option is unknown, missing or has a value that cannot work."""


class ShapeError(ValueError):
    """A tensor has an unsupported shape, dtype, layout or device."""
