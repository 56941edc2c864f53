"""The networks of the survey: torchvision's, at least one of each of timm's families of convnets, some others."""

from __future__ import annotations

#: torchvision's classification builders that are no convnets.
TRANSFORMERS = (
    *("maxvit_t", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t"),
    *("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32"),
)

#: Detectors whose batch norms torchvision freezes when they come with weights.
FROZEN = tuple(f"{name}_resnet50_fpn" for name in ("fasterrcnn", "keypointrcnn", "maskrcnn", "retinanet"))

#: By timm's own modules.
TIMM: dict[str, str] = {
    "byoanet": "botnet26t_256 eca_halonext26ts lambda_resnet26t",
    "byobnet": "bat_resnext26ts eca_resnet33ts gcresnext26ts gernet_s mobileone_s0 mobileone_s4 regnetz_b16 repvgg_a0 "
    "repvgg_d2se resnet50_clip resnet51q seresnext26ts",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_atto convnext_atto_ols convnext_zepto_rms convnextv2_atto convnext_tiny_hnf",
    "cspnet": "cs3darknet_focus_s cs3darknet_s cs3sedarknet_l cspdarknet53 cspresnet50 cspresnext50 darknet53 "
    "darknetaa53",
    "cspnext": "cspnext_tiny",
    "csatv2": "csatv2",
    "densenet": "densenet121 densenetblur121d",
    "dla": "dla34 dla46x_c dla60_res2net",
    "dpn": "dpn48b dpn68 dpn92",
    "edgenext": "edgenext_xx_small",
    "efficientnet": "efficientnet_b0 efficientnet_b0_gn efficientnet_blur_b0 efficientnet_cc_b0_4e efficientnet_es "
    "efficientnet_lite0 efficientnetv2_rw_t efficientnetv2_s tf_efficientnet_b0 tf_efficientnetv2_b0 "
    "tf_efficientnet_lite0 tf_efficientnet_es fbnetc_100 mixnet_s tf_mixnet_s mnasnet_100 mnasnet_small "
    "mobilenet_edgetpu_100 mobilenetv1_100 mobilenetv2_100 semnasnet_100 spnasnet_100 tinynet_a tinynet_e",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8 fastvit_mci0",
    "focalnet": "focalnet_tiny_srf",
    "ghostnet": "ghostnet_100 ghostnetv2_100 ghostnetv3_100",
    "hardcorenas": "hardcorenas_a hardcorenas_f",
    "hgnet": "hgnet_tiny hgnetv2_b0",
    "hrnet": "hrnet_w18_small hrnet_w18",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_base",
    "mambaout": "mambaout_femto",
    "metaformer": "poolformer_s12 poolformerv2_s12 convformer_s18 caformer_s18",
    "mobilenetv3": "fbnetv3_b lcnet_100 mobilenetv3_large_100 mobilenetv3_small_100 tf_mobilenetv3_small_100 "
    "mobilenetv4_conv_small mobilenetv4_conv_aa_medium mobilenetv4_conv_blur_medium mobilenetv4_hybrid_medium",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs mobilevitv2_050",
    "nasnet": "nasnetalarge",
    "nfnet": "dm_nfnet_f0 eca_nfnet_l0 nf_ecaresnet26 nf_regnet_b0 nf_resnet26 nfnet_f0 nfnet_l0",
    "pnasnet": "pnasnet5large",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetv_040 regnetx_002 regnety_002 regnetz_005",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2net50_14w_8s res2net50d res2next50",
    "resnest": "resnest14d resnest50d resnest50d_4s2x40d",
    "resnet": "ecaresnet26t ecaresnetlight resnet10t resnet18 resnet18d resnet26t resnet50 resnet50_gn resnet50s "
    "resnetaa50d resnetblur18 resnetblur50d resnetrs50 resnext50_32x4d senet154 seresnet18 seresnet50 "
    "wide_resnet50_2",
    "resnetv2": "resnetv2_50 resnetv2_50d_evos resnetv2_50d_gn resnetv2_50t resnetv2_50x1_bit",
    "rexnet": "rexnet_100 rexnetr_100",
    "selecsls": "selecsls42 selecsls60b selecsls84",
    "senet": "legacy_senet154 legacy_seresnet18 legacy_seresnext26_32x4d",
    "sknet": "skresnet18 skresnet50d skresnext50_32x4d",
    "starnet": "starnet_s1",
    "swiftformer": "swiftformer_xs",
    "tresnet": "tresnet_m tresnet_v2_l",
    "vgg": "vgg11 vgg11_bn vgg16",
    "vovnet": "eca_vovnet39b ese_vovnet19b_dw ese_vovnet39b vovnet39a",
    "xception": "legacy_xception",
    "xception_aligned": "xception41 xception41p xception65",
}

#: Image networks of the library `transformers`, by the types of their configurations. Not its Swin: a small image
#: changes the windows of that network for good, so that it then fails on larger ones.
HUGGING_FACE = (
    *("bit", "convnext", "convnextv2", "cvt", "efficientnet", "focalnet", "hgnet_v2", "levit", "mobilenet_v1"),
    *("mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet", "segformer"),
    *("swiftformer", "textnet"),
)
