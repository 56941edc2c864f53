"""What the plan reads: every op that strides, by what it computes, whatever it is called and wherever it stands."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from strided_ops import strided_ops
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, FrozenBatchNorm2d, deform_conv2d

import antialiased_zoo as az
from antialiased_zoo.transform import Op


class Calls(nn.Module):
    """A function as a module, which `torch.fx` looks into."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "powers": lambda x: F.lp_pool2d(x, 2.0, 2),
    "fractional": lambda x: F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5)),
    "index_select": lambda x: torch.index_select(x, 2, torch.arange(0, 16, 2)),
    "method": lambda x: x.index_select(3, torch.arange(0, 16, 2)),
    "windows": lambda x: x.unfold(2, 2, 2),
    "split": lambda x: x.view(1, 4, 8, 2, 16)[:, :, :, 0],
    "split at the end": lambda x: x.reshape(1, 4, 16, 8, 2)[..., 0],
    "aten": lambda x: torch.ops.aten.avg_pool2d(x, [2, 2], [2, 2]),
    "aten overload": lambda x: torch.ops.aten.max_pool2d.default(x, [2, 2], [2, 2]),
    "depthwise": lambda x: F.conv2d(x, torch.ones(4, 1, 3, 3), None, 2, 1, 1, 4),
    "aten convolution": lambda x: torch.ops.aten.conv2d.default(x, torch.ones(4, 1, 3, 3), None, [2], [1], [1], 4),
    "mean of a view": lambda x: x.view(1, 4, 8, 2, 8, 2).mean((3, 5)),
    "maximum of a view": lambda x: x.reshape(1, 4, 8, 2, 16).max(3).values,
    "one of a view": lambda x: x.view(1, 4, 16, 8, 2).select(-1, 0),
    "all of a view": lambda x: x.view(1, 4, 16, 8, 2).unbind(-1)[0],
    "narrowed view": lambda x: x.view(1, 4, 16, 8, 2).narrow(-1, 0, 1),
    "slice of a view": lambda x: x.view(1, 4, 16, 8, 2)[..., 1:],
    "chunk of a view": lambda x: x.view(1, 4, 16, 8, 2).chunk(2, dim=-1)[0],
    "split of a view": lambda x: torch.split(x.unflatten(2, (8, 2)), 1, 3)[1],
    "computed step": lambda x: x[:, :, :: x.shape[1] // 2],
    "strides": lambda x: x.as_strided((1, 4, 8, 8), (1024, 256, 32, 2)),
    "deformed": lambda x: deform_conv2d(x, torch.zeros(1, 18, 8, 8), torch.ones(4, 4, 3, 3), stride=2, padding=1),
    "keywords": lambda x: F.max_pool2d(input=x, kernel_size=2),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("function", STRIDED.values(), ids=STRIDED)
def test_every_strided_function_is_in_the_plan_and_seen_by_the_recorder(
    function: Callable[[Tensor], Tensor], graph: bool
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Calls(function))
    _, ran = strided_ops(net, torch.randn(1, 3, 16, 16))
    assert {op.kind for op in ran} == {site.kind for site in az.plan(net, graph=graph).sites} != set()


def test_a_deformable_convolution_is_in_the_plan() -> None:
    class Deforms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DeformConv2d(4, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, torch.zeros(1, 18, 7, 7))

    (site,) = az.plan(nn.Sequential(nn.Conv2d(3, 4, 3), Deforms())).sites
    assert (site.name, site.kind, site.placement) == ("1.conv:deform_conv2d", "conv", None)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (nn.MaxPool2d(2, return_indices=True), "maxpool"),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), "fractional"),
        (nn.AvgPool2d(2, divisor_override=1), "avgpool"),
    ],
)
def test_pools_that_no_blur_can_stand_for_are_left_with_the_reason(op: nn.Module, kind: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), op)
    (site,) = az.plan(net).sites
    assert (site.kind, site.placement, bool(site.reason)) == (kind, None, True)
    with pytest.warns(UserWarning, match="left to antialias"):
        assert repr(az.antialias(net)) == repr(net)


