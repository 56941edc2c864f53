"""An HTTP server on loopback that serves files with one fault per address.

``/FAULT/NAME`` serves ``NAME`` with that fault, ``/faults/FAULT/resolve/REVISION/NAME`` does so the way the Hugging
Face Hub does. It remembers every request. As a program it serves a folder until its standard input closes:

    python tests/fault_server.py FOLDER     (prints its port)
"""

from __future__ import annotations

import ssl
import sys
import threading
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

from fault_handler import Facts, FaultHandler
from faults import FAULTS


@dataclass
class FaultServer(Facts):
    """Serves the files of one folder; use as a context manager."""

    tls: ssl.SSLContext | None = None

    def __enter__(self) -> FaultServer:
        class Handler(FaultHandler):
            facts = self
            faults = FAULTS

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def main() -> None:
    """Serve a folder for another process's tests."""
    with FaultServer(Path(sys.argv[1])) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
