from pathlib import Path

import pytest

from synthloop.errors import UserError
from synthloop.folders import refuse_foreign


@pytest.mark.parametrize(
    "names", [[], ["mark.json", "data"], ["run.lock"], ["mark.json.tmp"], ["run.lock", "mark.json.x7.tmp"]]
)
def test_a_new_folder_and_what_a_killed_first_start_left_are_ours(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    refuse_foreign(tmp_path, ["mark.json"], "Do this.")
    refuse_foreign(tmp_path / "new" / "folder", ["mark.json"], "Do this.")


def test_any_other_file_is_named_and_what_to_type(tmp_path: Path) -> None:
    for name in "abcdefg":
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds other files, which are left alone: a, b, c, d, e and 2 more. Do this."):
        refuse_foreign(tmp_path, ["mark.json"], "Do this.")
    with pytest.raises(UserError, match="is a file. Do this."):
        refuse_foreign(tmp_path / "a", ["mark.json"], "Do this.")
