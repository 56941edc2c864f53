"""The networks: one table, and how a network is built from a row of it."""

from .factories import create_model, list_models, register_network
from .networks import *  # a factory for each row
from .published import published_table as published_table
from .registry import ARCHITECTURES as ARCHITECTURES
from .registry import find_architecture as find_architecture

__all__ = [*ARCHITECTURES, "create_model", "list_models", "register_network"]
