/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst).
 *
 * The file is a boot sector, setup_sects sectors of real-mode code that is not used here, and the
 * kernel proper, which is loaded at its preferred address or, if it can be moved, at the lowest
 * place where it fits. The setup header is copied from the file into a clean zero page.
 *
 * I1  Only fields inside the header's own length are believed; sizes and addresses are checked
 *     against the file and the RAM before they are used.
 *
 * Threads: none. The file is not trusted.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <asm/bootparam.h>

#include "base/err.h"
#include "vmm/machine/boot_int.h"
#include "vmm/machine/layout.h"

#define HEADER_OFFSET  0x1F1      /* of struct setup_header in the file and in the zero page */
#define HEADER_END_MAX 0x290      /* what follows in the zero page is not header */
#define HEADER_END_MIN 0x264      /* up to init_size */
#define HEADER_MAGIC   0x53726448 /* "HdrS" */
#define BOOT_FLAG      0xAA55
#define SECTOR_SIZE    512

#define VERSION_MIN  0x020C /* the first with a 64-bit entry point */
#define VERSION_RSDP 0x020E

#define ENTRY64_OFFSET   0x200
#define LOADER_UNDEFINED 0xFF
#define VIDEO_NORMAL     0xFFFF

struct bzimage {
	struct boot_params params; /* hdr filled in from the file, the rest zero */
	uint64_t offset, size;     /* of the kernel proper in the file */
	struct range gpa;          /* what it occupies until it has unpacked itself */
};

static int bzimage_read_header(const struct boot_file *file, struct bzimage *image,
			       struct err **err)
{
	uint8_t head[HEADER_END_MAX] = {0};
	const struct setup_header *hdr = &image->params.hdr;
	size_t end;
	int ret;

	_Static_assert(__builtin_offsetof(struct boot_params, hdr) == HEADER_OFFSET, "zero page");
	if (file->size < sizeof(head))
		return err_set(err, EINVAL, "-kernel '%s' is too short for a kernel", file->path);
	ret = boot_file_read(file, 0, head, sizeof(head), err);
	if (ret)
		return ret;
	/* The byte at 0x201 is the target of a short jump over the header. */
	end = 0x202 + (size_t)head[0x201];
	if (end > HEADER_END_MAX)
		end = HEADER_END_MAX;
	memset(&image->params, 0, sizeof(image->params));
	memcpy((uint8_t *)&image->params + HEADER_OFFSET, head + HEADER_OFFSET,
	       end - HEADER_OFFSET);
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return err_set(err, EINVAL,
			       "-kernel '%s' is neither a Linux bzImage nor an ELF vmlinux",
			       file->path);
	if (hdr->version < VERSION_MIN || end < HEADER_END_MIN)
		return err_set(err, EINVAL,
			       "-kernel '%s' has boot protocol %u.%02u; 2.12 (Linux 3.8) or later "
			       "is needed",
			       file->path, hdr->version >> 8, hdr->version & 0xFF);
	if (!(hdr->loadflags & LOADED_HIGH) || !(hdr->xloadflags & XLF_KERNEL_64))
		return err_set(err, EINVAL,
			       "-kernel '%s' has no 64-bit entry point; it must be an x86-64 "
			       "bzImage",
			       file->path);
	return 0;
}

static int bzimage_check_size(const struct boot_file *file, struct bzimage *image, struct err **err)
{
	const struct setup_header *hdr = &image->params.hdr;
	uint64_t setup_sects = hdr->setup_sects ? hdr->setup_sects : 4;
	uint64_t size = (uint64_t)hdr->syssize * 16;

	image->offset = (setup_sects + 1) * SECTOR_SIZE;
	if (size <= ENTRY64_OFFSET)
		return err_set(err, EINVAL, "-kernel '%s' has a header that names no kernel",
			       file->path);
	if (file->size < image->offset || file->size - image->offset < size)
		return err_set(err, EINVAL,
			       "-kernel '%s' is cut off: it has %" PRIu64
			       " bytes and its header speaks of %" PRIu64,
			       file->path, file->size, image->offset + size);
	/* What follows (a signature) does no harm, and syssize is rounded. */
	image->size = file->size - image->offset;
	return 0;
}

