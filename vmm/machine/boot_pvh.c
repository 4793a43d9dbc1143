/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ELF vmlinux with a PVH entry point (Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h;
 * System V ABI for the ELF part).
 *
 * Segments are loaded at their physical addresses; the note XEN_ELFNOTE_PHYS32_ENTRY names the
 * address at which 32-bit protected mode without paging starts, with EBX pointing at the start
 * information.
 *
 * I1  Every loadable segment lies in RAM below 4 GiB and at or above BOOT_KERNEL_MIN, and the entry
 *     point is inside one of them.
 *
 * Threads: none. The file is not trusted.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/machine/boot_int.h"
#include "vmm/machine/layout.h"

#define SEGMENTS_MAX 128u
#define NOTES_MAX    (64 * KIB)

#define NOTE_NAME         "Xen" /* 4 bytes with its zero */
#define NOTE_PHYS32_ENTRY 18

/* What Linux keeps of it (COMMAND_LINE_SIZE on x86, less the zero). */
#define PVH_CMDLINE_MAX 2047

#define PVH_MAGIC   0x336EC578
#define PVH_VERSION 1

struct pvh_start_info {
	le32 magic, version, flags, nr_modules;
	le64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	le32 memmap_entries, reserved;
};

struct pvh_module {
	le64 paddr, size, cmdline_paddr, reserved;
};

struct pvh_memmap_entry {
	le64 addr, size;
	le32 type, reserved;
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "wire size");
_Static_assert(sizeof(struct pvh_module) == 32, "wire size");
_Static_assert(sizeof(struct pvh_memmap_entry) == 24, "wire size");
_Static_assert(BOOT_PVH_INFO_GPA + 56 <= BOOT_PVH_MODULES_GPA, "start info fits");
_Static_assert(BOOT_PVH_MODULES_GPA + 32 <= BOOT_PVH_MEMMAP_GPA, "module list fits");

struct pvh_kernel {
	Elf64_Phdr segments[SEGMENTS_MAX];
	unsigned int nr_segments;
	uint64_t entry_gpa;
	struct range gpa; /* from the first to the last byte of all segments */
};

static int pvh_broken(const struct boot_file *file, const char *what, struct err **err)
{
	return err_set(err, EINVAL, "-kernel '%s' is a broken or cut off ELF file: %s", file->path,
		       what);
}

static bool pvh_in_file(const struct boot_file *file, uint64_t offset, uint64_t size)
{
	return !size || range_contains((struct range){0, file->size}, (struct range){offset, size});
}

static int pvh_read_headers(const struct boot_file *file, struct pvh_kernel *kernel,
			    struct err **err)
{
	Elf64_Ehdr ehdr;
	int ret;

	if (file->size < sizeof(ehdr))
		return pvh_broken(file, "it ends inside the ELF header", err);
	ret = boot_file_read(file, 0, &ehdr, sizeof(ehdr), err);
	if (ret)
		return ret;
	if (ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr.e_machine != EM_X86_64)
		return err_set(err, EINVAL, "-kernel '%s' is an ELF file, but not one for x86-64",
			       file->path);
	if (ehdr.e_phentsize != sizeof(Elf64_Phdr) || !ehdr.e_phnum || ehdr.e_phnum > SEGMENTS_MAX)
		return pvh_broken(file, "it has no program headers, or too many", err);
	kernel->nr_segments = ehdr.e_phnum;
	if (!pvh_in_file(file, ehdr.e_phoff, ehdr.e_phnum * sizeof(Elf64_Phdr)))
		return pvh_broken(file, "its program headers are outside the file", err);
	return boot_file_read(file, ehdr.e_phoff, kernel->segments,
			      ehdr.e_phnum * sizeof(Elf64_Phdr), err);
}

