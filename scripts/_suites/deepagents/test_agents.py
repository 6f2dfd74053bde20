"""Agents of deepagents on our backend, with models that follow a script: what model and program get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from deepagents import create_deep_agent
from deepagents.backends.composite import CompositeBackend
from deepagents.backends.protocol import FileDownloadResponse, FileUploadResponse, SandboxBackendProtocol
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage

import sandkasten_sync
from sandkasten import SandkastenInputError, Session, SessionNotFoundError
from sandkasten.integrations.deepagents import SandkastenBackend

TEN_MB = 10 * 1024 * 1024
ODD_NAME = "/workspace/déjà vu 'q' \"w\" 日本.txt"


class ScriptedModel(GenericFakeChatModel):
    """LangChain's own, which says what it was given to say; tools may be bound to it."""

    def bind_tools(self, *_args: Any, **_kwargs: Any) -> Any:
        """Ignore the tools."""
        return self


def agent_with(backend: SandboxBackendProtocol, *steps: tuple[str, dict[str, Any]]) -> Any:
    """Return an agent that uses one tool after another, and then says so."""
    messages = [
        AIMessage("", tool_calls=[ToolCall(name=name, args=args, id=str(number))])
        for number, (name, args) in enumerate(steps)
    ]
    model = ScriptedModel(messages=iter([*messages, AIMessage("done")]))
    return create_deep_agent(model, backend=backend)


def heard(state: dict[str, Any]) -> list[str]:
    """Return what the tools said to the model."""
    assert state["messages"][-1].text == "done"
    return [message.text for message in state["messages"] if isinstance(message, ToolMessage)]


async def ask(backend: SandboxBackendProtocol, *steps: tuple[str, dict[str, Any]]) -> list[str]:
    """Return what the model hears of some steps."""
    return heard(await agent_with(backend, *steps).ainvoke({"messages": [("user", "Go.")]}))


@pytest.fixture
async def backend(session: Session) -> SandkastenBackend:
    """A backend of it."""
    return SandkastenBackend(async_session=session)


# ---- What a model gets


async def test_an_agent_writes_edits_finds_and_runs(backend: SandkastenBackend) -> None:
    """Text of any script arrives as it was written, in names and in contents."""
    said = await ask(
        backend,
        ("write_file", {"file_path": ODD_NAME, "content": "grüße 🎉\n"}),
        ("edit_file", {"file_path": ODD_NAME, "old_string": "grüße", "new_string": "日本"}),
        ("read_file", {"file_path": ODD_NAME}),
        ("ls", {"path": "/workspace"}),
        ("grep", {"pattern": "🎉", "path": "/workspace"}),
        ("glob", {"pattern": "*.txt", "path": "/workspace"}),
        ("execute", {"command": "echo Ελλάδα; echo wrong >&2; cat /workspace/*.txt; exit 3"}),
    )
    assert "日本 🎉" in said[2]
    assert all("déjà vu" in text for text in said[3:6])
    assert said[6].startswith("Ελλάδα\nwrong\n日本 🎉\n")
    assert "exit code 3" in said[6]


async def test_a_command_that_takes_too_long_is_stopped_and_the_model_hears_why(
    backend: SandkastenBackend, session: Session
) -> None:
    """The output until then comes first."""
    command = {"command": "touch began; echo working; sleep 600", "timeout": 1}
    (said,) = await ask(backend, ("execute", command))
    assert said.startswith("working\nError: the command was stopped after 1 seconds")
    assert "exit code 124" in said
    assert (await session.run("pgrep -x sleep")).stdout == ""
    short = SandkastenBackend(async_session=session, timeout_ms=200)
    assert (await short.aexecute("sleep 600")).exit_code == 124


