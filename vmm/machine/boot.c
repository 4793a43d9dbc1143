/* SPDX-License-Identifier: BSD-3-Clause */
/* Direct boot, the part that both kernel formats share: see boot.h for the contract. */
#include "vmm/machine/boot.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/machine/boot_int.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/platform.h"

#define PAGE_SIZE    4096
#define PAGE_ENTRIES 512
#define PTE_TABLE    0x03 /* present, writable */
#define PTE_LARGE    0x83 /* and a 2 MiB page */

#define CR0_PE   (UINT64_C(1) << 0)
#define CR0_ET   (UINT64_C(1) << 4)
#define CR0_NE   (UINT64_C(1) << 5)
#define CR0_PG   (UINT64_C(1) << 31)
#define CR4_PAE  (UINT64_C(1) << 5)
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)

#define RFLAGS_ALWAYS 0x2

/* Selectors 0x10 and 0x18 are what the 64-bit boot protocol asks for. */
#define GDT_CODE    2
#define GDT_DATA    3
#define GDT_TSS     4
#define GDT_ENTRIES 5

#define DESC_CODE64 UINT64_C(0x00AF9B000000FFFF)
#define DESC_CODE32 UINT64_C(0x00CF9B000000FFFF)
#define DESC_DATA   UINT64_C(0x00CF93000000FFFF)
#define DESC_TSS    UINT64_C(0x00008B0000000067)

static void boot_gdt(bool long_mode, uint64_t gdt[GDT_ENTRIES])
{
	memset(gdt, 0, GDT_ENTRIES * sizeof(*gdt));
	gdt[GDT_CODE] = long_mode ? DESC_CODE64 : DESC_CODE32;
	gdt[GDT_DATA] = DESC_DATA;
	gdt[GDT_TSS] = DESC_TSS;
}

/* The segment register that loading selector @index from the GDT would give. */
static struct kvm_segment boot_segment(const uint64_t gdt[GDT_ENTRIES], unsigned int index)
{
	uint64_t d = gdt[index];
	uint32_t limit = (uint32_t)((d & 0xFFFF) | (d >> 32 & 0xF0000));
	struct kvm_segment s = {
		.base = (d >> 16 & 0xFFFFFF) | (d >> 32 & 0xFF000000),
		.selector = (uint16_t)(index * sizeof(uint64_t)),
		.type = d >> 40 & 0xF,
		.s = d >> 44 & 1,
		.dpl = d >> 45 & 3,
		.present = d >> 47 & 1,
		.avl = d >> 52 & 1,
		.l = d >> 53 & 1,
		.db = d >> 54 & 1,
		.g = d >> 55 & 1,
	};

	s.limit = s.g ? limit << 12 | 0xFFF : limit;
	return s;
}

void boot_cpu_apply(const struct boot_cpu_state *state, struct kvm_regs *regs,
		    struct kvm_sregs *sregs)
{
	uint64_t gdt[GDT_ENTRIES];
	struct kvm_segment data;

	*regs = (struct kvm_regs){
		.rip = state->entry_gpa,
		.rsp = state->stack_gpa,
		.rflags = RFLAGS_ALWAYS,
	};
	if (state->long_mode)
		regs->rsi = state->info_gpa;
	else
		regs->rbx = state->info_gpa;

	boot_gdt(state->long_mode, gdt);
	data = boot_segment(gdt, GDT_DATA);
	sregs->cs = boot_segment(gdt, GDT_CODE);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = boot_segment(gdt, GDT_TSS);
	sregs->ldt = (struct kvm_segment){.type = 2, .unusable = 1};
	sregs->gdt = (struct kvm_dtable){.base = state->gdt_gpa, .limit = sizeof(gdt) - 1};
	sregs->idt = (struct kvm_dtable){0};

	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr2 = sregs->cr3 = sregs->cr4 = sregs->cr8 = 0;
	sregs->efer = 0;
	if (state->long_mode) {
		sregs->cr0 |= CR0_NE | CR0_PG;
		sregs->cr3 = state->pml4_gpa;
		sregs->cr4 = CR4_PAE;
		sregs->efer = EFER_LME | EFER_LMA;
	}
}

