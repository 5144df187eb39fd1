"""``sbvq bench [NAME...]``: speed and memory compared with other implementations."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from sb_espnet_vq.errors import ConfigError

HELP = "compare speed and memory with other implementations"

_QUICK_REPEATS, _REPEATS = 3, 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="workloads (default: all)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=_count, default=2, help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats",
        type=_count,
        help=f"timed calls of each implementation (default: {_REPEATS})",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all measurements"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="plot ratios, and cost against frames, codebook size and bits",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to test the benchmark itself"
    )


def main(args: argparse.Namespace) -> int:
    """Measure and print a table for each workload; return 1 if results disagree."""
    from sb_espnet_vq.bench import machine, report
    from sb_espnet_vq.bench.isolation import Isolation
    from sb_espnet_vq.bench.runner import run_case
    from sb_espnet_vq.bench.sweeps import SWEEPS, run_sweep
    from sb_espnet_vq.bench.timing import Setting

    cases = _chosen(args.names)
    _check_outputs(args)
    repeats = args.repeats or (_QUICK_REPEATS if args.quick else _REPEATS)
    setting = Setting(args.device, args.threads, repeats)
    about = {
        "machine": machine.describe_machine(args.device),
        "versions": machine.list_versions(),
        "setting": {**setting._asdict(), "quick": args.quick},
    }
    _warn_if_busy(about["machine"])
    print(report.machine_lines(*about.values()), flush=True)
    isolation = Isolation(_modules(cases), args.threads)
    results = []
    for case in cases:
        sizes = case.quick if args.quick else case.sizes
        results.append(run_case(case, sizes, setting, isolation, _log))
        print(f"\n{report.case_table(results[-1])}", flush=True)
    sweeps = []
    if args.plot:
        for sweep in SWEEPS:
            if sweep.case in cases:
                sweeps.append(run_sweep(sweep, args.quick, setting, isolation, _log))
    if args.json:
        report.write_json(args.json, about, results, sweeps)
        _log(f"wrote {args.json}")
    if args.plot:
        _plot(args, results, sweeps, about["machine"])
    return _conclude(results)


def _chosen(names: list[str]) -> list:
    from sb_espnet_vq.bench.cases import CASES

    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ConfigError(
            f"unknown workload: {', '.join(unknown)}; known are {', '.join(CASES)}"
        )
    return [case for name, case in CASES.items() if not names or name in names]


def _modules(cases: list) -> list[str]:
    modules = [each.module for case in cases for each in case.contenders]
    return ["torch", *dict.fromkeys(name for name in modules if name)]


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse invalid output paths before the measurements instead of after them."""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no GPU; use --device cpu")
    if args.plot and find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'sb_espnet_vq[bench]'")
    if args.plot and args.plot.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--plot writes .png, .pdf or .svg, got {args.plot}")
    for path in filter(None, (args.json, args.plot)):
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise ConfigError(
                f"{path} cannot be written: it must be a file in an existing folder"
            )


def _plot(args: argparse.Namespace, results: list, sweeps: list, machine: dict) -> None:
    from sb_espnet_vq.bench.plots import save_plot

    where = machine["gpu"] or machine["processor"]
    save_plot(args.plot, results, sweeps, where)
    _log(f"wrote {args.plot}")


def _conclude(results: list) -> int:
    errors = [line for measured in results for line in measured.errors]
    for line in errors:
        print(f"!!! {line}", file=sys.stderr)
    if not errors:
        print("\nAll results agree with the references.")
    return 1 if errors else 0


def _warn_if_busy(machine: dict) -> None:
    load, cores = machine["load_average"], machine["cores"]
    if load is not None and cores and load > 0.5 * cores:
        _log(
            f"warning: the machine is busy (load {load:.1f} on {cores} cores); "
            "times are unreliable"
        )


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
