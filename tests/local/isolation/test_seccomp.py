"""The filter of system calls: each rule, run by an interpreter; and real programs, run under it."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import select
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from sandkasten.local.errors import IsolationError
from sandkasten.local.files.rundir import run_dir
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation import bwrap_binary, seccomp, syscalls

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = sorted(AUDIT_ARCH)
I386, X32_BIT = 0x40000003, 0x40000000
TABLES = (syscalls.NOT_PERMITTED, syscalls.NOT_THERE, syscalls.NOT_SUPPORTED, syscalls.CHECKED)
GARBAGE = 0xDEADBEEF << 32  # above an argument of 32 bits, where the kernel does not look

# Calls that everything needs, with their numbers on x86_64 and aarch64.
ORDINARY = """
    read:0:63 write:1:64 open:2:- openat:257:56 openat2:437:437 close:3:57 close_range:436:436 stat:4:-
    fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291 poll:7:- ppoll:271:73 lseek:8:62 mprotect:10:226
    munmap:11:215 brk:12:214 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139
    rt_sigsuspend:130:133 rt_sigtimedwait:128:137 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240
    sigaltstack:131:132 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69 pwritev:296:70
    preadv2:327:286 pwritev2:328:287 access:21:- faccessat:269:48 faccessat2:439:439 pipe:22:- pipe2:293:59
    select:23:- pselect6:270:72 sched_yield:24:124 mremap:25:216 msync:26:227 mincore:27:232 madvise:28:233
    shmat:30:196 shmctl:31:195 shmdt:67:197 dup:32:23 dup2:33:- dup3:292:24 pause:34:- nanosleep:35:101
    getitimer:36:102 alarm:37:- setitimer:38:103 getpid:39:172 sendfile:40:71 connect:42:203 accept:43:202
    accept4:288:242 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269
    recvmmsg:299:243 shutdown:48:210 bind:49:200 listen:50:201 getsockname:51:204 getpeername:52:205
    getsockopt:55:209 fork:57:- vfork:58:- execve:59:221 execveat:322:281 exit:60:93 exit_group:231:94
    wait4:61:260 waitid:247:95 kill:62:129 tkill:200:130 tgkill:234:131 uname:63:160 semget:64:190
    semop:65:193 semctl:66:191 semtimedop:220:192 msgget:68:186 msgsnd:69:189 msgrcv:70:188 msgctl:71:187
    flock:73:32 fsync:74:82 fdatasync:75:83 truncate:76:45 ftruncate:77:46 getdents:78:- getdents64:217:61
    getcwd:79:17 chdir:80:49 fchdir:81:50 rename:82:- renameat:264:38 mkdir:83:- mkdirat:258:34 rmdir:84:-
    creat:85:- link:86:- linkat:265:37 unlink:87:- unlinkat:263:35 symlink:88:- symlinkat:266:36
    readlink:89:- readlinkat:267:78 chmod:90:- fchmod:91:52 fchmodat:268:53 chown:92:- fchown:93:55
    lchown:94:- fchownat:260:54 umask:95:166 gettimeofday:96:169 getrlimit:97:163 setrlimit:160:164
    getrusage:98:165 sysinfo:99:179 times:100:153 getuid:102:174 getgid:104:176 geteuid:107:175
    getegid:108:177 setuid:105:146 setgid:106:144 setreuid:113:145 setregid:114:143 setresuid:117:147
    setresgid:119:149 getresuid:118:148 getresgid:120:150 getgroups:115:158 setgroups:116:159
    setpgid:109:154 getpgid:121:155 getpgrp:111:- getppid:110:173 getsid:124:156 setsid:112:157
    capget:125:90 capset:126:91 statfs:137:43 fstatfs:138:44 getpriority:140:141 setpriority:141:140
    sched_setaffinity:203:122 sched_getaffinity:204:123 sched_setscheduler:144:119
    sched_getscheduler:145:120 sched_getattr:315:275 sched_setattr:314:274 mlock:149:228 munlock:150:229
    mlockall:151:230 munlockall:152:231 arch_prctl:158:- sync:162:81 syncfs:306:267 gettid:186:178
    readahead:187:213 getxattr:191:8 listxattr:194:11 removexattr:197:14 fgetxattr:193:10 time:201:-
    futex:202:98 futex_waitv:449:449 set_tid_address:218:96 restart_syscall:219:128 fadvise64:221:223
    timer_create:222:107 timer_settime:223:110 timer_gettime:224:108 timer_delete:226:111
    clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 epoll_create:213:-
    epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441
    utimes:235:- utimensat:280:88 mq_open:240:180 mq_timedsend:242:182 mq_timedreceive:243:183
    inotify_init:253:- inotify_init1:294:26 inotify_add_watch:254:27 inotify_rm_watch:255:28
    set_robust_list:273:99 get_robust_list:274:100 splice:275:76 tee:276:77 sync_file_range:277:84
    eventfd:284:- eventfd2:290:19 signalfd:282:- signalfd4:289:74 timerfd_create:283:85
    timerfd_settime:286:86 timerfd_gettime:287:87 fallocate:285:47 getcpu:309:168 getrandom:318:278
    membarrier:324:283 mlock2:325:284 copy_file_range:326:285 pkey_alloc:330:289 pkey_free:331:290
    pkey_mprotect:329:288 rseq:334:293 pidfd_open:434:434 pidfd_send_signal:424:424 process_madvise:440:440
    landlock_create_ruleset:444:444 landlock_add_rule:445:445 landlock_restrict_self:446:446
    ioprio_get:252:31 cachestat:451:451 fchmodat2:452:452 mseal:462:462
