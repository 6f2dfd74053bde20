"""The server, through its command line and plain HTTP over TCP."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandkasten.local.images.catalogue import unused
from sandkasten.local.launch import LocalOptions
from sandkasten.local.observe.metrics import Metrics
from sandkasten.local.options import Options, OptionsError
from sandkasten_sync import SandboxClient, SandkastenAPIError
from tests.local.box import until
from tests.processes import descriptors_of, processes_with

KEY = "a-key-" + secrets.token_hex(16)
COMMAND = [sys.executable, "-m", "sandkasten.local"]
ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Nothing of whoever runs the tests but what is needed to find programs."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": str(ROOT)}


def run(
    *words: str | Path, expect: int = 0, cwd: Path | None = None, command: list[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    done = subprocess.run(
        [*command, *map(str, words)],
        env=environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


class Server:
    """One that runs, and what it logged so far."""

    def __init__(self, log: Path, *words: str | Path, stdin: int = subprocess.DEVNULL) -> None:
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *map(str, words)],
                env=environment(),
                stdin=stdin,
                stderr=file,
                stdout=file,
                start_new_session=True,  # so that a signal is for the daemon alone
            )
        self.log_file = log
        self.address: str = until(self._ready_line)["address"]

    def _ready_line(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.log
        text = self.log
        return json.loads(text.splitlines()[0]) if "\n" in text else None

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the logged events of a name."""
        rows = [json.loads(line) for line in self.log.splitlines()]
        return [row for row in rows if row["event"] == name]

    def http(self, key: str | None = KEY, **settings: Any) -> httpx.Client:
        """A client of another make."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20, **settings)

    def client(self) -> SandboxClient:
        """A client of ours."""
        return SandboxClient(base_url=self.address, api_key=KEY)

    def metrics(self) -> dict[str, float]:
        """All numbers, by name and labels."""
        with self.http() as http:
            text = http.get("/metrics").raise_for_status().text
        rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in rows}

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a key file, for data, too; root's sandboxes can pass through."""
    path = Path(tempfile.mkdtemp(prefix="server-test-", dir="/tmp"))
    path.chmod(0o711)
    (path / "key").touch(0o600)
    (path / "key").write_text(f"{KEY}\n")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*words: str | Path, listen: str = "127.0.0.1:0", key: bool = True) -> Server:
            log = place / f"log-{secrets.token_hex(4)}"
            keyed = ("--api-key-file", place / "key") if key else ()
            server = Server(log, "--listen", listen, *keyed, "--data-dir", place / "data", *words)
            stack.callback(server.process.wait, 20)
            stack.callback(server.process.kill)
            return server

        yield start


# --- what it refuses


def refused(*words: str | Path, code: int = 2) -> str:
    """The sentence of a server that does not start."""
    done = run("serve", *words, expect=code)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


