"""Metrics of each round: `metrics.jsonl` is the truth, W&B is told from it and can be replayed from it.

W&B keys have `round` as x-axis: `eval/<split>/<metric>` with `ci_low` and `ci_high`, `mix/...`, `generate/yield`,
`curate/rejected/<filter>`, `collapse/...`, `cost/...`; `mix/search/...` where the mix is adaptive. All arms of one
study share a group; a resumed run continues the same W&B run by its stored id.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Literal

from synthloop.config import dump
from synthloop.errors import UserError, did_you_mean
from synthloop.files import write_text
from synthloop.report import round_facts
from synthloop.screen import say
from synthloop.store import Run, read_json, write_json

Mode = Literal["online", "offline", "disabled"]
PRIVACY: tuple[Mode, ...] = ("online", "offline", "disabled")
MODES: dict[str, Mode] = {"run": "online", "shared": "online", "dryrun": "offline", **{mode: mode for mode in PRIVACY}}
"""What each value of WANDB_MODE comes to here; those of PRIVACY are in order, the most private last."""


def round_metrics(run: Run, round: int) -> dict[str, float | str | int]:
    """The flat metrics of a decided round, by their W&B keys."""
    facts = round_facts(run, round)
    metrics: dict[str, Any] = {"round": round, "accepted": int(facts["accepted"]), "action": facts["action"]}
    for split, scores in facts["eval"].items():
        metrics[f"eval/{split}/{scores['metric']}"] = scores["value"]
        metrics |= {f"eval/{split}/{key}": scores[key] for key in ("ci_low", "ci_high", "n", "truncated")}
        metrics[f"eval/{split}/errors"] = scores.get("errors")
        for name, part in scores["slices"].items():
            metrics[f"eval/{split}/slice/{name}"] = part["value"]
    if facts["overfitting"]:
        metrics |= {f"eval/{key}": value for key, value in facts["overfitting"].items()}
    if facts["mix"]:
        names = ("real_fraction", "real_tokens", "synthetic_tokens", "real_rows", "synthetic_rows", "max_depth")
        metrics |= {f"mix/{name}": facts["mix"][name] for name in names}
        metrics["mix/synthetic_per_real"] = facts["mix"].get("achieved", {}).get("synthetic_per_real")
        metrics["mix/asked_synthetic_per_real"] = facts["mix"].get("bounds", {}).get("synthetic_per_real")
        metrics["mix/real_loss_share"] = facts["mix"].get("real_loss_share")
        metrics |= {f"mix/depth_share/{depth}": share for depth, share in facts["mix"].get("depth_shares", {}).items()}
    metrics |= _search(facts["search"])
    metrics |= _generation(facts["generate"], facts["curate"], facts["funnel"])
    if facts["collapse"]:
        metrics["collapse/verdict"] = facts["collapse"]["verdict"]
        metrics["collapse/reaction"] = facts["reaction"]
        metrics |= {f"collapse/measure/{name}": value for name, value in facts["measures"].items()}
        metrics |= {f"collapse/{name}": value for name, value in facts["collapse"]["signals"].items()}
    metrics |= {f"cost/{name}": facts[name] for name in ("gpu_seconds", "device_seconds")}
    return {key: value for key, value in metrics.items() if value is not None}


def _search(found: dict[str, Any] | None) -> dict[str, Any]:
    """The ratio found by trials, what the best other one gains over that in force, each recipe's share, the cost."""
    if found is None:
        return {}
    best = max(found["effects"], key=lambda one: one["gain"], default=None)
    metrics = {"mix/search/ratio": found["ratio"], "mix/search/in_force": found["in_force"]}
    metrics |= (
        {f"mix/search/best_{name}": best[name] for name in ("ratio", "gain", "ci_low", "ci_high")} if best else {}
    )
    for name, share in (found["recipes"] or {"shares": {}})["shares"].items():
        metrics[f"generate/share/{name}"] = share
    return metrics | {f"cost/search/{name}": value for name, value in found["cost"].items()}


