"""`run` on daemons without the extension `processes`: by one command in the session's shell; pure.

The command runs in a subshell, so that the shell stays as it was, and what it prints between two marks is its
result. It is as good as can be had: it waits in line with the shell's other commands, its variables begin as
the shell's, and an end by a signal is read from the exit code.
"""

from __future__ import annotations

import base64
import secrets
import shlex
from functools import partial
from typing import Any

from attrs import evolve, frozen

from sandkasten import _wire
from sandkasten._answers import RefusedError, structure
from sandkasten._cut import mark as cut_mark
from sandkasten._processes.arguments import SIGNALS, Program
from sandkasten._protocol import MAX_TIMEOUT_MS, WORKSPACE, Code
from sandkasten._wire import Call
from sandkasten.errors import SandkastenError, SandkastenResponseError
from sandkasten.models import ExecResult, ProcessResult

# What goes into the command itself; more than that goes into a file first.
INLINE_INPUT_BYTES = 128 * 1024
# Of each channel, so that both fit into the output of a command.
MAX_KEPT_BYTES = 300 * 1024
# The time that is left to the command after the program's own.
_SPARE_MS = 5_000
_FIELDS = 9
# No trap does that: a child that is killed before it became its program would run it.
_FAILED = "{ rm -rf -- $__sk_d; exit 1; }"


@frozen(eq=False, repr=False)
class Plan:
    """One run.

    Attributes:
        program: what is to run.
        timeout_ms: for how long.
        keep_bytes: how much of each channel is wanted.
        stdin: its input, if it is small.
        stdin_path: the file that its input is in, which the command removes; empty if it is in `stdin`.
        mark: what stands on both sides of the result.
    """

    program: Program
    timeout_ms: int
    keep_bytes: int
    stdin: bytes
    stdin_path: str
    mark: str


def plan(program: Program, timeout_ms: int, stdin: bytes, keep_bytes: int) -> Plan:
    """Return how to run it."""
    mark = secrets.token_hex(8)
    is_inline = len(stdin) <= INLINE_INPUT_BYTES
    return Plan(
        program,
        min(timeout_ms or MAX_TIMEOUT_MS, MAX_TIMEOUT_MS - _SPARE_MS),
        min(keep_bytes, MAX_KEPT_BYTES),
        stdin if is_inline else b"",
        "" if is_inline else f"{WORKSPACE}/.sandkasten-{mark}",
        mark,
    )


def run(session_id: str, how: Plan) -> Call[ProcessResult]:
    """`POST .../exec` with a command that runs the program, and an answer that is read as that of `run`."""
    timeout_ms = min(how.timeout_ms + _SPARE_MS, MAX_TIMEOUT_MS)
    call: Call[Any] = _wire.exec_command(session_id, command(how), timeout_ms, raw_output=False)
    return evolve(call, parse=partial(_result, how=how), unnamed=None)


def command(how: Plan) -> str:
    """Return the command."""
    encoded = base64.encodebytes(how.stdin).decode()
    source = (
        f"mv -- {shlex.quote(how.stdin_path)} $__sk_d/in || {_FAILED}"
        if how.stdin_path
        else f"base64 -d >$__sk_d/in <<'__sk_end' || {_FAILED}\n{encoded}__sk_end"
    )
    return "\n".join(
        [
            "(",
            "{ set +xvT; trap - DEBUG ERR EXIT; } 2>/dev/null; set +euf",
            "__sk_d=$(mktemp -d) || exit 1",
            source,
            ">$__sk_d/no; __sk_s=; ! command -v setsid >/dev/null || __sk_s=setsid",
            f"(\n{_started(how.program)}\n) <$__sk_d/in >$__sk_d/out 2>$__sk_d/err &",
            "__sk_p=$!",
            f"sleep {how.timeout_ms / 1000:.3f} </dev/null >/dev/null 2>&1 &",
            "__sk_w=$!; wait -n; __sk_t=0",
            "if kill $__sk_w 2>/dev/null; then :; else __sk_t=1",
            "kill -TERM -- ${__sk_s:+-}$__sk_p; sleep 0.2; kill -KILL -- ${__sk_s:+-}$__sk_p; fi 2>/dev/null",
            "wait $__sk_p; __sk_c=$?",
            f"printf '\\n%s:%s:%s:' {how.mark} $__sk_c $__sk_t; base64 <$__sk_d/no; echo :",
            f"for __sk_f in out err; do wc -c <$__sk_d/$__sk_f; echo :; {_kept(how.keep_bytes)}; done",
            f"echo {how.mark}; rm -rf -- $__sk_d",
            ") 2>/dev/null",
        ]
    )