"""


def ordinary(machine: str) -> dict[str, int]:
    column = MACHINES[::-1].index(machine)
    entries = (entry.split(":") for entry in ORDINARY.split())
    return {name: int(numbers[column]) for name, *numbers in entries if numbers[column] != "-"}


def numbers_of(table: syscalls.Numbers, machine: str) -> dict[str, int]:
    column = MACHINES[::-1].index(machine)
    return {name: number for name, numbers in table.items() if (number := numbers[column]) is not None}


# ---- What the filter says, without a kernel ----


def judge(program: bytes, arch: int, number: int, *args: int) -> str:
    """Interpret the filter as the kernel would: "allow", "kill" or the name of an errno."""
    padded = [arg & 0xFFFF_FFFF_FFFF_FFFF for arg in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number, arch, 0x7FFF_0000_0000, *padded)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        opcode, if_true, if_false, value = code[at]
        at += 1
        if opcode == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif opcode == 0x54:
            accumulator &= value
        elif opcode == 0x05:
            at += value
        elif opcode == 0x06:
            return spoken(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}
            at += if_true if holds[opcode] else if_false


@cache
def parts_of(machine: str) -> tuple[bytes, bytes]:
    return seccomp.base_program(machine), seccomp.last_program(machine)


def judge_in_parts(machine: str, arch: int, number: int, *args: int) -> str:
    """Judge a call of a program that the spawner started: the kernel takes the stricter of two answers."""
    answers = {judge(part, arch, number, *args) for part in parts_of(machine)}
    if len(answers) > 1:
        answers.discard("allow")
    return "kill" if "kill" in answers else answers.pop()


def spoken(action: int) -> str:
    if action & 0xFFFF_0000 == 0x0005_0000:
        return errno.errorcode[action & 0xFFFF]
    return {0x7FFF_0000: "allow", 0x8000_0000: "kill"}[action]


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ask(machine: str) -> Callable[..., str]:
    """Judges a call by its name or number."""
    program = seccomp.program(machine)
    names = ordinary(machine) | numbers_of(syscalls.CHECKED, machine)

    def ask(call: str | int, *args: int) -> str:
        number = names[call] if isinstance(call, str) else call
        said = judge(program, AUDIT_ARCH[machine], number, *args)
        assert said == judge_in_parts(machine, AUDIT_ARCH[machine], number, *args)
        return said

    return ask


def test_its_two_parts_together_answer_as_the_whole_does(machine: str) -> None:
    whole = seccomp.program(machine)
    arguments = (0, 1, 2, 22, 0x1000_0000, 0xFFFF_FFFF, GARBAGE | 22)
    calls = [(number, (one, other)) for number in range(520) for one in arguments for other in (0, 2)]
    others = [(number | X32_BIT, (0,)) for number in range(520)]
    for number, args in calls + others:
        assert judge_in_parts(machine, AUDIT_ARCH[machine], number, *args) == judge(
            whole, AUDIT_ARCH[machine], number, *args
        ), (number, args)
    for number in range(520):
        assert judge_in_parts(machine, I386, number) == "kill"


def test_the_first_part_allows_just_what_the_spawner_still_needs(machine: str) -> None:
    base, arch = seccomp.base_program(machine), AUDIT_ARCH[machine]
    names = numbers_of(syscalls.NOT_PERMITTED | syscalls.CHECKED, machine)
    for name in ("unshare", "prctl", "seccomp"):
        assert judge(base, arch, names[name], 22, 2) == "allow"
    assert judge(base, arch, names["clone"], 0x8000 | 17) == "allow"
    for name in ("setns", "mount", "ptrace"):
        assert judge(base, arch, names[name]) == "EPERM"


def test_everything_listed_is_denied(machine: str, ask: Callable[..., str]) -> None:
    for table, answers in (
        (syscalls.NOT_PERMITTED, {"EPERM"}),
        (syscalls.NOT_THERE, {"ENOSYS"}),
        (syscalls.NOT_SUPPORTED, {"ENOTSUP", "EOPNOTSUPP"}),
    ):
        for name, number in numbers_of(table, machine).items():
            assert ask(number, GARBAGE, 1, 2, 3) in answers, name


def test_the_ordinary_is_allowed(machine: str, ask: Callable[..., str]) -> None:
    assert len(ordinary(machine)) > 150
    for name, number in ordinary(machine).items():
        assert ask(number, GARBAGE, 1, 2, 3) == "allow", name


def test_every_number_is_treated_as_the_tables_say(machine: str, ask: Callable[..., str]) -> None:
    denied = numbers_of(syscalls.NOT_PERMITTED, machine).values()
    missing = numbers_of(syscalls.NOT_THERE, machine).values()
    checked = numbers_of({**syscalls.CHECKED, **syscalls.NOT_SUPPORTED}, machine).values()
    holes = {"x86_64": {*range(337, 424)}, "aarch64": {*range(244, 260), *range(295, 424)}}[machine]
    for number in {*range(1024), *(2**bit for bit in range(32)), 0xFFFF_FFFF} - {*checked}:
        gone = number in missing or number in holes or number > syscalls.NEWEST
        assert ask(number) == ("EPERM" if number in denied else "ENOSYS" if gone else "allow"), number


def test_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    real = header_numbers(machine)
    ours = {name: number for table in TABLES for name, number in numbers_of(table, machine).items()}
    ours |= ordinary(machine)
    newest = max(real.values())
    wrong = {name: number for name, number in ours.items() if real.get(name) != number <= newest}
    assert not wrong
    named = {name for table in TABLES for name in table}
    assert not {name for name in named - {*ours} if name in real}, "a number is missing"


def header_numbers(machine: str) -> dict[str, int]:
    header = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}[machine]
    path = Path("/usr/include") / header
    if not path.is_file():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
    numbers = {name: int(number) for name, number in found if name != "syscalls"}  # that is their number
    return numbers | ({"newfstatat": numbers["fstatat"]} if machine == "aarch64" else {})


def test_no_name_is_in_two_tables() -> None:
    names = [name for table in TABLES for name in table]
    names += [entry.split(":")[0] for entry in ORDINARY.split()]
    assert len(names) == len({*names})


def test_other_architectures_are_killed(machine: str) -> None:
    program = seccomp.program(machine)
    for arch in {I386, 0x40000028, *AUDIT_ARCH.values(), 0} - {AUDIT_ARCH[machine]}:
        for number in (0, 20, 165, 400, X32_BIT):
            assert judge(program, arch, number) == "kill"


def test_x32_is_not_there() -> None:
    program = seccomp.program("x86_64")
    for number in {*ordinary("x86_64").values(), *range(512, 548)}:
        assert judge(program, AUDIT_ARCH["x86_64"], X32_BIT | number) == "ENOSYS"


def test_clone_makes_processes_but_no_namespaces_and_none_for_the_parent(ask: Callable[..., str]) -> None:
    for flags in (17, 0x1200011, 0x3D0F00, 0x4111, 0):  # SIGCHLD, fork, pthread_create, vfork
        assert ask("clone", flags) == ask("clone", GARBAGE & ~0xFFFF_FFFF | flags) == "allow"
    for bit in (0x8000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", 17 | bit) == ask("clone", GARBAGE | bit) == "EPERM"


def test_ioctl_types_into_no_terminal(ask: Callable[..., str]) -> None:
    for request in (0x5401, 0x5402, 0x5413, 0x5414, 0x540F, 0x5410, 0x540E, 0x541B, 0x5421, 0x80045430):
        assert ask("ioctl", 0, request) == ask("ioctl", 0, GARBAGE | request) == "allow"
    for request in (0x5412, 0x541C, 0x5423, 0x540A, 0x540C):
        assert ask("ioctl", 0, request) == ask("ioctl", 0, GARBAGE | request) == "EPERM"
        assert ask("ioctl", request, 0x5401, request) == "allow"


def test_file_commands_take_no_leases_and_report_nothing_of_others(ask: Callable[..., str]) -> None:
    for command in {*range(16), 36, 37, 38, *range(1024, 1045)} - {1024, 1026, 1040}:
        assert ask("fcntl", 1024, command, 1024) == ask("fcntl", 1024, GARBAGE | command, 1024) == "allow"
    for command in (1024, 1026, 1040):
        assert ask("fcntl", 0, command) == ask("fcntl", 0, GARBAGE | command) == "EINVAL"


def test_limits_of_others_are_read_but_not_set(ask: Callable[..., str]) -> None:
    for new in (0, 1, 0x7FFF_0000_0000, GARBAGE):
        assert ask("prlimit64", 0, 7, new, 1) == ask("prlimit64", GARBAGE, 7, new, 1) == "allow"
        for pid in (1, 2, -1, GARBAGE | 1):
            assert ask("prlimit64", pid, 7, new, 1) == ("EPERM" if new else "allow")


def test_io_priorities_are_no_better_than_the_usual_one(ask: Callable[..., str]) -> None:
    for kind, levels in {0: {0}, 2: {4, 5, 6, 7}, 3: {0, 7}}.items():
        for level in range(8):
            for hint in (0, 5 << 3):
                value = kind << 13 | hint | level
                allowed = kind in {0, 3} or level in levels
                for garbage in (0, GARBAGE, 0xFFFF_0000):
                    answer = ask("ioprio_set", 1, 0, garbage | value)
                    assert answer == ("allow" if allowed else "EPERM"), value
    for level in range(8):
        assert ask("ioprio_set", 1, 0, 1 << 13 | level) == "EPERM"


@pytest.mark.parametrize(("call", "at"), [("mknod", 1), ("mknodat", 2)])
def test_no_devices_are_made(machine: str, ask: Callable[..., str], call: str, at: int) -> None:
    if call not in numbers_of(syscalls.CHECKED, machine):
        pytest.skip("this machine never had it")
    before = [0] * at
    for kind in (0, 0o010000, 0o100000, 0o140000):  # default, pipe, file, socket
        assert ask(call, *before, kind | 0o644) == ask(call, *before, GARBAGE | kind) == "allow"
    for kind in (0o020000, 0o060000):
        assert ask(call, *before, kind | 0o644) == ask(call, *before, GARBAGE | kind) == "EPERM"


# call: how many arguments precede, what is allowed there, what is not, how that is answered.
FLAGS = {
    "mmap": (3, (0x22, 0x4022, 0x20000), (0x40000, 0x40022), "ENOMEM"),
    "memfd_create": (1, (0, 1, 2, 8, 16), (4, 5), "ENODEV"),
    "shmget": (2, (0o666, 0o1666, 0o3666), (0o4000, 0o5666), "ENOMEM"),
    "renameat2": (4, (0, 1, 2), (4, 5), "EINVAL"),
    "seccomp": (0, (0, 2, 3), (1,), "EINVAL"),
}


@pytest.mark.parametrize("call", FLAGS)
def test_flags_that_take_from_others_are_not_there(ask: Callable[..., str], call: str) -> None:
    at, allowed, denied, answer = FLAGS[call]
    for flags, says in (*((one, "allow") for one in allowed), *((one, answer) for one in denied)):
        for garbage in (0, GARBAGE):
            assert ask(call, *[0] * at, garbage | flags) == says, flags


def test_nobody_installs_a_filter(ask: Callable[..., str]) -> None:
    for option in range(80):
        answer = "ENOPROTOOPT" if option in {26, 50, 51, 52} else "allow"
        assert (
            ask("setsockopt", 3, 1, option) == ask("setsockopt", 3, GARBAGE | 1, GARBAGE | option) == answer
        )
        assert ask("setsockopt", 3, 6, option) == "allow"  # TCP has options of these numbers, too
    assert ask("prctl", 22, 2) == ask("prctl", GARBAGE | 22, GARBAGE | 2) == "EINVAL"
    for words in ((22, 1), (21, 2), (38, 1), (15, 2), (1, 2)):
        assert ask("prctl", *words) == "allow"


def test_personality_is_harmless(ask: Callable[..., str]) -> None:
    for persona in (0, 8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF, -1, GARBAGE):
        assert ask("personality", persona) == "allow"
    for persona in (1, 4, 0x0400000, 0x0100000, 0x0440000, 0x0200000, 0xFFFFFFFE, GARBAGE | 0x0400000):
        assert ask("personality", persona) == "EPERM"


@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_sockets_are_of_few_families(ask: Callable[..., str], call: str) -> None:
    for family in (1, 2, 10, 16):
        assert ask(call, family, 1) == ask(call, GARBAGE | family, GARBAGE | 0x80802, GARBAGE) == "allow"
    for family in {*range(60), 0xFFFF_FFFF} - {1, 2, 10, 16}:
        assert ask(call, family, 1) == ask(call, GARBAGE | family, 1) == "EAFNOSUPPORT"


def test_sockets_are_of_few_protocols(ask: Callable[..., str]) -> None:
    for family in (2, 10):
        for protocol in range(300):
            allowed = protocol in {0, 1, 6, 17, 58, 255}
            assert ask("socket", family, 1, GARBAGE | protocol) == ("allow" if allowed else "EPROTONOSUPPORT")
        for kind in (10, 0x80000 | 10, GARBAGE | 10):
            assert ask("socket", family, kind, 0x300) == "EAFNOSUPPORT", "SOCK_PACKET"
    for protocol in range(64):
        answer = "allow" if protocol in {0, 4, 15} else "EPROTONOSUPPORT"
        assert ask("socket", 16, 3, protocol) == answer


def test_the_program_is_well_formed(machine: str) -> None:
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    assert len(code) <= select.PIPE_BUF // 8, "a descriptor could not hold it"
    for at, (opcode, if_true, if_false, value) in enumerate(code):
        assert opcode in {0x20, 0x54, 0x05, 0x06, 0x15, 0x35, 0x45}
        assert at + 1 + max(if_true, if_false, value if opcode == 0x05 else 0) < len(code) or opcode == 0x06
    assert code[-1][0] == 0x06


def test_a_machine_without_a_filter_is_refused() -> None:
    for name in ("riscv64", "i686", "armv7l", "aarch64_be", "arm64", ""):
        with pytest.raises(IsolationError, match="x86_64 and aarch64"):
            seccomp.program(name)


# ---- What the kernel makes of it ----

Run = Callable[..., "subprocess.CompletedProcess[str]"]
real = pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this machine")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a command in a sandbox, filtered unless said otherwise."""
    identity = Identity.of_this_process()
    with run_dir(identity) as directory:
        yield in_a_sandbox(identity, bwrap_binary.find_bwrap(identity, directory))


