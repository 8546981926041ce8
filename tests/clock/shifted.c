/* A clock on the wall that is off by as many seconds as a file says: for tests, by LD_PRELOAD. The file is mapped once, so that processes that are
   forked later, and can open nothing, see the same. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	const char *path = getenv("CLOCK_SHIFT");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		abort();
	void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
	if (mapped == MAP_FAILED)
		abort();
	shift = mapped;
	close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int failed = real(clock, now);
	if (!failed && clock == CLOCK_REALTIME)
		now->tv_sec += *shift;
	return failed;
}
