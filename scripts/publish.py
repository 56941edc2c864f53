"""Publish the zoo's weights in a folder to serve, or in a repository of the Hugging Face Hub.

    python scripts/publish.py mirror/ 'resnet*' --recipe finetuned
    python scripts/publish.py hf-hub:OWNER/NAME

Each file is fetched and verified first. Of weights that exist as several files, the first that can be had is published,
under its own name. Files that are already there are skipped, so the same command resumes an interrupted run. Weights
that cannot be fetched or uploaded are listed at the end; the others are uploaded anyway. The card lists all of the
manifest's files that are there, those of earlier runs included. To load the published files, set
ANTIALIASED_ZOO_MIRROR to the folder's address, or to https://huggingface.co/OWNER/NAME/resolve/main

The card states the full SHA-256 of each file. For most, the author published only eight hex digits: enough against
accidents, not against a forger, who can make another file with the same eight within minutes. Such rows are marked:
their full digest was computed here, so it is only as trustworthy as the source of the file.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi
from running import run_script
from tqdm.auto import tqdm

from antialiased_zoo.errors import DigestError
from antialiased_zoo.weights import Entry, WeightsFile, hub, manifest, repository
from antialiased_zoo.weights.atomic_files import replacing, sweep_folder
from antialiased_zoo.weights.hub.digest import sha256

CARD = "README.md"
# A row of the card: an entry, the file of it that is there, and that file's SHA-256.
Row = tuple[Entry, WeightsFile, str]
_SHORT = (
    "\\* The author made only the first eight digits of this digest public. A file with the same eight can be forged "
    "within minutes: the full digest was computed when this card was written."
)


class Target(Protocol):
    """A store of files by name."""

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """The SHA-256 of each of these weights that is stored."""

    def put(self, content: Path | bytes, name: str) -> None:
        """Store a file; it becomes visible when it is complete."""


class Folder:
    """A local folder, created if needed; what killed runs have left in it is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        sweep_folder(path)

    def digests(self, names: Sequence[str]) -> dict[str, str]:  # noqa: D102  # as in `Target`
        return {name: digest_of(self.path / name) for name in names if (self.path / name).is_file()}

    def put(self, content: Path | bytes, name: str) -> None:  # noqa: D102
        with replacing(self.path / name) as temporary:
            if isinstance(content, Path):
                shutil.copyfile(content, temporary)
            else:
                temporary.write_bytes(content)


class HubRepository:
    """A model repository of the hub, created if needed; each file is a separate commit."""

    def __init__(self, name: str, api: HfApi) -> None:
        self.api = api
        self.name = api.create_repo(name, exist_ok=True).repo_id

    def digests(self, names: Sequence[str]) -> dict[str, str]:  # noqa: D102  # as in `Target`
        found = self.api.get_paths_info(self.name, list(names))
        return {file.path: file.lfs.sha256 for file in found if getattr(file, "lfs", None)}

    def put(self, content: Path | bytes, name: str) -> None:  # noqa: D102  # the client makes no empty commit
        self.api.upload_file(
            path_or_fileobj=content, path_in_repo=name, repo_id=self.name, commit_message=f"Add {name}"
        )


def publish(target: Target, entries: Sequence[Entry], known: Iterable[Entry] = ()) -> dict[str, str]:
    """Upload the missing files, then a card that lists all that are there.

    Args:
        target: Where to.
        entries: The weights to publish.
        known: Other weights, which the card lists if they are there from earlier runs.

    Returns:
        For each entry of which no file could be uploaded, by its first file, the reason.
    """
    listed = list({entry.key: entry for entry in (*known, *entries)}.values())
    there = target.digests([file.file for entry in listed for file in entry.files])
    failed = {}
    for entry in tqdm(entries, unit="file", disable=None):
        try:
            file, path, digest = _fetched(entry)
            if there.get(file.file) != digest:
                target.put(path, file.file)
                there[file.file] = digest
        except Exception as error:  # the hub's client has no base class for its errors: network, response, file
            failed[entry.file] = _reason(error)
    rows = [(e, f, there[f.file]) for e in listed for f in e.files if f.file in there and f.accepts(there[f.file])]
    if rows:
        target.put(card(rows).encode(), CARD)
    return failed


def _fetched(entry: Entry) -> tuple[WeightsFile, Path, str]:
    """The file of an entry that could be fetched, which is told by its digest, its path and its SHA-256."""
    path = hub.fetch(entry)
    digest = digest_of(path)
    file = next((file for file in entry.files if file.accepts(digest)), None)
    if file is None:
        raise DigestError(f"{path} has the SHA-256 {digest}, which no file of the entry has")
    return file, path, digest


def _reason(error: BaseException) -> str:
    """The first line of an error and of its cause."""
    stated = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return f"{stated} ({_reason(error.__cause__)})" if error.__cause__ else stated


def card(rows: Sequence[Row]) -> str:
    """A model card with one row for each file."""
    return "\n".join(_card_lines(rows)) + "\n"


def _card_lines(rows: Sequence[Row]) -> Iterator[str]:
    licenses = sorted({entry.license.name for entry, _, _ in rows})
    stated = licenses[0].lower() if len(licenses) == 1 else "other"
    yield from ("---", "library_name: antialiased-zoo", "pipeline_tag: image-classification", f"license: {stated}")
    yield from ("tags:", "- antialiasing", "- blurpool", "---", "", "# Weights of antialiased-zoo", "")
    yield "To load these files, set `ANTIALIASED_ZOO_MIRROR` to the address of this repository or folder."
    yield from ("", "| network | file | trained on | metrics, percent | licence | SHA-256 |", "| --- " * 6 + "|")
    for entry, file, digest in rows:
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in sorted(entry.metrics.items()))
        facts = (entry.name, file.file, entry.dataset, metrics or "not stated", entry.license.name)
        mark = "" if file.sha256 else " \\*"
        yield f"| {' | '.join(facts)} | `{digest}`{mark} |"
    if not all(file.sha256 for _, file, _ in rows):
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
    known = list(manifest.load())
    of_recipe = [entry for entry in known if fnmatchcase(entry.recipe, options.recipe)]
    entries = [entry for entry in of_recipe if any(fnmatchcase(entry.model, name) for name in options.networks)]
    if not entries:
        raise ValueError("the manifest has no such weights; antialiased-zoo list shows them")
    name = options.target.removeprefix(repository.PREFIX)
    try:
        target: Target = Folder(Path(name)) if name == options.target else HubRepository(name, HfApi())
    except Exception as error:  # as in `publish`
        raise SystemExit(f"publish.py: cannot use {options.target}: {_reason(error)}") from error
    failed = publish(target, entries, known)
    for file, reason in failed.items():
        print(f"{file}: {reason}", file=sys.stderr)
    print(f"{len(entries) - len(failed)} of {len(entries)} files are in {options.target}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    run_script(main)
