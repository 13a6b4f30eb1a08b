/* The calls by which a process changes files under one folder: counted, written down, and one of them made to fail.
 *
 * Loaded before the C library (LD_PRELOAD), it sees what Python, Arrow and SQLite ask of the system. `layer_arm` names
 * the folder, the file to write down to, and what happens at which call; see layer.py, which reads what is written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NONE, KILL, TORN, FAIL, SHORT, FULL };
enum { MADE = 1, EMPTIED = 2, WRITABLE = 4 };
enum { HANDLES = 1 << 16, LONGEST = 2 * PATH_MAX };

static char root[PATH_MAX];
static size_t root_length;
static int told = -1, kind = NONE, number_of_error;
static long at = -1, count;
static int full, fired;
static unsigned char known[HANDLES]; /* 1: opened under the root, 2: to be written */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

void layer_arm(const char *folder, int handle, long first, long number, int what, int error) {
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
    told = handle;
    at = number;
    kind = what;
    number_of_error = error;
    count = first;
    full = fired = 0;
}

/* Return whether the call came at which something happens. */
int layer_fired(void) { return fired; }

/* Write a record: a line of numbers, then two paths and data, as long as the line says. */
static void tell(char call, long number, int handle, long result, long offset, int flags, const char *one,
                 const char *two, const void *data, size_t size) {
    if (told < 0) return;
    char head[160];
    size_t first = one ? strlen(one) : 0, second = two ? strlen(two) : 0;
    int length = snprintf(head, sizeof head, "%c %ld %d %ld %ld %d %zu %zu %zu\n", call, number, handle, result,
                          offset, flags, first, second, size);
    __typeof__(&write) put = REAL(write);
    if (put(told, head, length) < 0 || (first && put(told, one, first) < 0) || (second && put(told, two, second) < 0) ||
        (size && put(told, data, size) < 0))
        abort();
}

