"""Environments for sets of requirements: found, or fetched by a process of its own within bounds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sandkasten._options.packages import merged, name_of
from sandkasten.local.errors import ApiError, invalid_request
from sandkasten.local.options import PackageRules
from sandkasten.local.packages import failures
from sandkasten.local.packages.store import Environment, Store
from sandkasten.local.packages.target import Target
from sandkasten.local.threads import in_thread

_FETCH_SECONDS = 540.0  # clients wait for ten minutes
_FRESH_SECONDS = 24 * 3600.0
_AT_ONCE = 2
_SETS_KEPT = 4  # as many sets of the largest size are kept, and as many wheels
_MAX_FILES = 200_000
_MAX_LOG_BYTES = 4 * 1024 * 1024
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_BOOT = "import sys; sys.path += sys.argv[1:]; from sandkasten.local.packages.fetching import main; main()"
# How the operator's network is reached; nothing else of the environment is seen by what fetches.
_KEPT = frozenset({
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "LD_LIBRARY_PATH",
})  # fmt: skip
# And, unless an index is given, where the user's own pip looks.
_PIP_KEPT = frozenset({
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_CERT",
    "PIP_CLIENT_CERT", "PIP_PROXY", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "HOME", "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS", "NETRC",
})  # fmt: skip


class Installer:
    """Finds environments, or has them fetched. Lives in the event loop's thread."""

    def __init__(self, store: Store, rules: PackageRules) -> None:
        """Fetch by an operator's rules into a store."""
        self._store = store
        self._rules = rules
        self._fetching: dict[str, asyncio.Task[Environment]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def check(self, requirements: Sequence[str]) -> None:
        """Make sure that an operator allows these packages.

        Raises:
            ApiError: PACKAGE_FAILED, one is not on the list; INVALID_REQUEST, none is allowed at all.
        """
        allowed = self._rules.allowed
        if requirements and allowed is not None and not allowed:
            raise invalid_request(
                "This daemon installs no packages. Its operator can allow them: allowed_packages."
            )
        for name in map(name_of, requirements):
            if allowed is not None and name not in allowed:
                raise failures.not_allowed(name).error()

    async def environment(
        self, target: Target, requirements: tuple[str, ...], compile_in: Callable[[Path], Awaitable[None]]
    ) -> Environment:
        """Return the environment for a set of requirements, which is fetched if it is not there.

        Args:
            target: the Python that it is for.
            requirements: the set.
            compile_in: adds bytecode to a new environment's directory.

        Raises:
            ApiError: PACKAGE_FAILED with the package and why, or INSUFFICIENT_STORAGE.
        """
        key = self._key(target, requirements)
        found = await asyncio.to_thread(self._store.find, key, _FRESH_SECONDS)
        if found is not None:
            return found
        task = self._fetching.get(key)
        if task is None:
            # Whoever waits may leave: what was fetched is there for the next one.
            task = self._fetching[key] = asyncio.ensure_future(
                self._fetch(key, target, requirements, compile_in)
            )
            task.add_done_callback(lambda done: self._on_fetched(key, done))
        return await asyncio.shield(task)

    def _on_fetched(self, key: str, task: asyncio.Task[Environment]) -> None:
        self._fetching.pop(key, None)
        if not task.cancelled():
            task.exception()  # it was seen, even if nobody waits any more

    def hold(self, environment: Environment) -> int:
        """Keep an environment from being removed, see `Store.hold`; blocks.

        Raises:
            ApiError: CONFLICT, it is being removed.
        """
        try:
            return self._store.hold(environment)
        except OSError:
            raise ApiError(409, "CONFLICT", "These packages are just being removed. Try again.") from None

    async def close(self) -> None:
        """Stop what is being fetched."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _index(self) -> str:
        """The name of the index, without a key."""
        return without_key(self._rules.index or os.environ.get("PIP_INDEX_URL", ""))

    def _key(self, target: Target, requirements: tuple[str, ...]) -> str:
        rules = self._rules
        parts = [target.key, requirements, self._index, sorted(rules.constraints)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def _fetch(
        self,
        key: str,
        target: Target,
        requirements: tuple[str, ...],
        compile_in: Callable[[Path], Awaitable[None]],
    ) -> Environment:
        async with self._turns:
            try:
                with self._store.stage() as stage:
                    report = await self._run(stage, target, requirements)
                    if "packages" in report:
                        python, rows = target.python, report["packages"]
                        await compile_in(stage / "tree")
                        made = await in_thread(self._store.adopt, stage, key, python, rows)
                        await in_thread(self._store.keep_wheels, stage, self._index)
                        await in_thread(self._store.prune, _SETS_KEPT * self._rules.most_bytes)
                        return made
                    log = await in_thread(_read_log, stage / "log")
            except OSError as error:
                raise failures.disk_full(error.strerror or "no reason is known").error() from error
            except ValueError as error:
                raise ApiError(500, "INTERNAL_ERROR", f"What was fetched is not usable: {error}.") from error
        failure = dict(report.get("failure") or {})
        if failure.get("reason") == "timeout":
            raise failures.too_slow(_FETCH_SECONDS).error()
        trouble = failures.from_report(failure, log, target.version, self._rules.most_bytes)
        if trouble.is_about_the_index:
            stale = await asyncio.to_thread(self._store.find, key, None)
            if stale is not None:
                return stale
        raise trouble.error()

    async def _run(self, stage: Path, target: Target, requirements: tuple[str, ...]) -> dict[str, Any]:
        """Run the process that fetches; return its report."""
        rules = self._rules
        constraints = stage / "constraints.txt"
        constraints.write_text("".join(f"{row}\n" for row in merged((), rules.constraints)), "utf-8")
        order = {
            "arguments": arguments(stage, target, requirements, rules.index, self._store.wheels(self._index)),
            "stage": str(stage),
            "markers": dict(target.markers),
            "python": target.python,
            "most_bytes": rules.most_bytes,
            "most_files": _MAX_FILES,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-B", "-X", "utf8", "-c", _BOOT, *filter(os.path.isabs, sys.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env=environment_of(os.environ, stage, has_index=rules.index is not None),
            start_new_session=True,
            limit=_MAX_ANSWER_BYTES,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                said, _nothing = await process.communicate(f"{json.dumps(order)}\n".encode())
            return dict(json.loads(said or b"{}"))
        except TimeoutError:
            return {"failure": {"reason": "timeout"}}
        except ValueError:
            return {}
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())


def arguments(
    stage: Path, target: Target, requirements: Sequence[str], index: str | None, kept: Path
) -> list[str]:
    """Return pip's words; they reach it by a pipe, so no other user of the machine reads a key in them."""
    words = [] if index is None else ["--isolated"]
    words += ["--no-input", "--disable-pip-version-check", "--no-color", "--log", str(stage / "log")]
    words += ["--no-cache-dir", "--retries", "1", "--timeout", "20"]
    words += ["download", "--quiet", "--only-binary", ":all:", "--no-build-isolation"]
    words += ["--progress-bar", "off", "--dest", str(stage / "wheels")]
    words += ["--constraint", str(stage / "constraints.txt"), *target.arguments]
    if index is not None:
        words += ["--index-url", index]
    if kept.is_dir():
        words += ["--find-links", str(kept)]
    return [*words, "--", *requirements]


def environment_of(environ: Mapping[str, str], stage: Path, *, has_index: bool) -> dict[str, str]:
    """Return the environment of the process that fetches."""
    kept = _KEPT if has_index else _KEPT | _PIP_KEPT
    seen = {name: value for name, value in environ.items() if name in kept or name.upper() in _KEPT}
    seen = {"HOME": str(stage / "tmp")} | seen if has_index else seen
    return {**seen, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": str(stage / "tmp")}


def without_key(url: str) -> str:
    """Return a URL without user and password."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _read_log(path: Path) -> str:
    """Return the end of pip's log, which says why it failed."""
    with suppress(OSError), path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - _MAX_LOG_BYTES))
        return file.read().decode(errors="replace")
    return ""
