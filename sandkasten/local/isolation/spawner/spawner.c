/* The spawner: one for each sandbox that runs programs beside its shell. Python's side is entering.py and channel.py.
 *
 * The daemon starts it as the sandboxes' user, from a sealed file in memory, and sends it everything over one socket.
 * It enters all namespaces of the sandbox, except that it stays outside of the process namespace: nothing inside can
 * see or signal it. There it waits for programs, and starts each in a child:
 *
 *   - CLONE_PARENT makes the child the daemon's own. So the kernel reports its end to the daemon and to nobody else,
 *     whatever becomes of the spawner.
 *   - The child makes a user namespace of its own, beside that of the shell. The kernel then closes its descriptors,
 *     memory and directories (/proc/PID/fd, mem, cwd and the like) to the shell and to all other programs.
 *   - It gives up all capabilities, closes every descriptor but four, and takes the last rules of the filter of
 *     system calls: those on `unshare`, `prctl` and `seccomp`, which it needed itself. All others hold from the start.
 *
 * Whatever fails ends the child or the spawner; nothing goes on with less. A child that was not replaced by its program
 * yet can be seen and signalled from inside. So nobody here waits for a child, and there is no vfork.
 *
 * It is small, static and without an environment: it shares nothing with the host's programs or the sandbox's. A script
 * may name /proc/self/exe as its interpreter, which is this program then; it finds no socket and ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where something failed; entering.py and channel.py have the same numbers. */
enum stage { DONE, USER_NAMESPACE, NAMESPACES, ROOT_DIRECTORY, LIMITS, FILTER, IDENTITY, TERMINAL, DIRECTORY, EXECUTION };

enum { NAMESPACES_COUNT = 6, SLOTS = 8, PASSED = 4, WITH_FILE = 5, MOST_BYTES = 4 << 20, PATH_BYTES = 4096 };

/* The first message. Behind it come the limits, and two filters. */
struct enter {
    int32_t program;                      /* the descriptor of this program's file */
    int32_t slots;                        /* memory that is shared with the daemon */
    int32_t owner;                        /* the user namespace that owns the others */
    int32_t namespaces[NAMESPACES_COUNT]; /* in the order in which to enter them; -1: the same as the daemon's */
    uint32_t inside_id;                   /* the user and the group inside */
    int32_t own_score, program_score;     /* which process goes first when memory runs out */
    uint32_t limits, base_bytes, last_bytes;
};

struct limit {
    uint64_t which, soft, hard;
};

/* Each other message. With it come descriptors: standard input, output and error, and a pipe for reports. Behind it
 * come strings that end in NUL: the directory, the arguments, the environment. Long ones are in a file, whose
 * descriptor comes last. */
struct request {
    uint32_t bytes, arguments, variables, terminal;
};

/* A report of the spawner on its start, or of a child: the stage that failed and the error; or DONE, and the child's
 * number in the sandbox. */
struct report {
    int32_t stage, value;
};

struct sandbox {
    int channel, proc;
    int32_t *slots;
    uint32_t started;
    char map[32], score[16];
    struct sock_fprog last;
};

/* The digest of this file, by which a test knows that the binary was made of it. */
static const char *volatile source = SOURCE;

static int report_to;

static void report(int stage, int value) {
    struct report said = {stage, value};
    if (send(report_to, &said, sizeof said, MSG_NOSIGNAL) < 0 && errno == ENOTSOCK)
        (void)!write(report_to, &said, sizeof said);
}

/* End the spawner or the child, and let the daemon know why. */
static _Noreturn void fail(int stage) {
    report(stage, errno);
    _exit(127);
}

static void require(int is_done, int stage) {
    if (!is_done) fail(stage);
}

/* Read so many bytes; or end, since there is no daemon any more. */
static void read_all(int from, void *into, size_t bytes) {
    for (char *at = into; bytes > 0;) {
        ssize_t count = read(from, at, bytes);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) _exit(0);
        at += count;
        bytes -= (size_t)count;
    }
}

static void *read_new(int from, size_t bytes) {
    void *room = bytes <= MOST_BYTES ? malloc(bytes + 1) : NULL;
    if (!room) _exit(127);
    read_all(from, room, bytes);
    return room;
}

/* Write a number in decimal, and return the end of it. */
static char *put_number(char *into, uint32_t number) {
    char digits[10];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *into++ = digits[--count];
    *into = 0;
    return into;
}

static int write_file(int directory, const char *name, const char *text) {
    int file = openat(directory, name, O_WRONLY | O_CLOEXEC);
    if (file < 0) return 0;
    int is_done = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    int error = errno;
    close(file);
    errno = error;
    return is_done;
}

/* A process may always go earlier. It may not go later again than root once said; then it goes early enough. */
static void set_score(int proc, const char *score, int stage) {
    require(write_file(proc, "self/oom_score_adj", score) || errno == EACCES, stage);
}

