"""The configuration: YAML plus dotted overrides, into frozen pydantic models that no stage has to second-guess.

Upstream names are kept: `train.args` goes verbatim to TRL's config class, `train.lora` to `peft.LoraConfig`,
`roles.*.args` to the engine, `*.sampling` to vLLM's `SamplingParams`. Unknown keys are errors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from synthloop import plugins, schema
from synthloop.credentials import find_credentials
from synthloop.engines import EngineConfig
from synthloop.errors import UserError, did_you_mean
from synthloop.mixing import Mix
from synthloop.yaml_file import read_yaml

T = TypeVar("T", bound=BaseModel)


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginRef(BaseModel):
    """A plugin by name, with the settings its own `Config` reads beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class RecipeRef(PluginRef):
    """A recipe and its share of the round's seeds (shares are normalised to sum to 1)."""

    share: float = Field(default=1.0, gt=0)


class RoleConfig(BaseModel):
    """Which engine plays a role; the other keys are the engine's own `Config`.

    `model: student` means the student as last accepted (self-improvement).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    engine: str = "vllm_offline"

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def is_student(self) -> bool:
        return self.settings.get("model") == "student"

    def engine_config(self) -> EngineConfig:
        """The engine's own config. Raises `UserError` or `pydantic.ValidationError`."""
        config: EngineConfig = plugins.configure("engine", self.engine, self.settings)
        return config


class Splits(Section):
    """How published real data becomes train, probe, gate and test. A size below 1 is a fraction, else a row count.

    Probe and gate come out of the task's 'validation' split where it has one, else out of 'train'; test likewise where
    none is published. `train`, where given, caps the real training rows (low-data studies). Near-duplicates (word
    3-gram Jaccard at or above `near_duplicate`) and rows cut from one conversation stay on one side.
    """

    train: float | None = Field(default=None, gt=0)
    probe: float = Field(default=0.15, gt=0)
    gate: float = Field(default=0.15, gt=0)
    test: float | None = Field(default=None, gt=0)
    near_duplicate: float = Field(default=0.8, gt=0, le=1)
    on_overlap: Literal["error", "drop"] = "error"


class Generate(Section):
    """What the teacher is asked each round.

    `num_seeds` conversations a round, shared out over `recipes`. `seeds: random` draws seeds from train instead of
    from failures (a control). `allocation: thompson` shares the seeds of round 2 and later out by each recipe's chance
    to gain most per teacher token (`eval/bandit.py`); it needs `mix.policy: adaptive`, whose trials measure that.
    `max_per_failure` caps the seeds one failure gives in a round. `num_demonstrations` other real rows are shown beside
    each seed's own, of its slice first, and of different labels where answers are labels.

    `non_failure_share` of the seeds of a recipe that takes either is real train examples; a recipe that is made for
    failures, or for non-failures, gets only those (`generate/seeds.py`). A sample deeper than `max_depth` is refused.
    `prompts` is a folder of Jinja files looked in before the built-in ones.
    """

    recipes: tuple[RecipeRef, ...] = ()
    num_seeds: int = Field(default=512, gt=0)
    allocation: Literal["fixed", "thompson"] = "fixed"
    seeds: Literal["failures", "random"] = "failures"
    failures_from: Literal["probe", "train"] = "probe"
    max_per_failure: int = Field(default=8, gt=0)
    non_failure_share: float = Field(default=0.25, ge=0, le=1)
    num_demonstrations: int = Field(default=2, ge=0)
    max_depth: int = Field(default=1, ge=1)
    max_in_flight: Annotated[int, plugins.Untracked] = Field(default=1024, gt=0)
    prompts: Path | None = None


class SeedOverride(Section):
    """What the loop asks of one round's seeds beyond the config, and why: `round-NNN/seed_override.json`.

    `shares` are those of recipes, by the names their seeds carry.
    """

    seeds: Literal["failures", "random"] | None = None
    shares: dict[str, Annotated[float, Field(gt=0)]] | None = None
    reason: str = Field(min_length=1)


