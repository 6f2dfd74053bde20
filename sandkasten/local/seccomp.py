"""Which system calls sandboxed code may make: a filter for bubblewrap's --seccomp; pure but for `descriptor`.

Namespaces and the loss of capabilities already make most of these calls fail. The filter matters for the
day a check in the kernel is wrong: what cannot be called cannot be attacked. It takes away new namespaces
(which would give capabilities back, and with them most of the kernel's privileged code), subsystems with
a long record of escalations, and what looks at or steers the host or other processes. It is a list of
what is denied, as those of container engines and Flatpak are in effect, since the code in here is
anything at all; but numbers newer than those known below are denied too.

How it answers:

* EPERM by default: "not for you", as the kernel would say for want of a capability.
* ENOSYS, "this kernel does not have it", where programs then do without: glibc falls back from clone3
  to clone, libuv from io_uring to threads, libmount to mount().
* Death by SIGSYS for calls of another architecture (i386 on x86_64), whose numbers mean other things.

The kernel gives the filter the arguments as 64-bit values, but takes `int` ones from the low half. So
only that half is compared; whoever compares all 64 bits lets through what has garbage above
(CVE-2019-10063). What pointers point to cannot be seen at all, hence no clone3: its flags lie in memory.

What this costs those inside: debuggers and tracers (gdb, strace, perf, LeakSanitizer), 32-bit programs,
and sandboxes within the sandbox (bubblewrap, the one of Chromium).
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from errno import EAFNOSUPPORT, ENOSYS, EPERM, EPROTONOSUPPORT
from typing import NamedTuple

from sandkasten.local.errors import IsolationError

# name: (number on x86_64, number on aarch64)
Numbers = Mapping[str, tuple[int | None, int | None]]

NOT_PERMITTED: Numbers = {
    # Namespaces and mounts. Even `unshare` without a new namespace: nearly nobody needs that.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),  # files by inode number, past every mount: the "shocker" escape
    # Other processes. Without ptrace no debugger works; it and its kin are ways into processes that
    # were not meant to be reached, such as those that hold this sandbox's channels.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    # Large, much attacked, and not needed by ordinary programs.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),  # stops the kernel in mid-copy, which turns races into exploits
    "add_key": (248, 217),  # keyrings belong to the user id, not to the sandbox
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),  # 16-bit segments, for programs that cannot run here
    # The machine's administration: the kernel's code, its clock, log, disks and ports.
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
}

NOT_THERE: Numbers = {
    "clone3": (435, 435),  # its flags cannot be seen
    # A second way to make system calls, which no filter sees, and many escalations.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # The new mount interface; libmount falls back to mount().
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "listns": (470, 470),
    # As in kernels built without it, which programs expect.
    "name_to_handle_at": (303, 264),
    "kcmp": (312, 272),  # compares kernel pointers, for checkpoints
    "memfd_secret": (447, 447),  # memory that the kernel cannot move or swap
    "vmsplice": (278, 75),  # leaves the kernel reading pages that are still being written
    "lsm_set_self_attr": (460, 460),  # changes the AppArmor or SELinux label
    # As in a kernel without NUMA: where the memory of this and other processes lies.
    "mbind": (237, 235),
    "get_mempolicy": (239, 236),  # libnuma asks by this one whether there is NUMA
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Gone from the kernel, or on the way.
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
}

# Allowed or denied by their arguments, see `_checks`.
CHECKED: Numbers = {
    "clone": (56, 220),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "socket": (41, 198),
    "socketpair": (53, 199),
}

# The newest call that was considered for this list (rseq_slice_yield, Linux 7.0). What comes after it is
# not there, whatever it does: programs must cope with older kernels anyway. The x32 calls of x86_64,
# which are numbered from 0x40000000, are beyond it too.
NEWEST = 471


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

_FORBIDDEN_IOCTLS = (
    0x5412,  # TIOCSTI types into a terminal, for the next program to read
    0x541C,  # TIOCLINUX pastes into the console
    0x5423,  # TIOCSETD loads line disciplines, a row of forgotten modules
)

# Bits of a personality that change nothing to the harm of others: "I run on 32 bits" and "my kernel is
# 2.6", which uname then says, and ADDR_NO_RANDOMIZE, which sanitizers ask for. Others bring back
# executable data, memory at address 0, or emulations of systems long gone.
_HARMLESS_PERSONALITY = 0x0000_0008 | 0x0002_0000 | 0x0004_0000
_ASK_PERSONALITY = 0xFFFF_FFFF  # changes nothing, returns the present one

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_TYPE_MASK = 0xF  # above it are SOCK_CLOEXEC and SOCK_NONBLOCK
_SOCK_PACKET = 10  # with AF_INET, an old name for AF_PACKET
# Default, ICMP, TCP, UDP, ICMPv6, raw (which needs a capability). Asking for another one makes the kernel
# load its module: SCTP, DCCP, L2TP, SMC.
_INET_PROTOCOLS = (0, 1, 6, 17, 58, 255)
# Routing (getifaddrs), what `ss` asks, and udev's events. Others speak to packet filters, IPsec, audit.
_NETLINK_PROTOCOLS = (0, 4, 15)


def program(machine: str) -> bytes:
    """The filter for a machine, as `platform.machine` names it: an array of struct sock_filter.

    Raises:
        IsolationError: there is none for this machine.
    """
    if machine not in _MACHINES:
        raise IsolationError(
            f"Sandboxes cannot be secured on this kind of machine ({machine}): the filter of system calls "
            f"is written for {' and '.join(_MACHINES)}. Run the daemon on one of these, with 64-bit Python."
        )
    known = _MACHINES[machine]
    code = (
        _load(_ARCH),
        *_when(_EQUAL, known.audit_arch, (_load(_NUMBER), *_search(_runs(_rules(known))))),
        _return(_KILL_PROCESS),
    )
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
    clone = (_load_argument(0), *_when(_ANY_BIT, _CLONE_NEW, _fail(EPERM)), *_PASS)
    ioctl = (_load_argument(1), *_any_of(_FORBIDDEN_IOCTLS, _fail(EPERM)), *_PASS)
    personality = (
        _load_argument(0),
        *_when(_EQUAL, _ASK_PERSONALITY, _PASS),
        *_when(_ANY_BIT, _ASK_PERSONALITY & ~_HARMLESS_PERSONALITY, _fail(EPERM)),
        *_PASS,
    )
    inet = (
        _load_argument(1),
        _mask(_SOCK_TYPE_MASK),
        *_when(_EQUAL, _SOCK_PACKET, _fail(EAFNOSUPPORT)),
        *_protocols(_INET_PROTOCOLS),
    )
    # As if the kernel had been built without the others.
    socket = (
        _load_argument(0),
        *_when(_EQUAL, _AF_UNIX, _PASS),
        *_when(_EQUAL, _AF_INET, inet),
        *_when(_EQUAL, _AF_INET6, inet),
        *_when(_EQUAL, _AF_NETLINK, _protocols(_NETLINK_PROTOCOLS)),
        *_fail(EAFNOSUPPORT),
    )
    return {
        "clone": clone,
        "ioctl": ioctl,
        "personality": personality,
        "socket": socket,
        "socketpair": socket,
    }


def _protocols(allowed: Sequence[int]) -> _Code:
    return (_load_argument(2), *_any_of(allowed, _PASS), *_fail(EPROTONOSUPPORT))


def _rules(machine: _Machine) -> dict[int, _Code]:
    """By a call's number: what decides on it, if it is not simply allowed."""
    checks = _checks()
    by_name: dict[str, _Code] = {
        **dict.fromkeys(NOT_PERMITTED, _fail(EPERM)),
        **dict.fromkeys(NOT_THERE, _fail(ENOSYS)),
        **{name: checks[name] for name in CHECKED},
    }
    rules = {number: _fail(ENOSYS) for numbers in machine.unassigned for number in numbers}
    for name, numbers in {**NOT_PERMITTED, **NOT_THERE, **CHECKED}.items():
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
