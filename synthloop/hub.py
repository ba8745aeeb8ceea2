"""What the Hugging Face hub says of the models and data sets of a config; asked by `synthloop check --online` only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from synthloop.check_models import served_here
from synthloop.config import Config
from synthloop.errors import did_you_mean
from synthloop.model_folder import looks_local

TIMEOUT_S = 20.0
"""For one answer of the hub; chosen, not measured."""


class Named(NamedTuple):
    """A model or data set that the config names by its hub id."""

    path: str
    kind: str
    name: str
    revision: str | None = None
    subset: str | None = None


class Said(NamedTuple):
    """What the hub said: a line on what is there, and what stands against using it."""

    found: str
    mistake: str | None = None


def named(config: Config) -> Iterator[Named]:
    """Every model, tokenizer and data set of the config that is not local."""
    for path, role in served_here(config):
        for key in ("model", "tokenizer"):
            name = role.settings.get(key)
            if isinstance(name, str) and not looks_local(name):
                yield Named(f"{path}.{key}", "model", name, role.settings.get("revision"))
    embedding = config.curate.embedding_model
    if embedding is not None and not looks_local(embedding):
        yield Named("curate.embedding_model", "model", embedding)
    task = config.task.settings
    name = task.get("dataset")
    if isinstance(name, str) and task.get("path") is None and not looks_local(name):
        yield Named("task.dataset", "dataset", name, task.get("revision"), task.get("subset"))


def ask(one: Named) -> Said:
    """Ask the hub whether it is there, open to this user, and has the revision and subset. `HF_ENDPOINT` counts."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        return Said("not asked", "asking the hub needs the package huggingface_hub, which is not installed here.")
    import httpx

    where = f"https://huggingface.co/{'datasets/' if one.kind == 'dataset' else ''}{one.name}"
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        info = api.repo_info(one.name, repo_type=one.kind, revision=one.revision, timeout=TIMEOUT_S)
        if getattr(info, "gated", False):
            api.auth_check(one.name, repo_type=one.kind)
    except GatedRepoError:
        return Said("gated", f"'{one.name}' is gated: accept its terms at {where} and log in with `hf auth login`.")
    except RevisionNotFoundError:
        return Said("no such revision", f"'{one.name}' has no revision '{one.revision}'.")
    except RepositoryNotFoundError:
        return Said("not there", f"the hub has no {one.kind} '{one.name}', or it is private and you are not logged in.")
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        return Said("no answer", f"the hub did not answer for '{one.name}': {str(error).splitlines()[0]}")
    return _described(one, info)


def _described(one: Named, info: Any) -> Said:
    files = {file.rfilename for file in info.siblings or ()}
    found = f"{one.kind}, revision {str(info.sha)[:12]}, {len(files)} files"
    if one.kind == "dataset":
        card = info.card_data.to_dict() if info.card_data else {}
        subsets = [part["config_name"] for part in card.get("configs") or () if "config_name" in part]
        if one.subset is not None and subsets and one.subset not in subsets:
            return Said(found, f"'{one.name}' has no subset '{one.subset}'. {did_you_mean(one.subset, subsets)}")
        return Said(found)
    if one.path.endswith("tokenizer"):
        return Said(found)
    if "config.json" not in files:
        return Said(found, f"'{one.name}' has no config.json, so transformers cannot load it.")
    return Said(found)
