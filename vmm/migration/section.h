/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The record SECTION: the state of one part of the machine (vm_state.h).
 *
 *	text name, text id, le32 version, the state: all that is left. Texts are le16 length and
 *	characters
 *
 * Threads: none. The other side controls every byte.
 */
#ifndef VMM_MIGRATION_SECTION_H
#define VMM_MIGRATION_SECTION_H

#include <stddef.h>

#include "base/pack.h"
#include "vmm/vm/vm_state.h"

struct err;

/* Flag of END: the source waits for READY, and says GO when the guest may go on. */
#define SECTION_END_ANSWER 1u

struct section {
	struct vm_section vm;
	char name[PACK_TEXT_MAX + 1], id[PACK_TEXT_MAX + 1]; /* what vm.name and vm.id are */
};

/* A state that is too large for a record is an error with a sentence. */
int section_pack(const struct vm_section *section, struct pack *out, struct err **err);
/* The state lies in @bytes. Names are made fit to be shown. -EINVAL with a sentence. */
int section_unpack(const void *bytes, size_t size, struct section *ret_section, struct err **err);

#endif