def _generation(
    generated: dict[str, Any] | None, curated: dict[str, Any] | None, funnel: dict[str, Any] | None
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        f"cost/{name}": sum(facts[name] for facts in (generated, curated) if facts)
        for name in ("prompt_tokens", "completion_tokens")
    }
    if curated:
        metrics["curate/fidelity_flagged"] = curated["fidelity_flagged"]
    if generated:
        metrics |= {
            f"generate/{name}": generated[name] for name in ("requests", "candidates", "kept", "truncated", "errors")
        }
    if funnel:
        asked = funnel["kept"] + sum(funnel["rejected"].values())
        metrics["generate/yield"] = funnel["kept"] / asked if asked else 0.0
        metrics |= {f"curate/rejected/{name}": count for name, count in funnel["rejected"].items()}
    return metrics


def log_round(run: Run, round: int) -> dict[str, Any]:
    """Write the round's line of `metrics.jsonl`, where another stands there, and return its metrics.

    Lines are in the order of the rounds. The best round's is replaced when its `test` score is measured.
    """
    metrics, before = round_metrics(run, round), read_metrics(run)
    lines = {**metric_lines(before, run.rounds()), round: json.dumps(metrics)}
    text = "".join(f"{lines[one]}\n" for one in sorted(lines))
    if text != before:
        write_text(run.root / "metrics.jsonl", text)
    return metrics


def read_metrics(run: Run) -> str:
    """The text of `metrics.jsonl`, as far as it is text."""
    path = run.root / "metrics.jsonl"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def metric_lines(text: str, rounds: Collection[int]) -> dict[int, str]:
    """Round -> its line of `metrics.jsonl`, the last where there are several; any other line is left out."""
    lines: dict[int, str] = {}
    for line in text.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            lines[json.loads(line)["round"]] = line
    return {round: line for round, line in lines.items() if round in rounds}


class Wandb:
    """Tells W&B of each round. Opened at the first round.

    wandb 0.31 writes whole blocks of 32 KiB alone until it is finished, so a line counts as logged once a session that
    had it was closed. What a killed session had is told again by the next one: a round may then stand there twice.
    """

    def __init__(self, run: Run, mode: Mode) -> None:
        self._run = run
        self._mode = mode
        self._state_path = run.root / "wandb.json"
        self._state: dict[str, Any] = (
            read_json(self._state_path) if self._state_path.exists() else {"id": secrets.token_hex(4), "logged": []}
        )
        self._unfinished: list[str] = []
        self._wandb: Any = None

    def log(self, metrics: dict[str, Any]) -> None:
        """Log one line of `metrics.jsonl`, unless this session or a closed one had it."""
        line = json.dumps(metrics)
        if line in self._state["logged"] or line in self._unfinished:
            return
        if self._wandb is None:
            write_json(self._state_path, self._state, sealed=True)
            self._wandb = self._open()
        self._wandb.log(metrics)
        if reaction := metrics.get("collapse/reaction"):
            self._wandb.alert(
                title=f"collapse: {metrics['collapse/verdict']} in round {metrics['round']}", text=reaction
            )
        self._unfinished.append(line)

    def _open(self) -> Any:
        import wandb

        config = self._run.config
        # Neither the command line, the git remote nor the machine is told: each may hold a token or a name. Nor is a
        # crash of W&B's own reported to W&B.
        private = {"x_disable_meta": True, "disable_git": True, "save_code": False, "disable_code": True}
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        opened = wandb.init(
            project=config.tracking.project,
            group=os.environ.get("WANDB_RUN_GROUP", config.name),
            name=self._run.root.name,
            id=self._state["id"],
            resume="allow",
            mode=self._mode,
            dir=self._run.root,
            config=without_credentials(dump(config)),
            settings=wandb.Settings(console="off", silent=True, **private),
        )
        opened.define_metric("round")
        opened.define_metric("*", step_metric="round")
        return opened

    def close(self) -> None:
        """Have W&B write everything, then mark it as logged."""
        if self._wandb is None:
            return
        self._wandb.finish()
        self._state["logged"] += self._unfinished
        self._unfinished = []
        write_json(self._state_path, self._state, sealed=True)


