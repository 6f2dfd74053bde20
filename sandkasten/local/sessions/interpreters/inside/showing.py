"""Values as a notebook shows them, errors as Python prints them, and a list of variables.

The last part of an interpreter's text, see `driver.py`. Methods of values are code: they may raise, and can
be interrupted.
"""

from __future__ import annotations

import binascii
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sandkasten.local.sessions.interpreters.inside.channel import encoded
    from sandkasten.local.sessions.interpreters.inside.driver import OWN_FILES, Driver
    from sandkasten.local.sessions.interpreters.inside.plain import cut, plain, row_of

_METHODS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
)
# A class that has this method makes up all methods that it is asked for.
_MADE_UP = "_this_method_should_not_exist_"
# Of a frame, which may have 1 MiB: a character takes at most six bytes in JSON.
_FRAME_CHARS = 160_000
_MOST_TEXT_CHARS = 100_000
_MOST_METADATA_CHARS = 16_000
_MOST_MESSAGE_CHARS = 4_000
_MOST_TRACEBACK_CHARS = 16_000
_MOST_VARIABLES = 1000
# What is around values, and what `display` leaves for the value of the last expression.
_LEAST_BYTES = 2000
_VALUE_BYTES = 20_000


class Handle:
    """A display that can be updated: `display` returns one for a `display_id`."""

    def __init__(self, showing: Showing, display_id: str) -> None:
        self._showing = showing
        self.display_id = display_id

    def display(self, value: Any, **options: Any) -> None:
        """Show a value again."""
        self._showing.display(value, display_id=self.display_id, **options)

    def update(self, value: Any, **options: Any) -> None:
        """Show another value in place of what was shown."""
        self._showing.display(value, display_id=self.display_id, update=True, **options)


