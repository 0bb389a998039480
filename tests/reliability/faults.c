/* A library for LD_PRELOAD that lets one operation on files below a folder fail.
 *
 * It counts what a process does to files below a folder: opens for writing, writes, renames,
 * flushes, removals, new folders. At the chosen operation the process dies, as under SIGKILL or at
 * a power cut, or the operation fails with an error number. Python's own hooks do not see what
 * PyTorch, ONNX and other C++ code writes; this library does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, RENAME, FSYNC, UNLINK, MKDIR, KINDS };
enum { KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL_ONCE, FAIL_FROM_THEN };
static const char *NAMES[] = {"open", "write", "rename", "fsync", "unlink", "mkdir"};

long faults_counts[KINDS];
static char folder[PATH_MAX];
static int chosen = -1, action, error_number, log_fd = -1;
static long countdown;
static int armed;

/* Choose the operation: the nth of a kind (or of any kind, if kind is KINDS) below a folder. */
void faults_arm(const char *path, int kind, long nth, int what, int error, int log) {
    strncpy(folder, path, PATH_MAX - 1);
    chosen = kind, countdown = nth, action = what, error_number = error, log_fd = log;
    memset(faults_counts, 0, sizeof faults_counts);
    armed = 1;
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return armed && path && !strncmp(path, folder, length) &&
           (path[length] == '/' || path[length] == 0);
}

/* The absolute path of a name relative to an open folder. */
static const char *at(int dirfd, const char *path, char *buffer) {
    if (!path || path[0] == '/' || !armed) return path;
    char link[64];
    ssize_t length;
    if (dirfd == AT_FDCWD) {
        if (!getcwd(buffer, PATH_MAX)) return path;
        length = strlen(buffer);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        length = readlink(link, buffer, PATH_MAX - 1);
        if (length < 0) return path;
    }
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

static const char *of_descriptor(int fd, char *buffer) {
    char link[64];
    if (!armed) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

/* Count an operation; return whether it is the chosen one. */
static int is_chosen(int kind, const char *path) {
    if (!below(path)) return 0;
    __atomic_add_fetch(&faults_counts[kind], 1, __ATOMIC_SEQ_CST);
    if (chosen != kind && chosen != KINDS) return 0;
    long left = __atomic_sub_fetch(&countdown, 1, __ATOMIC_SEQ_CST);
    int now = action == FAIL_FROM_THEN ? left <= 0 : left == 0;
    if (now && log_fd >= 0) dprintf(log_fd, "%s %s\n", NAMES[kind], path);
    return now;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

/* Run the call, or die before or after it, or let it fail. */
#define AROUND(kind, path, failure, call) \
    do { \
        int now = is_chosen(kind, path); \
        if (now && action >= FAIL_ONCE) { errno = error_number; return failure; } \
        if (now && action != KILL_AFTER) die(); \
        __typeof__(call) result = call; \
        if (now) die(); \
        return result; \
    } while (0)

#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

#define OPENER(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list list; va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        char buffer[PATH_MAX]; \
        if (!CHANGES(flags)) return real(path, flags, mode); \
        AROUND(OPEN, at(AT_FDCWD, path, buffer), -1, real(path, flags, mode)); \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name) \
    int name(int dirfd, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        va_list list; va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        char buffer[PATH_MAX]; \
        if (!CHANGES(flags)) return real(dirfd, path, flags, mode); \
        AROUND(OPEN, at(dirfd, path, buffer), -1, real(dirfd, path, flags, mode)); \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

#define STREAM_OPENER(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, #name, const char *, const char *); \
        char buffer[PATH_MAX]; \
        if (!strpbrk(mode, "wa+")) return real(path, mode); \
        AROUND(OPEN, at(AT_FDCWD, path, buffer), NULL, real(path, mode)); \
    }
STREAM_OPENER(fopen)
STREAM_OPENER(fopen64)

/* Half of a write, then death: what a power cut leaves of it. */
ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char buffer[PATH_MAX];
    const char *path = of_descriptor(fd, buffer);
    if (action == KILL_HALFWAY && is_chosen(WRITE, path)) { real(fd, data, size / 2); die(); }
    else if (action == KILL_HALFWAY) return real(fd, data, size);
    AROUND(WRITE, path, -1, real(fd, data, size));
}

#define POSITIONED(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t); \
        char buffer[PATH_MAX]; \
        AROUND(WRITE, of_descriptor(fd, buffer), -1, real(fd, data, size, offset)); \
    }
POSITIONED(pwrite)
POSITIONED(pwrite64)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    char buffer[PATH_MAX];
    AROUND(WRITE, of_descriptor(fd, buffer), -1, real(fd, parts, count));
}

#define SENDER(name) \
    ssize_t name(int out, int in, off_t *offset, size_t size) { \
        REAL(ssize_t, #name, int, int, off_t *, size_t); \
        char buffer[PATH_MAX]; \
        AROUND(WRITE, of_descriptor(out, buffer), -1, real(out, in, offset, size)); \
    }
SENDER(sendfile)
SENDER(sendfile64)

int fsync(int fd) {
    REAL(int, "fsync", int);
    char buffer[PATH_MAX];
    AROUND(FSYNC, of_descriptor(fd, buffer), -1, real(fd));
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    char buffer[PATH_MAX];
    AROUND(RENAME, at(AT_FDCWD, to, buffer), -1, real(from, to));
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    char buffer[PATH_MAX];
    AROUND(UNLINK, at(AT_FDCWD, path, buffer), -1, real(path));
}

int unlinkat(int dirfd, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char buffer[PATH_MAX];
    AROUND(UNLINK, at(dirfd, path, buffer), -1, real(dirfd, path, flags));
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    char buffer[PATH_MAX];
    AROUND(UNLINK, at(AT_FDCWD, path, buffer), -1, real(path));
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    char buffer[PATH_MAX];
    AROUND(MKDIR, at(AT_FDCWD, path, buffer), -1, real(path, mode));
}
