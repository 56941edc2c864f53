"""The training loop: resumable after any step, bit-identical on a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from ..errors import DivergedError
from ..evaluation import torch_seed
from .batches import epoch_order
from .execution import Execution
from .recipes import Recipe
from .runs import RunFolder
from .settings import State, merge_settings


class TrainBatches(Protocol):
    """Training images; see :mod:`antialiased_zoo.training.batches`."""

    def __len__(self) -> int:
        """Number of images."""

    def epoch(self, order: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields one augmented batch for each row of ``order``."""


class ValBatches(Protocol):
    """Validation images."""

    def whole(self, batch: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields batches of every ``world``-th image once, starting at ``rank``."""


class Trainer:
    """Trains a network with a recipe, with checkpoints in a run's folder.

    All random numbers depend only on the seed, the position and the process, so the position in the
    checkpoint is the complete state of sampler, augmentation, dropout and schedule.

    Args:
        model: The network; trained in place.
        recipe: The settings.
        train: Training images.
        val: Validation images.
        run: The run's folder; a checkpoint in it is resumed.
        identity: Settings that a resumed checkpoint must share, in addition to the recipe's.
        seed: Seed of all random numbers.
        execution: How to compute.
        report: Called with each epoch's log entry, in the first process.

    Raises:
        ValueError: The folder's checkpoint has other settings, or ``identity`` has a setting of the trainer's own.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        train: TrainBatches,
        val: ValBatches,
        run: RunFolder,
        identity: State | None = None,
        seed: int = 0,
        execution: Execution | None = None,
        report: Callable[[State], None] | None = None,
    ) -> None:
        self.recipe, self.train, self.val, self.run = recipe, train, val, run
        self.how = execution or Execution()
        own = {"seed": seed, "recipe": recipe.as_json()}
        # Batch norm sees a process's part of a batch, so these change more than the rounding.
        own |= {"amp": str(self.how.amp), "accumulate": self.how.accumulate, "world": self.how.world}
        self.identity = merge_settings(own, identity)
        self.seed: int = self.identity["seed"]
        self.report = report or (lambda entry: None)
        self.model = model.to(self.how.device).to(memory_format=self.how.memory_format)
        averaging = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]  # untyped in torch
        self.ema = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True) if recipe.ema else None
        self.optimizer = sgd(self.model, recipe)
        self.scaler = torch.amp.GradScaler(self.how.device.type, enabled=self.how.amp is torch.float16)
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.epoch = self.step = 0
        self.seconds, self._since = 0.0, time.monotonic()
        self._sums = torch.zeros(2, dtype=torch.float64)  # loss, right answers; on the CPU: mps has no float64
        self._unread: list[tuple[Tensor, Tensor, int]] = []  # loss, right answers, images: reading waits for a GPU
        self.log: list[State] = []
        self._resume()
        self._wrapped = self._wrap()

    @property
    def result(self) -> nn.Module:
        """The trained network: the averaged one if the recipe averages weights."""
        return self.ema.module if self.ema else self.model

    def fit(self) -> nn.Module:
        """Trains from the checkpoint's position to the end of the recipe.

        Returns:
            :attr:`result`, in evaluation mode.

        Raises:
            ValueError: There are fewer images than one batch, the batch cannot be divided equally
                among the processes, or the network returns no tensor.
            DivergedError: The loss is no longer finite.
        """
        while self.epoch < self.recipe.epochs:
            self._train_epoch()
            self._end_epoch()
        return self.result.eval()

    def _train_epoch(self) -> None:
        order = epoch_order(len(self.train), self.recipe.batch_size, self._epoch_seed(), self.how.rank, self.how.world)
        size = self.recipe.size_at(self.epoch)
        batches = self.train.epoch(order[self.step :], size, self._epoch_seed())
        self.model.train()
        title = f"epoch {self.epoch + 1}/{self.recipe.epochs} at {size}px"
        for images, targets in tqdm(
            batches, title, total=len(order), initial=self.step, disable=self.how.hide_bars, leave=False
        ):
            self._set_lr((self.epoch + self.step / len(order)) / self.recipe.epochs)
            torch.manual_seed(torch_seed(self._epoch_seed() * 100_003 + self.step * 1009 + self.how.rank))
            self._take_step(images, targets)
            self.step += 1
            if self.step % self.how.checkpoint_every == 0 and self.step < len(order):
                self._checkpoint()

    def _take_step(self, images: Tensor, targets: Tensor) -> None:
        parts = list(zip(images.chunk(self.how.accumulate), targets.chunk(self.how.accumulate), strict=True))
        for part, (some, answers) in enumerate(parts):
            with self._without_sync(part < len(parts) - 1):
                with self.how.autocast():
                    outputs = _logits(self._wrapped(some.contiguous(memory_format=self.how.memory_format)))
                    loss = self.loss(outputs, answers)
                self.scaler.scale(loss * (len(some) / len(images))).backward()
            right = (outputs.detach().argmax(1) == answers).sum()
            self._unread.append((loss.detach(), right, len(some)))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update_parameters(self.model)

    def _end_epoch(self) -> None:
        loss, right = self._total().tolist()
        images = len(self.train) // self.recipe.batch_size * self.recipe.batch_size
        entry: State = {
            "epoch": self.epoch + 1,
            "size": self.recipe.size_at(self.epoch),
            "loss": round(loss / images, 4),
            "train_top1": round(100 * right / images, 2),
        }
        self.epoch, self.step = self.epoch + 1, 0
        self._sums.zero_()
        if self.epoch % self.recipe.eval_every == 0 or self.epoch == self.recipe.epochs:
            # What is saved: each process's batch norms have statistics of its own since the last step.
            self.how.give_firsts(self.result.buffers())
            entry["val_top1"] = round(top1(self.result, self.val, self.how), 2)
        self._tick()
        entry["seconds"] = round(self.seconds, 1)
        self.log.append(entry)
        if self.how.first:
            self.report(entry)
        self._checkpoint()

    def _total(self) -> Tensor:
        """The sums since the start of the epoch, over all processes.

        Raises:
            DivergedError: The loss is no longer finite: no checkpoint must replace the last good one.
        """
        for loss, right, images in self._unread:
            self._sums += torch.tensor([float(loss) * images, float(right)], dtype=torch.float64)
        self._unread.clear()
        total = self.how.total(self._sums)
        if not math.isfinite(float(total[0])):
            raise DivergedError(
                f"the loss is {float(total[0])} in epoch {self.epoch + 1}: training diverged; lower the learning rate"
            )
        return total

    def _wrap(self) -> nn.Module:
        wrapped: nn.Module = DistributedDataParallel(self.model) if self.how.world > 1 else self.model
        return cast(nn.Module, torch.compile(wrapped, dynamic=False)) if self.how.compile else wrapped

    def _without_sync(self, skip: bool) -> AbstractContextManager[Any]:
        # Processes exchange gradients once per optimizer step, with the last part.
        if skip and self.how.world > 1:
            return cast(AbstractContextManager[Any], self._wrapped.no_sync())  # type: ignore[operator]  # a wrapper
        return nullcontext()

    def _set_lr(self, done: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(done)

    def _epoch_seed(self) -> int:
        return self.seed * 10_007 + self.epoch

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    def _checkpoint(self) -> None:
        self._tick()
        # The first process saves for all, so it takes over the others' sums.
        total = self._total()
        self._sums = total if self.how.first else torch.zeros_like(total)
        if self.how.first:
            self.run.save_checkpoint(
                {
                    "identity": self.identity,
                    "model": self.model.state_dict(),
                    "ema": self.ema.state_dict() if self.ema else None,
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "position": {"epoch": self.epoch, "step": self.step, "seconds": self.seconds},
                    "sums": total,
                    "log": self.log,
                }
            )

    def _resume(self) -> None:
        state = self.run.load_checkpoint(self.identity)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.seconds = (state["position"][key] for key in ("epoch", "step", "seconds"))
        self.log = state["log"]
        if self.how.first:
            self._sums.copy_(state["sums"])


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    raise ValueError(
        f"in training the network returns an object of type {type(outputs).__name__}, not a tensor of logits: build it "
        "without auxiliary classifiers (GoogLeNet, Inception: --model-args aux_logits=False)"
    )


@torch.no_grad()  # not inference_mode: what a network keeps from such a pass could not be trained with
def top1(model: nn.Module, images: ValBatches, how: Execution) -> float:
    """Returns a network's top-1 accuracy in percent; each of ``how.world`` processes must call it.

    Raises:
        ValueError: There are no images.
    """
    model.eval()
    sums = torch.zeros(2, dtype=torch.int64, device=how.device)  # right answers, images
    for batch, targets in images.whole(250, how.rank, how.world):
        with how.autocast():
            outputs = model(batch.contiguous(memory_format=how.memory_format))
        right = (outputs.argmax(1) == targets).sum()
        sums += torch.stack([right, right.new_tensor(len(targets))])
    all_right, count = map(int, how.total(sums))
    if not count:
        raise ValueError("no validation image can be decoded")
    return 100 * all_right / count


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Returns SGD with weight decay for all parameters or, with ``decay_norms=False``, all except vectors."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in parameters if recipe.decay_norms or p.ndim > 1]
    plain = [p for p in parameters if not recipe.decay_norms and p.ndim <= 1]
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, recipe.weight_decay), (plain, 0.0))
        if group
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
