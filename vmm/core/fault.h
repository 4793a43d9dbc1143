/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that the host may not be able to provide: a file whose file system is full, or that somebody
 * made shorter, a broken memory chip (SIGBUS), content that was to come and cannot (SIGSEGV; see
 * guard/missing.h). Here touching it becomes an error.
 *
 * I1  A fault inside the given memory, on the thread that called fault_catch(), while it runs, ends
 *     @fn where it is. Every other SIGBUS or SIGSEGV goes where it went before.
 *
 * Threads: fault_init() once, before any other; fault_catch() from any thread in which neither is
 * blocked (a fault whose signal is blocked ends the process whatever is done here).
 */
#ifndef VMM_CORE_FAULT_H
#define VMM_CORE_FAULT_H

#include <stddef.h>

/* Take both; what handled them before gets what is not ours. */
void fault_init(void);

/*
 * @fn(@opaque, @memory, @size), and its result; -EFAULT when the host had not all of the memory: a part
 * of the work may be done then. @fn must be such that it can be left at any access of the memory:
 * nothing locked or allocated in it.
 */
int fault_catch(int (*fn)(void *opaque, void *memory, size_t size), void *opaque, void *memory,
		size_t size);

#endif
