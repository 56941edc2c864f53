"""Model cards: a network's structure, metrics, licence and usage, as Markdown."""

from __future__ import annotations

from ..weights import NetworkConfig

_USAGE = """```python
import antialiased_zoo as az

model = az.from_pretrained("hf-hub:OWNER/NAME")  # or the folder that holds this file
```"""


def model_card(config: NetworkConfig) -> str:
    """The card as Markdown with the hub's front matter.

    Example:
        >>> model_card(NetworkConfig("resnet50", 3)).splitlines()[-1]
        '```'
    """
    lines = ["---", "library_name: antialiased-zoo", "pipeline_tag: image-classification"]
    lines += [f"license: {config.license.lower()}"] if config.license else []
    lines += ["tags:", "- antialiasing", "- timm" if config.filter_size is None else "- blurpool", "---", ""]
    lines += [f"# {config.describe()}", "", *_facts(config), ""]
    if config.metrics:
        lines += [_protocol(config), "", "| metric | percent |", "| --- | --- |"]
        lines += [f"| {name} | {value:.2f} |" for name, value in sorted(config.metrics.items())]
        lines += [""]
    return "\n".join([*lines, "## Usage", "", _USAGE]) + "\n"


def _facts(config: NetworkConfig) -> list[str]:
    blur = "no blur" if config.filter_size is None else f"blurs of filter size {config.filter_size}"
    size = f"{config.num_classes} classes, {config.in_chans} image channels"
    facts = [f"* Network: {config.model} with {blur} (Zhang, ICML 2019); {size}"]
    for title, value in (("Base model", config.origin), ("Trained on", config.dataset), ("Licence", config.license)):
        facts.append(f"* {title}: {value or 'not stated'}")
    return facts


def _protocol(config: NetworkConfig) -> str:
    p = config.preprocessing
    return (
        f"Measured with the shorter side resized to {p.resize} ({p.interpolation}), a centre crop of {p.crop}, "
        f"mean {p.mean} and std {p.std}."
    )
