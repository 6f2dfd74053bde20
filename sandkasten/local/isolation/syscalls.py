"""The system calls that the filter of `seccomp` knows, by how it answers them; pure.

It is a list of what is denied, as those of container engines and Flatpak are in effect, since the code in a
sandbox is anything at all. Numbers newer than `NEWEST` are denied too.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    # Contexts for asynchronous I/O are counted for the whole machine (fs.aio-max-nr). Databases do without.
    "io_setup": (206, 0),
    "io_destroy": (207, 1),
    "io_submit": (209, 2),
    "io_cancel": (210, 3),
    "io_getevents": (208, 4),
    "io_pgetevents": (333, 292),
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

# As on a file system without extended attributes: in /tmp they would be memory that no size bounds. Programs
# cope, as NFS and FAT have none either. Reading and removing them stays.
NOT_SUPPORTED: Numbers = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
}

# Allowed or denied by their arguments, see `seccomp._checks`.
CHECKED: Numbers = {
    "clone": (56, 220),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "ioprio_set": (251, 30),
    "memfd_create": (319, 279),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "mmap": (9, 222),
    "personality": (135, 92),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "renameat2": (316, 276),
    "seccomp": (317, 277),
    "setsockopt": (54, 208),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
}

# The newest call that was considered for this list (rseq_slice_yield, Linux 7.0). What comes after it is
# not there, whatever it does: programs must cope with older kernels anyway. The x32 calls of x86_64,
# which are numbered from 0x40000000, are beyond it too.
NEWEST = 471
