/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate between vCPU threads and the guest: see gate.h for the contract. */
#include "vmm/kvm/gate.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct gate {
	atomic_bool shut; /* changed with the lock held */
	pthread_mutex_t lock;
	pthread_cond_t left;   /* a member went out; the section's beginning waits for it */
	pthread_cond_t opened; /* members and further sections wait for it */
	/* guarded by lock */
	struct gate_member *members;
	unsigned int nwaiting; /* members that wait for the section's end */
	unsigned int npassing; /* those of the last section who are not inside yet (I3) */
};

struct gate *gate_new(void)
{
	struct gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return NULL;
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->left, NULL);
	pthread_cond_init(&gate->opened, NULL);
	return gate;
}

void gate_free(struct gate *gate)
{
	if (!gate)
		return;
	assert(!gate->members);
	pthread_cond_destroy(&gate->opened);
	pthread_cond_destroy(&gate->left);
	pthread_mutex_destroy(&gate->lock);
	free(gate);
}

void gate_join(struct gate *gate, struct gate_member *member)
{
	atomic_init(&member->inside, false);
	pthread_mutex_lock(&gate->lock);
	member->next = gate->members;
	gate->members = member;
	pthread_mutex_unlock(&gate->lock);
}

void gate_part(struct gate *gate, struct gate_member *member)
{
	struct gate_member **link = &gate->members;

	assert(!atomic_load(&member->inside));
	pthread_mutex_lock(&gate->lock);
	while (*link != member)
		link = &(*link)->next;
	*link = member->next;
	pthread_mutex_unlock(&gate->lock);
}

/* The gate was seen shut, with the member counted as inside. */
static void gate_wait(struct gate *gate, struct gate_member *member)
{
	pthread_mutex_lock(&gate->lock);
	if (atomic_load(&gate->shut)) {
		atomic_store(&member->inside, false);
		pthread_cond_signal(&gate->left);
		gate->nwaiting++;
		while (atomic_load(&gate->shut))
			pthread_cond_wait(&gate->opened, &gate->lock);
		atomic_store(&member->inside, true);
		if (--gate->npassing == 0)
			pthread_cond_broadcast(&gate->opened);
	}
	pthread_mutex_unlock(&gate->lock);
}

void gate_enter(struct gate *gate, struct gate_member *member)
{
	atomic_store(&member->inside, true);
	if (atomic_load(&gate->shut))
		gate_wait(gate, member);
}

void gate_leave(struct gate *gate, struct gate_member *member)
{
	atomic_store(&member->inside, false);
	if (!atomic_load(&gate->shut))
		return;
	pthread_mutex_lock(&gate->lock);
	pthread_cond_signal(&gate->left);
	pthread_mutex_unlock(&gate->lock);
}

/* The lock is held. */
static bool gate_is_empty(const struct gate *gate)
{
	for (const struct gate_member *m = gate->members; m; m = m->next)
		if (atomic_load(&m->inside))
			return false;
	return true;
}

void gate_shut(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (atomic_load(&gate->shut) || gate->npassing)
		pthread_cond_wait(&gate->opened, &gate->lock);
	atomic_store(&gate->shut, true);
	for (struct gate_member *m = gate->members; m; m = m->next)
		if (atomic_load(&m->inside))
			m->kick(m->opaque);
	while (!gate_is_empty(gate))
		pthread_cond_wait(&gate->left, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	assert(atomic_load(&gate->shut));
	gate->npassing = gate->nwaiting;
	gate->nwaiting = 0;
	atomic_store(&gate->shut, false);
	pthread_cond_broadcast(&gate->opened);
	pthread_mutex_unlock(&gate->lock);
}
