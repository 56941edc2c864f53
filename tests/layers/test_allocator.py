"""What freed memory costs to have again, in a process of its own."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from forked import run_code

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="concerns glibc's allocator")

# Blocks of more than 32 MiB, up to which glibc may raise its threshold by itself.
CODE = """
import resource
import torch
from antialiased_zoo import create_model
from antialiased_zoo import keep_freed_memory

faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 20, dtype=torch.uint8)

def show():
    before = faults()
    blocks = [torch.ones(40 << 20, dtype=torch.uint8) for _ in range(2)]
    del blocks
    first = faults() - before
    blocks = [torch.ones(40 << 20, dtype=torch.uint8) for _ in range(2)]
    print(first, faults() - before - first)

show()
create_model('resnet18', num_classes=2)(torch.zeros(2, 3, 64, 64)).sum().backward()
show()
keep_freed_memory()
keep_freed_memory(False)
show()
assert keep_freed_memory()
show()
"""


def test_freed_memory_is_kept_when_asked_for_and_not_otherwise(tmp_path: Path) -> None:
    """Page faults of the first and the second time that 80 MiB are written."""
    if any(name.startswith(("MALLOC_", "GLIBC_")) for name in os.environ):
        pytest.skip("the environment changes the allocator")
    done = run_code(CODE, tmp_path)
    assert done.returncode == 0, done.stderr
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(pairs) == 4
    assert [again > once / 2 for once, again in pairs[:3]] == [True] * 3, pairs
    assert pairs[3][1] < 0.8 * pairs[3][0], pairs
