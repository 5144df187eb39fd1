"""``sbvq import``: from a file or folder of another program to a folder of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.tokenizer import hub_folder, transformers_codec
from sb_espnet_vq.tokenizer.imports import import_quantizer
from sb_espnet_vq.tokenizer.quantizer_folder import save_quantizer
from sb_espnet_vq.tokenizer.sources import read_state


def import_source(
    source: str | Path,
    dest: str | Path,
    layout: str | None = None,
    prefix: str | None = None,
    **given: Any,
) -> str:
    """Write the folder of an imported quantizer, or tokenizer.

    Arguments
    ---------
    source : str or Path
        A file of tensors, or a folder with config.json and model.safetensors.
    dest : str or Path
        Created if missing. A codec of transformers becomes a tokenizer
        (`AudioTokenizer.from_pretrained`), anything else a quantizer
        (`load_quantizer`).
    layout, prefix, **given
        As `import_quantizer`.

    Returns
    -------
    str
        What was imported.

    Raises
    ------
    CheckpointError, ConfigError
        If it cannot be imported. Nothing is written then.
    """
    source = Path(source)
    if not source.exists():
        raise CheckpointError(f"{source}: no such file or folder")
    if source.is_dir() and transformers_codec.holds_codec(source):
        if layout or prefix or given:
            raise ConfigError(
                f"{source}: a codec of transformers shows its layout and its options"
            )
        return _import_codec(source, dest)
    if source.is_dir():
        given = _shown(source) | given
        source = source / hub_folder.WEIGHTS
    state = read_state(source)
    try:
        imported = import_quantizer(state, layout, prefix, **given)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    save_quantizer(imported, dest)
    sizes = imported.quantizer.codebook_sizes
    return f"layout {imported.origin.layout}, codebooks of {sizes} codes"


def _import_codec(source: Path, dest: str | Path) -> str:
    from sb_espnet_vq.tokenizer.audio_tokenizer import FORMAT, AudioTokenizer

    options, state = transformers_codec.read_folder(source)
    config = {"format": FORMAT, "kind": transformers_codec.KIND, "options": options}
    tokenizer = AudioTokenizer(config)
    hub_folder.load_state(tokenizer.model, state, str(source))
    tokenizer.save_pretrained(dest)
    return f"a tokenizer, {options['architecture']} of transformers"


def _shown(folder: Path) -> dict[str, Any]:
    """Return the options that the configuration of a model of transformers shows."""
    file = folder / transformers_codec.CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: not a configuration")
    if "format" in config:
        raise ConfigError(
            f"{folder}: a folder of this package, which needs no import; load it with "
            "load_quantizer or AudioTokenizer.from_pretrained, or export it"
        )
    groups = config.get("num_codevector_groups")
    return {} if groups is None else {"n_codebooks": groups}
