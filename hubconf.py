"""Entry points of ``torch.hub.load(REPOSITORY, NAME, ...)``: one for each network.

`torch.hub.help` shows their arguments; ``pretrained=True`` downloads verified weights.
"""

from antialiased_zoo.zoo.networks import *  # a factory for each network

dependencies = ["torch", "torchvision", "huggingface_hub", "safetensors", "tqdm"]
