"""Publish the zoo's weights in a folder to serve, or in a repository of the Hugging Face Hub.

    python scripts/publish.py mirror/ 'resnet*' --recipe finetuned
    python scripts/publish.py hf-hub:OWNER/NAME

Each file is fetched and verified first. Files that are already there are skipped, so the same command resumes an
interrupted run. Files that cannot be fetched or uploaded are listed at the end; the others are uploaded anyway. To load
the published files, set ANTIALIASED_ZOO_MIRROR to the folder's address, or to
https://huggingface.co/OWNER/NAME/resolve/main

The card states the full SHA-256 of each file. For most, the author published only eight hex digits: enough against
accidents, not against a forger, who can make another file with the same eight within minutes. Such rows are marked:
their full digest was computed here, so it is only as trustworthy as the source of the file.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi
from tqdm.auto import tqdm

from antialiased_zoo.weights import Entry, hub, manifest, repository
from antialiased_zoo.weights.hub import cache
from antialiased_zoo.weights.hub.digest import sha256

CARD = "README.md"
_SHORT = (
    "\\* The author made only the first eight digits of this digest public. A file with the same eight can be forged "
    "within minutes: the full digest was computed when this card was written."
)


class Target(Protocol):
    """A store of files by name."""

    def digest(self, name: str) -> str | None:
        """The SHA-256 of the weights stored under this name; None if there are none."""

    def put(self, content: Path | bytes, name: str) -> None:
        """Store a file; it becomes visible when it is complete."""


class Folder:
    """A local folder, created if needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def digest(self, name: str) -> str | None:  # noqa: D102  # as in `Target`
        return digest_of(self.path / name) if (self.path / name).is_file() else None

    def put(self, content: Path | bytes, name: str) -> None:  # noqa: D102
        with cache.replacing(self.path / name) as temporary:
            if isinstance(content, Path):
                shutil.copyfile(content, temporary)
            else:
                temporary.write_bytes(content)


class HubRepository:
    """A model repository of the hub, created if needed; each file is a separate commit."""

    def __init__(self, name: str, api: HfApi) -> None:
        self.api = api
        self.name = api.create_repo(name, exist_ok=True).repo_id

    def digest(self, name: str) -> str | None:  # noqa: D102  # as in `Target`
        found = self.api.get_paths_info(self.name, [name])
        return next((file.lfs.sha256 for file in found if getattr(file, "lfs", None)), None)

    def put(self, content: Path | bytes, name: str) -> None:  # noqa: D102  # the client makes no empty commit
        self.api.upload_file(
            path_or_fileobj=content, path_in_repo=name, repo_id=self.name, commit_message=f"Add {name}"
        )


def publish(target: Target, entries: Sequence[Entry], progress: bool = True) -> dict[str, str]:
    """Upload the missing files, then a card that lists all files.

    Returns:
        For each file that could not be uploaded, the reason.
    """
    failed, there = {}, {}
    for entry in tqdm(entries, unit="file", disable=None if progress else True):
        try:
            path = hub.fetch(entry, progress=progress)
            there[entry.name] = wanted = digest_of(path)
            if target.digest(entry.file) != wanted:
                target.put(path, entry.file)
        except Exception as error:  # the hub's client has no base class for its errors: network, response, file
            failed[entry.file] = _reason(error)
    present = [entry for entry in entries if entry.file not in failed]
    if present:
        target.put(card(present, there).encode(), CARD)
    return failed


def _reason(error: BaseException) -> str:
    """The first line of an error and of its cause."""
    stated = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return f"{stated} ({_reason(error.__cause__)})" if error.__cause__ else stated


def card(entries: Sequence[Entry], digests: dict[str, str]) -> str:
    """A model card with one row for each file."""
    return "\n".join(_card_lines(entries, digests)) + "\n"


def _card_lines(entries: Sequence[Entry], digests: dict[str, str]) -> Iterator[str]:
    licenses = sorted({entry.license.name for entry in entries})
    stated = licenses[0].lower() if len(licenses) == 1 else "other"
    yield from ("---", "library_name: antialiased-zoo", "pipeline_tag: image-classification", f"license: {stated}")
    yield from ("tags:", "- antialiasing", "- blurpool", "---", "", "# Weights of antialiased-zoo", "")
    yield "To load these files, set `ANTIALIASED_ZOO_MIRROR` to the address of this repository or folder."
    yield from ("", "| network | file | trained on | metrics, percent | licence | SHA-256 |", "| --- " * 6 + "|")
    for entry in entries:
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in sorted(entry.metrics.items()))
        facts = (entry.name, entry.file, entry.dataset, metrics or "not stated", entry.license.name)
        mark = "" if entry.files[0].sha256 else " \\*"
        yield f"| {' | '.join(facts)} | `{digests[entry.name]}`{mark} |"
    if not all(entry.files[0].sha256 for entry in entries):
        yield from ("", _SHORT)
    yield from ("", 'How each was measured: `antialiased_zoo.get_weights(...).meta["preprocessing"]`.')


def digest_of(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return sha256(file)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="a folder, or hf-hub:OWNER/NAME")
    parser.add_argument("networks", nargs="*", default=["*"], help="names, with * and ?; default: all")
    parser.add_argument("--recipe", default="*", help="only weights of this recipe")
    options = parser.parse_args(arguments)
    of_recipe = [entry for entry in manifest.load() if fnmatchcase(entry.recipe, options.recipe)]
    entries = [entry for entry in of_recipe if any(fnmatchcase(entry.model, name) for name in options.networks)]
    if not entries:
        raise SystemExit("publish.py: the manifest has no such weights; antialiased-zoo list shows them")
    name = options.target.removeprefix(repository.PREFIX)
    target: Target = Folder(Path(name)) if name == options.target else HubRepository(name, HfApi())
    failed = publish(target, entries)
    for file, reason in failed.items():
        print(f"{file}: {reason}", file=sys.stderr)
    print(f"{len(entries) - len(failed)} of {len(entries)} files are in {options.target}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
