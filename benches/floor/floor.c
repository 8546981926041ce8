/* The floors: what KVM itself takes, measured by a program that shares no code with Referee. A guest of one page of code runs in
 * ring 3 of 64-bit mode with registers in the run page, as any VMM of this kind would do it at its leanest.
 *
 *   floor doorbell N   each store to a hole in memory, to the host and back
 *   floor doorbells N  two of them
 *   floor polled N     each number in shared memory that a guest, which polls for it, writes back to a host that polls for that
 *   floor reset-P N    a doorbell, and a copy of P pages
 *   floor start N      each VM from nothing to its first doorbell, while another VM is kept alive
 *   floor warm N       each VM from the setting of its registers to its first doorbell; it was made before
 *   floor again N      each second entry of such a VM, which rang its first doorbell before
 *   floor kill N       each stop of a spinning guest: immediate_exit and a signal, until KVM_RUN is back
 *   floor write N      each write of a line to the end of a file
 *   floor flush N      each such write and its fdatasync
 *   floor tpm N        each start of a software TPM, 16 random bytes from it, and its end
 *   floor process 1    prints nothing and is timed from outside: a child in namespaces of its own with an empty root, and a VM in it
 *
 * Prints one time in nanoseconds a line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEMORY 0x10000UL
#define TABLES 0x1000UL
#define CODE 0x8000UL
#define HOLE 0x40000000UL

struct guest {
	int vm, vcpu;
	unsigned char *memory;
	struct kvm_run *run;
};

static int kvm;
static size_t run_size;

static int checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static struct kvm_segment segment(int type, int selector, int is_code)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3,
		.db = !is_code, .s = 1, .l = is_code, .g = 1};
}

/* A VM with one page of code and four of tables, ready to be entered. */
static struct guest make(const unsigned char *code, size_t length)
{
	struct guest guest;
	guest.vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	guest.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guest.memory == MAP_FAILED)
		checked(-1, "mmap");
	unsigned long *tables = (unsigned long *)(guest.memory + TABLES);
	/* Present, writable, user; the last level of both halves is a 2 MiB page: memory at 0, a hole at 1 GiB. */
	tables[0] = (TABLES + 0x1000) | 7;
	tables[512] = (TABLES + 0x2000) | 7;
	tables[512 + 1] = (TABLES + 0x3000) | 7;
	tables[1024] = 0x87;
	tables[1536] = HOLE | 0x87;
	memcpy(guest.memory + CODE, code, length);
	struct kvm_userspace_memory_region slot = {.memory_size = MEMORY, .userspace_addr = (unsigned long)guest.memory};
	checked(ioctl(guest.vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	guest.vcpu = checked(ioctl(guest.vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	guest.run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest.vcpu, 0);
	if (guest.run == MAP_FAILED)
		checked(-1, "mmap of the vCPU");
	struct kvm_sregs *sregs = &guest.run->s.regs.sregs;
	checked(ioctl(guest.vcpu, KVM_GET_SREGS, sregs), "KVM_GET_SREGS");
	sregs->cs = segment(11, 0x2b, 1);
	sregs->ss = sregs->ds = sregs->es = sregs->fs = sregs->gs = segment(3, 0x33, 0);
	sregs->cr3 = TABLES;
	sregs->cr4 = 0x20;
	sregs->cr0 = 0x80050033;
	sregs->efer = 0x500;
	guest.run->s.regs.regs = (struct kvm_regs){.rip = CODE, .rflags = 2, .rsp = CODE, .rdi = HOLE};
	guest.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	guest.run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	return guest;
}

static void destroy(struct guest *guest)
{
	munmap(guest->run, run_size);
	close(guest->vcpu);
	close(guest->vm);
	munmap(guest->memory, MEMORY);
}

/* Enters the guest until its next doorbell. */
static void doorbell(struct guest *guest)
{
	checked(ioctl(guest->vcpu, KVM_RUN, 0), "KVM_RUN");
	if (guest->run->exit_reason != KVM_EXIT_MMIO || guest->run->mmio.phys_addr != HOLE) {
		fprintf(stderr, "unexpected exit %u\n", guest->run->exit_reason);
		exit(1);
	}
}

/* mov [rdi], rax; jmp to it */
static const unsigned char RINGS[] = {0x48, 0x89, 0x07, 0xeb, 0xfb};
/* mov [rdi], rax; jmp to itself */
static const unsigned char SPINS[] = {0x48, 0x89, 0x07, 0xeb, 0xfe};

static void doorbells(int count, int each)
{
	struct guest guest = make(RINGS, sizeof RINGS);
	for (int i = 0; i < 200; i++)
		doorbell(&guest);
	for (int i = 0; i < count; i++) {
		long begun = now();
		for (int j = 0; j < each; j++)
			doorbell(&guest);
		printf("%ld\n", now() - begun);
	}
}

/* mov rax, [rdi]; cmp rax, rdx; je back; mov rdx, rax; mov [rdi + 64], rax; jmp back */
static const unsigned char POLLS[] = {0x48, 0x8b, 0x07, 0x48, 0x39, 0xd0, 0x74, 0xf8, 0x48, 0x89, 0xc2, 0x48, 0x89, 0x47,
	0x40, 0xeb, 0xef};

static void *runs(void *guest)
{
	ioctl(((struct guest *)guest)->vcpu, KVM_RUN, 0);
	return NULL;
}

static void polled(int count)
{
	struct guest guest = make(POLLS, sizeof POLLS);
	guest.run->s.regs.regs.rdi = CODE + 0x1000;
	volatile unsigned long *words = (volatile unsigned long *)(guest.memory + CODE + 0x1000);
	pthread_t thread;
	if (pthread_create(&thread, NULL, runs, &guest) != 0)
		checked(-1, "pthread_create");
	for (long i = -1000; i < count; i++) {
		unsigned long number = i + 1001;
		long begun = now();
		words[0] = number;
		while (words[8] != number)
			__asm__ volatile("pause");
		if (i >= 0)
			printf("%ld\n", now() - begun);
	}
	/* Nobody needs the thread any more. */
	fflush(stdout);
	_exit(0);
}

static void resets(int count, int pages)
{
	struct guest guest = make(RINGS, sizeof RINGS);
	size_t bytes = pages * 4096UL;
	/* Pages: where source and target are a few bytes apart within theirs, copying takes ten times as long. */
	char *kept = aligned_alloc(4096, bytes + 4096), *memory = aligned_alloc(4096, bytes + 4096);
	if (kept == NULL || memory == NULL)
		checked(-1, "memory");
	memset(kept, 1, bytes);
	memset(memory, 2, bytes);
	for (int i = -200; i < count; i++) {
		long begun = now();
		memcpy(memory, kept, bytes);
		__asm__ volatile("" : : "r"(memory) : "memory");
		doorbell(&guest);
		if (i < 0)
			continue;
		printf("%ld\n", now() - begun);
	}
}

static void starts(int count)
{
	struct guest keeper = make(RINGS, sizeof RINGS);
	doorbell(&keeper);
	for (int i = -10; i < count; i++) {
		long begun = now();
		struct guest guest = make(RINGS, sizeof RINGS);
		doorbell(&guest);
		long took = now() - begun;
		destroy(&guest);
		if (i >= 0)
			printf("%ld\n", took);
	}
}

static void warm_starts(int count, int again)
{
	struct guest keeper = make(RINGS, sizeof RINGS);
	doorbell(&keeper);
	for (int i = -10; i < count; i++) {
		struct guest guest = make(RINGS, sizeof RINGS);
		struct timespec pause = {.tv_nsec = 2000000};
		if (again)
			doorbell(&guest);
		nanosleep(&pause, NULL);
		long begun = now();
		guest.run->s.regs.regs.rip = CODE;
		guest.run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
		doorbell(&guest);
		long took = now() - begun;
		destroy(&guest);
		if (i >= 0)
			printf("%ld\n", took);
	}
}

static struct kvm_run *volatile spinning;
static pthread_t spinner;
static volatile long killed;

static void on_signal(int number)
{
	(void)number;
	spinning->immediate_exit = 1;
}

static void *killer(void *unused)
{
	(void)unused;
	struct timespec pause = {.tv_nsec = 1000000};
	nanosleep(&pause, NULL);
	killed = now();
	spinning->immediate_exit = 1;
	pthread_kill(spinner, SIGUSR1);
	return NULL;
}

static void kills(int count)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &action, NULL);
	struct guest guest = make(SPINS, sizeof SPINS);
	doorbell(&guest);
	spinning = guest.run;
	spinner = pthread_self();
	for (int i = -5; i < count; i++) {
		pthread_t thread;
		guest.run->immediate_exit = 0;
		if (pthread_create(&thread, NULL, killer, NULL) != 0)
			checked(-1, "pthread_create");
		if (ioctl(guest.vcpu, KVM_RUN, 0) == 0 || errno != EINTR)
			checked(-1, "KVM_RUN was not interrupted");
		long took = now() - killed;
		pthread_join(thread, NULL);
		if (i >= 0)
			printf("%ld\n", took);
	}
}

