"""Pretrained weights: the manifest, the meaning of ``pretrained=``, verified downloads, and loading into a model."""

from . import checkpoints as checkpoints
from . import hub as hub
from . import manifest as manifest
from . import repository as repository
from .atomic_files import replacing as replacing
from .classes import class_names as class_names
from .classes import imagenet_names as imagenet_names
from .colours import as_rgb as as_rgb
from .colours import eight_bits as eight_bits
from .config import DEFAULTS as DEFAULTS
from .config import NetworkConfig as NetworkConfig
from .config import jsonable as jsonable
from .entry import TIMM as TIMM
from .entry import Entry as Entry
from .fallbacks import alternatives as alternatives
from .manifest import Manifest as Manifest
from .preprocessing import Preprocessing as Preprocessing
from .pretrained import Weights as Weights
from .pretrained import check_pretrained as check_pretrained
from .pretrained import find_weights as find_weights
from .pretrained import get_entry
from .pretrained_weights import get_weights
from .regular import open_regular as open_regular
from .regular import read_small as read_small
from .weights_file import WeightsFile as WeightsFile

__all__ = ["get_entry", "get_weights"]