/* Look for the entry note in one PT_NOTE segment; *ret_found tells. */
static int pvh_read_notes(const struct boot_file *file, const Elf64_Phdr *segment,
			  uint64_t *ret_entry, bool *ret_found, struct err **err)
{
	uint64_t align = segment->p_align == 8 ? 8 : 4;
	uint64_t pos = 0, end = segment->p_filesz;
	int ret;

	if (end > NOTES_MAX || !pvh_in_file(file, segment->p_offset, end))
		return pvh_broken(file, "its notes are outside the file or too long", err);
	while (end - pos >= sizeof(Elf64_Nhdr)) {
		struct {
			Elf64_Nhdr hdr;
			char name[sizeof(NOTE_NAME)];
		} note = {0};
		uint8_t desc[8] = {0};
		uint64_t desc_pos, next;

		ret = boot_file_read(file, segment->p_offset + pos, &note.hdr, sizeof(note.hdr),
				     err);
		if (ret)
			return ret;
		/* None of these can wrap: the lengths have 32 bits, pos at most NOTES_MAX. */
		desc_pos = num_align_down(pos + sizeof(note.hdr) + note.hdr.n_namesz + align - 1,
					  align);
		next = num_align_down(desc_pos + note.hdr.n_descsz + align - 1, align);
		if (desc_pos + note.hdr.n_descsz > end)
			return pvh_broken(file, "a note is longer than its segment", err);
		if (note.hdr.n_type == NOTE_PHYS32_ENTRY &&
		    note.hdr.n_namesz == sizeof(note.name) &&
		    (note.hdr.n_descsz == 4 || note.hdr.n_descsz == 8)) {
			ret = boot_file_read(file, segment->p_offset + pos + sizeof(note.hdr),
					     note.name, sizeof(note.name), err);
			if (!ret)
				ret = boot_file_read(file, segment->p_offset + desc_pos, desc,
						     note.hdr.n_descsz, err);
			if (ret)
				return ret;
			if (!memcmp(note.name, NOTE_NAME, sizeof(note.name))) {
				*ret_entry = bytes_get_le(desc, sizeof(desc));
				*ret_found = true;
				return 0;
			}
		}
		pos = num_min(next, end);
	}
	return 0;
}

static int pvh_find_entry(const struct boot_file *file, struct pvh_kernel *kernel, struct err **err)
{
	bool found = false;
	unsigned int i;
	int ret;

	for (i = 0; i < kernel->nr_segments && !found; i++) {
		if (kernel->segments[i].p_type != PT_NOTE)
			continue;
		ret = pvh_read_notes(file, &kernel->segments[i], &kernel->entry_gpa, &found, err);
		if (ret)
			return ret;
	}
	if (!found)
		return err_set(err, EINVAL,
			       "-kernel '%s' is an ELF file without a PVH entry note; give a "
			       "bzImage, or a vmlinux built with CONFIG_PVH",
			       file->path);
	return 0;
}

/* Check every segment before any is loaded (I1) and measure the whole. */
static int pvh_check_segments(const struct boot_job *job, struct pvh_kernel *kernel,
			      struct err **err)
{
	const struct boot_file *file = &job->kernel;
	struct range ram = job->config->layout->low_ram;
	uint64_t start = UINT64_MAX, end = 0;
	bool entry_found = false;
	unsigned int i;

	ram = (struct range){BOOT_KERNEL_MIN, range_end(ram) - BOOT_KERNEL_MIN};
	for (i = 0; i < kernel->nr_segments; i++) {
		const Elf64_Phdr *segment = &kernel->segments[i];
		struct range gpa = {segment->p_paddr, segment->p_memsz};

		if (segment->p_type != PT_LOAD || !segment->p_memsz)
			continue;
		if (segment->p_filesz > segment->p_memsz ||
		    !pvh_in_file(file, segment->p_offset, segment->p_filesz))
			return pvh_broken(file, "a segment is outside the file", err);
		if (!range_contains(ram, gpa))
			return err_set(err, EFBIG,
				       "-kernel '%s' has a segment of %" PRIu64 " KiB at 0x%" PRIx64
				       "; boot memory for kernels is from 0x%" PRIx64
				       " to 0x%" PRIx64,
				       file->path, gpa.size / KIB, gpa.start, ram.start,
				       range_end(ram) - 1);
		entry_found = entry_found || range_has(gpa, kernel->entry_gpa);
		start = num_min(start, gpa.start);
		end = num_max(end, range_end(gpa));
	}
	if (!entry_found)
		return pvh_broken(file, "the PVH entry point is outside its segments", err);
	kernel->gpa = (struct range){start, end - start};
	return 0;
}

