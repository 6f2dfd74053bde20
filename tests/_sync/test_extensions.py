# Made from tests/_async/test_extensions.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The local daemon's extensions of the common protocol; and clients of daemons without them."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from sandkasten.errors import ExtensionMissingError, InvalidRequestError, SandkastenInputError
from sandkasten.local.launch import LocalOptions
from sandkasten.models import ExecResult
from tests.soon import soon

from .seam import SandboxClient, Session, sleep, together, until_there


def test_interrupt_stops_the_command_and_the_shell_goes_on(session: Session) -> None:
    session.exec("plain=kept")

    def run() -> ExecResult | bool:
        return session.exec("echo before; sleep 100")

    def interrupt() -> ExecResult | bool:
        # Before it is `sleep`, a new process of bash ignores the signal, and the next one ends it.
        session.run("until pgrep -x sleep; do :; done")
        return session.interrupt()

    with soon():
        result, interrupted = together(run, interrupt)
    assert interrupted is True
    assert isinstance(result, ExecResult)
    assert (result.exit_code, result.output.strip(), result.end) == (130, "before", "interrupted")
    assert session.exec("echo $plain").output == "kept\n"


def test_interrupt_climbs_the_ladder_where_it_must(session: Session) -> None:
    def run() -> ExecResult | bool:
        return session.exec("bash -c 'trap \"\" INT TERM; touch begun; while :; do sleep 1; done'")

    def interrupt() -> ExecResult | bool:
        until_there(session, "begun")
        return session.interrupt()

    result, _ = together(run, interrupt)
    assert isinstance(result, ExecResult)
    assert result.exit_code == 137


def test_interrupting_an_idle_session_does_nothing(session: Session) -> None:
    assert session.interrupt() is False
    assert session.exec("echo fine").output == "fine\n"


def test_there_is_no_network_unless_it_is_asked_for(client: SandboxClient, session: Session) -> None:
    interfaces = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
    assert session.exec(interfaces).output == "lo\n"
    with open("/proc/net/dev", encoding="ascii") as file:
        here = [line.partition(":")[0].strip() for line in file.readlines()[2:]]
    with client.create_session(network="host") as open_session:
        assert open_session.exec(interfaces).output.split() == here


def test_a_daemon_may_refuse_its_network() -> None:
    with SandboxClient(local=LocalOptions(allow_host_network=False)) as client:
        with pytest.raises(InvalidRequestError, match="no network"):
            client.create_session(network="host")
        with client.create_session(network="none") as session:
            assert session.exec("true").ok


def test_an_unknown_network_is_refused_before_anything_is_sent() -> None:
    with SandboxClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(SandkastenInputError, match="network"):
            client.create_session(network="moon")  # type: ignore[arg-type]


def test_the_second_session_comes_from_the_pool_and_is_like_any_other() -> None:
    with SandboxClient(local=LocalOptions(pool_size=1)) as client:
        first = client.create_session()
        assert first.info().acquire_source == "cold"
        for _ in range(100):
            second = client.create_session(ttl_seconds=5)
            info = second.info()
            if info.acquire_source == "pool":
                break
            sleep(0.05)
        assert info.acquire_source == "pool"
        assert 4 < (info.expires_at - info.created_at).total_seconds() < 6
        second.write("file", "text")
        assert second.exec("cat file; pwd").output == "text/workspace\n"
        assert second.id in [listed.id for listed in client.list_sessions()]


def test_a_daemon_without_the_extension_is_asked_once_and_named() -> None:
    with HTTPServer(threaded=True) as server:
        server.expect_oneshot_request("/healthz").respond_with_json({"status": "ok"})
        with SandboxClient(base_url=server.url_for("")) as client:
            session = Session(client._connection, "1a2b3c4d-5e6")
            for _ in range(2):
                with pytest.raises(ExtensionMissingError, match=r"localhost.*'interrupt'"):
                    session.interrupt()
            with pytest.raises(ExtensionMissingError, match="'network'"):
                client.create_session(network="host")