def test_a_pool_of_powers_is_blurred_after_its_dense_evaluation() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.LPPool2d(2, 3, 2))
    x = torch.randn(1, 3, 20, 23)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    dense = F.lp_pool2d(net[:2](x), 2.0, 3, 1)
    torch.testing.assert_close(az.antialias(net)(x), az.blur_pool2d(dense, 4, 2))


class Pool(nn.MaxPool1d):
    """Its name does not say how many axes it has."""


def test_a_pools_axes_are_those_of_its_class_not_of_its_name() -> None:
    net, x = nn.Sequential(nn.Conv1d(3, 4, 3), Pool(2)), torch.randn(1, 3, 20)
    assert type(az.antialias(net)[1]).__name__ == "MaxBlurPool1d"
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: nn.Sequential(nn.DataParallel(net))])
def test_wrappers_that_spread_a_batch_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2), nn.ReLU())
    assert len(az.plan(wrap(body)).treated) == 2


# One object, several places


class Aliases(nn.Module):
    """Pools and convolutions under several names, as in published U-Nets."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3, padding=1)})
        self.first = nn.Sequential(self.encoder["conv"], nn.ReLU(), self.pool)
        self.second = nn.Sequential(self.pool, nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_module_is_treated_under_all_its_names() -> None:
    net, x = Aliases(), torch.randn(1, 3, 32, 32)
    mine = az.antialias(net)
    assert mine.pool is mine.first[2] is mine.second[0]
    assert type(mine.pool) is az.MaxBlurPool2d
    y = az.max_blur_pool2d(net.first[:2](x), 2)
    torch.testing.assert_close(mine(x), net.second[1](az.max_blur_pool2d(y, 2)))


class Pyramid(nn.Module):
    """One strided convolution at each level; the first reads the image or not."""

    def __init__(self, image: bool) -> None:
        super().__init__()
        self.stem = nn.Identity() if image else nn.Conv2d(3, 3, 3, padding=1)
        self.down = nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.relu(self.down(self.stem(x)))
        return a, F.relu(self.down(a))


@pytest.mark.parametrize("image", [True, False])
def test_a_convolution_called_at_several_places_is_treated_at_all_or_none(image: bool) -> None:
    net, x = Pyramid(image), torch.randn(1, 3, 33, 32)
    assert len(az.plan(net, graph=True).treated) == (0 if image else 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the first nothing is treated
        for old, new in zip(net(x), az.antialias(net, 1, graph=True)(x), strict=True):
            torch.testing.assert_close(new, old)


class Runs(nn.Module):
    """Runs its children in turn, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return F.relu(x)


def test_a_block_that_runs_its_children_does_not_run_a_blur_as_one_of_them() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Runs(), nn.Conv2d(4, 4, 1)).eval()
    x = torch.randn(1, 3, 20, 20)
    assert [str(site.placement) for site in az.plan(net).sites] == ["before 2"]
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))


# Equal functions


class Snake(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.a * x).pow(2) / self.a


EQUAL: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "h-swish": (nn.Hardswish, lambda: Calls(lambda x: x * F.relu6(x + 3) / 6)),
    "mish": (nn.Mish, lambda: Calls(lambda x: x * torch.tanh(F.softplus(x)))),
    "silu": (nn.SiLU, lambda: Calls(lambda x: torch.mul(torch.sigmoid(x), x))),
    "leaky by maximum": (lambda: nn.LeakyReLU(0.1), lambda: Calls(lambda x: torch.maximum(x, 0.1 * x))),
    "leaky by where": (lambda: nn.LeakyReLU(0.1), lambda: Calls(lambda x: torch.where(x > 0, x, 0.1 * x))),
    "glu": (lambda: nn.GLU(1), lambda: Calls(lambda x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]))),
    "scaled": (nn.ReLU, lambda: Calls(lambda x: F.relu(3 * x) / 3)),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("makers", EQUAL.values(), ids=EQUAL)