static void writes(int count, int flush)
{
	char line[330], path[] = "/tmp/floor-XXXXXX";
	memset(line, 'x', sizeof line);
	int file = checked(mkostemp(path, O_APPEND), "a file in /tmp");
	unlink(path);
	for (int i = 0; i < count; i++) {
		long begun = now();
		if (write(file, line, sizeof line) != sizeof line)
			checked(-1, "write");
		if (flush)
			checked(fdatasync(file), "fdatasync");
		printf("%ld\n", now() - begun);
	}
}

static void tpms(int count)
{
	/* TPM2_GetRandom of 16 bytes: tag, size, command, count. */
	static const unsigned char random[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 16};
	char directory[] = "/tmp/floor-XXXXXX", state[64], server[96];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (mkdtemp(directory) == NULL)
		checked(-1, "a folder in /tmp");
	snprintf(state, sizeof state, "dir=%s", directory);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/sock", directory);
	snprintf(server, sizeof server, "type=unixio,path=%s", address.sun_path);
	for (int i = 0; i < count; i++) {
		unsigned char answer[64];
		long begun = now();
		int child = checked(fork(), "fork");
		if (child == 0) {
			execlp("swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", state, "--server", server, "--flags",
			       "not-need-init,startup-clear", NULL);
			_exit(127);
		}
		int tpm = checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
		while (connect(tpm, (struct sockaddr *)&address, sizeof address) < 0) {
			if (waitpid(child, NULL, WNOHANG) == child)
				checked(-1, "swtpm");
			usleep(200);
		}
		if (write(tpm, random, sizeof random) != sizeof random || read(tpm, answer, sizeof answer) != 28)
			checked(-1, "TPM2_GetRandom");
		close(tpm);
		kill(child, SIGKILL);
		checked(waitpid(child, NULL, 0), "waitpid");
		unlink(address.sun_path);
		printf("%ld\n", now() - begun);
	}
	snprintf(state, sizeof state, "%s/tpm2-00.permall", directory);
	unlink(state);
	snprintf(state, sizeof state, "%s/.lock", directory);
	unlink(state);
	rmdir(directory);
}

