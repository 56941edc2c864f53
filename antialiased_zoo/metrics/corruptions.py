"""Common corruptions: six computed on the fly, the folders of ImageNet-C, and corruption errors.

The names and parameters follow ImageNet-C (Hendrycks & Dietterich 2019) where torchvision has the
operation. Figures for corruptions computed here are not comparable with published ImageNet-C
figures, which were measured on its JPEGs.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .shifts import image_seed

SEVERITIES = (1, 2, 3, 4, 5)

# AlexNet's errors on ImageNet-C, by which mCE normalises (github.com/hendrycks/robustness).
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def corruption_error(errors: Sequence[float]) -> float:
    """Returns one corruption's error: the mean over its five severities.

    Args:
        errors: Top-1 error, 0..1, at severities 1 to 5.

    Raises:
        ValueError: Not five errors.
    """
    if len(errors) != len(SEVERITIES):
        raise ValueError(f"expected an error for each of severities 1 to 5, got {len(errors)}")
    return math.fsum(errors) / len(errors)


def mean_corruption_error(errors: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> float:
    """Returns the mean of corruption errors, each divided by the baseline's if there is one.

    ``mean_corruption_error(errors, ALEXNET_ERRORS)`` over ImageNet-C's 15 corruptions is the mCE.

    Args:
        errors: Corruption -> error, 0..1.
        baseline: Corruption -> error of the model to normalise by, for the same corruptions.

    Raises:
        ValueError: No errors, or a baseline for other corruptions.

    Example:
        >>> mean_corruption_error({"fog": 0.4, "snow": 0.6}, {"fog": 0.8, "snow": 0.8})
        0.625
    """
    if not errors:
        raise ValueError("no corruption errors to average")
    if baseline is None:
        return math.fsum(errors.values()) / len(errors)
    if set(baseline) != set(errors):
        raise ValueError(
            f"only the errors or only the baseline have {', '.join(sorted(set(baseline) ^ set(errors)))}; "
            "a normalised mean needs the same corruptions in both"
        )
    return math.fsum(error / baseline[name] for name, error in errors.items()) / len(errors)


def corrupt(image: Tensor, name: str, severity: int, index: int = 0, seed: int = 0) -> Tensor:
    """Corrupts one image; the noise depends only on seed, index, corruption and severity.

    Args:
        image: uint8 ``(3, H, W)`` on the CPU.
        name: A key of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        index: The image's index in its data set.
        seed: Seed of the noise.

    Returns:
        uint8 ``(3, H, W)``.

    Raises:
        ValueError: Unknown corruption or severity, or an image of another dtype.

    Example:
        >>> corrupt(torch.zeros(3, 8, 8, dtype=torch.uint8), "gaussian_noise", 3).dtype
        torch.uint8
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        known = ", ".join(CORRUPTIONS)
        raise ValueError(f"no corruption {name!r} at severity {severity}; there are {known}, at 1 to 5")
    if image.dtype != torch.uint8:
        raise ValueError(f"expected a uint8 image with values 0..255, got {image.dtype}")
    stream = 16 * (2 + list(CORRUPTIONS).index(name)) + severity
    generator = torch.Generator().manual_seed(image_seed(index, seed, stream))
    return CORRUPTIONS[name](image, severity - 1, generator)


def _gaussian_noise(image: Tensor, level: int, generator: torch.Generator) -> Tensor:
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[level]
    return _to_bytes(image / 255 + deviation * torch.randn(image.shape, generator=generator))


def _shot_noise(image: Tensor, level: int, generator: torch.Generator) -> Tensor:
    photons = (60, 25, 12, 5, 3)[level]
    return _to_bytes(torch.poisson(image / 255 * photons, generator=generator) / photons)


def _gaussian_blur(image: Tensor, level: int, _: torch.Generator) -> Tensor:
    from torchvision.transforms.v2 import functional

    # ImageNet-C's sigmas are for images of 224 pixels.
    sigma = (1, 2, 3, 4, 6)[level] * min(image.shape[1:]) / 224
    # The mirrored border must be narrower than the image.
    reach = min(math.ceil(4 * sigma), min(image.shape[1:]) - 1)
    result: Tensor = functional.gaussian_blur(image, [2 * reach + 1] * 2, [sigma, sigma])
    return result


def _contrast(image: Tensor, level: int, _: torch.Generator) -> Tensor:
    from torchvision.transforms.v2 import functional

    result: Tensor = functional.adjust_contrast(image, (0.4, 0.3, 0.2, 0.1, 0.05)[level])
    return result


def _brightness(image: Tensor, level: int, _: torch.Generator) -> Tensor:
    from torchvision.transforms.v2 import functional

    result: Tensor = functional.adjust_brightness(image, (1.2, 1.4, 1.6, 1.8, 2.0)[level])
    return result


def _jpeg(image: Tensor, level: int, _: torch.Generator) -> Tensor:
    from PIL import Image
    from torchvision.transforms.v2 import functional

    # With Pillow, since torchvision deprecates its own encoder.
    encoded = io.BytesIO()
    functional.to_pil_image(image).save(encoded, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    result: Tensor = functional.pil_to_tensor(Image.open(encoded))
    return result


def _to_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


# The order determines each corruption's random numbers: only append.
CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "gaussian_blur": _gaussian_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg_compression": _jpeg,
}


def corruption_folders(root: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Finds ImageNet-C's folders: ``root/<corruption>/<1..5>`` or ``root/<group>/<corruption>/<1..5>``.

    Returns:
        Corruption -> its five folders, for those of the 15 corruptions that exist, in the published
        order.

    Raises:
        FileNotFoundError: No such folder, or none of the corruptions in it.
        ValueError: A severity of a corruption is missing.
    """
    root = Path(root)
    found: dict[str, list[Path]] = {}
    for name in ALEXNET_ERRORS:
        places = [place for place in (root / name, *sorted(root.glob(f"*/{name}"))) if place.is_dir()]
        if not places:
            continue
        found[name] = [places[0] / str(severity) for severity in SEVERITIES]
        missing = [folder for folder in found[name] if not folder.is_dir()]
        if missing:
            raise ValueError(f"{places[0]} lacks {[folder.name for folder in missing]}; unpack all severities")
    if not found:
        raise FileNotFoundError(f"no corruption folders in {root}; expected for example gaussian_noise/1 in it")
    return found
