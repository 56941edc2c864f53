"""Further faults, of bodies that are cut short where no header states their length."""

from __future__ import annotations

import gzip

from fault_handler import FaultHandler
from faults import fault


@fault
def unsaid_once(h: FaultHandler) -> None:
    """states no length, and closes in mid-body, once"""
    start = h.start()
    whole = h.content[start:]
    span = f"bytes {start}-{len(h.content) - 1}/{len(h.content)}" if start else ""
    h.head(None, 206 if start else 200, Content_Range=span)
    h.wfile.write(whole[: len(whole) // 2] if h.nth == 1 else whole)


@fault
def gzip_cut_once(h: FaultHandler) -> None:
    """compresses, and closes in the middle, once"""
    packed = gzip.compress(h.content, 1)
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed[: len(packed) // 2] if h.nth == 1 else packed)


@fault
def gzip_cut(h: FaultHandler) -> None:
    """compresses, and always closes in the middle, as if that were all"""
    packed = gzip.compress(h.content, 1)[:-1000]
    h.head(len(packed), Content_Encoding="gzip")
    h.wfile.write(packed)
