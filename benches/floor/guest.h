/* A bare guest: one page of code that runs in ring 3 of 64-bit mode with registers in the run page, as any VMM of this kind would do
 * it at its leanest. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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

static void open_kvm(void)
{
	kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	run_size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
}
