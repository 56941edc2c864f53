"""The evaluation loop against the protocols carried out one image at a time, and against itself run differently."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional

from antialiased_zoo.evaluation import PhotoBatches, bare_seconds, decoding, predict, predictions_of
from antialiased_zoo.evaluation.cifar10 import Cifar10
from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.evaluation.loop import Options, evaluate
from antialiased_zoo.evaluation.measures import Accuracy, Consistency, Corruptions, Diagonal
from antialiased_zoo.evaluation.protocols import cifar, imagenet, protocol_for
from antialiased_zoo.metrics import circular_consistency
from antialiased_zoo.metrics.corruptions import CORRUPTIONS, corrupt
from antialiased_zoo.metrics.shifts import draw_pairs
from antialiased_zoo.weights import get_entry
from antialiased_zoo.weights.preprocessing import Preprocessing

ROOT = Path(__file__).parents[2]
SMALL = Preprocessing(resize=72, crop=40)


def make_model(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=4, bias=False),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        # Without a spread over channels one class would win for every image.
        nn.LayerNorm(32),
        nn.Linear(32, classes, bias=False),
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """23 noisy PNGs of several sizes in three classes."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for index in range(23):
        height, width = 40 + int(generator.integers(60)), 40 + int(generator.integers(60))
        place = root / "abc"[index % 3]
        place.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
    return root


def everything():
    return {
        "accuracy": Accuracy(),
        "crop": Consistency("crop", pairs=2, seed=3),
        "circular": Consistency("circular", seed=3),
        "diagonal": Diagonal(),
        "corruption": Corruptions(["gaussian_noise", "jpeg_compression"]),
    }


def consistency():
    return {"accuracy": Accuracy(), "crop": Consistency("crop"), "circular": Consistency("circular")}


def test_every_figure_is_that_of_the_protocol(folder):
    model, images = make_model(), open_images(folder)
    found = evaluate({"small": model}, images, everything, imagenet(SMALL), seed=4)
    centre = SMALL.build()
    wide = Preprocessing(resize=72, crop=72).build()
    right, crops, rolls, probabilities, always, wrong = [], [], [], [], [], []
    with torch.inference_mode():
        for index in range(23):
            image, target = images[index]
            canvas = wide(image)[None]
            right.append(bool(model(centre(image)[None]).argmax() == target))
            for pair in draw_pairs(torch.tensor([index]), range(32), 2, seed=3)[0].tolist():
                a, b = (model(canvas[:, :, y : y + 40, x : x + 40]).argmax() for y, x in pair)
                crops.append(bool(a == b))
            for pair in draw_pairs(torch.tensor([index]), range(-32, 32), seed=3, stream=1)[0].tolist():
                a, b = (model(torch.roll(centre(image)[None], (y, x), (2, 3))).argmax() for y, x in pair)
                rolls.append(bool(a == b))
            diagonal = torch.cat([canvas[:, :, d : d + 40, d : d + 40] for d in range(33)])
            probabilities.append(model(diagonal).softmax(1)[:, target])
            always.append(all(int(model(crop[None]).argmax()) == target for crop in diagonal))
            uint8 = (
                centre(image) * torch.tensor(SMALL.std)[:, None, None] + torch.tensor(SMALL.mean)[:, None, None]
            ) * 255
            for name in ("gaussian_noise", "jpeg_compression"):
                changed = corrupt(uint8.round().byte(), name, 3, index, seed=4)
                wrong.append(bool(model(cifar(SMALL_CROP).normalise(changed[None])).argmax() != target))
    figures = found.figures("small")
    assert figures["top1"]["value"] == pytest.approx(100 * np.mean(right))
    assert "top5" not in figures
    assert figures["crop_consistency"]["value"] == pytest.approx(100 * np.mean(crops))
    assert figures["circular_consistency"]["value"] == pytest.approx(100 * np.mean(rolls))
    assert 20 < figures["crop_consistency"]["value"] < 100
    curves = torch.stack(probabilities).double()
    assert figures["wobble"]["value"] == pytest.approx(100 * (curves.amax(1) - curves.amin(1)).mean().item(), abs=1e-4)
    assert figures["diagonal_probability"]["each"] == pytest.approx((100 * curves.mean(0)).tolist(), abs=1e-4)
    assert figures["worst_shift_top1"]["value"] == pytest.approx(100 * np.mean(always))
    each = [figures[f"error_{name}"]["each"][2] for name in ("gaussian_noise", "jpeg_compression")]
    assert np.mean(each) == pytest.approx(100 * np.mean(wrong))
    assert (found.images, figures["top1"]["n"], found.skipped) == (23, 23, [])


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


def test_the_worst_shift_counts_an_image_only_if_it_is_right_at_every_shift():
    probe = Diagonal()
    answers = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    probe.update(torch.nn.functional.one_hot(answers, 2).float(), torch.tensor([1, 1, 1, 0]))
    figures = probe.figures()
    assert (figures["worst_shift_top1"].value, figures["worst_shift_top1"].n) == (50, 4)
    assert figures["diagonal_top1"].value == pytest.approx(100 * 10 / 12)


