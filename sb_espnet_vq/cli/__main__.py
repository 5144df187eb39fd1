"""``python -m sb_espnet_vq.cli``, if ``sbvq`` is not on the path."""

import sys

from sb_espnet_vq.cli.main import main

sys.exit(main())
