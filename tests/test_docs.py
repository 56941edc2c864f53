"""The documentation's own lines: they run, and what they show of the package is what it prints."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import pkgutil
import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
import torchvision
from forked import run_code
from PIL import Image
from torch import Tensor, nn

import antialiased_zoo as az
from antialiased_zoo import cli
from antialiased_zoo.weights import manifest
from antialiased_zoo.zoo.published import published_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "scripts/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
WITH_PYTHON = [name for name in PAGES if "```python" in (ROOT / name).read_text()]
# It registers a network, which stays: `test_contributing_runs` gives it a process of its own.
WITH_PYTHON.remove("CONTRIBUTING.md")
WITH_PYTHON.remove("docs/backbones.md")  # tests/zoo/test_backbone.py runs it


def python_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Each call of the command or of a script in a page's shell blocks, as words."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)).replace("\\\n", " ")
    found = re.findall(r"(?:antialiased-zoo|-m antialiased_zoo|scripts/\w+\.py) [^|;)#\n]*", shell)
    return [call.replace("-m antialiased_zoo", "antialiased-zoo").split() for call in found]


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_every_python_block_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "docs/detection.md":
        pytest.importorskip("segmentation_models_pytorch")
    names: dict[str, object] = {}
    for block in python_blocks(name):
        exec(block, names)
    if name == "docs/metrics.md":
        assert f".times(100))  # {capsys.readouterr().out}" in (ROOT / name).read_text()
    if name == "docs/coming-from.md":
        assert_like_composer(names["composer_like"])
        assert_like_composer(names["pools_only"], convs=False)
        assert names["as_in_the_paper"].layer2[0].conv1.stride == (1, 1)


def assert_like_composer(model: nn.Module, *, convs: bool = True) -> None:
    """Compare a ResNet-18's layers with Composer's formulas: 1-2-1 taps, and zeros around the map."""
    taps = torch.tensor([0.25, 0.5, 0.25])

    def blurred(x: Tensor, stride: int) -> Tensor:
        kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, None, stride, 1, 1, x.shape[1])

    x = torch.randn(2, 64, 15, 16)
    pool = model.get_submodule("maxpool")
    torch.testing.assert_close(pool(x), blurred(F.max_pool2d(x, 3, 1, 1), 2))
    for name in ("layer2.0.conv1", "layer2.0.downsample.0") if convs else ():
        conv = cast(nn.Conv2d, model.get_submodule(name))
        expected = F.conv2d(blurred(x, 1), conv.weight, None, 2, conv.padding)
        torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in PAGES if commands(name)])
def test_the_flags_of_every_command_exist(name: str) -> None:
    for program, *words in commands(name):
        if program == "antialiased-zoo":
            program = f"{program} {words[0]}"
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert flags <= flags_of(program), (name, program, flags - flags_of(program))


def test_how_many_blocks_run() -> None:
    blocks = sum(len(python_blocks(name)) for name in [*WITH_PYTHON, "CONTRIBUTING.md"])
    calls = sum(len(commands(name)) for name in PAGES)
    print(f"{blocks} blocks of Python, {calls} commands")
    stated = [int(number) for number in re.findall(r"more than (\d+)", page("faq"))]
    assert len(stated) == 2
    assert blocks > stated[0]
    assert calls > stated[1]
    unrun = {kind for name in PAGES for kind in re.findall(r"^```(\w+)", (ROOT / name).read_text(), re.MULTILINE)}
    assert unrun <= {"python", "sh", "text", "json"}  # a block of another kind would escape the tests


@functools.cache
def flags_of(program: str) -> set[str]:
    script, *command = program.split()
    shown = io.StringIO()
    arguments, path = (
        mock.patch.object(sys, "argv", [script, *command, "--help"]),
        mock.patch.object(sys, "path", [*sys.path]),
    )
    run = functools.partial(runpy.run_path, str(ROOT / script), run_name="__main__")
    if script == "antialiased-zoo":
        run = functools.partial(cli.main, [*command, "--help"])
    with arguments, path, contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as end:
        run()
    assert not end.value.code
    return set(re.findall(r"--[\w-]+", shown.getvalue()))


def test_every_name_of_the_package_exists() -> None:
    for name in PAGES:
        for dotted in set(
            re.findall(r"(?<![\w/.-])(?:az|antialiased_zoo)((?:\.[A-Za-z_]\w*)+)", (ROOT / name).read_text())
        ):
            assert exists(f"antialiased_zoo{dotted}"), f"{name}: az{dotted}"


def exists(dotted: str) -> bool:
    """Whether a module, or an attribute of one, has this name."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def test_layers_shows_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "layers.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    shown = capsys.readouterr().out.splitlines()
    assert f"# {shown[0]}\n" in page
    assert shown[1] == str(tuple(n / 9 for n in (1, 2, 3, 2, 1)))
    listed = set(re.findall(r"`(\w+)`", page.partition("| --- |")[2].partition("\n\n")[0]))
    family = {name for name in az.__all__ if re.search(r"Downsample(\dd)?$|Blur|blur_", name)}
    assert family <= listed


