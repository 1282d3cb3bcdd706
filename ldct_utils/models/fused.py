"""Steps of a network that take less time as one: a 3x3 convolution with its ReLU, a 2x2 upsampling with its join.

On a CPU half of a training update goes into what stands between the convolutions: ReLUs that read and write what was
just written, casts to bfloat16 and back, the transposed convolution's gradients. Here oneDNN takes the ReLU along, the
gradient is masked by the output (nothing else is kept for it), a weight is cast once each way, and what oneDNN does
slowly is a matrix product. The values are those of the plain layers, but for the order in which sums are rounded
(``tests/test_fused.py``). On a GPU the plain layers run.
"""

import weakref
from functools import cache

import torch
from torch import nn
from torch.autograd.function import once_differentiable

FEW_PIXELS = 128  # of a batch, up to which a weight's gradient is faster as a matrix product (AMX, 256 channels)
ONES = [1, 1]
_masked = torch.ops.aten.threshold_backward.default  # gradient of a ReLU, from its output
_gradients = torch.ops.aten.convolution_backward.default
_held = weakref.WeakKeyDictionary()  # {frozen layer: (what its weights were, kernels)}


@cache
def _takes(dtype) -> bool:
    """Whether oneDNN convolves numbers of this type here (bfloat16 needs AVX-512), and by a ReLU's side.

    That these operators exist is not promised: where another version of torch lacks one, the plain layers run.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight"):
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_is_mkldnn_bf16_supported")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _recorded() -> bool:
    """Whether the network is being written down, for ONNX or a compiler: copies into new memory are lost there without
    a word, so the plain layers stand in."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def computed_in(z):
    """The type that a convolution of ``z`` is computed in: autocast's, if it is on."""
    on = torch.is_autocast_enabled(z.device.type) and z.dtype != torch.float64
    return torch.get_autocast_dtype(z.device.type) if on else z.dtype


def _convolve(z, weight, bias, relu):
    """A 3x3 'same' convolution of one type, with its ReLU if asked, without autograd; ``weight`` may be ``_packed``."""
    if _takes(z.dtype):
        after = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise.default(
            z, weight, bias, ONES, ONES, ONES, 1, after, [], ""
        ).contiguous(memory_format=torch.channels_last)
    z = nn.functional.conv2d(z, weight, bias, padding=1)
    return z.relu_() if relu else z


def _packed(weight):
    """A kernel in the layout that oneDNN reads: to get it there costs as much as a convolution of few pixels."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    if not _takes(weight.dtype):
        return weight
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), ONES, ONES, ONES, 1)


def _columns(z):
    """The 3x3 neighbourhood of every pixel: (N * H * W, 9 * C), channels innermost."""
    n, c, h, w = z.shape
    padded = nn.functional.pad(z.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    rows = padded.stride()
    return padded.as_strided((n, h, w, 3, 3, c), (*rows[:3], *rows[1:])).reshape(n * h * w, 9 * c)


class _ConvolutionRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, weight, bias, dtype):
        z, kernel = z.to(dtype), weight.to(dtype)
        out = _convolve(z, kernel, bias.to(dtype), relu=True)
        ctx.save_for_backward(z, kernel, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, kernel, out = ctx.saved_tensors
        need_z, need_weight, need_bias, _ = ctx.needs_input_grad
        grad = _masked(grad.contiguous(memory_format=torch.channels_last), out, 0)
        n, c, h, w = grad.shape
        by_matrix = need_weight and n * h * w <= FEW_PIXELS
        grad_z, grad_weight, grad_bias = _gradients(
            grad, z, kernel, [c], ONES, ONES, ONES, False, [0, 0], 1,
            [need_z, need_weight and not by_matrix, need_bias and not by_matrix],
        )  # fmt: skip
        if by_matrix:
            flat = grad.permute(0, 2, 3, 1).reshape(-1, c)
            grad_weight = (flat.t() @ _columns(z)).view(c, 3, 3, -1).permute(0, 3, 1, 2)
            grad_bias = flat.sum(0)
        return grad_z, grad_weight, grad_bias, None


def convolution_relu(z, layer):
    """``relu(layer(z))`` of an ``nn.Conv2d`` with a 3x3 kernel, padding 1 and a bias."""
    dtype = computed_in(z)
    # in float32 the plain layers are as fast
    if z.device.type != "cpu" or dtype != torch.bfloat16 or _recorded():
        return nn.functional.relu(layer(z), inplace=True)
    return _ConvolutionRelu.apply(z, layer.weight, layer.bias, dtype)


class _Frozen(torch.autograd.Function):
    """A convolution whose weights get no gradient. That of its input is a convolution too, with the kernel turned."""

    @staticmethod
    def forward(ctx, z, kernel, turned, bias, relu):
        ctx.turned = turned
        out = _convolve(z, kernel, bias, relu)
        if relu:
            ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.contiguous(memory_format=torch.channels_last)
        if ctx.saved_tensors:
            grad = _masked(grad, *ctx.saved_tensors, 0)
        return _convolve(grad, ctx.turned, None, relu=False), None, None, None, None


class _FrozenFirst(torch.autograd.Function):
    """The first one, with the accuracy of float32, whatever the type of its output.

    Three bfloat16 hold a float32, so the products of image and kernel are those of their parts, a channel each: the six
    largest leave an error of 2^-24. oneDNN sums them in float32. The gradient of the single channel is a matrix product
    and the sum of nine shifted images.
    """

    @staticmethod
    def forward(ctx, z, layer, relu, dtype):
        if dtype == torch.bfloat16 and _takes(dtype):
            first, second, third = _parts(z)
            z6 = torch.cat([first, first, first, second, second, third], dim=1)
            kernel = _kept(layer, dtype, lambda weight: _packed(_six(weight)))
            out = _convolve(z6.contiguous(memory_format=torch.channels_last), kernel, layer.bias.detach(), relu)
        else:
            out = layer(z)
            out = (out.relu_() if relu else out).to(dtype, memory_format=torch.channels_last)
        ctx.relu, ctx.channels = relu, z.shape[1]
        ctx.save_for_backward(out, layer.weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        out, weight = ctx.saved_tensors
        if ctx.relu:
            grad = _masked(grad.contiguous(memory_format=torch.channels_last), out, 0)
        n, c, h, w = grad.shape
        flat = grad.permute(0, 2, 3, 1).reshape(-1, c).to(weight.dtype)
        taps = (weight[:, 0].reshape(c, 9).t() @ flat.t()).view(3, 3, n, h, w)
        made = taps.new_zeros(n, ctx.channels, h + 2, w + 2)
        for row in range(3):
            for column in range(3):
                made[:, 0, row : row + h, column : column + w] += taps[row, column]
        return made[:, :, 1:-1, 1:-1], None, None, None


def _parts(number):
    """Three bfloat16 whose sum is a float32, largest first."""
    parts = []
    for _ in range(3):
        parts.append(number.bfloat16())
        number = number - parts[-1].float()
    return parts


def _six(weight):
    """The kernel for an image's parts, the first one three times, the second twice, the third once."""
    first, second, third = _parts(weight)
    return torch.cat([first, second, third, first, second, first], dim=1)


