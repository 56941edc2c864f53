"""Reads weights files and loads their tensors into a model, under torchvision's names."""

from .comparison import holds_same as holds_same
from .contents import Contents as Contents
from .contents import check_finite as check_finite
from .contents import read_contents as read_contents
from .loading import convert as convert
from .loading import load_entry as load_entry
from .loading import load_into as load_into
from .safetensors_files import write_safetensors as write_safetensors