static int boot_file_open(struct boot_file *file, const char *option, int fd, const char *path,
			  struct err **err)
{
	struct stat st;

	*file = (struct boot_file){.fd = fd, .option = option, .path = path};
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "%s '%s': %s", option, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s '%s' is not a regular file", option, path);
	if (!st.st_size)
		return err_set(err, EINVAL, "%s '%s' is an empty file", option, path);
	file->size = (uint64_t)st.st_size;
	return 0;
}

struct boot_read {
	int fd;
	uint64_t offset;
};

/* gm_access() callback. -ENODATA at the end of the file. */
static int boot_read_piece(void *opaque, void *host, size_t size)
{
	struct boot_read *job = opaque;
	char *to = host;

	while (size) {
		ssize_t n = pread(job->fd, to, size, (off_t)job->offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		job->offset += (uint64_t)n;
		to += n;
		size -= (size_t)n;
	}
	return 0;
}

static int boot_file_failed(const struct boot_file *file, int ret, struct err **err)
{
	if (ret == -ENODATA)
		return err_set(err, EINVAL, "%s '%s' became shorter while it was read",
			       file->option, file->path);
	if (ret == -EFAULT)
		return err_set(err, EFAULT,
			       "%s '%s' cannot be loaded: the host has not all of the boot memory",
			       file->option, file->path);
	return err_set(err, -ret, "%s '%s' cannot be read: %s", file->option, file->path,
		       strerror(-ret));
}

int boot_file_read(const struct boot_file *file, uint64_t offset, void *buf, size_t size,
		   struct err **err)
{
	struct boot_read job = {.fd = file->fd, .offset = offset};
	int ret = boot_read_piece(&job, buf, size);

	return ret ? boot_file_failed(file, ret, err) : 0;
}

int boot_file_load(const struct boot_file *file, struct gm *gm, uint64_t offset, uint64_t size,
		   uint64_t gpa, struct err **err)
{
	struct boot_read job = {.fd = file->fd, .offset = offset};
	int ret = gm_access(gm, gpa, size, boot_read_piece, &job);

	return ret ? boot_file_failed(file, ret, err) : 0;
}

int boot_write(const struct boot_job *job, uint64_t gpa, const void *buf, size_t size,
	       struct err **err)
{
	int ret = gm_write(job->gm, gpa, buf, size);

	if (ret)
		return err_set(err, -ret,
			       "-m: there is no boot memory for the boot information at 0x%" PRIx64,
			       gpa);
	return 0;
}

int boot_write_cmdline(const struct boot_job *job, uint64_t max_chars, struct err **err)
{
	const char *cmdline = job->config->cmdline ? job->config->cmdline : "";
	size_t len = strlen(cmdline);

	max_chars = num_min(max_chars, BOOT_CMDLINE_MAX);
	if (len > max_chars)
		return err_set(err, EINVAL,
			       "-append: the command line has %zu characters; the kernel '%s' "
			       "takes at most %" PRIu64,
			       len, job->kernel.path, max_chars);
	return boot_write(job, BOOT_CMDLINE_GPA, cmdline, len + 1, err);
}

/* Highest page-aligned place for @size bytes in [BOOT_KERNEL_MIN, end) outside @kernel; 0: none. */
static uint64_t boot_place_below(uint64_t end, uint64_t size, struct range kernel)
{
	struct range gpa;

	if (end < BOOT_KERNEL_MIN || size > end - BOOT_KERNEL_MIN)
		return 0;
	gpa = (struct range){num_align_down(end - size, PAGE_SIZE), size};
	if (!range_overlaps(gpa, kernel))
		return gpa.start;
	if (kernel.start < BOOT_KERNEL_MIN || size > kernel.start - BOOT_KERNEL_MIN)
		return 0;
	return num_align_down(kernel.start - size, PAGE_SIZE);
}

static uint64_t boot_place_initrd(const struct machine_layout *layout, uint64_t size,
				  struct range kernel, uint64_t max_gpa, bool above_4g)
{
	uint64_t low_end = range_end(layout->low_ram);
	uint64_t gpa = boot_place_below(max_gpa < low_end ? max_gpa + 1 : low_end, size, kernel);

	if (!gpa)
		gpa = boot_place_below(low_end, size, kernel);
	if (!gpa && above_4g && size <= layout->high_ram.size)
		gpa = num_align_down(range_end(layout->high_ram) - size, PAGE_SIZE);
	return gpa;
}

int boot_load_initrd(const struct boot_job *job, struct range kernel, uint64_t max_gpa,
		     bool above_4g, struct range *ret_gpa, struct err **err)
{
	const struct boot_file *file = &job->initrd;
	const struct machine_layout *layout = job->config->layout;
	uint64_t gpa;
	int ret;

	*ret_gpa = (struct range){0, 0};
	if (file->fd < 0)
		return 0;
	gpa = boot_place_initrd(layout, file->size, kernel, max_gpa, above_4g);
	if (!gpa)
		return err_set(err, EFBIG,
			       "-initrd '%s' has %" PRIu64
			       " bytes and does not fit beside the kernel into %" PRIu64
			       " MiB of boot memory%s",
			       file->path, file->size, layout->ram_bytes / MIB,
			       layout->high_ram.size ? " where this kernel could read it" : "");
	ret = boot_file_load(file, job->gm, 0, file->size, gpa, err);
	if (!ret)
		*ret_gpa = (struct range){gpa, file->size};
	return ret;
}

size_t boot_map_build(const struct machine_layout *layout, struct boot_map_entry *ret_entries)
{
	const struct boot_map_entry entries[] = {
		{{0, BOOT_EBDA_GPA}, BOOT_MAP_RAM},
		{{BOOT_EBDA_GPA, BOOT_VGA_GPA - BOOT_EBDA_GPA}, BOOT_MAP_RESERVED},
		{{BOOT_ACPI_BASE, BOOT_KERNEL_MIN - BOOT_ACPI_BASE}, BOOT_MAP_RESERVED},
		{{BOOT_KERNEL_MIN, range_end(layout->low_ram) - BOOT_KERNEL_MIN}, BOOT_MAP_RAM},
		{layout->ecam, BOOT_MAP_RESERVED},
		{{PLATFORM_KVM_IDENTITY_BASE,
		  PLATFORM_KVM_TSS_BASE + 3 * PAGE_SIZE - PLATFORM_KVM_IDENTITY_BASE},
		 BOOT_MAP_RESERVED},
		{layout->high_ram, BOOT_MAP_RAM},
	};
	size_t i, nr = 0;

	_Static_assert(ARRAY_SIZE(entries) <= BOOT_MAP_MAX, "the map has room");
	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		if (entries[i].gpa.size)
			ret_entries[nr++] = entries[i];
	}
	return nr;
}

