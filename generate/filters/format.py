"""Is it a well-formed sample: a problem and an answer that ended, parses, and is no debris of a prompt.

    curate: {filters: [{name: format, max_input_words: 400}]}

The checks are those that every synthetic-data pipeline ends up with (for one list: Self-Instruct, Wang et al., 2022,
arXiv:2212.10560, section 2.2). Limits are chosen, not measured.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.characters import count_words
from synthloop.records import Candidate, Decision
from synthloop.similarity import normalise


class Config(BaseModel):
    """Length bounds in words, and texts that only occur when a prompt or a chat template leaked into a reply."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_input_words: int = Field(default=1, ge=0)
    max_input_words: int = Field(default=2000, gt=0)
    max_completion_words: int = Field(default=4000, gt=0)
    markers: tuple[str, ...] = (
        "<|",
        "|>",
        "[INST]",
        "[/INST]",
        "<problem>",
        "</problem>",
        "<correct_answer>",
        "<student_answer>",
        "here is a new problem",
        "here's a new problem",
        "as an ai language model",
    )


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return [_check(cfg, one, ctx) for one in batch]


def _check(cfg: Config, one: Candidate, ctx: FilterContext) -> Decision:
    input_words, completion_words = count_words(one.input), count_words(one.completion)
    text = f"{one.input}\n{one.completion}".casefold()
    leaked = next((marker for marker in cfg.markers if marker.casefold() in text), None)
    if not one.input.strip() or not one.completion.strip():
        return refuse("empty: the problem or the answer has no text")
    if one.truncated:
        return refuse("truncated: a reply hit max_tokens")
    if not cfg.min_input_words <= input_words <= cfg.max_input_words:
        return refuse(f"length: the problem has {input_words} words", input_words)
    if completion_words > cfg.max_completion_words:
        return refuse(f"length: the answer has {completion_words} words", completion_words)
    if leaked is not None:
        return refuse(f"marker: contains {leaked!r}")
    if len(one.input) > 40 and normalise(one.input) in normalise(one.completion):
        return refuse("echo: the answer repeats the problem")
    if ctx.task.score(ctx.score_example(one), one.completion).parsed is None:
        return refuse("no answer: the scorer finds no answer in the completion")
    return KEEP