class Curate(Section):
    """The filters, in order; a candidate goes to the next only when the one before kept it.

    Two reports stand beside the funnel: `fidelity.json`, how what was kept differs from the real train rows, and, where
    `verifier_sample` is not 0, `verifiers.json`: how often each filter that verifies keeps that many right and as many
    wrong answers of real data. The second asks the teacher and the judges, so it costs tokens. `embedding_model`, a
    folder or hub id, adds the distance of embeddings to the first.
    """

    filters: tuple[PluginRef, ...] = (
        PluginRef(name="format"),
        PluginRef(name="verify"),
        PluginRef(name="decontaminate"),
        PluginRef(name="novelty"),
    )
    fidelity: bool = True
    embedding_model: str | None = None
    verifier_sample: int = Field(default=0, ge=0)


class Train(Section):
    """How the student is trained. `objective` is a plugin of `train/objectives`.

    `args` is checked against and passed verbatim to TRL's config class, `lora` to `peft.LoraConfig`, `quantization` to
    `transformers.BitsAndBytesConfig`; `accelerate` is the file that `accelerate launch --config_file` reads;
    `auto` trains on every visible GPU, or on the CPU where there is none (`synthloop/launch.py`).
    """

    objective: str = "sft"
    args: plugins.Arguments = {}
    lora: dict[str, Any] = {}
    quantization: dict[str, Any] | None = None
    accelerate: Annotated[Literal["auto"] | Path, plugins.Untracked] = "auto"


class Eval(Section):
    """How the student is evaluated. `max_examples` caps a split (rows drawn by the seed, the same in every round)."""

    sampling: dict[str, Any] = {"temperature": 0.0, "max_tokens": 256}
    max_examples: dict[Literal["probe", "gate", "test"], int] = {}
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class Collapse(Section):
    """The frozen prompt set and the held-out text the collapse signals are measured on, each round.

    `num_samples` replies are sampled to each prompt for pass@k; with 1 it is not measured.

    `action` is what the loop does about a verdict of 'warn' or 'stop', see `synthloop/guard.py`; `none` only tells it.

    The verdict (`eval/trend.py`) is on the trend of the newest `window` rounds against `margin`, a share of a signal's
    level a round. The chance of any alarm in a run without a trend is at most `alpha` over `horizon` rounds (those of
    the run by default; 'open' for any number), given `controls`: values of the signals in real-only retrains, as
    `python -m eval.controls` writes it. Without controls `uncalibrated_margin` is used and no rate is stated.
    """

    enabled: bool = True
    action: Literal["none", "stop", "rollback", "shrink", "replay", "widen"] = "stop"
    num_prompts: int = Field(default=64, gt=1)
    num_samples: int = Field(default=4, gt=0)
    sampling: dict[str, Any] = {"temperature": 1.0, "max_tokens": 128}
    alpha: float = Field(default=0.05, gt=0, lt=1)
    window: int = Field(default=5, ge=3)
    horizon: Annotated[int, Field(ge=3)] | Literal["open"] | None = None
    margin: float = Field(default=0.005, ge=0)
    uncalibrated_margin: float = Field(default=0.02, ge=0)
    controls: Path | None = None


class Decide(Section):
    """A round is accepted when its paired gain on `gate` over the accepted round exceeds `min_gain` with a one-sided
    p-value at or below `max_p_value`. `patience` rounds in a row without acceptance stop the run."""

    min_gain: float = 0.0
    max_p_value: float = Field(default=0.1, gt=0, le=1)
    patience: int = Field(default=2, gt=0)


class Budget(Section):
    """Hard limits, checked before each round starts.

    `gpu_hours` counts the seconds of the stages that ask models or train, times the devices each holds: GPUs, or the
    CPU as one device where there is none. Servers that run elsewhere (`base_urls`) hold none.
    """

    teacher_tokens: int | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)