class Showing:
    """See above."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._shown: set[int] = set()
        self._traceback: Any = __import__("traceback")

    # --- values

    def display(
        self,
        *values: Any,
        include: Any = None,
        exclude: Any = None,
        metadata: Any = None,
        transient: dict[str, Any] | None = None,
        display_id: Any = None,
        raw: bool = False,
        clear: bool = False,
        update: bool = False,
        **_options: Any,
    ) -> Handle | None:
        """Show values, with the arguments of IPython's function of that name."""
        self._driver.arm()
        if clear:
            self.clear_output(wait=True)
        if display_id is True:
            display_id = os.urandom(8).hex()
        display_id = display_id or (transient or {}).get("display_id")
        about = {"sandkasten": {"display_id": str(display_id), "update": update}} if display_id else {}
        for value in values:
            data, more = (_checked(value), {}) if raw else self.bundle(value)
            if data is not None:
                kept = {mime: text for mime, text in data.items() if _is_wanted(mime, include, exclude)}
                self._send("display", kept, {**more, **(metadata or {}), **about})
        return Handle(self, str(display_id)) if display_id else None

    def publish(self, data: Any, metadata: Any = None, *_args: Any, **options: Any) -> None:
        """Show what is a bundle already; IPython's `publish_display_data`."""
        self.display(data, metadata=metadata, raw=True, **options)

    def clear_output(self, wait: bool = False) -> None:
        """Let the reader forget what was shown."""
        self._send("display", {}, {"sandkasten": {"clear": True, "wait": bool(wait)}})

    def result(self, value: Any) -> None:
        """Report the value of the last expression."""
        data, metadata = self.bundle(value)
        if data is not None:
            self._send("result", data, metadata)

    def bundle(self, value: Any) -> tuple[dict[str, str] | None, dict[str, Any]]:
        """Return all forms of a value; None if it has shown itself."""
        found: dict[str, str] = {}
        metadata: dict[str, Any] = {}
        special = self._special(value)
        if special is not None:
            return {"text/plain": plain(value), **special}, metadata
        has_methods = not isinstance(value, type) and _method(value, _MADE_UP) is None
        if has_methods:
            show = _method(value, "_ipython_display_")
            if show is not None:
                show()
                return None, {}
            _add(
                found,
                metadata,
                None,
                _called(_method(value, "_repr_mimebundle_"), include=None, exclude=None),
            )
            for name, mime in _METHODS:
                is_twice = mime in found or (mime == "image/jpeg" and "image/png" in found)
                if not is_twice:
                    _add(found, metadata, mime, _called(_method(value, name)))
        if "text/plain" not in found:
            found = {"text/plain": plain(value), **found}
        return found, metadata

    def _special(self, value: Any) -> dict[str, str] | None:
        """Return the forms of figures, whose own methods ask for a notebook or a browser."""
        places = {(each.__module__.partition(".")[0], each.__name__) for each in type(value).__mro__}
        if ("matplotlib", "Figure") in places:
            self._shown.add(id(value))
            return {"image/png": _png_of(value)}
        if any(root == "plotly" for root, _ in places) and hasattr(value, "to_html"):
            html = value.to_html(include_plotlyjs="cdn", full_html=False)
            return {"application/vnd.plotly.v1+json": value.to_json(), "text/html": html}
        return None

    def finish(self, value: Any) -> None:
        """Show the figures that are open, as at a cell's end in notebooks, except one that is the value."""
        self._shown.add(id(value))
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            self._show_figures(pyplot)
        self._shown.clear()

    def _show_figures(self, pyplot: Any) -> None:
        try:
            for number in pyplot.get_fignums():
                figure = pyplot.figure(number)
                if id(figure) not in self._shown:
                    self._send("display", *self.bundle(figure))
        finally:
            pyplot.close("all")

    # --- sending

    def _send(self, event: str, data: dict[str, str] | None, metadata: dict[str, Any]) -> None:
        driver = self._driver
        if driver.run_id is None or driver.is_forked():
            if data:
                print(data.get("text/plain", ""))
            return
        _flush()
        about = encoded(metadata)
        about = about if len(about) <= _MOST_METADATA_CHARS else "{}"
        room = driver.most_bytes - _LEAST_BYTES - len(about) - (_VALUE_BYTES if event == "display" else 0)
        kept = self._fitting(data or {}, room)
        if data and not kept:
            return
        frames = [frame.encode("utf-8", "replace") for frame in self._frames(event, kept, about)]
        size_bytes = sum(4 + len(frame) for frame in frames)
        if size_bytes <= driver.most_bytes:
            driver.most_bytes -= size_bytes
            driver.send_frames(*frames)

    def _fitting(self, data: dict[str, str], room: int) -> dict[str, str]:
        """Leave out the largest forms until the rest may be sent, with a word about each."""
        kept = dict(data)
        notes: list[str] = []
        while kept and sum(map(_size, kept.values())) > room:
            mime = max(kept, key=lambda each: _size(kept[each]))
            notes.append(f"[{mime} of {_size(kept.pop(mime)):,} bytes was left out: a run shows less]")
        if notes and room > 0:
            kept["text/plain"] = "\n".join(filter(None, (kept.get("text/plain"), *notes)))
        return kept

    def _frames(self, event: str, data: dict[str, str], metadata: str) -> list[str]:
        run_id, room = self._driver.run_id, _FRAME_CHARS
        frames: list[str] = []
        inline: dict[str, str] = {}
        for mime, text in data.items():
            if len(text) <= room:
                inline[mime] = text
                room -= len(text)
            else:
                for start in range(0, len(text), _FRAME_CHARS):
                    piece = text[start : start + _FRAME_CHARS]
                    frames.append(encoded({"event": "data", "id": run_id, "mime": mime, "piece": piece}))
        head = encoded({"event": event, "id": run_id, "data": inline})
        return [*frames, f'{head[:-1]},"metadata":{metadata}}}']

    # --- errors and variables

    def described(self, error: BaseException) -> dict[str, str]:
        """Return an error's text, and where it was raised, without the frames of these files."""
        made = self._traceback.TracebackException(type(error), error, error.__traceback__)
        _strip(made, is_first=True, seen=set())
        text = "".join(made.format()).rstrip("\n")
        # The text of an error is code, and nothing interrupts it in there: it is made once.
        message = str(getattr(made, "_str", ""))
        return {"message": cut(message, _MOST_MESSAGE_CHARS), "traceback": cut(text, _MOST_TRACEBACK_CHARS)}

    def variables(self, namespace: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is known about each variable without calling any code of theirs."""
        names = [name for name in list(namespace) if not name.startswith("_")]
        found = [(name, namespace[name]) for name in names if not _is_a(namespace[name], type(sys))]
        return [row_of(name, value) for name, value in found[:_MOST_VARIABLES]]

    # --- modules

    def after_import(self, name: str, module: Any) -> None:
        """Lead what a module does on a screen to the reader."""
        if name == "linecache":
            self.remember_lines(module, list(self._driver.cells))
        elif name == "matplotlib.pyplot":
            module.show = self._shower(lambda *_: self._show_figures(module))
        elif name == "plotly.io._renderers":
            module.show = self._shower(self.display)
        elif name == "altair":
            for each in module.Chart.__mro__:
                if "show" in vars(each):
                    each.show = self._shower(self.display)
        else:
            self._replace_display(module)

    def _shower(self, show: Callable[..., Any]) -> Callable[..., None]:
        def show_here(*values: Any, **_options: Any) -> None:
            show(*values[:1])

        return show_here

    def remember_lines(self, linecache: Any, names: list[str]) -> None:
        """Give the lines of pieces of code to all that prints them."""
        for name in names:
            code = self._driver.cells[name]
            lines = [f"{line}\n" for line in code.split("\n")]
            linecache.cache[name] = (len(code), None, lines, name)

    def _replace_display(self, module: Any) -> None:
        def update_display(value: Any, *, display_id: Any, **options: Any) -> None:
            self.display(value, display_id=display_id, update=True, **options)

        ours: dict[str, Callable[..., Any]] = {
            "display": self.display,
            "publish_display_data": self.publish,
            "update_display": update_display,
            "clear_output": self.clear_output,
        }
        for name, function in ours.items():
            if hasattr(module, name):
                setattr(module, name, function)


def _method(value: Any, name: str) -> Any:
    try:
        found = getattr(value, name, None)
    except Exception:
        return None
    return found if callable(found) else None


def _called(method: Any, **arguments: Any) -> Any:
    """Return what a method makes; None if there is none, or if it fails: then another form is shown."""
    if method is None:
        return None
    try:
        return method(**arguments)
    except NotImplementedError:
        return None
    except Exception as error:
        name = getattr(method, "__name__", "a method")
        print(f"{name} failed: {type(error).__name__}: {cut(str(error), 300)}", file=sys.stderr)
        return None


def _add(found: dict[str, str], metadata: dict[str, Any], mime: str | None, made: Any) -> None:
    """Add what a method made: data, or a pair of it and metadata; for one type, or for several."""
    data, about = made if _is_a(made, tuple) else (made, None)
    if data is None:
        return
    found.update(_checked({mime: data} if mime else data))
    if about:
        metadata.update({mime: about} if mime else about)


def _checked(data: Any) -> dict[str, str]:
    """Return a bundle with text only: bytes become base64, and what is JSON its text."""
    found: dict[str, str] = {}
    for mime, value in dict(data).items():
        if isinstance(value, (bytes, bytearray)):
            found[str(mime)] = binascii.b2a_base64(bytes(value), newline=False).decode()
        elif str(mime).endswith("json") and not isinstance(value, str):
            found[str(mime)] = encoded(value)
        elif value is not None:
            text = str.__str__(value) if isinstance(value, str) else str(value)
            found[str(mime)] = cut(text, _MOST_TEXT_CHARS) if mime == "text/plain" else text
    return found


def _is_wanted(mime: str, include: Any, exclude: Any) -> bool:
    return (not include or mime in include or mime == "text/plain") and mime not in (exclude or ())


def _png_of(figure: Any) -> str:
    import io  # noqa: PLC0415

    data = io.BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")
    return binascii.b2a_base64(data.getbuffer(), newline=False).decode()


def _is_a(value: Any, kind: Any) -> bool:
    return issubclass(type(value), kind)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _flush() -> None:
    """Let what was printed before come before."""
    try:
        sys.stdout.flush()
    except Exception:
        return


def _strip(made: Any, is_first: bool, seen: set[int]) -> None:
    """Take the frames of these files away, and of the outermost error all before those of the code."""
    if made is None or id(made) in seen:
        return
    seen.add(id(made))
    frames = [frame for frame in made.stack if frame.filename not in OWN_FILES]
    cells = [number for number, frame in enumerate(frames) if frame.filename.startswith("<cell ")]
    if is_first:
        # In an event loop that runs none of the code at the moment, there are only frames of the loop.
        frames = frames[cells[0] :] if cells else [each for each in frames if "asyncio" not in each.filename]
    made.stack[:] = frames
    for other in (made.__cause__, made.__context__, *(getattr(made, "exceptions", None) or ())):
        _strip(other, is_first=False, seen=seen)
