/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtual CPUs: see vcpu.h for the contract.
 *
 * Pausing: the main thread sets immediate_exit in each run structure and signals each thread.
 * Whatever a vCPU is doing, its next KVM_RUN completes the access that is under way and returns
 * EINTR without entering the guest; only then does it park (I1).
 *
 * KVM_RUN is behind the gate (gate.h), which makes vCPUs leave in the same way. immediate_exit stays
 * set until the vCPU, outside, asks under the lock whether it shall park, and is cleared only if
 * not: a pause that begins later sets it again, and a section that begins later sees the vCPU go in.
 * One that is left over costs a turn of the loop.
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
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/kvm/kvm_stats.h"
#include "vmm/kvm/vcpu_internal.h"

/* Its purpose is to interrupt KVM_RUN; a vCPU's own timer did nothing else yet. */
static void vcpu_kicked(int sig, siginfo_t *info, void *context)
{
	struct vcpu *v = info->si_value.sival_ptr;

	(void)sig;
	(void)context;
	if (info->si_code == SI_TIMER)
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
}

/* Make KVM_RUN return, also if it is called only later. */
static void vcpu_kick(struct vcpu *v, pthread_t thread)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
	pthread_kill(thread, VCPU_KICK_SIGNAL);
}

static void vcpu_gate_kick(void *opaque)
{
	struct vcpu *v = opaque;

	vcpu_kick(v, v->self);
}

struct vcpus *vcpus_new(const struct vcpus_config *config, struct err **err)
{
	struct sigaction action = {.sa_sigaction = vcpu_kicked, .sa_flags = SA_SIGINFO};
	pthread_condattr_t monotonic;
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + config->count * sizeof(vcpus->vcpu[0]));

	if (!vcpus) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	vcpus->config = *config;
	vcpus->paused = true;
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpus->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (unsigned int i = 0; i < config->count; i++) {
		vcpus->vcpu[i].vcpus = vcpus;
		vcpus->vcpu[i].index = i;
		vcpus->vcpu[i].fd = vcpus->vcpu[i].stats_fd = -1;
		vcpus->vcpu[i].member.kick = vcpu_gate_kick;
		vcpus->vcpu[i].member.opaque = &vcpus->vcpu[i];
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

	v->apic_id = identity->apic_id;
	v->fd = ioctl(kvm_vm_fd(kvm), KVM_CREATE_VCPU, (unsigned long)identity->apic_id);
	if (v->fd < 0)
		return err_set(err, errno, "KVM cannot create vCPU %u: %s", index, strerror(errno));
	v->run = mmap(NULL, kvm_vm_run_size(kvm), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return err_set(err, errno, "KVM's state of vCPU %u cannot be mapped: %s", index,
			       strerror(errno));
	}
	ret = kvm_ring_open(kvm, &v->ring, v->fd);
	if (ret)
		return err_set(err, -ret, "the ring of vCPU %u cannot be mapped: %s", index,
			       strerror(-ret));
	ret = vcpu_cpuid_set(v->fd, identity->cpuid, identity->nr_cpuid, err);
	if (ret)
		return ret;
	v->power_on = vcpu_state_save(kvm, v->fd, err);
	if (!v->power_on)
		return -EIO;
	v->msrs = calloc(identity->nr_msrs + 1, sizeof(*v->msrs));
	v->cpuid = calloc(identity->nr_cpuid + 1, sizeof(*v->cpuid));
	if (!v->msrs || !v->cpuid)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < identity->nr_cpuid; i++)
		v->cpuid[i] = identity->cpuid[i];
	v->nr_cpuid = identity->nr_cpuid;
	for (size_t i = 0; i < identity->nr_msrs; i++)
		v->msrs[i] = identity->msrs[i];
	v->nr_msrs = identity->nr_msrs;
	vcpu_msrs_set(v->fd, v->msrs, v->nr_msrs);
	/* Now: later it would wait until the vCPU leaves the guest. */
	v->stats_fd = kvm_stats_open(v->fd);
	return 0;
}

void vcpu_halt(struct vcpu *v)
{
	pthread_mutex_lock(&v->vcpus->lock);
	v->halted = true;
	pthread_mutex_unlock(&v->vcpus->lock);
}

/* The vCPU whose thread this is, or NULL. */
static struct vcpu *vcpu_self(struct hv *hv)
{
	return pthread_getspecific(kvm_of(hv)->vcpu_key);
}

int vcpu_current(struct hv *hv)
{
	const struct vcpu *v = vcpu_self(hv);

	return v ? (int)v->index : -1;
}

/* Halted at once, so that a resume from now on counts; the access completes before it parks. */
void vcpu_hold(struct hv *hv)
{
	struct vcpu *v = vcpu_self(hv);

	if (!v)
		return;
	vcpu_halt(v);
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
}

/* ---- threads ---- */

