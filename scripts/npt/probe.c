/* Runs four instructions in a KVM guest and prints what they gave: the proof that /dev/kvm works where this runs.
 * Prints the kind of paging that KVM uses, too. Exit code 0 if all is well. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static void print_parameter(const char *path)
{
	char text[16] = "";
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	if (read(fd, text, sizeof text - 1) > 0)
		printf("%s: %s", path, text);
	close(fd);
}

int main(void)
{
	/* mov al, 6; mul al; out 0x42, al; hlt */
	static const unsigned char code[] = {0xb0, 0x06, 0xf6, 0xe0, 0xe6, 0x42, 0xf4};
	int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	unsigned char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		checked(-1, "mmap");
	memcpy(memory, code, sizeof code);
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = 0x1000, .memory_size = 4096, .userspace_addr = (unsigned long)memory};
	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	int vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	int size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		checked(-1, "mmap of the vCPU");
	struct kvm_sregs sregs;
	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

	int product = -1;
	for (;;) {
		checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0x42) {
			product = *((unsigned char *)run + run->io.data_offset);
		} else if (run->exit_reason == KVM_EXIT_HLT) {
			break;
		} else {
			fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
			return 1;
		}
	}
	print_parameter("/sys/module/kvm_amd/parameters/npt");
	print_parameter("/sys/module/kvm_intel/parameters/ept");
	printf("a guest of KVM says: 6 * 6 = %d\n", product);
	return product == 36 ? 0 : 1;
}