def test_equal_functions_give_equal_antialiased_functions(
    makers: tuple[Callable[[], nn.Module], Callable[[], nn.Module]], graph: bool
) -> None:
    torch.manual_seed(0)
    down, x = nn.Conv2d(4, 4, 3, 2, 1), torch.randn(1, 4, 20, 23)
    end = nn.LazyConv2d(3, 1)
    nets = [nn.Sequential(down, make(), end) for make in makers]
    torch.testing.assert_close(nets[0](x), nets[1](x))
    ours = [az.antialias(net, graph=graph, stem_stride=1) for net in nets]
    dense = makers[0]()(F.conv2d(x, down.weight, down.bias, 1, 1))
    for mine in ours:
        torch.testing.assert_close(mine(x), end(az.blur_pool2d(dense, 4, 2)))


def test_a_nonlinearity_with_a_parameter_for_each_channel() -> None:
    down, snake, end = nn.Conv2d(4, 4, 3, 2, 1), Snake(), nn.Conv2d(4, 3, 1)
    x = torch.randn(1, 4, 20, 23)
    expected = end(az.blur_pool2d(snake(F.conv2d(x, down.weight, down.bias, 1, 1)), 4, 2))
    torch.testing.assert_close(az.antialias(nn.Sequential(down, snake, end), stem_stride=1)(x), expected)


def test_a_factor_for_each_place_is_no_pointwise_map() -> None:
    mask = torch.rand(10, 12)
    net = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), Calls(lambda x: F.relu(x * mask)), nn.Conv2d(4, 3, 1))
    (site,) = az.plan(net, stem_stride=1).sites
    assert str(site.placement) == "after 0"
    x = torch.randn(1, 4, 20, 24)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


def test_a_matrix_product_is_no_gate() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, 2, 1), Calls(lambda x: torch.matmul(x, torch.sigmoid(x))), nn.Conv2d(4, 3, 1)
    )
    x = torch.randn(1, 4, 20, 20)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


class Frozen(nn.Module):
    """A batch norm by function, from buffers."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name, tensor in norm.state_dict().items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def test_a_frozen_norm_is_a_norm() -> None:
    norm, frozen = nn.BatchNorm2d(4).eval(), FrozenBatchNorm2d(4)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    frozen.load_state_dict(norm.state_dict(), strict=False)
    down, end, x = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 3, 1), torch.randn(1, 4, 20, 23)
    dense = F.relu(norm(F.conv2d(x, down.weight, down.bias, 1, 1)))
    for each in (norm, frozen, Frozen(norm)):
        mine = az.antialias(nn.Sequential(down, each, nn.ReLU(), end).eval(), stem_stride=1)
        torch.testing.assert_close(mine(x), end(az.blur_pool2d(dense, 4, 2)))


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def test_a_name_does_not_make_a_transformer() -> None:
    stem = [nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)]
    placements = {str(az.plan(nn.Sequential(*stem, *more)).sites[0].placement) for more in ([], [Attention()])}
    assert placements == {"after 2"}


def test_a_layer_norm_over_a_map_sees_the_subsampled_map() -> None:
    net = nn.Sequential(nn.Conv2d(8, 16, 4, 2, 1), nn.LayerNorm([16, 16, 16]), nn.LeakyReLU(0.2))
    x = torch.randn(2, 8, 32, 32)
    torch.testing.assert_close(az.antialias(net, 1, stem_stride=1)(x), net(x))


@pytest.mark.parametrize("placement", ["after_nonlinearity", "before_conv"])
def test_inputs_given_by_keyword(placement: str) -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.shortcut = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.down(input=x)) + self.shortcut(input=x)

    net, x = Keywords(), torch.randn(1, 4, 20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # before_conv can treat neither
        mine = az.antialias(net, 1, placement=placement, stem_stride=1)
    torch.testing.assert_close(mine(x), net(x))


# State


def test_labels_go_through_a_max_pool_as_they_did() -> None:
    labels = torch.randint(0, 5, (1, 1, 9, 8))
    pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    assert torch.equal(az.antialias(nn.Sequential(pool))(labels), pool(labels))


def test_lazy_modules_are_refused_before_anything_changes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.LazyConv2d(8, 1, 2))
    before = repr(net)
    with pytest.raises(ValueError, match="3 is a LazyConv2d whose parameters are not initialised"):
        az.antialias_(net)
    assert repr(net) == before


def test_a_graph_that_fixes_a_mode_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Calls(lambda x: F.max_pool2d(x, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        az.antialias(net, graph=True)

    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(F.max_pool2d(x, 2), 0.5, training=self.training)

    with pytest.warns(UserWarning, match="always does what it does in training"):
        az.antialias(nn.Sequential(nn.Conv2d(3, 4, 3), Drops()), graph=True)


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does, and draws numbers."""

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        rows, columns = (max((-(-n // step) - 1) * step + 3 - n, 0) for n in x.shape[2:])
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        noise = torch.zeros(1).bernoulli_(0.5)
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride) + 0 * noise


def drops(x: Tensor) -> Tensor:
    return F.dropout(F.rrelu(x, training=True), 0.5) * 0 + x.clamp(min=0)


@pytest.mark.parametrize("graph", [False, True])
def test_a_graph_draws_numbers_when_it_runs_and_not_when_it_is_traced(graph: bool) -> None:
    noisy = Calls(lambda x: F.relu(x) * torch.rand(1, 4, 1, 1) + torch.zeros(1, 4, 1, 1).normal_())
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), noisy).eval(), torch.randn(1, 3, 24, 24)
    state = torch.get_rng_state()
    mine = az.antialias(net, 1, graph=graph)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(mine(x), mine(x))
    outputs = []
    for model in (net, mine):
        torch.manual_seed(0)
        outputs.append(model(x))
    torch.testing.assert_close(*outputs)


def test_planning_leaves_other_threads_alone() -> None:
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)), nn.MaxPool2d(2)).eval()
    # What has a forward of its own is tried out, and so is an activation.
    drawing = nn.Sequential(nn.Conv2d(4, 4, 1), Calls(drops), Same(4, 4, 3, 2), Calls(drops), nn.Conv2d(4, 4, 1))
    x = torch.randn(1, 4, 8, 8)
    expected, wrong, stop = net(x), list[str](), threading.Event()
    numbers: list[float] = []

    def run() -> None:
        while not stop.is_set():
            try:
                if not torch.equal(net(x), expected):
                    wrong.append("another result")
            except Exception as error:
                wrong.append(repr(error))

    def draw() -> None:
        while not stop.is_set():
            numbers.append(float(torch.rand(())))

    torch.manual_seed(0)
    threads = [threading.Thread(target=target) for target in (run, run, draw)]
    call = nn.Module.__call__
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert len(az.plan(net).treated) == len(az.plan(drawing).treated) == 1
            assert nn.Module.__call__ is call
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    torch.manual_seed(0)
    assert numbers == [float(torch.rand(())) for _ in numbers], "planning has drawn numbers, or given some back"


