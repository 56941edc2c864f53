"""A network's configuration under timm's keys, and the name of the same network in timm, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..weights import NetworkConfig
from .heads import first_conv

if TYPE_CHECKING:
    from .backbone import Backbone

#: Networks of timm that are equal to one of the zoo's with these options.
SAME_IN_TIMM = {
    "resnetblur18": NetworkConfig("resnet18", 3, {"shortcut": "stride", "stem_pool": "max"}),
    "resnetblur50": NetworkConfig("resnet50", 3, {"shortcut": "stride", "stem_pool": "max"}),
    "resnetaa50": NetworkConfig("resnet50", 2, {"shortcut": "stride", "stem_pool": "blur"}),
}
# timm has these families under torchvision's names, without blurs.
_PLAIN = ("vgg", "resnet", "resnext", "wide_resnet", "densenet")


def timm_architecture(config: NetworkConfig) -> str | None:
    """The name under which timm builds the same network; None if it has none.

    Example:
        >>> timm_architecture(NetworkConfig("resnet50", 3, {"shortcut": "stride"}))
        'resnetblur50'
    """
    if config.builder or config.not_saved:
        return None
    if config.filter_size is None:
        return config.model if config.model.startswith(_PLAIN) else None
    return next((name for name, same in SAME_IN_TIMM.items() if not same.difference(config)), None)


def pretrained_cfg(model: Backbone) -> dict[str, Any]:
    """A network's configuration under timm's keys, also of a network that other tools have changed since.

    Such a network has timm's name no longer: timm would build another one under it.
    """
    config = model.config
    preprocessing = config.preprocessing
    size = preprocessing.crop
    larger = preprocessing.test_crop
    reduction = model.feature_info[-1]["reduction"]
    return {
        "architecture": (model.as_built and timm_architecture(config)) or f"antialiased_zoo/{config.model}",
        "tag": config.origin,
        "num_classes": config.num_classes,
        "input_size": (config.in_chans, size, size),
        "test_input_size": (config.in_chans, larger, larger) if larger else None,
        "pool_size": (size // reduction, size // reduction),
        "fixed_input_size": False,
        "crop_pct": size / preprocessing.resize,
        "test_crop_pct": larger / (preprocessing.test_resize or larger) if larger else None,
        "crop_mode": "center",
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "first_conv": first_conv(model)[0],
        "classifier": model.layout.head,
        "license": config.license,
    }
