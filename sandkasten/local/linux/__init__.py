"""System calls and files of the kernel that Python has no function for."""
