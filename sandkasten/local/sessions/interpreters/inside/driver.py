"""The loop of an interpreter that remembers: runs code, keeps its variables, reports on the control.

This file is sent to a Python inside the sandbox behind `channel.py` and `surroundings.py`, into the same
namespace, see `program.py`. All three import as little as they can, since an interpreter is wanted fast. The
rest, all around values and errors, is in `showing.py`, which comes when it is needed.

A signal is about the code that runs, never about these files: it becomes a KeyboardInterrupt only there where
`_guarded` catches it.
"""

from __future__ import annotations

import _ast
import _thread
import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sandkasten.local.sessions.interpreters.inside.channel import Control, encoded
    from sandkasten.local.sessions.interpreters.inside.showing import Showing
    from sandkasten.local.sessions.interpreters.inside.surroundings import Streams, Watch

# The module `signal` loads `enum`, which takes longer than all that is here.
_signal: Any = __import__("_signal")
# Code may put others in place of these.
_exit, _getpid = os._exit, os.getpid

OWN_FILES = ("<sandkasten>", "<sandkasten showing>")
_SIGINT = 2
_IS_COROUTINE = 0x80
# At least those of every version; what a piece of code imports from `__future__` goes for the next ones, too.
_FUTURE_FLAGS = 0x1FFE000
_MOST_CELLS = 10_000
# How long a new interpreter waits for its first request before it loads what it will need some time.
_IDLE_MS = 50
_NOBODY = "There is nobody who could answer input() here. Put the value into the code."


