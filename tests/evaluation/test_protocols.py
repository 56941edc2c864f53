"""The figures of an evaluation against the protocols carried out one image at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from noisy_images import SMALL, consistency, everything, make_model, write_images
from torchvision.transforms.v2 import functional

from antialiased_zoo.evaluation.data import open_images
from antialiased_zoo.evaluation.loop import Options, evaluate
from antialiased_zoo.evaluation.measures import Consistency, Corruptions, Diagonal
from antialiased_zoo.evaluation.protocols import cifar, imagenet, protocol_for
from antialiased_zoo.metrics.corruptions import CORRUPTIONS, corrupt
from antialiased_zoo.metrics.shifts import draw_pairs
from antialiased_zoo.weights.preprocessing import Preprocessing

SMALL_CROP = Preprocessing(resize=40, crop=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


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


def test_the_worst_shift_counts_an_image_only_if_it_is_right_at_every_shift():
    probe = Diagonal()
    answers = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    probe.update(torch.nn.functional.one_hot(answers, 2).float(), torch.tensor([1, 1, 1, 0]))
    figures = probe.figures()
    assert (figures["worst_shift_top1"].value, figures["worst_shift_top1"].n) == (50, 4)
    assert figures["diagonal_top1"].value == pytest.approx(100 * 10 / 12)


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalising_is_torchvisions_bit_for_bit(layout):
    facts = Preprocessing(48, 40, mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1))
    pixels = torch.arange(2 * 3 * 48 * 48).mul(7).remainder(256).to(torch.uint8).view(2, 3, 48, 48)
    crops = pixels.to(memory_format=layout)[:, :, 3:43, 5:45]
    scaled = functional.to_dtype(crops.contiguous(), torch.float32, scale=True)
    made = imagenet(facts).normalise(crops)
    assert torch.equal(made, functional.normalize(scaled, list(facts.mean), list(facts.std)))
    assert made.is_contiguous(memory_format=torch.channels_last)


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


def test_corruption_names_are_the_ones_of_the_module():
    assert list(Corruptions().views(torch.arange(1), imagenet())[0, :, 1].unique()) == list(range(len(CORRUPTIONS)))
