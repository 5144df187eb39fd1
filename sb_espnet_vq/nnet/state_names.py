"""State-dict hooks that give an adapter the checkpoint keys of the replaced class."""

from typing import Any

from torch import nn

_INNER = "quantizer."


def keep_upstream_names(adapter: nn.Module) -> None:
    """Save the state of ``adapter.quantizer`` without the prefix ``quantizer.``.

    If the quantizer has the parameters and buffers of the original class, checkpoints
    of that class load strictly into the adapter, and vice versa. Keys with the prefix
    are also accepted. The names of parameters and buffers are unchanged: pass those,
    and not the keys of ``state_dict()``, to `torch.func.functional_call`.

    Arguments
    ---------
    adapter : torch.nn.Module
        Module with the attribute ``quantizer``.

    Example
    -------
    >>> adapter = nn.Module()
    >>> adapter.quantizer = nn.Linear(2, 1, bias=False)
    >>> keep_upstream_names(adapter)
    >>> list(adapter.state_dict())
    ['weight']
    >>> adapter.load_state_dict(nn.Linear(2, 1, bias=False).state_dict())
    <All keys matched successfully>
    """
    adapter.register_state_dict_post_hook(_drop_prefix)
    adapter.register_load_state_dict_pre_hook(_add_prefix)


def _drop_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_) -> None:
    inner = prefix + _INNER
    for name in [name for name in state if name.startswith(inner)]:
        state[prefix + name.removeprefix(inner)] = state.pop(name)


def _add_prefix(module: Any, state: dict[str, Any], prefix: str, *_) -> None:
    for name in module.quantizer.state_dict():
        if prefix + name in state:
            state[prefix + _INNER + name] = state.pop(prefix + name)
