"""Batch-norm statistics, measured anew: what a network needs first after surgery on trained weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from .inputs import inputs_of

_Model = TypeVar("_Model", bound=nn.Module)


def recalibrate(model: _Model, loader: Iterable[Any], *, progress: bool = True) -> _Model:
    """Measure batch norm's running statistics anew on some data, in place; nothing else is trained or changed.

    Antialiasing changes the maps that batch norm was trained to see. One pass over a few thousand
    training images measures their mean and variance: those of all values of all batches together,
    weighted by their number, whatever ``momentum`` says. In that pass every batch norm normalises
    by its batch, as in training, so that later layers see what they will see; all else (dropout
    ...) is in evaluation mode. Shuffle the data, and take batches as large as in training.
    Statistics are replaced when the pass is over, all or none.

    Args:
        model: A network with ``nn.BatchNorm*d`` or ``nn.SyncBatchNorm`` layers, on any device.
            Layers that the forward pass does not reach, and those that keep no statistics, are left
            alone.
        loader: Batches of inputs: tensors, or tuples and lists that begin with one, such as
            (images, targets). They are moved to the model's device.
            ``itertools.islice(loader, 100)`` makes it shorter. In a process group each process
            measures what its own loader gives.
        progress: Show a bar, on a terminal.

    Returns:
        The same model, with train and evaluation flags, hooks and momenta as they were.

    Raises:
        ValueError: If the loader is empty, a layer saw infinities or NaNs, or a batch is so small
            that a layer reads one value a channel, which has no variance (torch's own message). The
            model is then as it was.
        TypeError: If a batch is neither a tensor nor begins with one.

    Warns:
        UserWarning: If the model has no batch norm that keeps statistics.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 ("precise"
        statistics).

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(1))
        >>> recalibrate(model, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])[0].running_mean
        tensor([4.])
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}
    if not layers:
        warnings.warn(
            f"{type(model).__name__} has no batch norm that keeps statistics: nothing to recalibrate", stacklevel=2
        )
        return model
    seen = {name: _Statistics() for name in layers}
    with _measuring(model, layers, seen):
        batches = _run(model, loader, progress)
    if not batches:
        raise ValueError("the loader gave no batch: nothing was measured, and the model is as it was")
    seen = {name: statistics for name, statistics in seen.items() if statistics.count}
    for name, statistics in seen.items():
        if not statistics.squares.isfinite().all():
            raise ValueError(f"batch norm {name!r} saw infinities or NaNs: the model is as it was; look at its inputs")
    for name, statistics in seen.items():
        statistics.write_to(layers[name])
    return model


class _Statistics:
    """Mean and squared deviations of each channel, over everything that one layer read."""

    def __init__(self) -> None:
        self.count = self.calls = 0
        self.mean = self.squares = torch.zeros(())

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take in what a layer is about to read: a forward pre-hook."""
        x: Tensor = args[0] if args else kwargs["input"]
        count = x.numel() // x.shape[1]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x if x.dtype == torch.float64 else x.float(), axes, correction=0)
        if x.device.type != "mps":  # which has no float64
            variance, mean = variance.double(), mean.double()
        # Chan, Golub and LeVeque's update: no difference of large sums.
        total, moved = self.count + count, mean - self.mean.to(mean)
        self.squares = self.squares.to(mean) + variance * count + moved**2 * (self.count * count / total)
        self.mean = self.mean.to(mean) + moved * (count / total)
        self.count, self.calls = total, self.calls + 1

    def write_to(self, layer: _BatchNorm) -> None:
        """Replace a layer's statistics; the variance is the unbiased one, as torch keeps it."""
        cast(Tensor, layer.running_mean).copy_(self.mean)
        cast(Tensor, layer.running_var).copy_(self.squares / max(self.count - 1, 1))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(self.calls)


@contextmanager
def _measuring(model: nn.Module, layers: Mapping[str, _BatchNorm], seen: Mapping[str, _Statistics]) -> Iterator[None]:
    """Everything in evaluation mode but ``layers``, which normalise by their batch and keep nothing."""
    training = [(module, module.training) for module in model.modules()]
    tracking = [(layer, layer.track_running_stats) for layer in layers.values()]
    handles = [layer.register_forward_pre_hook(seen[name], with_kwargs=True) for name, layer in layers.items()]
    try:
        for module in model.modules():
            module.training = False
        for layer in layers.values():
            layer.training, layer.track_running_stats = True, False
        # Compiled code would not call the hooks.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in training:
            module.training = flag
        for layer, flag in tracking:
            layer.track_running_stats = flag


def _run(model: nn.Module, loader: Iterable[Any], progress: bool) -> int:
    """Run the model over all batches; returns their number."""
    batches = 0
    device = next(chain(model.parameters(), model.buffers())).device
    total, hide = len(loader) if isinstance(loader, Sized) else None, None if progress else True
    # tqdm.auto takes two iterators of what is not one already: a DataLoader would start its workers
    # twice.
    for batch in tqdm(iter(loader), "recalibrate", total=total, disable=hide, leave=False):
        model(inputs_of(batch).to(device))
        batches += 1
    return batches
