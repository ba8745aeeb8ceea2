"""Languages told apart; short and unsure texts kept."""

from __future__ import annotations

import pytest

from generate.filters import language
from synthloop.errors import UserError
from tests.generate import rows

pytest.importorskip("py3langid")

ENGLISH = "Tom has three apples and buys four more. How many apples does he have now?"
GERMAN = "Tom hat drei Äpfel und kauft vier weitere. Wie viele Äpfel hat er jetzt insgesamt?"
FRENCH = "Tom a trois pommes et en achète quatre autres. Combien de pommes a-t-il maintenant ?"


@pytest.mark.parametrize(
    ("problem", "answer", "reason"),
    [
        (ENGLISH, ENGLISH, None),
        (GERMAN, ENGLISH, "language: the problem is 'de'"),
        (ENGLISH, FRENCH, "language: the answer is 'fr'"),
        (ENGLISH, "3+4=7 #### 7", None),
        (ENGLISH, "oui, sept", None),
        (ENGLISH, "zxqv kjhw prtm wqzx bvnk lkjh", None),
        (ENGLISH, "def f(xs):\n    return [x + 1 for x in xs if x]\n\nassert f([1, 2]) == [2, 3]", None),
    ],
)
def test_language(problem: str, answer: str, reason: str | None) -> None:
    (decision,) = language.check(
        language.Config(allowed=("en",)), [rows.candidate(input=problem, completion=answer)], None
    )
    assert decision.keep == (reason is None)
    assert (decision.reason or "").startswith(reason or "")
    assert (decision.score or 1) >= 0.7


def test_several_languages_and_codes_nobody_knows() -> None:
    batch = [rows.candidate(input=text) for text in (ENGLISH, GERMAN, FRENCH)]
    decisions = language.check(language.Config(allowed=("en", "de")), batch, None)
    assert [one.keep for one in decisions] == [True, True, False]
    with pytest.raises(UserError, match="doesn't know 'english'"):
        language.check(language.Config(allowed=("english",)), batch, None)


def test_words_in_title_case_are_read_as_any_others() -> None:
    title = rows.candidate(input="The Quick Guide To Writing Better Essays For Students", completion="Ja")
    (decision,) = language.check(language.Config(allowed=("de",)), [title], None)
    assert decision.reason == "language: the problem is 'en', with confidence 0.94"
