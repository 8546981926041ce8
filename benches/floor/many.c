/* Floors for many guests: what KVM itself takes for them. Shares no code with Referee.
 *
 *   many density N     N VMs in processes of 128 at most, each rung once and then left alone
 *   many threads-T N   N doorbells by each of T threads, each with a VM of its own
 *
 * `density` begins its processes first, each with one VM that keeps KVM awake, and lets as many of them make VMs at a time as there are
 * processors. Prints `each NS` for each VM and `mean NS` for each process, whose time is shared among its VMs; then, by names of
 * /proc/meminfo, the bytes that all the VMs together have changed there, and as `= group` what the file FLOOR_USAGE counts. It begins at the end of a line. `threads` prints the time that passed for each doorbell, in nanoseconds,
 * once for each hundred by all threads together. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>

#include "guest.h"

#define EACH 128

static const char *const NAMES[] = {"MemFree",	  "Buffers",	"Cached",	 "AnonPages", "Shmem",
				    "KernelStack", "PageTables", "SecPageTables", "Slab",	    "VmallocUsed"};
enum { KINDS = sizeof NAMES / sizeof *NAMES };

static void memory(long *bytes)
{
	char line[128], name[64];
	long kib;
	FILE *file = fopen("/proc/meminfo", "r");
	if (file == NULL)
		checked(-1, "/proc/meminfo");
	while (fgets(line, sizeof line, file) != NULL)
		for (int i = 0; i < KINDS; i++)
			if (sscanf(line, "%63[^:]: %ld", name, &kib) == 2 && strcmp(name, NAMES[i]) == 0)
				bytes[i] = kib * 1024;
	fclose(file);
}

/* Bytes that the control group of this process has taken, by a file of that number alone; 0 without one. */
static long group_usage(void)
{
	long bytes = 0;
	const char *path = getenv("FLOOR_USAGE");
	FILE *file = path == NULL ? NULL : fopen(path, "r");
	if (file != NULL) {
		if (fscanf(file, "%ld", &bytes) != 1)
			bytes = 0;
		fclose(file);
	}
	return bytes;
}

static void byte_out(int file)
{
	if (write(file, "", 1) != 1)
		checked(-1, "write");
}

static void byte_in(int file)
{
	char byte;
	if (read(file, &byte, 1) != 1)
		checked(-1, "read");
}

/* A process of `count` VMs, which tells its progress and does what it is told, a byte each time. */
static void worker(int told, int tell, int count, long *each, long *mean)
{
	static struct guest guests[EACH];
	struct guest keeper = make(RINGS, sizeof RINGS);
	doorbell(&keeper);
	byte_out(tell);
	byte_in(told);
	long begun = now(), before = begun;
	for (int i = 0; i < count; i++) {
		guests[i] = make(RINGS, sizeof RINGS);
		doorbell(&guests[i]);
		long after = now();
		each[i] = after - before;
		before = after;
	}
	*mean = (before - begun) / count;
	byte_out(tell);
	byte_in(told);
	_exit(0);
}

static void density(int count)
{
	/* Whoever began it says when this process is in its group. */
	int told = getchar();
	(void)told;
	int processes = (count + EACH - 1) / EACH, at_a_time = sysconf(_SC_NPROCESSORS_ONLN);
	size_t shared = (count + processes) * sizeof(long);
	long *each = mmap(NULL, shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int (*pipes)[4] = calloc(processes, sizeof *pipes);
	if (each == MAP_FAILED || pipes == NULL)
		checked(-1, "memory");
	memset(each, 0, shared);
	long *means = each + count;
	for (int i = 0; i < processes; i++) {
		checked(pipe(pipes[i]), "pipe");
		checked(pipe(pipes[i] + 2), "pipe");
		if (checked(fork(), "fork") == 0) {
			int first = i * EACH, some = count - first < EACH ? count - first : EACH;
			worker(pipes[i][0], pipes[i][3], some, each + first, means + i);
		}
		/* Its ends closed here, a process that failed is an end of file there. */
		close(pipes[i][0]);
		close(pipes[i][3]);
		byte_in(pipes[i][2]);
	}
	long before[KINDS] = {0}, after[KINDS] = {0};
	memory(before);
	long group_before = group_usage();
	for (int i = 0; i < processes + at_a_time; i++) {
		if (i >= at_a_time)
			byte_in(pipes[i - at_a_time][2]);
		if (i < processes)
			byte_out(pipes[i][1]);
	}
	sleep(1);
	memory(after);
	long group_after = group_usage();
	for (int i = 0; i < processes; i++)
		byte_out(pipes[i][1]);
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < count; i++)
		printf("each %ld\n", each[i]);
	for (int i = 0; i < processes; i++)
		printf("mean %ld\n", means[i]);
	for (int i = 0; i < KINDS; i++)
		printf("%s %ld\n", NAMES[i], after[i] - before[i]);
	if (group_before > 0)
		printf("= group %ld\n", group_after - group_before);
}

static int rounds;
static pthread_barrier_t barrier;

static void *ringer(void *unused)
{
	(void)unused;
	struct guest guest = make(RINGS, sizeof RINGS);
	for (int i = 0; i < 200; i++)
		doorbell(&guest);
	for (int i = 0; i < rounds; i++) {
		pthread_barrier_wait(&barrier);
		for (int j = 0; j < 100; j++)
			doorbell(&guest);
		pthread_barrier_wait(&barrier);
	}
	destroy(&guest);
	return NULL;
}

static void threads(int number, int count)
{
	pthread_t started[64];
	if (number < 1 || number > 64)
		exit(100);
	rounds = (count + 99) / 100;
	pthread_barrier_init(&barrier, NULL, number + 1);
	for (int i = 0; i < number; i++)
		if (pthread_create(&started[i], NULL, ringer, NULL) != 0)
			checked(-1, "pthread_create");
	for (int i = 0; i < rounds; i++) {
		pthread_barrier_wait(&barrier);
		long begun = now();
		pthread_barrier_wait(&barrier);
		printf("%ld\n", (now() - begun) / (100 * number));
	}
	for (int i = 0; i < number; i++)
		pthread_join(started[i], NULL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 100;
	int count = atoi(argv[2]);
	if (count < 1)
		return 100;
	open_kvm();
	if (strcmp(argv[1], "density") == 0)
		density(count);
	else if (strncmp(argv[1], "threads-", 8) == 0)
		threads(atoi(argv[1] + 8), count);
	else
		return 100;
	return 0;
}
