"""The package leaves its user's process alone: nothing process-wide changes, and no class of somebody else's."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from forked import run_code

ROOT = Path(__file__).parents[1]

# Importing torch and its companions changes some of this, so they come first.
CODE = """
import ctypes, sys
import huggingface_hub, numpy, PIL.Image, safetensors.torch, torch, torch._dynamo, torchvision, tqdm

asked = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda self, name: asked.append(name) or find(self, name)

sys.path.append({tests!r})
from process_state import changed, process

before = process()
import antialiased_zoo as az
from antialiased_zoo import cli, evaluation, metrics, training
assert not changed(before), ("import", changed(before))
model = az.resnet18(num_classes=2)  # tests/zoo/test_zoo.py looks at the others
assert not changed(before), ("build", changed(before))
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


def test_nothing_in_the_process_changes(tmp_path: Path) -> None:
    done = run_code(CODE.replace("{tests!r}", repr(str(Path(__file__).parent))), tmp_path)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, antialiased_zoo; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_text_files_do_not_depend_on_the_machines_language() -> None:
    """Without an encoding Python uses the machine's: Windows could not write a label in Japanese."""
    files = [path for folder in ("antialiased_zoo", "scripts", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = [
        f"{path}:{call.lineno}"
        for path in files
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and opens_text(call) and "encoding" not in {word.arg for word in call.keywords}
    ]
    assert not found


def opens_text(call: ast.Call) -> bool:
    """Whether it is ``read_text``, ``write_text``, or the builtin ``open`` of text."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in ("read_text", "write_text")
    modes = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return ast.unparse(call.func) == "open" and not any("b" in ast.unparse(mode) for mode in modes)
