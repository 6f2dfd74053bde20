"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandkasten.integrations.users import workspace_id_for_user
from sandkasten.local.linux.processes import descendants
from tests.local.box import until
from tests.processes import has_ended, names_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def environment(data_dir: Path) -> dict[str, str]:
    """Nothing but what finds Python and the package; above all no key of any model."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(data_dir),
        "SANDKASTEN_DATA_DIR": str(data_dir),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def run(name: str, data_dir: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *words],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def on_page(name: str) -> list[str]:
    """Return the lines that a program prints, as its page says, without marks of Python's version."""
    page = (EXAMPLES / name).with_suffix(".md").read_text("utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return unmarked(block)


def unmarked(output: str) -> list[str]:
    return [line for line in output.splitlines() if not re.fullmatch(r" *[~^]+", line)]


def test_every_example_has_a_page_that_shows_it() -> None:
    for example in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        page = example.with_suffix(".md").read_text("utf-8")
        assert f"<!-- show: {example.name} -->" in page
        assert f"]({example.name})" in page


def test_every_example_is_run_by_a_test() -> None:
    suites = (ROOT / "scripts" / "_suites").glob("*/test_*.py")  # for frameworks that are not installed here
    source = "".join(path.read_text("utf-8") for path in (Path(__file__), *suites))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in source


def test_examples_of_frameworks_that_are_not_here_import_what_there_is_and_are_short() -> None:
    """Their suites run them (`scripts/suites`); this looks at what needs no framework."""
    seen: set[str] = set()
    for file in (ROOT / "scripts" / "_suites").glob("*/*/requirements.txt"):
        tests = "".join(path.read_text("utf-8") for path in file.parents[1].glob("test_*.py"))
        wanted = [line.split("=")[0].replace("-", "") for line in file.read_text("utf-8").splitlines()]
        for example in EXAMPLES.glob("*.py"):
            if f'"{example.name}"' in tests:
                seen.add(example.name)
                check_imports(example, wanted)
    assert len(seen) >= 10
    for name in seen - {"mini_swe_agent.py", "swe_rex.py"}:  # which are whole adapters
        lines = (EXAMPLES / name).read_text("utf-8").splitlines()
        assert len([line for line in lines if line.strip()]) <= 40, name


def check_imports(example: Path, wanted: list[str]) -> None:
    """Fail if a program imports a name that we do not have, or a package that its suite does not ask for."""
    for node in ast.walk(ast.parse(example.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert all(name.name in sys.stdlib_module_names for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            names = {name.name for name in node.names}
            if module.startswith("sandkasten.integrations."):  # imports the framework
                source = ROOT.joinpath(*module.split("."), "__init__.py").read_text("utf-8")
                assert names <= set(re.findall(r'"(\w+)"', source.split("__all__ = ")[1]))
            elif importlib.util.find_spec(root := module.split(".", 1)[0]):
                assert names <= set(dir(importlib.import_module(module)))
            else:
                assert any(name.startswith(root.split("_", 1)[0]) for name in wanted), (example.name, module)


@pytest.mark.parametrize("name", ["openai_agent.py", "langchain_agent.py"])
def test_an_agent_fixes_its_program(name: str, data_dir: Path) -> None:
    output = run(name, data_dir)
    assert "TypeError: function missing required argument 'day'" in output
    assert "exit code 0, directory /workspace\n1461\n" in output
    assert output.endswith("=== There are 1461 days.\n")
    if name == "openai_agent.py":
        assert unmarked(output) == on_page(name)


async def test_a_run_that_waits_goes_on_in_another_process(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(data_dir).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "run.json"
    example = runpy.run_path(str(EXAMPLES / "openai_sandbox.py"), run_name="example")
    file.write_text(await example["main"](None))  # here, since importing the SDK anew takes seconds
    lines = [
        *capsys.readouterr().out.splitlines(),
        *run("openai_sandbox.py", data_dir, str(file)).splitlines(),
    ]
    assert lines == on_page("openai_sandbox.py")


def test_submissions_are_graded_and_none_escapes_its_sandbox(data_dir: Path) -> None:
    lines = run("grade_submissions.py", data_dir).splitlines()
    assert set(on_page("grade_submissions.py")) < set(lines)
    assert json.loads(lines.pop()) == {"graded": 20, "full_marks": 12}
    grades = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert [grades[f"student-{number:02}"] for number in range(1, 13)] == [["4/4", "well done"]] * 12
    assert grades["student-14"] == ["3/4", "-1 1 should give 0, not '2'"]
    assert grades["student-15"] == grades["student-19"] == ["0/4", "still running after 6000 ms"]
    assert grades["student-18"][1] == "1 2 should give 3, not \"SyntaxError: '(' was never closed\""
    assert grades["student-20"][0] == "0/4"


def test_fifty_episodes_run_in_sandboxes_of_their_own(data_dir: Path) -> None:
    began = time.monotonic()
    summary = json.loads(run("rl_fanout.py", data_dir, "50"))
    elapsed_seconds = time.monotonic() - began
    assert summary["episodes"] == 50
    assert summary["failed"] == 0
    assert 35 <= summary["solved"] < 50  # by chance 44; the seeds are fixed, so always the same
    assert 0 < summary["seconds"] <= elapsed_seconds


# --- the service


class Service:
    """One that runs, and its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self.url = self._first_url()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def _first_url(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                return found[1]
        raise AssertionError("".join(self.log))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def close(self) -> None:
        """End it if it has not ended, and read its log to the end."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def exec(self, user: str, command: str) -> httpx.Response:
        headers = {"X-User": user}
        return httpx.post(f"{self.url}/exec", content=command, headers=headers, timeout=20, trust_env=False)


@contextmanager
def service(data_dir: Path) -> Iterator[Service]:
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "service.py", "0"],
        env=environment(data_dir),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    one = Service(process)
    try:
        yield one
    finally:
        one.close()


def test_a_service_gives_each_user_a_shell_that_remembers(data_dir: Path) -> None:
    with service(data_dir) as one:
        assert one.exec("ada", "cd /tmp; pwd").text.splitlines() == on_page("service.py")
        assert one.exec("ada", "cd /tmp; name=Ada; echo hers > /workspace/note").json()["cwd"] == "/tmp"
        assert one.exec("bob", "echo [$name]; ls /workspace").json()["output"] == "[]\n"
        assert one.exec("ada", "echo [$name] $PWD; cat /workspace/note").json() == {
            "exit_code": 0,
            "cwd": "/tmp",
            "output": "[Ada] /tmp\nhers\n",
        }
        assert one.exec("", "true").status_code == 401
        assert one.exec("ada", " ").status_code == 400
        with ThreadPoolExecutor() as threads:  # whose first requests come at the same time
            list(threads.map(one.exec, ["eve"] * 4, ["echo $$ >> /workspace/shells"] * 4))
        assert one.exec("eve", "sort -u /workspace/shells | wc -l").json()["output"] == "1\n"


def test_sigterm_ends_a_service_with_its_sandboxes_while_a_command_runs(data_dir: Path) -> None:
    with service(data_dir) as one:
        one.exec("ada", "echo kept > /workspace/kept")
        with ThreadPoolExecutor() as threads:
            long = threads.submit(one.exec, "ada", "sleep 60")
            until(lambda: "sleep" in names_of(descendants(one.process.pid)))
            processes = set(descendants(one.process.pid))
            started = time.monotonic()
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(timeout=20)
            assert time.monotonic() - started < 10
            left = {pid for pid in processes if not has_ended(pid)}
            assert not left
            assert long.result().status_code == 503
    assert "Traceback" not in "".join(one.log)
    with service(data_dir) as again:
        assert again.exec("ada", "cat /workspace/kept").json()["output"] == "kept\n"
    assert (data_dir / "workspaces" / workspace_id_for_user("ada")).exists()