static int pvh_load_segments(const struct boot_job *job, const struct pvh_kernel *kernel,
			     struct err **err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < kernel->nr_segments && !ret; i++) {
		const Elf64_Phdr *segment = &kernel->segments[i];

		if (segment->p_type != PT_LOAD || !segment->p_memsz)
			continue;
		ret = boot_file_load(&job->kernel, job->gm, segment->p_offset, segment->p_filesz,
				     segment->p_paddr, err);
		if (!ret && gm_fill(job->gm, segment->p_paddr + segment->p_filesz, 0,
				    segment->p_memsz - segment->p_filesz))
			ret = err_set(err, EFAULT, "-kernel '%s' does not fit into boot memory",
				      job->kernel.path);
	}
	return ret;
}

static int pvh_write_info(const struct boot_job *job, struct range initrd, struct err **err)
{
	struct boot_map_entry map[BOOT_MAP_MAX];
	struct pvh_memmap_entry memmap[BOOT_MAP_MAX];
	uint32_t i, nr = (uint32_t)boot_map_build(job->config->layout, map);
	struct pvh_module module = {
		.paddr = le64_make(initrd.start),
		.size = le64_make(initrd.size),
	};
	struct pvh_start_info info = {
		.magic = le32_make(PVH_MAGIC),
		.version = le32_make(PVH_VERSION),
		.nr_modules = le32_make(initrd.size ? 1 : 0),
		.modlist_paddr = le64_make(initrd.size ? BOOT_PVH_MODULES_GPA : 0),
		.cmdline_paddr = le64_make(BOOT_CMDLINE_GPA),
		.rsdp_paddr = le64_make(job->config->acpi_rsdp_gpa),
		.memmap_paddr = le64_make(BOOT_PVH_MEMMAP_GPA),
		.memmap_entries = le32_make(nr),
	};
	int ret;

	_Static_assert(BOOT_PVH_MEMMAP_GPA + sizeof(memmap) <= BOOT_ZERO_PAGE_GPA, "memmap fits");
	for (i = 0; i < nr; i++)
		memmap[i] = (struct pvh_memmap_entry){
			.addr = le64_make(map[i].gpa.start),
			.size = le64_make(map[i].gpa.size),
			.type = le32_make(map[i].type),
		};
	ret = boot_write(job, BOOT_PVH_INFO_GPA, &info, sizeof(info), err);
	if (!ret)
		ret = boot_write(job, BOOT_PVH_MODULES_GPA, &module, sizeof(module), err);
	if (!ret)
		ret = boot_write(job, BOOT_PVH_MEMMAP_GPA, memmap, nr * sizeof(memmap[0]), err);
	return ret;
}

int boot_load_pvh(const struct boot_job *job, struct boot_cpu_state *ret_state, struct err **err)
{
	struct pvh_kernel kernel = {0};
	struct range initrd;
	int ret;

	ret = pvh_read_headers(&job->kernel, &kernel, err);
	if (!ret)
		ret = pvh_find_entry(&job->kernel, &kernel, err);
	if (!ret)
		ret = pvh_check_segments(job, &kernel, err);
	if (!ret)
		ret = boot_write_cmdline(job, PVH_CMDLINE_MAX, err);
	if (!ret)
		ret = pvh_load_segments(job, &kernel, err);
	/* Linux keeps 32 bits of a module's address. */
	if (!ret)
		ret = boot_load_initrd(job, kernel.gpa, UINT32_MAX, false, &initrd, err);
	if (!ret)
		ret = pvh_write_info(job, initrd, err);
	if (ret)
		return ret;
	ret_state->long_mode = false;
	ret_state->entry_gpa = kernel.entry_gpa;
	ret_state->info_gpa = BOOT_PVH_INFO_GPA;
	return 0;
}
