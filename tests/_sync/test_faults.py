# Made from tests/_async/test_faults.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""Every fault in every verb, as the table in `tests/faults.py` has it, against real daemons."""

from __future__ import annotations

import io
import secrets
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

import httpx
import pytest

from sandkasten import _retry, _wire, errors
from sandkasten._processes import calls as process_calls
from sandkasten._processes import imitation
from sandkasten._prompts import without_prompts
from sandkasten._transfer import calls, watching
from sandkasten.local.launch import LocalDaemon
from tests.faults import OK, SILENT, TABLE, VERBS, Never
from tests.faulty import Relay
from tests.go_daemon import GoDaemon
from tests.go_rules import Config

from .seam import SandboxClient, Session

SIDES = ("able", "plain")
# What is bad before a daemon is reached, and so for both sides alike.
ADDRESSES = ("refused", "dns", "tls")
ON_THE_WAY = [name for name, row in TABLE.items() if row.fault is not None]
DEADLINE_SECONDS = 20.0
# Where silence is the outcome it need not take long: the client's patience, and a command's own time.
SHORT_SECONDS, SHORT_MS, LONG_MS = 0.2, 200, 5000

# The requests whose answers are spoilt: those that carry a verb, by whichever call.
REQUESTS = {
    "exec": r"^POST .*/exec$",
    "stream": r"^POST .*/exec/stream$",
    "run": r"^POST .*/(exec|processes/run)$",
    "start": r"^POST .*/processes$",
    "follow": r"^GET .*/output$",
    "feed": r"^PUT .*/processes/.*/input$",
    **dict.fromkeys(("python", "python_stream"), r"^POST .*/python$"),
    "install": r"^POST .*/packages$",
    "wait": r"^GET .*/result$",
    "signal": r"^POST .*/signal$",
    "read": r"^GET .*/fs/(read|raw)$",
    "write": r"^POST .*/fs/write$",
    "upload": r"^(POST|PUT) .*/fs/(write|upload|raw)$",
    "download": r"^GET .*/fs/(read|raw)$",
    "stat": r"^GET .*/fs/stat$",
    "move": r"^POST .*/fs/move$",
    "append": r"^POST .*/fs/append$",
    "watch": r"^GET .*/fs/watch$",
    "create": r"^POST /v1/sessions$",
    "destroy": r"^DELETE /v1/sessions/[^/]+$",
}


@pytest.fixture(scope="module")
def relays(daemon: LocalDaemon, package_daemon: LocalDaemon) -> Iterator[Mapping[str, Relay]]:
    """The way to a daemon with the extensions, and to one without."""
    target = package_daemon.target
    with GoDaemon(daemon, Config(readonly_rootfs=False, poll_seconds=0.005)) as go_daemon:
        relays = {
            "able": Relay(target.base_url, target.api_key, target.socket_path),
            "plain": Relay(go_daemon.url, go_daemon.api_key),
        }
        yield relays
        for relay in relays.values():
            relay.close()


@pytest.fixture(scope="module")
def session_ids(relays: Mapping[str, Relay]) -> Iterator[Mapping[str, str]]:
    """A session on each side, which those verbs share that leave it alive."""
    ids = {side: made_session(relay.behind) for side, relay in relays.items()}
    yield ids
    for side, relay in relays.items():
        relay.behind.delete(f"/v1/sessions/{ids[side]}")


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retry, "_FIRST_PAUSE_SECONDS", 0.01)
    # How long a daemon may take to store what it got, or to pull an image; it is the timeouts' sum that is
    # tested here.
    monkeypatch.setattr(calls, "_WAIT_MS", 0)
    monkeypatch.setattr(_wire, "_PULL_MS", 0)
    monkeypatch.setattr(imitation, "_SPARE_MS", 0)
    monkeypatch.setattr(process_calls, "MAX_KEEP_ALIVE_MS", 0)
    monkeypatch.setattr(calls, "_CHANGE_MS", 0)
    monkeypatch.setattr(watching, "_WAIT_MS", 0)
    monkeypatch.setattr(process_calls, "ROUND_MS", 0)


def made_session(behind: httpx.Client) -> str:
    return str(behind.post("/v1/sessions", json={"image": "base"}).raise_for_status().json()["id"])


def ids_of(behind: httpx.Client) -> set[str]:
    return {info["id"] for info in behind.get("/v1/sessions").json()}


def output_of(behind: httpx.Client, session_id: str, cmd: str) -> str:
    return without_prompts(behind.post(f"/v1/sessions/{session_id}/exec", json={"cmd": cmd}).json()["output"])


