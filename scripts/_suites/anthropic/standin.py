"""A stand-in for the server that gives Claude's self-hosted worker its work; the agents follow scripts.

It answers what the worker of `anthropic` 2.14 asks, in the shapes that the package declares, and fails at
what the package does not send: a wrong key, no header of the beta, the result of another tool.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ENVIRONMENT, KEY = "env_1", "environment-key"
NOW = "2026-01-01T00:00:00Z"
Step = tuple[str, dict[str, Any]] | Callable[[], Awaitable[None]]


@dataclass
class Agent:
    """One that uses one tool after another, and its session.

    Attributes:
        steps: names and arguments of tools, and things to be done in between.
        token: the key of its session; without, that of the environment is used.
        skill: the files of a skill.
        beats: the states that heartbeats report; the last one stays.
        results: what it read of its tools.
        ended: set as soon as the worker has given its work back.
    """

    steps: list[Step]
    token: str | None = None
    skill: dict[str, str] = field(default_factory=dict)
    beats: list[str] = field(default_factory=lambda: ["active"])
    results: list[dict[str, Any]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    history: list[dict[str, Any]] = field(default_factory=list)
    listeners: list[asyncio.Queue[dict[str, Any]]] = field(default_factory=list)
    last_beat: str = "NO_HEARTBEAT"

    def say(self, kind: str, **fields: Any) -> None:
        """Add an event to the history, and send it to whoever listens."""
        event = {"id": f"evt_{len(self.history)}", "type": kind, "processed_at": NOW, **fields}
        self.history.append(event)
        for listener in self.listeners:
            listener.put_nowait(event)

    async def go_on(self) -> None:
        """Use the next tool, or end the turn."""
        while self.steps and callable(self.steps[0]):
            await self.steps.pop(0)()  # type: ignore[operator]
        if not self.steps:
            self.say("session.status_idle", stop_reason={"type": "end_turn"})
            return
        name, given = self.steps.pop(0)  # type: ignore[misc]
        self.say("agent.tool_use", name=name, input=given, evaluated_permission="allow")

    async def take(self, result: dict[str, Any]) -> bool:
        """Read the result of the tool that was used last; return false if that was another."""
        if result["type"] != "user.tool_result" or result["tool_use_id"] != self.history[-1]["id"]:
            return False
        self.results.append({"is_error": result["is_error"], "content": result["content"]})
        self.say("user.tool_result", tool_use_id=result["tool_use_id"])
        await self.go_on()
        return True

    @property
    def texts(self) -> list[str]:
        """Texts that it read of its tools, without pictures."""
        return [result["content"][0].get("text", "") for result in self.results]


class StandIn:
    """The server, with work for each of some agents."""

    def __init__(self, *agents: Agent) -> None:
        self.agents = dict(enumerate(agents))
        self.queue = list(self.agents)
        work = f"/v1/environments/{ENVIRONMENT}/work"
        session, skill = "/v1/sessions/{number:int}", "/v1/skills/{number:int}/versions"
        self.app = Starlette(
            routes=[
                Route(f"{work}/poll", self.poll),
                Route(f"{work}/{{number:int}}/ack", self.ack, methods=["POST"]),
                Route(f"{work}/{{number:int}}/heartbeat", self.heartbeat, methods=["POST"]),
                Route(f"{work}/{{number:int}}/stop", self.stop, methods=["POST"]),
                Route(session, self.session),
                Route(f"{session}/events", self.events),
                Route(f"{session}/events", self.send, methods=["POST"]),
                Route(f"{session}/events/stream", self.stream),
                Route(f"{skill}/latest", self.skill),
                Route(f"{skill}/1/content", self.skill_content),
            ]
        )

    def agent(self, request: Request, *, is_own: bool = True) -> Agent:
        """Return the agent of a request, which has to have the right key."""
        agent = self.agents[request.path_params["number"]]
        check(request, (agent.token if is_own else None) or KEY)
        return agent

    def work(self, number: int) -> dict[str, Any]:
        secret = None
        if token := self.agents[number].token:
            secret = base64.urlsafe_b64encode(json.dumps({"sessions_token": token}).encode()).decode()
        return {
            "id": str(number),
            "type": "work",
            "state": "queued",
            "created_at": NOW,
            "environment_id": ENVIRONMENT,
            "metadata": {},
            "data": {"type": "session", "id": str(number)},
            "secret": secret,
        }

    async def poll(self, request: Request) -> Response:
        check(request, KEY)
        assert 1 <= int(request.query_params["block_ms"]) <= 999
        assert request.headers["Anthropic-Worker-ID"]
        return JSONResponse(self.work(self.queue.pop(0)) if self.queue else None)

    async def ack(self, request: Request) -> Response:
        agent = self.agent(request, is_own=False)
        await agent.go_on()
        return JSONResponse(self.work(request.path_params["number"]))

    async def heartbeat(self, request: Request) -> Response:
        agent = self.agent(request)
        if request.query_params["expected_last_heartbeat"] != agent.last_beat:
            return JSONResponse({"type": "error", "error": {"type": "lost"}}, 412)
        agent.last_beat = f"{NOW}+{len(agent.beats)}"
        state = agent.beats.pop(0) if len(agent.beats) > 1 else agent.beats[0]
        beat = {"last_heartbeat": agent.last_beat, "lease_extended": True, "state": state}
        return JSONResponse({"type": "work_heartbeat", "ttl_seconds": 2, **beat})

    async def stop(self, request: Request) -> Response:
        agent = self.agent(request)
        assert await request.json() == {"force": True}
        agent.ended.set()
        return JSONResponse(self.work(request.path_params["number"]))

    async def session(self, request: Request) -> Response:
        agent, number = self.agent(request), str(request.path_params["number"])
        skills = [{"type": "custom", "skill_id": number, "version": "latest"}] if agent.skill else []
        described = {"type": "agent", "id": "agent_1", "name": "coder", "version": 1, "skills": skills}
        return JSONResponse(
            {"type": "session", "id": number, "status": "running", "agent": described, "resources": []}
        )

    async def events(self, request: Request) -> Response:
        return JSONResponse({"data": self.agent(request).history, "next_page": None})

    async def send(self, request: Request) -> Response:
        agent, given = self.agent(request), await request.json()
        for result in given["events"]:
            if not await agent.take(result):
                return JSONResponse({"type": "error", "error": {"type": "invalid_request_error"}}, 400)
        return JSONResponse({"data": []})

    async def stream(self, request: Request) -> Response:
        agent: Agent = self.agent(request)
        listener: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        agent.listeners.append(listener)

        async def lines() -> AsyncIterator[str]:
            while True:
                event = await listener.get()
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def skill(self, request: Request) -> Response:
        self.agent(request)
        version = {"type": "skill_version", "id": "1", "skill_id": "0", "name": "count", "description": ""}
        return JSONResponse({**version, "created_at": NOW})

    async def skill_content(self, request: Request) -> Response:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in self.agent(request).skill.items():
                archive.writestr(f"count/{name}", text)
        return Response(content.getvalue(), media_type="application/zip")


def check(request: Request, key: str) -> None:
    """Fail unless a request has a key, and no other, and asks for the beta (except for skills)."""
    assert request.headers["Authorization"] == f"Bearer {key}"
    assert "X-Api-Key" not in request.headers
    if "/skills/" not in request.url.path:
        assert request.headers["anthropic-beta"] == "managed-agents-2026-04-01"
