/* Fails the n-th operation that writes below a folder: what a full or broken disk does, at every place of a command.
   Preloaded into the process; armed in a forked child by fault_arm. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX];
static long nth, *shared; /* shared by all forks, so that the process that forked one can read it */
static int code, lasts;
#define seen (*shared)

__attribute__((constructor)) static void share(void) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Start to count. The nth operation fails with `number`, and all after it too where `for_good` is set; 0 fails none. */
void fault_arm(const char *folder, long which, int number, int for_good) {
  strncpy(below, folder, sizeof below - 1);
  nth = which; code = number; lasts = for_good; seen = 0;
}

long fault_count(void) { return seen; }

static int fails(const char *path) {
  size_t length = strlen(below);
  if (!length || strncmp(path, below, length) || (path[length] && path[length] != '/')) return 0;
  seen++;
  if (!nth || seen < nth || (seen > nth && !lasts)) return 0;
  errno = code;
  return 1;
}

static int fails_fd(int fd) {
  char link[64], path[PATH_MAX];
  if (!*below || fd < 3) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t got = readlink(link, path, sizeof path - 1);
  if (got < 0) return 0;
  path[got] = 0;
  return fails(path);
}

static int fails_at(int folder, const char *path) {
  char link[64], base[PATH_MAX], whole[2 * PATH_MAX];
  if (!*below) return 0;
  if (*path == '/') return fails(path);
  if (folder == AT_FDCWD) { if (!getcwd(base, sizeof base)) return 0; }
  else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t got = readlink(link, base, sizeof base - 1);
    if (got < 0) return 0;
    base[got] = 0;
  }
  snprintf(whole, sizeof whole, "%s/%s", base, path);
  return fails(whole);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define WRITING(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

ssize_t write(int fd, const void *data, size_t size) { REAL(write); return fails_fd(fd) ? -1 : real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *data, int count) { REAL(writev); return fails_fd(fd) ? -1 : real(fd, data, count); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); return fails_fd(fd) ? -1 : real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); return fails_fd(fd) ? -1 : real(fd, data, size, at); }
int fsync(int fd) { REAL(fsync); return fails_fd(fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails_fd(fd) ? -1 : real(fd); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); return fails_fd(fd) ? -1 : real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return fails_fd(fd) ? -1 : real(fd, size); }
int posix_fallocate(int fd, off_t at, off_t size) { REAL(posix_fallocate); return fails_fd(fd) ? code : real(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { REAL(posix_fallocate64); return fails_fd(fd) ? code : real(fd, at, size); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { REAL(sendfile64); return fails_fd(to) ? -1 : real(to, from, at, size); }
ssize_t sendfile(int to, int from, off_t *at, size_t size) { REAL(sendfile); return fails_fd(to) ? -1 : real(to, from, at, size); }

#define OPENS(name) int name(const char *path, int flags, ...) { \
  mode_t mode = 0; va_list rest; va_start(rest, flags); if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(rest, int); va_end(rest); \
  REAL(name); return WRITING(flags) && fails_at(AT_FDCWD, path) ? -1 : real(path, flags, mode); }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name) int name(int folder, const char *path, int flags, ...) { \
  mode_t mode = 0; va_list rest; va_start(rest, flags); if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(rest, int); va_end(rest); \
  REAL(name); return WRITING(flags) && fails_at(folder, path) ? -1 : real(folder, path, flags, mode); }
OPENS_AT(openat)
OPENS_AT(openat64)
FILE *fopen(const char *path, const char *mode) { REAL(fopen); return strpbrk(mode, "wa+") && fails_at(AT_FDCWD, path) ? NULL : real(path, mode); }
FILE *fopen64(const char *path, const char *mode) { REAL(fopen64); return strpbrk(mode, "wa+") && fails_at(AT_FDCWD, path) ? NULL : real(path, mode); }
int rename(const char *from, const char *to) { REAL(rename); return fails_at(AT_FDCWD, to) ? -1 : real(from, to); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) { REAL(renameat); return fails_at(to_folder, to) ? -1 : real(from_folder, from, to_folder, to); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return fails_at(AT_FDCWD, path) ? -1 : real(path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { REAL(mkdirat); return fails_at(folder, path) ? -1 : real(folder, path, mode); }
