"""Asks for names in sandboxes, on a host that is set up in several ways; prints what was found, as JSON.

To be run as root of a network and a mount namespace of its own: it changes /etc and listens at port 53.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from sandkasten.local.__main__ import main as command_line
from sandkasten.local.launch import LocalOptions
from sandkasten_sync import SandboxClient, Session

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
ETC = Path("/etc")


def main() -> None:
    set_loopback_up()
    threading.Thread(target=resolve_all, args=(listener(),), daemon=True).start()
    place = Path(tempfile.mkdtemp(prefix="sandkasten-names-", dir="/tmp"))
    try:
        place.chmod(0o711)
        use_own_etc(place / "etc")
        add_image(place / "root", place / "data")
        print(json.dumps(look(place / "data")))
    finally:
        subprocess.run(["umount", "-l", ETC], check=False)
        shutil.rmtree(place, ignore_errors=True)


def look(data_dir: Path) -> dict[str, str]:
    found = {}
    with SandboxClient(local=LocalOptions(data_dir=data_dir, pool_size=0)) as client:

        def ask(name: str, image: str = "base") -> str:
            with client.create_session(image=image, network="host") as session:
                return address(session, name)

        replace("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        found["a file"] = ask("a.test")
        found["a registered image"] = ask("b.test", "mine")
        (ETC / "run").mkdir()
        replace("run/resolv.conf", "nameserver 127.0.0.1\n")
        link("resolv.conf", "run/resolv.conf")
        found["a link to a file"] = ask("c.test")
        link("resolv.conf", "run/nothing")
        found["a link that leads nowhere"] = ask("d.test")  # every libc asks the loopback then

        replace("hosts", "10.99.0.8 here\n10.99.0.1 sandbox localhost\n")
        link("resolv.conf", "run/resolv.conf")
        replace("run/resolv.conf", "nameserver 127.0.0.2\noptions timeout:1 attempts:1\n")
        with client.create_session(image="base", network="host") as session:
            found["the host's /etc/hosts"] = address(session, "here")
            for name in ("localhost", "sandbox"):
                found[name] = address(session, name)
            replace("hosts", "10.99.0.9 here\n")
            found["the host's /etc/hosts, replaced meanwhile"] = address(session, "here")
            assert address(session, "e.test") == "none"  # nobody listens at that address
            replace("run/resolv.conf", "nameserver 127.0.0.1\n")
            found["replaced meanwhile"] = address(session, "e.test")

        with client.create_session(image="base") as session:
            found["no network, resolver"] = address(session, "f.test")
            found["no network, hosts"] = address(session, "here")
            found["no network, files"] = session.exec(
                "grep -rhs -e 127.0.0.1$ -e here /etc/*.conf /etc/hosts"
            ).output
    return found


def address(session: Session, name: str) -> str:
    result = session.exec(f"getent hosts {name}")
    return result.output.split()[0] if result.ok else "none"


def replace(name: str, text: str) -> None:
    new = ETC / "new"
    new.write_text(text)
    new.replace(ETC / name)


def link(name: str, target: str) -> None:
    (ETC / "new").symlink_to(target)
    (ETC / "new").replace(ETC / name)


def use_own_etc(directory: Path) -> None:
    # What only root may read is not copied, and not needed.
    subprocess.run(
        ["cp", "-rP", "--preserve=mode", "/etc", directory], stderr=subprocess.DEVNULL, check=False
    )
    for name in ("hosts", "resolv.conf", "run"):
        if os.path.lexists(directory / name):
            (directory / name).unlink()
    subprocess.run(["mount", "--bind", directory, ETC], check=True)


def add_image(root: Path, data_dir: Path) -> None:
    """Register a root file system with bash, getent and nothing else, whose own /etc knows no DNS."""
    for program in ("/bin/bash", "/usr/bin/getent"):
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for file in (program, *re.findall(r"(/\S+) \(0x", linked)):
            copy = root / file.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    (root / "etc").mkdir()
    (root / "etc" / "nsswitch.conf").write_text("hosts: files\n")
    (root / "etc" / "resolv.conf").symlink_to("/nowhere")
    assert command_line(["image", "add", "mine", str(root), "--data-dir", str(data_dir)]) == 0


def listener() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    return server


def resolve_all(server: socket.socket) -> None:
    """Answer that each name below `test` has the address 10.99.0.7, and no other one exists."""
    while True:
        query, client = server.recvfrom(4096)
        end = query.index(b"\0", 12)
        (kind,) = struct.unpack("!H", query[end + 1 : end + 3])
        exists = query[12:end].endswith(b"\4test")
        has_address = exists and kind == 1
        head = query[:2] + (b"\x81\x80" if exists else b"\x81\x83")
        counts = struct.pack("!4H", 1, has_address, 0, 0)
        record = b"\xc0\x0c" + struct.pack("!2HIH", 1, 1, 60, 4) + socket.inet_aton("10.99.0.7")
        answer = record if has_address else b""
        server.sendto(head + counts + query[12 : end + 5] + answer, client)


def set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


if __name__ == "__main__":
    main()
