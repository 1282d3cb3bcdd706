"""The selective scan of a state-space model (Gu & Dao 2023, arXiv 2312.00752, Eq. 2 and Algorithm 2).

For every channel d and state n, along a sequence:

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t,        y_t = sum over n of C_t h_t  +  D u_t.

``chunked`` is the one that is used on a CPU, and on a GPU without mamba_ssm: a sequence of L positions is cut
into about sqrt(L) chunks that walk in step, so that some 3 sqrt(L) large operations replace L small ones; nothing is
divided and no logarithm of a product is taken, so that long sequences cannot underflow. Only the states before the
chunks are kept for the gradients, and the rest is computed again: a tensor (batch, length, channels, states) is never
whole in memory.
"""

import importlib.util
import itertools
import math
from functools import cache

import torch
from torch.autograd.function import once_differentiable

METHODS = ("auto", "chunked", "loop", "mamba_ssm")
TOLERANCE = 1e-4  # of mamba_ssm's kernel, relative to the largest value
SPAN_ELEMENTS = 2**20  # states held at a time: 4 MB in float32, so that the buffers of a span stay in a CPU's cache


def selective_scan(u, dt, A, B, C, D, method="auto"):
    """Run the scan along axis 1; causal: y at t depends on positions up to t only.

    Args:
        u: input (N, L, d). dt: step sizes > 0, (N, L, d).
        A: (d, states), < 0. B, C: (N, L, states), shared by the channels. D: (d,).
        method: ``chunked`` (any device), ``loop`` (position by position, to compare with), ``mamba_ssm`` (its CUDA
            kernel), or ``auto``: on a GPU mamba_ssm where it is installed, else chunked. All in float32 (chunked and
            loop also in float64); autocast is left out.
    Returns: y (N, L, d).
    Raises: ValueError: for an unknown method, or shapes or types that do not fit.
    """
    given = {"u": u, "dt": dt, "A": A, "B": B, "C": C, "D": D}
    d, states = A.shape
    wanted = {
        "u": (*u.shape[:2], d),
        "dt": u.shape,
        "B": (*u.shape[:2], states),
        "C": (*u.shape[:2], states),
        "D": (d,),
    }
    for name, shape in wanted.items():
        if given[name].shape != torch.Size(shape):
            raise ValueError(f"selective_scan: {name} must be {tuple(shape)}, not {tuple(given[name].shape)}")
    if len({x.dtype for x in given.values()}) > 1 or u.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"selective_scan takes float32 throughout, got { {n: str(x.dtype) for n, x in given.items()} }"
        )
    if method not in METHODS:
        raise ValueError(f"no scan {method!r}; there are {', '.join(METHODS)}")
    if method == "auto":
        method = fastest(u.device, u.dtype)
    if method == "mamba_ssm":
        check(str(u.device))
    with torch.autocast(u.device.type, enabled=False):
        return _run(method, u, dt, A, B, C, D)


def _run(method, *given):
    return {"chunked": _chunked, "loop": _loop, "mamba_ssm": _mamba_ssm}[method](*given)


def fastest(device, dtype=torch.float32) -> str:
    """The method that ``auto`` stands for on a device."""
    fits = torch.device(device).type == "cuda" and dtype == torch.float32
    return "mamba_ssm" if fits and importlib.util.find_spec("mamba_ssm") else "chunked"


@cache
def check(device: str):
    """Compare mamba_ssm with the definition on a device, output and gradients; once a process, before its first use.

    A kernel depends on driver, compiler and version: one that computes something else here must not do so unnoticed.
    Raises: RuntimeError: if they differ, with what to set instead.
    """
    draw = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
        u, dt = torch.randn(2, 2, 150, 3, generator=draw)
        B, C = torch.randn(2, 2, 150, 16, generator=draw)
        A = -torch.arange(1.0, 17).repeat(3, 1)
        given = [u, torch.nn.functional.softplus(dt - 2), A, B, C, torch.ones(3)]
        given = [x.to(device).requires_grad_() for x in given]
        found = []
        for one in ("mamba_ssm", "loop"):
            y = _run(one, *given)
            weights = torch.linspace(-1, 1, y.numel(), device=device).view_as(y)
            found.append([y.detach(), *torch.autograd.grad((y * weights).sum(), given)])
        worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*found))
    if not worst < TOLERANCE:
        raise RuntimeError(
            f"the scan 'mamba_ssm' on {device} is off by {worst:.1e} of the largest value; use the scan 'chunked' "
            '(03_train: -p settings "scan=chunked")'
        )


def _loop(u, dt, A, B, C, D):
    """The definition, position by position: the oracle of the tests and the yardstick of the benchmark."""
    h, y = u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        y.append((h * C[:, t, None]).sum(-1))
    return torch.stack(y, 1) + D * u


