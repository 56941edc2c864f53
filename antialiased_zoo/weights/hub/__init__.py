"""Fetches a file from its sources, verifies it and caches it; independent of models."""

from ..schemes import Scheme, register_scheme
from .connection import Network
from .fetching import MIRROR, OFFLINE, Fetchable, LicenseWarning, cached, fetch, is_offline, mirrored
from .huggingface import HuggingFace, url_of
from .probing import Finding, probe
from .redaction import redacted, source_key
from .retry import Retry, SourceError
from .sources import Job, Packaged, Web
from .stamps import ShortDigestWarning
from .statements import Hub, blob_digest
from .verification import Verdict, verify

__all__ = [
    "MIRROR",
    "OFFLINE",
    "Fetchable",
    "Finding",
    "Hub",
    "HuggingFace",
    "Job",
    "LicenseWarning",
    "Network",
    "Retry",
    "Scheme",
    "ShortDigestWarning",
    "SourceError",
    "Verdict",
    "blob_digest",
    "cached",
    "fetch",
    "is_offline",
    "mirrored",
    "probe",
    "redacted",
    "register_scheme",
    "source_key",
    "url_of",
    "verify",
]

for _name, _scheme in (("https", Web()), ("http", Web()), ("package", Packaged()), ("hf", HuggingFace())):
    register_scheme(_name, _scheme)