def test_the_alias_energies_are_measured() -> None:
    page = (ROOT / "docs" / "layers.md").read_text()
    rows = page.partition("<!-- alias -->")[2].partition("<!-- /alias -->")[0].strip().splitlines()[2:]
    assert len(rows) == 7
    for filt_size, row in enumerate(rows, start=1):
        cells = [f"{100 * az.alias_energy(filt_size, 2):.1f}"]
        for stride in (3, 4, 8):
            plain, wide = az.alias_energy(filt_size, stride), az.alias_energy(az.wide_taps(filt_size, stride), stride)
            cells.append(f"{100 * plain:.1f} → {100 * wide:.1f}")
        assert row == f"| {filt_size} | {' | '.join(cells)} |"


def test_the_table_of_networks_is_the_manifests() -> None:
    shown = page("networks").partition("<!-- published -->")[2].partition("<!-- /published -->")[0]
    assert shown.strip() == published_table(manifest.load())


def test_the_plan_shown_is_the_plan() -> None:
    plan, costs = re.findall(r"```text\n(.*?)```", page("antialias"), re.DOTALL)
    assert plan.strip() == str(az.plan(torchvision.models.resnet18()))
    totals = az.plan(torchvision.models.resnet18(), input_size=(1, 3, 224, 224)).totals
    assert costs.split() == str(totals).split()


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900
    assert max(map(len, README.splitlines())) <= 100
    assert "OWNER" not in README
    assert "../shared" not in README


def test_the_readmes_weights_are_the_manifests() -> None:
    table = README.partition("<!-- weights -->")[2].partition("<!-- /weights -->")[0].strip().splitlines()[2:]
    assert len(table) == 5
    known = manifest.load()
    for row in table:
        name, size, recipe = re.search(r"`(\w+)\((\d), \"(\w+)\"\)`", row).groups()
        _, baseline, antialiased = (cell.strip() for cell in row.split("|")[1:4])
        entry = known.find(name, int(size), recipe)
        if recipe == "cifar10":
            figures = json.loads((ROOT / "results" / "cifar10" / "evaluation" / "results.json").read_text())["models"]
            before, after = (
                {"acc1": f["top1"]["value"], "consistency_crop": f["crop_consistency"]["value"]}
                for f in (figures[label]["figures"] for label in ("baseline", "k4"))
            )
        else:
            before, after = known.baselines[name], entry.metrics
        assert antialiased == shown(after)
        assert baseline in ("", shown(before))
        places = {
            "package:": "the package",
            "hf://": "Hugging Face",
            "https://github.com/hug": "timm on GitHub",
        }
        stated = [place for start, place in places.items() if entry.sources[0].startswith(start)]
        assert (stated or ["the author's host"])[0] in row
        assert ("8 digits" in row) == (stated[:1] != ["the package"] and len(entry.files[0].digest) == 8)


