"""Data sets and models of one's own in `evaluate`: what they give is used as it is, or refused with the reason."""

import math

import pytest
import torch
from PIL import Image

from antialiased_zoo.evaluation import Accuracy, Consistency, Diagonal, Options, count_outputs, evaluate
from antialiased_zoo.evaluation.protocols import cifar

PHOTOS = [Image.new("RGB", (32, 32), (60 * shade, 0, 255 - 60 * shade)) for shade in range(4)]


class Given(torch.utils.data.Dataset):
    def __init__(self, item):
        self.item = item

    def __len__(self):
        return len(PHOTOS)

    def __getitem__(self, index):
        return self.item(index)


def means(images):
    return images.mean((2, 3))


def figures(item, model=means, probe=Accuracy, index=(0, 1, 2)):
    images = Given(item)
    images.classes = ["a", "b", "c"]
    class_index = {"mine": index} if index else None
    found = evaluate({"mine": model}, images, lambda: {"one": probe()}, cifar(), Options(progress=False), class_index)
    return found.figures("mine")


@pytest.mark.parametrize("number", [int, torch.tensor, lambda n: torch.tensor(n, dtype=torch.uint8).numpy()[()]])
def test_a_class_is_an_integer_of_any_library(number):
    right = [int(means(cifar().normalise(cifar().prepare(photo)[None])).argmax()) for photo in PHOTOS]
    assert figures(lambda index: (PHOTOS[index], number(right[index])))["top1"]["value"] == 100


@pytest.mark.parametrize("number", [-1, 3])
@pytest.mark.parametrize("probe", [Accuracy, Diagonal])
@pytest.mark.parametrize("index", [(0, 1, 2), None])
def test_a_class_that_the_data_lacks_is_refused(number, probe, index):
    """-1 marks images without labels in many test splits: the last class as an index, and else always wrong."""
    with pytest.raises(ValueError, match=f"images of class {number} to {number}, but 3 classes"):
        figures(lambda place: (PHOTOS[place], number), probe=probe, index=index)
    assert figures(lambda index: (PHOTOS[index], number), probe=lambda: Consistency("crop"))


@pytest.mark.parametrize(
    ("item", "given"),
    [
        (lambda index: (PHOTOS[index], 0.7), r"\(Image, float\)"),  # was class 0
        (lambda index: (PHOTOS[index], 1, index), r"\(Image, int, int\)"),
        (lambda index: {"image": PHOTOS[index], "label": 1}, "gave dict"),
        (lambda index: (torch.zeros(3, 32, 32), 1), r"\(Tensor, int\)"),
        (lambda index: (PHOTOS[index], torch.tensor([0, 1, 0])), r"\(Image, Tensor\)"),
        (lambda index: (PHOTOS[index], None), r"\(Image, NoneType\)"),
    ],
)
def test_items_of_another_kind_say_what_is_expected(item, given):
    with pytest.raises(TypeError, match=given + r".*expected \(PIL image, class number\)"):
        figures(item)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: means(x) * math.nan, "mine: the model's logits contain NaN"),
        (lambda x: means(x)[:, :1], "mine: a model with 1 output predicts the same class"),
        (lambda x: {"logits": means(x)}, "returned an object of type dict"),
    ],
)
def test_answers_that_predict_no_class_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        figures(lambda index: (PHOTOS[index], 0), model, lambda: Consistency("crop"))


def test_a_single_output_is_refused_before_the_work():
    with pytest.raises(ValueError, match=r"mine does not map .* a model with 1 output predicts the same class"):
        count_outputs("mine", lambda x: means(x)[:, :1], 32, Options())
