"""The networks, one row each: everything else (hubconf, the docs' tables, the tests) follows from these rows.

A row registers a network under its name and is its factory. A function for each family states where its networks'
parts are.
"""

from functools import partial as _partial
from itertools import accumulate as _accumulate

import torch.nn.functional as _F
from typing_extensions import Unpack as _Unpack

from ..transform import published_structure as _published_structure
from . import efficientnet_lite as _lite
from . import options as _options
from .options import Factory as _Factory
from .options import factories_take as _factories_take
from .registration import register_network as _network


def _alexnet_keywords(**kwargs: _Unpack[_options.AlexNetOptions]) -> None: ...


@_factories_take(_alexnet_keywords)
def _alexnet(name: str) -> _Factory[...]:
    stages = ("features.1", "features.4", "features.11", "features.12")
    body = ("features",)
    return _network(name, head="classifier.6", options=_options.AlexNetOptions, body=body, stages=stages)


def _vgg_keywords(**kwargs: _Unpack[_options.VGGOptions]) -> None: ...


@_factories_take(_vgg_keywords)
def _vgg(name: str, *convolutions: int) -> _Factory[...]:
    """``convolutions`` is the number of convolutions at each resolution; a pool ends each resolution."""
    modules = 3 if name.endswith("_bn") else 2  # convolution, norm (in "_bn" networks), activation
    ends = list(_accumulate(modules * count + 1 for count in convolutions))
    stages = (*(f"features.{end - 2}" for end in ends), f"features.{ends[-1] - 1}")
    return _network(name, head="classifier.6", options=_options.VGGOptions, body=("features",), stages=stages)


def _resnet_keywords(**kwargs: _Unpack[_options.ResNetOptions]) -> None: ...


@_factories_take(_resnet_keywords)
def _resnet(name: str) -> _Factory[...]:
    layers = ("layer1", "layer2", "layer3", "layer4")
    return _network(
        name,
        head="fc",
        structure=_published_structure(name),
        options=_options.ResNetOptions,
        body=("conv1", "bn1", "relu", "maxpool", *layers),
        stages=("relu", *layers),
    )


def _densenet_keywords(**kwargs: _Unpack[_options.DenseNetOptions]) -> None: ...


@_factories_take(_densenet_keywords)
def _densenet(name: str) -> _Factory[...]:
    blocks = ("relu0", "denseblock1", "denseblock2", "denseblock3", "norm5")
    return _network(
        name,
        head="classifier",
        structure=_published_structure(name),
        options=_options.DenseNetOptions,
        body=("features",),
        stages=tuple(f"features.{block}" for block in blocks),
        body_activation=_partial(_F.relu, inplace=True),
    )


def _mobilenet_v2_keywords(**kwargs: _Unpack[_options.MobileNetV2Options]) -> None: ...


@_factories_take(_mobilenet_v2_keywords)
def _mobilenet_v2(name: str) -> _Factory[...]:
    stages = tuple(f"features.{index}" for index in (1, 3, 6, 13, 18))
    return _network(name, head="classifier.1", options=_options.MobileNetV2Options, body=("features",), stages=stages)


def _efficientnet_lite_keywords(**kwargs: _Unpack[_options.EfficientNetLiteOptions]) -> None: ...


@_factories_take(_efficientnet_lite_keywords)
def _efficientnet_lite(name: str, *blocks: int) -> _Factory[...]:
    """``blocks`` is the number of blocks in each of the seven stages, between the stem and the last convolution."""
    ends = list(_accumulate(blocks))
    stages = tuple(f"features.{end}" for end in (ends[0], ends[1], ends[2], ends[4], ends[6] + 1))
    builder, options = getattr(_lite, name), _options.EfficientNetLiteOptions
    return _network(
        name,
        head="classifier.1",
        structure=_published_structure(name),
        builder=builder,
        options=options,
        body=("features",),
        stages=stages,
    )


alexnet = _alexnet("alexnet")
vgg11 = _vgg("vgg11", 1, 1, 2, 2, 2)
vgg11_bn = _vgg("vgg11_bn", 1, 1, 2, 2, 2)
vgg13 = _vgg("vgg13", 2, 2, 2, 2, 2)
vgg13_bn = _vgg("vgg13_bn", 2, 2, 2, 2, 2)
vgg16 = _vgg("vgg16", 2, 2, 3, 3, 3)
vgg16_bn = _vgg("vgg16_bn", 2, 2, 3, 3, 3)
vgg19 = _vgg("vgg19", 2, 2, 4, 4, 4)
vgg19_bn = _vgg("vgg19_bn", 2, 2, 4, 4, 4)
resnet18 = _resnet("resnet18")
resnet34 = _resnet("resnet34")
resnet50 = _resnet("resnet50")
resnet101 = _resnet("resnet101")
resnet152 = _resnet("resnet152")
resnext50_32x4d = _resnet("resnext50_32x4d")
resnext101_32x8d = _resnet("resnext101_32x8d")
wide_resnet50_2 = _resnet("wide_resnet50_2")
wide_resnet101_2 = _resnet("wide_resnet101_2")
densenet121 = _densenet("densenet121")
densenet161 = _densenet("densenet161")
densenet169 = _densenet("densenet169")
densenet201 = _densenet("densenet201")
mobilenet_v2 = _mobilenet_v2("mobilenet_v2")
efficientnet_lite0 = _efficientnet_lite("efficientnet_lite0", 1, 2, 2, 3, 3, 4, 1)
efficientnet_lite1 = _efficientnet_lite("efficientnet_lite1", 1, 3, 3, 4, 4, 5, 1)
efficientnet_lite2 = _efficientnet_lite("efficientnet_lite2", 1, 3, 3, 4, 4, 5, 1)
