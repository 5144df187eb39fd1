#!/usr/bin/env bash
# Trains the classifier, then PIQ on top of it, with the same arguments.
#
#   bash recipes/PIQ/run.sh
#   bash recipes/PIQ/run.sh hparams/PIQ/esc10.yaml --data_folder ESC-50-master
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    # `sbvq cp` copies the hparams into the recipe's folder.
    hparams=$recipe/hparams
    if [ ! -d "$hparams" ]; then hparams=$recipe/../../hparams/PIQ; fi
    set -- "$hparams/fsdd.yaml" "$@"
fi

"$python" "$recipe/train_classifier.py" "$@"
"$python" "$recipe/train.py" "$@"
