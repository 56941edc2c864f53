"""Names of published tensors to torchvision's: every layout, and never silently."""

from collections.abc import Mapping

import antialiased_cnns
import pytest
import torch
from checkpoint_files import in_order_of_use, meta

from antialiased_zoo.errors import TensorMismatchError
from antialiased_zoo.weights.checkpoints.names import match

NETWORKS = (
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161", "densenet169", "densenet201"),
    "mobilenet_v2",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_layout_is_understood(name: str) -> None:
    with torch.device("meta"):
        peer = getattr(antialiased_cnns, name)(filter_size=3)
    found = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    model = meta(name)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    pairs = match(found, wanted)
    assert set(pairs) == set(wanted)
    # The reference: both networks use their tensors in the same order.
    assert pairs == dict(zip(in_order_of_use(model), in_order_of_use(peer), strict=True))


SMALL = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "3.weight": (4, 4, 3, 3), "3.bias": (4,), "fc.weight": (2, 4)}


# As a file sorted by text has them: ten before two.
SORTED_AS_TEXT = {k.replace("0.", "10.").replace("3.", "2."): v for k, v in SMALL.items()}


class TestNames:
    def test_prefix_filters_and_shifted_numbers(self) -> None:
        found = {f"module.{key.replace('3.', '4.')}": shape for key, shape in SMALL.items()}
        pairs = match({**found, "module.2.filt": (4, 1, 3, 3)}, SMALL)
        assert pairs["3.weight"] == "module.4.weight"

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            ({k: v for k, v in SMALL.items() if k != "3.bias"}, r"missing from the file: 3\.bias"),
            ({**SMALL, "5.weight": (1,)}, r"not in the model: 5\.weight"),
            ({**SMALL, "3.weight": (4, 4, 5, 5)}, r"'3\.weight' has shape \[4, 4, 5, 5\]"),
            ({k.replace("bias", "offset"): v for k, v in SMALL.items()}, r"'0\.offset' is at the position"),
            ({f"layers.{k}": v for k, v in SMALL.items()}, r"'layers\.0\.weight' is at the position"),
            (SORTED_AS_TEXT, "missing"),
            ({**SMALL, "0.num_batches_tracked": ()}, r"not in the model: 0\.num_batches_tracked"),
            ({"a.denselayer1.norm.1.bias": (1,), "a.denselayer1.norm1.bias": (1,)}, "equivalent names"),
            ({}, "missing from the file"),
        ],
    )  # fmt: skip
    def test_never_silently(self, found: Mapping[str, tuple[int, ...]], reason: str) -> None:
        with pytest.raises(TensorMismatchError, match=reason):
            match(found, SMALL)

    def test_a_networks_tensors_beside_others_are_found_for_the_user(self) -> None:
        """As in a Lightning module with class weights, or with an average of the network."""
        under = {f"model.{name}": shape for name, shape in SMALL.items()}
        average = {f"ema_model.module.{name}": shape for name, shape in SMALL.items()}
        with pytest.raises(TensorMismatchError, match=r"under 'model\.', but .* name\.startswith\('model\.'\)"):
            match({**under, "criterion.weight": (2,)}, SMALL)
        with pytest.raises(TensorMismatchError, match=r"under 'model\.' and under 'ema_model\.module\.', but"):
            match({**under, **average}, SMALL)

    def test_head_of_another_size(self) -> None:
        found = {**SMALL, "fc.weight": (1000, 4)}
        assert match(found, SMALL, omit=("fc.",))["3.bias"] == "3.bias"
        with pytest.raises(TensorMismatchError, match=r"fc\.weight"):
            match(found, SMALL)

    def test_batch_counters_may_be_missing_but_not_left_over(self) -> None:
        wanted = {"1.running_mean": (4,), "1.num_batches_tracked": ()}
        assert match({"2.running_mean": (4,)}, wanted) == {"1.running_mean": "2.running_mean"}