class Tracking(Section):
    """W&B: 'auto' is online with a key or a login, else offline. `WANDB_MODE` is obeyed where it is more private."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    project: str = "synthloop"

    @field_validator("wandb", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML 1.1 reads a bare `off` as false; `none` is what other tools call it."""
        return "off" if value is False or value == "none" else value


class Student(RoleConfig):
    """The student: `model`, `revision`, and the engine that evaluates it."""

    model: str
    revision: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"model": self.model, "revision": self.revision, **(self.model_extra or {})}


class TrainJob(Section):
    """What `train.run` needs by itself: a plain YAML with the student, the training settings and a seed."""

    student: Student
    train: Train = Train()
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, data: Any) -> Any:
        if found := list(find_credentials(data)):
            raise ValueError(
                f"{', '.join(found)}: a password or key must not stand in a config, which is written into the run "
                "directory. Export it as an environment variable (HF_TOKEN for Hugging Face, the one that api_key_env "
                "names for a server) and take it out here."
            )
        return data


class Config(TrainJob):
    """The whole run.

    A stage that asks models fails, and can be resumed, where more than `max_error_share` of its requests were not
    served, or none of the first ones; below that they are left out, counted and told (0.05 is chosen, not measured).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    rounds: int = Field(default=3, gt=0)
    max_error_share: float = Field(default=0.05, ge=0, le=1)
    task: PluginRef
    splits: Splits = Splits()
    roles: dict[str, tuple[RoleConfig, ...]] = {}
    generate: Generate = Generate()
    curate: Curate = Curate()
    mix: Mix = Mix()
    eval: Eval = Eval()
    collapse: Collapse = Collapse()
    decide: Decide = Decide()
    budget: Budget = Budget()
    tracking: Tracking = Tracking()

    @field_validator("roles", mode="before")
    @classmethod
    def _committee(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {role: one if isinstance(one, list | tuple) else (one,) for role, one in value.items()}

    @field_validator("mix")
    @classmethod
    def _weighted_recipes_exist(cls, mix: Mix, info: ValidationInfo) -> Mix:
        recipes = [one.name for one in info.data["generate"].recipes] if "generate" in info.data else None
        for name in mix.weights or {}:
            recipe = name.removeprefix("recipe:")
            if recipes is not None and recipe != name and recipe not in recipes:
                raise ValueError(f"weights: '{recipe}' is not in generate.recipes. {did_you_mean(recipe, recipes)}")
        return mix

    def committee(self, role: str) -> tuple[RoleConfig, ...]:
        """The engines that play `role`; 'student' is always there. Raises `UserError` for a role not in the config."""
        if role == "student" and role not in self.roles:
            return (self.student,)
        if role not in self.roles:
            raise UserError(
                f"roles.{role} is not in the config, and a recipe asks for it. {did_you_mean(role, self.roles)}"
            )
        return self.roles[role]


class Unread(Exception):
    """A section was asked for that could not be read, so nothing can be said of it."""


class ReadableParts(Config):
    """The sections of a config that could be read; asking for another raises `Unread`."""

    def __getattr__(self, name: str) -> Any:
        raise Unread(name)


def parse(model: type[T], data: dict[str, Any], where: str) -> T:
    """`data` as a `model`. Raises `UserError` naming every mistake at once, each with its path."""
    mistakes = schema.mistakes(model, data)
    if mistakes:
        raise UserError("\n".join(f"{where}: {line}" for line in mistakes))
    return model.model_validate(data)


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The values of the config at `path`, named after its file where it has no name. Raises `UserError`."""
    return {"name": path.stem, **read_yaml(path, overrides)}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The config at `path`. Raises `UserError` with every schema mistake; `check.check_file` looks further."""
    return parse(Config, read_config(path, overrides), str(path))


def dump(config: BaseModel) -> dict[str, Any]:
    """The config as plain JSON values, defaults written out."""
    plain: dict[str, Any] = json.loads(config.model_dump_json())
    return plain