/* Decide where the kernel goes. */
static int bzimage_place(const struct boot_job *job, struct bzimage *image, struct err **err)
{
	const struct setup_header *hdr = &image->params.hdr;
	struct range ram = job->config->layout->low_ram;
	uint64_t align = hdr->kernel_alignment, start;

	ram = (struct range){BOOT_KERNEL_MIN, range_end(ram) - BOOT_KERNEL_MIN};
	image->gpa.size = num_max(hdr->init_size, image->size);
	image->gpa.start = hdr->pref_address;
	if (range_contains(ram, image->gpa))
		return 0;
	if (hdr->relocatable_kernel) {
		if (!num_is_pow2(align))
			return err_set(err, EINVAL,
				       "-kernel '%s' has a header with alignment 0x%" PRIx64
				       ", which is not a power of two",
				       job->kernel.path, align);
		if (num_align_up(ram.start, align, &start)) {
			image->gpa.start = start;
			if (range_contains(ram, image->gpa))
				return 0;
		}
	}
	return err_set(err, EFBIG,
		       "-kernel '%s' needs %" PRIu64 " MiB%s and does not fit into %" PRIu64
		       " MiB of boot memory",
		       job->kernel.path, image->gpa.size / MIB + 1,
		       hdr->relocatable_kernel ? "" : " at an address of its own",
		       range_end(job->config->layout->low_ram) / MIB);
}

static void bzimage_fill_zero_page(const struct boot_job *job, struct bzimage *image,
				   struct range initrd)
{
	struct boot_params *params = &image->params;
	struct setup_header *hdr = &params->hdr;
	struct boot_map_entry map[BOOT_MAP_MAX];
	size_t i, nr = boot_map_build(job->config->layout, map);

	hdr->type_of_loader = LOADER_UNDEFINED;
	hdr->vid_mode = VIDEO_NORMAL;
	hdr->code32_start = (uint32_t)image->gpa.start;
	hdr->cmd_line_ptr = BOOT_CMDLINE_GPA;
	hdr->setup_data = 0;
	hdr->ramdisk_image = (uint32_t)initrd.start;
	hdr->ramdisk_size = (uint32_t)initrd.size;
	params->ext_ramdisk_image = (uint32_t)(initrd.start >> 32);
	params->ext_ramdisk_size = (uint32_t)(initrd.size >> 32);
	if (hdr->version >= VERSION_RSDP)
		params->acpi_rsdp_addr = job->config->acpi_rsdp_gpa;
	for (i = 0; i < nr; i++) {
		params->e820_table[i].addr = map[i].gpa.start;
		params->e820_table[i].size = map[i].gpa.size;
		params->e820_table[i].type = map[i].type;
	}
	params->e820_entries = (uint8_t)nr;
}

int boot_load_bzimage(const struct boot_job *job, struct boot_cpu_state *ret_state,
		      struct err **err)
{
	struct bzimage image;
	const struct setup_header *hdr = &image.params.hdr;
	struct range initrd;
	int ret;

	ret = bzimage_read_header(&job->kernel, &image, err);
	if (!ret)
		ret = bzimage_check_size(&job->kernel, &image, err);
	if (!ret)
		ret = bzimage_place(job, &image, err);
	if (!ret)
		ret = boot_write_cmdline(job, hdr->cmdline_size, err);
	if (!ret)
		ret = boot_file_load(&job->kernel, job->gm, image.offset, image.size,
				     image.gpa.start, err);
	if (!ret)
		ret = boot_load_initrd(job, image.gpa, hdr->initrd_addr_max,
				       hdr->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G, &initrd, err);
	if (ret)
		return ret;
	bzimage_fill_zero_page(job, &image, initrd);
	ret = boot_write(job, BOOT_ZERO_PAGE_GPA, &image.params, sizeof(image.params), err);
	if (ret)
		return ret;
	ret_state->long_mode = true;
	ret_state->entry_gpa = image.gpa.start + ENTRY64_OFFSET;
	ret_state->info_gpa = BOOT_ZERO_PAGE_GPA;
	return 0;
}
