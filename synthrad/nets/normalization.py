"""Group normalization whose derivative does not wait for the memory layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _GroupNorm(torch.autograd.Function):
    """Torch's group normalization with a derivative of whole-picture operations.

    Torch's own derivative on a CPU is slow for pictures in channels_last, most where a group is of one channel: with 32 maps of
    64 px in 32 groups forward and backward took 4 times as long as with this one, in bfloat16 8 times.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        n, c, h, w = x.shape
        return torch.native_group_norm(x, weight, bias, n, c, h * w, groups, eps)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, _, ctx.groups, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, weight, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor, *_: Tensor
                 ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """With y = weight (x - mean) / s + bias: three numbers a channel, then one pass over the picture.

        Of 8 bits, x is centred first: products and sums around a mean that is large beside s would lose the rest.
        """
        x, weight, mean, rstd = ctx.saved_tensors
        n, c, h, w = x.shape
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        size = c // ctx.groups
        mean, rstd = (v.to(exact).repeat_interleave(size, 1) for v in (mean, rstd))  # [n, c]
        gamma, pixels = weight.to(exact), size * h * w
        if x.dtype != exact:
            near = mean.to(x.dtype)
            x, mean = x - near[:, :, None, None], mean - near.to(exact)
        of_bias = gradient.sum((2, 3), dtype=exact)
        of_weight = ((gradient * x).sum((2, 3), dtype=exact) - mean * of_bias) * rstd

        def share(v: Tensor) -> Tensor:
            """The mean over a group's pixels, for each of its channels."""
            return (v * gamma).view(n, ctx.groups, size).sum(2).div(pixels).repeat_interleave(size, 1)

        slope = -rstd.square() * share(of_weight)  # what the gradient follows x by
        level = -rstd * share(of_bias) - slope * mean
        factors = (v.to(x.dtype)[:, :, None, None] for v in (level, slope, rstd * gamma))
        level, slope, scale = factors
        of_x = torch.addcmul(level, x, slope).addcmul_(gradient, scale)
        return of_x, of_weight.sum(0).to(weight.dtype), of_bias.sum(0).to(weight.dtype), None, None


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm, quicker in training on a CPU for pictures in channels_last; without second derivatives there."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        walked = x.ndim == 4 and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        if walked and self.affine and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)[0]
        return super().forward(x)


def quicken(net: nn.Module) -> None:
    """Put GroupNorm in the place of every nn.GroupNorm of a net, with its parameters under their names."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.GroupNorm:
                made = GroupNorm(child.num_groups, child.num_channels, child.eps, child.affine)
                made.weight, made.bias = child.weight, child.bias
                setattr(parent, name, made)
