"""Fetches a file from its sources, verifies it and caches it; independent of models."""

from .connection import Network
from .fetching import MIRROR, OFFLINE, Fetchable, LicenseWarning, cached, fetch, is_offline, mirrored
from .huggingface import HuggingFace
from .probing import Finding, probe
from .redaction import redacted
from .retry import Retry, SourceError
from .sources import Job, Scheme, register_scheme
from .stamps import ShortDigestWarning
from .verification import Verdict, verify

__all__ = [
    "MIRROR",
    "OFFLINE",
    "Fetchable",
    "Finding",
    "Job",
    "LicenseWarning",
    "Network",
    "Retry",
    "Scheme",
    "ShortDigestWarning",
    "SourceError",
    "Verdict",
    "cached",
    "fetch",
    "is_offline",
    "mirrored",
    "probe",
    "redacted",
    "register_scheme",
    "verify",
]

register_scheme("hf", HuggingFace())
