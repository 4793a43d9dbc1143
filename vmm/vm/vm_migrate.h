/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's part in a migration: its run state, and what waits until it is over.
 *
 * I1  From vm_migration_begin() to vm_migration_end(), and while the machine is VM_INMIGRATE, no
 *     device comes or goes: commands that want it are refused, and what the guest gave up, or was
 *     asked for at a reset, is taken away afterwards, by whichever process has the guest then.
 * I2  A guest that was stopped by vm_migration_halt() is in the state in which it was found when it
 *     is let go again; what it asked for just before (a reset, power-off, a panic report) is part of
 *     its saved state, and is carried out where it goes on.
 * I3  A guest that was handed over does not run here any more, whatever anybody asks for.
 * I4  While the content of guest memory is still on its way to a guest that runs (vm_memory_arrives()),
 *     nothing on the main thread touches guest memory: a reset waits with the vCPUs stopped until all
 *     is there. Nor does it wait for vCPUs and devices that wait for memory, which is up to whoever
 *     sends it: stops, and whatever the guest asks for, are carried out when these have stopped, and
 *     none is asked to while memory does not even come (vm_memory_stalls()).
 *
 * Threads: the main one, but where said otherwise.
 */
#ifndef VMM_VM_VM_MIGRATE_H
#define VMM_VM_VM_MIGRATE_H

#include <stdbool.h>

struct err;
struct vm;

/* -EBUSY, -EPERM and a sentence where the machine has no state to take: it waits for one, ... */
int vm_migration_begin(struct vm *vm, struct err **err);
/* Stop the guest if it runs: VM_FINISH_MIGRATE. It may be called again, then nothing happens. */
void vm_migration_halt(struct vm *vm);

enum vm_migration_outcome {
	VM_MIGRATION_UNDONE, /* it goes on here, in the state in which it was halted */
	/*
	 * VM_POSTMIGRATE; it may go on here as well: when somebody says so, who knows that it does not
	 * run, and will not, where its state went (a file, a command, a target that holds it).
	 */
	VM_MIGRATION_SAVED,
	VM_MIGRATION_HANDED_OVER, /* VM_POSTMIGRATE; it may not, whatever becomes of the target */
	VM_MIGRATION_UNKNOWN,     /* VM_PAUSED: a person has to find out where it may go on */
};

/* After vm_migration_begin(), halted or not. */
void vm_migration_end(struct vm *vm, enum vm_migration_outcome outcome);

/*
 * Its state is there (vm_state.h): no longer VM_INMIGRATE. It is in the state it had at the source;
 * if it ran there it runs, unless -S or vm_stop() said that it shall not.
 */
void vm_incoming_end(struct vm *vm);

/* Shall it stand still then, whatever it did at the source: -S, or vm_stop()? */
bool vm_incoming_is_held(const struct vm *vm);

/*
 * I4, from before the guest runs to vm_memory_arrived(). @release is called once, when the machine ends
 * earlier, before anything waits for a vCPU: it lets everybody go who waits for memory.
 */
void vm_memory_arrives(struct vm *vm, void (*release)(void *opaque), void *opaque);
void vm_memory_stalls(struct vm *vm, bool stalled);
void vm_memory_arrived(struct vm *vm);
/*
 * It will never be there; from any thread, before anybody's access to it fails: the guest does not
 * execute another instruction, so none that was given something else. The machine stops
 * (VM_INTERNAL_ERROR), and nothing but an end is left for it.
 */
void vm_memory_fails(struct vm *vm);
/* From any thread. */
bool vm_memory_is_arriving(const struct vm *vm);

#endif
