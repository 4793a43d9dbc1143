/* SPDX-License-Identifier: BSD-3-Clause */
/* When to tell of violations: see violations.h for the contract. */
#include "vmm/vm/violations.h"

/*
 * The flag is cleared before the counts are read, and the counts grow before it is looked at: either
 * the count that grew is read, or the flag is seen to be clear and the main thread is woken again.
 */
bool violations_note(struct violations *v)
{
	return !v->noted && !atomic_exchange(&v->noted, true);
}

uint64_t violations_wait_ms(const struct violations *v, uint64_t now_ms)
{
	if (!v->noted)
		return UINT64_MAX;
	if (!v->any || now_ms - v->event_ms >= VIOLATIONS_PERIOD_MS)
		return 0;
	return VIOLATIONS_PERIOD_MS - (now_ms - v->event_ms);
}

void violations_begin(struct violations *v)
{
	v->noted = false;
}

bool violations_end(struct violations *v, uint64_t now_ms, uint64_t writes, uint64_t reads,
		    uint64_t *ret_writes, uint64_t *ret_reads)
{
	*ret_writes = writes - v->writes;
	*ret_reads = reads - v->reads;
	if (!*ret_writes && !*ret_reads)
		return false;
	v->any = true;
	v->event_ms = now_ms;
	v->writes = writes;
	v->reads = reads;
	return true;
}
