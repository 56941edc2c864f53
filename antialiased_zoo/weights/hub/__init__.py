"""From sources to one verified local file. Knows nothing about models."""

from .fetching import MIRROR, OFFLINE, Fetchable, LicenseWarning, Verdict, cached, fetch, is_offline, verify
from .retry import Patience

__all__ = [
    "MIRROR",
    "OFFLINE",
    "Fetchable",
    "LicenseWarning",
    "Patience",
    "Verdict",
    "cached",
    "fetch",
    "is_offline",
    "verify",
]
