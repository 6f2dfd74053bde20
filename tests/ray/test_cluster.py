"""A cluster of three nodes on this machine, its clients, and its faults: one for all tests, in this order."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")  # about 290 MB, which `dev` leaves out

from sandkasten import Limits
from sandkasten.errors import SandkastenAPIError, SessionNotFoundError
from sandkasten_sync import SandboxClient, SandkastenError
from tests.local.box import until
from tests.processes import processes_with
from tests.ray.cluster import KEY, Cluster, Gateway, environment, running
from tests.soon import SOON_SECONDS

pytestmark = pytest.mark.timeout(240)
# Ray takes up to 15 s to notice a node that died without a word.
GONE_SECONDS = 45.0
SESSIONS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="sk-ray-", dir="/tmp"))  # short: Ray's sockets are below it
    home.chmod(0o711)
    try:
        with running(home, 3, SESSIONS) as found:
            yield found
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def one(cluster: Cluster) -> Iterator[SandboxClient]:
    with cluster.gateways[0].client() as client:
        yield client


@pytest.fixture
def other(cluster: Cluster) -> Iterator[SandboxClient]:
    with cluster.gateways[1].client() as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    """End what a test leaves, so that it changes no other's result."""
    yield
    if cluster.up.process.poll() is None:
        with cluster.gateways[1].client() as client:
            for info in client.list_sessions():
                client.get_session(info.id).destroy()


def all_gone(cluster: Cluster, client: SandboxClient) -> None:
    """Wait until no session and no lease is left."""
    until(lambda: not client.list_sessions() and not cluster.leases(), GONE_SECONDS)


# --- clients as they are


