"""timm's model interface on every network of the zoo: features, head, layer groups, configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import StructureMismatchError
from ..transform import check
from ..weights import NetworkConfig
from .checkpointing import run_checkpointed
from .feature_info import measure
from .fingerprint import fingerprint_of, tensor_names
from .heads import check_count, find_head, renew_head
from .registry import Layout
from .units import layer_patterns

if TYPE_CHECKING:
    import os
    from pathlib import Path

_POOLS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "avg": F.adaptive_avg_pool2d,
    "max": F.adaptive_max_pool2d,
    "avgmax": lambda x, size: (F.adaptive_avg_pool2d(x, size) + F.adaptive_max_pool2d(x, size)) / 2,
}


class BackboneType(type):
    """Metaclass of the classes that `backbone_class` creates, which are pickled as a call of that function."""


class Backbone(nn.Module, metaclass=BackboneType):
    """A network of the zoo: torchvision's class with timm's methods.

    `create_model` gives each network a class that inherits from this one and from torchvision's, so
    that ``isinstance(model, torchvision.models.ResNet)`` holds. Names in the state dict are
    torchvision's.

    Attributes:
        config: The network's description, as it is saved.
        head_hidden_size: Number of input features of the last linear layer, and of output features
            with ``num_classes=0``.
        global_pool: How the last map is pooled: "avg", "max", "avgmax", or "" for no pooling.
        grad_checkpointing: Whether training recomputes activations; see `set_grad_checkpointing`.
    """

    _base: ClassVar[type[nn.Module]] = nn.Module

    layout: Layout
    head_hidden_size: int
    global_pool: str
    grad_checkpointing: bool
    _drop_rate: float
    _config: NetworkConfig
    _fingerprint: str
    _tensor_names: set[str]

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: ``(N, in_chans, H, W)``.

        Returns:
            ``(N, num_classes)``; with ``num_classes=0`` ``(N, head_hidden_size)``, or the last map
            if ``global_pool`` is "".
        """
        return self.forward_head(self.forward_features(x))

    def __prepare_scriptable__(self) -> Backbone:
        """Called by `torch.jit.script`, which compiles the forward of torchvision's class (see `backbone_class`)."""
        if self.global_pool != "avg" or self._drop_rate:
            raise ValueError(
                "torch.jit.script supports only networks with global_pool='avg' and drop_rate=0: use torch.export"
            )
        return self

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, ``(N, num_features, H', W')``, of images ``(N, in_chans, H, W)``."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            x = run_checkpointed(self, self.layout, x)
        else:
            check(self)
            for name in self.layout.body:
                x = getattr(self, name)(x)
        return self.layout.body_activation(x) if self.layout.body_activation else x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the last feature map and classify it.

        Args:
            x: The result of `forward_features`.
            pre_logits: Stop before the last linear layer.

        Returns:
            ``(N, num_classes)``, or ``(N, head_hidden_size)`` with ``pre_logits``.
        """
        if not self.global_pool:
            return x
        x = self._pool(x).flatten(1)
        if self._drop_rate:
            x = F.dropout(x, self._drop_rate, self.training)
        name, _, last = self.layout.head.partition(".")
        if not pre_logits:
            return cast(Tensor, getattr(self, name)(x))
        for child, module in getattr(self, name).named_children() if last else ():
            x = x if child == last else module(x)
        return x

    def _pool(self, x: Tensor) -> Tensor:
        pool = getattr(self, "avgpool", None)
        if pool is not None and self.global_pool == "avg":
            return cast(Tensor, pool(x))
        return _POOLS[self.global_pool](x, getattr(pool, "output_size", 1))

    @property
    def num_classes(self) -> int:
        """Size of the head; 0 if there is none."""
        linear = [module for module in self.get_classifier().modules() if isinstance(module, nn.Linear)]
        return linear[-1].out_features if linear else 0

    @property
    def in_chans(self) -> int:
        """Number of image channels."""
        return next(module.in_channels for module in self.modules() if isinstance(module, nn.Conv2d))

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return int(self.feature_info[-1]["num_chs"])

    @functools.cached_property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, stride and module of each level of ``features_only=True``, under timm's keys."""
        return measure(self, self.layout, self.in_chans)

    @property
    def drop_rate(self) -> float:
        """Probability with which the head drops a feature in training."""
        dropouts = self._dropouts()
        return dropouts[-1].p if dropouts else self._drop_rate

    @drop_rate.setter
    def drop_rate(self, rate: float) -> None:
        dropouts = self._dropouts()
        for dropout in dropouts:
            dropout.p = rate
        self._drop_rate = 0.0 if dropouts else rate

    def _dropouts(self) -> list[nn.Dropout]:
        head = getattr(self, self.layout.head.partition(".")[0])
        return [module for module in head.modules() if isinstance(module, nn.Dropout)]

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or the module that replaced it."""
        return find_head(self, self.layout.head)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new, untrained head.

        Args:
            num_classes: Its size; with 0 the network has no head and returns the pooled features.
            global_pool: "avg", "max", "avgmax", or "" (only without a head) for the unpooled map;
                None keeps the current one.

        Raises:
            ValueError: If an argument is out of range; the network is then unchanged.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in (*_POOLS, "") or (not pool and num_classes):
            raise ValueError(f"global_pool must be one of {', '.join(_POOLS)}, or '' with num_classes=0; got {pool!r}")
        num_classes = check_count("num_classes", num_classes, least=0)
        renew_head(self, self.layout.head, self.head_hidden_size, num_classes)
        self.global_pool = pool
        self._config = self._config.with_new_head(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass: saves memory, costs a second forward pass."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that group parameters by depth, for timm's layer-wise learning rates.

        Args:
            coarse: One group for each resolution instead of each block.
        """
        groups = layer_patterns(self, self.layout, coarse)
        return {"stem": groups[0], "blocks": [(pattern, (depth,)) for depth, pattern in enumerate(groups[1:])]}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, in addition to one-dimensional ones: none."""
        return set()

    @property
    def config(self) -> NetworkConfig:
        """The description of what `create_model` built, with the current head and channels.

        It raises no error for a network that other tools have changed since, because tools read this
        attribute.
        """
        return self._config.with_sizes(self.num_classes, self.in_chans, self.global_pool)

    @property
    def as_built(self) -> bool:
        """Whether blurs, strides and layers (except the head's sizes) are still those that `create_model` built."""
        return not self._changes()

    def config_to_save(self) -> NetworkConfig:
        """`config`, if `create_model` can build this network from it.

        Raises:
            StructureMismatchError: If blurs, strides or layers were changed since the network was built.
        """
        if changes := self._changes():
            raise StructureMismatchError(
                f"the {changes} of this {self._config.model} were changed after create_model(), so create_model() "
                "cannot build it again: save its state dict, and the code that changes it"
            )
        return self.config

    def _changes(self) -> str:
        if self._fingerprint != fingerprint_of(self):
            return "blurs or strides"
        head = self.layout.head
        if different := sorted(tensor_names(self, head) ^ self._tensor_names):
            return f"layers ({different[0].rpartition('.')[0]})"
        return "" if isinstance(self.get_submodule(head), (nn.Linear, nn.Conv2d, nn.Identity)) else f"layers ({head})"

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The configuration under timm's keys, for its data transforms and ``save_for_hf``."""
        from .timm_config import pretrained_cfg

        return pretrained_cfg(self)

    default_cfg = pretrained_cfg

    def save_pretrained(self, folder: str | os.PathLike[str], **facts: Any) -> Path:
        """Write ``model.safetensors``, ``config.json`` and ``README.md``; see `antialiased_zoo.save_pretrained`."""
        from .saving import save_pretrained

        return save_pretrained(self, folder, **facts)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes; see `antialiased_zoo.push_to_hub`."""
        from .saving import push_to_hub

        return push_to_hub(self, repo_id, **options)

    # TorchScript compiles everything that is not listed here.
    __jit_unused_properties__: ClassVar = [name for name, value in vars().items() if isinstance(value, property)]
    __jit_ignored_attributes__: ClassVar = list(vars()["__annotations__"])
