"""The arguments of the magics, and the answers to wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandkasten.notebook import arguments
from sandkasten.notebook.arguments import parse_cell, parse_line
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.extension import help_text
from sandkasten.notebook.languages import LANGUAGES, shell_command
from sandkasten.notebook.verbs import VERBS, local_paths, split_destination


def test_a_cell_without_options_is_shell_in_the_main_session() -> None:
    options = parse_cell("")
    assert (options.language, options.session, options.timeout_ms) == (None, "main", 0)
    assert not any([options.may_fail, options.quiet, options.show_nothing, options.scripts])


def test_the_options_of_a_cell_are_read() -> None:
    options = parse_cell(
        "--python -s other --timeout 1.5 -o result -q --no-raise --show 'my plots' --scripts"
    )
    assert (options.language, options.session, options.timeout_ms) == ("python", "other", 1500)
    assert (options.results, options.show) == (["result"], "my plots")
    assert options.quiet
    assert options.may_fail
    assert options.scripts


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_option(language: str) -> None:
    assert parse_cell(f"--{language}").language == language
    assert parse_cell(f"--lang {language}").language == language


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--pyhton", "--pyhton"),
        ("--pyth", "--pyth"),
        ("--timeout", "expected one argument"),
        ("--timeout soon", "'soon' is not a number of seconds"),
        ("--timeout 0", "'0' is not a number of seconds"),
        ("--timeout nan", "'nan' is not a number of seconds"),
        ("--timeout 601", "from 0.001 to 600"),
        ("-o 1st", "'1st' is not a name for a variable"),
        ("-o class", "'class' is not a name for a variable"),
        ("-s a/b", "'a/b' is not a name"),
        ("--lang 'python3 -c'", "is not the name of a program"),
        ("--lang ../x", "is not the name of a program"),
        ("--lang=-x", "is not the name of a program"),
        ("--python --node", "not allowed with"),
        ("--show a --no-show", "not allowed with"),
        ("echo hello", "echo hello"),
        ("-o 'a", "No closing quotation"),
    ],
)
def test_a_wrong_option_of_a_cell_is_one_sentence(line: str, words: str) -> None:
    with pytest.raises(MagicError) as caught:
        parse_cell(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("%%sandbox: ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nwe", "there is no 'nwe'; there are new, "),
        ("new --network some", "invalid choice: 'some'"),
        ("new python", "python"),
        ("ls a b", "b"),
        ("upload", "LOCAL"),
        ("download", "REMOTE"),
        ("info -s", "expected one argument"),
        ("upload 'a", "No closing quotation"),
    ],
)
def test_a_wrong_line_is_one_sentence(line: str, words: str) -> None:
    with pytest.raises(MagicError) as caught:
        parse_line(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("%sandbox")


def test_nothing_asks_for_help() -> None:
    assert [parse_line(line)[0] for line in ("", "help", "-h", "--help")] == ["help"] * 4


def test_each_verb_can_be_done_and_is_told_in_the_help() -> None:
    verbs = set(arguments._VERBS)
    assert verbs == {*VERBS, "help"}
    for word in [*arguments._CELL._option_string_actions, *verbs]:
        assert word in help_text(), word


def test_a_shell_cell_is_the_command_itself() -> None:
    assert shell_command("echo 'a'\n", None) == "echo 'a'\n"


def test_the_text_of_a_program_cannot_leave_its_quotes() -> None:
    command = shell_command("'; touch /tmp/escaped; '", "python")
    assert command.startswith(
        "builtin printf '\\n%s' ''\"'\"'; touch /tmp/escaped; '\"'\"'' >|/tmp/cell.py && "
    )


def test_a_word_that_ends_with_a_slash_is_where_an_upload_goes() -> None:
    assert split_destination(["a", "b"]) == (["a", "b"], ".")
    assert split_destination(["a", "b", "data/"]) == (["a", "b"], "data/")
    assert split_destination(["data/"]) == (["data/"], ".")


def test_patterns_find_files_and_names_go_before_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "c[1].txt"):
        (tmp_path / name).touch()
    (tmp_path / "d").mkdir()
    paths = local_paths(["*.csv", "c[1].txt", "d/"])
    assert [str(path) for path in paths] == ["a.csv", "b.csv", "c[1].txt", "d"]
    with pytest.raises(MagicError, match="there is no"):
        local_paths(["*.png"])
