"""Training from scratch and fine-tuning, with bit-identical resuming."""

from .batches import FileBatches as FileBatches
from .batches import MemoryBatches as MemoryBatches
from .execution import Execution as Execution
from .execution import launcher as launcher
from .execution import processes as processes
from .loop import TrainBatches as TrainBatches
from .loop import Trainer as Trainer
from .loop import ValBatches as ValBatches
from .loop import top1 as top1
from .recipes import PRESETS as PRESETS
from .recipes import Recipe as Recipe
from .runs import RunFolder as RunFolder
from .runs import load_weights as load_weights
from .runs import made_folder as made_folder
from .runs import manifest_entry as manifest_entry
from .runs import tensors_digest as tensors_digest
from .runs import versions as versions
from .runs import write_json as write_json
from .settings import check_settings as check_settings
from .settings import merge_settings as merge_settings
