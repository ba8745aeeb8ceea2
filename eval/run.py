"""Evaluate the student of one round on held-out real data.

    python -m eval.run --run runs/quickstart --round 2
    python -m eval.run --run runs/quickstart --round 0 --stage eval --stage test

Stage `eval` (the default) asks the student every example of `probe` and `gate` and writes `eval/<split>.jsonl`
(`Prediction`, in the order of the examples), `eval/scores.json`, `failures.jsonl` (`Failure`, of `probe`; of `train`
where `generate.failures_from` says so) and `collapse.json`. Stage `test` writes `eval/test.jsonl` and `eval/test.json`;
nothing is ever chosen by it. Several stages in one call share one engine.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from eval import collapse, failures
from eval.scores import compare, summarise
from eval.student import Answers, Student, answer
from synthloop.child import open_run, run_child, stage_parser
from synthloop.errors import UserError
from synthloop.integrity import is_there
from synthloop.randomness import draw
from synthloop.records import Candidate, Example, Prediction
from synthloop.store import Run, Writer, read_json, read_rows, write_json, write_rows
from synthloop.task import open_task
from synthloop.taught import refuse_unlearnable

log = logging.getLogger("synthloop.eval")

UNREADABLE = 0.5
"""A share of answers cut or without an answer above which a score is about the format (chosen, not measured)."""


def main(arguments: argparse.Namespace) -> None:
    """Run the asked stages that are not complete yet."""
    run = open_run(arguments)
    stages = {"eval": evaluate, "test": test}
    with Student(run, run.adapter(arguments.round)) as student:
        for name in dict.fromkeys(arguments.stage or ["eval"]):
            if run.stage(arguments.round, name).is_complete:
                log.info("Stage %s of round %d is complete already.", name, arguments.round)
            else:
                stages[name](run, arguments.round, student)


def evaluate(run: Run, round: int, student: Student) -> None:
    """Stage `eval`: scores on probe and gate, failures, collapse signals."""
    source = run.config.generate.failures_from
    splits = list(dict.fromkeys(["probe", "gate", source]))
    compared = sorted({0, run.accepted_round(before=round)}) if round > 0 else []
    inputs = [run.split(name) for name in splits]
    inputs += [predictions_path(run, against, name) for against in compared for name in ("probe", "gate")]
    inputs += _present(run.adapter(round), run.round_dir(round) / "mix.json")
    if run.config.collapse.enabled:
        inputs += [*_present(run.split("train"), curated_path(run, round)), *_earlier(run, round).values()]
    inputs = list(dict.fromkeys(inputs))
    with run.stage(round, "eval").write(inputs) as stage:
        examples = {name: read_split(run, name) for name in splits}
        if round == 0:
            task = open_task(run.config.task.name, run.config.task.settings)
            real = read_rows(run.split("train"), Example) if is_there(run.split("train")) else []
            refuse_unlearnable(student.config, task, [*real, *examples["probe"], *examples["gate"]])
        answers = {name: _answer(run, student, name, examples[name], stage) for name in splits}
        scores: dict[str, Any] = {"splits": _summaries(run, answers)}
        if round > 0:
            scores["paired"] = _paired(run, answers, compared[-1])
            scores["paired_baseline"] = _paired(run, answers, 0)
        write_json(stage.folder / "eval" / "scores.json", scores)
        found = failures.collect(source, examples[source], answers[source].predictions, answers[source].errors)
        stage.notes["failures"] = write_rows(stage.folder / "failures.jsonl", found)
        if run.config.collapse.enabled:
            signs = _collapse(run, round, student, examples["gate"], scores["splits"]["gate"])
            write_json(stage.folder / "collapse.json", signs)
        stage.notes.update(student.take_usage())


def test(run: Run, round: int, student: Student) -> None:
    """Stage `test`: the headline number, at the baseline and for the best round at the end."""
    inputs = [run.split("test"), *_present(run.adapter(round))]
    inputs += [predictions_path(run, 0, "test")] if round > 0 else []
    with run.stage(round, "test").write(inputs) as stage:
        answers = {"test": _answer(run, student, "test", read_split(run, "test"), stage)}
        scores: dict[str, Any] = {"splits": _summaries(run, answers)}
        if round > 0:
            scores["paired"] = _paired(run, answers, 0)
        write_json(stage.folder / "eval" / "test.json", scores)
        stage.notes.update(student.take_usage())


def read_split(run: Run, name: str) -> list[Example]:
    """The examples a split is evaluated on: `eval.max_examples` drawn by the run's seed, all where that is not set.

    Raises:
        UserError: there are none.
    """
    cap = {str(split): count for split, count in run.config.eval.max_examples.items()}.get(name)
    examples = read_rows(run.split(name), Example)
    if cap is not None:
        examples = draw(examples, cap, run.config.seed)
    if not examples:
        raise UserError(f"{run.split(name)}: the split '{name}' has no examples. Check splits and eval.max_examples.")
    return examples


def predictions_path(run: Run, round: int, split: str) -> Path:
    """Where a round's predictions on a split are kept."""
    return run.round_dir(round) / "eval" / f"{split}.jsonl"


