"""What a model may answer, and what is refused: an argmax would turn it into a figure that looks fine."""

import math

import pytest
import torch

from antialiased_zoo import metrics
from antialiased_zoo.metrics import agreement, top_k_correct

IMAGES = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def means(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: means(x) * math.nan, "NaN or infinity"),
        (lambda x: means(x).half() * 1e6, "NaN or infinity"),
        (lambda x: means(x)[:, :1], "a model with 1 output predicts the same class"),
        (lambda x: means(x)[:, 0], r"returned shape \(\d+,\) for \d+ images"),  # argmax over the images
        (lambda x: x, r"returned shape \(\d+, 3, \d+, \d+\)"),
        (lambda x: means(x)[:1], r"returned shape \(1, 3\)"),
        (lambda x: {"logits": means(x)}, "an object of type dict"),
        (lambda x: (means(x),), "an object of type tuple"),
    ],
)
def test_answers_that_predict_no_class_are_refused(model, message):
    """The first four were fully consistent."""
    for measure in (
        lambda: metrics.crop_consistency(model, IMAGES, size=8),
        lambda: metrics.circular_consistency(model, IMAGES),
        lambda: metrics.diagonal_stability(model, IMAGES, size=7),
        lambda: metrics.accuracy(model, IMAGES, torch.zeros(6, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match=message):
            measure()


def test_masked_classes_are_no_fault():
    masked = torch.tensor([[-math.inf, 0.0, 1.0]])
    assert agreement(masked, torch.tensor([[0.0, 0.0, 1.0]])).all()
    assert top_k_correct(masked, torch.tensor([2])).all()


@pytest.mark.parametrize(
    "targets",
    [
        torch.zeros(6, 1, dtype=torch.int64),
        torch.eye(3)[[0] * 6].long(),
        torch.zeros(1, dtype=torch.int64),
        torch.rand(6),
    ],
    ids=["column", "one-hot", "one for all", "fractions"],
)
def test_targets_are_one_class_for_each_image(targets):
    """All of these were broadcast to some accuracy."""
    with pytest.raises(ValueError, match="expected a class index for each of 6 rows"):
        metrics.accuracy(means, IMAGES, targets)
