import pytest

from synthloop.screen import say, visible


def test_control_characters_are_written_out_and_text_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert visible("\x1b[2Jgone\r\x00\x7f\x9b1m") == "\\x1b[2Jgone\\x0d\\x00\\x7f\\x9b1m"
    assert visible("a\tb\nçé日本 😀 \u200fשלום") == "a\tb\nçé日本 😀 \u200fשלום"
    assert visible("pay \u202e100\u2066") == "pay \\u202e100\\u2066"
    say("\x1b]0;title\x07")
    assert capsys.readouterr().out == "\\x1b]0;title\\x07\n"