# --- the verbs: each does its thing to a file of its own, and makes sure of the result


def run_exec(session: Session, name: str, limit_ms: int) -> None:
    result = session.exec(f"echo ran >>{name}; echo done", timeout_ms=limit_ms)
    assert (result.output, result.exit_code) == ("done\n", 0)


def run_stream(session: Session, name: str, limit_ms: int) -> None:
    cmd = f"echo ran >>{name}; for i in 1 2 3; do echo $i; sleep 0.01; done; exit 4"
    chunks = [chunk for chunk in session.exec_stream(cmd, timeout_ms=limit_ms)]
    assert "".join(chunk.output for chunk in chunks) == "1\n2\n3\n"
    assert [chunk.done for chunk in chunks].count(True) == 1
    assert chunks[-1].exit_code == 4


def run_run(session: Session, name: str, limit_ms: int) -> None:
    result = session.run(f"echo ran >>{name}; echo done; exit 4", timeout_ms=limit_ms)
    assert (result.stdout, result.exit_code) == ("done\n", 4)


def run_start(session: Session, name: str, _limit_ms: int) -> None:
    process = session.start(f"echo ran >>{name}; exit 4")
    assert process.wait().exit_code == 4


def run_follow(session: Session, _name: str, _limit_ms: int) -> None:
    with session.start("for i in 1 2 3; do echo $i; done") as process:
        assert "".join([chunk.text for chunk in process]) == "1\n2\n3\n"


def run_feed(session: Session, name: str, _limit_ms: int) -> None:
    with session.start(["cat"], stdin=True) as process:
        process.write(name)
        process.close_stdin()
        assert process.wait().stdout == name


def run_python(session: Session, name: str, limit_ms: int) -> None:
    result = session.python(f"print('ran', file=open('{name}', 'a')); 'done'", timeout_ms=limit_ms)
    assert (result.value, result.ok) == ("'done'", True)


def run_python_stream(session: Session, name: str, limit_ms: int) -> None:
    code = f"print('ran', file=open('{name}', 'a'))\nfor i in range(3): print(i, flush=True)"
    chunks = [chunk.text for chunk in session.python_stream(code, timeout_ms=limit_ms)]
    assert "".join(chunks) == "0\n1\n2\n"


def run_install(session: Session, _name: str, _limit_ms: int) -> None:
    assert "six" in {package.name for package in session.install("six")}


def run_wait(session: Session, _name: str, _limit_ms: int) -> None:
    with session.start("exit 4") as process:
        assert process.wait().exit_code == 4


def run_signal(session: Session, _name: str, _limit_ms: int) -> None:
    with session.start(["sleep", "60"]) as process:
        assert process.send_signal("TERM")


def run_read(session: Session, name: str, _limit_ms: int) -> None:
    assert session.read(f"{name}.in").text == f"content of {name}"


def run_write(session: Session, name: str, _limit_ms: int) -> None:
    session.write(f"{name}.out", f"content of {name}")


def run_upload(session: Session, name: str, _limit_ms: int) -> None:
    file = io.BytesIO(f"content of {name}".encode())
    assert session.upload(file, filename=f"{name}.out") == [f"/workspace/{name}.out"]


