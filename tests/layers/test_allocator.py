"""What freed memory costs to have again, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="concerns glibc's allocator")

# Blocks that are small beside what the process holds anyway are kept without being asked to.
CODE = """
import resource
import torch
from antialiased_zoo import create_model
from antialiased_zoo import keep_freed_memory
{first}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 20, dtype=torch.uint8)
before = faults()
blocks = [torch.ones(12 << 20, dtype=torch.uint8) for _ in range(4)]
del blocks
first = faults() - before
blocks = [torch.ones(12 << 20, dtype=torch.uint8) for _ in range(4)]
print(first, faults() - before - first)
"""


def page_faults(first: str) -> tuple[int, int]:
    """Of the first and the second time that 48 MiB are written, after some code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    once, again = map(int, done.stdout.split())
    return once, again


def test_freed_memory_is_kept() -> None:
    once, again = page_faults("assert keep_freed_memory()")
    assert again < 0.8 * once


@pytest.mark.parametrize(
    "first",
    [
        "",
        "create_model('resnet18', num_classes=2)(torch.zeros(2, 3, 64, 64)).sum().backward()",
        "keep_freed_memory(); keep_freed_memory(False)",
    ],
)
def test_it_is_not_kept_otherwise(first: str) -> None:
    once, again = page_faults(first)
    assert again > once / 2
