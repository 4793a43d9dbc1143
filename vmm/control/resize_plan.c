/* SPDX-License-Identifier: BSD-3-Clause */
/* Spreading a size over devices: see resize_plan.h for the contract. */
#include "vmm/control/resize_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/num.h"

/* What a device may take, or give. */
struct plan_share {
	struct resize_slot *slot;
	uint64_t room;  /* at most */
	uint64_t moved; /* of that, so far */
};

struct plan {
	struct plan_share *shares; /* large blocks first */
	size_t nr;
	uint64_t room; /* of all */
	bool grow;
};

static void plan_add(struct plan *plan, struct resize_slot *slot)
{
	uint64_t room = plan->grow ? slot->max - slot->size : slot->size;
	size_t at = plan->nr++;

	for (; at && plan->shares[at - 1].slot->block < slot->block; at--)
		plan->shares[at] = plan->shares[at - 1];
	plan->shares[at] = (struct plan_share){.slot = slot, .room = room};
	plan->room += room;
}

static void plan_choose(struct plan *plan, struct resize_slot *slots, size_t nr, bool all)
{
	plan->nr = 0;
	plan->room = 0;
	for (size_t i = 0; i < nr; i++)
		if (all || slots[i].driven)
			plan_add(plan, &slots[i]);
}

/*
 * Each device in turn moves what it can of what is left. With large blocks first that leaves
 * something only if nothing could be done about it: blocks are powers of two.
 */
static uint64_t plan_fill(struct plan *plan, uint64_t left)
{
	for (size_t i = 0; i < plan->nr; i++) {
		struct plan_share *s = &plan->shares[i];
		uint64_t more = num_align_down(num_min(left, s->room - s->moved), s->slot->block);

		s->moved += more;
		left -= more;
	}
	return left;
}

static uint64_t plan_proportion(struct plan *plan, uint64_t size)
{
	uint64_t left = size;

	for (size_t i = 0; i < plan->nr && plan->room; i++) {
		struct plan_share *s = &plan->shares[i];
		unsigned __int128 part = (unsigned __int128)size * s->room / plan->room;

		s->moved = num_align_down((uint64_t)part, s->slot->block);
		left -= s->moved;
	}
	return plan_fill(plan, left);
}

/* Returns what cannot be moved, which is more than 0 only if nothing can be done about it. */
static uint64_t plan_move(struct plan *plan, uint64_t size)
{
	uint64_t left;

	if (plan->room < size)
		return plan_fill(plan, size);
	left = plan_proportion(plan, size);
	if (!left)
		return 0;
	/* The proportion has used up small blocks that are needed elsewhere. */
	for (size_t i = 0; i < plan->nr; i++)
		plan->shares[i].moved = 0;
	return plan_fill(plan, size);
}

int resize_plan(struct resize_slot *slots, size_t nr, uint64_t size, uint64_t *ret_near)
{
	uint64_t now = 0, max = 0, diff, left;
	struct plan plan;

	for (size_t i = 0; i < nr; i++) {
		now += slots[i].size;
		max += slots[i].max;
		slots[i].target = slots[i].size;
	}
	if (size > max)
		return -ERANGE;
	plan = (struct plan){
		.shares = calloc(nr + 1, sizeof(*plan.shares)),
		.grow = size > now,
	};
	if (!plan.shares)
		return -ENOMEM;
	diff = plan.grow ? size - now : now - size;
	left = diff;
	for (int all = 0; all < 2 && left; all++) {
		plan_choose(&plan, slots, nr, all);
		left = plan_move(&plan, diff);
	}
	for (size_t i = 0; i < plan.nr && !left; i++) {
		struct plan_share *s = &plan.shares[i];

		s->slot->target = plan.grow ? s->slot->size + s->moved : s->slot->size - s->moved;
	}
	free(plan.shares);
	if (!left)
		return 0;
	*ret_near = plan.grow ? size - left : size + left;
	return -EINVAL;
}