def run_download(session: Session, name: str, _limit_ms: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = session.download(f"{name}.in", folder)
        assert path.read_text() == f"content of {name}"


def run_stat(session: Session, name: str, _limit_ms: int) -> None:
    assert session.stat(f"{name}.in").size_bytes == len(f"content of {name}")


def run_move(session: Session, name: str, _limit_ms: int) -> None:
    session.move(f"{name}.in", f"{name}.moved")
    assert session.read(f"{name}.moved").text == f"content of {name}"


def run_append(session: Session, name: str, _limit_ms: int) -> None:
    session.append(f"{name}.in", " and more")


def run_watch(session: Session, name: str, _limit_ms: int) -> None:
    session.mkdir(name)
    with session.watch(name) as changes:
        session.remove(name)
        assert [change.kind for change in changes] == ["deleted"]


def run_destroy(session: Session, _name: str, _limit_ms: int) -> None:
    session.destroy()


RUN = {
    "exec": run_exec, "stream": run_stream, "run": run_run,
    "start": run_start, "follow": run_follow, "feed": run_feed,
    "python": run_python, "python_stream": run_python_stream,
    "install": run_install,
    "read": run_read,
    "write": run_write,
    "upload": run_upload,
    "download": run_download,
    "wait": run_wait,
    "signal": run_signal,
    "stat": run_stat,
    "move": run_move,
    "append": run_append,
    "watch": run_watch,
    "destroy": run_destroy,
}  # fmt: skip


def outcome_of(client: SandboxClient, verb: str, session_id: str, name: str, limit_ms: int = LONG_MS) -> str:
    """Do it, and give the class of the error, or OK."""
    try:
        if verb == "create":
            client.create_session(image="base")
        else:
            RUN[verb](Session(client._connection, session_id), name, limit_ms)
    except errors.SandkastenError as error:
        return type(error).__name__
    return OK


def check_effect(behind: httpx.Client, verb: str, session_id: str, name: str, outcome: str) -> None:
    """Check that no command runs twice, and that an effect that was reported has happened."""
    if verb in {"exec", "stream", "run", "start", "python", "python_stream"}:
        runs = output_of(behind, session_id, f"cat {name} 2>/dev/null").count("ran")
        assert runs == 1 if outcome == OK else runs <= 1
    elif verb in {"write", "upload"} and outcome == OK:
        assert output_of(behind, session_id, f"cat {name}.out") == f"content of {name}"
    elif verb == "append":
        count = output_of(behind, session_id, f"cat {name}.in").count("more")
        assert count == 1 if outcome == OK else count <= 1
    elif verb == "destroy" and outcome == OK:
        answer = behind.get(f"/v1/sessions/{session_id}")
        assert answer.status_code == 404 or answer.json()["status"] == "destroyed"


# --- faults on the way


def cells(names: Iterable[str], sides: Iterable[str]) -> list[object]:
    """The cells that can occur, by fault, verb and side."""
    return [
        pytest.param(name, verb, side, id=f"{name}-{verb}-{side}")
        for name, verb, side in product(names, VERBS, sides)
        if not isinstance(getattr(TABLE[name].cells[verb], side), Never)
    ]


def acquaint(client: SandboxClient) -> None:
    """Let a client know what its daemon can, however short the client's patience is."""
    for _ in range(100):
        try:
            client.health()
        except errors.SandkastenTimeoutError:
            continue
        return


@pytest.mark.parametrize(("fault", "verb", "side"), cells(ON_THE_WAY, SIDES))
def test_a_fault_on_the_way(
    relays: Mapping[str, Relay], session_ids: Mapping[str, str], fault: str, verb: str, side: str
) -> None:
    row, expected = TABLE[fault], getattr(TABLE[fault].cells[verb], side)
    relay, name = relays[side], secrets.token_hex(4)
    session_id = made_session(relay.behind) if verb == "destroy" else session_ids[side]
    if verb in {"read", "download", "stat", "move", "append"}:
        content = {"path": f"{name}.in", "text": f"content of {name}"}
        relay.behind.post(f"/v1/sessions/{session_id}/fs/write", json=content).raise_for_status()
    before = ids_of(relay.behind) if verb == "create" else set()
    assert row.fault is not None
    timeout, limit_ms = (SHORT_SECONDS, SHORT_MS) if expected == SILENT else (DEADLINE_SECONDS, LONG_MS)
    with SandboxClient(base_url=relay.url, api_key=relay.api_key, timeout=timeout) as client:
        acquaint(client)
        relay.spoil(row.fault, row.times, REQUESTS[verb])
        started = time.monotonic()
        outcome = outcome_of(client, verb, session_id, name, limit_ms)
        seconds = time.monotonic() - started
    check_effect(relay.behind, verb, session_id, name, outcome)
    made = ids_of(relay.behind) - before if verb == "create" else set()
    for made_id in made:
        relay.behind.delete(f"/v1/sessions/{made_id}")
    assert outcome == expected
    assert seconds < DEADLINE_SECONDS
    assert relay.is_spoilt or outcome != OK
    assert len(made) <= 1


# --- bad addresses


@pytest.fixture
def bad_urls(relays: Mapping[str, Relay]) -> Iterator[Mapping[str, str]]:
    """By the table's names for them."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        yield {
            "refused": f"http://127.0.0.1:{unused.getsockname()[1]}",
            "dns": "http://sandkasten.invalid:8080",
            "tls": relays["able"].url.replace("http:", "https:"),
        }


@pytest.mark.parametrize(("fault", "verb", "side"), cells(ADDRESSES, ["able"]))
def test_a_bad_address(bad_urls: Mapping[str, str], fault: str, verb: str, side: str) -> None:
    with SandboxClient(base_url=bad_urls[fault], timeout=DEADLINE_SECONDS) as client:
        started = time.monotonic()
        outcome = outcome_of(client, verb, "1a2b3c4d-5e6", "file")
    assert outcome == getattr(TABLE[fault].cells[verb], side)
    assert time.monotonic() - started < DEADLINE_SECONDS
