"""From sources to one verified local file. Knows nothing about models."""

from .fetching import MIRROR, OFFLINE, Fetchable, LicenseWarning, cached, fetch, is_offline
from .huggingface import HuggingFace
from .retry import Retry, SourceError
from .sources import Job, Scheme, register_scheme
from .stamps import ShortDigestWarning
from .verification import Verdict, verify

__all__ = [
    "MIRROR",
    "OFFLINE",
    "Fetchable",
    "Job",
    "LicenseWarning",
    "Retry",
    "Scheme",
    "ShortDigestWarning",
    "SourceError",
    "Verdict",
    "cached",
    "fetch",
    "is_offline",
    "register_scheme",
    "verify",
]

register_scheme("hf", HuggingFace())
