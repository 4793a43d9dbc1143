/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Start another kernel from a running one, or load one for the running one's crash.
 *
 *     kexec_load run|crash KERNEL INITRD WORDS
 *
 * "run" never returns when it works: nothing is flushed, no process is told. "crash" returns when
 * the kernel is loaded (the running one needs crashkernel=).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "kexec_load: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long flags = 0;
	int kernel, initrd;

	if (argc != 5 || (strcmp(argv[1], "run") && strcmp(argv[1], "crash"))) {
		fprintf(stderr, "usage: kexec_load run|crash KERNEL INITRD WORDS\n");
		return 2;
	}
	if (!strcmp(argv[1], "crash"))
		flags |= KEXEC_FILE_ON_CRASH;
	kernel = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (kernel < 0)
		return fail(argv[2]);
	initrd = open(argv[3], O_RDONLY | O_CLOEXEC);
	if (initrd < 0)
		return fail(argv[3]);
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[4]) + 1, argv[4], flags) < 0)
		return fail("kexec_file_load");
	if (flags)
		return 0;
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return fail("reboot");
}
