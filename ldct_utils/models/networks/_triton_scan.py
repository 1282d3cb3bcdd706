"""The selective scan as a Triton kernel, forwards and backwards, for GPUs; ``selective_scan`` has the equations.

One program follows one channel of one sequence, a block of positions at a time, and keeps the channel's states in
registers; within a block the recurrence is an associative scan over pairs (decay, input). The state before every block
is stored, the rest is computed again for the gradients. Those of B and C are sums over channels, added up atomically:
their last bits may differ from run to run on a GPU.

The tests run it in Triton's interpreter (TRITON_INTERPRET=1) on a CPU against the other scans, and compile it for GPUs
that are not there. It has not been timed or tuned on a GPU; that it computes the right thing there is checked at its
first use (``_selective_scan.check``).
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

BLOCK = 64  # positions a block
# The grid is (sequences, channels): CUDA takes 2^31 - 1 programs along the first axis and 65,535 along the others, and
# a scan over channels has a sequence for every pixel of a batch.


@triton.jit
def _combine(decay_a, x_a, decay_b, x_b):
    return decay_a * decay_b, decay_b * x_a + x_b


@triton.jit
def _block(u, dt, B, C, row, column, block, length, width, N: tl.constexpr, T: tl.constexpr):
    """Offsets and values of one block: u and dt (T,), B and C (T, N); zero beyond the sequence."""
    t = block * T + tl.arange(0, T)
    inside = t < length
    one = (row * length + t) * width + column
    many = (row * length + t)[:, None] * N + tl.arange(0, N)[None, :]
    u_, dt_ = tl.load(u + one, inside, 0.0), tl.load(dt + one, inside, 0.0)
    B_, C_ = tl.load(B + many, inside[:, None], 0.0), tl.load(C + many, inside[:, None], 0.0)
    return inside, one, many, u_, dt_, B_, C_


@triton.jit
def _forward(u, dt, A, B, C, y, starts, length, width, blocks, N: tl.constexpr, T: tl.constexpr):
    row, column, n = tl.program_id(0), tl.program_id(1), tl.arange(0, N)
    A_ = tl.load(A + column * N + n)
    state = tl.zeros((N,), tl.float32)
    last = tl.arange(0, T)[:, None] == T - 1
    for block in range(blocks):
        tl.store(starts + ((row * blocks + block) * width + column) * N + n, state)
        inside, one, _many, u_, dt_, B_, C_ = _block(u, dt, B, C, row, column, block, length, width, N, T)
        decay = tl.exp(dt_[:, None] * A_[None, :])
        left, h = tl.associative_scan((decay, (dt_ * u_)[:, None] * B_), 0, _combine)
        h += left * state[None, :]
        tl.store(y + one, tl.sum(h * C_, 1), inside)
        state = tl.sum(tl.where(last, h, 0.0), 0)


@triton.jit
def _backward(u, dt, A, B, C, starts, gy, gu, gdt, gA, gB, gC, length, width, blocks, N: tl.constexpr, T: tl.constexpr):
    row, column, n = tl.program_id(0), tl.program_id(1), tl.arange(0, N)
    A_ = tl.load(A + column * N + n)
    carry, gA_ = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    first, last = tl.arange(0, T)[:, None] == 0, tl.arange(0, T)[:, None] == T - 1
    for back in range(blocks):
        block = blocks - 1 - back
        state = tl.load(starts + ((row * blocks + block) * width + column) * N + n)
        inside, one, many, u_, dt_, B_, C_ = _block(u, dt, B, C, row, column, block, length, width, N, T)
        gy_ = tl.load(gy + one, inside, 0.0)
        t = block * T + tl.arange(0, T)
        after = tl.load(dt + one + width, (t + 1 < length) & (tl.arange(0, T) < T - 1), 0.0)  # dt of the next position
        decay = tl.exp(dt_[:, None] * A_[None, :])
        x = (dt_ * u_)[:, None] * B_
        left, h = tl.associative_scan((decay, x), 0, _combine)
        h += left * state[None, :]
        # gradient with respect to the states: the same recurrence from the end, each step with the next one's decay
        gh = gy_[:, None] * C_ + tl.where(last, carry[None, :], 0.0)
        _, gh = tl.associative_scan((tl.exp(after[:, None] * A_[None, :]), gh), 0, _combine, reverse=True)
        carry = tl.sum(tl.where(first, decay * gh, 0.0), 0)
        tl.atomic_add(gC + many, gy_[:, None] * h, inside[:, None])
        tl.atomic_add(gB + many, (dt_ * u_)[:, None] * gh, inside[:, None])
        by_input = tl.sum(gh * B_, 1)
        by_rate = gh * (h - x)  # decay times the state before, times the gradient: with respect to dt A
        tl.store(gu + one, by_input * dt_, inside)
        tl.store(gdt + one, by_input * u_ + tl.sum(by_rate * A_[None, :], 1), inside)
        gA_ += tl.sum(by_rate * dt_[:, None], 0)
    tl.atomic_add(gA + column * N + n, gA_)


class _Scan(torch.autograd.Function):
    """The scan without D u."""

    @staticmethod
    def forward(ctx, u, dt, A, B, C):
        u, dt, A, B, C = (x.contiguous() for x in (u, dt, A, B, C))
        rows, length, width = u.shape
        blocks = triton.cdiv(length, BLOCK)
        y, starts = torch.empty_like(u), u.new_empty(rows, blocks, *A.shape)
        _forward[rows, width](u, dt, A, B, C, y, starts, length, width, blocks, A.shape[1], BLOCK)
        ctx.save_for_backward(u, dt, A, B, C, starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        u, dt, A, B, C, starts = ctx.saved_tensors
        gu, gdt, gA, gB, gC = (torch.zeros_like(x) for x in (u, dt, A, B, C))
        rows, length, width = u.shape
        _backward[rows, width](
            u, dt, A, B, C, starts, gy.contiguous(), gu, gdt, gA, gB, gC,
            length, width, starts.shape[1], A.shape[1], BLOCK,
        )  # fmt: skip
        return gu, gdt, gA, gB, gC


def scan(u, dt, A, B, C, D):
    """``selective_scan`` on float32 tensors, on a GPU (or with TRITON_INTERPRET=1, slowly, anywhere); the number of
    states a power of two."""
    return _Scan.apply(u, dt, A, B, C) + D * u
