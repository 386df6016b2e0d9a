"""Which number format a processor computes networks in fastest without harm.

bf16 convolutions run 2 to 10 times faster than float32 where the processor has
instructions for them (AMX, AVX-512 BF16, GPUs of the Ampere generation on), and
slower where it does not; so the processor is asked, never assumed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from models.errors import DataError

__all__ = ["autocast", "chosen_device", "chosen_precision"]


def chosen_device(device: str) -> torch.device:
    """Device for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    DataError
        When CUDA is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DataError(f"Device {device!r} is not known.", "Choose auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError(
            "Device 'cuda' was asked for, but PyTorch finds no CUDA device here.",
            "Use --device auto or cpu, or install a CUDA build of PyTorch and the driver.",
        )
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def chosen_precision(device: torch.device, precision: str = "auto") -> torch.dtype:
    """bfloat16 where the hardware multiplies it, float32 elsewhere; ``"float32"`` and ``"bfloat16"`` force it."""
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise DataError(f"Precision {precision!r} is not known.", "Choose auto, float32 or bfloat16.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run the block's convolutions and products in `dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
