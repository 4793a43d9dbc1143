/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which system calls there are under -sandbox: see sandbox_calls.h. "Own" is what ebb, the C library
 * (with its resolver of host names), libuv and zstd call from the moment on that the machine is
 * built; setting it up is over by then, so opening a VM or making a session is not in it.
 */
#include "vmm/main/sandbox_calls.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/num.h"

#define ALL_BITS UINT64_MAX
#define INT_BITS UINT64_C(0xffffffff)

const char *const sandbox_calls_own[] = {
	/* memory */
	"brk", "munmap", "mremap", "madvise", "mincore", "cachestat:451", "msync", "mlock",
	"mlock2", "mlockall", "munlock", "munlockall", "mbind", "get_mempolicy", "set_mempolicy",
	"membarrier", "memfd_create", "userfaultfd",
	/* files */
	"open", "openat", "close", "close_range", "read", "write", "readv", "writev", "pread64",
	"pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek", "stat", "fstat", "lstat",
	"newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink",
	"readlinkat", "getdents64", "getcwd", "chdir", "fsync", "fdatasync", "sync_file_range",
	"fadvise64", "ftruncate", "fallocate", "unlink", "unlinkat", "rename", "renameat",
	"renameat2", "fchmod", "flock", "dup", "dup2", "dup3", "pipe2", "inotify_init1",
	"inotify_add_watch", "inotify_rm_watch",
	/* waiting */
	"poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait",
	"epoll_pwait", "eventfd2", "timerfd_create", "timerfd_settime", "timerfd_gettime",
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
	/* threads and signals */
	"futex", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_yield",
	"sched_getaffinity", "getcpu", "exit", "exit_group", "restart_syscall", "rt_sigprocmask",
	"rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "sigaltstack",
	/* sockets, once they are made */
	"bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername",
	"getsockopt", "setsockopt", "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom",
	"recvmsg", "recvmmsg",
	/* who and where */
	"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrlimit",
	"getrusage", "getrandom", "sysinfo", "uname", "times", NULL};

const char *const sandbox_calls_programs[] = {
	/* files */
	"pipe", "creat", "getdents", "fchdir", "mkdir", "mkdirat", "rmdir", "link", "linkat",
	"symlink", "symlinkat", "truncate", "chmod", "fchmodat", "chown", "fchown", "lchown",
	"fchownat", "umask", "utime", "utimes", "utimensat", "futimesat", "getxattr", "lgetxattr",
	"fgetxattr", "listxattr", "llistxattr", "flistxattr",
	/* data from one to the other */
	"sync", "syncfs", "sendfile", "splice", "tee", "vmsplice", "copy_file_range",
	/* waiting */
	"inotify_init", "eventfd", "epoll_create", "epoll_pwait2", "signalfd", "signalfd4", "alarm",
	"pause", "getitimer", "setitimer", "timer_create", "timer_settime", "timer_gettime",
	"timer_getoverrun", "timer_delete",
	/* signals, processes */
	"rt_sigsuspend", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill", "kill", "wait4", "waitid",
	"pidfd_open", "pidfd_send_signal", "setpgid", "getpgid", "getpgrp", "getsid", "setsid",
	/* who, how, and being shut in themselves */
	"getgroups", "getresuid", "getresgid", "capget", "getpriority", "sched_getparam",
	"sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min",
	"sched_rr_get_interval", "sched_getattr", "ioprio_get", "arch_prctl", "seccomp",
	"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
	/* and others */
	"shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop", "semctl", "mknod",
	"mknodat", "futex_waitv", "readahead", NULL};

const char *const sandbox_calls_program_args[] = {
	"ioctl",      "prctl",        "mmap",   "mprotect", "socket",
	"socketpair", "rt_sigaction", "tgkill", "fcntl",    NULL};

/* Libraries that look for these do it another way then. Its flags are out of a filter's sight. */
const char *const sandbox_calls_absent[] = {"clone3",         "openat2",           "io_uring_setup",
					    "io_uring_enter", "io_uring_register", NULL};

