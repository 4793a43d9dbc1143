/* SPDX-License-Identifier: BSD-3-Clause */
/* Faults of guest memory as errors: see fault.h for the contract. */
#include "vmm/core/fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/num.h"

struct fault_range {
	uintptr_t start, end;
	sigjmp_buf back;
};

/*
 * A signal handler is told nothing but the address: what the thread is at has to be found from
 * there, and what to do with other faults.
 */
static _Thread_local struct fault_range *volatile fault_current;
static const int fault_signals[] = {SIGBUS, SIGSEGV};
static struct sigaction fault_before[ARRAY_SIZE(fault_signals)];

static void fault_signal(int sig, siginfo_t *info, void *context)
{
	struct fault_range *range = fault_current;
	uintptr_t address = (uintptr_t)info->si_addr;

	(void)context;
	/* si_code is positive for what the processor raised, and not another process. */
	if (range && info->si_code > 0 && address >= range->start && address < range->end)
		siglongjmp(range->back, 1);
	/* Back to how it was; if it was a fault it happens again at once, else it is sent again. */
	sigaction(sig, &fault_before[sig == SIGSEGV], NULL);
	if (info->si_code <= 0)
		raise(sig);
}

void fault_init(void)
{
	/* SA_NODEFER: the way out of the handler leaves the signal mask as it is. */
	struct sigaction action = {.sa_sigaction = fault_signal,
				   .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
		sigaction(fault_signals[i], &action, &fault_before[i]);
}

int fault_catch(int (*fn)(void *opaque, void *memory, size_t size), void *opaque, void *memory,
		size_t size)
{
	struct fault_range range = {.start = (uintptr_t)memory, .end = (uintptr_t)memory + size};
	int ret;

	if (sigsetjmp(range.back, 0)) {
		fault_current = NULL;
		return -EFAULT;
	}
	fault_current = &range;
	atomic_signal_fence(memory_order_seq_cst);
	ret = fn(opaque, memory, size);
	atomic_signal_fence(memory_order_seq_cst);
	fault_current = NULL;
	return ret;
}
