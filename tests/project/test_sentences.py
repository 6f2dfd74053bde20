"""The meaning of the Go daemon's sentences and prompts."""

from __future__ import annotations

import pytest

from sandkasten import _wire
from sandkasten._answers import RefusedError
from sandkasten._prompts import without_prompts
from sandkasten._sentences import meant_code
from sandkasten.models import Health

SESSION, WORKSPACE = "/v1/sessions/1a2b3c4d-5e6", "/v1/workspaces/notes"
READ, WRITE, EXEC = f"{SESSION}/fs/read?path=x", f"{SESSION}/fs/write", f"{SESSION}/exec"
GONE = "no such file or directory"
PLACE = "/var/lib/sandkasten/workspaces/notes"


@pytest.mark.parametrize(
    ("sentence", "request_path", "code"),
    [
        (f"runner error: open: open /workspace/x: {GONE}", READ, "FILE_NOT_FOUND"),
        ("runner error: open: open /workspace/f/x: not a directory", READ, "NOT_A_DIRECTORY"),
        (f"resolve path: lstat {PLACE}/x: {GONE}", f"{WORKSPACE}/fs?path=x", "FILE_NOT_FOUND"),
        (f"resolve path: lstat {PLACE}/x: {GONE}", f"{WORKSPACE}/fs", "FILE_NOT_FOUND"),
        (f"resolve path: lstat {PLACE}: {GONE}", f"{WORKSPACE}/fs/read?path=x", "WORKSPACE_NOT_FOUND"),
        ("workspace not found: notes", f"{WORKSPACE}/fs?path=.", "WORKSPACE_NOT_FOUND"),
        ("workspaces not enabled", "/v1/workspaces", "WORKSPACES_DISABLED"),
        ("runner error: read: read /workspace/d: is a directory", READ, "IS_DIRECTORY"),
        ("path is a directory", f"{WORKSPACE}/fs/read?path=d", "IS_DIRECTORY"),
        ("write file: is a directory", f"{WORKSPACE}/fs/write", "IS_DIRECTORY"),
        ("runner error: invalid path: must be a file under /workspace", READ, "IS_DIRECTORY"),
        ("invalid file path", f"{WORKSPACE}/fs/read?path=.&max_bytes=9", "IS_DIRECTORY"),
        ("invalid file path", f"{WORKSPACE}/fs/read?max_bytes=9&path=.", "IS_DIRECTORY"),
        ("invalid file path", f"{WORKSPACE}/fs/read?path=.a..b", "INVALID_REQUEST"),
        ("invalid file path", f"{WORKSPACE}/fs/write", "INVALID_REQUEST"),
        ("write file: path escapes workspace", f"{WORKSPACE}/fs/write", "INVALID_REQUEST"),
        ("runner error: open: open /workspace/x: permission denied", READ, "PERMISSION_DENIED"),
        ("runner error: write: open /workspace/x: read-only file system", WRITE, "READ_ONLY"),
        (
            "stage exec script: runner error: mkdir: mkdir /workspace/.sandkasten: read-only file system",
            EXEC,
            "READ_ONLY",
        ),
        ("runner error: write: write /workspace/x: no space left on device", WRITE, "INSUFFICIENT_STORAGE"),
        ("session not found: 1a2b3c4d-5e6", SESSION, "SESSION_NOT_FOUND"),
        ("session not running: 1a2b3c4d-5e6 (status=destroyed)", EXEC, "SESSION_NOT_FOUND"),
        ("session not running: 1a2b3c4d-5e6 (status=crashed)", EXEC, "SESSION_NOT_FOUND"),
        ("session not running: 1a2b3c4d-5e6 (status=expired)", EXEC, "SESSION_EXPIRED"),
        ("session expired: 1a2b3c4d-5e6", EXEC, "SESSION_EXPIRED"),
        (f"read state: open /x/sessions/1a/state.json: {GONE}", f"{SESSION}/stats", "SESSION_NOT_FOUND"),
        (f"exec: read state: open /x/sessions/1a/state.json: {GONE}", EXEC, "SESSION_NOT_FOUND"),
        ("command timeout: timeout: command exceeded 2m0s", f"{EXEC}/stream", "COMMAND_TIMEOUT"),
        ("create sandbox: image x not found at /images/x/rootfs", "/v1/sessions", "INVALID_IMAGE"),
        ("create sandbox: auto-pull image x: GET https://r/v2: denied", "/v1/sessions", "INVALID_IMAGE"),
        # What says nothing stays what it is.
        (f"create sandbox: mkdir /x: {GONE}", "/v1/sessions", "INTERNAL_ERROR"),
        ("create sandbox: mkdir /x: permission denied", "/v1/sessions", "INTERNAL_ERROR"),
        ("runner error: bufio.Scanner: token too long", READ, "INTERNAL_ERROR"),
        ("the session not found: in the middle", EXEC, "INTERNAL_ERROR"),
    ],
)
def test_a_sentence_has_a_code(sentence: str, request_path: str, code: str) -> None:
    assert meant_code("INTERNAL_ERROR", sentence, request_path) == code
    in_a_stream = None if code == "INTERNAL_ERROR" else code
    assert meant_code(None, sentence, request_path) == in_a_stream


