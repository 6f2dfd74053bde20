"""The attempts at what all sandboxes share: the kernel's counts and limits, and the files of the image."""

from __future__ import annotations

from tests.local.isolation.arena import layers
from tests.local.isolation.arena.lab import Attempt

# One that returns at once, as the argument of a call that installs a filter.
_FILTER = """
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))  # returns what allows all
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))
"""
_NO_POOL = "ENOMEM|ENODEV|ENOSYS"

COUNTS = [
    Attempt(
        "counts/asynchronous-io",
        "syscall('io_setup', 1, ctypes.byref(ctypes.c_ulong()))",
        "ENOSYS",
        (layers.FILTER,),
        kernel_may_refuse="ENOSYS|EAGAIN",
    ),
    *(
        Attempt(
            f"counts/socket-filter{name}",
            f"""
{_FILTER}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.setsockopt(socket.SOL_SOCKET, {option}, program.raw[:16])
""",
            "ENOPROTOOPT",
            (layers.FILTER,),
        )
        for name, option in (("", 26), ("-of-a-group", 51))
    ),
    Attempt(
        "counts/filter-of-system-calls",
        f"{_FILTER}\nsyscall('seccomp', 1, 0, program)",
        "EINVAL",
        (layers.FILTER,),
    ),
    Attempt(
        "counts/filter-of-system-calls-by-prctl",
        f"{_FILTER}\nsyscall('prctl', 22, 2, program, 0, 0)",
        "EINVAL",
        (layers.FILTER,),
    ),
    Attempt(
        "counts/huge-pages",
        "mmap.mmap(-1, 2 << 20, flags=0x40000 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
        "ENOMEM",
        (layers.FILTER,),
        kernel_may_refuse=_NO_POOL,
    ),
    Attempt(
        "counts/huge-pages-of-a-file",
        "file = syscall('memfd_create', b'', 4); os.ftruncate(file, 2 << 20); mmap.mmap(file, 2 << 20)",
        "ENODEV",
        (layers.FILTER,),
        kernel_may_refuse=_NO_POOL,
    ),
    Attempt(
        "counts/huge-pages-in-common",
        "call('shmget', 0, 2 << 20, 0o5600)",
        "ENOMEM",
        (layers.FILTER,),
        kernel_may_refuse=f"{_NO_POOL}|EPERM",
    ),
]

IMAGE = [
    Attempt(
        f"sessions/{name}",
        f"""
file = os.open("/opt/shared{path}", os.O_RDONLY)
fcntl.fcntl(file, {command}, {argument})
""",
        "EINVAL",
        (layers.FILTER,),
        kernel_may_refuse=may_refuse,
    )
    for name, path, command, argument, may_refuse in (
        ("lease-on-a-file-of-the-image", "/file", 1024, 0, "$^"),
        ("notes-on-a-directory-of-the-image", "", 1026, "0x80000001 - (1 << 32)", "$^"),
        ("delegation-of-a-directory-of-the-image", "", 1040, "bytes(16)", "EINVAL"),  # since Linux 6.19
    )
]

MEMORY = [
    Attempt(
        f"quota/attributes-{name}",
        f"open('/tmp/file', 'w').close()\n{program}",
        "EOPNOTSUPP|ENOTSUP",
        (layers.FILTER,),
        kernel_may_refuse="EOPNOTSUPP|ENOTSUP",  # before Linux 6.6
    )
    for name, program in (
        ("of-a-path", "os.setxattr('/tmp/file', 'user.large', bytes(9999))"),
        ("of-a-link", "os.setxattr('/tmp/file', 'user.large', bytes(9999), follow_symlinks=False)"),
        ("of-a-descriptor", "os.setxattr(os.open('/tmp/file', os.O_RDONLY), 'user.large', bytes(9999))"),
    )
]

OTHERS = [
    Attempt(
        f"other-processes/limits-of-{name}",
        f"""
{before}
limit = ctypes.create_string_buffer(16)
syscall("prlimit64", {process}, 7, None, limit)
syscall("prlimit64", {process}, 7, limit, None)
""",
        "EPERM",
        (layers.FILTER,),
    )
    for name, before, process in (("process-1", "", "1"), ("a-child", "CHILD = child_that_waits()", "CHILD"))
]

DEVICES = [
    Attempt(
        "devices/make-a-whiteout",
        "os.mknod('/workspace/gone', 0o600 | stat.S_IFCHR, 0)",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="EPERM",  # before Linux 5.8
    ),
    Attempt(
        "devices/leave-a-whiteout",
        """
open('/workspace/file', 'w').close()
syscall('renameat2', -100, b'/workspace/file', -100, b'/workspace/other', 4)
os.lstat('/workspace/file')
""",
        "EINVAL",
        (layers.FILTER,),
        kernel_may_refuse="EPERM|EINVAL",
    ),
]

PRIORITIES = [
    Attempt(
        f"priority/disk-{name}",
        f"syscall('ioprio_set', 1, 0, {value})",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse=may_refuse,
    )
    for name, value, may_refuse in (
        ("best", 0x4000, "$^"),
        ("a-little-better", 0x4003, "$^"),
        ("real-time", 0x2000, "EPERM"),  # the kernel leaves it to root
    )
]

KERNELS_FILES = [
    Attempt(
        "host-files/command-line-of-the-kernel",
        "open('/proc/cmdline').read()",
        "EACCES",
        (layers.HIDDEN_COMMAND_LINE,),
    )
]

MEMORY_RUNS_OUT = [
    Attempt(
        f"host-processes/go-first-instead-of-{name}",
        f"""
{before}
put(f"/proc/{process}/oom_score_adj", "700")
put(f"/proc/{process}/oom_score_adj", "600")
""",
        "EROFS",
        (layers.READ_ONLY_PROC,),
    )
    for name, before, process in (
        ("itself", "", "self"),
        ("its-child", "CHILD = child_that_waits()", "{CHILD}"),
        ("process-1", "", "1"),
    )
]

SHARED = [*COUNTS, *IMAGE, *MEMORY, *OTHERS, *DEVICES, *PRIORITIES, *KERNELS_FILES, *MEMORY_RUNS_OUT]
