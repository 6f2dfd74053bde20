"""What is done with the files of a sandbox from outside, beyond reading and writing one."""
