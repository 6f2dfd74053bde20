"""Kernels in sandboxes: real ones, started as Jupyter's clients start them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

from sandkasten.local.launch import LocalDaemon
from sandkasten.notebook.kernels.provisioner import SandboxProvisioner
from sandkasten.notebook.kernels.sandboxed import CannotStartKernelError, Choice
from sandkasten.notebook.kernels.specs import install
from sandkasten_sync import SandboxClient

from .kernel import Outputs

SECONDS = 30
NAME = "sandkasten-test"
BARE = "sandkasten-bare"
HERE = Path(__file__).resolve()


@contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def place(daemon: LocalDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a client of Jupyter that finds the kernels."""
    prefix = tmp_path_factory.mktemp("prefix")
    install(NAME, "Python (sandbox)", Choice(environment=sys.prefix, copies_files=True), str(prefix))
    install(BARE, "Python (bare)", Choice(image="python"), str(prefix))
    provisioners = KernelProvisionerFactory.instance().provisioners
    value = f"{SandboxProvisioner.__module__}:{SandboxProvisioner.__name__}"
    provisioners["sandkasten"] = EntryPoint("sandkasten", value, "jupyter_client.kernel_provisioners")
    yield {
        "JUPYTER_PATH": str(prefix / "share" / "jupyter"),
        "SANDKASTEN_BASE_URL": f"unix://{daemon.target.socket_path}",
        "SANDKASTEN_API_KEY": str(daemon.target.api_key),
        "A_SECRET": "of the host",
    }
    del provisioners["sandkasten"]


class SandboxedKernel:
    """A kernel that cells are run in."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str, answer: str | None = None) -> Outputs:
        outputs = Outputs()

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                outputs.texts.append((0.0, content["text"]))
                if "begun" in content["text"]:
                    self.manager.interrupt_kernel()
            elif message["msg_type"] in {"display_data", "execute_result"}:
                outputs.displays.append(content["data"])

        def ask(_message: dict[str, Any]) -> None:
            self.client.input(answer)

        reply = self.client.execute_interactive(
            code, timeout=SECONDS, output_hook=take, allow_stdin=answer is not None, stdin_hook=ask
        )
        if reply["content"]["status"] == "error":
            outputs.error = str(reply["content"]["ename"])
        return outputs


@pytest.fixture(scope="module")
def sandboxed(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxedKernel]:
    """One kernel for the tests of this module."""
    with variables(place):
        kernel = SandboxedKernel(
            *start_new_kernel(SECONDS, NAME, cwd=str(tmp_path_factory.mktemp("notebooks")))
        )
    yield kernel
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel()


CELLS = (
    "x = 42; print('begins')",
    "x + 1",
    "import socket\ntry: socket.create_connection(('192.0.2.1', 80))\nexcept OSError as error: print(error)",
    f"import os; print([os.path.exists(path) for path in ({str(HERE)!r}, '/root/.bashrc', '/etc/shadow')])",
    "print(os.environ.get('A_SECRET'), 'JPY_PARENT_PID' in os.environ, os.getcwd())",
    "print(sorted(os.listdir()), open('data.csv').read(), end='')",
)


def test_nbclient_runs_a_notebook_in_a_sandbox_that_has_its_files_and_no_more(
    place: dict[str, str], daemon: LocalDaemon, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    (tmp_path / ".env").write_text("A_SECRET")
    (tmp_path / "link").symlink_to("/etc/passwd")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    resources = {"metadata": {"path": str(tmp_path)}}
    target = daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        before = {info.id for info in client.list_sessions()}
        with variables(place):
            done = NotebookClient(
                nbformat.v4.new_notebook(cells=cells), timeout=SECONDS, kernel_name=NAME, resources=resources
            ).execute()
        assert {info.id for info in client.list_sessions()} <= before  # it ended with the notebook
    said = ["".join(output.get("text", "") for output in cell.outputs) for cell in done.cells]
    assert done.cells[1].outputs[0].data == {"text/plain": "43"}
    assert said == [
        "begins\n",
        "",
        "[Errno 101] Network is unreachable\n",
        "[False, False, False]\n",
        "None False /workspace\n",
        "['data.csv'] 1,2\n",
    ]


def test_an_interrupt_stops_a_cell_and_variables_live(sandboxed: SandboxedKernel) -> None:
    sandboxed.run("kept = 7")
    assert sandboxed.run("print('begun')\nwhile True: pass").error == "KeyboardInterrupt"
    assert sandboxed.run("kept").displays == [{"text/plain": "7"}]


def test_a_cell_may_ask_and_much_output_comes_whole(sandboxed: SandboxedKernel) -> None:
    assert sandboxed.run("print(input('name? '))", answer="World").text == "World\n"
    assert len(sandboxed.run("print('x' * 3_000_000)").text) == 3_000_001


def test_what_a_page_would_run_does_not_reach_it(sandboxed: SandboxedKernel) -> None:
    cell = (
        "from IPython.display import HTML, Javascript, display\n"
        "from IPython import get_ipython\n"
        "display(HTML('<b>table</b><script>alert(1)</script>'), Javascript('alert(2)'))\n"
        "display({'application/vnd.widget': {}, 'text/markdown': '<img onerror=alert(3)>'}, raw=True)\n"
        "kernel = get_ipython().kernel\n"
        "kernel.session.send(kernel.iopub_socket, 'comm_open', {'target_name': 'x'});"
    )
    page, script, widget = sandboxed.run(cell).displays
    assert '<iframe sandbox=""' in page["text/html"]
    assert "<script>" not in page["text/html"]
    assert script.keys() == {"text/plain"}
    assert widget == {"text/plain": "<img onerror=alert(3)>"}


def test_a_restart_forgets_and_an_end_is_noticed(
    sandboxed: SandboxedKernel, place: dict[str, str], daemon: LocalDaemon
) -> None:
    sandboxed.run("import pathlib; pathlib.Path('stays').touch(); gone = 1")
    sandboxed.manager.restart_kernel(now=True)
    sandboxed.client.wait_for_ready(timeout=SECONDS)
    assert sandboxed.run("gone").error == "NameError"
    assert sandboxed.run("import pathlib; pathlib.Path('stays').exists()").displays == [
        {"text/plain": "True"}
    ]
    assert sandboxed.manager.is_alive()
    sandboxed.client.execute("import os; os._exit(3)")
    provisioner = sandboxed.manager.provisioner
    assert isinstance(provisioner, SandboxProvisioner)
    assert run_sync(provisioner.wait)() == 3
    assert not sandboxed.manager.is_alive()
    target = daemon.target
    with SandboxClient(base_url=f"unix://{target.socket_path}", api_key=target.api_key) as client:
        for info in client.list_sessions():
            if info.python_environment is not None:
                client.get_session(info.id).destroy()
    with variables(place):
        sandboxed.manager.restart_kernel(now=True)
    sandboxed.client.wait_for_ready(timeout=SECONDS)
    assert sandboxed.run("import pathlib; pathlib.Path('stays').exists()").displays == [
        {"text/plain": "False"}
    ]


def test_an_environment_without_ipykernel_is_one_sentence(place: dict[str, str], tmp_path: Path) -> None:
    with variables(place), pytest.raises(CannotStartKernelError, match="python has no ipykernel"):
        start_new_kernel(SECONDS, BARE, cwd=str(tmp_path))