def test_the_readmes_first_example_on_a_cluster(cluster: Cluster) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    url = cluster.gateways[0].url
    variables = {"SANDKASTEN_BASE_URL": url, "SANDKASTEN_API_KEY": KEY, **environment(cluster.home)}
    done = subprocess.run(
        [sys.executable, "-c", example], env=variables, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "Hello, World!\n"


def test_a_session_through_two_gateways(cluster: Cluster, one: SandboxClient, other: SandboxClient) -> None:
    health = one.health()
    assert health.server == "sandkasten-ray"
    assert {"processes", "files", "resume", "idempotency"} <= set(health.extensions)
    with one.create_session(image="base", labels={"a": "b"}) as session:
        same = other.get_session(session.id)
        assert session.exec("export X=7; cd /tmp").ok
        assert same.exec("echo $X $PWD").output == "7 /tmp\n"
        info = same.info()
        assert info.node is not None
        assert session.id.startswith(f"{info.node}-")
        assert info.labels is not None
        assert info.labels["a"] == "b"
        content = os.urandom(3_000_000)
        session.write("big.bin", content)
        assert same.read("big.bin").content == content
        with session.exec_stream("for i in 1 2 3; do echo $i; done") as stream:
            assert "".join(chunk.output for chunk in stream) == "1\n2\n3\n"
        assert same.run(["cat"], input="in").stdout == "in"
        process = session.start(["sleep", "60"])
        assert [each.id for each in same.processes()] == [process.id]
        process.kill()
        assert session.id in {each.id for each in other.list_sessions()}
    assert not cluster.leases()


def test_sessions_are_spread_and_their_room_is_freed(cluster: Cluster, one: SandboxClient) -> None:
    sessions = [one.create_session(image="base") for _ in range(9)]
    assert sorted(Counter(session.info().node for session in sessions).values()) == [3, 3, 3]
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        metrics = http.get(f"{cluster.gateways[0].url}/metrics").text
    assert metrics.count("sandkasten_sessions_running{node=") == 3
    for session in sessions:
        session.destroy()
    assert not cluster.leases()


def events(lines: Iterator[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the events of a stream: number, name, data."""
    number, name = 0, ""
    for line in lines:
        kind, _, text = line.partition(": ")
        if kind == "id":
            number = int(text)
        elif kind == "event":
            name = text
        elif kind == "data":
            yield number, name, json.loads(text)


def test_a_stream_goes_on_through_another_gateway(cluster: Cluster, one: SandboxClient) -> None:
    """The first gateway is killed in the middle; the other one has the rest, and the first one comes back."""
    session, (first, second) = one.create_session(image="base"), cluster.gateways
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "a-stream-with-a-key"}
    path, body = (
        f"/v1/sessions/{session.id}/exec/stream",
        {"cmd": "for i in 1 2 3; do echo $i; sleep 1; done"},
    )
    with httpx.Client(headers=headers, timeout=60) as http:
        with http.stream("POST", first.url + path, json=body) as stream:
            seen, name, data = next(events(stream.iter_lines()))
            first.end(signal.SIGKILL)
        assert name == "chunk"
        rest = {"Last-Event-ID": str(seen)}
        with http.stream("POST", second.url + path, json=body, headers=rest) as stream:
            later = list(events(stream.iter_lines()))
    assert (later[-1][1], later[-1][2]["exit_code"]) == ("done", 0)
    output = "".join(each["chunk"] for each in (data, *(each for _, name, each in later if name == "chunk")))
    assert output.split() == ["1", "2", "3"]
    cluster.gateways[0] = Gateway(cluster.home, int(first.url.rpartition(":")[2]))
    cluster.gateways[0].wait_for('"ready"')
    with cluster.gateways[0].client() as again:
        assert again.get_session(session.id).exec("echo back").output == "back\n"


def test_a_session_asked_for_twice_is_made_once(cluster: Cluster) -> None:
    made: list[Any] = []
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "the-same-key-for-both"}
    with httpx.Client(headers=headers, timeout=60) as http:

        def create(gateway: Gateway) -> None:
            made.append(
                http.post(f"{gateway.url}/v1/sessions", json={"image": "base"}).raise_for_status().json()
            )

        threads = [threading.Thread(target=create, args=(gateway,)) for gateway in cluster.gateways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({row["id"] for row in made}) == 1
        assert len(made) == 2
        assert len(cluster.leases()) == 1
        http.delete(f"{cluster.gateways[0].url}/v1/sessions/{made[0]['id']}").raise_for_status()


def test_a_name_is_taken_in_the_whole_cluster(one: SandboxClient, other: SandboxClient) -> None:
    with one.create_session(image="base", name="bob") as session:
        with pytest.raises(SandkastenAPIError) as raised:
            other.create_session(image="base", name="bob")
        assert raised.value.error_code == "NAME_TAKEN"
        assert other.get_session("bob").info().id == session.id
    with other.create_session(image="base", name="bob"):
        pass


def test_a_workspace_has_one_home(one: SandboxClient, other: SandboxClient) -> None:
    one.workspace("notes").write("a.txt", "text")
    asked = {"image": "base", "workspace_id": "notes"}
    with one.create_session(**asked) as first, other.create_session(**asked) as second:
        assert first.exec("cat a.txt").output == second.exec("cat a.txt").output == "text"
        assert first.info().node == second.info().node
    other.workspace("notes").delete()


# --- room


def test_no_room_and_never_any_room_are_said(cluster: Cluster) -> None:
    with cluster.gateways[0].client(max_retries=0) as client:
        for limits, code in ((Limits(cpus=10_000), "INVALID_REQUEST"),):
            with pytest.raises(SandkastenAPIError) as raised:
                client.create_session(image="base", limits=limits)
            assert raised.value.error_code == code
            assert "large enough" in str(raised.value)
        sessions = [client.create_session(image="base") for _ in range(3 * SESSIONS)]
        with pytest.raises(SandkastenAPIError) as raised:
            client.create_session(image="base")
        assert (raised.value.status_code, raised.value.error_code) == (429, "CAPACITY_EXCEEDED")
        sessions.pop().destroy()
        sessions.append(client.create_session(image="base"))
        for session in sessions:
            session.destroy()
    assert not cluster.leases()


def test_room_of_a_session_that_expired_is_freed(cluster: Cluster, one: SandboxClient) -> None:
    one.create_session(image="base", ttl_seconds=1)
    all_gone(cluster, one)


# --- security


def test_who_may_ask_and_what_passes(cluster: Cluster, one: SandboxClient) -> None:
    url, node = cluster.gateways[0].url, next(iter(cluster.nodes().values()))
    session = one.create_session(image="base")
    good = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client() as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
            for path in ("/v1/sessions", f"/v1/sessions/{session.id}", "/metrics", "/nowhere"):
                assert http.get(url + path, headers=headers).status_code == 401
        # The key of clients is not the nodes', which ask for one, too.
        for headers in ({}, good):
            assert http.get(f"{node['url']}/v1/sessions", headers=headers).status_code == 401
        forged = [f"nffffffff{session.id[9:]}", session.id.replace("-", "-0", 1), f"{session.id}x"]
        for session_id in forged:
            answer = http.get(f"{url}/v1/sessions/{session_id}", headers=good)
            assert (answer.status_code, answer.json()["error_code"]) == (404, "SESSION_NOT_FOUND")
        for path in (f"/v1/sessions/{session.id}/%2e%2e/x", f"/v1/sessions/{session.id}%2Fexec/x/y"):
            assert http.get(url + path, headers=good).status_code in {400, 404}
        twice = [*good.items(), ("Idempotency-Key", "k" * 20), ("Idempotency-Key", "j" * 20)]
        answer = http.post(f"{url}/v1/sessions/{session.id}/exec", headers=twice, json={"cmd": "true"})
        assert answer.status_code == 400
    with pytest.raises(SandkastenAPIError) as raised:
        one.create_session(image="base", network="host")
    assert raised.value.error_code == "INVALID_REQUEST"
    session.destroy()
    for program in (cluster.up, *cluster.gateways):
        assert KEY not in program.log


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "another" * 6}, "There is no cluster"),
    ],
)
def test_without_the_clusters_token_nobody_gets_in(
    cluster: Cluster, variables: dict[str, str], sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandkasten.ray", "status"],
        env={**environment(cluster.home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr


# --- faults


def failing(work: Callable[[], Any], failures: list[BaseException]) -> threading.Thread:
    """Start work that is to fail."""

    def run() -> None:
        try:
            work()
        except (SandkastenError, httpx.HTTPError) as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def killed(node: dict[str, Any]) -> None:
    """Kill a node's raylet and daemon at once."""
    for name in ("raylet", "daemon"):
        os.kill(node[name], signal.SIGKILL)


def test_a_node_whose_actor_is_killed_is_back_without_its_sessions(
    cluster: Cluster, one: SandboxClient
) -> None:
    session = one.create_session(image="base")
    tag = session.info().node
    before = cluster.nodes()[tag or ""]
    os.kill(before["actor"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{before['daemon']}").exists())
    with pytest.raises(SessionNotFoundError):
        session.exec("true")
    until(lambda: tag in cluster.nodes(), 60)
    with pytest.raises(SessionNotFoundError):
        session.exec("true")
    all_gone(cluster, one)


def test_a_daemon_that_hangs_is_killed(cluster: Cluster, one: SandboxClient) -> None:
    session = one.create_session(image="base")
    tag = session.info().node or ""
    before = cluster.nodes()[tag]
    os.kill(before["daemon"], signal.SIGSTOP)
    others = [each for each in cluster.nodes() if each != tag]
    assert len(others) == 2
    assert one.list_sessions() == []  # within the time that a node has to answer
    until(lambda: not Path(f"/proc/{before['daemon']}").exists(), 60)
    until(lambda: tag in cluster.nodes(), 60)
    with pytest.raises(SessionNotFoundError):
        session.exec("true")
    all_gone(cluster, one)


def test_a_node_is_killed_while_it_is_used(
    cluster: Cluster, one: SandboxClient, other: SandboxClient
) -> None:
    sessions = [one.create_session(image="base") for _ in range(3)]
    marker = f"3{int(time.time())}7"
    by_tag = {session.info().node: session for session in sessions}
    processes = cluster.nodes()
    # Not the node that the gateways and the keeper are connected to: that is the head's.
    tag = max(processes, key=lambda each: processes[each]["raylet"])
    lost, kept = by_tag.pop(tag), next(iter(by_tag.values()))
    failures: list[BaseException] = []
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        content = (b"x" * 65536 for _ in iter(lambda: time.sleep(0.05), 1))
        upload = f"{cluster.gateways[0].url}/v1/sessions/{lost.id}/fs/raw?path=x"
        with lost.exec_stream(f"echo; sleep {marker}") as stream:
            next(iter(stream))
            same = other.get_session(lost.id)
            threads = [
                failing(lambda: same.run(["sleep", marker]), failures),
                failing(lambda: http.put(upload, content=content).raise_for_status(), failures),
            ]
            until(lambda: len(processes_with(f"sleep\0{marker}")) >= 2)
            killed(processes[tag])
            started = time.monotonic()
            with pytest.raises(SandkastenError) as raised:
                list(stream)
        for thread in threads:
            thread.join(30)
    assert time.monotonic() - started < SOON_SECONDS
    assert isinstance(raised.value, SessionNotFoundError)
    assert len(failures) == 2
    with pytest.raises(SessionNotFoundError, match="gone"):
        lost.exec("true")
    assert kept.exec("echo there").output == "there\n"
    assert not processes_with(f"sleep\0{marker}")
    with one.create_session(image="base") as new:
        assert new.exec("echo new").output == "new\n"
    for session in by_tag.values():
        session.destroy()
    all_gone(cluster, one)


def test_in_the_end_nothing_is_left(cluster: Cluster) -> None:
    daemons = [node["daemon"] for node in cluster.nodes().values()]
    assert cluster.up.end() == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in daemons))
    assert not processes_with(str(cluster.home / "data"))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(cluster.up.process.pid, 0)
