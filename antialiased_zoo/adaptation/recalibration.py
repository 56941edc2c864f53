"""Recalibration: measures batch-norm statistics again, for trained weights in a changed network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from ..errors import warn
from .inputs import batches_of, inputs_of

_Model = TypeVar("_Model", bound=nn.Module)


def recalibrate(model: _Model, loader: Iterable[Any], *, progress: bool = True) -> _Model:
    """Measure batch norm's running statistics again on some data, in place; nothing else is changed.

    Antialiasing changes the maps that batch norms read. One pass over a few thousand training
    images measures their mean and variance over all values of all batches, independent of
    ``momentum``. In this pass every batch norm normalises by its batch's statistics, as in
    training, so that later layers read maps of the right scale; everything else (dropout ...) is in
    evaluation mode. Shuffle the data, and use batches as large as in training. The statistics are
    replaced after the pass, all or none.

    Args:
        model: A network with ``nn.BatchNorm*d`` or ``nn.SyncBatchNorm`` layers, on any device.
            Layers that the forward pass does not run, or that keep no statistics, are not changed.
        loader: Batches of inputs: tensors, or tuples and lists that start with one, such as
            (images, targets). They are moved to the model's device.
            ``itertools.islice(loader, 100)`` limits the number of batches. In a process group each
            process measures only its own loader's batches.
        progress: Show a progress bar, on a terminal.

    Returns:
        The same model; training modes, hooks and momenta are restored.

    Raises:
        ValueError: If the loader is empty, a layer read infinities or NaNs, or a layer read only one
            value per channel, which has no variance (torch's own message). The model is then
            unchanged.
        TypeError: If a batch is neither a tensor nor starts with one, or the loader is itself a tensor.

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
        warn(f"{type(model).__name__} has no batch norm that keeps statistics: nothing to recalibrate")
        return model
    seen = {name: _Statistics() for name in layers}
    with _measuring(model, layers, seen):
        batches = _run(model, loader, progress)
    if not batches:
        raise ValueError("the loader gave no batches: the model is unchanged")
    seen = {name: statistics for name, statistics in seen.items() if statistics.count}
    for name, statistics in seen.items():
        if not statistics.squares.isfinite().all():
            raise ValueError(f"batch norm {name!r} read infinities or NaNs: the model is unchanged; check its inputs")
    for name, statistics in seen.items():
        statistics.write_to(layers[name])
    return model


class _Statistics:
    """Mean and sum of squared deviations of each channel, over all inputs of one layer."""

    def __init__(self) -> None:
        self.count = self.calls = 0
        self.mean = self.squares = torch.zeros(())

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: add a layer's input."""
        x: Tensor = args[0] if args else kwargs["input"]
        count = x.numel() // x.shape[1]
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x if x.dtype == torch.float64 else x.float(), axes, correction=0)
        if x.device.type != "mps":  # mps has no float64
            variance, mean = variance.double(), mean.double()
        # Chan, Golub and LeVeque's update, which avoids differences of large sums.
        total, moved = self.count + count, mean - self.mean.to(mean)
        self.squares = self.squares.to(mean) + variance * count + moved**2 * (self.count * count / total)
        self.mean = self.mean.to(mean) + moved * (count / total)
        self.count, self.calls = total, self.calls + 1

    def write_to(self, layer: _BatchNorm) -> None:
        """Replace a layer's statistics; the variance is unbiased, as in torch."""
        cast(Tensor, layer.running_mean).copy_(self.mean)
        cast(Tensor, layer.running_var).copy_(self.squares / max(self.count - 1, 1))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(self.calls)


@contextmanager
def _measuring(model: nn.Module, layers: Mapping[str, _BatchNorm], seen: Mapping[str, _Statistics]) -> Iterator[None]:
    """Evaluation mode, except that ``layers`` normalise by their batch's statistics without keeping them."""
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
    """Run the model on all batches and return their number."""
    batches = 0
    device = next(chain(model.parameters(), model.buffers())).device
    total, hide = len(loader) if isinstance(loader, Sized) else None, None if progress else True
    # iter(), since tqdm.auto would create two iterators of a DataLoader, which would start its
    # workers twice.
    for batch in tqdm(iter(batches_of(loader)), "recalibrate", total=total, disable=hide, leave=False):
        inputs = inputs_of(batch)
        if len(inputs):  # an empty one has no statistics
            model(inputs.to(device))
            batches += 1
    return batches
