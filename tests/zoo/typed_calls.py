"""Calls of every factory as a user writes them: what a type checker must accept, and what it must refuse.

Read by tests/zoo/test_typing.py, never run. A line that ends in ``# wrong`` must be refused, every other accepted.
"""

import torch

import antialiased_zoo as az


def calls() -> None:
    """A function, so that nothing happens when pytest imports this file to look for examples."""
    az.alexnet(4, dropout=0.1)
    az.vgg11(filter_size=3, init_weights=False)
    az.vgg11_bn(num_classes=0)
    az.vgg13(pretrained=True)
    az.vgg13_bn(pretrained="finetuned")
    az.vgg16(dropout=0.3)
    az.vgg16_bn(filter_size=None)
    az.vgg19(in_chans=1)
    az.vgg19_bn([1, 2, 1])
    az.resnet18(replace_stride_with_dilation=(False, False, True))
    az.resnet34(norm_layer=torch.nn.InstanceNorm2d)
    az.resnet50(pretrained="timm_bt").set_grad_checkpointing()
    az.resnet101(stem_stride=1)
    az.resnet152(shortcut="stride")
    az.resnext50_32x4d(stem_pool="blur")
    az.resnext101_32x8d(pool_only=True)
    az.wide_resnet50_2(memory_format=torch.channels_last)
    az.wide_resnet101_2(wide=True)
    az.densenet121(bn_size=2)
    az.densenet161(memory_efficient=True)
    az.densenet169(drop_rate=0.1)
    az.densenet201(bn_size=2)
    az.mobilenet_v2(width_mult=0.5)
    az.efficientnet_lite0(dropout=0.1)
    az.efficientnet_lite1(norm_layer=torch.nn.InstanceNorm2d)
    az.efficientnet_lite2(shortcut="stride")
    az.create_model("resnet18", features_only=True, out_indices=(1, 2)).feature_info.channels()
    az.create_model("resnet18", num_classes=3).reset_classifier(4)
    az.list_models("resnet*", pretrained=True)[0].upper()
    az.get_weights("resnet50", 3, "timm_bt").transforms(train=True)
    az.backbone_with_fpn("resnet18", out_channels=64).out_channels.bit_length()
    az.from_pretrained("folder", num_classes=2).save_pretrained("other", classes=("a", "b"))

    az.resnet18(filtersize=3)  # wrong
    az.resnet50(norm_layers=None)  # wrong
    az.resnet18(shortcut="strided")  # wrong
    az.alexnet(width_mult=0.5)  # wrong
    az.vgg16(replace_stride_with_dilation=None)  # wrong
    az.densenet121(stem_pool="max3")  # wrong
    az.densenet121(growth_rate=16)  # wrong
    az.mobilenet_v2(num_classes="ten")  # wrong
    az.efficientnet_lite0(width_mult=0.5)  # wrong
    az.create_model("resnet18", droput=0.1)  # wrong
    az.create_model("resnet18", features_only=True).get_classifier().nothing()  # wrong
    az.create_model("resnet18", features_only=True).feature_info.chanels()  # wrong
    az.backbone_with_fpn("resnet18", out_chanels=3)  # wrong
    az.list_models(pretraned=True)  # wrong