static void process(void)
{
	long flags = SIGCHLD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	int child = checked(syscall(SYS_clone, flags, 0, 0, 0, 0), "clone");
	if (child == 0) {
		struct guest guest = make(RINGS, sizeof RINGS);
		checked(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount of /");
		checked(mount("floor", "/proc", "tmpfs", 0, "size=4k"), "mount of an empty root");
		checked(chdir("/proc"), "chdir");
		checked(syscall(SYS_pivot_root, ".", "."), "pivot_root");
		checked(umount2(".", MNT_DETACH), "umount");
		doorbell(&guest);
		_exit(0);
	}
	int status;
	checked(waitpid(child, &status, 0), "waitpid");
	if (status != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 100;
	int count = atoi(argv[2]);
	kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	run_size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	if (strcmp(argv[1], "doorbell") == 0)
		doorbells(count, 1);
	else if (strcmp(argv[1], "doorbells") == 0)
		doorbells(count, 2);
	else if (strcmp(argv[1], "polled") == 0)
		polled(count);
	else if (strncmp(argv[1], "reset-", 6) == 0)
		resets(count, atoi(argv[1] + 6));
	else if (strcmp(argv[1], "start") == 0)
		starts(count);
	else if (strcmp(argv[1], "warm") == 0)
		warm_starts(count, 0);
	else if (strcmp(argv[1], "again") == 0)
		warm_starts(count, 1);
	else if (strcmp(argv[1], "kill") == 0)
		kills(count);
	else if (strcmp(argv[1], "write") == 0)
		writes(count, 0);
	else if (strcmp(argv[1], "flush") == 0)
		writes(count, 1);
	else if (strcmp(argv[1], "tpm") == 0)
		tpms(count);
	else if (strcmp(argv[1], "process") == 0)
		process();
	else
		return 100;
	return 0;
}
