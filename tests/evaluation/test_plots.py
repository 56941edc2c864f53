"""The pictures: what they show is read back from the matplotlib artists and from the written file."""

import io

import pytest
import torch
from forked import run_code

pytest.importorskip("matplotlib")

from antialiased_zoo.evaluation import plots


def test_shift_curves_show_every_model(tmp_path):
    curves = {"baseline": (range(33), torch.linspace(0, 1, 33)), "k = 4": (range(33), [0.5] * 33)}
    figure = plots.shift_curves(curves, title="a title", photo=torch.zeros(4, 4, 3).numpy(), caption="a photo")
    photo, axes = figure.axes
    assert [line.get_ydata()[0] for line in axes.lines] == [0, 0.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "baseline (wobble 1.00)",
        "k = 4 (wobble 0.00)",
    ]
    assert (axes.get_title(), photo.get_title()) == ("a title", "a photo")
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_front_is_marked(tmp_path):
    points = {"baseline": (70.0, 85.0), "k = 2": (71.0, 86.0), "k = 5": (70.5, 88.0)}
    assert plots.pareto_front(points) == ["k = 5", "k = 2"]
    bars = {"baseline": ((69.0, 71.0), (84.0, 86.0))}
    figure = plots.accuracy_consistency(points, ylabel="crop consistency (%)", errors=bars)
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[70.5, 88.0], [71.0, 86.0]]
    assert [text.get_text() for text in axes.texts] == list(points)
    assert axes.get_ylabel() == "crop consistency (%)"
    figure.savefig(tmp_path / "scatter.svg")
    assert "<svg" in (tmp_path / "scatter.svg").read_text()


def test_kinds_have_colours_and_shapes_and_of_many_models_only_the_front_is_named():
    points = {f"m{i}": (60.0 + i, 90.0 - (i % 7)) for i in range(40)}
    kinds = {label: "blurred" if index % 2 else "plain" for index, label in enumerate(points)}
    figure = plots.accuracy_consistency(points, groups=kinds)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == plots.pareto_front(points)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "blurred"]
    drawn = {tuple(one.get_offsets()[0]): one for one in axes.collections if len(one.get_offsets()) == 1}
    looks = {
        kind: {
            (drawn[points[m]].get_edgecolor().tobytes(), drawn[points[m]].get_paths()[0].vertices.tobytes())
            for m in points
            if kinds[m] == kind
        }
        for kind in ("plain", "blurred")
    }
    assert all(len(of_kind) == 1 for of_kind in looks.values())
    assert looks["plain"] != looks["blurred"]


def test_names_cover_neither_each_other_nor_the_edge():
    points = {"a network, one": (70.0, 88.0), "a network, two": (70.02, 88.01), "a very long name": (71.0, 86.0)}
    figure = plots.accuracy_consistency(points)
    figure.savefig(io.BytesIO())
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)  # itself
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_equal_points_are_both_on_the_front():
    assert plots.pareto_front({"a": (1, 1), "b": (1, 1), "c": (1, 0)}) == ["a", "b"]


def test_maps_of_a_layer_share_a_scale(tmp_path):
    maps = {"baseline": {"layer1": torch.full((3, 4), 0.5)}, "k = 4": {"layer1": torch.zeros(3, 4)}}
    figure = plots.distance_maps(maps)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_clim() for image in images] == [(0, 0.5), (0, 0.5)]
    assert tuple(images[0].get_extent()) == (-0.5, 3.5, -0.5, 2.5)
    figure.savefig(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.shift_curves({}), "no curves"),
        (lambda: plots.shift_curves({"a": ([1, 2], [0.5])}), "a: 2 shifts but 1"),
        (lambda: plots.accuracy_consistency({}), "no models"),
        (lambda: plots.distance_maps({"a": {"x": torch.zeros(1, 1)}, "b": {}}), "same one or more layers"),
    ],
)
def test_errors_instruct(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_and_drawing_leave_no_global_state(tmp_path):
    code = (
        "import sys; from antialiased_zoo.evaluation import plots; assert 'matplotlib' not in sys.modules;"
        "plots.shift_curves({'a': ([0], [1.0])}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = run_code(code, tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
