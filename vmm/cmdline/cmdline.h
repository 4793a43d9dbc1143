/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line: QEMU's options, read into a struct vm_config that is checked and complete.
 *
 * I1  Nothing is opened, mapped or changed on the host; only the existence of the files that are
 *     named is looked at. So a command line can be tried at no cost.
 * I2  A failure gives one sentence that names the option, what is wrong with it, and what is
 *     allowed. Nothing is printed: help texts come back in vm_config.output.
 *
 * Threads: none; no state outside the arguments.
 */
#ifndef VMM_CMDLINE_CMDLINE_H
#define VMM_CMDLINE_CMDLINE_H

#include "base/err.h"
#include "vmm/cmdline/config.h"

/*
 * @argv is that of main(); argv[0] is not looked at. 0 and *ret_config (end with vm_config_free()),
 * or -errno with a sentence in *err and *ret_config untouched.
 */
int cmdline_parse(int argc, char **argv, struct vm_config **ret_config, struct err **err);

#endif
