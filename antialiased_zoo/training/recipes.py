"""Recipes: the settings of a training run, including its learning-rate schedule, and the published presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from .settings import plain

Schedule = Literal["step", "cosine", "one-cycle"]
Augment = Literal["pad-crop", "resized-crop"]


@dataclass(frozen=True)
class Recipe:
    """The settings that determine a run's result, together with the network, the data and the seed.

    Attributes:
        sizes: Pairs of training image size in pixels and number of epochs, in order.
        augment: ``resized-crop`` is torchvision's RandomResizedCrop of each file; ``pad-crop`` keeps
            images of one size in memory, upscales them, and shifts them by up to an eighth of the
            size with reflected borders. Both flip half of the images.
        cutout: Side of a square that is set to zero at a random position of each training image
            (``pad-crop``), relative to the image's side; 0 turns it off (DeVries and Taylor, 2017).
        eval_resize: Shorter side of a validation image before the centre crop, in pixels.
        eval_crop: Side of the validation crop, in pixels.
        eval_every: Epochs between two measurements of validation accuracy; it is always measured
            after the last epoch.
        batch_size: Images per optimizer step, over all processes and accumulated parts.
        lr: Peak learning rate.
        schedule: ``step`` divides by ten after each third of the run; ``cosine`` decays to zero;
            ``one-cycle`` rises from a 25th of the peak and decays to zero, both along a cosine.
        warmup: Share of the run in which the rate rises (linearly, except for ``one-cycle``).
        momentum: Momentum of SGD.
        nesterov: Use Nesterov momentum.
        weight_decay: Weight decay of SGD.
        decay_norms: Apply the weight decay to normalisation parameters and biases too.
        label_smoothing: Label smoothing of the cross entropy.
        ema: Decay per step of the exponential moving average of the weights, which is then the
            result; 0 turns it off.
    """

    sizes: tuple[tuple[int, int], ...]
    augment: Augment = "resized-crop"
    cutout: float = 0.0
    eval_resize: int = 256
    eval_crop: int = 224
    eval_every: int = 1
    batch_size: int = 256
    lr: float = 0.1
    schedule: Schedule = "step"
    warmup: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norms: bool = True
    label_smoothing: float = 0.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        """Rejects invalid settings; NumPy's numbers become Python's."""
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name), field.name))
        if not self.sizes or any(size < 1 or epochs < 1 for size, epochs in self.sizes):
            raise ValueError(f"sizes must be one or more SIZExEPOCHS of at least 1, got {self.sizes}")
        if self.schedule not in ("step", "cosine", "one-cycle"):
            raise ValueError(f"schedule must be step, cosine or one-cycle, got {self.schedule!r}")
        if self.augment not in ("pad-crop", "resized-crop"):
            raise ValueError(f"augment must be pad-crop or resized-crop, got {self.augment!r}")
        if self.cutout and self.augment != "pad-crop":
            raise ValueError(f"cutout needs augment='pad-crop', got {self.augment!r}; give cutout=0")
        for name in ("eval_resize", "eval_crop", "eval_every", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"need lr above 0 and weight_decay of at least 0, got {self.lr} and {self.weight_decay}")
        for name in ("warmup", "label_smoothing", "ema", "momentum", "cutout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as JSON stores them, with lists instead of tuples."""
        return {**dataclasses.asdict(self), "sizes": [list(pair) for pair in self.sizes]}

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        return sum(epochs for _, epochs in self.sizes)

    def with_epochs(self, epochs: int) -> Recipe:
        """Returns the recipe with another number of epochs, of which each image size gets the same share.

        Raises:
            ValueError: There are fewer epochs than image sizes.

        Example:
            >>> PRESETS["cifar10"].with_epochs(10).sizes
            ((40, 2), (48, 2), (64, 6))
        """
        if epochs < len(self.sizes):
            raise ValueError(f"{epochs} epochs are fewer than the recipe's {len(self.sizes)} image sizes; give --sizes")
        ends = [round(epochs * sum(n for _, n in self.sizes[: k + 1]) / self.epochs) for k in range(len(self.sizes))]
        # Each size gets at least one epoch, and leaves at least one for each later size.
        for k in range(len(ends)):
            ends[k] = min(max(ends[k], (ends[k - 1] if k else 0) + 1), epochs - (len(ends) - 1 - k))
        starts = [0, *ends[:-1]]
        return dataclasses.replace(
            self,
            sizes=tuple((size, end - start) for (size, _), start, end in zip(self.sizes, starts, ends, strict=True)),
        )

    def size_at(self, epoch: int) -> int:
        """Returns the training image size of an epoch, counted from 0."""
        for size, epochs in self.sizes:
            if epoch < epochs:
                return size
            epoch -= epochs
        raise ValueError(f"the recipe has {self.epochs} epochs, so no epoch {epoch + self.epochs}")

    def lr_at(self, done: float) -> float:
        """Returns the learning rate after the share ``done`` (0 to 1) of all steps.

        It depends only on the position, so a resumed run needs no schedule state.
        """
        if done < self.warmup:
            risen = done / self.warmup
            if self.schedule == "one-cycle":
                return self.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * risen)) / 2)
            return self.lr * risen
        if self.schedule == "step":
            return self.lr * 0.1 ** min(math.floor(3 * done + 1e-9), 2)
        return self.lr * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup))) / 2


_IMAGENET = Recipe(sizes=((224, 90),))
_MOBILENET = Recipe(sizes=((224, 150),), schedule="cosine", lr=0.05, weight_decay=4e-5)

PRESETS: dict[str, Recipe] = {
    # Zhang 2019 trains each family like torchvision's reference scripts, and MobileNetV2 like a
    # PyTorch port of its authors' code.
    "imagenet-resnet": _IMAGENET,
    "imagenet-vgg": dataclasses.replace(_IMAGENET, lr=0.01),
    "imagenet-mobilenet": _MOBILENET,
    # Starting from the baseline's weights: a tenth of the learning rate, two thirds of the epochs.
    "imagenet-finetune": dataclasses.replace(_IMAGENET, lr=0.01, sizes=((224, 60),)),
    "imagenet-vgg-finetune": dataclasses.replace(_IMAGENET, lr=0.001, sizes=((224, 60),)),
    "imagenet-mobilenet-finetune": dataclasses.replace(_MOBILENET, lr=0.005, sizes=((224, 100),)),
    # Small enough for a CPU: first epochs at smaller, cheaper sizes, the rest at the final size.
    "cifar10": Recipe(
        sizes=((40, 5), (48, 6), (64, 20)),
        augment="pad-crop",
        eval_resize=64,
        eval_crop=64,
        eval_every=4,
        batch_size=64,
        lr=0.05,
        schedule="one-cycle",
        warmup=0.2,
        nesterov=True,
        weight_decay=5e-4,
        decay_norms=False,
        label_smoothing=0.1,
    ),
}