const char *const sandbox_calls_never[] = {
	/* other processes */
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
	"pidfd_getfd", "kcmp", "migrate_pages",
	/* what the file system looks like */
	"mount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "open_tree",
	"fsopen", "fsconfig", "fsmount", "fspick", "open_by_handle_at", "name_to_handle_at",
	"fanotify_init", "fanotify_mark", "quotactl", "quotactl_fd", "acct", "swapon", "swapoff",
	/* the system as a whole */
	"reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
	"bpf", "perf_event_open", "lookup_dcookie", "syslog", "vhangup", "settimeofday",
	"clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "nfsservctl",
	"add_key", "request_key", "keyctl", "setns", "unshare",
	/* the processor */
	"iopl", "ioperm", "modify_ldt", "personality", "vm86", "vm86old", NULL};

const char *const sandbox_calls_obsolete[] = {
	/* modules, libraries */
	"uselib", "create_module", "get_kernel_syms", "query_module",
	/* others */
	"_sysctl", "sysfs", "ustat", "epoll_ctl_old", "epoll_wait_old", "afs_syscall", "getpmsg",
	"putpmsg", "security", "tuxcall", "vserver", "remap_file_pages", NULL};

const char *const sandbox_calls_elevate[] = {
	/* users */
	"setuid", "setreuid", "setresuid", "setfsuid",
	/* groups, capabilities */
	"setgid", "setregid", "setresgid", "setfsgid", "setgroups", "capset", NULL};

const char *const sandbox_calls_spawn[] = {"fork", "vfork", "execve", "execveat", NULL};

const char *const sandbox_calls_resource[] = {
	/* processors */
	"sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr",
	/* the rest */
	"setpriority", "ioprio_set", "setrlimit", NULL};

#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED
#endif

const char *const sandbox_calls_sanitizer[] = {
#ifdef SANDBOX_SANITIZED
	"clone", "ptrace", "prctl", "wait4", "pipe", "getdents",
#endif
	NULL};

#define CALL(name, index, bits, wanted)                                   \
	{                                                                 \
		.call = name, .arg = index, .mask = bits, .value = wanted \
	}
#define IOCTL(request) CALL("ioctl", 1, INT_BITS, (uint32_t)(request))
#define PRCTL(option)  CALL("prctl", 0, INT_BITS, option)
#define FCNTL(command) CALL("fcntl", 1, INT_BITS, command)

/* A new thread of this process, in its namespaces; for programs also a new process in these. */
#define CLONE_OTHERS                                                                              \
	((uint64_t)(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
		    CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE))
#define CLONE_WITHIN ((uint64_t)(CLONE_VM | CLONE_THREAD))

const struct sandbox_rule sandbox_rule_thread =
	CALL("clone", 0, CLONE_OTHERS | CLONE_WITHIN, CLONE_WITHIN);
const struct sandbox_rule sandbox_rule_process = CALL("clone", 0, CLONE_OTHERS, 0);

