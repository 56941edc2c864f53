"""Subjects: models that are ready to be measured, with their device, preprocessing, protocol and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..weights import Preprocessing
from .classes import ClassMap, match_classes
from .decoding import Options
from .loop import count_outputs
from .modelspec import NamedModel, load_named
from .protocols import ShiftProtocol, cifar, imagenet, protocol_for, with_room
from .seeds import torch_seed
from .stated import changed, described

PROTOCOLS: dict[str, Callable[[Preprocessing], ShiftProtocol]] = {
    "auto": protocol_for,
    "imagenet": imagenet,
    "cifar": cifar,
}


@dataclass(frozen=True)
class Subject:
    """A model and how it is measured.

    Attributes:
        named: The model, on the options' device and in their memory format.
        protocol: Preprocessing and shifts.
        preprocessing_from: Where the preprocessing was found, and which flags changed it.
        outputs: Number of the model's classes.
    """

    named: NamedModel
    protocol: ShiftProtocol
    preprocessing_from: str
    outputs: int

    def note(self) -> str:
        """Describes the preprocessing and the protocol, and why they were chosen."""
        facts = f"{described(self.protocol.preprocessing)} ({self.preprocessing_from})"
        remark = f"; {self.named.remark}" if self.named.remark else ""
        return f"{self.named.label}: {facts}; protocol {self.protocol.name} ({self.protocol.why}){remark}"

    def match(self, classes: Sequence[str], given: str | None = None) -> ClassMap:
        """Matches a data set's classes with the model's outputs; see `match_classes`."""
        try:
            return match_classes(classes, self.outputs, self.named.classes, given)
        except ValueError as error:
            raise ValueError(f"{self.named.label}: {error}") from error


def prepare(
    text: str,
    options: Options,
    num_classes: int | None = None,
    protocol: str = "auto",
    flags: Mapping[str, Any] | None = None,
    seed: int = 0,
    room: bool = False,
) -> Subject:
    """Builds the model that a command line names and determines how to measure it.

    Args:
        text: See `GRAMMAR`.
        options: How to run the model.
        num_classes: As in `load_named`.
        protocol: A name in `PROTOCOLS`.
        flags: Arguments of `changed`, which override the weights' preprocessing.
        seed: Seed of random weights.
        room: Resize images to a larger size if the weights' own preprocessing has no room for shifts
            of crops.

    Raises:
        ValueError: See `load_named`; or the preprocessing is contradictory, or the model is not a
            classifier.

    Example:
        >>> subject = prepare("a=resnet18:baseline", Options(), num_classes=10, flags={"crop": 64, "resize": 96})
        >>> subject.outputs, subject.protocol.name
        (10, 'imagenet')
    """
    # Random weights must be equal in all processes.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed))
        named = load_named(text, num_classes, options.progress)
    named.model.to(options.device)
    if options.channels_last:
        named.model.to(memory_format=torch.channels_last)
    assumed = Preprocessing(32, 32) if protocol == "cifar" else Preprocessing()
    stated = named.stated_by if named.preprocessing else "assumed: nothing states it"
    flags = flags or {}
    origin = ", ".join([stated, *(f"--{name.replace('_', '-')}" for name in flags)])
    facts = changed(named.preprocessing or assumed, **flags)
    if room and facts != with_room(facts):
        origin, facts = f"{origin}, with a larger resize for shifts of crops", with_room(facts)
    chosen = PROTOCOLS[protocol](facts)
    return Subject(named, chosen, origin, count_outputs(named.label, named.model, chosen.size, options))
