"""CIFAR-10 in its original files, with the interface of an image folder."""

from __future__ import annotations

import hashlib
import os

from PIL import Image
from tqdm.auto import tqdm

from .images import LabelledImages


class Cifar10(LabelledImages):
    """CIFAR-10's original files, which torchvision downloads and checks if they are missing.

    A sample's name is ``class/number``.

    Args:
        root: The folder of ``cifar-10-batches-py``.
        train: Use the 50,000 training images instead of the 10,000 test images.

    Raises:
        OSError: The data is missing and cannot be downloaded, or has a wrong MD5.
    """

    def __init__(self, root: str | os.PathLike[str], train: bool = False) -> None:
        from torchvision.datasets import CIFAR10

        try:
            self._data = CIFAR10(os.fspath(root), train=train, download=True)
        except RuntimeError as error:
            raise OSError(f"cannot fetch CIFAR-10 to {root}: {error}") from error
        classes, targets = list(self._data.classes), list(self._data.targets)
        samples = [f"{classes[target]}/{number:05}" for number, target in enumerate(targets)]
        super().__init__(str(root), classes, samples, targets)

    def image(self, index: int) -> Image.Image:
        """Returns one image, RGB, 32x32."""
        # By the number in its name, which does not change when other samples are dropped.
        return Image.fromarray(self._data.data[int(self.samples[index].rpartition("/")[2])])

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of names and pixels; see `LabelledImages.digest`."""
        total = hashlib.sha256()
        for index, name in enumerate(tqdm(self.samples, desc="digest", disable=hide_bar, leave=False)):
            total.update(name.encode() + b"\0" + self.image(index).tobytes())
        return total.hexdigest()
