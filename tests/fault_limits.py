"""What each fault of the network costs with the loader's own limits: seconds, and memory; a program.

    python tests/fault_limits.py [FAULT...]

Each fault is fetched by a process of its own, all at once, since most of them only wait.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from fault_server import FaultServer
from faults import FAULTS

NAME = "net.pth"
CONTENT = random.Random(3).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FETCH = """
import resource, sys, time
from antialiased_zoo.errors import SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.weights_file import WeightsFile
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.monotonic()
try:
    hub.fetch(WeightsFile({name!r}, "pickle", ({source!r},), {digest!r}, size={size}), progress=False)
    outcome = "the right file"
except SourcesFailedError as error:
    outcome = error.reasons[0][1]
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(round(time.monotonic() - begun, 1), most // 1024, (most - base) // 1024, outcome, sep="|")
"""


def start(url: str, fault: str, scratch: Path) -> subprocess.Popen[str]:
    """Fetch under one fault, with a cache of its own."""
    code = FETCH.format(name=NAME, source=f"{url}/{fault}/{NAME}", digest=DIGEST, size=len(CONTENT))
    environment = {**os.environ, "TORCH_HOME": str(scratch / fault)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def main(names: list[str]) -> None:
    """Print a line for each fault: seconds, peak memory, what the fetch added to it, outcome."""
    print("| fault | seconds | peak MiB | added MiB | outcome |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / NAME).write_bytes(CONTENT)
        with FaultServer(Path(scratch)) as server:
            server.redirect_to = server.url.replace("127.0.0.1", "localhost")
            started = {name: start(server.url, name, Path(scratch)) for name in names}
            for name, process in started.items():
                print(f"| {name} | " + " | ".join(process.communicate()[0].strip().split("|")) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(FAULTS))