/* Wait until the vCPU may run; false when it shall end. */
static bool vcpu_park(struct vcpu *v)
{
	struct vcpus *g = v->vcpus;
	bool quit;

	pthread_mutex_lock(&g->lock);
	do {
		if (!g->paused && !g->stopped && !v->halted)
			continue;
		g->nparked++;
		pthread_cond_broadcast(&g->changed);
		while ((g->paused || g->stopped || v->halted) && !g->quit)
			pthread_cond_wait(&g->changed, &g->lock);
		g->nparked--;
		/* That was no turn. */
		v->turn_end_ns = v->rest_end_ns = 0;
	} while (!g->quit && vcpu_rest(v));
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	quit = g->quit;
	pthread_mutex_unlock(&g->lock);
	return !quit;
}

/* KVM_RUN, behind the gate: 0 or the positive error. */
static int vcpu_enter(struct vcpu *v)
{
	struct gate *gate = v->vcpus->config.kvm->gate;
	int code;

	gate_enter(gate, &v->member);
	code = ioctl(v->fd, KVM_RUN, 0) < 0 ? errno : 0;
	gate_leave(gate, &v->member);
	return code;
}

/* Run until it is time to park. */
static void vcpu_run(struct vcpu *v)
{
	bool go_on = true;

	while (go_on) {
		int code = vcpu_enter(v);

		switch (code) {
		case 0:
			go_on = vcpu_handle_exit(v);
			break;
		case EAGAIN: /* a vCPU that waited for its start-up message got it */
			break;
		case EINTR:
			return;
		case EFAULT:
			go_on = vcpu_handle_fault(v);
			break;
		case EHWPOISON:
			go_on = vcpu_fail_poisoned(v);
			break;
		default:
			go_on = vcpu_fail_run(v, code);
		}
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_vm *kvm = v->vcpus->config.kvm;
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
	v->self = pthread_self();
	gate_join(kvm->gate, &v->member);
	pthread_setspecific(kvm->vcpu_key, v);

	while (vcpu_park(v))
		vcpu_run(v);
	vcpu_rest_done(v);
	gate_part(kvm->gate, &v->member);
	return NULL;
}

int vcpus_start(struct vcpus *vcpus, struct err **err)
{
	sigset_t all, old;
	int ret = 0;

	/* Signals are the main thread's; a vCPU's thread takes none but the kick, and faults of its own. */
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* a filter of system calls ends the process */
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
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

void vcpus_kick(struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		struct vcpu *v = &vcpus->vcpu[i];

		if (v->started)
			vcpu_kick(v, v->thread);
	}
}

/* vcpus->lock held. */
static void vcpus_ask_to_park(struct vcpus *vcpus)
{
	if (vcpus->paused)
		return;
	vcpus->paused = true;
	vcpus_kick(vcpus);
	/* Those that rest. */
	pthread_cond_broadcast(&vcpus->changed);
}

bool vcpus_pause_within(struct vcpus *vcpus, unsigned int ms)
{
	struct timespec until;
	bool parked;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&vcpus->lock);
	vcpus_ask_to_park(vcpus);
	while (vcpus->nparked < vcpus->nstarted && !ret)
		ret = pthread_cond_timedwait(&vcpus->changed, &vcpus->lock, &until);
	parked = vcpus->nparked == vcpus->nstarted;
	pthread_mutex_unlock(&vcpus->lock);
	return parked;
}

void vcpus_pause(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus_ask_to_park(vcpus);
	while (vcpus->nparked < vcpus->nstarted)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_stop(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->stopped = true;
	vcpus_kick(vcpus);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_resume(struct vcpus *vcpus)
{
	bool parked;

	pthread_mutex_lock(&vcpus->lock);
	parked = vcpus->nparked == vcpus->nstarted;
	for (unsigned int i = 0; i < vcpus->config.count; i++) {
		vcpus->vcpu[i].halted = false;
		/*
		 * Tells the guest's watchdogs that the time did not pass; without kvmclock EINVAL. Waits
		 * for a vCPU that is inside KVM_RUN: where one never parked, no time was lost.
		 */
		if (vcpus->paused && parked)
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
		kvm_ring_close(vcpus->config.kvm, &v->ring);
		if (v->run)
			munmap(v->run, kvm_vm_run_size(vcpus->config.kvm));
		if (v->stats_fd >= 0)
			close(v->stats_fd);
		if (v->fd >= 0)
			close(v->fd);
		vcpu_state_free(v->power_on);
		free(v->cpuid);
		free(v->msrs);
	}
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	free(vcpus);
}

const struct kvm_cpuid_entry2 *vcpus_cpuid(const struct vcpus *vcpus, unsigned int index,
					   size_t *ret_nr)
{
	*ret_nr = vcpus->vcpu[index].nr_cpuid;
	return vcpus->vcpu[index].cpuid;
}

unsigned int vcpus_count(const struct vcpus *vcpus)
{
	return vcpus->config.count;
}

int vcpus_stats_fd(const struct vcpus *vcpus, unsigned int index)
{
	return vcpus->vcpu[index].stats_fd;
}

pid_t vcpus_thread_id(const struct vcpus *vcpus, unsigned int index)
{
	return vcpus->vcpu[index].tid;
}