def in_a_sandbox(identity: Identity, bwrap: str) -> Run:
    image = find_images()["base"]
    words = "--unshare-all --uid 1000 --gid 1000 --cap-drop ALL --die-with-parent --new-session --clearenv"
    words += " --setenv PATH /usr/local/bin:/usr/bin:/bin --setenv HOME /tmp"
    command_line = [bwrap, *words.split()]
    for outside, inside in image.read_only.items():
        command_line += ["--ro-bind", outside, inside]
    for path, target in image.links.items():
        command_line += ["--symlink", target, path]
    command_line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp"]

    def run(*command: str, filtered: bool = True) -> subprocess.CompletedProcess[str]:
        descriptors = [seccomp.descriptor(seccomp.program(platform.machine()))] if filtered else []
        option = [word for descriptor in descriptors for word in ("--seccomp", str(descriptor))]
        try:
            return subprocess.run(
                [*command_line, *option, "--", *command],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=40,
                cwd="/",
                pass_fds=descriptors,
                **popen_identity(identity),
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    return run


ATTEMPTS_PROGRAM = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(number, args):
    child = os.fork()
    if child == 0:
        result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
        os._exit(ctypes.get_errno() if result == -1 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(json.dumps({name: attempt(*call) for name, call in json.loads(sys.argv[1]).items()}))
"""
# What is attempted: a name, or a name and what sets it apart; arguments; how the filter answers. Most have
# arguments that an unfiltered kernel would find other fault with than a want of permission.
ATTEMPTS: dict[str, tuple[list[int], int]] = {
    "unshare users": ([0x10000001], errno.EPERM),
    "unshare nothing": ([0], errno.EPERM),
    "clone users": ([0x10000200, 0, 0, 0, 0], errno.EPERM),
    "clone users+garbage": ([0x710000200, 0, 0, 0, 0], errno.EPERM),
    "clone3": ([0, 0], errno.ENOSYS),
    "setns": ([-1, 0], errno.EPERM),
    "mount": ([0, 0, 0, 0, 0], errno.EPERM),
    "umount2": ([0, 0xFFFF], errno.EPERM),
    "chroot": ([0], errno.EPERM),
    "fsopen": ([0, 0], errno.ENOSYS),
    "open_tree": ([-1, 0, 0], errno.ENOSYS),
    "ptrace": ([0, 0, 0, 0], errno.EPERM),
    "process_vm_readv": ([1, 0, 0, 0, 0, 0], errno.EPERM),
    "process_vm_writev": ([1, 0, 0, 0, 0, 0], errno.EPERM),
    "pidfd_getfd": ([-1, 0, 0], errno.EPERM),
    "perf_event_open": ([0, 0, -1, -1, 0], errno.EPERM),
    "add_key": ([0, 0, 0, 0, 0], errno.EPERM),
    "request_key": ([0, 0, 0, 0], errno.EPERM),
    "keyctl": ([0, -3, 0], errno.EPERM),
    "adjtimex": ([0], errno.EPERM),
    "clock_adjtime": ([0, 0], errno.EPERM),
    "io_uring_setup": ([0, 0], errno.ENOSYS),
    "io_uring_enter": ([-1, 0, 0, 0, 0, 0], errno.ENOSYS),
    "name_to_handle_at": ([-1, 0, 0, 0, 0], errno.ENOSYS),
    "vmsplice": ([-1, 0, 0, 0], errno.ENOSYS),
    "personality readable is executable": ([0x0400000], errno.EPERM),
    "socket AF_PACKET": ([17, 3, 0], errno.EAFNOSUPPORT),
    "socket SOCK_PACKET": ([2, 10, 0], errno.EAFNOSUPPORT),
    "socket NETLINK_GENERIC": ([16, 3, 16], errno.EPROTONOSUPPORT),
    "ioctl TIOCSTI": ([0, 0x5412, 0], errno.EPERM),
    "ioctl TIOCSTI+garbage": ([0, 0x100005412, 0], errno.EPERM),
    "ioctl TIOCSETD": ([0, 0x5423, 0], errno.EPERM),
    "ioctl TCXONC": ([0, 0x540A, 0], errno.EPERM),
    "ioctl TIOCEXCL": ([0, 0x540C, 0], errno.EPERM),
    "fcntl F_SETLEASE": ([-1, 1024, 0], errno.EINVAL),
    "fcntl F_NOTIFY": ([-1, 1026, 0], errno.EINVAL),
    "io_setup": ([1, 0], errno.ENOSYS),
    "io_pgetevents": ([0, 0, 0, 0, 0, 0], errno.ENOSYS),
    "setxattr": ([0, 0, 0, 0, 0], errno.EOPNOTSUPP),
    "lsetxattr": ([0, 0, 0, 0, 0], errno.EOPNOTSUPP),
    "fsetxattr": ([-1, 0, 0, 0, 0], errno.EOPNOTSUPP),
    "prlimit64 of process 1": ([1, 7, 1, 0], errno.EPERM),
    "ioprio_set best": ([1, 0, 0x4000], errno.EPERM),
    "mknodat 0:0": ([-100, 0, 0o020000, 0], errno.EPERM),
    "renameat2 RENAME_WHITEOUT": ([-100, 0, -100, 0, 4], errno.EINVAL),
    "setsockopt SO_ATTACH_FILTER": ([-1, 1, 26, 0, 0], errno.ENOPROTOOPT),
    "seccomp filter": ([1, 0, 0], errno.EINVAL),
    "prctl filter": ([22, 2, 0], errno.EINVAL),
    "memfd_create huge pages": ([0, 4], errno.ENODEV),
}
# As in every sandbox; these show that it is the filter's arguments that count.
ALLOWED_ATTEMPTS: dict[str, tuple[list[int], int]] = {
    "personality query": ([0xFFFFFFFF], 0),
    "personality ADDR_NO_RANDOMIZE": ([0x0040000], 0),
    "socket AF_UNIX": ([1, 1, 0], 0),
    "socket AF_INET": ([2, 1, 6], 0),
    "socket AF_NETLINK": ([16, 3, 0], 0),
    "ioctl TCGETS": ([0, 0x5401, 0], errno.ENOTTY),  # /dev/null
    "fcntl F_GETLEASE": ([0, 1025, 0], 0),
    "prlimit64 of its own": ([0, 7, 0, 0], 0),
    "ioprio_set usual": ([1, 0, 0x4004], 0),
    "seccomp unknown": ([9, 0, 0], errno.EINVAL),
}


@pytest.fixture(scope="module")
def attempts(run: Run) -> dict[bool, dict[str, int]]:
    """Return the outcomes of all attempts, filtered and not."""
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("no /usr/bin/python3")
    numbers = {n: number for table in TABLES for n, number in numbers_of(table, platform.machine()).items()}
    calls = {
        what: (numbers[what.split()[0]], args) for what, (args, _) in (ATTEMPTS | ALLOWED_ATTEMPTS).items()
    }
    outcomes: dict[bool, dict[str, int]] = {}
    for filtered in (True, False):
        result = run("/usr/bin/python3", "-c", ATTEMPTS_PROGRAM, json.dumps(calls), filtered=filtered)
        assert result.returncode == 0, result.stderr
        outcomes[filtered] = json.loads(result.stdout)
    return outcomes


@real
@pytest.mark.parametrize("what", ATTEMPTS)
def test_the_filter_denies(attempts: dict[bool, dict[str, int]], what: str) -> None:
    assert attempts[True][what] == ATTEMPTS[what][1]
    if "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("the tests run under somebody else's filter")
    assert attempts[False][what] != ATTEMPTS[what][1], "it was not the filter"


@real
@pytest.mark.parametrize("what", ALLOWED_ATTEMPTS)
def test_the_filter_allows(attempts: dict[bool, dict[str, int]], what: str) -> None:
    assert attempts[True][what] == attempts[False][what] == ALLOWED_ATTEMPTS[what][1]


I386_PROGRAM = """
import ctypes, mmap, os
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("53 b8 14000000 cd80 5b c3"))  # getpid, by the interrupt of i386
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print(call() == os.getpid(), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="i386 is x86")
def test_calls_of_i386_kill(run: Run) -> None:
    if run("/usr/bin/python3", "-c", I386_PROGRAM, filtered=False).stdout != "True\n":
        pytest.skip("this kernel does not run i386 programs anyway")
    result = run("/usr/bin/python3", "-c", I386_PROGRAM)
    assert result.returncode in {-signal.SIGSYS, 128 + signal.SIGSYS}
    assert result.stdout == ""


PROGRAMS = {
    "bash": 'set -e; sleep 0.01 & wait; x=$(seq 3 | sort -r | head -1); cat <(echo "$x"); exec echo ok',
    "git": """
        git init -q r; cd r; echo 1 > f; git add f; git -c user.name=n -c user.email=e commit -qm m
        git clone -q . ../s && git -C ../s fsck && echo ok""",
    "tar": "mkdir d && echo ok > d/f && tar czf d.tgz d && rm -r d && tar xzf d.tgz && cat d/f",
    "gcc": """gcc -O1 -o m -xc - <<< '#include <stdio.h>\nint main(void) { puts("ok"); }' && ./m""",
    "setarch": "setarch -R echo ok",
    "script": "script -qec 'tty > /dev/null && echo ok' /dev/null | tr -d '\\r'",
    "node": """node -e '
        const serve = async () => {
            await require("fs").promises.readdir("/usr");
            const answer = await fetch("http://127.0.0.1:" + server.address().port);
            console.log(await answer.text());
            process.exit();
        };
        const server = require("http").createServer((_, answer) => answer.end("ok")).listen(0, serve);'""",
    "python3 threads": """python3 -c '
import threading
threads = [threading.Thread(target=print, args=[number]) for number in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads], print("ok")'""",
    "python3 subprocess": """python3 -c '
import pty, subprocess
subprocess.run(["true"], check=True)
assert subprocess.run("exit 3", shell=True, cwd="/", start_new_session=True).returncode == 3
assert pty.spawn(["stty", "-a"]) == 0
print(subprocess.getoutput("echo; echo ok"))'""",
    "python3 multiprocessing": """python3 -c '
import multiprocessing
for kind in ("fork", "spawn", "forkserver"):
    with multiprocessing.get_context(kind).Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
print("ok")'""",
    "python3 asyncio": """python3 -c '
import asyncio, socket
async def main():
    server = await asyncio.start_server(lambda _, writer: (writer.write(b"ok"), writer.close()), "127.0.0.1")
    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert socket.socketpair() and socket.if_nameindex()
    print((await reader.read()).decode())
asyncio.run(main())'""",
}


@real
@pytest.mark.parametrize("what", PROGRAMS)
def test_programs_work_under_it(run: Run, what: str) -> None:
    program = what.split(maxsplit=1)[0]
    if shutil.which(program, path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip(f"no {program}")
    result = run("/bin/bash", "-c", PROGRAMS[what])
    assert (result.returncode, result.stdout.splitlines()[-1:]) == (0, ["ok"]), result.stdout + result.stderr


@real
def test_it_is_on_and_nothing_takes_it_off(run: Run) -> None:
    status = run("/bin/cat", "/proc/self/status").stdout
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_every_descriptor_has_the_whole_program() -> None:
    program = seccomp.program("x86_64")
    for descriptor in [seccomp.descriptor(program) for _ in range(3)]:
        with open(descriptor, "rb") as file:
            assert not os.get_inheritable(descriptor)
            assert file.read() == program
