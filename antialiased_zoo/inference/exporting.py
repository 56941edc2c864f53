"""Export of a network to a file for other runtimes: ONNX, torch's exported program, or an AOTInductor package."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from .accepted_images import AcceptedImages
from .adaptive_pool import replace_adaptive_pools
from .compiled import uncompiled

#: Axes of a batch of images that may be dynamic.
AXES = {"batch": 0, "height": 2, "width": 3}

#: A function from a batch ``(N, C, H, W)`` to the network's output, which `load_exported` returns.
Exported: TypeAlias = Callable[[Tensor], Any]

#: ONNX opset version: the one for which torch's exporter is written, so nothing is converted.
OPSET = 18

#: Key of a package's metadata, under which it states its `AcceptedImages`.
_ACCEPTED = "antialiased_zoo.accepted_images"


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    format: str = "onnx",
    input_size: Sequence[int] = (3, 224, 224),
    dynamic: Sequence[str] = (),
) -> Path:
    """Export a network in evaluation mode to a file for another runtime.

    Args:
        model: The network, antialiased or not, compiled or not, on a CPU or a GPU; its mode is
            restored.
        path: The file to write.
        format: "onnx" (opset 18; ONNX Runtime, TensorRT), "pt2" (`torch.export`) or "aoti" (a
            compiled AOTInductor package for this machine's kind of CPU or GPU).
        input_size: ``(C, H, W)`` of the image used for tracing; fixed, except for dynamic axes.
        dynamic: Axes whose size may vary: any of "batch", "height" and "width". Without "batch" the
            exported network takes one image.

    Returns:
        The path.

    Raises:
        ValueError: If an argument is out of range, or if height or width is dynamic and the network
            has an adaptive max pool, except in the format "pt2", or for ONNX images so small that the
            program is not right for larger ones.
        ImportError: If the format needs a package that is not installed.

    Example:
        >>> import antialiased_zoo as az, tempfile
        >>> model, file = nn.Sequential(nn.Conv2d(3, 8, 3), az.Downsample(8)), f"{tempfile.mkdtemp()}/net.pt2"
        >>> network = az.load_exported(az.export_model(model, file, format="pt2", dynamic=["height"]))
        >>> network(torch.ones(1, 3, 66, 224)).shape
        torch.Size([1, 8, 32, 111])
    """
    _check_format(format)
    dynamic = (dynamic,) if isinstance(dynamic, str) else tuple(dynamic)
    if unknown := [axis for axis in dynamic if axis not in AXES]:
        raise ValueError(f"dynamic axes must be among {', '.join(AXES)}; got {', '.join(unknown)}")
    model, path = uncompiled(model), Path(path)
    tensor = next(iter(model.parameters()), torch.empty(0))
    # Two images, since torch treats a size of 1 as constant.
    shape = (2 if "batch" in dynamic else 1, *input_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(tensor)
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            _FORMATS[format](model.eval(), images, dynamic, path)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return path


def load_exported(path: str | os.PathLike[str], format: str | None = None) -> Exported:
    """Load an exported file as a function of a batch of images.

    ONNX files run in ONNX Runtime on the CPU, with torch's number of threads.

    Args:
        path: A file written by `export_model`.
        format: As in `export_model`. Default: detected from the file's content.

    Returns:
        A function from a batch ``(N, C, H, W)`` to the network's output. Several outputs of an ONNX
        file are a list, also if the network returned a dict. That of an AOTInductor package raises
        a ValueError for images that the package was not compiled for.

    Raises:
        ValueError: If the format is unknown.
        FileNotFoundError: If there is no such file.
        ImportError: If ONNX Runtime is needed but not installed.
    """
    if format is not None:
        _check_format(format)
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    format = format or _format_of(Path(path))
    return _LOADERS[format](str(path))


def _check_format(format: str) -> None:
    if format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")


def _export_program(model: nn.Module, images: Tensor, dynamic: Sequence[str]) -> torch.export.ExportedProgram:
    # AUTO lets torch infer the sizes that the network supports; a named range would have to lie
    # within them.
    shapes = {AXES[axis]: torch.export.Dim.AUTO for axis in dynamic}
    # strict=False is the default of newer torch; strict tracing in torch 2.6 does not find the
    # buffers of modules that are called by a hook.
    return torch.export.export(model, (images,), dynamic_shapes=(shapes,), strict=False)


def _compilable_program(model: nn.Module, images: Tensor, dynamic: Sequence[str]) -> torch.export.ExportedProgram:
    program = _export_program(model, images, dynamic)
    return replace_adaptive_pools(program) if {"height", "width"}.intersection(dynamic) else program


def _save_program(model: nn.Module, images: Tensor, dynamic: Sequence[str], path: Path) -> None:
    # Not to the path: torch's own writer does not say that the disk is full.
    file = io.BytesIO()
    torch.export.save(_export_program(model, images, dynamic), file)
    path.write_bytes(file.getbuffer())


def _save_package(model: nn.Module, images: Tensor, dynamic: Sequence[str], path: Path) -> None:
    from torch._inductor import aoti_compile_and_package  # imported as in torch's documentation

    if path.suffix != ".pt2":
        raise ValueError(f"the name of an AOTInductor package must end in .pt2, got {path.name}")
    program = _compilable_program(model, images, dynamic)
    facts = {_ACCEPTED: AcceptedImages.of(program).to_text()}
    aoti_compile_and_package(
        program, package_path=str(path.resolve()), inductor_configs={"aot_inductor.metadata": facts}
    )


def _save_onnx(model: nn.Module, images: Tensor, dynamic: Sequence[str], path: Path) -> None:
    _require("onnx", "onnxscript")
    exported = _compilable_program(model, images, dynamic)
    if AcceptedImages.of(exported).has_upper_limit:
        side = " x ".join(map(str, images.shape[2:]))
        raise ValueError(
            f"for images of {side}, torch exports code that is right for small images only, as where a map is smaller "
            "than a blur's padding: use a larger input_size (--size), or leave height and width out of the dynamic axes"
        )
    program = torch.onnx.export(
        exported,
        input_names=["images"],
        output_names=["output"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    cast(Any, program).save(path, external_data=False)


def _require(*packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"ONNX needs {package}: pip install 'antialiased-zoo[export]'") from error


def _load_onnx(path: str) -> Exported:
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Any:
        outputs = [torch.from_numpy(output) for output in session.run(None, {name: images.cpu().numpy()})]
        return outputs if len(outputs) > 1 else outputs[0]

    return run


def _load_program(path: str) -> Exported:
    return cast(Exported, torch.export.load(path).module())


def _load_package(path: str) -> Exported:
    package: Any = torch._inductor.aoti_load_package(path)
    stated = package.get_metadata().get(_ACCEPTED)
    if stated is None:  # not a package of `export_model`
        return cast(Exported, package)
    accepted = AcceptedImages.from_text(stated)

    def run(images: Tensor) -> Any:
        # Compiled code takes strides and sizes as given: it would read other pixels, or beyond the images.
        accepted.check(images)
        return package(images.contiguous())

    return run


def _format_of(path: Path) -> str:
    import zipfile

    if not zipfile.is_zipfile(path):
        return "onnx"
    with zipfile.ZipFile(path) as file:
        return "aoti" if any("/aotinductor/" in name for name in file.namelist()) else "pt2"


_FORMATS: dict[str, Callable[[nn.Module, Tensor, Sequence[str], Path], None]] = {
    "onnx": _save_onnx,
    "pt2": _save_program,
    "aoti": _save_package,
}
_LOADERS: dict[str, Callable[[str], Exported]] = {"onnx": _load_onnx, "pt2": _load_program, "aoti": _load_package}
