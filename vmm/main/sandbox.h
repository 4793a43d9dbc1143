/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -sandbox: what the process may ask of its host's kernel once it is set up (seccomp(2)).
 *
 * I1  What may be called is listed (sandbox_calls.c), with arguments where they matter: which ioctl,
 *     which flags of a clone, no memory that code can be run from, which families of sockets. A call
 *     on no list fails with EPERM, or with ENOSYS where libraries have another way.
 * I2  Calls that nothing here has a use for and somebody who took the process over would have, and
 *     those of the classes that the option denies, end the process: a line on standard error names
 *     the call. The call itself is not carried out, whatever becomes of the handler of the signal.
 * I3  It holds for all threads that there are and that come later, and for commands that they start
 *     ("exec:" of a migration), which have a wider list; there is no way back.
 *
 * A build with sanitizers lets through what these need besides: they look at the process from a
 * process of their own when it ends.
 */
#ifndef VMM_MAIN_SANDBOX_H
#define VMM_MAIN_SANDBOX_H

struct err;
struct vm_sandbox_config;

/*
 * Shut the process in. To be called when everything is open that needs rights, and before anything
 * is read that comes from a guest, a monitor or a migration. On failure nothing is shut in, but the
 * process may have given up its way to new privileges. @before_end is called from a signal handler
 * when a forbidden call ends the process; NULL for none.
 */
int sandbox_enter(const struct vm_sandbox_config *config, void (*before_end)(void),
		  struct err **err);

#endif
