/* A disk that fails on command: loaded with LD_PRELOAD into the gateway (tests/chaos/disk.py, which explains).
 *
 * Concerns files below CHAOS_DISK_DIR, in the process that loads it first; its children are left alone.
 * CHAOS_DISK_CONTROL is a shared struct of orders. CHAOS_DISK_LOG takes a record of every change that is not
 * synced yet, old and new bytes, so that a power cut can be played after a kill -9. CHAOS_BOOT_ID is read where the
 * number of the computer's boot is asked for (tests/chaos/clock.py).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FULL = 1, READ_ONLY = 2, FAILING = 4, SLOW_SYNC = 8, HANGING_SYNC = 16 };
enum { WRITE = 1, TRUNCATE = 2, SYNC_BEGUN = 3, SYNC_DONE = 4, UNLINK = 5 };

struct control {
    volatile uint32_t mode;
    volatile uint32_t delay_ms;    /* of SLOW_SYNC */
    volatile uint32_t freed_counts; /* of FULL: whether room that is freed can be used */
    volatile uint32_t failures;    /* how often it has said no */
    volatile int64_t free_bytes;   /* of FULL */
};

struct record {
    uint32_t kind, path, old, new; /* lengths in bytes of what follows */
    int64_t offset, size;          /* size: of the file before */
};

static struct control *control;
static int changes = -1;
static char folder[PATH_MAX];
static size_t folder_length;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char unsynced[16][PATH_MAX]; /* files with changes in the log */
static int unsynced_count;

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("CHAOS_DISK_DIR"), *orders = getenv("CHAOS_DISK_CONTROL");
    const char *log = getenv("CHAOS_DISK_LOG"), *owner = getenv("CHAOS_DISK_OWNER");
    char self[16];
    snprintf(self, sizeof self, "%d", (int)getpid());
    if (!at || !orders || !log || (owner && strcmp(owner, self))) return;
    setenv("CHAOS_DISK_OWNER", self, 1);
    int fd = syscall(SYS_openat, AT_FDCWD, orders, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) abort();
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    changes = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (shared == MAP_FAILED || changes < 0) abort();
    folder_length = snprintf(folder, sizeof folder, "%s/", at);
    control = shared;
}

/* --- which file, and what is ordered ----------------------------------------------------------------------- */

static int below(const char *path) {
    size_t length = strlen(path);
    return control && !strncmp(path, folder, folder_length) &&
           !(length > 4 && !strcmp(path + length - 4, "-shm")); /* shared memory, rebuilt at each opening */
}

static int ours(int fd, char *path) {
    char link[32];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return below(path);
}

static int64_t size_of(int fd) {
    struct stat about;
    return fstat(fd, &about) ? 0 : about.st_size;
}

