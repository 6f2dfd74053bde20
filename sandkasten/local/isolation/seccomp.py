"""The system calls of sandboxed code: a filter for bubblewrap's --seccomp; pure, except `descriptor`.

Namespaces and the loss of capabilities already make most of these calls fail. The filter matters for the
day a check in the kernel is wrong: a call that cannot be made cannot be attacked. It takes away new
namespaces
(which would give capabilities back, and with them most of the kernel's privileged code), subsystems with
a long record of escalations, what looks at or steers the host or other processes, and what takes from a
count that all sandboxes or the whole machine share. `syscalls` lists the calls.

How it answers:

* EPERM by default: "not for you", as the kernel would say for want of a capability.
* ENOSYS, "this kernel does not have it", where programs then do without: glibc falls back from clone3
  to clone, libuv from io_uring to threads, libmount to mount().
* EINVAL, ENOMEM and the like, where a kernel without the one option, command or flag would say so.
* Death by SIGSYS for calls of another architecture (i386 on x86_64), whose numbers mean other things.

The kernel gives the filter the arguments as 64-bit values, but takes `int` ones from the low half. So
only that half is compared; whoever compares all 64 bits lets through what has garbage above
(CVE-2019-10063). A filter cannot look behind pointers, hence no clone3: its flags lie in memory.

The cost for code inside: debuggers and tracers (gdb, strace, perf, LeakSanitizer), 32-bit programs,
and sandboxes within the sandbox (bubblewrap, filters of system calls, the one of Chromium).
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator, Mapping, Sequence
from errno import (
    EAFNOSUPPORT,
    EINVAL,
    ENODEV,
    ENOMEM,
    ENOPROTOOPT,
    ENOSYS,
    EOPNOTSUPP,
    EPERM,
    EPROTONOSUPPORT,
)
from typing import NamedTuple

from sandkasten.local.errors import IsolationError
from sandkasten.local.isolation.syscalls import CHECKED, NEWEST, NOT_PERMITTED, NOT_SUPPORTED, NOT_THERE
from sandkasten.local.records import dataclass


@dataclass(frozen=True)
class _Machine:
    audit_arch: int
    column: int  # in `Numbers`
    unassigned: Sequence[range]  # holes in the numbering; closed, should a later kernel fill them


# Named as `platform.machine` does. Both are little-endian, as the offsets below assume.
_MACHINES: Mapping[str, _Machine] = {
    # 335 and 336 are the kernel's own, from the trampolines of uprobes.
    "x86_64": _Machine(0xC000003E, 0, [range(337, 424)]),
    "aarch64": _Machine(0xC00000B7, 1, [range(244, 260), range(295, 424)]),
}

# The CLONE_NEW* flags for a namespace of mounts, cgroups, UTS, IPC, users, processes, network. (That of
# time has no flag here: clone takes its bit for part of a signal's number.)
_CLONE_NEW = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
# The parent of a program beside the shell is the daemon. With this flag its children would be the daemon's,
# too: nobody would find them below process 1 and end them, nor wait for them, for which process 1 waits.
_CLONE_PARENT = 0x0000_8000

_FORBIDDEN_IOCTLS = (
    0x540A,  # TCXONC stops a terminal's output, for ever
    0x540C,  # TIOCEXCL lets nobody else open a terminal, for ever
    0x5412,  # TIOCSTI types into a terminal, for the next program to read
    0x541C,  # TIOCLINUX pastes into the console
    0x5423,  # TIOCSETD loads line disciplines, a row of forgotten modules
)

# Bits of a personality that change nothing to the harm of others: "I run on 32 bits" and "my kernel is
# 2.6", which uname then says, and ADDR_NO_RANDOMIZE, which sanitizers ask for. Others bring back
# executable data, memory at address 0, or emulations of systems long gone.
_HARMLESS_PERSONALITY = 0x0000_0008 | 0x0002_0000 | 0x0004_0000
_ASK_PERSONALITY = 0xFFFF_FFFF  # changes nothing, returns the present one

# On a file of the image, the same for all sandboxes, a lease or delegation makes others wait for 45 seconds
# when they open it, and both it and F_NOTIFY tell of what they do.
_F_SETLEASE, _F_NOTIFY, _F_SETDELEG = 1024, 1026, 1040

# ioprio_set takes a class (above bit 13), hints, and a level (the lowest three bits). Level 4 of the class
# best-effort is where everybody starts; below are better ones.
_IOPRIO_CLASS, _IOPRIO_LEVEL = 0xE000, 0x7
_IOPRIO_REAL_TIME, _IOPRIO_BEST_EFFORT = 0x2000, 0x4000

# The bits of a file's kind in its mode, and devices' kinds. Of these an ordinary user may make 0:0, which is
# no device but a "whiteout": it hides a file from those who stack file systems.
_FILE_KIND, _CHARACTER_DEVICE, _BLOCK_DEVICE = 0xF000, 0x2000, 0x6000
_RENAME_WHITEOUT = 0x4

# The code that the kernel makes of filters is counted for the whole machine (net.core.bpf_jit_limit). When
# that is used up, nobody gets a filter, and so no new sandbox starts.
_SO_ATTACH = (26, 50, 51, 52)  # SO_ATTACH_FILTER, _BPF, _REUSEPORT_CBPF, _REUSEPORT_EBPF
_SOL_SOCKET = 1
_SECCOMP_SET_MODE_FILTER = 1
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

# Huge pages come from a pool of the whole machine, which is not part of a sandbox's memory.
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x40000, 0x4, 0o4000

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_TYPE_MASK = 0xF  # above it are SOCK_CLOEXEC and SOCK_NONBLOCK
_SOCK_PACKET = 10  # with AF_INET, an old name for AF_PACKET
# Default, ICMP, TCP, UDP, ICMPv6, raw (which needs a capability). Asking for another one makes the kernel
# load its module: SCTP, DCCP, L2TP, SMC.
_INET_PROTOCOLS = (0, 1, 6, 17, 58, 255)
# Routing (getifaddrs), what `ss` asks, and udev's events. Others speak to packet filters, IPsec, audit.
_NETLINK_PROTOCOLS = (0, 4, 15)


# The calls that the spawner still needs when the filter holds for it (see `spawner/spawner.c`). Each program
# that it starts gets their rules last.
_LAST = ("clone", "unshare", "prctl", "seccomp")


def program(machine: str) -> bytes:
    """The filter for a machine, as `platform.machine` names it: an array of struct sock_filter.

    Raises:
        IsolationError: there is none for this machine.
    """
    known = _known(machine)
    return _of_machine(known, _rules(known))


def base_program(machine: str) -> bytes:
    """The filter without the rules of `last_program`; both of them together answer as `program` does.

    Raises:
        IsolationError: there is none for this machine.
    """
    known = _known(machine)
    last = _numbers_of_last(known)
    return _of_machine(known, {n: code for n, code in _rules(known).items() if n not in last})


def last_program(machine: str) -> bytes:
    """The rules that `base_program` lacks: a small filter, as each program has one of its own.

    It does not look at the architecture: the other one ends what comes from another.

    Raises:
        IsolationError: there is none for this machine.
    """
    known = _known(machine)
    rules = _rules(known)
    each = (part for n in _numbers_of_last(known) for part in _when(_EQUAL, n, rules[n]))
    return _packed((_load(_NUMBER), *each, *_PASS))


def _known(machine: str) -> _Machine:
    if machine not in _MACHINES:
        raise IsolationError(
            f"Sandboxes cannot be secured on this kind of machine ({machine}): the filter of system calls "
            f"is written for {' and '.join(_MACHINES)}.",
            "Run the daemon on one of these, with 64-bit Python.",
        )
    return _MACHINES[machine]


def _numbers_of_last(machine: _Machine) -> tuple[int, ...]:
    numbers = (({**NOT_PERMITTED, **CHECKED})[name][machine.column] for name in _LAST)
    return tuple(number for number in numbers if number is not None)


def _of_machine(machine: _Machine, rules: Mapping[int, _Code]) -> bytes:
    of_number = (_load(_NUMBER), *_search(_runs(rules)))
    return _packed((_load(_ARCH), *_when(_EQUAL, machine.audit_arch, of_number), _return(_KILL_PROCESS)))


def _packed(code: _Code) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def descriptor(program: bytes) -> int:
    """A new descriptor to pass to one bubblewrap, which reads it to its end; the caller closes it."""
    # A pipe is the least that a kernel can refuse. It takes this much without a reader.
    assert len(program) <= select.PIPE_BUF
    ours, theirs = os.pipe()
    try:
        os.write(theirs, program)
    finally:
        os.close(theirs)
    return ours


class _Instruction(NamedTuple):
    """struct sock_filter.

    Since Linux 5.11 the kernel interprets a filter once for each number, without arguments, and does not
    run it for those that this shows to be allowed. Only opcodes that it then understands are used here.
    """

    opcode: int
    if_true: int
    if_false: int
    value: int


# A piece that ends in a return, whichever way it takes, if it is to be used as the end of a program.
_Code = tuple[_Instruction, ...]

# Offsets in struct seccomp_data.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_EQUAL, _NOT_BELOW, _ANY_BIT = 0x15, 0x35, 0x45
_KILL_PROCESS, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000


def _load(offset: int) -> _Instruction:
    return _Instruction(0x20, 0, 0, offset)


def _load_argument(index: int) -> _Instruction:
    """The low half; see above."""
    return _load(_ARGUMENTS + 8 * index)


def _mask(bits: int) -> _Instruction:
    return _Instruction(0x54, 0, 0, bits)


def _return(value: int) -> _Instruction:
    return _Instruction(0x06, 0, 0, value)


def _when(comparison: int, value: int, then: _Code) -> _Code:
    """Run `then`, which returns, if the comparison holds; go on behind it if not."""
    assert then[-1].opcode == _return(0).opcode
    if len(then) <= 0xFF:
        return (_Instruction(comparison, 0, len(then), value), *then)
    # Conditional jumps reach no further; unconditional ones do.
    return (_Instruction(comparison, 1, 0, value), _Instruction(0x05, 0, 0, len(then)), *then)


def _any_of(values: Sequence[int], then: _Code) -> Iterator[_Instruction]:
    for value in values:
        yield from _when(_EQUAL, value, then)


_PASS: _Code = (_return(_ALLOW),)


def _fail(error: int) -> _Code:
    return (_return(_ERRNO | error),)


def _checks() -> Mapping[str, _Code]:
    """By the name of a call: what decides on its arguments."""
    clone = (_load_argument(0), *_when(_ANY_BIT, _CLONE_NEW | _CLONE_PARENT, _fail(EPERM)), *_PASS)
    personality = (
        _load_argument(0),
        *_when(_EQUAL, _ASK_PERSONALITY, _PASS),
        *_when(_ANY_BIT, _ASK_PERSONALITY & ~_HARMLESS_PERSONALITY, _fail(EPERM)),
        *_PASS,
    )
    setsockopt = (
        _load_argument(1),
        *_when(_EQUAL, _SOL_SOCKET, _without(2, _SO_ATTACH, ENOPROTOOPT)),
        *_PASS,
    )
    prctl = (
        _load_argument(0),
        *_when(_EQUAL, _PR_SET_SECCOMP, _without(1, (_SECCOMP_MODE_FILTER,), EINVAL)),
        *_PASS,
    )
    return {
        "clone": clone,
        "fcntl": _without(1, (_F_SETLEASE, _F_NOTIFY, _F_SETDELEG), EINVAL),
        "ioctl": _without(1, _FORBIDDEN_IOCTLS, EPERM),
        "ioprio_set": _io_priorities(),
        "memfd_create": _without_flag(1, _MFD_HUGETLB, ENODEV),
        "mknod": _without(1, (_CHARACTER_DEVICE, _BLOCK_DEVICE), EPERM, _FILE_KIND),
        "mknodat": _without(2, (_CHARACTER_DEVICE, _BLOCK_DEVICE), EPERM, _FILE_KIND),
        "mmap": _without_flag(3, _MAP_HUGETLB, ENOMEM),
        "personality": personality,
        "prctl": prctl,
        "prlimit64": _own_limits(),
        "renameat2": _without_flag(4, _RENAME_WHITEOUT, EINVAL),
        "seccomp": _without(0, (_SECCOMP_SET_MODE_FILTER,), EINVAL),
        "setsockopt": setsockopt,
        "shmget": _without_flag(2, _SHM_HUGETLB, ENOMEM),
        "socket": _sockets(),
        "socketpair": _sockets(),
    }


def _without(index: int, values: Sequence[int], error: int, bits: int = 0xFFFF_FFFF) -> _Code:
    """Allow a call unless some bits of an argument have one of these values."""
    masked = () if bits == 0xFFFF_FFFF else (_mask(bits),)
    return (_load_argument(index), *masked, *_any_of(values, _fail(error)), *_PASS)


def _without_flag(index: int, flag: int, error: int) -> _Code:
    return (_load_argument(index), *_when(_ANY_BIT, flag, _fail(error)), *_PASS)


def _io_priorities() -> _Code:
    """Allow lower priorities than the usual one."""
    better = range(_IOPRIO_BEST_EFFORT, _IOPRIO_BEST_EFFORT + 4)
    return (
        _load_argument(2),
        _mask(_IOPRIO_CLASS),
        *_when(_EQUAL, _IOPRIO_REAL_TIME, _fail(EPERM)),
        *_without(2, better, EPERM, _IOPRIO_CLASS | _IOPRIO_LEVEL),
    )


def _own_limits() -> _Code:
    """Allow a process to set its own limits, and to read those of others.

    With a limit of CPU time even process 1 can be ended.
    """
    return (
        _load_argument(0),
        *_when(_EQUAL, 0, _PASS),
        _load_argument(2),
        *_when(_ANY_BIT, 0xFFFF_FFFF, _fail(EPERM)),
        _load(_ARGUMENTS + 8 * 2 + 4),  # a pointer has an upper half
        *_when(_ANY_BIT, 0xFFFF_FFFF, _fail(EPERM)),
        *_PASS,
    )


def _sockets() -> _Code:
    """Allow few kinds, as if the kernel had been built without the others."""
    inet = (
        _load_argument(1),
        _mask(_SOCK_TYPE_MASK),
        *_when(_EQUAL, _SOCK_PACKET, _fail(EAFNOSUPPORT)),
        *_protocols(_INET_PROTOCOLS),
    )
    return (
        _load_argument(0),
        *_when(_EQUAL, _AF_UNIX, _PASS),
        *_when(_EQUAL, _AF_INET, inet),
        *_when(_EQUAL, _AF_INET6, inet),
        *_when(_EQUAL, _AF_NETLINK, _protocols(_NETLINK_PROTOCOLS)),
        *_fail(EAFNOSUPPORT),
    )


def _protocols(allowed: Sequence[int]) -> _Code:
    return (_load_argument(2), *_any_of(allowed, _PASS), *_fail(EPROTONOSUPPORT))


def _rules(machine: _Machine) -> dict[int, _Code]:
    """By a call's number: what decides on it, if it is not simply allowed."""
    checks = _checks()
    by_name: dict[str, _Code] = {
        **dict.fromkeys(NOT_PERMITTED, _fail(EPERM)),
        **dict.fromkeys(NOT_THERE, _fail(ENOSYS)),
        **dict.fromkeys(NOT_SUPPORTED, _fail(EOPNOTSUPP)),
        **{name: checks[name] for name in CHECKED},
    }
    rules = {number: _fail(ENOSYS) for numbers in machine.unassigned for number in numbers}
    for name, numbers in {**NOT_PERMITTED, **NOT_THERE, **NOT_SUPPORTED, **CHECKED}.items():
        number = numbers[machine.column]
        if number is not None:
            rules[number] = by_name[name]
    return rules


def _runs(rules: Mapping[int, _Code]) -> list[tuple[int, _Code]]:
    """Runs of numbers that are treated alike: where each begins, and how; the last has no end."""
    runs: list[tuple[int, _Code]] = []
    for number in range(NEWEST + 2):
        code = rules.get(number, _PASS) if number <= NEWEST else _fail(ENOSYS)
        if not runs or runs[-1][1] != code:
            runs.append((number, code))
    return runs


def _search(runs: Sequence[tuple[int, _Code]]) -> _Code:
    """Find the run of a number by halving: some seven comparisons, where a list would need a hundred."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    return (*_when(_NOT_BELOW, runs[middle][0], _search(runs[middle:])), *_search(runs[:middle]))
