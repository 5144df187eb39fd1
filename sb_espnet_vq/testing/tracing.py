"""Checks of torch.compile."""

import torch

from sb_espnet_vq.testing.helpers import (
    close,
    compiled,
    frames,
    gradients,
    labels_for,
    make,
    make_started,
    same,
    some_mask,
    state_of,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check(slow=True)
def compiles_in_eval(name, options):
    """torch.compile compiles eval forward, encode and decode to one graph each."""
    for q in (make(name, options).eval(), make_started(name, options).eval()):
        x, mask, labels = frames(q, 3, 40), some_mask(3, 40), labels_for(q, 3)
        out = compiled(q)(x, mask=mask, labels=labels)
        expected = q(x, mask=mask, labels=labels)
        same(out.codes, expected.codes, "compiled codes")
        close(out.quantized, expected.quantized, "compiled values")
        close(out.loss, expected.loss, "compiled loss")
        codes = compiled(q.encode)(x, mask=mask, labels=labels)
        same(codes, expected.codes, "compiled encode")
        close(compiled(q.decode)(codes), q.decode(codes), "compiled decode")


@contract_check(slow=True)
def traced_values_out_of_range(name, options):
    """While tracing, a code or label out of range sets its frames to NaN."""
    q = make_started(name, options).eval()
    codes = q.encode(frames(q, 2, 20))
    expected = q.decode(codes)
    codes[0, 3, 0], codes[1, 4, -1] = q.codebook_size, -2
    expected[0, 3] = expected[1, 4] = float("nan")
    close(compiled(q.decode)(codes), expected, "decoded codes, two out of range")
    if q.num_classes is not None:
        x, labels = frames(q, 2, 20), torch.tensor([0, q.num_classes])
        out = compiled(q)(x, labels=labels)
        assert bool(out.quantized[1].isnan().all()), "no NaN for a label out of range"
        assert bool((out.codes[1] == -1).all()), "a code for a label out of range"
        alone = q(x[:1], labels=labels[:1])
        same(out.codes[:1], alone.codes, "codes beside a label out of range")


@contract_check(slow=True)
def compiles_in_training(name, options):
    """torch.compile compiles a training step to one graph, even the first step."""
    for make_one in (make, make_started):
        _compiled_steps(make_one(name, options), make_one(name, options))


@contract_check(slow=True)
def compiles_once_for_all_lengths(name, options):
    """For other lengths, torch.compile traces a training step at most once more."""
    q = make_started(name, options).train()
    graphs = _Graphs()
    step = compiled(q, graphs)
    for length in (40, 33, 57, 64, 20):
        x, mask = frames(q, 3, length).requires_grad_(), some_mask(3, length)
        step(x, mask=mask, labels=labels_for(q, 3)).loss.backward()
    assert graphs.count <= 2, f"5 lengths took {graphs.count} graphs, expected 2"


@contract_check(slow=True)
def start_stays_out_of_the_graph(name, options):
    """The graph of the first training step is about as small as that of later ones."""
    sizes = []
    for make_one in (make, make_started):
        q, graphs = make_one(name, options).train(), _Graphs()
        compiled(q, graphs)(frames(q, 3, 40), labels=labels_for(q, 3))
        sizes.append(graphs.operations)
    first, later = sizes
    assert first <= 1.5 * later + 20, (
        f"the graph of the first step has {first} operations, of later ones {later}"
    )


class _Graphs:
    """Compiler backend that counts graphs, and the operations of the last one."""

    def __init__(self):
        self.count = self.operations = 0

    def __call__(self, graph, inputs):
        self.count += 1
        self.operations = sum(n.op == "call_function" for n in graph.graph.nodes)
        return graph


def _compiled_steps(traced, eager):
    mask, labels = some_mask(3, 40), labels_for(eager, 3)
    step = compiled(traced.train())
    for seed in (5, 6, 7):
        results = []
        for q, call in ((traced, step), (eager, eager.train())):
            torch.manual_seed(seed)
            x = frames(q, 3, 40, seed=seed).requires_grad_()
            out = call(x, mask=mask, labels=labels)
            results.append((out, gradients(q, x, out), state_of(q)))
        (out, grads, state), (out0, grads0, state0) = results
        same(out.codes, out0.codes, "codes of a compiled training step")
        close(out.quantized, out0.quantized, "values of a compiled training step")
        close(out.loss, out0.loss, "loss of a compiled training step")
        for key, grad in grads0.items():
            close(grads[key], grad, f"gradient of {key} of a compiled training step")
        for key, value in state0.items():
            close(state[key], value, f"{key} after a compiled training step")
