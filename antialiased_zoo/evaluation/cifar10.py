"""CIFAR-10 as its authors distribute it, with the interface of an image folder."""

from __future__ import annotations

import hashlib
import os

from PIL import Image

from .images import LabelledImages


class Cifar10(LabelledImages):
    """CIFAR-10's pickles, which torchvision fetches and checks where they are missing.

    A sample's name is ``class/number``.

    Args:
        root: The folder that holds ``cifar-10-batches-py``, or is to hold it.
        train: The 50,000 training images instead of the 10,000 test images.

    Raises:
        OSError: The data is missing and cannot be fetched, or has another MD5 than torchvision
            states.
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
        # The number in its name stays the same when other samples are left out.
        return Image.fromarray(self._data.data[int(self.samples[index].rpartition("/")[2])])

    def digest(self, hide_bar: bool | None = True) -> str:
        """Returns the SHA-256 (hex) of names and pixels; ``hide_bar`` has no effect."""
        total = hashlib.sha256()
        for index, name in enumerate(self.samples):
            total.update(name.encode() + b"\0" + self.image(index).tobytes())
        return total.hexdigest()
