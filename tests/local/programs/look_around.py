"""Prints, as JSON, what this process can see and do."""

# ruff: noqa: SIM115  (short, and gone in a moment)

import ctypes
import json
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)


def attempt(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return "done"


def system_call(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def join(pid):
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    try:
        system_call(libc.setns(namespace, 0))
    finally:
        os.close(namespace)


def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect(address)


port, abstract = int(sys.argv[1]), "\0" + sys.argv[2]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
attempts = {
    "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "tcp6": lambda: connect(socket.AF_INET6, ("::1", port)),
    "abstract socket": lambda: connect(socket.AF_UNIX, abstract),
    "outside": lambda: connect(socket.AF_INET, ("1.1.1.1", 53)),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "device": lambda: os.mknod("/tmp/device", 0o20666, os.makedev(1, 1)),
    "mount": lambda: system_call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "bind mount": lambda: system_call(libc.mount(b"/tmp", b"/workspace", None, 4096, None)),
    "remount": lambda: system_call(libc.mount(None, b"/usr", None, 32 | 4096, None)),
    "remount root": lambda: system_call(libc.mount(None, b"/", None, 32, None)),
    "umount": lambda: system_call(libc.umount2(b"/usr", 2)),
    "chroot": lambda: os.chroot("/tmp"),
    "pivot_root": lambda: system_call(libc.syscall(155, b"/tmp", b"/tmp")),
    "setuid": lambda: os.setuid(0),
    "setgroups": lambda: os.setgroups([0]),
    "host name": lambda: socket.sethostname("evil"),
    "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "reboot": lambda: system_call(libc.reboot(0)),
    "kill process 1": lambda: os.kill(1, 9),
    "open by handle": lambda: system_call(libc.open_by_handle_at(-100, ctypes.create_string_buffer(64), 0)),
    "join process 1": lambda: join(1),
    "write /usr": lambda: open("/usr/evil", "w"),
    "write /usr/bin/env": lambda: open("/usr/bin/env", "r+"),
    "write /etc/passwd": lambda: open("/etc/passwd", "r+"),
    "write /etc": lambda: open("/etc/evil", "w"),
    "write /": lambda: open("/evil", "w"),
    "write /proc/sys": lambda: open("/proc/sys/kernel/core_pattern", "w"),
    "write /proc/sysrq-trigger": lambda: open("/proc/sysrq-trigger", "w"),
    "write ping range": lambda: open("/proc/sys/net/ipv4/ip_forward", "w"),
    "read /proc/kcore": lambda: open("/proc/kcore", "rb").read(1),
    "read kernel log": lambda: open("/proc/kmsg", "rb"),
    "chmod /": lambda: os.chmod("/", 0o777),
    "chmod /etc": lambda: os.chmod("/etc", 0o777),
}
print(
    json.dumps(
        {
            "attempts": {name: attempt(action) for name, action in attempts.items()},
            "interfaces": [name for _, name in socket.if_nameindex()],
            "status": {name: value.strip() for name, value in status.items()},
            "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
            "host name": socket.gethostname(),
            "environment": dict(os.environ),
            "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
            "descriptors": {
                name: os.readlink(f"/proc/self/fd/{name}")
                for name in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{name}")
            },
        }
    )
)