def _started(program: Program) -> str:
    """Return what becomes the program, in a subshell of its own."""
    lines = [
        f"cd -- {shlex.quote(WORKSPACE)} && cd -- {shlex.quote(program.cwd or WORKSPACE)} || "
        f"{{ printf %s {shlex.quote(f'{program.cwd}: no such directory')} >$__sk_d/no; exit 127; }}"
    ]
    for name, value in program.env.items():
        if not name.isidentifier() or not name.isascii():
            raise SandkastenError(
                f"This daemon, without the extension 'processes', sets no variable {name[:80]!r}.",
                "Give it a name of letters, digits and underscores.",
            )
        lines.append(f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}")
    lines += ["__sk_q=$__sk_s __sk_o=$__sk_d/no", "unset __sk_d __sk_s __sk_p"]
    words = program.args or ("bash", "-c", program.cmd)
    lines += [
        f"set -- {' '.join(map(shlex.quote, words))}",
        '__sk_no() { printf "%s: %s" "$1" "$2" >$__sk_o; exit 127; }; __sk_f=$1',
        'case $1 in */*) [ -e "$1" ] || __sk_no "$1" "no such file";;',
        '*) __sk_f=$(type -P -- "$1") || __sk_no "$1" "not found in PATH";; esac',
        '[ -f "$__sk_f" ] && [ -x "$__sk_f" ] || __sk_no "$1" "not executable"; unset -f __sk_no',
        'shift; exec $__sk_q "$__sk_f" "$@"',
    ]
    return "\n".join(lines)


def _kept(keep_bytes: int) -> str:
    """Return what prints head and tail of a file."""
    head, tail = keep_bytes - keep_bytes // 2, keep_bytes // 2
    return (
        f"head -c {head} <$__sk_d/$__sk_f | base64; echo :; "
        f"tail -c +{head + 1} <$__sk_d/$__sk_f | tail -c {tail} | base64; echo :"
    )


def _result(answer: Any, *, how: Plan) -> ProcessResult:
    done = structure(answer, ExecResult)
    start, end = done.output.find(f"{how.mark}:"), done.output.rfind(how.mark)
    fields = done.output[start + len(how.mark) + 1 : end].split(":")
    if not 0 <= start < end or len(fields) != _FIELDS + 1:
        raise SandkastenError(
            f"The command that runs a program on this daemon failed: {done.output.strip()[-200:] or '-'}",
            "Check that the image has base64, head, mktemp, sleep, tail and wc, and a /tmp to write to.",
        )
    try:
        code, is_late = int(fields[0]), fields[1].strip() == "1"
        refusal = _bytes(fields[2]).decode(errors="replace")
        outputs = [
            _whole(int(total), _bytes(head), _bytes(tail)) for total, head, tail in (fields[3:6], fields[6:9])
        ]
    except ValueError as error:
        raise SandkastenResponseError("The result of a program cannot be read.") from error
    if refusal:
        raise RefusedError(400, Code.CANNOT_START, refusal)
    (stdout, stdout_bytes), (stderr, stderr_bytes) = outputs
    truncated = stdout_bytes > len(stdout) or stderr_bytes > len(stderr)
    if is_late:
        details = {
            "stdout_base64": base64.b64encode(stdout).decode(),
            "stderr_base64": base64.b64encode(stderr).decode(),
            "truncated": truncated,
        }
        raise RefusedError(
            504, Code.COMMAND_TIMEOUT, f"The process was stopped after {how.timeout_ms} ms", details
        )
    name = _signal_of(code)
    return ProcessResult(
        exit_code=code,
        signal=name,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        end="exited" if name is None else "signal",
        truncated=truncated,
        duration_ms=done.duration_ms,
        stdout_total_bytes=stdout_bytes,
        stderr_total_bytes=stderr_bytes,
    )


def _bytes(encoded: str) -> bytes:
    return base64.b64decode("".join(encoded.split()), validate=True)


def _whole(total_bytes: int, head: bytes, tail: bytes) -> tuple[bytes, int]:
    left_out_bytes = total_bytes - len(head) - len(tail)
    if left_out_bytes <= 0:
        return head + tail, total_bytes
    line_end = b"" if head.endswith(b"\n") or not head else b"\n"
    return head + line_end + cut_mark(left_out_bytes).encode() + tail, total_bytes


def _signal_of(code: int) -> str | None:
    return f"SIG{SIGNALS[code - 129]}" if 128 < code <= 128 + len(SIGNALS) else None
