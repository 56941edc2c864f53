"""The networks, one row each: everything else (hubconf, the docs' table, the tests) follows from these rows.

A row registers a network under its name and is its factory. `head` is the linear layer that gives the classes;
`structure` holds the options of `antialias_` that make the published network.
"""

from . import efficientnet_lite as _lite
from .factories import register_network as _network

_RESNET = {"stem_pool": "max2"}
_DENSENET = {"avg_pool": "blur"}

alexnet = _network("alexnet", head="classifier.6")
vgg11 = _network("vgg11", head="classifier.6")
vgg11_bn = _network("vgg11_bn", head="classifier.6")
vgg13 = _network("vgg13", head="classifier.6")
vgg13_bn = _network("vgg13_bn", head="classifier.6")
vgg16 = _network("vgg16", head="classifier.6")
vgg16_bn = _network("vgg16_bn", head="classifier.6")
vgg19 = _network("vgg19", head="classifier.6")
vgg19_bn = _network("vgg19_bn", head="classifier.6")
resnet18 = _network("resnet18", head="fc", structure=_RESNET)
resnet34 = _network("resnet34", head="fc", structure=_RESNET)
resnet50 = _network("resnet50", head="fc", structure=_RESNET)
resnet101 = _network("resnet101", head="fc", structure=_RESNET)
resnet152 = _network("resnet152", head="fc", structure=_RESNET)
resnext50_32x4d = _network("resnext50_32x4d", head="fc", structure=_RESNET)
resnext101_32x8d = _network("resnext101_32x8d", head="fc", structure=_RESNET)
wide_resnet50_2 = _network("wide_resnet50_2", head="fc", structure=_RESNET)
wide_resnet101_2 = _network("wide_resnet101_2", head="fc", structure=_RESNET)
densenet121 = _network("densenet121", head="classifier", structure=_DENSENET)
densenet161 = _network("densenet161", head="classifier", structure=_DENSENET)
densenet169 = _network("densenet169", head="classifier", structure=_DENSENET)
densenet201 = _network("densenet201", head="classifier", structure=_DENSENET)
mobilenet_v2 = _network("mobilenet_v2", head="classifier.1")
efficientnet_lite0 = _network("efficientnet_lite0", head="classifier.1", builder=_lite.efficientnet_lite0)
efficientnet_lite1 = _network("efficientnet_lite1", head="classifier.1", builder=_lite.efficientnet_lite1)
efficientnet_lite2 = _network("efficientnet_lite2", head="classifier.1", builder=_lite.efficientnet_lite2)
