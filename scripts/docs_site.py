"""MkDocs hooks: pages made from the manifest and the rooms, and the repository's own files within the site.

`mkdocs.yml` names this file. The pages link to the repository's files by relative path, as on GitHub; in the site
``docs/`` is the root, and every file that a page links to is copied into it under its own path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from antialiased_zoo.weights import TIMM, Entry, Manifest, manifest
from antialiased_zoo.weights.fallbacks import call_of

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "layers": "Antialiased layers: blur pooling, max and average pooling, and upsampling.",
    "transform": "Antialias any network, and preview the changes.",
    "zoo": "The networks and their factories.",
    "weights": "The manifest and its entries.",
    "adaptation": "Recover a pretrained network's accuracy after antialiasing, without labels.",
    "inference": "Frozen copies for inference.",
    "metrics": "Measures of shift invariance.",
    "evaluation": "Evaluate models on data sets: protocols, probes, reports.",
    "training": "Training and fine-tuning.",
    "errors": "The package's exceptions.",
}
_REPOSITORY_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "scripts/README.md")
# The start of a source -> its name for readers; the last one matches all others.
_HOSTS = {
    "package:": "the package",
    "hf://": "Hugging Face",
    "https://antialiased-cnns.s3": "the author's S3 (refuses requests)",
    "https://www.dropbox.com": "the author's Dropbox",
    "https://github.com": "GitHub",
    "": "another host",
}
# A table so wide that it needs the space of the list of headings.
_WIDE = ("leaderboard.md",)
_INTERVAL = re.compile(r"\[[-+\d.]+, [-+\d.]+\]")
_SPEC = re.compile(r"(?<=<tr>\n<td><code>)[^<]+")
_FLAG = re.compile(r"<code>(?=--?[\w-]+</code>)")
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, the repository's own pages, and each file that they link to."""
    for name, text in (*_network_pages(manifest.load()), *_reference_pages()):
        files.append(File.generated(config, name, content=text))
    waiting = [*(ROOT / name for name in _REPOSITORY_PAGES), *(Path(page.abs_src_path) for page in _written(files))]
    while waiting:
        source = waiting.pop()
        if _missing(files, source):
            files.append(File.generated(config, _site_path(source), abs_src_path=str(source)))
        if source.suffix == ".md":
            linked = [
                (source.parent / target).resolve() for target in _LINK.findall(source.read_text(encoding="utf-8"))
            ]
            waiting += [path for path in linked if path.is_file() and _missing(files, path)]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to the repository's paths into links to the site's paths."""
    if page.file.abs_src_path is None:  # generated here, with the site's paths
        return markdown
    source = Path(page.file.abs_src_path)
    if page.file.src_uri in _WIDE:
        page.meta["hide"] = ["toc"]

    def site_link(link: re.Match[str]) -> str:
        target = _site_path((source.parent / link[0]).resolve())
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    found = _LINK.sub(site_link, markdown)
    if page.file.src_uri == "networks.md":  # link a row's name to its page
        found = re.sub(r"^\| `([a-z]\w*)` \|", r"| [`\1`](network/\1.md) |", found, flags=re.MULTILINE)
    return found


def on_page_content(html: str, **_: Any) -> str:
    """Keep each interval and each flag on one line, and let a row's name break after a colon."""
    html = _SPEC.sub(lambda name: name[0].replace(":", ":<wbr>"), html)
    html = _FLAG.sub('<code class="flag">', html)
    return _INTERVAL.sub(r'<span class="interval">\g<0></span>', html)


def _written(files: Files) -> list[File]:
    return [page for page in files.documentation_pages() if page.abs_src_path is not None]


def _missing(files: Files, path: Path) -> bool:
    return files.get_file_from_path(_site_path(path)) is None


def _site_path(path: Path) -> str:
    """The site's path of a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def _network_pages(known: Manifest) -> Iterator[tuple[str, str]]:
    """One page per network, from its entries in the manifest."""
    for name in dict.fromkeys(entry.model for entry in known):
        yield f"network/{name.replace(':', '_')}.md", _network_page(name, known.of_model(name))


def _network_page(name: str, entries: Sequence[Entry]) -> str:
    blurred = [entry for entry in entries if entry.filter_size is not None]
    defaults = [entry for entry in blurred if entry.default] or blurred or entries
    best = min(defaults, key=lambda entry: entry.filter_size != 4)
    rows = "\n".join(map(_row, entries))
    plain = "" if name.startswith(TIMM) else f"model = az.{name}(filter_size=4)  # without weights\n"
    return f"""# {name}

```python
import antialiased_zoo as az

{plain}model = {call_of(best)}
```

Top-1 accuracy and crop consistency in percent, as published or as measured here.

| filter size | recipe | data | top-1 | crop consistency | licence | digest | sources |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Preprocessing of `{best.recipe}`: {_preprocessing(best)}

[All networks](../networks.md), [where weights come from](../weights.md)
"""


def _row(entry: Entry) -> str:
    figures = [f"{entry.metrics[key]:.2f}" if key in entry.metrics else "" for key in ("acc1", "consistency_crop")]
    own = "timm's own" if entry.model.startswith(TIMM) else "none"
    size = own if entry.filter_size is None else str(entry.filter_size)
    digest = entry.files[0].digest
    kind = "full SHA-256" if len(digest) == 64 else f"{len(digest)} digits"
    hosts = ", ".join(dict.fromkeys(map(_host, entry.sources)))
    cells = (size, entry.recipe, entry.dataset, *figures, entry.license.name, kind, hosts)
    return f"| {' | '.join(cells)} |"


def _host(source: str) -> str:
    return next(name for start, name in _HOSTS.items() if source.startswith(start))


def _preprocessing(entry: Entry) -> str:
    facts = entry.preprocessing
    size = f"{facts.interpolation}, resized to {facts.resize}, cropped to {facts.crop}"
    return f"{size}, mean {facts.mean}, standard deviation {facts.std}."


def _reference_pages() -> Iterator[tuple[str, str]]:
    """One page per subpackage: its public names with their docstrings."""
    rows = "\n".join(f"| [`antialiased_zoo.{room}`]({room}.md) | {text} |" for room, text in ROOMS.items())
    yield (
        "reference/index.md",
        "# Reference\n\nThe first six subpackages' names are also names of `antialiased_zoo`: `az.antialias`.\n\n"
        f"| subpackage | contents |\n| --- | --- |\n{rows}\n",
    )
    for room in ROOMS:
        text = (
            f"# `antialiased_zoo.{room}`\n\n::: antialiased_zoo.{room}\n    options:\n      show_root_heading: false\n"
        )
        yield f"reference/{room}.md", text
