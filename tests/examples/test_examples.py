"""Every example, run on tiny data: it does what it says it does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from antialiased_zoo import metrics

FOLDER = Path(__file__).parents[2] / "examples"


def example(name: str, *peers: str) -> ModuleType:
    """An example as a module; skipped where a library that it shows is not installed."""
    for peer in peers:
        pytest.importorskip(peer)
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_stripes(folder: Path, count: int, classes: int = 2, size: int = 40) -> None:
    """Grey photos of stripes, one direction for each class."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in range(classes):
        for number in range(count):
            noise = torch.randint(0, 60, (size, size), dtype=torch.uint8)
            noise[:, number % 4 :: 6] += 120
            pixels = noise if label == 0 else noise.T
            (folder / str(label)).mkdir(exist_ok=True)
            Image.fromarray(pixels.contiguous().numpy()).save(folder / str(label) / f"{number}.png")


def test_each_is_under_80_lines_and_has_a_test() -> None:
    here = Path(__file__).read_text()
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path
        assert f'example("{path.stem}"' in here, path


@pytest.mark.slow
def test_finetune_greyscale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_stripes(tmp_path / "train", 32)
    save_stripes(tmp_path / "val", 8)
    sizes = ["--size", "32", "--train-photos", "32", "--test-photos", "8", "--epochs", "2", "--seeds", "2"]
    found = example("finetune_greyscale").main([str(tmp_path), *sizes])
    assert [set(by_filter) for by_filter in found] == [{None, 4}, {None, 4}]
    for by_filter in found:
        for figures in by_filter.values():
            assert figures["accuracy"] >= 0.75  # two directions of stripes
    assert "crop consistency: baseline" in capsys.readouterr().out


@pytest.mark.slow
def test_detector_overfits_its_tiny_set() -> None:
    assert example("detector").main(["--images", "2"]) > 0.6


@pytest.mark.slow
def test_segmentation_unet_overfits_its_tiny_set() -> None:
    assert example("segmentation_unet", "segmentation_models_pytorch").main([]) > 0.8


def test_detector_and_segmentation_unet_run() -> None:
    assert 0 <= example("detector").main(["--images", "1", "--steps", "2"]) <= 1
    assert 0 <= example("segmentation_unet", "segmentation_models_pytorch").main(["--images", "2", "--steps", "2"]) <= 1


def test_own_network() -> None:
    first, last = example("own_network").main()
    assert last < 0.5 * first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_module(tmp_path: Path) -> None:
    network = example("lightning_module", "lightning").main(["--folder", str(tmp_path)])
    assert network.num_classes == 10
    assert network.config.filter_size == 4


def test_layer_decay_moves_early_layers_less() -> None:
    moved = example("layer_decay", "timm").main(["--layer-decay", "0.3", "--steps", "2"])
    assert moved["conv1"] < 0.1 * moved["layer4.1.conv2"]


@pytest.mark.slow  # tests/transform/test_tools.py has the quick one
def test_lora() -> None:
    first, last = example("lora", "peft").main([])
    assert last < 0.8 * first


def test_distillation(tmp_path: Path) -> None:
    save_stripes(tmp_path, 8)
    sizes = ["--size", "64", "--steps", "2", "--batch-size", "8"]
    found = example("distillation").main([str(tmp_path), *sizes])
    assert len(found) == 3
    assert all(0 <= agreement <= 100 for agreement in found)


def test_the_greyscale_figures_are_the_records() -> None:
    root = FOLDER.parent
    record = (root / "results" / "greyscale" / "efficientnet_lite0.txt").read_text()
    page = (root / "docs" / "finetuning.md").read_text()
    runs = re.findall(r"seed \d, filter (\w+): \{'accuracy': ([\d.]+), 'crop consistency': ([\d.]+)\}", record)
    assert len(runs) == 6
    for at, title in ((1, "top-1 accuracy"), (2, "crop consistency")):
        before, after = ([float(run[at]) for run in runs if run[0] == k] for k in ("None", "4"))
        gains = metrics.average([b - a for a, b in zip(before, after, strict=True)], -1.0)
        figures = [figure.times(100) for figure in (metrics.average(before), metrics.average(after), gains)]
        cells = " | ".join(f"{figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}]" for figure in figures)
        assert f"| {title} | {cells} |" in page