static int refuse(int error) {
    __atomic_add_fetch(&control->failures, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return -1;
}

static int refused(int64_t growth) {
    uint32_t mode = control->mode;
    if (mode & READ_ONLY) return refuse(EROFS);
    if (mode & FAILING) return refuse(EIO);
    if (mode & FULL && growth > 0) {
        if (__atomic_sub_fetch(&control->free_bytes, growth, __ATOMIC_SEQ_CST) < 0) {
            __atomic_add_fetch(&control->free_bytes, growth, __ATOMIC_SEQ_CST);
            return refuse(ENOSPC);
        }
    }
    return 0;
}

static void freed(int64_t bytes) {
    if (control->mode & FULL && control->freed_counts && bytes > 0)
        __atomic_add_fetch(&control->free_bytes, bytes, __ATOMIC_SEQ_CST);
}

/* --- the log of what is not synced -------------------------------------------------------------------------- */

static void put(const void *bytes, size_t count) {
    const char *at = bytes;
    while (count) {
        ssize_t done = syscall(SYS_write, changes, at, count);
        if (done <= 0) abort(); /* a log with holes would prove nothing */
        at += done;
        count -= done;
    }
}

static void note(uint32_t kind, const char *path, int64_t offset, int64_t size, const void *old, uint32_t old_count,
                 const void *new, uint32_t new_count) {
    struct record record = {kind, strlen(path), old_count, new_count, offset, size};
    put(&record, sizeof record);
    put(path, record.path);
    put(old, old_count);
    put(new, new_count);
    if (kind == WRITE || kind == TRUNCATE) {
        for (int i = 0; i < unsynced_count; i++)
            if (!strcmp(unsynced[i], path)) return;
        if (unsynced_count == 16) abort();
        strcpy(unsynced[unsynced_count++], path);
    }
}

static void forget(const char *path) {
    for (int i = 0; i < unsynced_count; i++)
        if (!strcmp(unsynced[i], path)) {
            if (i != --unsynced_count) strcpy(unsynced[i], unsynced[unsynced_count]);
            break;
        }
    if (!unsynced_count && ftruncate(changes, 0)) abort();
}

static char *old_bytes(const char *path, int64_t offset, int64_t count, uint32_t *got) {
    *got = 0;
    if (count <= 0) return NULL;
    char *bytes = malloc(count);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (!bytes || fd < 0) abort();
    ssize_t done = syscall(SYS_pread64, fd, bytes, count, offset);
    syscall(SYS_close, fd);
    *got = done > 0 ? done : 0;
    return bytes;
}

static ssize_t change(int fd, const char *path, const void *bytes, size_t count, int64_t offset) {
    int64_t size = size_of(fd);
    if (refused(offset + (int64_t)count - size)) return -1;
    uint32_t had;
    pthread_mutex_lock(&turn);
    char *old = old_bytes(path, offset, count, &had);
    note(WRITE, path, offset, size, old, had, bytes, count);
    free(old);
    ssize_t done = syscall(SYS_pwrite64, fd, bytes, count, offset);
    pthread_mutex_unlock(&turn);
    return done;
}

/* --- the calls ---------------------------------------------------------------------------------------------- */

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return syscall(SYS_pwrite64, fd, bytes, count, offset);
    return change(fd, path, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return syscall(SYS_write, fd, bytes, count);
    int64_t offset = fcntl(fd, F_GETFL) & O_APPEND ? size_of(fd) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = change(fd, path, bytes, count, offset);
    if (done > 0) lseek(fd, offset + done, SEEK_SET);
    return done;
}

int ftruncate64(int fd, off64_t length) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return syscall(SYS_ftruncate, fd, length);
    int64_t size = size_of(fd);
    if (refused(0)) return -1;
    uint32_t had;
    pthread_mutex_lock(&turn);
    char *old = old_bytes(path, length, size - length, &had);
    note(TRUNCATE, path, length, size, old, had, NULL, 0);
    free(old);
    int result = syscall(SYS_ftruncate, fd, length);
    pthread_mutex_unlock(&turn);
    if (!result) freed(size - length);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    char path[PATH_MAX];
    if (ours(fd, path) && refused(offset + length - size_of(fd))) return errno;
    return syscall(SYS_fallocate, fd, 0, offset, length) ? errno : 0;
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

static int sync_file(int fd, long call) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return syscall(call, fd);
    pthread_mutex_lock(&turn);
    note(SYNC_BEGUN, path, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    struct timespec moment = {0, 10 * 1000 * 1000};
    while (control->mode & HANGING_SYNC) nanosleep(&moment, NULL);
    if (control->mode & SLOW_SYNC) {
        struct timespec delay = {control->delay_ms / 1000, control->delay_ms % 1000 * 1000000L};
        nanosleep(&delay, NULL);
    }
    if (control->mode & FAILING) return refuse(EIO);
    int result = syscall(call, fd);
    if (!result) {
        pthread_mutex_lock(&turn);
        note(SYNC_DONE, path, 0, 0, NULL, 0, NULL, 0);
        forget(path); /* the journal has one writer: nothing came between */
        pthread_mutex_unlock(&turn);
    }
    return result;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int open_file(int at, const char *path, int flags, int permissions) {
    if (control && path[0] == '/' && below(path) && control->mode & READ_ONLY &&
        flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
        return refuse(EROFS);
    const char *boot = strcmp(path, "/proc/sys/kernel/random/boot_id") ? NULL : getenv("CHAOS_BOOT_ID");
    return syscall(SYS_openat, at, boot ? boot : path, flags, permissions);
}

#define PERMISSIONS                                         \
    int permissions = 0;                                    \
    if (flags & (O_CREAT | __O_TMPFILE)) {                  \
        va_list rest;                                       \
        va_start(rest, flags);                              \
        permissions = va_arg(rest, int);                    \
        va_end(rest);                                       \
    }

int open(const char *path, int flags, ...) {
    PERMISSIONS
    return open_file(AT_FDCWD, path, flags, permissions);
}

int open64(const char *path, int flags, ...) {
    PERMISSIONS
    return open_file(AT_FDCWD, path, flags | O_LARGEFILE, permissions);
}

int openat(int at, const char *path, int flags, ...) {
    PERMISSIONS
    return open_file(at, path, flags, permissions);
}

int openat64(int at, const char *path, int flags, ...) {
    PERMISSIONS
    return open_file(at, path, flags | O_LARGEFILE, permissions);
}

int unlink(const char *path) {
    if (!below(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (refused(0)) return -1;
    struct stat about;
    int64_t size = stat(path, &about) ? 0 : about.st_size;
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result) {
        freed(size);
        pthread_mutex_lock(&turn);
        note(UNLINK, path, 0, 0, NULL, 0, NULL, 0);
        forget(path);
        pthread_mutex_unlock(&turn);
    }
    return result;
}
