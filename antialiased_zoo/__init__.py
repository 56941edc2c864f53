"""Shift-invariant convnets: antialias any model, a zoo with verified weights, and the metrics to judge them."""

from .functional import blur_pool2d, max_blur_pool2d
from .layers import BlurPool, Downsample, MaxBlurPool2d
from .models import (
    alexnet,
    create_model,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    list_models,
    mobilenet_v2,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
    vgg11,
    vgg11_bn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg19,
    vgg19_bn,
    wide_resnet50_2,
    wide_resnet101_2,
)
from .plan import Plan, plan
from .transform import antialias, antialias_
from .weights import get_entry

__version__ = "0.1.0"

__all__ = [
    "BlurPool",
    "Downsample",
    "MaxBlurPool2d",
    "Plan",
    "alexnet",
    "antialias",
    "antialias_",
    "blur_pool2d",
    "create_model",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "get_entry",
    "list_models",
    "max_blur_pool2d",
    "mobilenet_v2",
    "plan",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
