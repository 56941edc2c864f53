"""The user's token of the Hugging Face Hub, for the hub alone."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ...errors import warn

# The only hosts that get the user's token; another endpoint or mirror does not.
TOKEN_HOSTS = ("huggingface.co", "hf.co")


def authorization(url: str) -> dict[str, str]:
    """Return the header with the user's token if a URL is the hub's and there is a token, else no header."""
    if urlsplit(url).hostname not in TOKEN_HOSTS:
        return {}
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token and not re.fullmatch(r"[!-~]+", token):
        warn("the Hugging Face token contains invalid characters; it is not sent")
        token = None
    return {"Authorization": f"Bearer {token}"} if token else {}
