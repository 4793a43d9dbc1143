/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtual CPUs: see vcpu.h for the contract.
 *
 * Pausing: the main thread sets immediate_exit in each run structure and signals each thread.
 * Whatever a vCPU is doing, its next KVM_RUN completes the access that is under way and returns
 * EINTR without entering the guest; only then does it park (I1).
 */
#include "vmm/kvm/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/bus.h"
#include "vmm/kvm/kvm.h"

#define VCPU_KICK_SIGNAL SIGUSR1

struct vcpu {
	struct vcpus *vcpus;
	unsigned int index;
	int fd;
	struct kvm_run *run;
	struct vcpu_state *power_on;
	struct kvm_msr_entry *msrs;
	size_t nr_msrs;
	pthread_t thread;
	bool started; /* the main thread's */
	bool halted;  /* guarded by vcpus->lock: stopped by itself (I3) */
	pid_t tid;    /* guarded by vcpus->lock */
};

struct vcpus {
	struct vcpus_config config;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool paused, quit;    /* guarded by lock */
	unsigned int nparked; /* guarded by lock */
	unsigned int nstarted;
	struct vcpu vcpu[];
};

static void vcpu_kicked(int sig)
{
	(void)sig; /* its only purpose is to interrupt KVM_RUN */
}

struct vcpus *vcpus_new(const struct vcpus_config *config, struct err **err)
{
	struct sigaction action = {.sa_handler = vcpu_kicked};
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + config->count * sizeof(vcpus->vcpu[0]));

	if (!vcpus) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	vcpus->config = *config;
	vcpus->paused = true;
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_cond_init(&vcpus->changed, NULL);
	for (unsigned int i = 0; i < config->count; i++) {
		vcpus->vcpu[i].vcpus = vcpus;
		vcpus->vcpu[i].index = i;
		vcpus->vcpu[i].fd = -1;
	}
	sigemptyset(&action.sa_mask);
	sigaction(VCPU_KICK_SIGNAL, &action, NULL);
	return vcpus;
}

int vcpus_create(struct vcpus *vcpus, unsigned int index, const struct vcpu_identity *identity,
		 struct err **err)
{
	struct vcpu *v = &vcpus->vcpu[index];
	struct kvm_vm *kvm = vcpus->config.kvm;
	int ret;

	v->fd = ioctl(kvm_vm_fd(kvm), KVM_CREATE_VCPU, (unsigned long)identity->apic_id);
	if (v->fd < 0)
		return err_set(err, errno, "KVM cannot create vCPU %u: %s", index, strerror(errno));
	v->run = mmap(NULL, kvm_vm_run_size(kvm), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return err_set(err, errno, "KVM's state of vCPU %u cannot be mapped: %s", index,
			       strerror(errno));
	}
	ret = vcpu_cpuid_set(v->fd, identity->cpuid, identity->nr_cpuid, err);
	if (ret)
		return ret;
	v->power_on = vcpu_state_save(kvm, v->fd, err);
	if (!v->power_on)
		return -EIO;
	v->msrs = calloc(identity->nr_msrs + 1, sizeof(*v->msrs));
	if (!v->msrs)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < identity->nr_msrs; i++)
		v->msrs[i] = identity->msrs[i];
	v->nr_msrs = identity->nr_msrs;
	vcpu_msrs_set(v->fd, v->msrs, v->nr_msrs);
	return 0;
}

/* ---- exits ---- */

static void vcpu_handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct bus *pio = v->vcpus->config.pio;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			bus_write(pio, run->io.port, run->io.size, value);
		} else {
			bus_read(pio, run->io.port, run->io.size, &value);
			memcpy(data, &value, run->io.size);
		}
	}
}

static void vcpu_handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct bus *mmio = v->vcpus->config.mmio;
	uint64_t addr = run->mmio.phys_addr;
	uint8_t *data = run->mmio.data;
	uint32_t left = run->mmio.len;

	/* An unaligned access can be of any length up to 8: natural pieces, as a bus would see. */
	while (left) {
		unsigned int size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		uint64_t value = 0;

		if (run->mmio.is_write) {
			memcpy(&value, data, size);
			bus_write(mmio, addr, size, value);
		} else {
			bus_read(mmio, addr, size, &value);
			memcpy(data, &value, size);
		}
		addr += size;
		data += size;
		left -= size;
	}
}

/* The vCPU will not enter the guest again before the next resume. */
static void vcpu_halt(struct vcpu *v)
{
	pthread_mutex_lock(&v->vcpus->lock);
	v->halted = true;
	pthread_mutex_unlock(&v->vcpus->lock);
}

static bool vcpu_fail(struct vcpu *v, const char *why)
{
	vcpu_halt(v);
	v->vcpus->config.ops->failed(v->vcpus->config.opaque, v->index, why);
	return false;
}

static bool vcpu_fail_internal(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	char why[256];
	size_t len;
	uint32_t size;

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		snprintf(why, sizeof(why), "KVM reports internal error %u at %#llx",
			 run->internal.suberror, (unsigned long long)vcpu_instruction_gva(v->fd));
		return vcpu_fail(v, why);
	}
	len = (size_t)snprintf(
		why, sizeof(why),
		"KVM had to interpret an instruction that it does not know, at %#llx%s",
		(unsigned long long)vcpu_instruction_gva(v->fd),
		kvm_host_has_virtualization()
			? ""
			: " (this host's CPU has no virtualization, so KVM "
			  "interprets guest code and stock kernels cannot run)");
	if (run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		size = run->emulation_failure.insn_size;
		if (size > sizeof(run->emulation_failure.insn_bytes))
			size = sizeof(run->emulation_failure.insn_bytes);
		for (uint32_t i = 0; i < size && len + 8 < sizeof(why); i++)
			len += (size_t)snprintf(why + len, sizeof(why) - len, "%s%02x",
						i ? " " : ": ",
						run->emulation_failure.insn_bytes[i]);
	}
	return vcpu_fail(v, why);
}

