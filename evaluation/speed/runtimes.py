"""Other ways to run the trunk of a cascade on a processor, compared with our own in the same turns.

Only the trunk is exchanged, which is nearly all of the work; stabilizing,
stage two and read-out are the same for all, so the figures are those of whole
frames. Everything runs on one thread and is compiled for each shape of its
input, the fastest setting of these compilers.

torch.compile needs a C++ compiler at run time. ONNX Runtime and OpenVINO are no
dependencies: ``pip install onnx onnxscript onnxruntime openvino`` brings them.
Missing runtimes are listed with the reason.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from models.localization import Localizer
from models.networks.cascade import Cascade
from models.weights import reference_model

__all__ = ["RUNTIMES", "RuntimeMissing", "other_localizer"]

Maps = Sequence[Tensor]
_Run = Callable[[Maps], tuple[Tensor, ...]]


class RuntimeMissing(Exception):
    """A runtime that cannot work here, with the reason."""


class _Trunk(nn.Module):
    """Trunk of a folded cascade with a tensor for each argument, as exporters require."""

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self.cascade = cascade

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        # By its class: the instance's method is exchanged.
        return Cascade.features(self.cascade, list(maps))


class _EachShape:
    """Compiles for each shape of the first map when it comes, and keeps what was compiled."""

    def __init__(self, trunk: _Trunk, compiler: Callable[[_Trunk, Maps], _Run]) -> None:
        self._trunk, self._compiler = trunk, compiler
        self._made: dict[torch.Size, _Run] = {}

    def __call__(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        shape = maps[0].shape
        if shape not in self._made:
            self._made[shape] = self._compiler(self._trunk, maps)
        return self._made[shape](maps)


def other_localizer(size: str, runtime: str, sample: Any) -> Localizer:
    """Localizer of a shipped model whose trunk runs elsewhere.

    Parameters
    ----------
    size : str
        Of the shipped model.
    runtime : str
        One of `RUNTIMES`.
    sample : ndarray of uint16, shape (B, H, W)
        Frames with which is tried whether it works.

    Raises
    ------
    RuntimeMissing
        When it does not.
    """
    localizer = Localizer.load(reference_model(size), "cpu", "float32")
    module: Any = localizer.network.module
    module.features = _EachShape(_Trunk(module).eval(), RUNTIMES[runtime])
    numbers = torch.arange(len(sample)).numpy()
    try:
        with warnings.catch_warnings():
            # Exporters warn of packages of their own that they would like to have.
            warnings.simplefilter("ignore")
            localizer.localize(sample, numbers)
    except ImportError as error:
        raise RuntimeMissing(f"{error.name or error} is not installed") from error
    except Exception as error:
        # Whatever a compiler raises, the other rows of the table are wanted all the same.
        raise RuntimeMissing(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}") from error
    return localizer


def _inductor(dtype: torch.dtype) -> Callable[[_Trunk, Maps], _Run]:
    def compiled(trunk: _Trunk, _maps: Maps) -> _Run:
        if dtype != torch.float32:
            trunk = _convert(trunk, dtype)
        fast = torch.compile(trunk, dynamic=False)

        def run(maps: Maps) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                return tuple(found.float() for found in fast(*(each.to(dtype) for each in maps)))

        return run

    return compiled


def _convert(trunk: _Trunk, dtype: torch.dtype) -> _Trunk:
    """A copy in another number format; the weights of the original stay what stage two reads."""
    copy = Cascade(trunk.cascade.settings).eval()
    copy.fold(torch.float32)
    copy.load_state_dict(trunk.cascade.state_dict())
    return _Trunk(copy.to(dtype, memory_format=torch.channels_last))  # type: ignore[call-overload]


def _onnx(trunk: _Trunk, maps: Maps) -> _Run:
    runtime = import_module("onnxruntime")
    import_module("onnxscript")
    # It names torchvision, which is not needed here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    exported = torch.onnx.export(trunk, tuple(each.contiguous() for each in maps), dynamo=True, verbose=False)
    if exported is None:
        raise RuntimeError("the exporter gave nothing")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    serialized = exported.model_proto.SerializeToString()
    session = runtime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]

    def run(maps: Maps) -> tuple[Tensor, ...]:
        given = {name: each.contiguous().numpy() for name, each in zip(inputs, maps, strict=True)}
        return tuple(torch.from_numpy(found) for found in session.run(None, given))

    return run


def _openvino(precision: str) -> Callable[[_Trunk, Maps], _Run]:
    def compiled(trunk: _Trunk, maps: Maps) -> _Run:
        openvino = import_module("openvino")
        shapes = [list(each.shape) for each in maps]
        converted = openvino.convert_model(trunk, example_input=tuple(maps), input=shapes)
        options = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

        def run(maps: Maps) -> tuple[Tensor, ...]:
            found = request.infer([each.contiguous().numpy() for each in maps], share_inputs=True)
            return tuple(torch.from_numpy(each.copy()) for each in found.values())

        return run

    return compiled


RUNTIMES: dict[str, Callable[[_Trunk, Maps], _Run]] = {
    "torch.compile, float32": _inductor(torch.float32),
    "torch.compile, bfloat16": _inductor(torch.bfloat16),
    "ONNX Runtime, float32": _onnx,
    "OpenVINO, float32": _openvino("f32"),
    "OpenVINO, bfloat16": _openvino("bf16"),
}
"""How each of them compiles a trunk for maps of one shape."""
