"""Device and number format for networks.

bfloat16 convolutions run 2 to 10 times faster than float32 on processors with
instructions for them (AMX, AVX-512 BF16, GPUs from the Ampere generation on),
and slower on others, so the hardware is queried.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from models.errors import DataError

__all__ = ["autocast", "can_quantize", "select_device", "select_precision"]


def select_device(device: str) -> torch.device:
    """Select the device for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    DataError
        When CUDA is requested and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DataError(f"Device {device!r} is not known.", "Choose auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError(
            "Device 'cuda' was requested, but PyTorch finds no CUDA device here.",
            "Use --device auto or cpu, or install a CUDA build of PyTorch and the driver.",
        )
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def select_precision(device: torch.device, precision: str = "auto", *, quantized: bool = False) -> torch.dtype:
    """Select the number format for ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"int8"``.

    Parameters
    ----------
    device : torch.device
    precision : str
        ``"auto"``: int8 on a processor for a network that was measured for it, else bfloat16 where the hardware
        multiplies it, else float32.
    quantized : bool
        Whether the network was measured for int8.

    Raises
    ------
    DataError
        When the name is unknown, or int8 is requested and not available.
    """
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "int8" and not (quantized and can_quantize(device)):
        raise DataError(
            f"Precision 'int8' was requested; the device is {device.type}, and the model "
            f"{'has' if quantized else 'lacks'} the bounds of its maps; int8 needs a processor and the bounds.",
            "Choose auto, or train the model in the size `live`.",
        )
    if precision not in ("auto", "int8"):
        raise DataError(f"Precision {precision!r} is not known.", "Choose auto, float32, bfloat16 or int8.")
    if quantized and can_quantize(device):
        return torch.int8
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def can_quantize(device: torch.device) -> bool:
    """Whether 8-bit convolutions exist for a device."""
    return device.type == "cpu" and hasattr(torch.ops.onednn, "qconv_prepack")


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run the block's convolutions and products in `dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
