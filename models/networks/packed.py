"""Fast convolutions of a folded network on a processor.

For every convolution PyTorch rearranges the weights into the order of the
processor's kernels, and passes over the result again for the ReLU and for the
sum of a residual block. Here the weights are arranged once, and ReLU and sum
are computed while the result is still in the registers. These are the
primitives of oneDNN that PyTorch's own compiler uses, without its need for a
C++ compiler.

For one frame of 256 x 256 this saves a quarter of the time (docs/performance.md).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["PackedConvolution", "can_pack"]


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed convolutions exist for a processor and number format."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class PackedConvolution(nn.Module):
    """A convolution with its ReLU, or with a sum and its ReLU, for inference in bfloat16 on a processor.

    Parameters
    ----------
    convolution : nn.Conv2d
        With its batch normalization folded in.
    relu : bool
        Whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()
        self._bias = bias.to(torch.bfloat16)
        self._plain = convolution.weight.detach().to(torch.bfloat16, memory_format=torch.channels_last)
        self._packed: Tensor | None = None
        self._relu = relu
        padding, stride, dilation = (
            [int(step) for step in steps] for steps in (convolution.padding, convolution.stride, convolution.dilation)
        )
        self._geometry = (padding, stride, dilation, convolution.groups)

    def _weight(self, x: Tensor) -> Tensor:
        # Arranged for the first shape: other shapes work too, and the engine's frames all have one shape.
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(self._plain, *self._geometry, list(x.shape))
        return self._packed

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; shape (B, C, H, W), channels last."""
        after: Literal["relu", "none"] = "relu" if self._relu else "none"
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight(x), self._bias, *self._geometry, after, [], ""
        )
        return found

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Convolve `x` and add it to `other` in place, then the ReLU; return `other`."""
        after = "relu" if self._relu else None
        found: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, self._weight(x), self._bias, *self._geometry, "add", 1.0, after, [], None
        )
        return found
