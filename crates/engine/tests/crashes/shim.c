/* Preloaded into a child process: watches the calls that write to files whose path begins with
 * ABIDE_FILES. The system calls a connection "socket:[4711]".
 *
 * It counts them, and ends the process with SIGKILL at call number ABIDE_KILL_AT: before the call,
 * after it, or, for writes, half-way through, as ABIDE_KILL_WHEN says ("before", "after", "half").
 *
 * As long as there is a file ABIDE_FAULT, they fail: with the error number that it holds, those of
 * the kind that the letter after it says, "w" for writes or "s" for syncs.
 *
 * After each sync the whole file is copied into the directory ABIDE_SYNCED, if there is one: what would
 * be left of it if the power failed before the next.
 *
 * At SIGUSR2 the process forks, if there is ABIDE_FORKED: its child does nothing, and keeps what the
 * process has open until it is killed. Its number is written to that file.
 *
 * The numbers of calls, and of calls that failed, are kept in the file ABIDE_COUNTS, so that they can
 * be read when the process is gone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long own_counts[2];
/* Calls that were made, and calls that failed. */
static _Atomic long *counts = own_counts;
static long kill_at = -1;
static char when = 'b';
static const char *files;
static const char *fault;
static const char *synced;

static const char *forked;

static void fork_now(int number) {
    (void)number;
    int before = errno;
    pid_t child = fork();
    if (child == 0) {
        for (;;) pause();
    }
    int fd = open(forked, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, &child, sizeof child) < 0) abort();
        close(fd);
    }
    errno = before;
}

__attribute__((constructor)) static void set_up(void) {
    const char *at = getenv("ABIDE_KILL_AT");
    const char *how = getenv("ABIDE_KILL_WHEN");
    const char *counter = getenv("ABIDE_COUNTS");
    files = getenv("ABIDE_FILES");
    fault = getenv("ABIDE_FAULT");
    synced = getenv("ABIDE_SYNCED");
    forked = getenv("ABIDE_FORKED");
    if (forked) signal(SIGUSR2, fork_now);
    if (at) kill_at = atol(at);
    if (how) when = how[0];
    if (!counter) return;
    int fd = open(counter, O_RDWR | O_CREAT, 0600);
    if (fd < 0) return;
    if (ftruncate(fd, sizeof own_counts) == 0) {
        void *shared = mmap(NULL, sizeof own_counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared != MAP_FAILED) counts = shared;
    }
    close(fd);
}

/* The path of an open file; whether it has one. */
static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int is_counted(int fd) {
    char path[4096];
    return files && path_of(fd, path, sizeof path) && strncmp(path, files, strlen(files)) == 0;
}

/* Keeps what is durable of a file now. */
static void keep(int fd) {
    char path[4096], kept[4096], whole[4096], data[65536];
    if (!synced || !is_counted(fd) || !path_of(fd, path, sizeof path)) return;
    const char *name = strrchr(path, '/') + 1;
    if (snprintf(whole, sizeof whole, "%s/%s", synced, name) >= (int)sizeof whole) return;
    if (snprintf(kept, sizeof kept, "%s.part", whole) >= (int)sizeof kept) return;
    int copy = open(kept, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (copy < 0) return;
    ssize_t length;
    for (off_t at = 0; (length = pread(fd, data, sizeof data, at)) > 0; at += length)
        if (write(copy, data, length) != length) break;
    close(copy);
    rename(kept, whole);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether this is the call to end at. */
static int is_last(int fd) {
    return is_counted(fd) && atomic_fetch_add(&counts[0], 1) + 1 == kill_at;
}

/* Whether calls of this kind are to fail now; sets errno. */
static int fails(int fd, char kind) {
    char text[32], found = 0;
    int number = 0;
    if (!fault || !is_counted(fd)) return 0;
    int told = open(fault, O_RDONLY | O_CLOEXEC);
    if (told < 0) return 0;
    ssize_t length = read(told, text, sizeof text - 1);
    close(told);
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "%d %c", &number, &found) != 2 || found != kind) return 0;
    atomic_fetch_add(&counts[1], 1);
    errno = number;
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define AT_LAST(half) \
    do { \
        if (when == 'b') die(); \
        if (when == 'h') { (void)!(half); die(); } \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, data, size);
    AT_LAST(real(fd, data, size / 2));
    (void)!real(fd, data, size);
    die();
    return -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, data, size, at);
    AT_LAST(real(fd, data, size / 2, at));
    (void)!real(fd, data, size, at);
    die();
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, data, size, at);
    AT_LAST(real(fd, data, size / 2, at));
    (void)!real(fd, data, size, at);
    die();
    return -1;
}

ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t at) {
    REAL(pwritev);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, parts, number, at);
    AT_LAST(real(fd, parts, number / 2, at));
    (void)!real(fd, parts, number, at);
    die();
    return -1;
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(writev);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, parts, number);
    AT_LAST(real(fd, parts, number / 2));
    (void)!real(fd, parts, number);
    die();
    return -1;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(send);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, data, size, flags);
    AT_LAST(real(fd, data, size / 2, flags));
    (void)!real(fd, data, size, flags);
    die();
    return -1;
}

int fsync(int fd) {
    REAL(fsync);
    if (fails(fd, 's')) return -1;
    int last = is_last(fd);
    if (last) AT_LAST(0);
    int result = real(fd);
    if (result == 0) keep(fd);
    if (last) die();
    return result;
}

int fdatasync(int fd) {
    REAL(fdatasync);
    if (fails(fd, 's')) return -1;
    int last = is_last(fd);
    if (last) AT_LAST(0);
    int result = real(fd);
    if (result == 0) keep(fd);
    if (last) die();
    return result;
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, size);
    AT_LAST(0);
    (void)!real(fd, size);
    die();
    return -1;
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    if (fails(fd, 'w')) return -1;
    if (!is_last(fd)) return real(fd, size);
    AT_LAST(0);
    (void)!real(fd, size);
    die();
    return -1;
}
