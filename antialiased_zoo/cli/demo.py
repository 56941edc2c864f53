"""The paper's first figure on one photo: two networks judge it while it slides one pixel at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..evaluation import class_names, read_photo, shift_curves
from ..metrics import diagonal_stability
from ..weights import Entry, get_entry
from ..zoo import create_model

MODEL = "mobilenet_v2"
RECIPE = "cifar10"
LABELS = {None: "baseline", 4: "antialiased (Tri-4)"}
#: The photo slides over 33 positions, one pixel each way at a time, as in the paper.
SHIFTS = range(33)


@dataclass(frozen=True)
class Slide:
    """What one network said at each shift.

    Attributes:
        label: Of the network.
        wanted: The class whose probability is followed.
        probabilities: Of that class, one for each shift.
        predicted: The top class's name at each shift.
    """

    label: str
    wanted: str
    probabilities: Sequence[float]
    predicted: Sequence[str]

    @property
    def wobble(self) -> float:
        """Largest less smallest probability."""
        return max(self.probabilities) - min(self.probabilities)

    @property
    def step(self) -> float:
        """Mean change of the probability from one pixel to the next."""
        pairs = zip(self.probabilities, self.probabilities[1:], strict=False)
        return sum(abs(b - a) for a, b in pairs) / (len(self.probabilities) - 1)

    @property
    def flips(self) -> int:
        """How often the top class changes from one pixel to the next."""
        return sum(a != b for a, b in zip(self.predicted, self.predicted[1:], strict=False))


def default_photo() -> Path:
    """The cat Chelsea, a public-domain (CC0) photo by Stéfan van der Walt that comes with scikit-image.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed; the message says how to get it.
    """
    try:
        import skimage
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'the demo\'s photo comes with scikit-image: pip install "antialiased-zoo[demo]", or give --photo FILE'
        ) from None
    return Path(skimage.__file__).parent / "data" / "chelsea.png"


def slide(photo: Image.Image, label: str, progress: bool = True) -> list[Slide]:
    """Let the baseline and the antialiased network judge a photo at every shift.

    Args:
        photo: Its central square is used.
        label: The true class, one of CIFAR-10's.
        progress: Show a bar should weights have to be downloaded.
    """
    slides = []
    for filter_size, name in LABELS.items():
        entry = get_entry(MODEL, filter_size, RECIPE)
        names = list(class_names(entry))
        if label not in names:
            raise ValueError(f"label {label!r} is not one of the networks' classes: {', '.join(names)}")
        model = create_model(MODEL, filter_size, RECIPE, progress=progress).eval()
        size = entry.preprocessing.crop
        found = diagonal_stability(model, canvas(photo, entry), names.index(label), size, SHIFTS)
        predicted = [names[index] for index in found.prediction[0].tolist()]
        slides.append(Slide(name, label, found.probability[0].tolist(), predicted))
    return slides


def canvas(photo: Image.Image, entry: Entry) -> Tensor:
    """The photo as ``(1, 3, S, S)`` with room to slide: as coarse as the training images, then enlarged like them."""
    from torchvision.transforms import v2

    facts = entry.preprocessing
    side = facts.crop + SHIFTS[-1]
    square = v2.CenterCrop(min(photo.size))(photo)
    coarse = v2.Resize(side // 2, antialias=True)(square)
    image: Tensor = v2.functional.to_image(v2.Resize(side, antialias=True)(coarse))
    scaled = v2.functional.to_dtype(image, torch.float32, scale=True)
    normalised: Tensor = v2.functional.normalize(scaled, list(facts.mean), list(facts.std))
    return normalised[None]


def table(slides: Sequence[Slide]) -> str:
    """The slides' figures as text."""
    wanted, width = slides[0].wanted, max(len(one.label) for one in slides)
    rows = [f"{'network':{width}}  P({wanted}) mean  wobble  mean step  answers changed  said {wanted!r}"]
    for one in slides:
        mean = sum(one.probabilities) / len(one.probabilities)
        right = sum(name == wanted for name in one.predicted)
        rows.append(
            f"{one.label:{width}}  {mean:{len(wanted) + 8}.3f}  {one.wobble:6.3f}  {one.step:9.4f}  "
            f"{one.flips:>6} of {len(one.predicted) - 1:<6}  {right} of {len(one.predicted)}"
        )
    return "\n".join(rows)


def run(photo: str | os.PathLike[str] | None, label: str, output: str | os.PathLike[str], progress: bool = True) -> str:
    """Slide a photo, write the picture, and return the table.

    Args:
        photo: An image file; None takes `default_photo`.
        label: The true class, one of CIFAR-10's.
        output: Where the PNG goes.
        progress: Show a bar should weights have to be downloaded.
    """
    image = read_photo(default_photo() if photo is None else photo)
    slides = slide(image, label, progress)
    figure = shift_curves(
        {one.label: (list(SHIFTS), one.probabilities) for one in slides},
        ylabel=f'probability of "{label}"',
        photo=image,
        caption="the photo, sliding one pixel\ndown and right at a time",
    )
    figure.savefig(output, dpi=150)
    return table(slides)
