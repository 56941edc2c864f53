"""What freed memory costs to have again, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from antialiased_zoo.memory import SETTINGS

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="concerns glibc's allocator")

# Blocks that are small beside what the process holds anyway are kept without being asked to.
CODE = """
import resource
import torch
from antialiased_zoo import Downsample, create_model
from antialiased_zoo.functional import blur_pool2d, max_blur_pool2d
from antialiased_zoo.memory import keep_freed_memory
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


def page_faults(first: str, **settings: str) -> tuple[int, int]:
    """Of the first and the second time that 48 MiB are written, after some code."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | settings
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    once, again = map(int, done.stdout.split())
    return once, again


PLAIN = "create_model('resnet18', filter_size=None, num_classes=2)(torch.zeros(2, 3, 64, 64))"


@pytest.mark.parametrize(
    "first",
    [
        "keep_freed_memory()",
        "Downsample(8)",  # made, and perhaps compiled then
        "blur_pool2d(torch.ones(1, 8, 9, 9))",
        "max_blur_pool2d(torch.ones(1, 8, 9, 9), 2)",
        "create_model('resnet18')",
    ],
)
def test_freed_memory_is_kept(first: str) -> None:
    once, again = page_faults(first)
    assert again < once / 2


@pytest.mark.parametrize(
    ("first", "settings"),
    [
        ("", {}),
        (PLAIN, {}),
        ("keep_freed_memory()", {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}),
        ("keep_freed_memory()", {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={1 << 20}"}),
    ],
)
def test_it_is_not_kept_otherwise(first: str, settings: dict[str, str]) -> None:
    once, again = page_faults(first, **settings)
    assert again > once / 2