async def test_ten_megabytes_of_output_reach_the_model_as_head_and_tail(backend: SandkastenBackend) -> None:
    """The program learns that something is missing, the model gets both ends."""
    command = f"echo first; head -c {TEN_MB} /dev/zero | tr '\\0' x; echo; echo last"
    response = await backend.aexecute(command)
    assert (response.exit_code, response.truncated) == (0, True)
    assert len(response.output) < 2 * 1024 * 1024
    assert response.output.startswith("first\n")
    assert response.output.endswith("last\n")
    # The directory for what is too long for a model is at the root otherwise, where nobody may write.
    whole = CompositeBackend(default=backend, routes={}, artifacts_root="/tmp")
    said = await ask(
        whole,
        ("execute", {"command": command}),
        ("execute", {"command": "grep -x last /tmp/large_tool_results/*"}),
    )
    assert len(said[0]) < 20_000
    assert "first" in said[0]
    assert "/tmp/large_tool_results/" in said[0]
    assert said[1].startswith("last\n")


async def test_what_a_model_can_fix_comes_as_text(backend: SandkastenBackend) -> None:
    """No error ends the run."""
    said = await ask(
        backend,
        ("execute", {"command": " "}),
        ("read_file", {"file_path": "/workspace/absent"}),
        ("write_file", {"file_path": "/proc/version", "content": "x"}),
    )
    assert "Error: The command is empty. Pass a shell command." in said[0]
    assert "not" in said[1]
    assert "rror" in said[2] or "Failed" in said[2]


# ---- What a program gets