def without_credentials(value: Any, key: str = "") -> Any:
    """A config's values without passwords in URLs and without what stands under a key that names a secret."""
    if isinstance(value, dict):
        return {name: without_credentials(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [without_credentials(one, key) for one in value]
    if not isinstance(value, str):
        return value
    return "(not sent)" if _SECRET.search(key) else _IN_URL.sub("", value)


_SECRET = re.compile(r"(?i)(^|_)(api_?key|password|secret|authorization|(hf|auth|access)_token)$|^token$")
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def wandb_mode(
    asked: Literal["auto", "online", "offline", "off"], named: str | None, has_key: Callable[[], bool]
) -> Mode:
    """W&B's own mode: the more private of what the config and the environment ask for.

    Args:
        asked: `tracking.wandb`; 'auto' is online with a key or a login, else offline.
        named: the mode that `WANDB_MODE`, `WANDB_DISABLED` or `wandb offline` name; None where they say nothing.
        has_key: whether W&B finds a key; asked only where nothing forbids to go online.

    Raises:
        UserError: `named` is no mode of W&B's, or online is asked for without a key.
    """
    if named is not None and named not in MODES:
        raise UserError(f"WANDB_MODE is '{named}'. {did_you_mean(named, MODES)}")
    wishes = [MODES[named]] if named is not None else []
    wishes += [] if asked == "auto" else ["disabled" if asked == "off" else asked]
    wish = max(wishes, key=PRIVACY.index, default=None)
    if wish in ("offline", "disabled"):
        return wish
    if has_key():
        return "online"
    if wish == "online":
        raise UserError("W&B is to be online and has no key. Log in with `wandb login`, or set tracking.wandb=offline.")
    return "offline"


def named_mode() -> str | None:
    """The mode that the environment or W&B's settings files name; None where they say nothing."""
    if os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no"):
        return "disabled"
    if named := os.environ.get("WANDB_MODE"):
        return named.lower()
    os.environ.pop("WANDB_MODE", None)  # wandb 0.31 refuses an empty one
    import wandb

    saved: str = wandb.setup(wandb.Settings(silent=True)).settings.mode
    return None if saved == "online" else saved  # what `wandb offline` wrote; online is W&B's default


def has_key() -> bool:
    """Whether W&B finds a key in the environment, the netrc of `wandb login` or its settings; nothing is sent."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise UserError(f"W&B's key can't be used: {error} Log in anew, or set tracking.wandb=offline.") from error


class Tracker:
    """Writes `metrics.jsonl` after each round and, unless it is off, tells W&B. Says at the start where that goes."""

    def __init__(self, run: Run) -> None:
        """Raises `UserError` where W&B is asked for what it cannot do."""
        tracking = run.config.tracking
        self._wandb = None
        if tracking.wandb == "off":
            return
        mode = wandb_mode(tracking.wandb, named_mode(), has_key)
        if mode != "disabled":
            self._wandb = Wandb(run, mode)
        folder = run.root / "wandb"
        where = {
            "online": f"project '{tracking.project}'. To keep it here: tracking.wandb=offline",
            "offline": f"in {folder}. To send it: wandb sync {folder}/offline-run-*",
            "disabled": "as WANDB_MODE or WANDB_DISABLED says",
        }
        say(f"W&B: {'off' if mode == 'disabled' else mode}, {where[mode]}")

    def __call__(self, run: Run, round: int) -> None:
        metrics = log_round(run, round)
        if self._wandb is not None:
            self._wandb.log(metrics)

    def close(self) -> None:
        if self._wandb is not None:
            self._wandb.close()
