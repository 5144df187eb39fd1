"""Gradient estimators for discrete codes."""

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        return grad.to(ctx.dtype), grad


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` bit for bit and pass its gradient to ``x`` as well.

    Bengio et al. 2013, section 4. ``value`` keeps its own graph, if any.

    Arguments
    ---------
    x : torch.Tensor
        Any shape.
    value : torch.Tensor
        The same shape.

    Returns
    -------
    torch.Tensor
        A copy of ``value`` in its dtype, which may be modified in place.

    Example
    -------
    >>> x = torch.tensor([0.3], requires_grad=True)
    >>> y = straight_through(x, torch.tensor([1.0]))
    >>> y.backward()
    >>> y.item(), x.grad.item()
    (1.0, 1.0)
    """
    if torch.jit.is_tracing():
        # Later calls may need a gradient even if the example input does not, and
        # torch.jit.trace cannot save a custom autograd function. The added term is 0.
        return value + (x - x.detach()).to(value.dtype)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value.clone()
    return _StraightThrough.apply(x, value)


class _AttachGradient(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, value: Tensor, slope: Tensor, curve: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        x, _, slope, curve = inputs
        ctx.save_for_backward(x, slope, curve)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grads
        x, slope, curve = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For a second derivative, the slope needs a graph.
            slope = slope + (x - x.detach()) * curve
        return slope * grad, grad, None, None


def attach_gradient(x: Tensor, value: Tensor, slope: Tensor, curve: Tensor) -> Tensor:
    """Return a scalar ``value`` whose gradient with respect to ``x`` is ``slope``.

    For a value computed without a graph whose gradient is known in closed form.

    Arguments
    ---------
    x, slope : torch.Tensor
        Tensors of equal shape.
    value : torch.Tensor
        Scalar.
    curve : torch.Tensor
        Derivative of each element of ``slope`` with respect to the same element of
        ``x``; broadcasts to the shape of ``x``.

    Returns
    -------
    torch.Tensor
        Scalar.

    Example
    -------
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> slope, curve = torch.tensor([6.0]), torch.tensor(2.0)
    >>> attach_gradient(x, torch.tensor(9.0), slope, curve).backward()
    >>> x.grad
    tensor([6.])
    """
    if torch.jit.is_tracing():
        # As in `straight_through`.
        return value + ((x - x.detach()) * slope).sum()
    return _AttachGradient.apply(x, value, slope, curve)


class _KeepInGraph(torch.autograd.Function):
    @staticmethod
    def forward(value: Tensor, *others: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.shapes = [(other.shape, other.dtype) for other in inputs[1:]]

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, ...]:
        (grad,) = grads
        zeros = [grad.new_zeros((), dtype=d).expand(s) for s, d in ctx.shapes]
        return grad, *zeros


def keep_in_graph(value: Tensor, others: list[Tensor]) -> Tensor:
    """Return a scalar that also depends on ``others``, with zero gradients.

    Arguments
    ---------
    value : torch.Tensor
        Scalar.
    others : list of torch.Tensor
        Parameters that must receive a gradient even if unused.

    Returns
    -------
    torch.Tensor
        ``value``.

    Example
    -------
    >>> x = torch.ones(2, requires_grad=True)
    >>> keep_in_graph(torch.tensor(5.0), [x]).backward()
    >>> x.grad
    tensor([0., 0.])
    """
    return _KeepInGraph.apply(value, *others) if others else value


class _AttachLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(loss)
        return value.clone()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        (loss,) = ctx.saved_tensors
        return grad, torch.ones_like(loss)


def attach_loss(value: Tensor, loss: Tensor) -> Tensor:
    """Return ``value`` bit for bit; its backward pass also backpropagates ``loss``.

    For trainers that ignore the loss of a quantizer: any loss computed from the value
    has the gradient of that loss plus ``loss``. If the trainer scales its own loss, for
    example by a gradient scaler, the caller must scale ``loss`` equally.

    Arguments
    ---------
    value : torch.Tensor
        Any shape.
    loss : torch.Tensor
        Scalar.

    Returns
    -------
    torch.Tensor
        ``value``.

    Example
    -------
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> y = attach_loss(x * 2, x.square().sum())
    >>> y.sum().backward()
    >>> y, x.grad
    (tensor([6.], grad_fn=<_AttachLossBackward>), tensor([8.]))
    """
    if not (torch.is_grad_enabled() and loss.requires_grad):
        return value
    return _AttachLoss.apply(value, loss)


class _SampleEntries(torch.autograd.Function):
    @staticmethod
    def forward(probs: Tensor, tables: Tensor, codes: Tensor) -> Tensor:
        return gather_entries(tables, codes)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        _, tables, codes = inputs
        ctx.save_for_backward(tables, codes)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        tables, codes = ctx.saved_tensors
        grad_probs = torch.einsum("nkd,kvd->nkv", grad, tables)
        offset = torch.arange(len(tables), device=codes.device) * tables.shape[1]
        rows = (codes + offset).reshape(-1)
        grad_tables = torch.zeros_like(tables).flatten(0, 1)
        grad_tables = grad_tables.index_add_(0, rows, grad.flatten(0, 1))
        return grad_probs, grad_tables.view_as(tables), None


def gather_entries(tables: Tensor, codes: Tensor) -> Tensor:
    """Look up one codebook vector in each of K codebooks.

    Arguments
    ---------
    tables : torch.Tensor
        (K, V, D).
    codes : torch.Tensor
        (N, K) int64 in [0, V).

    Returns
    -------
    torch.Tensor
        (N, K, D).

    Example
    -------
    >>> gather_entries(torch.eye(2)[None], torch.tensor([[1]]))
    tensor([[[0., 1.]]])
    """
    offset = torch.arange(len(tables), device=codes.device) * tables.shape[1]
    return tables.flatten(0, 1)[codes + offset]


def sample_entries(probs: Tensor, tables: Tensor, codes: Tensor) -> Tensor:
    """Return the sampled codebook vectors, with the gradient of their expectation.

    The value and the gradient to the codebooks are those of one-hot(codes) times the
    codebooks. The gradient to ``probs`` is that of probs times the codebooks (Jang et
    al. 2017, straight-through Gumbel-softmax, section 2.2). Neither product is
    computed: the value is a gather, the gradient to the codebooks an index_add.

    Arguments
    ---------
    probs : torch.Tensor
        (N, K, V) probabilities over each codebook.
    tables : torch.Tensor
        (K, V, D) codebooks.
    codes : torch.Tensor
        (N, K) int64, the sampled codes.

    Returns
    -------
    torch.Tensor
        (N, K, D).

    Example
    -------
    >>> probs = torch.tensor([[[0.4, 0.6]]], requires_grad=True)
    >>> tables = torch.tensor([[[1.0], [3.0]]])
    >>> y = sample_entries(probs, tables, torch.tensor([[1]]))
    >>> y.sum().backward()
    >>> y.item(), probs.grad
    (3.0, tensor([[[1., 3.]]]))
    """
    if torch.jit.is_tracing():
        # torch.jit.trace cannot save a custom autograd function. The added term is 0.
        moved = torch.einsum("nkv,kvd->nkd", probs - probs.detach(), tables.detach())
        return gather_entries(tables, codes) + moved
    return _SampleEntries.apply(probs, tables, codes)


def gumbel_noise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw standard Gumbel noise, -log(E) with E exponential.

    Arguments
    ---------
    x : torch.Tensor
        Tensor with the shape, dtype and device of the result.
    generator : torch.Generator, optional
        Default: torch's default generator of the device.

    Returns
    -------
    torch.Tensor
        Shape of ``x``.

    Example
    -------
    >>> gumbel_noise(torch.zeros(3, 4)).shape
    torch.Size([3, 4])
    """
    drawn = torch.empty_like(x, memory_format=torch.contiguous_format)
    return drawn.exponential_(generator=generator).log_().neg_()
