"""Saves networks with their structure, and uploads them to the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights import NetworkConfig, Preprocessing, checkpoints, replacing, repository
from .model_card import model_card
from .timm_config import pretrained_cfg

if TYPE_CHECKING:
    from .backbone import Backbone


def save_pretrained(
    model: Backbone,
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    metrics: dict[str, float] | None = None,
    license: str | None = None,
    dataset: str | None = None,
) -> Path:
    """Write a network's weights, its structure and a model card into a folder.

    ``model.safetensors`` holds the tensors and, in its metadata, the structure. ``config.json``
    holds the structure and timm's configuration, so that timm can load the folder if it has the
    same network. ``README.md`` is the model card.

    Args:
        model: A network that `create_model` built.
        folder: Folder to write to, created if it does not exist; existing files are replaced.
        classes: Class names in the order of the outputs. Default: the weights'.
        preprocessing: How an image becomes the input. Default: the weights'.
        metrics: Metrics in percent, measured with that preprocessing.
        license: Licence of the weights, as an SPDX identifier.
        dataset: The training set.

    Returns:
        The folder.

    Raises:
        TypeError: If it is not a network that `create_model` built.
        ValueError: If there are not as many class names as classes.
        antialiased_zoo.errors.StructureMismatchError: If the network was changed since it was
            built.

    Example:
        >>> import tempfile, antialiased_zoo as az
        >>> folder = save_pretrained(az.resnet18(num_classes=2), tempfile.mkdtemp(), classes=("cat", "dog"))
        >>> az.from_pretrained(folder).config.classes
        ('cat', 'dog')
    """
    if not hasattr(model, "config_to_save"):
        raise TypeError(
            f"save_pretrained() takes a network that create_model() built, got {type(model).__name__}: of a wrapper, "
            "give the module inside; of any other network, torch.save() the state_dict(), which states how it was "
            "antialiased"
        )
    given = {
        "classes": None if classes is None else tuple(classes),
        "preprocessing": preprocessing,
        "metrics": metrics,
        "license": license,
        "dataset": dataset,
    }
    stated: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = replace(model.config_to_save(), **stated)
    if config.classes is not None and len(config.classes) != config.num_classes:
        raise ValueError(f"classes has {len(config.classes)} names, but the network has {config.num_classes} classes")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    metadata = {"format": "pt", NetworkConfig.KEY: config.to_json()}
    texts = {repository.CONFIG: _config_json(model, config), "README.md": model_card(config)}
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with replacing(folder / repository.WEIGHTS) as temporary:
        checkpoints.write_safetensors(temporary, state, metadata)
    return folder


def _config_json(model: Backbone, config: NetworkConfig) -> str:
    facts = {name: value for name, value in pretrained_cfg(model).items() if value is not None}
    facts["license"] = config.license
    top = {
        "architecture": facts.pop("architecture"),
        "num_classes": config.num_classes,
        "num_features": model.num_features,
        "global_pool": config.global_pool,
        "model_args": {"in_chans": config.in_chans} if config.in_chans != 3 else {},
        "label_names": list(config.classes) if config.classes else None,
        "pretrained_cfg": facts,
        NetworkConfig.KEY: json.loads(config.to_json()),
    }
    return json.dumps({name: value for name, value in top.items() if value not in (None, {})}, indent=2) + "\n"


def push_to_hub(
    model: Backbone,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Add the network",
    token: str | None = None,
    **facts: Any,
) -> str:
    """Upload what `save_pretrained` writes to a repository of the Hugging Face Hub, created if it does not exist.

    Args:
        model: A network that `create_model` built.
        repo_id: ``"owner/name"``.
        private: Whether a new repository is private. Default: the owner's setting.
        revision: Branch to commit to. Default: the main branch.
        commit_message: Message of the commit.
        token: Access token. Default: the one that ``hf auth login`` stored.
        **facts: See `save_pretrained`.

    Returns:
        The URL of the commit.
    """
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, **facts)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        done = api.upload_folder(repo_id=repo, folder_path=folder, revision=revision, commit_message=commit_message)
    return str(getattr(done, "commit_url", done))
