"""Fetches a file from its sources, verifies it and caches it; independent of models."""

from ..schemes import Scheme as Scheme
from ..schemes import register_scheme as register_scheme
from .connection import Network as Network
from .fetching import MIRROR as MIRROR
from .fetching import OFFLINE as OFFLINE
from .fetching import Fetchable as Fetchable
from .fetching import LicenseWarning as LicenseWarning
from .fetching import cached as cached
from .fetching import fetch as fetch
from .fetching import is_offline as is_offline
from .fetching import mirrored as mirrored
from .huggingface import HuggingFace as HuggingFace
from .huggingface import url_of as url_of
from .probing import Finding as Finding
from .probing import probe as probe
from .redaction import redacted as redacted
from .redaction import source_key as source_key
from .retry import Retry as Retry
from .retry import SourceError as SourceError
from .sources import Job as Job
from .sources import Packaged, Web
from .stamps import ShortDigestWarning as ShortDigestWarning
from .statements import Hub as Hub
from .statements import blob_digest as blob_digest
from .verification import Verdict as Verdict
from .verification import verify as verify

for _name, _scheme in (("https", Web()), ("http", Web()), ("package", Packaged()), ("hf", HuggingFace())):
    register_scheme(_name, _scheme)
