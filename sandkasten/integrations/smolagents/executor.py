"""A session's Python as the executor of an agent; `sandkasten.integrations.smolagents` says more."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sandkasten_sync
from sandkasten.errors import ExecTimeoutError, SandkastenInputError
from sandkasten.integrations._missing import missing

try:
    from smolagents import AgentError, AgentLogger, LogLevel
    from smolagents.local_python_executor import CodeOutput
    from smolagents.remote_executors import RemotePythonExecutor
except ModuleNotFoundError as error:
    raise missing(error, "smolagents") from None

from sandkasten.integrations._text import FIXABLE

if TYPE_CHECKING:
    from sandkasten import PythonResult

__all__ = ["SandkastenExecutor"]

_MOST_TIMEOUT_MS = 600_000
_MOST_ANSWER_BYTES = 64 * 1024 * 1024
# The answer is the text of an exception, of which only a part would come.
_KEEP_ANSWER = """
def _kept(forward, path):
    def forward_kept(*args, **kwargs):
        try:
            return forward(*args, **kwargs)
        except BaseException as error:
            if type(error).__name__ == {name!r}:
                with open(path, "w") as file:
                    file.write(error.value)
            raise
    return forward_kept
final_answer.forward = _kept(final_answer.forward, {path!r})
"""


class SandkastenExecutor(RemotePythonExecutor):
    """The Python of a `session`; its variables stay from one step of the agent to the next."""

    def __init__(
        self,
        session: sandkasten_sync.Session,
        additional_imports: Sequence[str] = (),
        logger: AgentLogger | None = None,
        *,
        timeout_ms: int = 120_000,
    ) -> None:
        """Bind to a session, whose end is somebody else's work, and install packages in it.

        Args:
            session: a session of `sandkasten_sync`.
            additional_imports: packages to install, by `Session.install`.
            logger: the agent's; None writes nothing.
            timeout_ms: how long a step's code may run, in milliseconds.

        Raises:
            SandkastenInputError: the session is of the async package, or the time is out of range.
            PackageError: a package cannot be had.
        """
        if not isinstance(session, sandkasten_sync.Session):
            raise SandkastenInputError(
                f"The session is a {type(session).__name__} of {type(session).__module__}.",
                "Pass one of sandkasten_sync: agents of smolagents are not async.",
            )
        if not 1 <= timeout_ms <= _MOST_TIMEOUT_MS:
            raise SandkastenInputError(f"timeout_ms is {timeout_ms}: it must be 1 to {_MOST_TIMEOUT_MS}.")
        super().__init__(
            list(additional_imports), logger or AgentLogger(level=LogLevel.OFF), allow_pickle=False
        )
        self.session = session
        self._timeout_ms = timeout_ms
        self._answer_path = f"/tmp/answer-{uuid.uuid4().hex}"  # noqa: S108  (in the sandbox)
        self.installed_packages = self.install_packages(self.additional_imports)

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        """Run a step's code.

        Returns:
            The value of its last expression: a picture as that, all others as text.

        Raises:
            AgentError: it raised an exception, ran out of time or cannot be run; the model reads which.
            SandkastenError: the session is gone, or the daemon cannot be reached.
        """
        try:
            result = self.session.python(code, timeout_ms=self._timeout_ms)
        except ExecTimeoutError as error:
            said = f"The code was stopped after {self._timeout_ms / 1000:g} seconds. Do less in one step."
            raise AgentError(_joined(error.stdout, error.stderr, said), self.logger) from error
        except FIXABLE as error:
            raise AgentError(str(error), self.logger) from error
        logs = _joined(result.stdout, result.stderr)
        fault = result.error
        if fault is None:
            return CodeOutput(output=_value(result), logs=_ended(logs), is_final_answer=False)
        if fault.name == self.FINAL_ANSWER_EXCEPTION:
            return CodeOutput(output=self._answer(), logs=_ended(logs), is_final_answer=True)
        raise AgentError(_joined(logs, f"The code raised an error:\n{fault}"), self.logger)

    def send_tools(self, tools: dict[str, Any]) -> None:
        """Define the agent's tools in the sandbox."""
        super().send_tools(tools)
        if "final_answer" in tools:
            self.run_code_raise_errors(
                _KEEP_ANSWER.format(name=self.FINAL_ANSWER_EXCEPTION, path=self._answer_path)
            )

    def _answer(self) -> Any:
        try:
            found = self.session.read(self._answer_path, max_bytes=_MOST_ANSWER_BYTES)
            text = "" if found.truncated else found.content.decode()
            return self._deserialize_final_answer(text, allow_pickle=False)
        except (*FIXABLE, ValueError, RecursionError) as error:
            said = f"The answer cannot be read ({type(error).__name__}), or is too long. Write it to a file."
            raise AgentError(said, self.logger) from error

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        """Install packages, without a network in the sandbox.

        Raises:
            PackageError: one cannot be had, or the daemon does not allow it.
        """
        if additional_imports:
            self.session.install(*additional_imports)
        return additional_imports


def _value(result: PythonResult) -> Any:
    from PIL import Image  # noqa: PLC0415  (smolagents brings it)

    for each in result.results:
        if each.is_value:
            picture = each.png or each.jpeg
            return each.text if picture is None else Image.open(io.BytesIO(picture))
    return None


def _joined(*texts: str) -> str:
    return "\n".join(text.rstrip("\n") for text in texts if text.strip("\n"))


def _ended(logs: str) -> str:
    """Return logs that end with a line's end, since smolagents puts more text behind them."""
    return f"{logs}\n" if logs else ""
