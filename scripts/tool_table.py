"""Check tools that replace modules, before and after `antialias`: prints the page docs/tools.md.

python scripts/tool_table.py > docs/tools.md

Each tool is applied to a small network before `antialias`, and after it; "right" means that both orders give the same
outputs, which differ from the plain network's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from running import run_script
from tool_network import IMAGES, Block, Branches, Wrapper, network
from torch import Tensor, nn

import antialiased_zoo as az

INTRO = """# Tools that replace modules

Other tools may replace a convolution or an activation, and separate a dense convolution from its
blur. An antialiased model checks this before each forward, and puts the blur back. If it cannot,
`LostBlurError` says what was lost. `plan(model)` lists what is missing, and a second
`antialias_(model)` puts it back without a forward.

The table gives both orders: the tool before `antialias`, or after it. *Right* means that both
orders give the same outputs (int8: to a tenth of the largest output). An adapter gives the outputs
of the plain network with the adapter's weights merged and then antialiased. *Left strided* means
that `antialias` leaves the tool's convolutions, for the reason that the plan gives: antialias
first. An exported graph has no modules to treat, and `antialias_` warns about it: antialias the
network before you export it. `scripts/tool_table.py` writes this page, and
`tests/transform/test_tools.py` checks it.

Opacus refuses an antialiased model in its default mode ("a trainable layer with buffers"): it reads
each layer by hooks, and a blur is part of its layer. `make_private(grad_sample_mode="ew",
poisson_sampling=False)` works, and its gradients per sample are right.
"""


def swapped(net: Any, make: Callable[[nn.Module], nn.Module | None]) -> Any:
    """Replace modules by walking over a network, as much code does."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if (new := make(child)) is not None:
                setattr(parent, name, new)
    return net


def _wider(child: nn.Module) -> nn.Module | None:
    if type(child) is not nn.Conv2d or child.kernel_size != (3, 3):
        return None
    torch.manual_seed(child.out_channels + child.in_channels)
    return nn.Conv2d(child.in_channels, child.out_channels, 5, child.stride, 2).eval()


def _fused(net: Any) -> Any:
    return torch.ao.quantization.fuse_modules(net, [["block.conv", "block.norm"]])


def _fused_with_relu(net: Any) -> Any:
    swapped(net, lambda child: nn.ReLU().eval() if type(child) is nn.ReLU6 else None)
    return torch.ao.quantization.fuse_modules(net, [["block.conv", "block.norm", "block.act"]])


def _int8_fx(net: Any) -> Any:
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    prepared = prepare_fx(net, get_default_qconfig_mapping("x86"), (IMAGES,))
    prepared(IMAGES)
    return convert_fx(prepared)


def _int8_export(net: Any) -> Any:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(net, (IMAGES,)).module(), quantizer)
    prepared(IMAGES)
    return convert_pt2e(prepared)


def _reparameterized(net: Any) -> Any:
    from timm.utils import reparameterize_model

    return reparameterize_model(net)


def _timm_sync(net: Any) -> Any:
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(net)