/* The first 4 GiB at their own addresses: one PML4 entry, four directories of 2 MiB pages. */
static int boot_write_page_tables(const struct boot_job *job, struct err **err)
{
	const uint64_t pdpt = BOOT_PML4_GPA + PAGE_SIZE, pd = pdpt + PAGE_SIZE;
	uint64_t table[PAGE_ENTRIES] = {0};
	unsigned int i, j;
	int ret;

	_Static_assert(BOOT_PML4_GPA + 6 * PAGE_SIZE == BOOT_PAGE_TABLES_END, "six pages");
	_Static_assert(BOOT_PAGE_TABLES_END <= BOOT_CMDLINE_GPA, "below the command line");
	_Static_assert(BOOT_CMDLINE_GPA + BOOT_CMDLINE_MAX < BOOT_EBDA_GPA, "below the EBDA");
	table[0] = htole64(pdpt | PTE_TABLE);
	ret = boot_write(job, BOOT_PML4_GPA, table, sizeof(table), err);
	for (i = 0; i < 4; i++)
		table[i] = htole64((pd + i * PAGE_SIZE) | PTE_TABLE);
	if (!ret)
		ret = boot_write(job, pdpt, table, sizeof(table), err);
	for (i = 0; !ret && i < 4; i++) {
		for (j = 0; j < PAGE_ENTRIES; j++)
			table[j] = htole64((i * GIB + j * 2 * MIB) | PTE_LARGE);
		ret = boot_write(job, pd + i * PAGE_SIZE, table, sizeof(table), err);
	}
	return ret;
}