SMALL_CROP = Preprocessing(resize=40, crop=40)


@pytest.mark.parametrize("protocol", [cifar, imagenet])
def test_a_network_of_one_channel_is_measured_behind_a_conversion(folder, protocol):
    sizes = (32, 32) if protocol is cifar else (72, 40)
    grey = Preprocessing(*sizes, mean=(0.4,), std=(0.2,))
    with pytest.raises(
        ValueError, match=r"for 1 channels .*Grayscale\(\), network\), with preprocessing\.for_channels"
    ):
        protocol(grey)
    # What the error proposes shows the network what its own preprocessing would.
    view = protocol(grey.for_channels(3))
    photo = open_images(folder).image(0)
    canvas = view.padded(view.prepare(photo)[None])
    inner = slice(view.centre, view.centre + view.size)
    shown = functional.to_grayscale(canvas[:, :, inner, inner])
    assert torch.allclose(shown[0], grey.build()(photo), atol=1.5 / 255 / 0.2)  # it rounds before it resizes


def test_paper_mode_repeats_the_published_script(folder):
    model, images = make_model(), open_images(folder, Preprocessing(resize=72, crop=72).build())
    np.random.seed(7)
    agreed = seen = 0
    with torch.inference_mode():
        for _ in range(5):
            for batch, _ in torch.utils.data.DataLoader(images, batch_size=8):
                off0, off1 = np.random.randint(32, size=2), np.random.randint(32, size=2)
                first = model(batch[:, :, off0[0] : off0[0] + 40, off0[1] : off0[1] + 40]).argmax(1)
                second = model(batch[:, :, off1[0] : off1[0] + 40, off1[1] : off1[1] + 40]).argmax(1)
                agreed, seen = agreed + (first == second).sum().item(), seen + len(batch)

    def paper():
        return {"crop": Consistency.paper(23, seed=7)}

    found = evaluate({"small": model}, open_images(folder), paper, imagenet(SMALL), Options(batch_size=5))
    assert seen == 5 * 23
    assert found.figures("small")["crop_consistency"]["value"] == pytest.approx(100 * agreed / seen)
    assert len(found.figures("small")["crop_consistency"]["each"]) == 5


def test_the_cifar_protocol_is_the_published_one(folder):
    facts, model = Preprocessing(resize=40, crop=40), make_model()
    found = evaluate({"small": model}, open_images(folder), consistency, cifar(facts))
    crops = rolls = 0
    with torch.inference_mode():
        for index, (image, _) in enumerate(open_images(folder, facts.build())):
            pair = draw_pairs(torch.tensor([index]), range(6))[0, 0].tolist()
            # As published: shifts of -3..2, a padded normalised image, and slices [s + 3 : s - 3].
            a, b = (model(F.pad(image[None], (3, 3, 3, 3))[:, :, y : y - 6, x : x - 6]).argmax() for y, x in pair)
            crops += bool(a == b)
            pair = draw_pairs(torch.tensor([index]), range(-3, 3), stream=1)[0, 0].tolist()
            a, b = (model(torch.roll(image[None], (y, x), (2, 3))).argmax() for y, x in pair)
            rolls += bool(a == b)
    figures = found.figures("small")
    assert figures["crop_consistency"]["value"] == pytest.approx(100 * crops / 23)
    assert figures["circular_consistency"]["value"] == pytest.approx(100 * rolls / 23)
    assert protocol_for(facts).name == "cifar"
    assert protocol_for(SMALL).name == "imagenet"


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalising_is_torchvisions_bit_for_bit(layout):
    facts = Preprocessing(48, 40, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    pixels = torch.arange(2 * 3 * 48 * 48).mul(7).remainder(256).to(torch.uint8).view(2, 3, 48, 48)
    crops = pixels.to(memory_format=layout)[:, :, 3:43, 5:45]
    scaled = functional.to_dtype(crops.contiguous(), torch.float32, scale=True)
    made = imagenet(facts).normalise(crops)
    assert torch.equal(made, functional.normalize(scaled, list(facts.mean), list(facts.std)))
    assert made.is_contiguous(memory_format=torch.channels_last)


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


class Counting(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images, self.asked, self.classes = images, [], images.classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.images[index]


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
            "b": Consistency("circular", table=lambda offsets: torch.zeros(23, 4, 2, 2, dtype=torch.long)),
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: imagenet(Preprocessing(resize=235, crop=224)).require_room(), "resized to 256 or more, not 235"),
        (lambda: protocol_for(Preprocessing(224, 224)), "choose --protocol"),
        (lambda: cifar(Preprocessing(resize=40, crop=32)), "resize equal to crop"),
        (lambda: Options(batch_size=0), "batch_size >= 1"),
        (lambda: Corruptions(["fog"]), r"no corruptions \['fog'\]"),
    ],
)
def test_errors_instruct(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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


def test_corruption_names_are_the_ones_of_the_module():
    assert list(Corruptions().views(torch.arange(1), imagenet())[0, :, 1].unique()) == list(range(len(CORRUPTIONS)))
