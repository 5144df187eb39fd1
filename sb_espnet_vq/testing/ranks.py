"""Checks that several ranks train like one process with the whole batch."""

import functools
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.testing.helpers import (
    close,
    compiled,
    frames,
    labels_for,
    make,
    some_mask,
)
from sb_espnet_vq.testing.registry import contract_check

_BATCH, _TIME, _STEPS = 4, 30, 3
# Number of the four utterances on rank 0 in each scenario.
_PARTS = {
    "equal parts": 2,
    "unequal parts": 3,
    "an empty rank 1": 4,
    "an empty rank 0": 0,
    "only padding on rank 1": 2,
    "only padding on rank 0": 2,
    "a module made before the process group": 3,
}
_COMPILED = {"compiled from the first step": 2}
_COLLECTIVE_TIMEOUT = 60.0
_TIMEOUT = 240.0


#: Quantizers to check: registered names with options.
Cases = list[tuple[str, dict]]


@contract_check(slow=True, cpu_only=True)
def ranks_equal_one_process(name, options):
    """Two ranks with parts of a batch reach the same state as one with all of it."""
    compare_ranks([(name, options)])


@contract_check(slow=True, cpu_only=True)
def compiled_ranks_equal_one_process(name, options):
    """Two ranks that compile the module reach the same state as one process."""
    compare_compiled_ranks([(name, options)])


def compare_ranks(cases: Cases) -> None:
    """Check several quantizers in one pair of processes."""
    _compare_scenarios(cases, tuple(_PARTS))


def compare_compiled_ranks(cases: Cases) -> None:
    """Check several compiled quantizers in one pair of processes."""
    _compare_scenarios(cases, tuple(_COMPILED))