async def test_files_of_ten_megabytes_and_all_bytes_come_back_as_they_were(session: Session) -> None:
    """One that is larger than allowed is refused; each file has its own result."""
    content = bytes(range(256)) * (TEN_MB // 256)
    backend = SandkastenBackend(async_session=session, max_file_bytes=TEN_MB)
    files = [
        ("/workspace/a.bin", content),
        ("relative", b""),
        ("/proc/x", b""),
        ("/workspace/b", content + b"!"),
    ]
    assert await backend.aupload_files(files) == [
        FileUploadResponse("/workspace/a.bin"),
        FileUploadResponse("relative", "invalid_path"),
        FileUploadResponse("/proc/x", "invalid_path"),
        FileUploadResponse("/workspace/b"),
    ]
    paths = ["/workspace/a.bin", "/workspace/b", "/workspace", "/workspace/absent", "/workspace/a.bin/c"]
    found = await backend.adownload_files(paths)
    assert found[0] == FileDownloadResponse("/workspace/a.bin", content)
    assert [response.error for response in found[1:]] == [
        f"The file has more than {TEN_MB} bytes. Read a part of it.",
        "is_directory",
        "file_not_found",
        "invalid_path",
    ]


async def test_cancelling_a_run_stops_its_command(backend: SandkastenBackend, session: Session) -> None:
    """Nothing of it is left in the sandbox."""
    agent = agent_with(backend, ("execute", {"command": "touch /workspace/began; sleep 600"}))
    run = asyncio.create_task(agent.ainvoke({"messages": [("user", "Go.")]}))
    async with session.watch() as changes:
        if not await session.exists("began"):
            async for change in changes:
                if change.path == "began":
                    break
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.wait_for(_gone(session, "sleep"), 30)


async def _gone(session: Session, name: str) -> None:
    await session.run(f"while pgrep -x {name}; do read -t 0.05 <> <(:); done")


async def test_a_session_that_died_ends_the_run_with_its_error(
    address: dict[str, str], session: Session
) -> None:
    """A model cannot fix that; all forms of call raise the same."""
    with sandkasten_sync.SandboxClient(**address) as client:
        backend = SandkastenBackend(session=client.get_session(session.id), async_session=session)
        await session.destroy()
        step = ("execute", {"command": "true"})
        with pytest.raises(SessionNotFoundError):
            await ask(backend, step)
        with pytest.raises(SessionNotFoundError):
            agent_with(backend, step).invoke({"messages": [("user", "Go.")]})
        with pytest.raises(SessionNotFoundError):
            await backend.aupload_files([("/workspace/a", b"")])
        with pytest.raises(SessionNotFoundError):
            backend.download_files(["/workspace/a"])


async def test_a_directory_is_listed_to_its_end(
    address: dict[str, str], backend: SandkastenBackend, session: Session
) -> None:
    """Names of together more than 1 MiB, which is as much as a command may print."""
    await session.run("mkdir d; cd d; ln -s /tmp link; seq -f 'a-long-name-%060.0f' 15000 | xargs touch")
    entries = (await backend.als("/workspace/d")).entries
    assert entries is not None
    assert len(entries) == 15001
    assert {"path": "/workspace/d/link", "is_dir": False} in entries
    with sandkasten_sync.SandboxClient(**address) as client:
        blocking = SandkastenBackend(session=client.get_session(session.id))
        assert blocking.ls("/workspace/d").entries == entries
        assert (await blocking.als("/workspace/d")).entries == entries
    for path, word in (("/absent", "path_not_found"), ("/etc/passwd", "not_a_directory")):
        assert (await backend.als(path)).error == f"Path '{path}': {word}"


async def test_a_search_has_all_its_results(
    address: dict[str, str], backend: SandkastenBackend, session: Session
) -> None:
    """All 2 MiB of them, which is more than a command prints for a model."""
    await session.run(
        "mkdir d; cd d; seq -f 'a-long-name-%060.0f' 15000 | xargs touch; yes word | head -n 99999 > a"
    )
    with sandkasten_sync.SandboxClient(**address) as client:
        blocking = SandkastenBackend(session=client.get_session(session.id))
        for found in (
            await backend.aglob("a-*", "/workspace/d"),
            blocking.glob("a-*", "/workspace/d"),
            await blocking.aglob("a-*", "/workspace/d"),
        ):
            assert found.error is None
            assert [match["path"] for match in found.matches or []] == [
                f"a-long-name-{number:060}" for number in range(1, 15001)
            ]
        for lines in (await backend.agrep("word", "/workspace/d"), blocking.grep("word", "/workspace/d")):
            assert [match["line"] for match in lines.matches or []] == list(range(1, 100_000))


async def test_a_search_says_if_results_are_missing(
    address: dict[str, str], backend: SandkastenBackend, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many of them, or too little time; 0.6 has no mark for results that are there, so none are."""
    monkeypatch.setattr("sandkasten.integrations.deepagents.searches.MOST_BYTES", 10_000)
    await session.run("seq -f 'a-long-name-%060.0f' 200 | xargs touch")
    with sandkasten_sync.SandboxClient(**address) as client:
        blocking = SandkastenBackend(session=client.get_session(session.id))
        for found in (await backend.aglob("*", "/workspace"), blocking.glob("*", "/workspace")):
            assert getattr(found, "truncated", True)
            assert 1 <= len(found.matches or []) < 200 if hasattr(found, "truncated") else found.error
        late = SandkastenBackend(session=client.get_session(session.id), timeout_ms=1)
        assert late.grep("word", "/workspace").error


# ---- Sessions of both kinds


async def test_each_form_of_call_has_its_session(address: dict[str, str], session: Session) -> None:
    """A blocking session serves awaited calls too, an async one no blocking calls."""
    with sandkasten_sync.SandboxClient(**address) as client:
        blocking = SandkastenBackend(session=client.get_session(session.id))
        step = ("execute", {"command": "echo $((6 * 7))"})
        state = agent_with(blocking, step).invoke({"messages": [("user", "Go.")]})
        assert heard(state)[0].startswith("42\n")
        assert (await ask(blocking, step))[0].startswith("42\n")
        assert blocking.id == session.id
        with client.create_session() as other, pytest.raises(SandkastenInputError, match="two sandboxes"):
            SandkastenBackend(session=other, async_session=session)
    with pytest.raises(NotImplementedError, match="async session only"):
        SandkastenBackend(async_session=session).execute("true")
    with pytest.raises(SandkastenInputError, match="no session"):
        SandkastenBackend()


def test_the_example_prints_what_its_page_says(check_example: Callable[[str], None]) -> None:
    check_example("deep_agent.py")
