"""Redirects that lead nowhere, where they must not, or with a body of their own."""

from __future__ import annotations

import time

from fault_handler import FaultHandler

from .registry import fault, raw


@fault
def loop(h: FaultHandler) -> None:
    """redirects to itself"""
    h.refuse(302, Location=h.path)


@fault
def redirect(h: FaultHandler) -> None:
    """redirects to another host"""
    h.refuse(302, Location=h.facts.redirect_to + "/good/" + h.path.rpartition("/")[2])


@fault
def redirect_elsewhere(h: FaultHandler) -> None:
    """redirects to `http://` on another machine"""
    h.refuse(302, Location="HTTP://mirror.example.org/" + h.path)


@fault
def redirect_file(h: FaultHandler) -> None:
    """redirects to `file:///etc/passwd`"""
    h.refuse(302, Location="file:///etc/passwd")


@fault
def redirect_no_host(h: FaultHandler) -> None:
    """redirects to a host whose name cannot be looked up"""
    h.refuse(302, Location="https://" + "a" * 70 + ".example.org/x")


@fault
def redirect_unparsable(h: FaultHandler) -> None:
    """redirects to `http://[::1`"""
    h.refuse(302, Location="http://[::1")


@fault
def redirect_bytes(h: FaultHandler) -> None:
    """redirects to bytes that are no text"""
    raw(h, "HTTP/1.1 302 Found", "Location: http://\xff\xfe/\x80", "Content-Length: 0")


@fault
def redirect_drip(h: FaultHandler) -> None:
    """redirects, and drips a body with it"""
    h.head(None, 302, Location=h.path.replace("redirect_drip", "good"))
    while True:
        h.wfile.write(b"x")
        time.sleep(0.1)


@fault
def redirect_endless(h: FaultHandler) -> None:
    """redirects, with a body without end"""
    h.head(None, 302, Location=h.path.replace("redirect_endless", "good"))
    while True:
        h.wfile.write(bytes(65536))
