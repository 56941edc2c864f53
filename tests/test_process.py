"""The package leaves its user's process alone: nothing process-wide changes, and no class of somebody else's."""

from __future__ import annotations

import subprocess
import sys

# Importing torch and its companions changes some of this, so they come first.
CODE = """
import ctypes, gc, os, sys, warnings
import huggingface_hub, numpy, PIL.Image, safetensors.torch, torch, torch._dynamo, torchvision, tqdm

asked = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda self, name: asked.append(name) or find(self, name)

def process():
    modules = [torch.nn.Module, torch.nn.Sequential, torch.nn.Conv2d, torch.nn.ReLU6, torchvision.models.DenseNet]
    return {
        "collecting": gc.isenabled(), "thresholds": gc.get_threshold(), "filters": list(warnings.filters),
        "showwarning": warnings.showwarning, "environment": dict(os.environ), "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(), "grad": torch.is_grad_enabled(),
        **{f"class {cls.__name__}": dict(vars(cls)) for cls in modules},
    }

def changed(before):
    return [name for name, value in process().items() if value != before[name]]

before = process()
import antialiased_zoo as az
from antialiased_zoo import cli, evaluation, metrics, training
assert not changed(before), ("import", changed(before))
ours = set()
for name in az.list_models():
    with torch.device("meta"):
        model = az.create_model(name)
    assert type(model).__module__.startswith("antialiased_zoo.zoo."), type(model)  # the backbone's methods
    ours |= {type(module).__module__ for module in model.modules() if module is not model}
assert not changed(before), ("build", changed(before))
allowed = ("torch.", "torchvision.", "antialiased_zoo.layers.")
assert not [module for module in ours if not module.startswith(allowed)], ours
model = az.resnet18(num_classes=2)
az.plan(model, input_size=(1, 3, 32, 32))
assert not changed(before), ("plan", changed(before))
model.eval()(torch.ones(1, 3, 32, 32))
assert not changed(before), ("run", changed(before))
optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
model(torch.ones(2, 3, 32, 32)).sum().backward()
optimizer.step()
assert not changed(before), ("train", changed(before))
az.for_inference(model)(torch.ones(1, 3, 32, 32))
assert not changed(before), ("inference", changed(before))
assert cli.main(["list"]) == 0
assert not changed(before), ("command", changed(before))
assert "mallopt" not in asked
assert az.keep_freed_memory() == ("mallopt" in asked)  # the recorder does see a call
"""


def test_nothing_in_the_process_changes() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, antialiased_zoo; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