const struct sandbox_rule sandbox_rules[] = {
	CALL("mmap", 2, PROT_EXEC, 0),
	CALL("mprotect", 2, PROT_EXEC, 0),
	CALL("socketpair", 0, INT_BITS, AF_UNIX),
	/* asking for limits is not setting them */
	CALL("prlimit64", 2, ALL_BITS, 0),
	PRCTL(PR_SET_NAME),
	PRCTL(PR_GET_NAME),
	PRCTL(PR_SET_VMA),
	/* not who gets which signal of a descriptor: that may be any process */
	FCNTL(F_DUPFD),
	FCNTL(F_DUPFD_CLOEXEC),
	FCNTL(F_GETFD),
	FCNTL(F_SETFD),
	FCNTL(F_GETFL),
	FCNTL(F_SETFL),
	FCNTL(F_GETLK),
	FCNTL(F_SETLK),
	FCNTL(F_SETLKW),
	FCNTL(F_OFD_GETLK),
	FCNTL(F_OFD_SETLK),
	FCNTL(F_OFD_SETLKW),
	FCNTL(F_ADD_SEALS),
	FCNTL(F_GET_SEALS),
	FCNTL(F_SETPIPE_SZ),
	FCNTL(F_GETPIPE_SZ),
	/* descriptors and terminals */
	IOCTL(FIONBIO),
	IOCTL(FIONREAD),
	IOCTL(FIOCLEX),
	IOCTL(TCGETS),
	IOCTL(TCSETS),
	IOCTL(TCSETSW),
	IOCTL(TCSETSF),
	IOCTL(TIOCGWINSZ),
	IOCTL(TIOCGPTN),
	IOCTL(TIOCSPTLCK),
	IOCTL(TIOCGPTPEER),
	IOCTL(BLKGETSIZE64),
	/* all requests of userfaultfd(2) and of its device, by the byte they share */
	CALL("ioctl", 1, 0xff00, 0xaa00),
	/* a machine that is there: not the making of one */
	IOCTL(KVM_RUN),
	IOCTL(KVM_CHECK_EXTENSION),
	IOCTL(KVM_SET_USER_MEMORY_REGION),
	IOCTL(KVM_IRQFD),
	IOCTL(KVM_IOEVENTFD),
	IOCTL(KVM_IRQ_LINE),
	IOCTL(KVM_SET_GSI_ROUTING),
	IOCTL(KVM_GET_DIRTY_LOG),
	IOCTL(KVM_CLEAR_DIRTY_LOG),
	IOCTL(KVM_RESET_DIRTY_RINGS),
	IOCTL(KVM_GET_STATS_FD),
	IOCTL(KVM_KVMCLOCK_CTRL),
	IOCTL(KVM_GET_CLOCK),
	IOCTL(KVM_SET_CLOCK),
	IOCTL(KVM_GET_TSC_KHZ),
	IOCTL(KVM_SET_TSC_KHZ),
	IOCTL(KVM_GET_IRQCHIP),
	IOCTL(KVM_SET_IRQCHIP),
	IOCTL(KVM_GET_LAPIC),
	IOCTL(KVM_SET_LAPIC),
	IOCTL(KVM_GET_REGS),
	IOCTL(KVM_SET_REGS),
	IOCTL(KVM_GET_SREGS),
	IOCTL(KVM_SET_SREGS),
	IOCTL(KVM_GET_SREGS2),
	IOCTL(KVM_SET_SREGS2),
	IOCTL(KVM_GET_XCRS),
	IOCTL(KVM_SET_XCRS),
	IOCTL(KVM_GET_XSAVE),
	IOCTL(KVM_GET_XSAVE2),
	IOCTL(KVM_SET_XSAVE),
	IOCTL(KVM_GET_MSR_INDEX_LIST),
	IOCTL(KVM_NMI),
	IOCTL(KVM_GET_MSRS),
	IOCTL(KVM_SET_MSRS),
	IOCTL(KVM_GET_MP_STATE),
	IOCTL(KVM_SET_MP_STATE),
	IOCTL(KVM_GET_DEBUGREGS),
	IOCTL(KVM_SET_DEBUGREGS),
	IOCTL(KVM_GET_VCPU_EVENTS),
	IOCTL(KVM_SET_VCPU_EVENTS),
	IOCTL(KVM_GET_NESTED_STATE),
	IOCTL(KVM_SET_NESTED_STATE),
	IOCTL(KVM_GET_ONE_REG),
	IOCTL(KVM_SET_ONE_REG),
	IOCTL(KVM_GET_REG_LIST),
	IOCTL(KVM_GET_DEVICE_ATTR),
	IOCTL(KVM_SET_DEVICE_ATTR),
	{.call = NULL},
};

const struct sandbox_socket sandbox_sockets[] = {
	{AF_UNIX, SOCK_STREAM, SANDBOX_ANY},
	{AF_UNIX, SOCK_DGRAM, SANDBOX_ANY},
	{AF_INET, SOCK_STREAM, 0},
	{AF_INET, SOCK_STREAM, IPPROTO_TCP},
	{AF_INET, SOCK_DGRAM, 0},
	{AF_INET, SOCK_DGRAM, IPPROTO_UDP},
	{AF_INET6, SOCK_STREAM, 0},
	{AF_INET6, SOCK_STREAM, IPPROTO_TCP},
	{AF_INET6, SOCK_DGRAM, 0},
	{AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
	/* the resolver asks which addresses this host has */
	{AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
};
const unsigned int sandbox_nr_sockets = ARRAY_SIZE(sandbox_sockets);