REFUSALS = {
    "beyond loopback without a key": (["--listen", "0.0.0.0:0"], r"no key.*--api-key-file"),
    "IPv6 without a key": (["--listen", "[::]:0"], r"no key.*--api-key-file"),
    "loopback without a word about keys": (["--listen", "127.0.0.1:0"], r"no key.*--no-api-key"),
    "beyond loopback in the open": (["--listen", "0.0.0.0:0", "--no-api-key"], r"Use --api-key-file"),
    "both": (["--api-key-file", "{key}", "--no-api-key"], "exclude each other"),
    "the host's network without a key": (
        ["--listen", "127.0.0.1:0", "--no-api-key", "--allow-host-network"],
        r"^--no-api-key and --allow-host-network exclude each other.*--api-key-file",
    ),
    "the host's network without a key, at a socket": (
        ["--listen", "unix:/tmp/none/there", "--no-api-key", "--allow-host-network"],
        "exclude each other",
    ),
    "no address": (
        ["--api-key-file", "{key}", "--listen", "nowhere"],
        r"'nowhere' is no address.*127\.0\.0\.1",
    ),
    "no host": (["--api-key-file", "{key}", "--listen", ":8080"], "no address"),
    "no port": (["--api-key-file", "{key}", "--listen", "127.0.0.1"], "no address"),
    "a port too high": (["--api-key-file", "{key}", "--listen", "127.0.0.1:65536"], "no address"),
    "a relative socket": (["--api-key-file", "{key}", "--listen", "unix:here"], "absolute path"),
    "a long socket": (["--api-key-file", "{key}", "--listen", f"unix:/{'x' * 107}"], "107 bytes"),
    "no key file": (["--api-key-file", "{key}-not"], r"cannot be read: No such file.*token_urlsafe"),
    "no sessions": (
        ["--api-key-file", "{key}", "--max-sessions", "0"],
        "--max-sessions must be a whole number",
    ),
    "no configuration": (["--config", "{key}-not"], "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_a_sentence(place: Path, name: str) -> None:
    words, pattern = REFUSALS[name]
    sentence = refused(*(word.replace("{key}", str(place / "key")) for word in words))
    assert re.search(pattern, sentence), sentence


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused(place: Path, mode: int) -> None:
    (place / "key").chmod(mode)
    sentence = refused("--api-key-file", place / "key", "--listen", "127.0.0.1:0")
    assert f"chmod 600 {place / 'key'}" in sentence
    assert KEY not in sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_key_that_another_user_knows_is_refused(place: Path) -> None:
    os.chown(place / "key", 65_534, 65_534)
    assert "Another user (uid 65534) owns" in refused(
        "--api-key-file", place / "key", "--listen", "127.0.0.1:0"
    )


def test_a_socket_that_others_could_replace_is_refused(place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    socket = place / "open" / "daemon.sock"
    sentence = refused("--api-key-file", place / "key", "--listen", f"unix:{socket}", code=1)
    assert f"chmod o-w {place / 'open'}" in sentence
    assert not socket.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"two\nlines\n", b"\xff\xfe\n"])
def test_a_file_that_holds_no_key_is_refused(place: Path, content: bytes) -> None:
    (place / "key").write_bytes(content)
    assert "one line of printable ASCII" in refused("--api-key-file", place / "key")


CONFIGURATIONS = {
    "node_tag = 'N1'": "node_tag must be 1 to 32 characters of a-z and 0-9",
    "node_tag = 'n1-x'": "node_tag must be",
    "node_tag = ''": "node_tag must be",
    "node_tag = 1": "node_tag must be",
    "colour = 1": r"no option 'colour'\. There are: .*max_sessions",
    "[limits]\ncolour = 1": r"no limit 'colour'\. There are: .*memory_bytes",
    "[limits]\ncpus = 0": "cpus must be from",
    "limits = 3": "limits must be a table",
    "max_sessions = 'many'": "max_sessions must be a whole number",
    "allow_host_network = 1": "allow_host_network must be true or false",
    "listen = 8080": "listen must be a text",
    "log_format = 'xml'": "log_format must be json or text",
    "max_sessions =": "is not TOML",
}


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_configuration_that_makes_no_sense_is_refused(place: Path, text: str) -> None:
    (place / "daemon.toml").write_text(f"api_key_file = 'key'\n{text}\n")
    assert re.search(CONFIGURATIONS[text], refused("--config", place / "daemon.toml"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("no_api_key = true", "--allow-host-network"),
        ("allow_host_network = true", "--no-api-key"),
        ("allow_host_network = true\napi_key_file = 'key'", "--no-api-key"),
        ("no_api_key = true\nallow_host_network = true", "--log-format=json"),
    ],
)
def test_the_hosts_network_needs_a_key_wherever_it_is_asked_for(place: Path, text: str, word: str) -> None:
    (place / "daemon.toml").write_text(f"{text}\n")
    assert "exclude each other" in refused("--config", place / "daemon.toml", word)


def taken_over(directory: Path, *names: str) -> Path:
    """Return a directory with modules of these names that end whichever program imports them."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.py").write_text("raise SystemExit('taken over')\n")
    return directory


def test_modules_of_the_current_directory_are_not_the_daemons(place: Path) -> None:
    """Python's own first few are loaded before any code of ours runs: there, only -P prevents anything."""
    modules = ("argparse", "json", "queue", "ssl", "tomllib", "httptools", "uvicorn")
    here = taken_over(place / "here", *modules)
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ("serve", "--api-key-file", place / "key", "--listen")
        done = run(*words, f"127.0.0.1:{other.getsockname()[1]}", expect=1, cwd=here)
    assert "Address already in use" in done.stderr  # it came as far as that
    taken_over(here, "typing")
    assert (
        "Sandboxes can be built" in run("doctor", cwd=here, command=[COMMAND[0], "-P", *COMMAND[1:]]).stdout
    )


def test_modules_of_the_current_directory_are_not_the_command_lines(place: Path) -> None:
    """Files that came out of a sandbox may lie there."""
    here = taken_over(place / "here", "click", "dataclasses", "json", "ssl", "traceback", "sandkasten_sync")
    command = [sys.executable, "-m", "sandkasten"]
    assert "sandkasten up" in run("ls", expect=125, cwd=here, command=command).stderr
    taken_over(here, "typing")
    assert "Usage" in run("--help", cwd=here, command=[command[0], "-P", *command[1:]]).stdout


def test_an_address_that_is_taken(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        sentence = refused("--api-key-file", place / "key", "--listen", address, code=1)
    assert f"cannot listen at {address}: Address already in use" in sentence


def test_a_wrong_word_is_told_in_a_sentence() -> None:
    program = "python -m sandkasten.local"
    assert run("serve", "--nothing", expect=2).stderr == (
        f"Unrecognized arguments: --nothing. See: {program} serve --help\n"
    )
    assert run(expect=2).stderr.endswith(f"required: COMMAND. See: {program} --help\n")


# --- what it serves


def test_a_session_from_beginning_to_end(serve: Callable[..., Server]) -> None:
    server = serve("--pool-size", "0", "--default-ttl", "77")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.address)
    marker = secrets.token_hex(8)
    with server.client() as client, client.create_session(image="base") as session:
        assert session.exec(f"export X={marker}; cd /tmp").ok
        assert session.exec("echo $X $PWD; exit 3").output == f"{marker} /tmp\n"
        with session.exec_stream("echo one; echo two") as stream:
            assert "".join(chunk.output for chunk in stream) == "one\ntwo\n"
        session.write(f"{marker}.txt", marker)
        assert session.read(f"{marker}.txt").text == marker
        with pytest.raises(SandkastenAPIError) as raised:
            session.exec(f"sleep 10 # {marker}", timeout_ms=50)
        assert raised.value.error_code == "COMMAND_TIMEOUT"
        info = client.get_session(session.id).info()
        assert (info.expires_at - info.last_activity).total_seconds() == 77
    with server.client() as client, pytest.raises(SandkastenAPIError):
        client.create_session(image=f"no-{marker}")
    numbers = server.metrics()
    assert numbers['sandkasten_sessions_created_total{source="cold"}'] == 1
    assert numbers['sandkasten_sessions_ended_total{reason="destroyed"}'] == 1
    assert numbers["sandkasten_sessions_running"] == 0
    assert numbers['sandkasten_execs_total{outcome="ok"}'] == 2
    assert numbers['sandkasten_execs_total{outcome="failed"}'] == 1
    assert numbers['sandkasten_execs_total{outcome="timeout"}'] == 1
    assert numbers["sandkasten_exec_seconds_count"] == 4
    assert numbers['sandkasten_file_bytes_total{direction="in"}'] == len(marker)
    assert numbers['sandkasten_file_bytes_total{direction="out"}'] == len(marker)
    route = "/v1/sessions/{session_id}/exec"
    assert numbers[f'sandkasten_requests_total{{method="POST",route="{route}",status="200"}}'] == 2
    assert server.end() == 0
    (created,), (ended,) = server.events("session.created"), server.events("session.ended")
    assert created["session_id"] == ended["session_id"] == session.id
    assert ended["reason"] == "destroyed"
    timeout = next(event for event in server.events("request") if event["status"] == 504)
    assert timeout["route"] == route
    assert timeout["duration_ms"] >= 50
    assert timeout["request_id"]
    assert marker not in server.log
    assert KEY not in server.log
    assert "healthz" not in server.log
    assert server.log.splitlines()[-1].count('"stopped"') == 1


def test_a_session_as_version_0_3_0_of_the_client_asks_for_it(serve: Callable[..., Server]) -> None:
    with serve("--pool-size", "0").http() as http:
        made = http.post("/v1/sessions", json={"image": "base", "ttl_seconds": 60, "workspace_id": "old-one"})
        url = f"/v1/sessions/{made.raise_for_status().json()['id']}"
        body = {"cmd": "echo hi; exit 3", "timeout_ms": 30000, "raw_output": False}
        answer = http.post(f"{url}/exec", json=body).raise_for_status().json()
        assert (answer["exit_code"], answer["cwd"], answer["output"]) == (3, "/workspace", "hi\n")
        assert answer["truncated"] is False
        assert answer["duration_ms"] >= 0
        with http.stream("POST", f"{url}/exec/stream", json=body) as stream:
            lines = [line for line in stream.iter_lines() if line.startswith(("event: ", "data: "))]
        assert lines[-2] == "event: done"
        chunks = [json.loads(line[6:]) for line in lines[1:-2:2]]
        assert "".join(chunk["chunk"] for chunk in chunks) == "hi\n"
        assert json.loads(lines[-1][6:])["exit_code"] == 3
        content = base64.b64encode(b"text").decode()
        http.post(f"{url}/fs/write", json={"path": "d/f", "content_base64": content}).raise_for_status()
        read = http.get(f"{url}/fs/read", params={"path": "d/f", "max_bytes": 2}).raise_for_status().json()
        assert read == {"path": "d/f", "content_base64": base64.b64encode(b"te").decode(), "truncated": True}
        upload = {"data": {"path": "/workspace/u"}, "files": {"file": ("f.bin", b"\0")}}
        sent = http.post(f"{url}/fs/upload", **upload).raise_for_status().json()
        assert sent == {"ok": True, "paths": ["/workspace/u/f.bin"]}
        assert http.get(f"{url}/stats").raise_for_status().json()["memory_bytes"] >= 0
        assert http.get(url).json()["workspace_id"] == "old-one"
        assert [row["id"] for row in http.get("/v1/sessions").json()] == [made.json()["id"]]
        assert [row["id"] for row in http.get("/v1/workspaces").json()["workspaces"]] == ["old-one"]
        assert http.delete(url).raise_for_status().json() == {"ok": True}
        assert http.delete("/v1/workspaces/old-one").raise_for_status().json() == {"ok": True}
        assert http.get("/v1/sessions").json() == []


def test_the_key_is_needed_for_all_but_health(serve: Callable[..., Server]) -> None:
    server = serve("--pool-size", "0")
    for key in (None, "wrong", KEY[:-1], f"{KEY}x", KEY.upper(), f"x{KEY}"):
        with server.http(key) as http:
            assert http.get("/healthz").json()["status"] == "ok"
            for path in ("/metrics", "/v1/sessions", "/nowhere"):
                assert http.get(path).status_code == 401
    with server.http() as http:
        assert http.get("/nowhere").status_code == 404
        metrics = http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'sandkasten_requests_total{method="GET",route="none",status="401"} 18\n' in metrics.text


def test_nothing_of_what_is_no_request_and_no_form_is_logged(serve: Callable[..., Server]) -> None:
    server = serve("--pool-size", "0")
    with server.http() as http:
        for _ in range(3):
            form = {"Content-Type": "multipart/form-data; boundary=B"}
            assert (
                http.post("/v1/workspaces/ab/fs/upload", content=b"secret", headers=form).status_code == 400
            )
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(b"secret\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert [row["message"] for row in server.events("message")] == ["1 connections were refused with 400."]


def test_small_answers_are_not_held_back(serve: Callable[..., Server]) -> None:
    with serve("--pool-size", "0").http() as http:
        http.get("/v1/sessions")
        moments = [time.monotonic()]
        for _ in range(40):
            http.get("/v1/sessions")
            moments.append(time.monotonic())
    # With Nagle's algorithm each takes 40 ms, and without it only those during which others had the machine.
    assert min(later - earlier for earlier, later in pairwise(moments)) < 0.03


def test_without_a_key_no_web_page_gets_in(serve: Callable[..., Server]) -> None:
    server = serve("--no-api-key", key=False)
    port = server.address.rpartition(":")[2]
    with server.http(None) as http:
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost"):
            assert http.get("/v1/sessions", headers={"Host": host}).status_code == 200
        for headers in (
            {"Host": f"attacker.example:{port}"},
            {"Host": f"localhost.attacker.example:{port}"},
            {"Origin": "https://attacker.example"},
            {"Origin": "null"},
            {"Origin": f"http://localhost:{port}"},
            {"Sec-Fetch-Site": "cross-site"},  # an image of a page, say: it has no origin
            {"Sec-Fetch-Site": "same-site"},  # a page of another port of this machine
            {"Sec-Fetch-Site": "same-origin"},  # there are no pages here
            {"Sec-Fetch-Site": ""},
            {"Referer": "https://attacker.example/"},
        ):
            for path in ("/v1/sessions", "/metrics", "/v1/workspaces/x1/fs/read?path=x", "/nowhere"):
                assert http.get(path, headers=headers).status_code == 401, (path, headers)
        assert http.get("/v1/sessions", headers={"Sec-Fetch-Site": "none"}).status_code == 200


def test_peers_that_say_nothing_keep_nobody_out(serve: Callable[..., Server]) -> None:
    server = serve("--pool-size", "0")
    host, port = server.address.removeprefix("http://").split(":")
    descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors + 20, descriptors + 20))
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection((host, int(port))))
        for _ in range(4):
            with server.http() as http:
                assert http.get("/v1/sessions").status_code == 200
        assert len(server.log.splitlines()) <= 6  # the first, one for each request, and no flood of others


