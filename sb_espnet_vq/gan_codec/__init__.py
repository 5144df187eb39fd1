"""ESPnet's side: `import sb_espnet_vq.gan_codec` tells ESPnet of the codecs.

From then on ``vq_soundstream``, ``vq_encodec`` and ``vq_dac`` are choices of
``--codec`` for everything that runs in this process: ``AudioCoding``,
``from_pretrained``, ``CodecTokenizer``, espnetez. It may stand before or after imports
of ESPnet, and imports nothing of ESPnet itself.
"""

from importlib import import_module
from types import ModuleType

from sb_espnet_vq.import_hooks import AfterImport

# Modules of ESPnet, and the function of `registration` that extends each.
_EXTENDED = {
    "espnet2.gan_codec.abs_gan_codec": "ask_quantizers",
    "espnet2.gan_codec.shared.quantizer.residual_vq": "guard_quantizer",
    "espnet2.tasks.gan_codec": "extend_task",
}


def extend(module: ModuleType) -> None:
    """Do to one of these modules what belongs to it; at most once.

    Arguments
    ---------
    module : module
        Executed already, or still being imported: then nothing is done to it.
    """
    registration = import_module("sb_espnet_vq.gan_codec.registration")
    getattr(registration, _EXTENDED[module.__name__])(module)


_hook = AfterImport()
for _name in _EXTENDED:
    _hook.call(_name, extend)
_hook.install()