def _mamba_ssm(u, dt, A, B, C, D):
    """The authors' CUDA kernel, which wants (N, d, L)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    turned = [x.transpose(1, 2).contiguous() for x in (u, dt, B, C)]
    return selective_scan_fn(turned[0], turned[1], A, turned[2], turned[3], D).transpose(1, 2)


def _chunked(u, dt, A, B, C, D):
    length, elements = u.shape[1], len(u) * A.numel()
    span = min(length, max(SPAN_ELEMENTS // elements, math.isqrt(length) + 1))
    span = -(-length // -(-length // span))  # as many spans as are needed, of one length
    chunk = 1 << (span - 1).bit_length() // 2  # about the root: images of powers of two need no padding
    span = chunk * -(-span // chunk)
    missing = -length % span  # positions with dt = 0 change no state
    padded = [torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x for x in (u, dt, B, C)]
    return _Chunked.apply(*padded[:2], A, *padded[2:], span, chunk)[:, :length] + D * u


def _walk(decay, x, start, chunk, begins=None, backwards=False):
    """In place along axis 0: x_t <- x_t + decay_t x_{t-1} (or x_{t+1}), from ``start``, in chunks that walk in step.

    Args:
        decay, x: (span, ...), span divisible by ``chunk``, the number of positions of a chunk.
        begins: what an earlier walk over the same values returned, to save a pass.
    Returns: what was before each chunk, (span / chunk, ...).
    """
    decay, x = decay.unflatten(0, (-1, chunk)), x.unflatten(0, (-1, chunk))
    steps, chunks = list(range(chunk)), list(range(len(x)))
    if backwards:
        steps.reverse()
        chunks.reverse()
    if begins is None:
        # where each chunk would end if it began at zero, and what is left there of its beginning
        end, left, begins = x[:, steps[0]].clone(), decay.prod(1), torch.empty_like(x[:, 0])
        for t in steps[1:]:
            torch.addcmul(x[:, t], decay[:, t], end, out=end)
        begins[chunks[0]] = start
        for before, now in itertools.pairwise(chunks):
            torch.addcmul(end[before], left[before], begins[before], out=begins[now])
    state = begins
    for t in steps:
        state = torch.addcmul(x[:, t], decay[:, t], state, out=x[:, t])
    return begins


class _Chunked(torch.autograd.Function):
    """The scan without D u: span after span, forwards for y, then backwards with the states computed again."""

    @staticmethod
    def _states(u, dt, A, B, start):
        """Decay exp(dt A), one position longer, and states h, led by the one before the span; (span + 1, N, d, n)."""
        decay, h = (u.new_empty(len(u) + 1, u.shape[1], *A.shape) for _ in range(2))
        torch.mul(dt[..., None], A, out=decay[:-1]).exp_()
        torch.mul((dt * u)[..., None], B[:, :, None], out=h[1:])
        decay[-1], h[0] = 0.0, start
        return decay, h

    @staticmethod
    def forward(ctx, u, dt, A, B, C, span, chunk):
        keep = any(ctx.needs_input_grad)
        state, starts = u.new_zeros(len(u), *A.shape), []
        y = torch.empty_like(u)
        for at in range(0, u.shape[1], span):
            now = slice(at, at + span)
            u_, dt_, B_, C_ = (x[:, now].transpose(0, 1) for x in (u, dt, B, C))
            decay, h = _Chunked._states(u_, dt_, A, B_, state)
            begins = _walk(decay[:-1], h[1:], state, chunk)
            if keep:
                starts.append(begins)
            y[:, now] = (h[1:] @ C_[..., None])[..., 0].transpose(0, 1)
            state = h[-1].clone()
        if keep:
            ctx.save_for_backward(u, dt, A, B, C, torch.stack(starts))
            ctx.span, ctx.chunk = span, chunk
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        u, dt, A, B, C, starts = ctx.saved_tensors
        gu, gdt, gB, gC, gA = (torch.empty_like(x) for x in (u, dt, B, C, A))
        gA.zero_()
        carry = torch.zeros_like(starts[0, 0])  # gradient with respect to the state at the end of the span
        for number, begins in reversed(list(enumerate(starts))):
            now = slice(number * ctx.span, (number + 1) * ctx.span)
            u_, dt_, B_, C_, gy_ = (x[:, now].transpose(0, 1) for x in (u, dt, B, C, gy))
            decay, h = _Chunked._states(u_, dt_, A, B_, begins[0])
            _walk(decay[:-1], h[1:], begins[0], ctx.chunk, begins)
            gC[:, now] = (gy_[:, :, None] @ h[1:])[:, :, 0].transpose(0, 1)
            gh = gy_[..., None] * C_[:, :, None]  # then the gradient with respect to every state
            gh[-1] += carry
            _walk(decay[1:], gh, 0.0, ctx.chunk, backwards=True)
            carry = decay[0] * gh[0]
            gB[:, now] = ((dt_ * u_)[:, :, None] @ gh)[:, :, 0].transpose(0, 1)
            by_input = (gh @ B_[..., None])[..., 0]  # with respect to dt u
            gu[:, now] = (by_input * dt_).transpose(0, 1)
            by_rate = gh.mul_(h[:-1]).mul_(decay[:-1])  # with respect to dt A
            gA += (by_rate * dt_[..., None]).sum((0, 1))
            gdt[:, now] = (by_input * u_ + by_rate.mul_(A).sum(-1)).transpose(0, 1)
        return gu, gdt, gA, gB, gC, None, None