class Driver:
    """The loop, and the run that is in progress.

    Attributes:
        run_id: the number of the run; None between two.
        most_bytes: how much the run may still report.
        namespace: the variables.
        cells: the text of each piece of code, by the name that it has in tracebacks.
    """

    def __init__(self, control: int) -> None:
        self.run_id: int | None = None
        self.most_bytes = 0
        self.cells: dict[str, str] = {}
        self._count = 0
        self._control = Control(control)
        self._lock = _thread.RLock()
        self._main_thread, self._pid = _thread.get_ident(), _getpid()
        # A signal is looked at later; there is one to look at; the code is running, and may be interrupted
        # even in this file, which it called; the run that was interrupted before it began.
        self._is_deferring = self._is_signalled = self._is_running = self._is_armed = False
        self._interrupted: int | None = None
        self._flags = 0
        self._loop: Any = None
        self._showing: Showing | None = None
        self._more_texts: list[str] = []
        self._handler = self._on_signal
        _signal.signal(_SIGINT, self._handler)
        self._streams = Streams()
        main = type(sys)("__main__")
        self.namespace: dict[str, Any] = main.__dict__
        self.namespace["__builtins__"] = builtins
        sys.modules["__main__"] = main
        sys.argv = [""]
        self._prepare()

    def _prepare(self) -> None:
        __import__("faulthandler").enable(2)
        os.environ.setdefault("MPLBACKEND", "Agg")
        os.register_at_fork(after_in_child=self._leave_to_child)
        builtins.input = _refuse_input
        setattr(builtins, "display", self._display)  # noqa: B010
        Watch(self._after_import)

    def _display(self, *values: Any, **options: Any) -> Any:
        return self.showing.display(*values, **options)

    def _after_import(self, name: str, module: Any) -> None:
        self.showing.after_import(name, module)

    @property
    def showing(self) -> Showing:
        """Values and errors, loaded when they are wanted first."""
        found = self._showing
        if found is None:
            names: dict[str, Any] = {"__name__": OWN_FILES[1], "OWN_FILES": OWN_FILES, "encoded": encoded}
            for text in self._more_texts:
                exec(compile(text, OWN_FILES[1], "exec", 0, True), names)  # noqa: S102
            found = self._showing = names["Showing"](self)
        return found

    def serve(self) -> None:
        """Do what is asked, until nobody is there any more."""
        self.send({"event": "ready", "version": sys.version.split()[0], "executable": sys.executable})
        while (request := self._next()) is not None:
            if request["op"] == "run":
                self._run(request)
            elif request["op"] == "variables":
                found, _ = self._guarded(lambda: self.showing.variables(self.namespace))
                self.send({"event": "variables", "id": request["id"], "variables": found or []})
            elif request["op"] == "interrupt":
                self._interrupted = request["id"]
            elif request["op"] == "source":
                self._more_texts = request["texts"]
                if self._control.is_silent(_IDLE_MS):
                    assert self.showing
        self._guarded(lambda: __import__("atexit")._run_exitfuncs())
        self._streams.flush()
        _exit(0)

    def _next(self) -> dict[str, Any] | None:
        self._is_deferring = True
        try:
            return self._control.next()
        finally:
            # One without a number came too late for the run before, and is not for the next one.
            self._is_deferring = False
            self._look(None)

    def _run(self, request: dict[str, Any]) -> None:
        self.run_id, self.most_bytes = request["id"], request["most_bytes"]
        value, error = self._guarded(lambda: self._execute(request["code"]))
        if self.is_forked():
            self._end_child(error)
        _signal.signal(_SIGINT, self._handler)
        if sys.getrecursionlimit() < 500:
            sys.setrecursionlimit(1000)
        if self._showing is not None or "matplotlib.pyplot" in sys.modules:
            _, failure = self._guarded(lambda: self.showing.finish(value))
            error = error or failure
        if error is None and value is not None:
            _, error = self._guarded(lambda: self.showing.result(value))
        value = None
        self._guarded(self._streams.flush)
        if error is not None:
            self._report(error)
        del error
        self.send({"event": "done", "id": self.run_id})
        self.run_id = None

    def _execute(self, code: str) -> Any:
        """Run code and return the value of its last expression."""
        _signal.signal(_SIGINT, self._handler)
        self._streams.restore()
        self._count += 1
        name = f"<cell {self._count}>"
        self.cells[name] = code
        self.cells.pop(f"<cell {self._count - _MOST_CELLS}>", None)
        if hasattr(sys.modules.get("linecache"), "cache"):
            self.showing.remember_lines(sys.modules["linecache"], [name])
        tree = self._parsed(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        self._evaluated(self._compiled(tree, name))
        if last is None:
            return None
        value = self._evaluated(self._compiled(_ast.Expression(last.value), name, mode="eval"))
        if value is None or _is_quiet(code, last):
            return None
        setattr(builtins, "_", value)  # noqa: B010
        return value

    def _parsed(self, code: str, name: str) -> Any:
        try:
            return self._compiled(code, name, _ast.PyCF_ONLY_AST)
        except SyntaxError:
            # Code for notebooks often begins with `%matplotlib inline`, which is the case here.
            plain = "\n".join(map(_without_magic, code.split("\n")))
            if plain == code:
                raise
            return self._compiled(plain, name, _ast.PyCF_ONLY_AST)

    def _compiled(self, source: Any, name: str, more_flags: int = 0, mode: str = "exec") -> Any:
        flags = self._flags | _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | more_flags
        code: Any = compile(source, name, mode, flags, True)
        if isinstance(source, _ast.Module) and code.co_flags & _FUTURE_FLAGS:
            import __future__ as future  # noqa: PLC0415

            for feature in future.all_feature_names:
                self._flags |= code.co_flags & getattr(future, feature).compiler_flag
        return code

    def _evaluated(self, code: Any) -> Any:
        value = eval(code, self.namespace)  # noqa: S307
        if not code.co_flags & _IS_COROUTINE:
            return value
        import asyncio  # noqa: PLC0415

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(value)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.wait([task]))
            raise

    # --- reports

    def send(self, *messages: dict[str, Any]) -> None:
        """Send objects one directly after the other, from any thread; an interrupt waits for them."""
        self.send_frames(*(encoded(message).encode("utf-8", "replace") for message in messages))

    def send_frames(self, *frames: bytes) -> None:
        """Send what is JSON already, see `send`."""
        is_main = _thread.get_ident() == self._main_thread
        if self.is_forked() or (is_main and self._is_deferring):
            return  # in the middle of a frame only a finalizer calls this
        self._is_deferring |= is_main
        try:
            with self._lock:
                for frame in frames:
                    self._control.write(frame)
        finally:
            if is_main:
                self._is_deferring = False
                self._look(None)

    def _report(self, error: BaseException) -> None:
        name = type(error).__name__
        described, failure = self._guarded(lambda: self.showing.described(error))
        if failure is not None:
            described = {
                "message": "",
                "traceback": f"{name}: its description failed: {type(failure).__name__}",
            }
        self.send({"event": "error", "id": self.run_id, "name": name, **described})

    # --- interrupts

    def _guarded(self, function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """Call what runs code; return its value and its error.

        At most one interrupt is raised in the lines of this method, hence the two levels.
        """
        value = failure = None
        try:
            try:
                self._is_running = self._is_armed = True
                if self._interrupted == self.run_id is not None:
                    self._interrupted = None
                    raise KeyboardInterrupt
                value = function()
            except BaseException as error:
                failure = error
            self._is_running = self._is_armed = False
        except BaseException as error:
            self._is_running = self._is_armed = False
            failure = error
        return value, failure

    def arm(self) -> None:
        """Let code that calls this file be interrupted once more in it."""
        self._is_armed = self._is_running

    def _on_signal(self, _number: int, frame: Any) -> None:
        self._is_signalled = True
        if not self._is_deferring:
            self._look(frame)

    def _look(self, frame: Any) -> None:
        """Decide about a signal; without a number that came before, it is meant for the code that runs."""
        if not self._is_signalled:
            return
        self._is_signalled, self._is_deferring = False, True
        numbers = self._control.interrupts()
        self._is_deferring = False
        is_meant = self._is_running if not numbers else self.run_id in numbers
        if numbers and not is_meant:
            self._interrupted = max(numbers)
        is_own = frame is None or frame.f_code.co_filename in OWN_FILES
        if is_meant and (self._is_armed or (self._is_running and not is_own)):
            self._is_armed = False
            raise KeyboardInterrupt

    # --- processes that code makes

    def is_forked(self) -> bool:
        """Return whether this is another process, which code has made."""
        return _getpid() != self._pid

    def _leave_to_child(self) -> None:
        try:
            self._control.close()
            _signal.signal(_SIGINT, _signal.default_int_handler)
        except (OSError, ValueError):
            return

    def _end_child(self, error: BaseException | None) -> None:
        """End a child at the end of the code: the rest is the parent's."""
        status = 0
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            self._guarded(lambda: print(self.showing.described(error)["traceback"], file=sys.stderr))
        self._guarded(self._streams.flush)
        _exit(status & 0xFF)


def _is_quiet(code: str, last: Any) -> bool:
    """Return whether a semicolon stands behind the last expression."""
    lines = code.encode("utf-8", "surrogatepass").splitlines()[last.end_lineno - 1 :]
    lines[0] = lines[0][last.end_col_offset :]
    return b"".join(lines).lstrip(b") \t").startswith(b";")


def _without_magic(line: str) -> str:
    rest = line.lstrip()
    return line[: len(line) - len(rest)] + "pass" if rest.startswith("%matplotlib") else line


def _refuse_input(_prompt: object = "", /) -> str:
    raise EOFError(_NOBODY)


def serve(control: int) -> None:
    """Serve who is on the other end of a descriptor, and leave."""
    Driver(control).serve()