def _kept(layer, dtype, make):
    """What ``make`` gives for the weights of a frozen layer, made once as long as they do not change."""
    now = dtype, layer.weight._version, layer.weight.data_ptr()
    before, made = _held.get(layer, (None, None))
    if before != now:
        made = make(layer.weight.detach())
        _held[layer] = now, made
    return made


def frozen(z, layer, relu):
    """``layer(z)``, and ReLU if asked, of an ``nn.Conv2d`` with a 3x3 kernel, padding 1, a bias, and no gradients."""
    if z.device.type != "cpu":
        z = layer(z)
        return nn.functional.relu(z, inplace=True) if relu else z
    dtype = computed_in(z)

    def both(weight):
        weight = weight.to(dtype)
        return _packed(weight), _packed(weight.flip(2, 3).transpose(0, 1))

    return _Frozen.apply(z.to(dtype), *_kept(layer, dtype, both), layer.bias.to(dtype), relu)


def frozen_first(z, layer, relu, float32=False):
    """As ``frozen``, from float32 with its accuracy, of one channel, or two of which the second gets no gradient.

    With ``float32`` its output is of that type too, within autocast as elsewhere.
    """
    dtype = z.dtype if float32 else computed_in(z)
    with torch.autocast(z.device.type, enabled=False):
        if z.device.type != "cpu":
            z = layer(z)
            return nn.functional.relu(z, inplace=True) if relu else z
        return _FrozenFirst.apply(z, layer, relu, dtype)


class _UpJoin(torch.autograd.Function):
    """Each input pixel makes 2x2 output pixels: a product with a matrix (C_in, 4 C_out), then a rearrangement."""

    @staticmethod
    def forward(ctx, z, weight, bias, skip, dtype):
        z, kernel = z.to(dtype), weight.to(dtype)
        (n, _, h, w), c = z.shape, kernel.shape[1]
        flat, matrix = _UpJoin.matrices(z, kernel)
        made = torch.addmm(bias.to(dtype).repeat(4), flat, matrix).view(n, h, w, 2, 2, c)
        joined = made.new_empty(n, 2 * h, 2 * w, c + skip.shape[1])
        joined[..., :c].view(n, h, 2, w, 2, c).copy_(made.transpose(2, 3))
        joined[..., c:].copy_(skip.permute(0, 2, 3, 1))
        ctx.save_for_backward(z, kernel)
        return joined.permute(0, 3, 1, 2)

    @staticmethod
    def matrices(z, kernel):
        return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]), kernel.permute(0, 2, 3, 1).reshape(z.shape[1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, kernel = ctx.saved_tensors
        (n, _, h, w), c = z.shape, kernel.shape[1]
        flat, matrix = _UpJoin.matrices(z, kernel)
        made = grad[:, :c].permute(0, 2, 3, 1).view(n, h, 2, w, 2, c).transpose(2, 3).reshape(-1, 4 * c)
        grad_z = (made @ matrix.t()).view(n, h, w, -1).permute(0, 3, 1, 2)
        rest = grad[:, c:].contiguous(memory_format=torch.channels_last)  # added to another one, which is then fast
        grad_weight = (flat.t() @ made).view(-1, 2, 2, c).permute(0, 3, 1, 2)
        return grad_z, grad_weight, made.sum(0).view(4, c).sum(0), rest, None


def up_join(z, layer, skip):
    """``cat([layer(z), skip], dim=1)`` of an ``nn.ConvTranspose2d`` with a 2x2 kernel, stride 2 and a bias."""
    if z.device.type != "cpu" or _recorded():
        return torch.cat([layer(z), skip], dim=1)
    return _UpJoin.apply(z, layer.weight, layer.bias, skip, computed_in(z))
