/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other processors.
 *
 * I1  Processors are started one after the other, by INIT, SIPI, SIPI; each then waits, interrupts
 *     off and halted, for work.
 * I2  Work is given and waited for by the boot processor only.
 */
#ifndef BARE_SMP_H
#define BARE_SMP_H

#include <stdbool.h>
#include <stdint.h>

#define SMP_MAX 64u

struct smp_cpu {
	uint32_t apic_id;
	bool online;
	void (*fn)(void *arg, unsigned int cpu);
	void *arg;
};

/* Start all processors that the MADT names; how many run, this one included. */
unsigned int smp_start(void);
unsigned int smp_count(void);
const struct smp_cpu *smp_cpu(unsigned int cpu);

/* Run @fn on every processor but this one, all at once; smp_end() waits. */
void smp_begin(void (*fn)(void *arg, unsigned int cpu), void *arg);
/* False when some did not end. */
bool smp_end(void);
/* Both. */
bool smp_run(void (*fn)(void *arg, unsigned int cpu), void *arg);

/* Called by start.S on each application processor. */
void smp_ap_main(void);

#endif
