"""Sandboxes for LangChain and LangGraph; needs the extra `langchain`.

A session's verbs as tools::

    from langchain.agents import create_agent

    from sandkasten_sync import SandboxClient
    from sandkasten.integrations.langchain import SandboxToolkit

    with SandboxClient() as client, client.create_session() as session:
        agent = create_agent(model, SandboxToolkit(session=session).get_tools())
        agent.invoke({"messages": [("user", "Which Python is installed?")]})

Errors that a model can fix come to it as text, in a `ToolMessage` whose status is `error`. Other errors (the
session is gone, the daemon cannot be reached) are raised as `SandkastenError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sandkasten_sync
from sandkasten.errors import SandkastenInputError
from sandkasten.integrations._missing import missing
from sandkasten.models import SessionInfo
from sandkasten.session import Session as AsyncSession

try:
    from langchain_core.tools import BaseTool, BaseToolkit, ToolException
    from pydantic import ConfigDict, Field
except ModuleNotFoundError as error:
    raise missing(error, "langchain") from None

from sandkasten.integrations._text import FIXABLE, error_text
from sandkasten.integrations._verbs import (
    DEFAULT_MAX_OUTPUT_CHARS,
    DEFAULT_TIMEOUT_MS,
    Options,
    Verb,
    arguments_text,
    chosen,
)

# A text, or a text and pictures.
Content = str | list[dict[str, Any]]

__all__ = ["SandboxTool", "SandboxToolkit"]


class SandboxToolkit(BaseToolkit):
    """The tools of one session, such as `exec`, `read`, `write` and `run_process`.

    Give it the session of the package that your program uses, or one of each; they are two sandboxes then,
    unless both have the same id. A single blocking session serves `ainvoke` too, from a thread. With only an
    async session, `invoke` raises an error.

    Attributes:
        session: a session of `sandkasten_sync`.
        async_session: a session of `sandkasten`.
        max_output_chars: the length of the longest text that the model gets, at least 1000; what is
            longer loses its middle.
        timeout_ms: the time limit of a command for which the model sets none, in milliseconds.
        only: the names of the tools to make; None makes all of them.
        allow_install: whether the model gets the tool `install_packages`; the daemon decides which it may.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    session: sandkasten_sync.Session | None = None
    async_session: AsyncSession | None = None
    max_output_chars: int = DEFAULT_MAX_OUTPUT_CHARS
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    only: Sequence[str] | None = None
    allow_install: bool = False

    def get_tools(self) -> list[BaseTool]:
        """Make the tools.

        Raises:
            SandkastenInputError: there is no session, or a limit is out of range, or no tool has such a name.
        """
        if self.session is None and self.async_session is None:
            raise SandkastenInputError("There is no session.", "Pass session= (blocking) or async_session=.")
        options = Options(self.max_output_chars, self.timeout_ms)
        return [
            SandboxTool(verb=verb, session=self.session, async_session=self.async_session, options=options)
            for verb in chosen(self.only, allow_install=self.allow_install)
        ]


class SandboxTool(BaseTool):
    """One verb of a session; made by `SandboxToolkit`.

    The artifact of its messages is plain data, so that any checkpointer can store it: the fields of the
    `ExecResult` (`ExecResult(**message.artifact)` makes one of them), of `SessionStats`, or the path and
    size of a file.
    """

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    verb: type[Verb] = Field(exclude=True, repr=False)
    options: Options = Field(exclude=True, repr=False)
    session: sandkasten_sync.Session | None = Field(default=None, exclude=True)
    async_session: AsyncSession | None = Field(default=None, exclude=True)

    def __init__(self, *, verb: type[Verb], **fields: Any) -> None:
        """Take name, description and schema from the verb."""
        super().__init__(
            **{
                "name": verb.tool_name,
                "description": verb.about(_info(fields)),
                "args_schema": verb,
                "handle_tool_error": True,
                "handle_validation_error": arguments_text,
            }
            | fields,
            verb=verb,
        )

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Content, dict[str, Any]]:
        if self.session is None:
            raise NotImplementedError(
                f"The tool {self.name!r} has an async session only. Use ainvoke() or astream(), or give "
                "SandboxToolkit a session of sandkasten_sync as session=."
            )
        call = self._call(args, kwargs)
        try:
            result = call.start(self.session, self.options)
        except FIXABLE as error:
            raise self._readable(error) from error
        return self._answer(call, result, self.session)

    async def _arun(self, *args: Any, **kwargs: Any) -> tuple[Content, dict[str, Any]]:
        if self.async_session is None:
            answer: tuple[Content, dict[str, Any]] = await super()._arun(*args, **kwargs)
            return answer  # of `_run`, in a thread
        call = self._call(args, kwargs)
        try:
            result = await call.start(self.async_session, self.options)
        except FIXABLE as error:
            raise self._readable(error) from error
        return self._answer(call, result, self.async_session)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Verb:
        # An input that is a plain string comes as one positional argument.
        return self.verb(**dict(zip(self.verb.model_fields, args, strict=False)), **kwargs)

    def _answer(
        self, call: Verb, result: Any, session: AsyncSession | sandkasten_sync.Session
    ) -> tuple[Content, dict[str, Any]]:
        answer = call.answer(result, self.options, session.first_info)
        if not answer.pictures:
            return answer.text, answer.data
        blocks = [
            {"type": "image", "base64": each.base64, "mime_type": each.kind} for each in answer.pictures
        ]
        return [{"type": "text", "text": answer.text}, *blocks], answer.data

    def _readable(self, error: Any) -> ToolException:
        return ToolException(error_text(error, self.options.max_output_chars))


def _info(fields: Mapping[str, Any]) -> SessionInfo | None:
    session: AsyncSession | sandkasten_sync.Session | None
    session = fields.get("session") or fields.get("async_session")
    return session.first_info if session else None
