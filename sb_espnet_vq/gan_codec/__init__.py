"""Modules for ESPnet; `import sb_espnet_vq.gan_codec` registers the codecs in ESPnet.

In this process, ``--codec``, ``AudioCoding``, ``from_pretrained``, ``CodecTokenizer``
and espnetez then accept the codecs ``vq_*``, such as ``vq_soundstream``. ESPnet may be
imported before or after. This import does not import ESPnet itself.
"""

from importlib import import_module
from types import ModuleType

from sb_espnet_vq.utils.import_hooks import AfterImport

# Modules of ESPnet, and the function of `registration` that extends each.
_EXTENDED = {
    "espnet2.gan_codec.abs_gan_codec": "ask_quantizers",
    "espnet2.gan_codec.shared.quantizer.residual_vq": "guard_quantizer",
    "espnet2.tasks.gan_codec": "extend_task",
}


def extend(module: ModuleType) -> None:
    """Extend one of the modules in ``_EXTENDED``; at most once.

    Arguments
    ---------
    module : module
        Module of ESPnet. A module that is still being imported is not changed.
    """
    registration = import_module("sb_espnet_vq.gan_codec.registration")
    getattr(registration, _EXTENDED[module.__name__])(module)


_hook = AfterImport()
for _name in _EXTENDED:
    _hook.call(_name, extend)
_hook.install()
