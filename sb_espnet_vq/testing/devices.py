"""Check that steps do not synchronize the host with a device."""

from sb_espnet_vq.testing.helpers import frames, labels_for, make_started, some_mask
from sb_espnet_vq.testing.registry import contract_check


@contract_check(cpu_only=True)
def host_reads_nothing_from_a_device(name, options):
    """After the first batch, no step reads a value, which would synchronize a GPU."""
    # Reading a value of a meta tensor raises an error. No GPU is needed: tensors that
    # are neither on a CPU nor traced take the code path for GPUs.
    q = make_started(name, options).to("meta")
    x = frames(q, 3, 40).to("meta").requires_grad_()
    mask, labels = some_mask(3, 40).to("meta"), labels_for(q, 3)
    labels = None if labels is None else labels.to("meta")
    for _ in range(2):
        out = q.train()(x, mask=mask, labels=labels)
        (out.loss + out.quantized.sum()).backward()
    out = q.eval()(x, mask=mask, labels=labels)
    q.decode(q.encode(x, mask=mask, labels=labels))