def _lora(net: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    return get_peft_model(net, LoraConfig(r=2, target_modules=["conv", "out", "one"], init_lora_weights=False))


def _torchao(net: Any) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(net, Int8WeightOnlyConfig())
    return net


def _ema(net: Any) -> Any:
    return torch.optim.swa_utils.AveragedModel(net).eval()


def _ddp(net: Any) -> Any:
    with process_group():
        return nn.parallel.DistributedDataParallel(net).module


def _fsdp(net: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    return fully_shard(net)


def _compiled(net: Any) -> Any:
    return torch.compile(net, backend="aot_eager", fullgraph=True)


def _block_compiled(net: Any) -> Any:
    net.block = torch.compile(net.block, backend="aot_eager")
    return net


def _checkpointed(net: Any) -> Any:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(net, check_fn=lambda module: isinstance(module, (Block, Branches)))
    return net


def _wrapped(net: Any) -> Any:
    return swapped(net, lambda child: Wrapper(child) if isinstance(child, (Block, Branches)) else None)


def _pruned(net: Any) -> Any:
    """Remove two channels of the convolution whose blur was made for all of them, as structured pruning does."""
    block = net.block
    for module, names in ((block.conv, ("weight", "bias")), (block.norm, ("weight", "bias"))):
        for name in names:
            setattr(module, name, nn.Parameter(getattr(module, name)[2:].detach()))
    block.norm.running_mean, block.norm.running_var = block.norm.running_mean[2:], block.norm.running_var[2:]
    block.out.weight = nn.Parameter(block.out.weight[:, 2:].detach())
    block.conv.out_channels, block.norm.num_features, block.out.in_channels = 6, 6, 6
    return net


@contextmanager
def process_group() -> Iterator[None]:
    """A context with a process group of one process."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", store=dist.FileStore(str(Path(folder, "store")), 1), rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        name: Its name in the table.
        apply: Applies it to a network, or to a copy.
        tolerance: Tolerance of the comparison, relative to the largest output.
        needs: A package that must be installed.
        grouped: True if it works only in a process group.
        reference: Makes a plain network from its result; that network's antialiased form is the reference.
    """

    name: str
    apply: Callable[[Any], Any]
    tolerance: float = 1e-4
    needs: str = "torch"
    grouped: bool = False
    reference: Callable[[Any], Any] | None = None


TOOLS = (
    Tool("`SyncBatchNorm.convert_sync_batchnorm`", nn.SyncBatchNorm.convert_sync_batchnorm),
    Tool("`timm.layers.convert_sync_batchnorm`", _timm_sync, needs="timm"),
    Tool("`timm.utils.reparameterize_model`", _reparameterized, needs="timm"),
    Tool("`fuse_modules` (convolution, norm)", _fused),
    Tool("`fuse_modules` (convolution, norm, ReLU)", _fused_with_relu),
    Tool("FX int8 (`prepare_fx`, `convert_fx`)", _int8_fx, 0.1),
    Tool("PT2E int8 (`prepare_pt2e`, `convert_pt2e`)", _int8_export, 0.1, needs="torchao"),
    Tool("an activation for another", lambda n: swapped(n, lambda c: nn.Hardswish() if type(c) is nn.ReLU6 else None)),
    Tool("a convolution for another, with its stride", lambda net: swapped(net, _wider)),
    Tool("peft LoRA on convolutions", _lora, needs="peft", reference=lambda net: net.merge_and_unload()),
    Tool("torchao `quantize_`", _torchao, needs="torchao"),
    Tool("EMA (`AveragedModel`)", _ema),
    Tool("`DistributedDataParallel`", _ddp),
    Tool("FSDP2 (`fully_shard`), one process", _fsdp, grouped=True),
    Tool("`torch.compile`", _compiled),
    Tool("`torch.compile` of a block", _block_compiled),
    Tool("`apply_activation_checkpointing`", _checkpointed),
    Tool("a wrapper around blocks", _wrapped),
    Tool("structured pruning, by hand", _pruned),
)


def outcomes(tool: Tool) -> tuple[str, str]:
    """The outcomes of a tool before `antialias`, and after it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if tool.grouped:
            with process_group():
                return _outcomes(tool)
        return _outcomes(tool)


def _outcomes(tool: Tool) -> tuple[str, str]:
    plain = tool.apply(network())(IMAGES)
    after = _try(lambda: tool.apply(az.antialias(network()))(IMAGES))
    before = _try(lambda: az.antialias_(tool.apply(network()))(IMAGES))
    errors = [outcome if isinstance(outcome, str) else "" for outcome in (before, after)]
    if any(errors) or isinstance(before, str) or isinstance(after, str):
        return errors[0] or "right", errors[1] or "right"
    expected = az.antialias(tool.reference(tool.apply(network())))(IMAGES) if tool.reference else before
    same = _close(expected, after, tool.tolerance)
    if _close(before, plain, 1e-3):
        first = "WRONG: nothing is blurred"
    else:
        first = "right" if _close(expected, before, tool.tolerance) else _left(tool)
    return first, "right" if same else "WRONG: other outputs"


def _left(tool: Tool) -> str:
    """What the plan says of the convolutions that it leaves as they are."""
    reasons = {site.reason for site in az.plan(tool.apply(network())).sites if not site.placement}
    return f"left strided: {', '.join(sorted(reasons))}" if reasons else "WRONG: other outputs"


def _try(run: Callable[[], Tensor]) -> Tensor | str:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "nothing in .* was left to antialias")
            return run()
    except UserWarning as warning:
        return f"warning: {warning}"
    except Exception as error:  # of the tool, or of this package
        return f"error: {type(error).__name__}: {str(error).strip().splitlines()[0][:110]}"


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def table() -> str:
    """The page."""
    rows = ["| tool | then `antialias` | after `antialias` |", "| --- | --- | --- |"]
    rows += [f"| {tool.name} | {' | '.join(outcomes(tool))} |" for tool in TOOLS]
    return "\n".join([INTRO, *rows])


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    try:
        print(table())
    except ImportError as error:
        raise ImportError(f"{error}: every tool of the table must be installed, torchao among them") from error


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