def curated_path(run: Run, round: int) -> Path:
    """The synthetic rows that the round's curation kept."""
    return run.round_dir(round) / "curated.jsonl"


def _earlier(run: Run, round: int) -> dict[int, Path]:
    """The `collapse.json` of each round before `round` that has one."""
    paths = {before: run.round_dir(before) / "collapse.json" for before in range(round)}
    return {before: path for before, path in paths.items() if is_there(path)}


def _present(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None and is_there(path)]


def _answer(run: Run, student: Student, split: str, examples: list[Example], stage: Writer) -> Answers:
    task = open_task(run.config.task.name, run.config.task.settings)
    answers = answer(student, task, examples, run.config.eval.sampling, split)
    write_rows(stage.folder / "eval" / f"{split}.jsonl", answers.predictions)
    return answers


def _summaries(run: Run, answers: dict[str, Answers]) -> dict[str, Any]:
    task = open_task(run.config.task.name, run.config.task.settings)
    scores = {}
    for split, answered in answers.items():
        scores[split] = summarise(task.metric, answered.predictions, run.config.eval.confidence, run.config.seed)
        log.info("%s", _line(split, scores[split]))
        if (warning := unreadable(split, scores[split])) is not None:
            log.warning("%s", warning)
    return scores


def unreadable(split: str, scores: dict[str, Any]) -> str | None:
    """What to change where most answers were cut or hold no answer; None where fewer than `UNREADABLE` are so."""
    truncated, unparsed, n = scores["truncated"], scores["unparsed"], scores["n"]
    if truncated + unparsed < UNREADABLE * n:
        return None
    remedies = ["raise eval.sampling.max_tokens"] if truncated else []
    remedies += ["let task.prompt ask for what the scorer reads"] if unparsed else []
    return (
        f"{split}: {truncated} of {n} answers were cut at max_tokens, and in {unparsed} more the scorer found no "
        f"answer, so the score says little. Read eval/{split}.jsonl; {', and '.join(remedies)}."
    )


def _line(split: str, scores: dict[str, Any]) -> str:
    text = "{metric} {value:.3f} [{ci_low:.3f}, {ci_high:.3f}] n={n}".format(**scores)
    counts = {name: scores[name] for name in ("truncated", "unparsed", "errors") if scores[name]}
    return f"{split}: {text}" + "".join(f", {name} {count}" for name, count in counts.items())


def _paired(run: Run, answers: dict[str, Answers], against: int) -> dict[str, Any]:
    """The paired gains over round `against` on every held-out split."""
    held_out: dict[str, list[Prediction]] = {name: one.predictions for name, one in answers.items() if name != "train"}
    confidence, seed = run.config.eval.confidence, run.config.seed
    return {
        name: compare(predictions_path(run, against, name), predictions, against, confidence, seed)
        for name, predictions in held_out.items()
    }


def _collapse(run: Run, round: int, student: Student, gate: list[Example], scores: dict[str, Any]) -> dict[str, Any]:
    mix_path, pool = run.round_dir(round) / "mix.json", curated_path(run, round)
    curated = read_rows(pool, Candidate) if is_there(pool) else []
    train = read_rows(run.split("train"), Example) if is_there(run.split("train")) else []
    mix = read_json(mix_path) if is_there(mix_path) else None
    seen = collapse.observe(student, run.config, collapse.Rows(gate, train, curated), scores, mix)
    earlier = {before: read_json(path) for before, path in _earlier(run, round).items()}
    signs = collapse.verdict(seen, round, earlier, run.config)
    log.info("collapse: %s, %s", signs["verdict"], signs["reason"])
    return signs


def parser() -> argparse.ArgumentParser:
    options = stage_parser(__doc__)
    options.add_argument("--stage", action="append", choices=("eval", "test"), help="may be given twice; default: eval")
    return options


if __name__ == "__main__":
    run_child(main, parser=parser())