def _compare_scenarios(cases: Cases, scenarios: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        main = functools.partial(_rank_main, scenarios=scenarios)
        spawn_ranks(main, cases, Path(folder))
        for case, (name, options) in enumerate(cases):
            for scenario in scenarios:
                first, second = load_results(Path(folder), case, scenario)
                expected = _train_part(name, options, scenario, rank=0, ranks=1)
                what = f"{name} {options or ''} on two ranks, {scenario}"
                _compare(what, first, second, expected, make(name, options))


def _compare(where, first, second, expected, q: Quantizer) -> None:
    random = q.draws_codes or q.adds_noise
    for key, value in first["state"].items():
        what = f"{where}: {key}"
        close(second["state"][key], value, f"{what} on rank 1 against rank 0")
        if not random:
            close(value, expected["state"][key], f"{what} against one process")
    assert first["eval"] == second["eval"] == "done", f"{where}: no eval"
    if random:
        return
    for step in range(_STEPS):
        what = f"{where}, step {step}:"
        a, b, whole = (r["steps"][step] for r in (first, second, expected))
        close((a["loss"] + b["loss"]) / 2, whole["loss"], f"{what} mean loss")
        codes = torch.cat([a["codes"], b["codes"]])
        close(codes, whole["codes"], f"{what} codes")
        for key, grad in whole["grads"].items():
            # Already averaged over the ranks, as DDP does.
            close(a["grads"][key], grad, f"{what} averaged gradient of {key}")
        x_grad = torch.cat([a["x_grad"], b["x_grad"]]) / 2
        close(x_grad, whole["x_grad"], f"{what} gradient of x")


def _train_part(name, options, scenario, rank, ranks, q=None) -> dict:
    """Train on a rank's part of each batch; return the results to compare."""
    if q is None:
        q = _make_on_rank(name, options, rank)
    if ranks > 1:
        # As DDP does when it wraps a module; the module synchronizes its own buffers.
        for parameter in q.parameters():
            dist.broadcast(parameter.data, 0)
    steps, call = [], q.train()
    for step in range(_STEPS):
        if step == 0 and ranks > 1 and scenario in _COMPILED:
            call = compiled(q)
        steps.append(_step(q, call, scenario, rank, ranks, step))
    state = {k: v.detach().clone() for k, v in q.named_buffers()}
    return {"steps": steps, "state": state}


def _make_on_rank(name: str, options: dict, rank: int) -> Quantizer:
    # Seeds may differ between ranks, since rank 0's module is copied. In float64: in
    # float32 the order of sums can change codes, after which k-means and the levels of
    # a residual quantizer diverge.
    return make(name, options, seed=1000 * rank).double()


def _step(
    q: Quantizer, call: Callable, scenario: str, rank: int, ranks: int, step: int
) -> dict:
    x = frames(q, _BATCH, _TIME, seed=50 + step).double()
    mask, labels = some_mask(_BATCH, _TIME), labels_for(q, _BATCH)
    weight = frames(q, _BATCH, _TIME, seed=60 + step).double()
    if scenario.startswith("only padding"):
        mask[2:] &= "rank 0" in scenario
        mask[:2] &= "rank 1" in scenario
    if ranks > 1:
        cut = (_PARTS | _COMPILED)[scenario]
        part = slice(0, cut) if rank == 0 else slice(cut, _BATCH)
        x, mask, weight = x[part], mask[part], weight[part]
        labels = None if labels is None else labels[part]
    x.requires_grad_()
    torch.manual_seed(70 + step + 1000 * rank)
    out = call(x, mask=mask, labels=labels)
    # Scaled so that the mean over ranks is the sum over the whole batch.
    (out.loss + ranks * (out.quantized * weight).sum()).backward()
    grads = {}
    for key, parameter in q.named_parameters():
        if parameter.requires_grad:
            grads[key] = _averaged(parameter, ranks)
            parameter.grad = None
    return {
        "loss": out.loss.detach(),
        "codes": out.codes,
        "grads": grads,
        "x_grad": x.grad,
    }


def _averaged(parameter: Tensor, ranks: int) -> Tensor:
    grad = parameter.grad
    grad = torch.zeros_like(parameter) if grad is None else grad.clone()
    if ranks > 1:
        dist.all_reduce(grad)
    return grad / ranks


def _rank_main(
    rank: int, cases: Cases, folder: Path, scenarios: tuple[str, ...]
) -> None:
    early = [_make_on_rank(name, options, rank) for name, options in cases]
    join_ranks(rank, folder)
    for case, (name, options) in enumerate(cases):
        for scenario in scenarios:
            q = early[case] if scenario.startswith("a module made before") else None
            result = _train_part(name, options, scenario, rank, 2, q)
            result["eval"] = _eval_alone(name, options, rank)
            save_result(folder, case, scenario, rank, result)
    dist.destroy_process_group()


def _eval_alone(name: str, options: dict, rank: int) -> str:
    # On one rank only, so that a collective in eval would hang.
    if rank == 1:
        q = make(name, options).eval()
        q.decode(q(frames(q, 2, 9)).codes)
        q.encode(frames(q, 2, 9))
    return "done"


def spawn_ranks(main: Callable, cases: Cases, folder: Path) -> None:
    """Run ``main(rank, cases, folder)`` in two processes, with a timeout."""
    if not (dist.is_available() and dist.is_gloo_available()):
        raise RuntimeError("this torch has no gloo, which the two ranks need")
    with _no_inherited_ranks():
        context = mp.spawn(main, (cases, folder), nprocs=2, join=False)
    deadline = time.monotonic() + _TIMEOUT * len(cases)
    try:
        while not context.join(timeout=1):
            if time.monotonic() > deadline:
                raise AssertionError(f"two ranks hang; they are at {_now(folder)}")
    except (mp.ProcessRaisedException, mp.ProcessExitedException) as error:
        raise AssertionError(f"two ranks failed at {_now(folder)}: {error}") from error
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def join_ranks(rank: int, folder: Path) -> None:
    """Create the process group of the two processes, with one thread each."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=Path(folder, "rendezvous").as_uri(),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=_COLLECTIVE_TIMEOUT),
    )


class _no_inherited_ranks:
    """Hide the environment variables by which launchers assign ranks."""

    def __enter__(self):
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        self.hidden = {n: os.environ.pop(n) for n in names if n in os.environ}

    def __exit__(self, *error):
        os.environ.update(self.hidden)


def _now(folder: Path) -> str:
    files = sorted(folder.glob("done-*"))
    places = [f"rank {file.name[-1]}: past {file.read_text()}" for file in files]
    return "; ".join(places) or "the start"


def _file(folder: Path, case: int, scenario: str, rank: int) -> Path:
    return folder / f"{case}-{scenario.replace(' ', '-')}-{rank}.pt"


def save_result(folder: Path, case: int, scenario: str, rank: int, result: dict):
    """Save tensors for the process that compares the ranks."""
    torch.save(result, _file(folder, case, scenario, rank))
    Path(folder, f"done-{rank}").write_text(f"case {case}, {scenario}")


def load_results(folder: Path, case: int, scenario: str) -> list[dict]:
    """Return what each of the two ranks saved."""
    files = [_file(folder, case, scenario, rank) for rank in (0, 1)]
    return [torch.load(file, weights_only=True) for file in files]
