/* SPDX-License-Identifier: BSD-3-Clause */
/* The record SECTION: see section.h. */
#include "vmm/migration/section.h"

#include <errno.h>

#include "base/err.h"
#include "vmm/migration/record.h"

int section_pack(const struct vm_section *section, struct pack *out, struct err **err)
{
	pack_text(out, section->name);
	pack_text(out, section->id);
	pack_u32(out, section->version);
	pack_bytes(out, section->data, section->size);
	if (pack_failed(out))
		return err_set(err, ENOMEM, "out of memory");
	if (out->size > RECORD_SECTION_MAX)
		return err_set(err, E2BIG,
			       "the state of %s '%s' has %zu bytes; a section holds %u at most",
			       section->name, section->id, out->size, RECORD_SECTION_MAX);
	return 0;
}

static void section_clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

int section_unpack(const void *bytes, size_t size, struct section *ret_section, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);

	unpack_text(&in, ret_section->name, sizeof(ret_section->name));
	unpack_text(&in, ret_section->id, sizeof(ret_section->id));
	section_clean(ret_section->name);
	section_clean(ret_section->id);
	ret_section->vm.name = ret_section->name;
	ret_section->vm.id = ret_section->id;
	ret_section->vm.version = unpack_u32(&in);
	ret_section->vm.size = in.left;
	ret_section->vm.data = unpack_raw(&in, in.left);
	return unpack_failed(&in) ? err_set(err, EINVAL, "a section is damaged") : 0;
}
