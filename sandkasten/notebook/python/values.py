"""Values that come from the session's interpreter into the notebook: as JSON, since code made them.

A pickle would run code here. So only simple values come, and tables of pandas as their columns.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from sandkasten.errors import SandkastenError
from sandkasten.notebook.errors import MagicError
from sandkasten.notebook.text import one_line, size
from sandkasten_sync import Session

# Many small values take thirty times their bytes in memory.
MAX_BYTES = 32_000_000
_TIMEOUT_MS = 60_000

# Runs in the interpreter, apart from its variables.
_DUMP = """\
import json
def simple(value):
    kind = type(value)
    root = kind.__module__.partition(".")[0]
    if root == "pandas" and kind.__name__ in ("DataFrame", "Series"):
        table = value.to_frame() if kind.__name__ == "Series" else value
        text = table.to_json(orient="split", date_format="iso", date_unit="ns")
        return {"kind": kind.__name__, "dtypes": [str(each) for each in table.dtypes],
                "index_dtype": str(table.index.dtype), "index_names": list(table.index.names),
                "column_names": list(table.columns.names), **json.loads(text)}
    if root == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        value = list(value)
    return {"kind": "simple", "value": value}
found = {}
for name in names:
    if name in space:
        try:
            found[name] = simple(space[name])
            json.dumps(found[name])
        except Exception as error:
            found[name] = {"kind": "none", "type": type(space[name]).__name__, "why": str(error)[:200]}
with open(path, "w") as file:
    json.dump(found, file)
"""
# Those that JSON does not tell apart; a name from outside must not choose any other conversion.
_NUMBERS = frozenset({"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))})
_TIMES = re.compile(r"datetime64\[(s|ms|us|ns)(, [\w/+:-]{1,40})?\]")
_FLOATS = frozenset({"float32", "float64"})


def bring(session: Session, names: list[str]) -> dict[str, Any]:
    """Return the values of variables in the session's interpreter; those that it does not have are missing.

    Raises:
        MagicError: one cannot be brought.
        SandkastenError: any failure.
    """
    path = f"/workspace/.sandkasten-{os.urandom(8).hex()}.json"
    call = f"exec({_DUMP!r}, {{'names': {names!r}, 'path': {path!r}, 'space': globals()}})"
    try:
        session.python(call, timeout_ms=_TIMEOUT_MS).check()
        read = session.read(path, max_bytes=MAX_BYTES)
    finally:
        with suppress(SandkastenError):
            session.remove(path)
    if read.truncated:
        raise MagicError(
            f"%%sandbox -o: the values have more than {size(MAX_BYTES)}. "
            "Write them to a file, and fetch it with %sandbox download."
        )
    return loaded(read.content, names)


def loaded(content: bytes, names: list[str]) -> dict[str, Any]:
    """Make values of what came.

    Raises:
        MagicError: one cannot be brought.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise MagicError("%%sandbox -o: the values came broken. Run the cell again.")
    rows = cast("dict[str, Any]", found)
    return {name: _value(name, rows[name]) for name in names if isinstance(rows.get(name), dict)}


def _value(name: str, row: Mapping[str, Any]) -> Any:
    kind = row.get("kind")
    if kind == "simple":
        return row.get("value")
    if kind in {"DataFrame", "Series"}:
        try:
            table = _table(row)
        except ImportError:
            raise MagicError(
                f"%%sandbox -o: {name} is a {kind}, and this notebook has no pandas. Install it, or bring "
                f"{name}.to_dict()."
            ) from None
        except Exception as error:
            why = one_line(str(error))
            raise MagicError(f"%%sandbox -o: the table {name} cannot be read: {why}.") from None
        return table.iloc[:, 0] if kind == "Series" else table
    type_name = one_line(str(row.get("type", "value")), 60)
    raise MagicError(
        f"%%sandbox -o: {name} is a {type_name}, which cannot come out of the sandbox. Numbers, texts, lists "
        "and dicts can, and tables of pandas; write anything else to a file."
    )


def _table(row: Mapping[str, Any]) -> Any:
    """Make a table of pandas, with the types that its columns had."""
    pandas: Any = importlib.import_module("pandas")
    table = pandas.DataFrame(row["data"], columns=_labels(pandas, row["columns"], row["column_names"]))
    table.index = _labels(pandas, row["index"], row["index_names"], row["index_dtype"])
    for number, dtype in enumerate(row["dtypes"]):
        table.isetitem(number, _typed(pandas, table.iloc[:, number], dtype))
    return table


def _labels(pandas: Any, values: list[Any], names: list[Any], dtype: Any = None) -> Any:
    if len(names) > 1:
        return pandas.MultiIndex.from_tuples([tuple(value) for value in values], names=names)
    return pandas.Index(_typed(pandas, pandas.Series(values), dtype) if dtype else values, name=names[0])


def _typed(pandas: Any, column: Any, dtype: Any) -> Any:
    if isinstance(dtype, str):
        if _TIMES.fullmatch(dtype):
            return pandas.to_datetime(column, format="ISO8601", utc="," in dtype).astype(dtype)
        if dtype in _FLOATS or (dtype in _NUMBERS and not column.isna().any()):
            return column.astype(dtype)
        if dtype == "category":
            return column.astype("category")
    return column
