"""Weights files that Keras writes (HDF5), read as state dicts with torchvision's names, without running code."""

import re

import h5py
import numpy as np
import torch

# block1_conv2/... as in Keras's own VGGs, or block1/layers/conv2d_1/vars/0 where each block is a model of its own
CONVOLUTION = re.compile(r"block(\d+)(?:_conv(\d+)|/layers/conv2d(?:_(\d+))?)/")


def read_vgg(path) -> dict:
    """The convolutions of a VGG by torchvision's keys, ``features.{i}.weight`` (out, in, 3, 3) and ``.bias``, float32.

    Keras stores kernels as (3, 3, in, out), and its VGGs read blue, green, red: the first kernel's inputs are turned
    round, so that it reads red, green, blue. What a file holds beside the blocks, such as outputs, is left out.

    Raises: ValueError: for a file that is damaged, or holds no VGG in blocks without gaps.
    """
    try:
        with h5py.File(path, "r") as file:
            found = {}
            file.visititems(lambda name, item: _collect(found, name, item))
    except Exception as error:  # readers of broken files raise whatever the bytes make them stumble over
        raise ValueError(f"{path.name} cannot be read as weights ({error}): is it cut short? Fetch it again") from error
    state, index, inside = {}, 0, 3
    for number, (block, convolution) in enumerate(sorted(found)):
        if convolution == 1 and block > 1:
            index += 1  # the max-pool between blocks
        kernel, bias = found[block, convolution].get(4), found[block, convolution].get(1)
        gap = (block, convolution) not in _next(sorted(found)[:number])
        if gap or kernel is None or bias is None or kernel.shape[2] != inside or kernel.shape[3] != bias.size:
            raise ValueError(f"{path.name} holds no VGG: block {block}, convolution {convolution} does not follow")
        kernel = kernel[:, :, ::-1] if number == 0 else kernel
        state[f"features.{index}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))).float()
        state[f"features.{index}.bias"] = torch.from_numpy(bias).float()
        index, inside = index + 2, bias.size  # a convolution and its ReLU
    if not state:
        raise ValueError(f"{path.name} holds no VGG: no convolution of a block is in it")
    return state


def _collect(found, name, item):
    """Note an array of a convolution by (block, convolution) and its number of axes: 4 of a kernel, 1 of a bias."""
    if isinstance(item, h5py.Dataset) and (match := CONVOLUTION.search(name)):
        block, named, counted = match.groups()
        found.setdefault((int(block), int(named or int(counted or 0) + 1)), {})[item.ndim] = item[()]


def _next(before) -> set:
    """Which (block, convolution) may come after these: the next one, or the first of the next block."""
    if not before:
        return {(1, 1)}
    block, convolution = before[-1]
    return {(block, convolution + 1), (block + 1, 1)}
