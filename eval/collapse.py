"""The first signs of model collapse, measured each round on the same frozen prompts and the same real text.

Fit and diversity are two channels because each alone is blind: a student may fit real text ever worse while writing
varied nonsense, or lose the tails of what it writes at an unchanged loss (Shumailov et al. 2024, Nature 631:755). The
signals are in `eval/signals.py`, how their trend is tested in `eval/trend.py`.

The student writes `collapse.num_samples` replies to each of `collapse.num_prompts` prompts of `gate`, drawn once by a
seeded hash, each reply with its own seed, the same in every round: rounds differ by the student alone. All replies are
scored (pass@k); the first to each prompt are what diversity is measured on.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval import diversity, signals, trend
from eval.signals import Likelihood, Observation
from eval.student import Student
from synthloop import chat
from synthloop.config import Collapse, Config
from synthloop.errors import UserError
from synthloop.randomness import derive_seed, draw
from synthloop.records import Candidate, Completion, Example, Request
from synthloop.store import read_json
from synthloop.task import Task, open_task

log = logging.getLogger("synthloop.eval")

WORDS_PER_REPLY, WORDS_PER_ROW = 4, 16
"""Words that are looked at of a reply and of a kept synthetic row, on average: a quarter of what real text has at the
median, these at the most (chosen, not measured: the fewer, the shorter texts may become and still be compared)."""

SEEDS_PER_ROW = 4
"""Of the kept synthetic rows one to this many seeds is looked at, so that curation may keep fewer (chosen)."""

MAX_REAL_ROWS = 2_000
"""More train rows add little to what is rare in them, and tokenising them takes a second per thousand (chosen)."""


class Rows(NamedTuple):
    """What the signals are measured on: real rows of two splits, and the round's kept synthetic rows."""

    gate: Sequence[Example]
    train: Sequence[Example]
    curated: Sequence[Candidate]


def observe(
    student: Student, config: Config, rows: Rows, scores: dict[str, Any], mix: dict[str, Any] | None
) -> Observation:
    """Ask the student for everything the signals need. `scores` is the entry of `gate` in `eval/scores.json`."""
    cfg = config.collapse
    train = draw(rows.train, MAX_REAL_ROWS, student.seed)
    likelihood = real_text_nll(student, rows.gate, train)
    frozen = frozen_prompts(rows.gate, cfg.num_prompts, student.seed)
    if len(frozen) < cfg.num_prompts:
        log.warning("gate has %d examples, fewer than collapse.num_prompts=%d", len(frozen), cfg.num_prompts)
    task = open_task(config.task.name, config.task.settings)
    num_samples = cfg.num_samples if task.judge_role is None else 1  # every sample would have to be judged
    answers = sample_replies(student, frozen, cfg.sampling, num_samples)
    replies = [first for first, *_ in answers.values()]
    completions, texts = [one.completion for one in train], [whole_text(one) for one in train]
    per_reply, per_row = words_per_text(completions, WORDS_PER_REPLY), words_per_text(texts, WORDS_PER_ROW)
    kept = [whole_text(one) for one in rows.curated]
    return Observation(
        likelihood=likelihood,
        scores=scores,
        replies=replies,
        written=diversity.sample([reply.text for reply in replies], per_reply * len(replies), per_reply),
        real=diversity.reference(completions),
        pool=pool_sample(kept, per_row, config.generate.num_seeds) if kept else None,
        real_pool=diversity.reference(texts),
        mix=mix,
        passes=score_passes(task, frozen, answers) if num_samples > 1 else (),
    )


def sample_replies(
    student: Student, frozen: Sequence[Example], sampling: Mapping[str, Any], num_samples: int
) -> dict[str, list[Completion]]:
    """Example id -> its sampled replies; prompts that the engine refuses are left out."""
    requests = [
        Request(
            id=one.id,
            role="student",
            messages=one.messages,
            sampling={
                "seed": derive_seed(student.seed, "collapse", one.id, *([sample] if sample else [])),
                **sampling,
            },
            sample_index=sample,
        )
        for sample in range(num_samples)
        for one in frozen
    ]
    answers: dict[str, list[Completion]] = {}
    for request, reply in zip(requests, student.ask(requests, "collapse"), strict=True):
        if reply.finish_reason != "error":
            answers.setdefault(request.id, []).append(reply)
    return answers