/* --- the start */

static void set_limits(int channel, uint32_t count) {
    while (count--) {
        struct limit limit;
        read_all(channel, &limit, sizeof limit);
        struct rlimit both = {limit.soft, limit.hard};
        require(setrlimit((int)limit.which, &both) == 0, LIMITS);
    }
}

static struct sock_fprog read_filter(int channel, uint32_t bytes) {
    struct sock_fprog filter = {(unsigned short)(bytes / sizeof(struct sock_filter)), read_new(channel, bytes)};
    return filter;
}

static int install(struct sock_fprog *filter) {
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0;
}

/* Give the daemon a descriptor of the sandbox's root directory. Before there are limits: with a low one of descriptors,
 * what others of this user have in flight would count against it. */
static void send_root(int channel) {
    struct report said = {DONE, 0};
    struct iovec part = {&said, sizeof said};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {{0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    require(root >= 0, ROOT_DIRECTORY);
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof root);
    memcpy(CMSG_DATA(&control.head), &root, sizeof root);
    require(sendmsg(channel, &message, MSG_NOSIGNAL) == sizeof said, ROOT_DIRECTORY);
    close(root);
}

static void close_to_others(int stage) { require(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, stage); }

static void enter_namespaces(const struct enter *wanted) {
    require(setns(wanted->owner, CLONE_NEWUSER) == 0, USER_NAMESPACE);
    close_to_others(USER_NAMESPACE); /* other credentials may have opened it again */
    close(wanted->owner);
    for (int i = 0; i < NAMESPACES_COUNT; i++)
        if (wanted->namespaces[i] >= 0) {
            require(setns(wanted->namespaces[i], 0) == 0, NAMESPACES);
            close(wanted->namespaces[i]);
        }
}

static void enter(struct sandbox *sandbox) {
    int channel = sandbox->channel;
    struct enter wanted;
    read_all(channel, &wanted, sizeof wanted);
    close(wanted.program);
    sandbox->slots = mmap(NULL, SLOTS * sizeof *sandbox->slots, PROT_READ | PROT_WRITE, MAP_SHARED, wanted.slots, 0);
    require(sandbox->slots != MAP_FAILED, NAMESPACES);
    close(wanted.slots);
    sandbox->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC); /* the one inside is read-only */
    require(sandbox->proc >= 0, NAMESPACES);
    put_number(sandbox->score, (uint32_t)wanted.own_score);
    set_score(sandbox->proc, sandbox->score, LIMITS);
    put_number(sandbox->score, (uint32_t)wanted.program_score);
    close_to_others(USER_NAMESPACE);
    enter_namespaces(&wanted);
    /* "1000 0 1": the user inside, this user in the owner's namespace, and no other. */
    char *at = put_number(sandbox->map, wanted.inside_id);
    *at++ = ' ';
    require(getuid() == getgid(), USER_NAMESPACE); /* one text serves for both */
    strcpy(put_number(at, getuid()), " 1");
    send_root(channel);
    set_limits(channel, wanted.limits);
    struct sock_fprog base = read_filter(channel, wanted.base_bytes);
    sandbox->last = read_filter(channel, wanted.last_bytes);
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, FILTER);
    require(install(&base), FILTER);
    free(base.filter);
    report(DONE, 0);
}

/* --- a child */

static void become_nobody(struct sandbox *sandbox) {
    require(unshare(CLONE_NEWUSER) == 0, IDENTITY);
    /* Else the files below belong to root. From this namespace on, nobody else is let in by that. */
    require(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0, IDENTITY);
    require(write_file(sandbox->proc, "self/setgroups", "deny"), IDENTITY);
    require(write_file(sandbox->proc, "self/uid_map", sandbox->map), IDENTITY);
    require(write_file(sandbox->proc, "self/gid_map", sandbox->map), IDENTITY);
    set_score(sandbox->proc, sandbox->score, IDENTITY);
    close_to_others(IDENTITY);
    unsigned long capability = 0;
    while (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) capability++;
    require(errno == EINVAL && capability > CAP_AUDIT_READ, IDENTITY); /* there are no more */
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    require(syscall(SYS_capset, &head, none) == 0, IDENTITY);
}

/* Keep standard input, output and error, and descriptor 3 for reports until the program runs. A directory that is still
 * open would be a way out: the program's own directory may be named by its number. */
static void keep_four(const int *passed) {
    int high[PASSED];
    for (int i = 0; i < PASSED; i++) require((high[i] = fcntl(passed[i], F_DUPFD_CLOEXEC, 10)) >= 0, IDENTITY);
    for (int i = 0; i < PASSED; i++) require(dup3(high[i], i, i == PASSED - 1 ? O_CLOEXEC : 0) == i, IDENTITY);
    report_to = PASSED - 1;
    require(syscall(SYS_close_range, PASSED, ~0U, 0) == 0, IDENTITY);
}

