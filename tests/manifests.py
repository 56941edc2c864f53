"""What tests of the manifest share: an entry, its licence, and the text of a manifest."""

import json

FACTS = {
    "model": "resnet18",
    "filter_size": 4,
    "recipe": "mine",
    "file": "mine.safetensors",
    "format": "safetensors",
    "sha256": "ab" * 32,
    "sources": ["https://example.org/mine.safetensors"],
    "license": "MIT",
    "dataset": "photos",
    "num_classes": 2,
    "classes": ["cat", "dog"],
    "preprocessing": {"resize": 256, "crop": 224},
}
LICENSES = {"MIT": {"url": "https://opensource.org/license/mit", "commercial_use": True}}


def text_of(*records: object, **top: object) -> str:
    return json.dumps({"schema": 1, "licenses": LICENSES, "entries": list(records), **top})