def test_a_unix_socket_is_private_and_taken_over_from_the_dead(
    place: Path, serve: Callable[..., Server]
) -> None:
    path = place / "daemon.sock"
    first = serve(listen=f"unix:{path}")
    assert first.address == f"unix://{path}"
    assert path.stat().st_mode & 0o777 == 0o600
    again = refused("--api-key-file", place / "key", "--listen", f"unix:{path}", code=1)
    assert "Address already in use" in again
    first.end(signal.SIGKILL)
    assert path.is_socket()
    second = serve("--no-api-key", listen=f"unix:{path}", key=False)
    with SandboxClient(base_url=second.address) as client:
        assert client.create_session(image="base").exec("echo hi").output == "hi\n"
    assert second.end() == 0
    assert not path.exists()


def test_the_command_line_wins_over_the_file(place: Path, serve: Callable[..., Server]) -> None:
    (place / "daemon.toml").write_text(
        "listen = '0.0.0.0:1'\napi_key_file = 'key'\ndata_dir = 'other'\nmax_sessions = 7\npool_size = 0\n"
        "default_ttl_seconds = 66\nallow_host_network = true\nlog_format = 'json'\n"
        "[limits]\ncpus = 0.5\nfile_bytes = 65536\nmemory_bytes = 'unlimited'\n"
    )
    server = serve("--config", place / "daemon.toml", "--max-sessions", "1", key=False)
    with server.client() as client, client.create_session(image="base", network="host") as session:
        info = session.info()
        assert (info.expires_at - info.last_activity).total_seconds() == 66
        assert not session.exec("head -c 70000 /dev/zero > big").ok
        with pytest.raises(SandkastenAPIError) as raised:
            client.create_session(image="base")
        assert raised.value.error_code == "CAPACITY_EXCEEDED"
        client.workspace("kept-here").write("x", "y")
    assert (place / "data/workspaces/kept-here").is_dir()
    assert not (place / "other").exists()


