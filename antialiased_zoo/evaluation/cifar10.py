"""CIFAR-10 as its authors distribute it, with the interface of an image folder."""

from __future__ import annotations

import hashlib
import os

from PIL import Image
from torch.utils.data import Dataset


class Cifar10(Dataset[tuple[Image.Image, int]]):
    """CIFAR-10's pickles, fetched and checked by torchvision where they are missing.

    Attributes:
        classes: The ten names.
        samples: ``class/number`` of each image.
        targets: Class indices, in the order of ``samples``.

    Args:
        root: Holds ``cifar-10-batches-py``, or is where to put it.
        train: The 50,000 training images rather than the 10,000 for testing.

    Raises:
        OSError: The data is missing and cannot be fetched, or has another MD5 than torchvision states.
    """

    def __init__(self, root: str | os.PathLike[str], train: bool = False) -> None:
        from torchvision.datasets import CIFAR10

        try:
            self._data = CIFAR10(os.fspath(root), train=train, download=True)
        except RuntimeError as error:
            raise OSError(f"cannot fetch CIFAR-10 to {root}: {error}") from error
        self.classes: list[str] = list(self._data.classes)
        self.targets: list[int] = list(self._data.targets)
        self.samples = [f"{self.classes[target]}/{number:05}" for number, target in enumerate(self.targets)]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Image.Image:
        """Returns one image, RGB, 32x32."""
        # By its number and not its place, so that samples can be left out.
        return Image.fromarray(self._data.data[int(self.samples[index].rpartition("/")[2])])

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.image(index), self.targets[index]

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of names and pixels; ``hide_bar`` is there to match other data sets."""
        total = hashlib.sha256()
        for index, name in enumerate(self.samples):
            total.update(name.encode() + b"\0" + self.image(index).tobytes())
        return total.hexdigest()
