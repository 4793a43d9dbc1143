/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vCPUs that rest a share of the time, so that others get ahead of what they write: vcpu.h, I5.
 *
 * Time is cut into periods. In each a vCPU has a turn, at whose end a timer of its own makes it leave
 * the guest, and then a rest, in which it waits outside of the gate for whatever else may come. All is
 * done on the vCPU's thread, so nobody keeps track of the others. The timer's signal sets
 * immediate_exit, as a kick does: one that comes just before KVM_RUN is not lost. A host that ended a
 * turn late gives a longer rest, up to a bound.
 *
 * A host that has no timer left for a vCPU (RLIMIT_SIGPENDING) lets it run on until it leaves the
 * guest for another reason; then it rests.
 */
#include <string.h>

#include "base/num.h"
#include "vmm/kvm/vcpu_internal.h"

/* Not in the headers of the GNU C library before 2.38. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define NS_PER_S    UINT64_C(1000000000)
#define PERIOD_NS   UINT64_C(10000000)
#define REST_MAX_NS (10 * PERIOD_NS)
#define PERCENT_NS  (PERIOD_NS / 100)
#define PERCENT_MAX 99u

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S),
				 .tv_nsec = (long)(ns % NS_PER_S)};
}

static bool vcpu_timer_make(struct vcpu *v)
{
	struct sigevent event;

	if (v->has_timer)
		return true;
	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_notify_thread_id = v->tid;
	event.sigev_signo = VCPU_KICK_SIGNAL;
	event.sigev_value.sival_ptr = v;
	v->has_timer = timer_create(CLOCK_MONOTONIC, &event, &v->timer) == 0;
	return v->has_timer;
}

/* At @at_ns, or never for 0. */
static void vcpu_timer_arm(struct vcpu *v, uint64_t at_ns)
{
	const struct itimerspec spec = {.it_value = timespec_of(at_ns)};

	if (vcpu_timer_make(v))
		timer_settime(v->timer, TIMER_ABSTIME, &spec, NULL);
}

/* So long a rest belongs to a turn that lasted @turn_ns. */
static uint64_t rest_ns(unsigned int percent, uint64_t turn_ns)
{
	return num_min(num_min(turn_ns, REST_MAX_NS) * percent / (100 - percent), REST_MAX_NS);
}

bool vcpu_rest(struct vcpu *v)
{
	struct vcpus *g = v->vcpus;
	struct timespec until;
	uint64_t now;

	if (!g->throttle && !v->turn_end_ns)
		return false;
	now = monotonic_ns();
	if (g->throttle && v->turn_end_ns && now < v->turn_end_ns)
		return false;
	if (g->throttle && v->turn_end_ns && !v->rest_end_ns)
		v->rest_end_ns = now + rest_ns(g->throttle, now - v->turn_begin_ns);
	if (g->throttle && now < v->rest_end_ns) {
		until = timespec_of(v->rest_end_ns);
		pthread_cond_timedwait(&g->changed, &g->lock, &until);
		return true;
	}
	v->rest_end_ns = 0;
	v->turn_begin_ns = now;
	v->turn_end_ns = g->throttle ? now + (100 - g->throttle) * PERCENT_NS : 0;
	vcpu_timer_arm(v, v->turn_end_ns);
	return false;
}

void vcpu_rest_done(struct vcpu *v)
{
	if (v->has_timer)
		timer_delete(v->timer);
	v->has_timer = false;
}

void vcpus_throttle(struct vcpus *vcpus, unsigned int percent)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->throttle = percent < PERCENT_MAX ? percent : PERCENT_MAX;
	/* Those inside begin their first turn; those that rest look again. */
	vcpus_kick(vcpus);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}