static int boot_write_cpu_tables(const struct boot_job *job, const struct boot_cpu_state *state,
				 struct err **err)
{
	uint64_t gdt[GDT_ENTRIES];
	unsigned int i;
	int ret;

	boot_gdt(state->long_mode, gdt);
	for (i = 0; i < GDT_ENTRIES; i++)
		gdt[i] = htole64(gdt[i]);
	ret = boot_write(job, BOOT_GDT_GPA, gdt, sizeof(gdt), err);
	if (!ret && state->long_mode)
		ret = boot_write_page_tables(job, err);
	return ret;
}

/*
 * Real-mode code at the reset vector: reset by the register that the FADT names, then wait.
 * mov dx, port; mov al, value; out dx, al; hlt; jmp to the hlt
 */
static int boot_write_reset_vector(const struct boot_job *job, struct err **err)
{
	static const uint8_t code[] = {0xBA,
				       PLATFORM_RESET_PORT & 0xFF,
				       PLATFORM_RESET_PORT >> 8,
				       0xB0,
				       PLATFORM_RESET_VALUE,
				       0xEE,
				       0xF4,
				       0xEB,
				       0xFD};

	_Static_assert(BOOT_ACPI_BASE + BOOT_ACPI_SIZE <= BOOT_SMBIOS_BASE, "behind ACPI");
	_Static_assert(BOOT_SMBIOS_BASE + BOOT_SMBIOS_SIZE <= BOOT_RESET_VECTOR_GPA, "behind both");
	_Static_assert(BOOT_RESET_VECTOR_GPA + sizeof(code) <= BOOT_KERNEL_MIN, "below 1 MiB");
	return boot_write(job, BOOT_RESET_VECTOR_GPA, code, sizeof(code), err);
}

int boot_load(struct gm *gm, const struct boot_config *config, struct boot_cpu_state *ret_state,
	      struct err **err)
{
	struct boot_job job = {.gm = gm, .config = config, .initrd.fd = -1};
	struct boot_cpu_state state = {.stack_gpa = BOOT_STACK_GPA, .gdt_gpa = BOOT_GDT_GPA};
	uint8_t magic[SELFMAG];
	int ret;

	ret = boot_file_open(&job.kernel, "-kernel", config->kernel_fd, config->kernel_path, err);
	if (!ret && config->initrd_fd >= 0)
		ret = boot_file_open(&job.initrd, "-initrd", config->initrd_fd, config->initrd_path,
				     err);
	if (ret)
		return ret;
	if (job.kernel.size < sizeof(magic))
		return err_set(err, EINVAL, "-kernel '%s' is too short for a kernel",
			       config->kernel_path);
	ret = boot_file_read(&job.kernel, 0, magic, sizeof(magic), err);
	if (ret)
		return ret;
	if (!memcmp(magic, ELFMAG, SELFMAG))
		ret = boot_load_pvh(&job, &state, err);
	else
		ret = boot_load_bzimage(&job, &state, err);
	if (ret)
		return ret;
	state.pml4_gpa = state.long_mode ? BOOT_PML4_GPA : 0;
	ret = boot_write_cpu_tables(&job, &state, err);
	if (!ret)
		ret = boot_write_reset_vector(&job, err);
	if (!ret)
		*ret_state = state;
	return ret;
}
