"""The inflection task on files written here and, where they are present, on the published ones."""

from pathlib import Path

import pytest

from eval.tasks import inflection
from synthloop.errors import UserError

DATA = Path("../shared/data/inflection")


def _folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "english-train-medium").write_text(text, encoding="utf-8")
    return tmp_path


def test_row_becomes_lemma_and_tags(tmp_path: Path) -> None:
    cfg = inflection.Config(path=_folder(tmp_path, "stodge\tstodged\tV;PST\n"))
    (example,) = inflection.load(cfg, "train")
    assert (example.input, example.completion, example.slice) == ("stodge V;PST", "stodged", "V;PST")
    assert inflection.score(cfg, example, " stodged\n").correct
    assert not inflection.score(cfg, example, "Stodged").correct
    assert not inflection.score(cfg, example, "").correct


def test_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    cfg = inflection.Config(path=_folder(tmp_path, "stodge\tstodged\tV;PST\nrun ran V;PST\n"))
    with pytest.raises(UserError, match="english-train-medium, line 2: expected lemma, form and tags"):
        list(inflection.load(cfg, "train"))


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "english-train-medium").write_bytes(b"a\tb\tV\ncaf\xe9\tc\tV\n")
    with pytest.raises(UserError, match="english-train-medium, line 2: not utf-8"):
        list(inflection.load(inflection.Config(path=tmp_path), "train"))


def test_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.path"):
        list(inflection.load(inflection.Config(path=tmp_path), "test"))


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
def test_published_files_score_one_on_gold_and_do_not_overlap() -> None:
    cfg = inflection.Config(path=DATA)
    splits = {name: list(inflection.load(cfg, name)) for name in ("train", "validation", "test")}
    assert [len(rows) for rows in splits.values()] == [1000, 1000, 1000]
    assert all(inflection.score(cfg, row, row.completion).value == 1 for rows in splits.values() for row in rows)
    inputs = [row.input for rows in splits.values() for row in rows]
    assert len(set(inputs)) == 3000
