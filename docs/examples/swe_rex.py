"""The runtime of SWE-ReX, by which SWE-agent works, is a sandbox.

pip install '.[local]' swe-rex
python docs/examples/swe_rex.py
"""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath

from swerex.exceptions import CommandTimeoutError, NonZeroExitCodeError, SessionDoesNotExistError
from swerex.runtime import abstract as rex

from sandkasten import ExecTimeoutError, SandboxClient, SandkastenError, Session


class SandkastenRuntime(rex.AbstractRuntime):
    """A session as a runtime, with one shell that remembers, and no programs that ask questions."""

    def __init__(self, session: Session) -> None:
        """Bind to a session."""
        self.session = session
        self.names: set[str] = set()

    async def is_alive(self, *, timeout: float | None = None) -> rex.IsAliveResponse:
        """Ask the daemon."""
        try:
            await self.session.info()
        except SandkastenError as error:
            return rex.IsAliveResponse(is_alive=False, message=str(error))
        return rex.IsAliveResponse(is_alive=True)

    async def create_session(self, request: rex.CreateSessionRequest) -> rex.CreateSessionResponse:
        """Give the shell a name."""
        self.names.add(request.session)
        for file in request.startup_source:
            await self.session.exec(f"source {file}")
        return rex.CreateBashSessionResponse()

    async def run_in_session(self, action: rex.Action) -> rex.Observation:
        """Run a command in the shell, or interrupt the one that runs."""
        if action.session not in self.names:
            raise SessionDoesNotExistError(f"session {action.session!r} does not exist")
        if isinstance(action, rex.BashInterruptAction):
            await self.session.interrupt()
            return rex.BashObservation(exit_code=0)
        try:
            result = await self.session.exec(action.command, timeout_ms=round((action.timeout or 0) * 1000))
        except ExecTimeoutError as error:
            raise CommandTimeoutError(f"{error.what} It printed: {error.output}") from error
        if action.check == "raise" and result.exit_code:
            raise NonZeroExitCodeError(f"{action.error_msg} exit code {result.exit_code}: {result.output}")
        exit_code = None if action.check == "ignore" else result.exit_code
        return rex.BashObservation(output=result.output, exit_code=exit_code)

    async def close_session(self, request: rex.CloseSessionRequest) -> rex.CloseSessionResponse:
        """Forget the name."""
        self.names.discard(request.session)
        return rex.CloseBashSessionResponse()

    async def execute(self, command: rex.Command) -> rex.CommandResponse:
        """Run a program beside the shell."""
        args: str | list[str] = command.command
        if command.shell or isinstance(args, str):
            args = args if isinstance(args, str) else args[0]
            args = f"exec 2>&1\n{args}" if command.merge_output_streams else args
        limit_ms = round((command.timeout or 0) * 1000)
        try:
            result = await self.session.run(args, cwd=command.cwd, env=command.env, timeout_ms=limit_ms)
        except ExecTimeoutError as error:
            raise CommandTimeoutError(error.what) from error
        if command.check and not result.ok:
            raise NonZeroExitCodeError(f"{command.error_msg} exit code {result.exit_code}: {result.stderr}")
        return rex.CommandResponse(stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code)

    async def read_file(self, request: rex.ReadFileRequest) -> rex.ReadFileResponse:
        """Read a text file."""
        content = (await self.session.read(request.path, max_bytes=64 * 1024 * 1024)).content
        return rex.ReadFileResponse(
            content=content.decode(request.encoding or "utf-8", request.errors or "strict")
        )

    async def write_file(self, request: rex.WriteFileRequest) -> rex.WriteFileResponse:
        """Write a text file."""
        await self.session.write(request.path, request.content)
        return rex.WriteFileResponse()

    async def upload(self, request: rex.UploadRequest) -> rex.UploadResponse:
        """Copy a file or a directory of this machine into the sandbox."""
        target = PurePosixPath(request.target_path)
        (copied,) = await self.session.upload(request.source_path, dest_path=target.parent)
        if PurePosixPath(copied).name != target.name:
            await self.session.move(copied, target, overwrite=True)
        return rex.UploadResponse()

    async def close(self) -> rex.CloseResponse:
        """End the session."""
        await self.session.destroy()
        return rex.CloseResponse()


async def main() -> None:
    """Use it as SWE-agent does."""
    async with SandboxClient() as client, await client.create_session() as session:
        runtime = SandkastenRuntime(session)
        await runtime.create_session(rex.CreateBashSessionRequest())
        await runtime.write_file(rex.WriteFileRequest(path="/workspace/a.py", content="print(6 * 7)\n"))
        await runtime.run_in_session(rex.BashAction(command="cd /workspace; file=a.py"))
        print((await runtime.run_in_session(rex.BashAction(command="python3 $file"))).output, end="")
        print((await runtime.execute(rex.Command(command=["ls", "/workspace"]))).stdout, end="")
        print(bool(await runtime.is_alive()))


if __name__ == "__main__":
    asyncio.run(main())