def shown(metrics: Mapping[str, float]) -> str:
    return " / ".join(f"{metrics[key]:.2f}" for key in ("acc1", "consistency_crop") if key in metrics)


def test_the_readmes_costs_are_the_plans() -> None:
    plan = az.plan(torchvision.models.resnet50(), stem_pool="max2", input_size=(1, 3, 224, 224))
    adds, kept = re.findall(r"\(([\d.]+) times\)", str(plan.totals))
    prose = " ".join(README.split())
    assert f"raise multiply-adds by {round(100 * float(adds) - 100)}%" in prose
    assert f"training by {round(100 * float(kept) - 100)}%" in prose


def test_the_readmes_caption_says_what_its_picture_shows() -> None:
    with Image.open(ROOT / "docs" / "demo.png") as picture:
        title = picture.info["Title"]
    pair = r"([\d.]+%) \[[^]]*\] to ([\d.]+%)"
    pattern = rf"change the answer: {pair}.*probability: {pair}.*\((\d+) photos"
    plain, antialiased, *steps, photos = re.search(pattern, title, re.DOTALL).groups()
    prose = " ".join(README.split())
    assert f"On {photos} photos, a shift of one pixel changes the plain network's answer in {plain}" in prose
    assert f"the antialiased network's in {antialiased}" in prose
    assert f"the probability by {steps[0]} and {steps[1]} on average" in prose


def test_the_speeds_are_the_records() -> None:
    rows = json.loads((ROOT / "results" / "benchmark" / "networks.json").read_text())["rows"]
    table = page("speed").partition("<!-- nine -->")[2].partition("<!-- /nine -->")[0].strip().splitlines()[2:]
    assert len(table) == 9
    for row in table:
        case, *cells = (cell.strip() for cell in row.strip("| ").split("|"))
        mine = [found["ratios"] for found in rows if found["case"] == case]
        assert cells == [f"{of[peer][1]:.2f}" for of in mine for peer in ("antialiased-cnns", "torchvision")]


def test_the_training_speeds_are_the_records() -> None:
    rows = json.loads((ROOT / "results" / "benchmark" / "training.json").read_text())["rows"]
    table = page("speed").partition("<!-- training -->")[2].partition("<!-- /training -->")[0].strip().splitlines()[2:]
    assert {line.split("|")[1].strip() for line in table} == {row["case"] for row in rows}
    for line in table:
        case, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        step, memory = ([row["ratios"] for row in rows if row["case"] == case and kind in row["table"]]
                        for kind in ("step, batch 8", "peak memory, NCHW"))  # fmt: skip
        stated = [step[0]["antialiased-cnns"], step[0]["torchvision"], memory[0]["antialiased-cnns"]]
        assert cells == [f"{middle:.2f}" for _, middle, _ in stated]


def test_contributing_runs(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(python_blocks("CONTRIBUTING.md"))
    done = run_code(code, tmp_path)  # a process of its own: it registers a network
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_every_path_of_the_repository_exists(name: str) -> None:
    """Also in commands; ``NAME`` stands for any."""
    text = (ROOT / name).read_text()
    for path in re.findall(r"(?<![\w/.-])((?:antialiased_zoo|examples|scripts|tests)/[\w/.*-]*[\w/])", text):
        assert "NAME" in path or any(ROOT.glob(path)), path


@pytest.mark.parametrize("name", [*PAGES, "results/ablation/README.md"])
def test_prose_has_at_most_100_columns(name: str) -> None:
    """Except code, tables, HTML, lines that are one link, and what scripts write between two comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- (\w[^>]*?)(: begin)? -->.*?<!-- (/\1|\1: end) -->", "", text, flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not re.match(r"[|<]|!?\[[^]]*\]\([^)]*\)$", line)]
    assert len(prose) > 5
    assert [line for line in prose if len(line) > 100] == []
