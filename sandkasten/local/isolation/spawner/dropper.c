/* The dropper: the first program of each sandbox that root starts. It becomes the sandboxes' user, and then bubblewrap.
 *
 * Python can do the same between fork and exec, but then it copies the daemon's whole table of pages for each sandbox,
 * which costs more than all else. A program that is started as it is needs no copy (vfork).
 *
 * Usage: dropper ID PROGRAM ARGUMENT...; the ID is that of the user and of its group, and not root's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { USAGE = 125, CANNOT_DROP, CANNOT_RUN };

/* The digest of this file, by which a test knows that the binary was made of it. */
static const char *volatile source = SOURCE;

static int say(const char *what) {
    const char *why = strerror(errno);
    (void)!write(STDERR_FILENO, what, strlen(what));
    (void)!write(STDERR_FILENO, ": ", 2);
    (void)!write(STDERR_FILENO, why, strlen(why));
    (void)!write(STDERR_FILENO, "\n", 1);
    return CANNOT_DROP;
}

/* Return whether nothing of root is left, and nothing leads back. */
static int has_dropped(uid_t id) {
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;
    return getresuid(&real, &effective, &saved) == 0 && getresgid(&real_group, &effective_group, &saved_group) == 0 &&
           real == id && effective == id && saved == id && real_group == id && effective_group == id &&
           saved_group == id && getgroups(0, NULL) == 0 && setuid(0) != 0;
}

int main(int argc, char **argv, char **variables) {
    if (argc < 3 || !source) return USAGE;
    char *end;
    errno = 0;
    unsigned long id = strtoul(argv[1], &end, 10);
    if (errno || *end || end == argv[1] || id == 0 || id >= 0xffffffffUL) return USAGE;
    if (setgroups(0, NULL) != 0) return say("setgroups");
    if (setresgid((gid_t)id, (gid_t)id, (gid_t)id) != 0) return say("setresgid");
    if (setresuid((uid_t)id, (uid_t)id, (uid_t)id) != 0) return say("setresuid");
    errno = EPERM;
    if (!has_dropped((uid_t)id)) return say("root remains");
    execve(argv[2], argv + 2, variables);
    say(argv[2]);
    return CANNOT_RUN;
}