def score_passes(
    task: Task, frozen: Sequence[Example], answers: Mapping[str, Sequence[Completion]]
) -> list[tuple[int, int]]:
    """(right, samples) of each frozen prompt that was answered."""
    return [
        (sum(task.score(one, reply.text).correct for reply in answers[one.id]), len(answers[one.id]))
        for one in frozen
        if one.id in answers
    ]


def whole_text(row: Example | Candidate) -> str:
    """What a synthetic row is compared with a real one by: a recipe may write either part."""
    return f"{row.input}\n{row.completion}"


def words_per_text(real: Sequence[str], most: int) -> int:
    """How many words of a text are looked at where people write `real`: the same in every round."""
    lengths = [len(diversity.words(one)) for one in real]
    return max(1, min(most, int(statistics.median(lengths)) // 4)) if lengths else most


def pool_sample(rows: Sequence[str], per_row: int, num_seeds: int) -> diversity.Sample:
    """Kept synthetic rows, to be looked at up to the same budget in every round, whatever curation kept."""
    return diversity.sample(rows, per_row * math.ceil(num_seeds / SEEDS_PER_ROW), per_row)


def frozen_prompts(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` of `examples`, drawn by a seeded hash of their ids: the same whatever their order."""
    return sorted(examples, key=lambda one: (derive_seed(seed, "frozen", one.id), one.id))[:count]


def real_text_nll(student: Student, examples: Sequence[Example], train: Sequence[Example]) -> Likelihood | None:
    """The negative log-likelihood of the completions, end of turn included, given their prompts.

    Rare are tokens that the completions of `train` rarely hold, or never. None where the engine gives no
    log-probabilities of prompts. Conversations longer than the context are left out, with a counted warning.
    """
    cfg = student.config
    tokenizer = chat.load_tokenizer(cfg.tokenizer or cfg.model, cfg.revision)

    def completion_ids(one: Example) -> list[int]:
        return chat.completion_ids(tokenizer, one.messages, one.completion, **cfg.chat_template_kwargs)

    completions = [completion_ids(one) for one in examples]
    requests = []
    for one, completion in zip(examples, completions, strict=True):
        ids = (*chat.prompt_ids(tokenizer, one.messages, **cfg.chat_template_kwargs), *completion)
        # One token must be generated; 0 asks for the log-probability of each prompt token and no alternatives.
        sampling = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        requests.append(Request(id=one.id, role="student", prompt_token_ids=ids, sampling=sampling))
    replies = student.ask(requests, "likelihood")
    served = [(ids, one) for ids, one in zip(completions, replies, strict=True) if one.finish_reason != "error"]
    if len(served) < len(replies):
        refused = len(replies) - len(served)
        log.warning("collapse/nll leaves out %d of %d texts longer than the context", refused, len(replies))
    if any(one.prompt_logprobs is None for _, one in served):
        log.warning("this engine gives no log-probabilities of prompts: collapse/nll is not measured")
        return None
    # From the end, as the prompt comes first.
    pairs = [zip(reversed(ids), reversed(one.prompt_logprobs or ()), strict=False) for ids, one in served]
    scored = [(token, logprob) for pair in pairs for token, logprob in pair if logprob is not None]
    known = Counter(token for one in train for token in completion_ids(one))
    common = known.keys() - diversity.rare_types(known)
    rare = [logprob for token, logprob in scored if token not in common]
    return Likelihood(-math.fsum(logprob for _, logprob in scored), len(scored), -math.fsum(rare), len(rare))


def verdict(seen: Observation, round: int, earlier: Mapping[int, dict[str, Any]], config: Config) -> dict[str, Any]:
    """The contents of `collapse.json`. `earlier` holds the `collapse.json` of rounds before, by round."""
    measured = signals.measure(seen)
    rounds = {**{number: comparable(one, seen) for number, one in earlier.items()}, round: measured}
    trends = signals.trends(config.collapse.num_prompts)
    history = {name: {number: one.get(name) for number, one in rounds.items()} for name in trends}
    controls = comparable_controls(config.collapse.controls, seen)
    judged = trend.judge(history, trends, controls, rule(config.collapse, config.rounds))
    _warn_of_short_texts(seen)
    return {
        **judged.as_json(),
        "signals": measured,
        "baseline": earlier[0]["signals"] if 0 in earlier else measured,
        "measured_on": {
            **budgets(seen),
            "nll_tokens": seen.likelihood.tokens if seen.likelihood else 0,
            "nll_rare_tokens": seen.likelihood.rare_tokens if seen.likelihood else 0,
            "prompts": len(seen.replies),
            "words": seen.written.num_words,
            "budget_words": seen.written.budget,
            "budget_reached": seen.written.is_reached,
            "data_rows": len(seen.pool.texts) if seen.pool else 0,
            "data_words": seen.pool.num_words if seen.pool else 0,
            "data_budget_words": seen.pool.budget if seen.pool else 0,
            "data_budget_reached": seen.pool.is_reached if seen.pool else False,
        },
    }


def budgets(seen: Observation) -> dict[str, int | None]:
    """At how many words of a text diversity was measured; None where there was no text of that kind."""
    return {
        "words_per_reply": seen.written.words_per_text,
        "words_per_row": seen.pool.words_per_text if seen.pool else None,
    }


def comparable(found: Mapping[str, Any], seen: Observation) -> dict[str, Any]:
    """`found["signals"]` (of a round, or of controls) without the diversity of texts at another budget than `seen`."""
    now, then = budgets(seen), found.get("measured_on", {})
    prefixes = {"words_per_reply": "", "words_per_row": "data_"}
    others = {prefixes[key] + name for key in now if now[key] != then.get(key) for name in diversity.MEASURES}
    return {name: value for name, value in found["signals"].items() if name not in others}


def comparable_controls(path: Path | None, seen: Observation) -> dict[str, list[float]] | None:
    """The controls that say how the signals of `seen` vary. What was measured otherwise is left out, with a warning."""
    controls = read_controls(path)
    if path is None or controls is None:
        return None
    kept = comparable(read_json(path), seen)
    if lost := [name for name in controls.keys() - kept.keys() if name in diversity.MEASURES or seen.pool]:
        log.warning(
            "%s: measured at another number of words of a text, or by an earlier version, so not tested: %s. Collect "
            "the controls again to have them tested.",
            *(path, ", ".join(sorted(lost))),
        )
    return kept


def _warn_of_short_texts(seen: Observation) -> None:
    for what, sample in (("the student's replies", seen.written), ("the kept synthetic rows", seen.pool)):
        if sample and not sample.is_reached:
            log.warning(
                "collapse: the diversity of %s is not measured in this round: %d texts of %d words in all are less "
                "than the budget of %d words, %d of a text, at which rounds are compared",
                *(what, len(sample.texts), sample.num_words, sample.budget, sample.words_per_text),
            )


def rule(cfg: Collapse, rounds: int) -> trend.Rule:
    """The settings as the test takes them; the horizon is the run's `rounds` where none is set."""
    horizon = None if cfg.horizon == "open" else cfg.horizon or rounds
    return trend.Rule(cfg.alpha, cfg.window, horizon, cfg.margin, cfg.uncalibrated_margin)


def read_controls(path: Path | None) -> dict[str, list[float]] | None:
    """Signal -> values of real-only retrains, as `eval/controls.py` writes them.

    Raises:
        UserError: there is no such file, or something else is in it.
    """
    if path is None:
        return None
    found = read_json(path)
    by_signal: dict[str, list[float]] = found.get("signals", {}) if isinstance(found, dict) else {}
    values = [value for many in by_signal.values() for value in many] if _are_lists(by_signal) else []
    if not values or not all(isinstance(value, int | float) for value in values):
        raise UserError(
            f"{path}: collapse.controls should be {{'signals': {{signal: [numbers]}}}}. "
            "`python -P -m eval.controls --run RUN --out FILE CONTROL_RUN ...` writes it."
        )
    return by_signal


def _are_lists(by_signal: Any) -> bool:
    return isinstance(by_signal, dict) and all(isinstance(many, list) for many in by_signal.values())
