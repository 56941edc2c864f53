"""The networks: a table with one row each, and the code that builds a network from its row."""

from .backbone import Backbone
from .factories import create_model, from_pretrained, list_models
from .features import FeatureMaps
from .fingerprint import fingerprint_of as fingerprint_of
from .networks import *  # a factory for each row
from .published import published_table as published_table
from .pyramid import BackboneWithFPN, backbone_with_fpn
from .registration import register_network
from .registry import ARCHITECTURES as ARCHITECTURES
from .registry import find_architecture as find_architecture
from .saving import push_to_hub, save_pretrained

__all__ = [
    *ARCHITECTURES,
    "Backbone",
    "BackboneWithFPN",
    "FeatureMaps",
    "backbone_with_fpn",
    "create_model",
    "from_pretrained",
    "list_models",
    "push_to_hub",
    "register_network",
    "save_pretrained",
]