/* False when the vCPU halted. */
static bool vcpu_handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	char why[160];

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		vcpu_handle_io(v);
		return true;
	case KVM_EXIT_MMIO:
		vcpu_handle_mmio(v);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		vcpu_halt(v);
		v->vcpus->config.ops->shutdown(v->vcpus->config.opaque, v->index);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		return vcpu_fail_internal(v);
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(why, sizeof(why),
			 "the host's CPU refuses to enter the guest (reason %#llx)",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return vcpu_fail(v, why);
	default:
		snprintf(why, sizeof(why),
			 "KVM left the guest for a reason unknown here (%u) at %#llx",
			 run->exit_reason, (unsigned long long)vcpu_instruction_gva(v->fd));
		return vcpu_fail(v, why);
	}
}

/* ---- threads ---- */

/* Wait until the vCPU may run; false when it shall end. */
static bool vcpu_park(struct vcpu *v)
{
	struct vcpus *g = v->vcpus;
	bool quit;

	pthread_mutex_lock(&g->lock);
	if (g->paused || v->halted) {
		g->nparked++;
		pthread_cond_broadcast(&g->changed);
		while ((g->paused || v->halted) && !g->quit)
			pthread_cond_wait(&g->changed, &g->lock);
		g->nparked--;
	}
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	quit = g->quit;
	pthread_mutex_unlock(&g->lock);
	return !quit;
}

/* Run until it is time to park. */
static void vcpu_run(struct vcpu *v)
{
	char why[160];

	for (;;) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0) {
			if (!vcpu_handle_exit(v))
				return;
		} else if (errno == EINTR) {
			return;
		} else if (errno != EAGAIN) {
			int code = errno;

			snprintf(why, sizeof(why), "KVM cannot run the guest at %#llx: %s",
				 (unsigned long long)vcpu_instruction_gva(v->fd), strerror(code));
			vcpu_fail(v, why);
			return;
		}
		/* EAGAIN: a vCPU that waited for its start-up message got it. */
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	sigset_t kick;
	char name[16];

	snprintf(name, sizeof(name), "CPU %u/KVM", v->index);
	pthread_setname_np(pthread_self(), name);
	sigemptyset(&kick);
	sigaddset(&kick, VCPU_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	pthread_mutex_lock(&v->vcpus->lock);
	v->tid = (pid_t)syscall(SYS_gettid);
	pthread_mutex_unlock(&v->vcpus->lock);

	while (vcpu_park(v))
		vcpu_run(v);
	return NULL;
}

int vcpus_start(struct vcpus *vcpus, struct err **err)
{
	sigset_t all, old;
	int ret = 0;

	/* Signals are the main thread's; a vCPU's thread takes none but the kick. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned int i = 0; i < vcpus->config.count && !ret; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		ret = pthread_create(&v->thread, NULL, vcpu_thread, v);
		if (!ret) {
			v->started = true;
			vcpus->nstarted++;
		}
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return err_set(err, ret, "cannot start the thread of a vCPU: %s", strerror(ret));
	/* Wait until all have their thread ids and are parked. */
	pthread_mutex_lock(&vcpus->lock);
	while (vcpus->nparked < vcpus->nstarted)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	pthread_mutex_unlock(&vcpus->lock);
	return 0;
}

/* Make all leave the guest and park. The lock is held. */
static void vcpus_kick(struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		if (!v->started)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
		pthread_kill(v->thread, VCPU_KICK_SIGNAL);
	}
}

void vcpus_pause(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	if (!vcpus->paused) {
		vcpus->paused = true;
		vcpus_kick(vcpus);
	}
	while (vcpus->nparked < vcpus->nstarted)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_resume(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		vcpus->vcpu[i].halted = false;
		/* Tells the guest's watchdogs that the time did not pass; without kvmclock EINVAL. */
		if (vcpus->paused)
			ioctl(vcpus->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
	}
	vcpus->paused = false;
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

int vcpus_reset(struct vcpus *vcpus,
		void (*boot)(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs),
		void *opaque, struct err **err)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int fd = vcpus->vcpu[0].fd;
	int ret;

	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		ret = vcpu_state_restore(v->power_on, v->fd, err);
		if (ret)
			return ret;
		vcpu_msrs_set(v->fd, v->msrs, v->nr_msrs);
	}
	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		return err_set(err, errno, "KVM does not tell vCPU 0's registers: %s",
			       strerror(errno));
	memset(&regs, 0, sizeof(regs));
	boot(opaque, &regs, &sregs);
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0)
		return err_set(err, errno, "KVM refuses vCPU 0's start registers: %s",
			       strerror(errno));
	return 0;
}

void vcpus_free(struct vcpus *vcpus)
{
	if (!vcpus)
		return;
	pthread_mutex_lock(&vcpus->lock);
	vcpus->paused = true;
	vcpus->quit = true;
	vcpus_kick(vcpus);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		if (v->started)
			pthread_join(v->thread, NULL);
		if (v->run)
			munmap(v->run, kvm_vm_run_size(vcpus->config.kvm));
		if (v->fd >= 0)
			close(v->fd);
		vcpu_state_free(v->power_on);
		free(v->msrs);
	}
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	free(vcpus);
}

unsigned int vcpus_count(const struct vcpus *vcpus)
{
	return vcpus->config.count;
}

pid_t vcpus_thread_id(const struct vcpus *vcpus, unsigned int index)
{
	return vcpus->vcpu[index].tid;
}
