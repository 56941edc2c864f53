"""Quicker subclasses of modules against the classes that they stand in for."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torchvision.models.densenet import _DenseBlock

import antialiased_zoo as az
from antialiased_zoo.dense_block import PairwiseDenseBlock
from antialiased_zoo.quicken import quicken_
from antialiased_zoo.relu6 import InPlaceReLU6

EDGES = torch.tensor([-torch.inf, -1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 6.000001, torch.inf, torch.nan])


def bytes_kept(net: nn.Module, x: Tensor) -> int:
    """By the distinct tensors that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x)
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_relu6_has_torchs_values_and_gradients(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.cat([EDGES, 6 * torch.randn(100)]).to(dtype)
    grad = torch.randn_like(x)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y, expected = InPlaceReLU6(inplace=True)(ours * 1), nn.ReLU6()(theirs * 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    y.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


def test_relu6_works_in_place_and_keeps_no_copy() -> None:
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    before = x * 1
    assert InPlaceReLU6(inplace=True)(before) is before
    one_map = x.nbytes
    net = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 1))
    theirs = bytes_kept(net, x)
    assert theirs - bytes_kept(quicken_(net), x) == one_map


def test_relu6_out_of_place_leaves_its_input() -> None:
    x = torch.tensor([-1.0, 7.0], requires_grad=True)
    torch.testing.assert_close(InPlaceReLU6()(x), torch.tensor([0.0, 6.0]))
    assert x.tolist() == [-1.0, 7.0]


def test_relu6_can_be_differentiated_twice() -> None:
    x = (torch.tensor([-2.0, 1.0, 3.0, 9.0], dtype=torch.float64) + torch.rand(4)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: InPlaceReLU6(inplace=True)(x * x * 1) ** 3, x)


def test_relu6_refuses_a_leaf_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        InPlaceReLU6(inplace=True)(torch.ones(3, requires_grad=True))


def test_relu6_works_under_transforms_and_checkpoints() -> None:
    x, relu6 = torch.tensor([[-1.0, 2.0, 7.0]]), InPlaceReLU6(inplace=True)
    slope = torch.tensor([[0.0, 1.0, 0.0]])
    torch.testing.assert_close(torch.func.grad(lambda x: relu6(x * 1).sum())(x), slope)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(lambda x: relu6(x * 1).sum()))(x), slope)
    torch.testing.assert_close(torch.func.jvp(lambda x: relu6(x * 1), (x,), (torch.ones_like(x),))[1], slope)
    leaf = x.clone().requires_grad_()
    checkpoint(lambda x: relu6(x * 1), leaf, use_reentrant=False).sum().backward()
    torch.testing.assert_close(leaf.grad, slope)


def test_a_training_step_is_the_same() -> None:
    torch.manual_seed(0)
    ours = az.mobilenet_v2(num_classes=10, dropout=0.0)
    theirs = copy.deepcopy(ours)
    for module in theirs.modules():
        if type(module) is InPlaceReLU6:
            module.__class__ = nn.ReLU6
    x = torch.randn(2, 3, 64, 64)
    for net in (ours, theirs):
        net(x).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize("training", [False, True])
def test_a_compiled_dense_block_is_the_same(training: bool) -> None:
    torch.manual_seed(0)
    block = PairwiseDenseBlock(3, 8, bn_size=2, growth_rate=4, drop_rate=0.0).train(training)
    x = torch.randn(2, 8, 9, 9)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y, expected = torch.compile(block, fullgraph=True)(ours), block(theirs)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_a_compiled_dense_block_joins_two_maps_at_a_time() -> None:
    def most_joined(block: nn.Module) -> int:
        graphs: list[torch.fx.GraphModule] = []
        torch.compile(block, backend=lambda graph, _: (graphs.append(graph), graph.forward)[1])(torch.ones(1, 8, 5, 5))
        (graph,) = graphs
        return max(len(node.args[0]) for node in graph.graph.nodes if node.target is torch.cat)

    assert most_joined(PairwiseDenseBlock(3, 8, 2, 4, 0.0)) == 2
    assert most_joined(PairwiseDenseBlock(3, 8, 2, 4, 0.0, memory_efficient=True)) == 4


@pytest.mark.parametrize(
    ("name", "own"), [("mobilenet_v2", {}), ("densenet121", {}), ("densenet121", {"memory_efficient": True})]
)
def test_outputs_and_gradients_are_torchvisions_to_the_bit(name: str, own: dict[str, bool]) -> None:
    torch.manual_seed(0)
    theirs = az.create_model(name, filter_size=None, num_classes=10, **own).eval()
    ours = quicken_(copy.deepcopy(theirs))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))
    for net in (ours, theirs):
        net(x).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def joins(block: nn.Module, x: torch.Tensor) -> list[int]:
    """How many maps each call of `torch.cat` joins."""

    class Cats(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.cat.default:
                found.append(len(args[0]))
            return func(*args, **(kwargs or {}))

    found: list[int] = []
    with Cats():
        block(x)
    return found


def test_in_inference_a_dense_block_joins_two_maps_at_a_time_and_nothing_else() -> None:
    block = quicken_(nn.Sequential(_DenseBlock(3, 8, 2, 4, 0.0)))
    x = torch.ones(1, 8, 5, 5)
    with torch.inference_mode():
        assert joins(block, x) == [2, 2, 2]
    assert joins(block, x) == [2, 3, 4]


def test_a_dense_layer_without_a_norm_leaves_its_input() -> None:
    block = _DenseBlock(2, 8, 2, 4, 0.0).eval()
    for layer in block.values():
        layer.norm1 = nn.Identity()
    x = torch.randn(1, 8, 5, 5)
    with torch.inference_mode():
        torch.testing.assert_close(quicken_(nn.Sequential(copy.deepcopy(block)))(x), block(x), rtol=0, atol=0)


def test_the_zoo_is_quickened_and_survives_copies_pickles_and_state_dicts() -> None:
    model = az.mobilenet_v2(num_classes=10)
    plain = az.mobilenet_v2(filter_size=None, num_classes=10)
    assert not any(isinstance(module, InPlaceReLU6) for module in plain.modules())
    assert list(model.state_dict()) == list(plain.state_dict())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert sum(type(module) is InPlaceReLU6 for module in twin.modules()) == 35
    assert sum(type(module) is PairwiseDenseBlock for module in az.densenet121(num_classes=10).modules()) == 4