/* Fill in a list of strings that stand one behind the other. */
static char *list(char **into, uint32_t count, char *at) {
    while (count--) {
        *into++ = at;
        at += strlen(at) + 1;
    }
    *into = NULL;
    return at;
}

static const char *search_path(char **variables) {
    for (; *variables; variables++)
        if (strncmp(*variables, "PATH=", 5) == 0) return *variables + 5;
    return "/usr/bin:/bin";
}

/* As execvp has it: the first that can be run; one that is there but may not be run is the answer if there is no other. */
static void execute(char **arguments, char **variables) {
    const char *name = arguments[0];
    if (strchr(name, '/') || !*name) {
        execve(name, arguments, variables);
        fail(EXECUTION);
    }
    int found = ENOENT;
    for (const char *at = search_path(variables); at; at = *at ? at + 1 : NULL) {
        const char *end = strchrnul(at, ':');
        size_t bytes = (size_t)(end - at);
        char whole[PATH_BYTES], *tail = whole;
        if (bytes + strlen(name) + 2 <= sizeof whole) {
            memcpy(whole, at, bytes);
            tail += bytes;
            if (bytes) *tail++ = '/';
            strcpy(tail, name);
            execve(whole, arguments, variables);
            if (errno == EACCES) found = EACCES;
            require(errno == EACCES || errno == ENOENT || errno == ENOTDIR, EXECUTION);
        }
        at = end;
    }
    errno = found;
    fail(EXECUTION);
}

static _Noreturn void become(struct sandbox *sandbox, const struct request *request, char *body, const int *passed) {
    report_to = passed[PASSED - 1];
    size_t most = request->arguments + request->variables + 2;
    char **arguments = calloc(most, sizeof *arguments);
    require(arguments != NULL, IDENTITY);
    char **variables = arguments + request->arguments + 1;
    list(variables, request->variables, list(arguments, request->arguments, body + strlen(body) + 1));
    become_nobody(sandbox);
    require(setsid() >= 0, TERMINAL);
    keep_four(passed);
    if (request->terminal) require(ioctl(0, TIOCSCTTY, 0) == 0, TERMINAL);
    require(chdir(body) == 0, DIRECTORY);
    require(install(&sandbox->last), FILTER);
    report(DONE, getpid());
    execute(arguments, variables);
    fail(EXECUTION);
}

/* --- the loop */

/* Read the head of a request, with its descriptors, and return how many these are. The end of the channel is the end of
 * the spawner: the daemon does not want any more. */
static size_t receive(int channel, struct request *request, int *passed) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(WITH_FILE * sizeof(int))];
    } control;
    struct iovec part = {request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != sizeof *request) _exit(0);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len < CMSG_LEN(PASSED * sizeof(int))) _exit(127);
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (count > WITH_FILE) _exit(127);
    memcpy(passed, CMSG_DATA(head), count * sizeof(int));
    return count;
}

/* Strings that are counted must be there, and end. */
static int is_whole(const struct request *request, const char *body) {
    uint32_t ends = 0;
    for (uint32_t i = 0; i < request->bytes; i++) ends += body[i] == 0;
    return request->arguments >= 1 && request->bytes && body[request->bytes - 1] == 0 &&
           ends == (uint64_t)1 + request->arguments + request->variables;
}

static void spawn(struct sandbox *sandbox) {
    struct request request;
    int passed[WITH_FILE];
    size_t count = receive(sandbox->channel, &request, passed);
    char *body = read_new(count == WITH_FILE ? passed[PASSED] : sandbox->channel, request.bytes);
    if (!is_whole(&request, body)) _exit(127);
    /* The kernel writes the child's number into a slot before the child runs. So the daemon knows it even if the spawner
     * is killed before it can answer. As the daemon lets no more requests than slots wait for their answers, the slot
     * of this one is free. */
    int32_t *slot = sandbox->slots + sandbox->started++ % SLOTS;
    long pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, 0, slot, 0, 0);
    if (pid == 0) become(sandbox, &request, body, passed);
    int32_t answer = (int32_t)(pid < 0 ? -errno : pid);
    for (size_t i = 0; i < count; i++) close(passed[i]);
    free(body);
    if (send(sandbox->channel, &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer) _exit(0);
}

int main(int argc, char **argv) {
    struct sandbox sandbox = {0};
    if (argc != 2 || !source) return 127;
    sandbox.channel = report_to = atoi(argv[1]);
    if (fcntl(sandbox.channel, F_SETFD, FD_CLOEXEC) < 0) return 127;
    prctl(PR_SET_NAME, "spawner", 0, 0, 0);
    enter(&sandbox);
    for (;;) spawn(&sandbox);
}
