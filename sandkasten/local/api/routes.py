"""The daemon's routes: a row for each request, and the handlers of sessions.

A new verb of sessions is a row here and a handler. The verbs of files stand beside their handlers, in
`files` and `rawfiles`; each is served for sessions and workspaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sandkasten.local.api import rawfiles
from sandkasten.local.api.app import Row
from sandkasten.local.api.execs import Execs
from sandkasten.local.api.files import Contents
from sandkasten.local.api.http.messages import Request, Response
from sandkasten.local.api.owners import Find, Owners, Verb
from sandkasten.local.api.processes.handlers import Processes
from sandkasten.local.api.processes.runs import Runs
from sandkasten.local.api.python.handlers import Python
from sandkasten.local.api.sessions import Sessions
from sandkasten.local.api.verbs.changes import Changes
from sandkasten.local.api.verbs.finds import Finds
from sandkasten.local.api.verbs.watches import Watches
from sandkasten.local.observe.observer import Observer
from sandkasten.local.sessions.manager import Manager

_SESSION = "/v1/sessions/{session_id}"
_WORKSPACE = "/v1/workspaces/{workspace_id}"
_OF_WHAT_IS_THERE = {"fs/remove", "fs/move", "fs/copy", "fs/chmod"}


def rows_of(manager: Manager, observer: Observer) -> Iterator[Row]:
    """Yield what a manager's sessions can be asked for, most frequent first."""
    execs, sessions = Execs(manager, observer), Sessions(manager, observer)
    yield Row("POST", f"{_SESSION}/exec", execs.exec)
    yield Row("POST", f"{_SESSION}/processes/run", Runs(manager, observer, execs.keys).run)
    python = Python(manager, observer, execs.keys)
    yield Row("POST", f"{_SESSION}/python", python.run)
    yield Row("POST", f"{_SESSION}/exec/stream", execs.exec_stream)
    yield Row("DELETE", f"{_SESSION}/executions/{{key}}", execs.cancel)
    yield Row("PUT", f"{_SESSION}/executions/{{key}}/input", execs.feed)
    yield Row("GET", "/healthz", sessions.health)
    yield Row("GET", "/metrics", sessions.metrics)
    yield Row("GET", "/v1/node", sessions.node)
    yield Row("POST", "/v1/sessions", sessions.create)
    yield Row("GET", "/v1/sessions", sessions.list)
    yield Row("DELETE", "/v1/creations/{key}", sessions.cancel_creation)
    yield Row("GET", _SESSION, sessions.get)
    yield Row("DELETE", _SESSION, sessions.destroy)
    yield Row("GET", f"{_SESSION}/stats", sessions.stats)
    yield Row("POST", f"{_SESSION}/interrupt", sessions.interrupt)
    yield Row("POST", f"{_SESSION}/packages", sessions.install)
    yield Row("GET", f"{_SESSION}/packages", sessions.packages)
    yield Row("POST", f"{_SESSION}/renew", sessions.renew)
    yield Row("GET", "/v1/workspaces", sessions.list_workspaces)
    yield Row("DELETE", _WORKSPACE, sessions.delete_workspace)
    yield from _process_rows(manager, observer)
    yield from _python_rows(python)
    yield from file_rows(manager, observer)


def _process_rows(manager: Manager, observer: Observer) -> Iterator[Row]:
    """Yield what is asked of processes beside the shell."""
    processes, process = Processes(manager, observer), f"{_SESSION}/processes/{{process_id}}"
    yield Row("POST", f"{_SESSION}/processes", processes.start)
    yield Row("GET", f"{_SESSION}/processes", processes.list)
    yield Row("GET", process, processes.get)
    yield Row("DELETE", process, processes.end)
    yield Row("GET", f"{process}/output", processes.output)
    yield Row("GET", f"{process}/result", processes.result)
    yield Row("PUT", f"{process}/input", processes.feed)
    yield Row("POST", f"{process}/signal", processes.signal)
    yield Row("POST", f"{process}/resize", processes.resize)


def _python_rows(python: Python) -> Iterator[Row]:
    """Yield what is asked of Python that remembers."""
    context = f"{_SESSION}/python/{{context}}"
    yield Row("GET", f"{_SESSION}/python", python.list)
    yield Row("DELETE", context, python.close)
    yield Row("GET", f"{context}/variables", python.variables)
    yield Row("POST", f"{context}/interrupt", python.interrupt)
    yield Row("POST", f"{context}/restart", python.restart)


def file_rows(manager: Manager, observer: Observer) -> Iterator[Row]:
    """Yield what is asked of files, for sessions and workspaces alike."""
    owners = Owners(manager, observer.metrics)
    looks = (*Finds().rows(), *Watches().rows())
    for method, path, verb in (*Contents().rows(), *rawfiles.ROWS, *Changes().rows(), *looks):
        # A workspace comes to be when something is written to it.
        is_there = method == "GET" or path in _OF_WHAT_IS_THERE
        workspace = owners.of_workspace if is_there else owners.of_new_workspace
        yield Row(method, f"{_SESSION}/{path}", partial(_serve, owners.of_session, verb))
        yield Row(method, f"{_WORKSPACE}/{path}", partial(_serve, workspace, verb))


async def _serve(find: Find, verb: Verb, request: Request) -> Response:
    return await verb(await find(request), request)
