"""Checks whether a source is reachable and has the file that the manifest states, by its headers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ...errors import DigestError, FetchError
from ..addresses import parse_hf
from ..schemes import find_scheme
from ..weights_file import WeightsFile
from . import stamps
from .connection import Network
from .exchange import Answer, request
from .huggingface import check_stated, url_of
from .redaction import redacted, source_key
from .responses import check_status, whole_length
from .retry import Retry, SourceError
from .tokens import authorization

# Responses of servers that do not support HEAD, or whose signed URLs are for one method only.
_NO_HEAD = (403, 405, 501)


@dataclass(frozen=True)
class Finding:
    """The result of probing a source.

    Attributes:
        source: Its address, without secrets.
        status: ``"alive"``, ``"local"`` (on this machine and valid), ``"dead"``, ``"differs"``
            (size or digest other than the manifest's) or ``"unknown"`` (a scheme that cannot be
            probed).
        detail: The reason, or the facts about the file.
        key: Tells sources apart that differ only in what is not shown; see `source_key`.
    """

    source: str
    status: str
    detail: str
    key: str

    @classmethod
    def of(cls, source: str, status: str, detail: str) -> Finding:
        """Make the finding of a source."""
        return cls(redacted(source), status, detail, source_key(source))


def probe(source: str, file: WeightsFile, retry: Retry, network: Network) -> Finding:
    """Check whether a source has a file, without fetching its bytes.

    Args:
        source: A source of the file, or its address at a mirror.
        file: The file.
        retry: Timeouts; nothing is retried.
        network: What is known about hosts.
    """
    scheme = source.partition(":")[0]
    try:
        if scheme in ("https", "http"):
            return _probe_url(source, source, file, retry, network)
        if scheme == "hf":
            parse_hf(source)
            return _probe_url(source, url_of(source), file, retry, network)
        return _probe_local(source, file)
    except _OtherFileError as error:
        return Finding.of(source, "differs", str(error))
    except SourceError as error:
        return Finding.of(source, "dead", str(error))


class _OtherFileError(Exception):
    """The source has another file than the manifest states."""


def _probe_url(source: str, url: str, file: WeightsFile, retry: Retry, network: Network) -> Finding:
    def inspect(answer: Answer) -> None:
        if source.startswith("hf:"):
            try:
                check_stated(answer, file)
            except SourceError as error:
                raise (_OtherFileError(str(error)) if answer.status < 400 else error) from None

    token = authorization(url)
    with request(url, retry, network, token, method="HEAD", inspect=inspect) as answer:
        if answer.status not in _NO_HEAD:
            return Finding.of(source, "alive", _described(answer, file))
    with request(url, retry, network, {**token, "Range": "bytes=0-0"}, inspect=inspect) as answer:
        return Finding.of(source, "alive", _described(answer, file))


def _described(answer: Answer, file: WeightsFile) -> str:
    check_status(answer)
    size = whole_length(answer)
    if size is not None and file.size is not None and size != file.size:
        raise _OtherFileError(f"has {size:,} bytes, but the manifest states {file.size:,}")
    return "no size stated" if size is None else f"{size:,} bytes"


def _probe_local(source: str, file: WeightsFile) -> Finding:
    path = find_scheme(source).local(source)
    if path is None:
        return Finding.of(source, "unknown", "this kind of source cannot be probed")
    with contextlib.suppress(FileNotFoundError):
        try:
            return Finding.of(source, "local", f"SHA-256 {stamps.check(path, file, stamped=False)}")
        except DigestError as error:
            raise _OtherFileError(str(error)) from None
        except FetchError as error:
            raise SourceError(str(error)) from None
    raise SourceError("is not in this installation")
