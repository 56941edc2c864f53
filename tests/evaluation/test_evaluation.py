"""The evaluation loop against itself run differently: batches, workers, other models beside it, broken images."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from noisy_images import SMALL, Counting, consistency, everything, make_model, write_images
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from antialiased_zoo.evaluation import PhotoBatches, bare_seconds, decoding, predict, predictions_of
from antialiased_zoo.evaluation.cifar10 import Cifar10
from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.evaluation.loop import Options, evaluate
from antialiased_zoo.evaluation.measures import Accuracy, Consistency
from antialiased_zoo.evaluation.protocols import cifar, imagenet
from antialiased_zoo.evaluation.views import ROLL
from antialiased_zoo.metrics import circular_consistency
from antialiased_zoo.weights import get_entry


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def test_a_figure_that_only_one_model_has_is_left_out_of_the_differences(folder):
    models = {"three": make_model(), "six": make_model(1, classes=6)}
    index = dict.fromkeys(models, range(3))
    for order in (["three", "six"], ["six", "three"]):
        chosen = {label: models[label] for label in order}
        found = evaluate(chosen, open_images(folder), consistency, imagenet(SMALL), class_index=index)
        assert "top5" in found.figures("six")
        changes = found.differences(order[1], order[0])
        assert set(changes) == {"top1", "crop_consistency", "circular_consistency"}
        values = [found.figures(label)["top1"]["value"] for label in order]
        assert changes["top1"].value == pytest.approx(values[1] - values[0])


class Caching(nn.Module):
    """Keeps a tensor of its first forward pass, as position embeddings are kept."""

    def __init__(self):
        super().__init__()
        self.scale, self.grid = nn.Parameter(torch.ones(3)), None

    def forward(self, x):
        if self.grid is None:
            self.grid = torch.linspace(0, 1, x.shape[-1], device=x.device)
        return (x * self.scale[:, None, None] * self.grid).mean((2, 3))


def measured_by(way, model, folder):
    batch = torch.rand(2, 3, 40, 40)
    if way == "evaluate":
        evaluate({"a": model}, open_images(folder), consistency, imagenet(SMALL))
    elif way == "predictions_of":
        predictions_of(model, PhotoBatches(open_images(folder), range(3), SMALL), torch.device("cpu"))
    elif way == "predict":
        predict(model, get_entry("mobilenet_v2", 4, "cifar10"), Image.new("RGB", (64, 64)), top=3)
    else:
        circular_consistency(model, batch)


@pytest.mark.parametrize("way", ["evaluate", "predictions_of", "predict", "metrics"])
def test_a_model_that_keeps_a_tensor_can_be_trained_afterwards(way, folder):
    model = Caching()
    measured_by(way, model, folder)
    model(torch.rand(2, 3, model.grid.numel(), model.grid.numel())).sum().backward()
    assert model.scale.grad.abs().sum() > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_leaves_the_global_generators_alone(workers, folder):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    options = Options(workers=workers)
    evaluate({"a": make_rows()}, open_images(folder), everything, imagenet(SMALL), options)
    bare_seconds({"a": make_rows()}, {"a": 3}, {"a": imagenet(SMALL)}, options)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def make_rows():
    """A model made without random numbers."""
    return lambda x: x.mean((2, 3))


def test_batches_and_workers_change_nothing(folder):
    models = {"one": make_model(), "two": make_model(1)}
    found = {
        (batch, workers): evaluate(
            models, open_images(folder), consistency, imagenet(SMALL), Options(batch_size=batch, workers=workers)
        )
        for batch, workers in ((1, 0), (7, 0), (64, 0), (1, 2), (7, 2), (64, 2))
    }
    for label in models:
        figures = [one.figures(label) for one in found.values()]
        assert all(other == figures[0] for other in figures[1:])
    alone = evaluate({"two": models["two"]}, open_images(folder), consistency, imagenet(SMALL))
    assert alone.figures("two") == found[7, 0].figures("two")
    assert alone.figures("two") != found[7, 0].figures("one")


def test_workers_are_started_once(folder, monkeypatch):
    begun = []

    class Counted(DataLoader):
        def __iter__(self):
            begun.append(self)
            return super().__iter__()

    monkeypatch.setattr(decoding, "DataLoader", Counted)
    assert len(list(decoding.batches(open_images(folder), [imagenet(SMALL)], Options(batch_size=8)))) == 3
    assert len(begun) == 1


def test_differences_are_paired(folder):
    models = {"one": make_model(), "two": make_model(1)}
    found = evaluate(models, open_images(folder), consistency, imagenet(SMALL), Options(batch_size=7))
    images = open_images(folder, SMALL.build())
    with torch.inference_mode():
        right = {
            label: np.array([int(model(image[None]).argmax()) == target for image, target in images], dtype=float)
            for label, model in models.items()
        }
    change = right["two"] - right["one"]
    figure, padded = found.differences("two", "one")["top1"], np.append(change, [1, -1])
    half = 1.959964 * padded.std() / np.sqrt(25)
    assert figure.value == pytest.approx(100 * change.mean())
    assert (figure.low, figure.high) == (
        pytest.approx(100 * (padded.mean() - half)),
        pytest.approx(100 * (padded.mean() + half)),
    )
    same = found.differences("one", "one")["crop_consistency"]
    assert same.low < same.value == 0 < same.high


class Still(Consistency):
    def views(self, indices, protocol):
        return torch.tensor([ROLL, 0, 0]).expand(len(indices), 4, 3)


def test_an_image_is_decoded_once_and_a_view_seen_once(folder):
    data, seen = Counting(open_images(folder)), []

    def model(views):
        seen.append(len(views))
        return views.mean((2, 3))

    found = evaluate({"mean": model}, data, everything, imagenet(SMALL), Options(batch_size=8))
    assert sorted(data.asked) == list(range(23))
    # Centre, two pairs of crops, one of rolls, 33 along the diagonal that includes the centre, 2 x 5 corrupted.
    assert found.views["mean"] == sum(seen) <= 23 * (4 + 2 + 33 + 10)
    assert max(seen) == 8

    def still():
        return {
            "a": Accuracy(),
            "b": Still("circular"),
        }

    assert evaluate({"mean": lambda x: x.mean((2, 3))}, data, still, imagenet(SMALL)).views == {"mean": 23}


def test_corrupt_images_are_named_and_skipped(folder, tmp_path):
    for index, path in enumerate(sorted(folder.glob("*/*.png"))):
        place = tmp_path / path.parent.name
        place.mkdir(exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes()[: 200 if index in (0, 4) else None])
    for batch in (1, 7):
        options = Options(batch_size=batch)
        found = evaluate({"small": make_model()}, open_images(tmp_path), consistency, imagenet(SMALL), options)
        assert (found.images, found.figures("small")["top1"]["n"]) == (21, 21)
        assert [index for index, _ in found.skipped] == [0, 4]
        assert "a/00.png" in found.skipped[0][1]
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no image could be decoded of 23: .*a/00.png"):
        evaluate({"small": make_model()}, open_images(tmp_path), consistency, imagenet(SMALL))
    # The same error each time, so that a warning is shown once: Pillow's names an address in memory.
    with pytest.raises(ValueError, match=r"a/00\.png: it is not an image; replace the file or remove it$"):
        open_images(tmp_path).image(0)


def test_other_classes_are_an_error_unless_they_do_not_matter(folder):
    models = {"four": make_model(classes=4)}
    with pytest.raises(ValueError, match="four has 4 classes, the data 3"):
        evaluate(models, open_images(folder), consistency, imagenet(SMALL))

    def crop_only():
        return {"crop": Consistency("crop")}

    assert evaluate(models, open_images(folder), crop_only, imagenet(SMALL)).images == 23
    swapped = evaluate(models, open_images(folder), consistency, imagenet(SMALL), class_index={"four": [2, 0, 3]})
    images = open_images(folder, SMALL.build())
    with torch.inference_mode():
        answers = [int(models["four"](image[None]).argmax()) for image, _ in images]
    expected = np.mean([answer == (2, 0, 3)[target] for answer, target in zip(answers, images.targets, strict=True)])
    assert swapped.figures("four")["top1"]["value"] == pytest.approx(100 * expected)


def test_cifar10_as_distributed(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    def write(name, content):
        (tmp_path / CIFAR10.base_folder).mkdir(exist_ok=True)
        data = pickle.dumps(content)
        (tmp_path / CIFAR10.base_folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    batch = write("test_batch", {"data": pixels.reshape(5, -1), "labels": [1, 0, 1, 1, 0]})
    meta = write("batches.meta", {"label_names": ["cat", "dog"]})
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", batch]])
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    data = Cifar10(tmp_path)
    assert (data.classes, data.targets, data.samples[1]) == (["cat", "dog"], [1, 0, 1, 1, 0], "cat/00001")
    assert np.array_equal(np.asarray(data[2][0]), pixels[2].transpose(1, 2, 0))
    found = evaluate({"two": make_model(classes=2)}, data, consistency, cifar())
    assert found.figures("two")["top1"]["n"] == 5
    whole = data.digest()
    del data.samples[0], data.targets[0]
    assert np.array_equal(np.asarray(data.image(1)), pixels[2].transpose(1, 2, 0))
    assert data.digest() != whole
