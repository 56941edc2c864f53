"""The training loop of `distill`: resumable after any step, bit-identical on a CPU."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..errors import DivergedError
from ..training import Execution, RunFolder
from .inputs import check_size, inputs_of, no_batches, repeated
from .matching import Match, find_matches, run_with_maps, shifted, target

# Share of the steps in which the learning rate rises.
_WARMUP = 1 / 30
_MAX_GRADIENT_NORM = 5.0
# Attributes that a checkpoint holds.
_STATE = ("identity", "step", "log", "best", "average", "sum")


class Distillation:
    """One run of `distill`: its state, which checkpoints hold, and its steps.

    Args:
        student: The student, in evaluation mode; trained in place.
        teacher: The teacher, in evaluation mode.
        identity: The settings, by the names of `distill`'s arguments; a resumed checkpoint must have the same.
        how: How to compute.
        run: The folder of the checkpoint; None for no checkpoints.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, identity: dict[str, Any], how: Execution, run: RunFolder | None
    ) -> None:
        self.identity, self.how, self.run = identity, how, run
        self.student, self.teacher = (
            model.to(how.device).to(memory_format=how.memory_format) for model in (student, teacher)
        )
        self.trained = {name: p for name, p in self.student.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.Adam(self.trained.values(), lr=identity["lr"], betas=(0.9, 0.99))
        self.average = {name: p.detach().clone() for name, p in self.trained.items()} if identity["ema"] else {}
        self.matches: dict[str, Match] = {}
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}  # the lowest divergence, the number of its evaluation, the weights
        self.step = 0
        self.sum = torch.zeros((), device=how.device)  # of losses: reading each one would wait for a GPU
        self._resume()

    def fit(
        self, loader: Iterable[Any], held_out: Iterable[Any] | None, report: Callable[[dict[str, Any]], None]
    ) -> None:
        """Train from the checkpoint's position to the end; see `distill`."""
        of_teacher: list[Tensor] = []  # its log-probabilities for held_out, which do not change
        steps, every = self.identity["steps"], self.identity["check_every"]
        bar = tqdm(total=steps, initial=self.step, desc="distill", disable=self.how.hide_bars, leave=False)
        batches = repeated(loader, self.step)
        with bar:
            while not self._finished():
                self._take_step(self._to_device(next(batches)))
                bar.update()
                if self.step % every == 0 or self.step == steps:
                    self._evaluate(held_out, of_teacher)
                    if self.how.first:
                        report(self.log[-1])
                if self.step % self.how.checkpoint_every == 0 or self._finished():
                    self._checkpoint()
        self._set_weights(self.best.get("tensors") or self.average)

    def _finished(self) -> bool:
        patience = self.identity["patience"]
        since_best = len(self.log) - self.best.get("look", len(self.log))
        return self.step >= self.identity["steps"] or (patience is not None and since_best >= patience)

    def _to_device(self, batch: Any) -> Tensor:
        return inputs_of(batch).to(self.how.device)

    def _take_step(self, images: Tensor) -> None:
        check_size(images, self.identity["reach"])
        if self.step == 0:
            layers, reach = self.identity["layers"], self.identity["reach"]
            self.matches = find_matches(self.student, self.teacher, images, layers, reach, self.how)
        self._set_lr()
        with self.how.autocast():
            loss = self._loss(images)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.trained.values(), _MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.identity["ema"], self.step / (self.step + 10))
        for name, tensor in self.average.items():
            tensor.lerp_(self.trained[name].detach(), 1 - decay)
        self.sum += loss.detach().float()

    def _draw_shifts(self, height: int, width: int) -> tuple[list[int], tuple[int, int] | None]:
        """The shifts of the teacher's views in this step, and the circular shift of the student's, or None.

        They are the same in all processes and in a resumed run.
        """
        rng, reach = random.Random(f"{self.identity['seed']} {self.step}"), self.identity["reach"]
        shifts = rng.sample(range(-reach, reach + 1), self.identity["views"])
        has_circular = rng.random() < self.identity["circular"]
        return shifts, (rng.randrange(height), rng.randrange(width)) if has_circular else None

    def _loss(self, images: Tensor) -> Tensor:
        view = self._view(images, 0)
        shifts, circular = self._draw_shifts(*view.shape[2:])
        layers = list(self.matches) if circular is None else []
        if circular is not None:
            view = view.roll(circular, (2, 3)).contiguous(memory_format=self.how.memory_format)
        with torch.no_grad():
            of_teacher = {shift: run_with_maps(self.teacher, self._view(images, shift), layers) for shift in shifts}
            wanted = torch.stack([logits.float().softmax(1) for logits, _ in of_teacher.values()]).mean(0)
        logits, maps = run_with_maps(self.student, view, layers)
        loss = F.kl_div(logits.float().log_softmax(1), wanted, reduction="batchmean")
        for layer in layers:
            match = self.matches[layer]
            with torch.no_grad():
                maps_of_teacher = {shift: theirs[layer].float() for shift, (_, theirs) in of_teacher.items()}
                goal, (rows, columns) = target(maps_of_teacher, match)
            found = maps[layer].float()[:, :, rows, columns]
            loss = loss + (found - goal).square().mean() / match.scale
        return loss

    def _view(self, images: Tensor, shift: int) -> Tensor:
        """What a network sees of the images, shifted."""
        return shifted(images, shift, self.identity["reach"]).contiguous(memory_format=self.how.memory_format)

    def _set_lr(self) -> None:
        done = self.step / self.identity["steps"]
        warm = min(1.0, (self.step + 1) / max(1, round(self.identity["steps"] * _WARMUP)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.identity["lr"] * warm * 0.5 * (1 + math.cos(math.pi * done))

    def _average_gradients(self) -> None:
        """Average gradients over the processes."""
        if self.how.world == 1:
            return
        gradients = [p.grad for p in self.trained.values() if p.grad is not None]
        total = self.how.total(torch.cat([gradient.reshape(-1) for gradient in gradients])) / self.how.world
        for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    @torch.no_grad()
    def _evaluate(self, held_out: Iterable[Any] | None, of_teacher: list[Tensor]) -> None:
        """Log the loss since the last evaluation and the agreement on held-out images; keep the best weights."""
        loss = float(self._total()) / self.how.world
        since = self.step - (self.log[-1]["step"] if self.log else 0)
        entry: dict[str, Any] = {"step": self.step, "loss": loss / since}
        self.sum.zero_()
        self.log.append(entry)
        if held_out is None:
            return
        now = {name: p.detach().clone() for name, p in self.trained.items()}
        self._set_weights(self.average)
        entry["agreement"], entry["divergence"] = self._compare(held_out, of_teacher)
        if entry["divergence"] < self.best.get("divergence", math.inf):
            tensors = {name: p.detach().clone() for name, p in self.trained.items()}
            self.best = {"divergence": entry["divergence"], "look": len(self.log), "tensors": tensors}
        self._set_weights(now)

    def _total(self) -> Tensor:
        """The sum of losses since the last evaluation, over all processes.

        Raises:
            DivergedError: It is no longer finite: no checkpoint must replace the last good one.
        """
        total = self.how.total(self.sum)
        if not math.isfinite(float(total)):
            raise DivergedError(f"the loss is {float(total)} at step {self.step}: lower the learning rate")
        return total

    def _compare(self, held_out: Iterable[Any], of_teacher: list[Tensor]) -> tuple[float, float]:
        """Percentage of images with the teacher's top-1 prediction, and mean divergence from its predictions.

        Args:
            held_out: Batches of images.
            of_teacher: The teacher's log-probabilities of each batch; the first call fills it.
        """
        sums = torch.zeros(3, device=self.how.device)
        for place, batch in enumerate(held_out):
            images = self._to_device(batch).contiguous(memory_format=self.how.memory_format)
            if place == len(of_teacher):
                of_teacher.append(self.teacher(images).float().log_softmax(1))
            found, wanted = self.student(images).float().log_softmax(1), of_teacher[place]
            same = (found.argmax(1) == wanted.argmax(1)).sum()
            divergence = F.kl_div(found, wanted, reduction="sum", log_target=True)
            sums += torch.stack([same, divergence, same.new_tensor(len(images))]).float()
        agreeing, divergence, count = self.how.total(sums).tolist()
        if not count:
            raise ValueError(no_batches("held_out", bool(of_teacher)))
        return 100 * agreeing / count, divergence / count

    @torch.no_grad()
    def _set_weights(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.trained[name].copy_(tensor)

    def _checkpoint(self) -> None:
        if self.run is None:
            return
        # The first process saves for all, so it takes over the others' losses.
        total = self._total()
        self.sum = total if self.how.first else torch.zeros_like(total)
        if not self.how.first:
            return
        state = {name: getattr(self, name) for name in _STATE}
        matches = {layer: (m.displacement, m.stride, m.scale) for layer, m in self.matches.items()}
        tensors, moments = self.student.state_dict(), self.optimizer.state_dict()
        self.run.save_checkpoint({**state, "matches": matches, "student": tensors, "optimizer": moments})

    def _resume(self) -> None:
        state = self.run.load_checkpoint(self.identity) if self.run else None
        if state is None:
            return
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.matches = {layer: Match(*facts) for layer, facts in state["matches"].items()}
        for name in _STATE[1:]:
            setattr(self, name, state[name])
        self.average = {name: tensor.to(self.how.device) for name, tensor in self.average.items()}
        self.sum = self.sum.to(self.how.device) * self.how.first
