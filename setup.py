"""Copies the repository's one list of weights into the wheel; everything else is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "weights_manifest.json"


class BuildWithManifest(build_py):
    """Adds ``weights_manifest.json`` from the repository's root to the package.

    A clone (and so torch.hub) reads it at the root, a wheel has no root: one file, two places to find it.
    """

    def run(self) -> None:
        """Build as usual, then copy; an editable install keeps reading the root's file."""
        super().run()
        if not self.editable_mode:
            shutil.copy2(
                Path(__file__).with_name(MANIFEST), Path(self.build_lib, "antialiased_zoo", "weights", MANIFEST)
            )


setup(cmdclass={"build_py": BuildWithManifest})
