"""The command line of ``sbvq``."""

import argparse
import os
import sys
from collections.abc import Sequence

from sb_espnet_vq.cli import (
    bench,
    check,
    compare,
    cp,
    decode,
    distortion,
    eval_,
    export,
    fit,
    import_,
    ls,
    refit,
    run,
    show,
    tokens,
)
from sb_espnet_vq.errors import (
    CheckpointError,
    ConfigError,
    CorpusError,
    TokenFileError,
)

_EPILOG = """\
examples:
  sbvq ls                                list quantizers, recipes and classes
  sbvq show rvq                          show the options of a quantizer
  sbvq run best_rq                       train on the default corpus
  sbvq run best_rq --number_of_epochs 3  override a value of the YAML
  sbvq cp best_rq my_recipe              copy a recipe, to change it
  sbvq eval RUN --data_folder my_audio   evaluate a trained model on other audio
  sbvq tokens RUN my_audio --out DIR     encode audio files with a trained model
  sbvq decode RUN DIR --out audio        decode them
  sbvq export RUN DIR --to hub           export it for other programs
  sbvq import FILE DIR                   import a quantizer trained elsewhere
  sbvq fit my_audio --out DIR            fit a codebook by k-means
  sbvq check rvq                         run the contract checks
  sbvq bench rvq bsq                     compare speed and memory
  sbvq distortion --data_folder DIR rvq  compare rate, distortion and code usage
  sbvq compare --out DIR                 train codecs with many quantizers
  sbvq refit RUN                         refit the codebooks of a trained codec
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sbvq``.

    Arguments
    ---------
    argv : sequence of str, optional
        Arguments without the name of the program; by default those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 if a check failed or results disagree, 2 if the request is
        invalid, or the status of the recipe.
    """
    parser = _parser()
    args, others = parser.parse_known_args(argv)
    if others and not args.takes_others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.others = others
    try:
        status = args.function(args)
        sys.stdout.flush()
        return status
    except (
        CheckpointError,
        ConfigError,
        CorpusError,
        OSError,
        TokenFileError,
    ) as error:
        if isinstance(error, BrokenPipeError):
            # `sbvq ls | head` closes the pipe; the flush at exit must not fail either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"sbvq: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sbvq",
        description="Vector quantizers for SpeechBrain and ESPnet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    models = (tokens, decode, export, import_, fit, refit)
    every = (ls, show, cp, run, eval_, *models, check, bench, distortion, compare)
    for module in every:
        # `import` and `eval` are words of Python.
        name = module.__name__.rpartition(".")[2].rstrip("_")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        command.set_defaults(function=module.main, takes_others=False)
        module.add_arguments(command)
    return parser