def test_a_code_that_is_none_of_the_vague_ones_is_believed() -> None:
    assert meant_code("CONFLICT", "session not found: x", SESSION) == "CONFLICT"
    sentence = "path must point to a file under /workspace"
    assert meant_code("INVALID_REQUEST", sentence, READ) == "IS_DIRECTORY"
    assert meant_code("INVALID_REQUEST", "path must be under /workspace", READ) == "INVALID_REQUEST"


P = "I have no name!@sk-1a2b3c4d:/workspace$ "


@pytest.mark.parametrize(
    ("output", "printed"),
    [
        (f"{P}\n{P}\n", ""),
        (f"{P}\nab{P}\n", "ab"),
        (f"{P}\n\n\na\n{P}\n", "\n\na\n"),
        (f"{P}\n{P}\n{P}\n", f"{P}\n"),
        ("root@x:/# \nab\nroot@x:/# \n", "ab\n"),
        ("$ \nab\n$ \n", "ab\n"),
        # No prompts, or not both of them.
        ("", ""),
        (f"{P}\n", f"{P}\n"),
        (f"{P}\nab\n", f"{P}\nab\n"),
        (f"ab\n{P}\n", f"ab\n{P}\n"),
        (f"{P}\nab\n{P}", f"{P}\nab\n{P}"),
        ("a\nb\na\n", "a\nb\na\n"),
        ("\n\n", "\n\n"),
        (f"{P}\r\nab\r\n{P}\r\n", f"{P}\r\nab\r\n{P}\r\n"),
    ],
)
def test_prompts_are_taken_off_where_there_are_two(output: str, printed: str) -> None:
    assert without_prompts(output) == printed


# --- what a daemon says of itself


GO = Health("ok")
OTHER = Health("ok", server="another")
EMBEDDED = Health("ok", server="sandkasten-local", extensions=("idempotency",))
OUTPUT = {"exit_code": 0, "cwd": "/workspace", "output": f"{P}\nab\n{P}\n"}


def test_only_a_daemon_without_a_name_may_take_minutes_to_create_a_session() -> None:
    call = _wire.create_session("python", None, None, None)
    assert [_wire.understood(call, health, 120).wait_ms for health in (GO, OTHER, EMBEDDED)] == [
        300_000,
        0,
        0,
    ]


def test_only_a_daemon_without_a_name_has_prompts() -> None:
    call = _wire.exec_command("1a2b3c4d-5e6", "true", 1000, raw_output=False)
    outputs = [_wire.understood(call, health, 120).parse(OUTPUT).output for health in (GO, OTHER, EMBEDDED)]
    assert outputs == ["ab\n", OUTPUT["output"], OUTPUT["output"]]


def test_only_a_daemon_with_the_extension_gets_keys() -> None:
    call = _wire.exec_command("1a2b3c4d-5e6", "true", 1000, raw_output=False)
    assert [_wire.understood(call, health, 120).key for health in (GO, OTHER, EMBEDDED)] == [
        None,
        None,
        call.key,
    ]


@pytest.mark.parametrize("status", ["expired", "destroyed", "destroying", "crashed", "pool_idle"])
def test_only_running_sessions_are_sessions(status: str) -> None:
    row = {"id": "1a2b3c4d-5e6", "image": "base", "status": "running", "cwd": "/workspace"}
    row |= {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z"}
    other = {**row, "id": "1a2b3c4d-5e7", "status": status}
    assert [info.id for info in _wire.list_sessions().parse([row, other])] == [row["id"]]
    assert _wire.get_session("1a2b3c4d-5e6").parse(row).status == "running"
    with pytest.raises(RefusedError, match=status) as caught:
        _wire.get_session("1a2b3c4d-5e7").parse(other)
    expected = "SESSION_EXPIRED" if status == "expired" else "SESSION_NOT_FOUND"
    assert caught.value.body["error_code"] == expected