def test_the_hosts_network_is_not_given_unasked(serve: Callable[..., Server]) -> None:
    with (
        serve("--pool-size", "0").client() as client,
        pytest.raises(SandkastenAPIError, match="operator can allow it"),
    ):
        client.create_session(image="base", network="host")


def test_logs_for_people(place: Path) -> None:
    log = place / "log"
    words = ("--api-key-file", place / "key", "--listen", "127.0.0.1:0", "--log-format", "text")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "serve", *map(str, words), "--data-dir", str(place / "data")],
            env=environment(),
            stderr=file,
        )
    try:
        text = until(lambda: "\n" in log.read_text() and log.read_text())
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert re.match(r"\S+ info    ready address=http://127\.0\.0\.1:\d+ version=\S+ pid=\d+\n", text)


# --- how it ends


def test_a_node_of_several_says_so_and_ends_with_its_owner(place: Path) -> None:
    ours, theirs = socket.socketpair()
    words = ("--listen", "127.0.0.1:0", "--api-key-file", place / "key", "--data-dir", place / "data")
    with ours, theirs:
        node = ("--node-tag", "n1", "--until-input-ends", "--pool-size", "0", "--max-sessions", "5")
        server = Server(place / "log", *words, *node, stdin=theirs.fileno())
        theirs.close()
        (ready,) = server.events("ready")
        assert ready["node"] == "n1"
        with server.client() as client, server.http() as http:
            session = client.create_session(image="base")
            assert re.fullmatch(r"n1-[0-9a-f]{8}-[0-9a-f]{3}", session.id)
            assert session.info().node == "n1"
            assert client.get_session(session.id).exec("echo hi").output == "hi\n"
            facts = http.get("/v1/node").json()
        assert (facts["node"], facts["max_sessions"]) == ("n1", 5)
        assert {"base", "python"} <= set(facts["images"])
        assert facts["limits"]["memory_bytes"] > 0
        ours.shutdown(socket.SHUT_RDWR)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing(serve: Callable[..., Server], number: signal.Signals) -> None:
    inherited = signal.signal(number, signal.SIG_DFL)  # where tests run in the background, some are ignored
    try:
        server = serve("--pool-size", "1")
    finally:
        signal.signal(number, inherited)
    run_dir = own_run_dir(server)
    marker = f"3{secrets.randbelow(10**8):08d}"
    with server.client() as client:
        session = client.create_session(image="base")
        session.exec(f"sleep {marker}7 & (trap '' HUP INT TERM; setsid sleep {marker}7) &")
        with session.exec_stream(f"echo; sleep {marker}7") as stream:
            next(iter(stream))
            until(lambda: len(processes_with(f"sleep\0{marker}7")) == 3)
            assert server.end(number) == 0
            with pytest.raises(httpx.HTTPError):
                list(stream)
    assert not processes_with(f"sleep\0{marker}7")
    assert not processes_with(run_dir)
    assert not Path(run_dir).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])))
    assert [event["reason"] for event in server.events("session.ended")] == ["stopped"]