void layer_note(const char *text) {
    pthread_mutex_lock(&lock);
    tell('n', -1, -1, 0, 0, 0, text, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
}

/* Return whether a path lies under the root; the whole path goes to `out`. */
static int inside(int folder, const char *path, char *out) {
    if (!root_length || !path) return 0;
    if (path[0] == '/') {
        snprintf(out, LONGEST, "%s", path);
    } else {
        char before[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (!getcwd(before, sizeof before)) return 0;
        } else {
            char name[40];
            snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(name, before, sizeof before - 1);
            if (length < 0) return 0;
            before[length] = 0;
        }
        snprintf(out, LONGEST, "%s/%s", before, path);
    }
    return !strncmp(out, root, root_length) && (out[root_length] == '/' || !out[root_length]);
}

static int is_known(int handle, int least) { return handle >= 0 && handle < HANDLES && known[handle] >= least; }

/* Count a call; return the error by which it is to fail, 0 for none. takes_space: fails once the disk is full. */
static int comes(long *number, int takes_space) {
    *number = count++;
    if (full && takes_space) return ENOSPC;
    if (*number != at) return 0;
    fired = kind != TORN && kind != SHORT;
    if (kind == KILL) kill(getpid(), SIGKILL);
    if (kind == FULL) full = 1;
    if (kind == FULL && takes_space) return ENOSPC;
    return kind == FAIL ? number_of_error : 0;
}

#define FAIL_BY(error) do { if (error) { pthread_mutex_unlock(&lock); errno = (error); return -1; } } while (0)

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char whole[LONGEST];
    int (*open_)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))real("openat");
    if (!inside(folder, path, whole)) return open_(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int writable = (flags & O_ACCMODE) != O_RDONLY, there = fstatat(folder, path, &before, 0) == 0;
    long number = -1;
    int makes = (flags & O_CREAT) && !there;
    if (writable || makes) {
        int error = comes(&number, makes);
        FAIL_BY(error);
    }
    int handle = open_(folder, path, flags, mode);
    int wrong = errno;
    if (handle >= 0) {
        if (handle < HANDLES) known[handle] = writable ? 2 : 1;
        int did = (makes ? MADE : 0) | ((flags & O_TRUNC) && there ? EMPTIED : 0) | (writable ? WRITABLE : 0);
        tell('o', number, handle, handle, 0, did, whole, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = wrong;
    return handle;
}

#define OPENS(name, folder, ...)                                                \
    int name(__VA_ARGS__, ...) {                                                \
        va_list more;                                                           \
        va_start(more, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                           \
        return opened(folder, path, flags, mode);                               \
    }
OPENS(open, AT_FDCWD, const char *path, int flags)
OPENS(open64, AT_FDCWD, const char *path, int flags)
OPENS(openat, folder, int folder, const char *path, int flags)
OPENS(openat64, folder, int folder, const char *path, int flags)

static ssize_t written(int handle, const void *data, size_t size, off_t offset, int placed) {
    __typeof__(&write) put = REAL(write);
    __typeof__(&pwrite) place = REAL(pwrite);
    if (!is_known(handle, 2)) return placed ? place(handle, data, size, offset) : put(handle, data, size);
    pthread_mutex_lock(&lock);
    long number;
    int error = comes(&number, 1);
    FAIL_BY(error);
    /* Where threads take turns in another order, the next write. */
    int hit = (kind == TORN || kind == SHORT) && at >= 0 && number >= at && !fired;
    size_t part = hit ? (size + 1) / 2 : size;
    if (!placed) offset = lseek(handle, 0, SEEK_CUR);
    if (!placed && fcntl(handle, F_GETFL) & O_APPEND) offset = lseek(handle, 0, SEEK_END);
    ssize_t done = placed ? place(handle, data, part, offset) : put(handle, data, part);
    int wrong = errno;
    if (hit && kind == TORN) kill(getpid(), SIGKILL);
    if (hit && kind == SHORT) full = fired = 1;
    if (done > 0) tell('w', number, handle, done, offset, 0, NULL, NULL, data, done);
    pthread_mutex_unlock(&lock);
    errno = wrong;
    return done;
}

ssize_t write(int handle, const void *data, size_t size) { return written(handle, data, size, 0, 0); }
ssize_t pwrite(int handle, const void *data, size_t size, off_t offset) {
    return written(handle, data, size, offset, 1);
}
ssize_t pwrite64(int handle, const void *data, size_t size, off64_t offset) {
    return written(handle, data, size, offset, 1);
}

#define BY_HANDLE(name, call, least, parameters, arguments, offset_, takes_space)          \
    int name parameters {                                                                  \
        __typeof__(&name) real_ = REAL(name);                                              \
        if (!is_known(handle, least)) return real_ arguments;                              \
        pthread_mutex_lock(&lock);                                                         \
        long number;                                                                       \
        int error = comes(&number, takes_space);                                           \
        FAIL_BY(error);                                                                    \
        int result = real_ arguments, wrong = errno;                                       \
        tell(call, number, handle, result, offset_, 0, NULL, NULL, NULL, 0);               \
        pthread_mutex_unlock(&lock);                                                       \
        errno = wrong;                                                                     \
        return result;                                                                     \
    }
BY_HANDLE(fsync, 'f', 1, (int handle), (handle), 0, 0)
BY_HANDLE(fdatasync, 'f', 1, (int handle), (handle), 0, 0)
BY_HANDLE(ftruncate, 't', 2, (int handle, off_t size), (handle, size), size, 0)
BY_HANDLE(ftruncate64, 't', 2, (int handle, off64_t size), (handle, size), size, 0)
BY_HANDLE(flock, 'k', 1, (int handle, int operation), (handle, operation), 0, 0)

/* A file that is closed is closed, even where that tells of an error. */
int close(int handle) {
    __typeof__(&close) real_ = REAL(close);
    if (!is_known(handle, 1)) return real_(handle);
    pthread_mutex_lock(&lock);
    int writable = known[handle] == 2, error = 0;
    long number = -1;
    if (writable) error = comes(&number, 0);
    known[handle] = 0;
    int result = real_(handle), wrong = errno;
    tell('c', number, handle, result, 0, 0, NULL, NULL, NULL, 0);
    FAIL_BY(error);
    pthread_mutex_unlock(&lock);
    errno = wrong;
    return result;
}

/* SQLite's locks are records of a file. */
static int locked(int (*real_)(int, int, ...), int handle, int command, void *value) {
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK;
    if (!locks || !is_known(handle, 1) || ((struct flock *)value)->l_type == F_UNLCK)
        return real_(handle, command, value);
    pthread_mutex_lock(&lock);
    long number;
    int error = comes(&number, 0);
    FAIL_BY(error);
    int result = real_(handle, command, value), wrong = errno;
    tell('k', number, handle, result, 0, 0, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = wrong;
    return result;
}

#define FCNTL(name)                                                    \
    int name(int handle, int command, ...) {                           \
        va_list more;                                                  \
        va_start(more, command);                                       \
        void *value = va_arg(more, void *);                            \
        va_end(more);                                                  \
        int (*real_)(int, int, ...) = (int (*)(int, int, ...))real(#name); \
        return locked(real_, handle, command, value);                  \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

#define BY_PATH(name, call, parameters, arguments, folder, path, target, offset_, takes_space) \
    int name parameters {                                                              \
        __typeof__(&name) real_ = REAL(name);                                          \
        char whole[LONGEST];                                                           \
        if (!inside(folder, path, whole)) return real_ arguments;                      \
        pthread_mutex_lock(&lock);                                                     \
        long number;                                                                   \
        int error = comes(&number, takes_space);                                       \
        FAIL_BY(error);                                                                \
        int result = real_ arguments, wrong = errno;                                   \
        if (!result) tell(call, number, -1, 0, offset_, 0, whole, target, NULL, 0);    \
        pthread_mutex_unlock(&lock);                                                   \
        errno = wrong;                                                                 \
        return result;                                                                 \
    }
BY_PATH(mkdir, 'm', (const char *path, mode_t mode), (path, mode), AT_FDCWD, path, NULL, 0, 1)
BY_PATH(mkdirat, 'm', (int folder, const char *path, mode_t mode), (folder, path, mode), folder, path, NULL, 0, 1)
BY_PATH(unlink, 'u', (const char *path), (path), AT_FDCWD, path, NULL, 0, 0)
BY_PATH(unlinkat, 'u', (int folder, const char *path, int flags), (folder, path, flags), folder, path, NULL, 0, 0)
BY_PATH(rmdir, 'u', (const char *path), (path), AT_FDCWD, path, NULL, 0, 0)
BY_PATH(symlink, 's', (const char *target, const char *path), (target, path), AT_FDCWD, path, target, 0, 1)
BY_PATH(symlinkat, 's', (const char *target, int folder, const char *path), (target, folder, path), folder, path,
        target, 0, 1)
BY_PATH(truncate, 'T', (const char *path, off_t size), (path, size), AT_FDCWD, path, NULL, size, 0)
BY_PATH(truncate64, 'T', (const char *path, off64_t size), (path, size), AT_FDCWD, path, NULL, size, 0)

static int moved(char call, int from, const char *old, int to, const char *new, int (*real_)(int, const char *, int,
                 const char *)) {
    char before[LONGEST], after[LONGEST];
    int ours = inside(from, old, before);
    if (!(inside(to, new, after) || ours)) return real_(from, old, to, new);
    pthread_mutex_lock(&lock);
    long number;
    int error = comes(&number, call == 'l');
    FAIL_BY(error);
    int result = real_(from, old, to, new), wrong = errno;
    if (!result) tell(call, number, -1, 0, 0, 0, before, after, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = wrong;
    return result;
}

static int link_plainly(int from, const char *old, int to, const char *new) {
    return REAL(linkat)(from, old, to, new, 0);
}

int rename(const char *old, const char *new) { return moved('r', AT_FDCWD, old, AT_FDCWD, new, REAL(renameat)); }
int renameat(int from, const char *old, int to, const char *new) {
    return moved('r', from, old, to, new, REAL(renameat));
}
int link(const char *old, const char *new) { return moved('l', AT_FDCWD, old, AT_FDCWD, new, link_plainly); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    (void)flags;
    return moved('l', from, old, to, new, link_plainly);
}
