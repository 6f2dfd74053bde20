"""A session's verbs as function tools; `sandkasten.integrations.openai_agents` says more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from sandkasten.errors import SandkastenInputError
from sandkasten.integrations._missing import missing
from sandkasten.models import SessionInfo
from sandkasten.session import Session

try:
    from agents import FunctionTool, Tool, ToolOutputImage, ToolOutputText, UserError
    from agents.tool_context import ToolContext
    from pydantic import ValidationError
except ModuleNotFoundError as error:
    raise missing(error, "openai-agents") from None

from sandkasten.integrations._text import FIXABLE, error_text
from sandkasten.integrations._verbs import (
    DEFAULT_MAX_OUTPUT_CHARS,
    DEFAULT_TIMEOUT_MS,
    Options,
    Verb,
    arguments_text,
    chosen,
)


class HasSandbox(Protocol):
    """A run's context that holds the session its tools are to use."""

    @property
    def sandbox(self) -> Session:
        """The session."""
        ...


def sandbox_tools(
    session: Session,
    *,
    max_output_chars: int = DEFAULT_MAX_OUTPUT_CHARS,
    timeout_ms: int = DEFAULT_TIMEOUT_MS,
    only: Collection[str] | None = None,
    allow_install: bool = False,
) -> list[Tool]:
    """Make the tools of one session, such as `exec`, `read`, `write` and `run_process`.

    Args:
        session: the session on which the tools work.
        max_output_chars: the length of the longest text that the model gets, at least 1000; what is
            longer loses its middle.
        timeout_ms: the time limit of a command for which the model sets none, in milliseconds.
        only: the names of the tools to make; None makes all of them.
        allow_install: whether the model gets the tool `install_packages`; the daemon decides which it may.

    Raises:
        SandkastenInputError: a limit is out of range, no tool has such a name, or the session is not of the
            async package.
    """
    if not isinstance(session, Session):
        raise SandkastenInputError(
            f"session is a {type(session).__module__}.{type(session).__name__}.",
            "The agents SDK is async: pass a session of an async client, sandkasten.SandboxClient.",
        )
    options = Options(max_output_chars, timeout_ms)
    return [
        _tool(verb, lambda _context: session, options, session.first_info)
        for verb in chosen(only, allow_install=allow_install)
    ]


def sandbox_of(context: Any) -> Session:
    """Find the session in a run's context: the context itself, or its attribute `sandbox`.

    Raises:
        agents.UserError: the context holds no session.
    """
    session = getattr(context, "sandbox", context)
    if isinstance(session, Session):
        return session
    raise UserError(
        f"The run's context is of type {type(context).__name__} and has no sandbox. Pass "
        "Runner.run(..., context=...) a Session, or an object whose attribute `sandbox` is one."
    )


def context_tools(
    find: Callable[[Any], Session] = sandbox_of,
    *,
    max_output_chars: int = DEFAULT_MAX_OUTPUT_CHARS,
    timeout_ms: int = DEFAULT_TIMEOUT_MS,
    only: Collection[str] | None = None,
    allow_install: bool = False,
) -> list[Tool]:
    """Make the same tools, of the session that each run brings along: one agent serves many users.

    Example::

        agent = Agent[HasSandbox](name="coder", tools=context_tools())

        async with sandbox_for_user(client, user_id) as session:
            await Runner.run(agent, question, context=session)

    Args:
        find: gets the session out of the run's context.
        max_output_chars: as in `sandbox_tools`.
        timeout_ms: likewise.
        only: likewise.
        allow_install: likewise.

    Raises:
        SandkastenInputError: a limit out of range, or a name that no tool has.
    """
    options = Options(max_output_chars, timeout_ms)
    return [_tool(verb, find, options, None) for verb in chosen(only, allow_install=allow_install)]


def _tool(
    verb: type[Verb], find: Callable[[Any], Session], options: Options, info: SessionInfo | None
) -> FunctionTool:
    async def invoke(context: ToolContext[Any], arguments: str) -> str | list[Any]:
        session = find(context.context)
        try:
            call = verb.model_validate_json(arguments or "{}")
        except ValidationError as error:
            return arguments_text(error)
        try:
            result = await call.start(session, options)
        except FIXABLE as error:
            return error_text(error, options.max_output_chars)
        answer = call.answer(result, options, session.first_info)
        pictures = [ToolOutputImage(image_url=each.url) for each in answer.pictures]
        return [ToolOutputText(text=answer.text), *pictures] if pictures else answer.text

    schema = verb.model_json_schema()
    del schema["description"]  # it is the tool's
    return FunctionTool(
        name=verb.tool_name, description=verb.about(info), params_json_schema=schema, on_invoke_tool=invoke
    )