def own_run_dir(server: Server) -> str:
    """The one that a server holds the lock of; while it sweeps it opens those of others, too."""

    def only_lock() -> list[str] | None:
        paths = descriptors_of(server.process.pid)
        found = [path for path in paths if re.fullmatch(r".*/sandkasten-run-[^/]+/\.lock", path)]
        return found if len(found) == 1 else None

    (found,) = until(only_lock)
    return os.path.dirname(found)


def test_what_was_ignored_stays_ignored_but_not_in_sandboxes(serve: Callable[..., Server]) -> None:
    inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        server = serve("--pool-size", "0")
    finally:
        signal.signal(signal.SIGHUP, inherited)
    with server.client() as client, client.create_session(image="base") as session:
        server.process.send_signal(signal.SIGHUP)
        assert session.exec("kill -HUP $BASHPID; echo survived", timeout_ms=5000).output == ""
    assert server.end() == 0


def test_workspaces_outlive_the_daemon_however_it_ends(serve: Callable[..., Server]) -> None:
    first = serve("--pool-size", "0")
    with first.client() as client:
        client.create_session(image="base", workspace_id="lasting").exec("echo one > a; sync")
        client.workspace("lasting").write("b", "two")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = serve("--pool-size", "0")
    with second.client() as client, client.create_session(image="base", workspace_id="lasting") as session:
        assert session.exec("cat a b; echo three > c").output == "one\ntwo"
    assert second.end() == 0
    with serve("--pool-size", "0").client() as client:
        assert client.workspace("lasting").read("c").text == "three\n"


