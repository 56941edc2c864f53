"""The batches of images that an exported program is right for; an AOTInductor package does not check them itself."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

Range = tuple[int, int | None]


@dataclass(frozen=True)
class AcceptedImages:
    """Type and sizes of the images that compiled code is right for.

    Attributes:
        dtype: Name of the type in torch, as "float32".
        sizes: For each axis the smallest and the largest size; None if there is no largest.
    """

    dtype: str
    sizes: tuple[Range, ...]

    @classmethod
    def of(cls, program: torch.export.ExportedProgram) -> AcceptedImages:
        """Read them from a program with one input."""
        name = program.graph_signature.user_inputs[0]
        images = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
        batch, *sizes = (_range(program, size) for size in images.shape)
        # torch states at least 2 for every open axis, which is a true limit of maps only.
        return cls(_name(images), (batch if isinstance(images.shape[0], int) else (0, None), *sizes))

    @classmethod
    def from_text(cls, text: str) -> AcceptedImages:
        """The inverse of `to_text`."""
        stated = json.loads(text)
        return cls(stated["dtype"], tuple((low, high) for low, high in stated["sizes"]))

    @property
    def has_upper_limit(self) -> bool:
        """Whether an open axis has a largest size."""
        return any(high not in (low, None) for low, high in self.sizes)

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    def check(self, images: Tensor) -> None:
        """Raise a ValueError if compiled code would read beyond the images or compute other values."""
        fits = len(images.shape) == len(self.sizes) and all(
            low <= n and (high is None or n <= high) for n, (low, high) in zip(images.shape, self.sizes, strict=True)
        )
        if not fits or _name(images) != self.dtype:
            sizes = " x ".join(map(_described, self.sizes))
            given = f"{_name(images)} {' x '.join(map(str, images.shape))}"
            raise ValueError(
                f"the package was compiled for images {self.dtype} {sizes}, got {given}: export it with other "
                "input_size or dynamic axes"
            )


def _name(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")


def _range(program: torch.export.ExportedProgram, size: Any) -> Range:
    if isinstance(size, int):
        return size, size
    limits = program.range_constraints[size.node.expr]
    return int(limits.lower), int(limits.upper) if limits.upper < sys.maxsize - 1 else None


def _described(size: Range) -> str:
    low, high = size
    return f"{low}" if low == high else f"({low} or more)" if high is None else f"({low} to {high})"