# Rows of one's own


class Every(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2] if x.sum() < 1e9 else x


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if x.sum() < 1e9 else x


def test_a_strided_op_and_an_activation_can_be_registered() -> None:
    az.register_strided_op(Every, lambda _: Op("every", (2, 2)), lambda _, blur: blur(stride=(2, 2)))
    az.register_activation(Hard)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2, 1), Hard(), Every())
    assert [str(site.placement) for site in az.plan(net).sites] == ["after 2", "instead 3"]
    x = torch.randn(1, 3, 33, 30)
    torch.testing.assert_close(az.antialias(net, 1)(x), net(x))
    y = az.blur_pool2d(F.conv2d(net[0](x), net[1].weight, net[1].bias, 1, 1).clamp(0, 1), 4, 2)
    torch.testing.assert_close(az.antialias(net)(x), az.blur_pool2d(y, 4, 2))


class Doubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _pooled(self: Doubles, x: Tensor) -> Tensor:
    return F.max_pool2d(self.body(x), 2)


def test_a_forward_that_was_replaced_on_one_object_is_read() -> None:
    net, x = Doubles(), torch.randn(1, 3, 40, 40)
    net.forward = MethodType(_pooled, net)  # type: ignore[method-assign]
    assert [site.kind for site in az.plan(net).sites] == ["conv", "maxpool"]
    assert az.antialias(net)(x).shape == net(x).shape
    net.forward = functools.partial(_pooled, net)  # type: ignore[method-assign]
    plan = az.plan(net)
    assert [site.name for site in plan.sites] == ["body.1"]
    assert "its forward was replaced" in plan.notes[0]
