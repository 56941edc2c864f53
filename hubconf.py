"""Entry points of ``torch.hub.load(REPOSITORY, NAME, ...)``: the networks and nothing else.

`torch.hub.help` shows each one's arguments; ``pretrained=True`` fetches verified weights.
"""

from antialiased_zoo.zoo.networks import *  # a factory for each network

dependencies = ["torch", "torchvision", "huggingface_hub", "safetensors", "tqdm"]