# --- doctor and images


def test_the_doctor_says_whether_sandboxes_can_be_built() -> None:
    assert "Sandboxes can be built here" in run("doctor").stdout


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A root file system with bash and nothing else."""
    directory = Path(tempfile.mkdtemp(prefix="server-root-", dir="/tmp"))
    (directory / "usr/bin").mkdir(parents=True)
    shutil.copy("/bin/bash", directory / "usr/bin/bash")
    linked = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        copy = directory / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    (directory / "etc/ssl").mkdir(parents=True)
    (directory / "etc/ssl/certs").symlink_to("/workspace")
    (directory / "etc/issue").write_text("the first\n")
    yield directory
    shutil.rmtree(directory)


def test_an_image_is_added_used_replaced_and_removed(
    place: Path, root: Path, serve: Callable[..., Server]
) -> None:
    data = ("--data-dir", place / "data")
    assert run("image", "list", *data).stdout == ""
    assert "There is no image 'mine'" in run("image", "rm", "mine", *data, expect=1).stderr
    server = serve("--pool-size", "1")
    run("image", "add", "mine", root, *data)
    assert re.match(r"mine +\d+\.\d MiB", run("image", "list", *data).stdout)
    assert "already" in run("image", "add", "mine", root, *data, expect=1).stderr
    with server.client() as client:
        with pytest.raises(SandkastenAPIError, match=r"There are: base,.* mine") as raised:
            client.create_session(image="other")
        assert raised.value.error_code == "INVALID_IMAGE"
        with client.create_session(image="mine") as session:
            assert session.exec("echo $(</etc/issue); type ls").output.startswith("the first\n")
            assert session.exec("for i in /etc/ssl/*; do echo $i; done").output == "/etc/ssl/certs\n"
            assert session.exec("echo /workspace/*").output == "/workspace/*\n"  # nothing was made there
            for words in (["rm", "mine"], ["add", "mine", root, "--replace"]):
                assert "in use by a session" in run("image", *words, *data, expect=1).stderr
            assert session.exec("echo $(</etc/issue)").output == "the first\n"
        (root / "etc/issue").write_text("the second\n")
        run("image", "add", "mine", root, "--replace", *data)
        with client.create_session(image="mine") as session:
            assert session.exec("echo $(</etc/issue)").output == "the second\n"
            assert session.info().acquire_source == "cold"
        with server.http() as http:  # what goes wrong does not keep it
            answer = http.post("/v1/sessions", json={"image": "mine", "workspace_id": "-"})
            assert answer.json()["error_code"] == "INVALID_WORKSPACE"
            with unused(place / "data/images", "mine"):
                busy = http.post("/v1/sessions", json={"image": "mine"})
            assert (busy.status_code, busy.json()["error_code"]) == (503, "IMAGE_BUSY")
        run("image", "rm", "mine", *data)
        with pytest.raises(SandkastenAPIError, match="There is no image 'mine'"):
            client.create_session(image="mine")


@pytest.mark.parametrize("name", ["..", "../data", ".", "a/b", "base/../x", "A" * 200])
def test_names_of_images_lead_nowhere(serve: Callable[..., Server], name: str) -> None:
    with serve("--pool-size", "0").http() as http:
        answer = http.post("/v1/sessions", json={"image": name})
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_IMAGE"


def test_a_built_in_name_or_no_source_is_refused(place: Path, root: Path) -> None:
    data = ("--data-dir", place / "data")
    assert "built-in" in run("image", "add", "python", root, *data, expect=1).stderr
    assert "no file or directory" in run("image", "add", "mine", place / "none", *data, expect=1).stderr


# --- the parts


def test_the_clients_defaults_are_the_daemons_except_for_network_and_packages() -> None:
    sent = dataclasses.asdict(LocalOptions())
    assert Options.from_mapping(sent) == dataclasses.replace(
        Options(), allow_host_network=True, allowed_packages="all"
    )


def test_options_are_checked_by_name_and_type() -> None:
    for settings in ({"max_sessions": True}, {"data_dir": ""}, {"pool_size": -1}, {"unknown": 1}):
        with pytest.raises(OptionsError, match=next(iter(settings))):
            Options.from_mapping(settings)


def test_metrics_are_in_prometheus_format() -> None:
    metrics = Metrics()
    metrics.request_ended("GET", 'a"b\\c\nd', 200)
    metrics.exec_ended("ok", 0.01)
    metrics.exec_ended("ok", 5000)
    metrics.exec_ended("lost", None)
    text = metrics.render(sessions_running=3, pool_ready=1)
    assert 'sandkasten_requests_total{method="GET",route="a\\"b\\\\c\\nd",status="200"} 1\n' in text
    assert 'sandkasten_exec_seconds_bucket{le="0.001"} 0\n' in text
    assert 'sandkasten_exec_seconds_bucket{le="0.01"} 1\n' in text
    assert 'sandkasten_exec_seconds_bucket{le="600.0"} 1\n' in text
    assert 'sandkasten_exec_seconds_bucket{le="+Inf"} 2\n' in text
    assert "sandkasten_exec_seconds_count 2\n" in text
    assert "sandkasten_sessions_running 3\n" in text
    sample = re.compile(r'[a-z_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? [0-9.]+')
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line) or sample.fullmatch(line), line
