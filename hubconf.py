"""Entry points of ``torch.hub.load("OWNER/antialiased-zoo", NAME, ...)``: the 23 networks and nothing else.

`torch.hub.help` shows each one's arguments; ``pretrained=True`` fetches verified weights.
"""

from antialiased_zoo import (
    alexnet,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
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

dependencies = ["torch", "torchvision", "huggingface_hub", "safetensors", "requests", "filelock", "tqdm"]

__all__ = [
    "alexnet",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "mobilenet_v2",
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
