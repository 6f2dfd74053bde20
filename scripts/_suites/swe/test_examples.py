"""The examples "mini_swe_agent.py" and "swe_rex.py", and what they give when all does not go well."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from swerex.exceptions import CommandTimeoutError, NonZeroExitCodeError, SessionDoesNotExistError
from swerex.runtime import abstract as rex

import sandkasten_sync
from sandkasten import SandboxClient, SessionNotFoundError

pytestmark = pytest.mark.anyio
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
QUIET = {"MSWEA_SILENT_STARTUP": "1"}


@pytest.mark.parametrize("name", ["mini_swe_agent.py", "swe_rex.py"])
def test_the_example_prints_what_its_page_says(name: str, tmp_path: Path) -> None:
    environment = os.environ | QUIET | {"MSWEA_GLOBAL_CONFIG_DIR": str(tmp_path)}
    command = [sys.executable, EXAMPLES / name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (printed,) = re.findall(
        r"(?ms)^```text\n(.*?)^```$", (EXAMPLES / name).with_suffix(".md").read_text("utf-8")
    )
    assert done.stdout == printed


def test_an_environment_says_timeouts_exit_codes_and_lost_sessions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSWEA_SILENT_STARTUP", "1")
    monkeypatch.setenv("MSWEA_GLOBAL_CONFIG_DIR", str(tmp_path))
    example = runpy.run_path(str(EXAMPLES / "mini_swe_agent.py"), run_name="example")
    with sandkasten_sync.SandboxClient() as client, client.create_session() as session:
        environment: Any = example["SandkastenEnvironment"](session, timeout=1)
        done = environment.execute({"command": "echo ä☃; echo oh >&2; exit 3"})
        assert done == {"output": "ä☃\noh\n", "returncode": 3, "exception_info": ""}
        late = environment.execute({"command": "echo partly; sleep 361"})
        assert (late["output"], late["returncode"]) == ("partly\n", -1)
        assert late["exception_info"]
        assert environment.execute({"command": "pgrep -fx 'sleep 361'"})["returncode"] == 1
        assert len(environment.execute({"command": "seq 1500000"})["output"]) < 1_100_000
        session.destroy()
        with pytest.raises(SessionNotFoundError):
            environment.execute({"command": "true"})


@pytest.fixture
async def runtime() -> AsyncIterator[Any]:
    example = runpy.run_path(str(EXAMPLES / "swe_rex.py"), run_name="example")
    async with SandboxClient() as client, await client.create_session() as session:
        yield example["SandkastenRuntime"](session)


async def test_a_runtime_says_timeouts_exit_codes_and_lost_sessions(runtime: Any, tmp_path: Path) -> None:
    with pytest.raises(SessionDoesNotExistError):
        await runtime.run_in_session(rex.BashAction(command="true"))
    await runtime.create_session(rex.CreateBashSessionRequest())
    with pytest.raises(NonZeroExitCodeError, match="oh"):
        await runtime.run_in_session(rex.BashAction(command="echo oh; (exit 3)"))
    silent = await runtime.run_in_session(rex.BashAction(command="(exit 3)", check="silent"))
    assert silent.exit_code == 3
    with pytest.raises(CommandTimeoutError, match="partly"):
        await runtime.run_in_session(rex.BashAction(command="echo partly; sleep 362", timeout=0.5))
    with pytest.raises(CommandTimeoutError):
        await runtime.execute(rex.Command(command="sleep 362", shell=True, timeout=0.5))
    merged = rex.Command(command="echo ä; echo oh >&2", shell=True, merge_output_streams=True)
    assert (await runtime.execute(merged)).stdout == "ä\noh\n"
    (tmp_path / "here").write_bytes(b"\xff")
    await runtime.upload(
        rex.UploadRequest(source_path=str(tmp_path / "here"), target_path="/workspace/d/there")
    )
    found = await runtime.read_file(rex.ReadFileRequest(path="/workspace/d/there", errors="replace"))
    assert found.content == "\N{REPLACEMENT CHARACTER}"
    await runtime.close()
    assert not await runtime.is_alive()
