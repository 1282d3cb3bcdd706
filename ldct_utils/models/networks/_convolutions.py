"""Convolutions from one channel and to one channel, in a form that oneDNN and cuDNN compute as fast as any other.

Their kernels vectorise over channels and have little to do with a single one: gradients of a 5x5 layer from 96 channels
to one took a hundred times as long in bf16 as in this form. Here the rows of the kernel are the channels.
"""

import torch
from torch import nn


def from_one(image, weight, bias, padding):
    """The convolution of (N, 1, H, W) with a kernel (C, 1, k, k), zeros around: (N, C, H', W'), in channels_last.

    The image, shifted by each row of the kernel, is a channel; what is left to convolve with are kernels (C, k, 1, k).
    """
    k = weight.shape[2]
    padded = nn.functional.pad(image, (0, 0, padding, padding))[:, 0]
    height = padded.shape[1] - k + 1
    rows = torch.stack([padded[:, row : row + height] for row in range(k)], dim=-1).permute(0, 3, 1, 2)
    return nn.functional.conv2d(rows, weight.permute(0, 2, 1, 3).contiguous(), bias, padding=(0, padding))


def to_one(z, weight, bias, padding):
    """The convolution of (N, C, H, W) with a kernel (1, C, k, k), zeros around: (N, 1, H', W').

    Every row of the kernel makes a channel; their sum, each shifted by its row, is taken in float32 even in autocast.
    """
    k = weight.shape[2]
    rows = nn.functional.conv2d(z, weight.permute(2, 1, 0, 3).contiguous(), padding=(0, padding))
    rows = nn.functional.pad(rows if rows.dtype == torch.float64 else rows.float(), (0, 0, padding, padding))
    height = rows.shape[2] - k + 1
    return sum(rows[:, row, row : row + height] for row in range(k))[:, None] + bias


def turned(weight):
    """Kernel (C_in, C_out, k, k) of a transposed convolution of stride 1 as that of the convolution that it is.

    It then has k - 1 pixels of padding where the other has none.
    """
    return weight.flip(2, 3).transpose(0, 1)
