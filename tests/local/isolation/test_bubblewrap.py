"""From a policy to bubblewrap's arguments; nothing runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandkasten.local.identity import Identity
from sandkasten.local.images.built_in import find_images
from sandkasten.local.isolation.bubblewrap import Descriptors, arguments
from sandkasten.local.isolation.etc import Etc
from sandkasten.local.isolation.policy import Image, SandboxPolicy

# How many words follow an option, and which of them are the host's path and the path inside.
OPTIONS = {
    "--unshare-user": 0,
    "--unshare-ipc": 0,
    "--unshare-pid": 0,
    "--unshare-net": 0,
    "--unshare-uts": 0,
    "--unshare-cgroup-try": 0,
    "--unshare-cgroup": 0,
    "--unshare-all": 0,
    "--disable-userns": 0,
    "--die-with-parent": 0,
    "--new-session": 0,
    "--as-pid-1": 0,
    "--clearenv": 0,
    "--assert-userns-disabled": 0,
    "--uid": 1,
    "--gid": 1,
    "--hostname": 1,
    "--cap-drop": 1,
    "--chdir": 1,
    "--remount-ro": 1,
    "--proc": 1,
    "--dev": 1,
    "--tmpfs": 1,
    "--perms": 1,
    "--size": 1,
    "--dir": 1,
    "--mqueue": 1,
    "--seccomp": 1,
    "--info-fd": 1,
    "--block-fd": 1,
    "--add-seccomp-fd": 1,
    "--overlay-src": 1,
    "--tmp-overlay": 1,
    "--ro-overlay": 1,
    "--setenv": 2,
    "--symlink": 2,
    "--bind": 2,
    "--ro-bind": 2,
    "--ro-bind-try": 2,
    "--bind-try": 2,
    "--dev-bind": 2,
    "--dev-bind-try": 2,
    "--ro-bind-data": 2,
    "--bind-data": 2,
    "--file": 2,
    "--chmod": 2,
    "--bind-fd": 2,
    "--ro-bind-fd": 2,
}
MAKES_ITS_LAST_WORD = {
    "--remount-ro",
    "--proc",
    "--dev",
    "--tmpfs",
    "--dir",
    "--mqueue",
    "--tmp-overlay",
    "--ro-overlay",
    "--symlink",
    "--bind",
    "--ro-bind",
    "--ro-bind-try",
    "--bind-try",
    "--dev-bind",
    "--dev-bind-try",
    "--ro-bind-data",
    "--bind-data",
    "--file",
    "--chmod",
    "--bind-fd",
    "--ro-bind-fd",
}
WRITABLE = {"--bind", "--bind-try", "--dev-bind", "--dev-bind-try", "--bind-fd"}


@pytest.fixture
def options(tmp_path: Path) -> list[tuple[str, ...]]:
    """The options as bubblewrap understands them, of the policy that this machine would get."""
    etc = Etc(tmp_path, Identity(os.geteuid(), drops=False)).whole()
    policy = SandboxPolicy(find_images()["base"], Path("/host/place/workspace"), etc, b"")
    return parsed(
        arguments("/usr/bin/bwrap", policy, ["/bin/bash", "--tmpfs", "/workspace/x"], Descriptors(9))
    )


def parsed(words: list[str]) -> list[tuple[str, ...]]:
    assert words[0] == "/usr/bin/bwrap"
    rest, found = words[1 : words.index("--")], []
    while rest:
        size = OPTIONS[rest[0]] + 1
        found.append(tuple(rest[:size]))
        rest = rest[size:]
    return found


def test_every_kind_of_namespace_is_new(options: list[tuple[str, ...]]) -> None:
    names = {option[0] for option in options}
    assert names >= {
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    }
    assert "--share-net" not in names


def test_only_a_policy_that_says_so_shares_the_hosts_network_and_nothing_else() -> None:
    with_, without = (
        arguments(
            "/usr/bin/bwrap",
            SandboxPolicy(Image("base", {}), Path("/w"), {}, b"", host_network=shared),
            ["true"],
            Descriptors(3),
        )
        for shared in (True, False)
    )
    assert [word for word in without if word not in with_] == ["--unshare-net"]
    assert [word for word in with_ if word not in without] == []


def test_there_is_always_a_filter_of_system_calls(options: list[tuple[str, ...]]) -> None:
    assert ("--seccomp", "9") in options


def test_file_systems_in_memory_are_as_large_as_the_policy_says_and_no_larger() -> None:
    policy = SandboxPolicy(Image("base", {}), Path("/w"), {}, b"", tmp_bytes=12345)
    found = parsed(arguments("/usr/bin/bwrap", policy, ["true"], Descriptors(9)))
    for index, option in enumerate(found):
        if option[0] == "--tmpfs":
            sizes = [int(before[1]) for before in found[index - 2 : index] if before[0] == "--size"]
            assert sizes, option
            assert sizes == [12345] or option[1].startswith("/run/"), option


def test_it_is_an_ordinary_user_without_capabilities_that_ends_with_the_daemon(
    options: list[tuple[str, ...]],
) -> None:
    assert {
        ("--uid", "1000"),
        ("--gid", "1000"),
        ("--cap-drop", "ALL"),
        ("--die-with-parent",),
        ("--new-session",),
    } <= {*options}
    assert not [option for option in options if option[0] == "--cap-add"]


def test_nothing_is_made_at_or_below_the_workspace_but_the_workspace_itself(
    options: list[tuple[str, ...]],
) -> None:
    made = [option for option in options if option[0] in MAKES_ITS_LAST_WORD]
    assert [option for option in made if f"{option[-1]}/".startswith("/workspace/")] == [
        ("--bind", "/host/place/workspace", "/workspace")
    ]


def test_nothing_of_the_host_is_writable_but_the_workspace(options: list[tuple[str, ...]]) -> None:
    assert [option for option in options if option[0] in WRITABLE] == [
        ("--bind", "/host/place/workspace", "/workspace")
    ]


def test_the_root_is_read_only_after_all_is_mounted(options: list[tuple[str, ...]]) -> None:
    names = [option[0] for option in options]
    assert ("--remount-ro", "/") in options
    assert not {*names[options.index(("--remount-ro", "/")) + 1 :]} & (MAKES_ITS_LAST_WORD - {"--remount-ro"})


def test_only_named_directories_of_the_host_are_seen(options: list[tuple[str, ...]]) -> None:
    sources = {option[1] for option in options if option[0].startswith("--ro-bind")}
    # To take write access away, and to hide a file.
    for source in sources - {"/proc/sys", "/dev/null"}:
        assert source not in {
            "/",
            "/etc",
            "/home",
            "/root",
            "/var",
            "/run",
            "/tmp",
            "/proc",
            "/sys",
            "/dev",
            "/etc/ssl",
        }
        assert not source.startswith(("/root/", "/home/", "/proc", "/sys", "/dev", "/run", "/var"))
        assert not source.startswith("/etc/") or not source.endswith(
            ("passwd", "shadow", "group", "hosts", "private")
        )


def test_the_environment_starts_empty(options: list[tuple[str, ...]]) -> None:
    names = [option[0] for option in options]
    assert names.index("--clearenv") < names.index("--setenv")
    assert names.count("--clearenv") == 1
    given = {option[1] for option in options if option[0] == "--setenv"}
    assert {"PATH", "HOME", "TERM"} <= given
    assert not {
        name for name in given if "KEY" in name or "SANDKASTEN" in name or "LD_" in name or "PYTHON" in name
    }


def test_the_command_comes_after_the_options_whatever_is_in_it() -> None:
    policy = SandboxPolicy(Image("base", {"/usr": "/usr"}), Path("/w"), {}, b"")
    words = arguments("/usr/bin/bwrap", policy, ["--bind", "/", "/"], Descriptors(9))
    assert words[words.index("--") + 1 :] == ["--bind", "/", "/"]


def test_odd_directories_stay_one_argument() -> None:
    policy = SandboxPolicy(
        Image("base", {}), Path("/a b/--bind $x'\n"), {}, b"", environment={"A": "--", "B": "x y"}
    )
    words = arguments("/usr/bin/bwrap", policy, ["true"], Descriptors(9))
    assert "/a b/--bind $x'\n" in words
    assert words[words.index("A") : words.index("A") + 2] == ["A", "--"]
