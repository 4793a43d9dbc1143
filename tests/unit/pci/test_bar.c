/* SPDX-License-Identifier: BSD-3-Clause */
/* BARs: power-on addresses, mapping and moves, who learns of them. See vmm/pci/pci.h I2, I4. */
#include "fixture.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/pci/regs.h"

#define SLOT     5
#define BAR_SIZE (16 * KIB)

/* A device that notes where its BARs are, and whose BARs read as their number. */
struct subject {
	struct pci_fixture f;
	struct pci_device *dev;
	struct bar {
		uint64_t number, gpa;
		bool mapped;
		unsigned int maps, unmaps;
		uint64_t last_offset, last_value;
	} bars[PCI_BARS];
};

static void subject_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct subject *s = opaque;
	struct bar *b = &s->bars[bar];

	/* Strictly in turn, and an unmap names the address of the map. */
	assert_int_not_equal(b->mapped, mapped);
	if (!mapped)
		assert_int_equal(b->gpa, gpa);
	b->mapped = mapped;
	b->gpa = gpa;
	if (mapped)
		b->maps++;
	else
		b->unmaps++;
}

static uint64_t subject_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct bar *b = opaque;

	(void)size;
	return b->number + offset;
}

static void subject_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct bar *b = opaque;

	(void)size;
	b->last_offset = offset;
	b->last_value = value;
}

static const struct bus_ops subject_bar_ops = {.read = subject_read, .write = subject_write};
static const struct pci_device_ops subject_ops = {.bar_mapped = subject_bar_mapped};
static const struct pci_identity subject_identity = {.vendor_id = 0x1af4, .device_id = 1};

static void add_bar(struct subject *s, unsigned int bar, uint64_t size, bool is_64bit)
{
	assert_int_equal(pci_add_bar(s->dev, bar, size, is_64bit, false, "bar", &subject_bar_ops,
				     &s->bars[bar], NULL),
			 0);
	s->bars[bar].number = 0x1000000 * (bar + 1);
}

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->dev = pci_device_new(AT(s->f.host, SLOT), "subject", &subject_identity, &subject_ops, s,
				NULL);
	assert_non_null(s->dev);
	add_bar(s, 0, BAR_SIZE, false);
	add_bar(s, 1, 2 * BAR_SIZE, false);
	add_bar(s, 2, 1 * MIB, true);
	assert_int_equal(pci_host_assign(s->f.host, NULL), 0);
	pci_host_reset(s->f.host);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;
	unsigned int i;

	pci_device_free(s->dev);
	for (i = 0; i < PCI_BARS; i++) {
		assert_false(s->bars[i].mapped);
		assert_int_equal(s->bars[i].maps, s->bars[i].unmaps);
	}
	fixture_done(&s->f);
	test_free(s);
	return 0;
}

static void decoding_set(struct subject *s, bool on)
{
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, on ? PCI_COMMAND_MEMORY : 0);
}

static void test_decoding_enable(void **state)
{
	struct subject *s = *state;

	assert_false(s->bars[0].mapped);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE), UINT32_MAX);
	decoding_set(s, true);
	/* 16 KiB at the bottom, then 32 KiB at the next multiple of its size. */
	assert_int_equal(s->bars[0].gpa, WINDOW32_BASE);
	assert_int_equal(s->bars[1].gpa, WINDOW32_BASE + 2 * BAR_SIZE);
	assert_int_equal(s->bars[2].gpa, WINDOW64_BASE);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE + 0x24), 0x1000024);
	assert_int_equal(mmio_read32(&s->f, WINDOW64_BASE + 8), 0x3000008);
	mmio_write32(&s->f, WINDOW32_BASE + 2 * BAR_SIZE + 4, 77);
	assert_int_equal(s->bars[1].last_offset, 4);
	assert_int_equal(s->bars[1].last_value, 77);
	/* Nothing more happens when nothing changes. */
	decoding_set(s, true);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
	assert_int_equal(s->bars[0].maps, 1);
	decoding_set(s, false);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE), UINT32_MAX);
	assert_int_equal(s->bars[0].unmaps, 1);
}

static void test_move(void **state)
{
	struct subject *s = *state;
	uint64_t there = WINDOW32_BASE + 64 * MIB;

	decoding_set(s, true);
	ecam_write(&s->f, SLOT, PCI_BAR0, 4, (uint32_t)there);
	assert_int_equal(s->bars[0].gpa, there);
	assert_int_equal(s->bars[0].maps, 2);
	assert_int_equal(mmio_read32(&s->f, there), 0x1000000);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE), UINT32_MAX);
	/* A 64-bit BAR into the low window, by halves: each half takes effect at once. */
	ecam_write(&s->f, SLOT, PCI_BAR0 + 12, 4, 0);
	assert_false(s->bars[2].mapped);
	ecam_write(&s->f, SLOT, PCI_BAR0 + 8, 4, (uint32_t)(WINDOW32_BASE + 128 * MIB));
	assert_int_equal(s->bars[2].gpa, WINDOW32_BASE + 128 * MIB);
	/* Reset puts all back, off the bus. */
	pci_host_reset(s->f.host);
	assert_false(s->bars[0].mapped);
	assert_false(s->bars[2].mapped);
	decoding_set(s, true);
	assert_int_equal(s->bars[0].gpa, WINDOW32_BASE);
	assert_int_equal(s->bars[2].gpa, WINDOW64_BASE);
}

static void test_never_outside_windows(void **state)
{
	static const uint32_t bad[] = {
		0,                                         /* RAM */
		0x00100000,                                /* RAM */
		0xb0000000,                                /* ECAM */
		0xfee00000,                                /* interrupt controllers */
		0xffffffff,                                /* sizing while decoding */
		(uint32_t)(WINDOW32_BASE - BAR_SIZE),      /* just below */
		(uint32_t)(WINDOW32_BASE + WINDOW32_SIZE), /* just above */
	};
	static const uint64_t bad64[] = {0x100000000, 0x140000000, WINDOW64_BASE - MIB,
					 WINDOW64_BASE + WINDOW64_SIZE, UINT64_MAX};
	struct subject *s = *state;
	struct pci_device *dev;
	unsigned int i;

	decoding_set(s, true);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ecam_write(&s->f, SLOT, PCI_BAR0, 4, bad[i]);
		assert_false(s->bars[0].mapped);
		ecam_write(&s->f, SLOT, PCI_BAR0, 4,
			   (uint32_t)(WINDOW32_BASE + WINDOW32_SIZE - BAR_SIZE));
		assert_true(s->bars[0].mapped);
	}
	for (i = 0; i < ARRAY_SIZE(bad64); i++) {
		ecam_write(&s->f, SLOT, PCI_BAR0 + 8, 4, (uint32_t)bad64[i]);
		ecam_write(&s->f, SLOT, PCI_BAR0 + 12, 4, (uint32_t)(bad64[i] >> 32));
		assert_false(s->bars[2].mapped);
	}
	/* Larger than the window, it begins inside and reaches beyond. */
	dev = pci_device_new(AT(s->f.host, 9), "d", &subject_identity, &subject_ops, s, NULL);
	assert_int_equal(
		pci_add_bar(dev, 4, 2 * WINDOW32_SIZE, false, false, "b", NULL, NULL, NULL), 0);
	ecam_write(&s->f, 9, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ecam_write(&s->f, 9, PCI_BAR0 + 16, 4, (uint32_t)WINDOW32_BASE);
	assert_int_equal(ecam_read(&s->f, 9, PCI_BAR0 + 16, 4), WINDOW32_BASE);
	assert_false(s->bars[4].mapped);
	pci_device_free(dev);
	/* The bridge still answers. */
	assert_int_equal(ecam_read(&s->f, 0, 0, 4), 0x00081b36);
}

static void test_overlapping_bars(void **state)
{
	struct subject *s = *state;

	decoding_set(s, true);
	/* The larger one over the smaller one: the smaller answers, and comes out unharmed. */
	ecam_write(&s->f, SLOT, PCI_BAR0 + 4, 4, (uint32_t)WINDOW32_BASE);
	assert_true(s->bars[0].mapped && s->bars[1].mapped);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE), 0x1000000);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE + BAR_SIZE), 0x2000000 + BAR_SIZE);
	ecam_write(&s->f, SLOT, PCI_BAR0, 4, (uint32_t)WINDOW32_BASE + 8 * MIB);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE), 0x2000000);
	assert_int_equal(mmio_read32(&s->f, WINDOW32_BASE + 8 * MIB), 0x1000000);
}

static void test_assignment_order(void **state)
{
	struct subject *s = *state;
	struct pci_device *devs[3];
	unsigned int i;

	/* Made in descending order of slots; assigned ascending, behind what has addresses. */
	for (i = 0; i < 3; i++) {
		devs[i] = pci_device_new(AT(s->f.host, 12 - (int)i), "d", &subject_identity,
					 &subject_ops, s, NULL);
		assert_int_equal(
			pci_add_bar(devs[i], 0, BAR_SIZE, false, false, "b", NULL, NULL, NULL), 0);
	}
	assert_int_equal(pci_add_bar(devs[0], 4, 128 * GIB, true, true, "huge", NULL, NULL, NULL),
			 0);
	pci_host_reset(s->f.host);
	assert_int_equal(ecam_read(&s->f, 10, PCI_BAR0, 4), WINDOW32_BASE + BAR_SIZE);
	assert_int_equal(ecam_read(&s->f, 11, PCI_BAR0, 4), WINDOW32_BASE + 4 * BAR_SIZE);
	assert_int_equal(ecam_read(&s->f, 12, PCI_BAR0, 4), WINDOW32_BASE + 5 * BAR_SIZE);
	/* What fits nowhere has no address. */
	assert_int_equal(ecam_read(&s->f, 12, PCI_BAR0 + 16, 4), 0xc);
	assert_int_equal(ecam_read(&s->f, 12, PCI_BAR0 + 20, 4), 0);
	for (i = 0; i < 3; i++)
		pci_device_free(devs[i]);
}

static void test_windows_full(void **state)
{
	struct subject *s = *state;
	struct pci_device *big, *small;
	struct err *err = NULL;

	big = pci_device_new(AT(s->f.host, -1), "big", &subject_identity, &subject_ops, s, NULL);
	small = pci_device_new(AT(s->f.host, -1), "small", &subject_identity, &subject_ops, s,
			       NULL);
	assert_int_equal(pci_add_bar(big, 0, 256 * MIB, false, false, "m", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(big, 2, 64 * GIB, true, false, "m", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(small, 0, 64 * MIB, true, false, "m", NULL, NULL, NULL), 0);
	assert_true(pci_host_assign(s->f.host, &err) < 0);
	assert_string_equal(err_message(err),
			    "device 'big': BAR 0 ('m') needs 262144 KiB, and no PCI memory window "
			    "that it can use has such a gap left (262144 KiB below 4 GiB)");
	err_free(err);
	/* The others got theirs. */
	pci_host_reset(s->f.host);
	assert_int_equal(ecam_read(&s->f, 2, PCI_BAR0 + 4, 4), WINDOW64_BASE >> 32);
	pci_device_free(big);
	pci_device_free(small);
}

static void test_alignment_leaves_gaps(void **state)
{
	struct subject *s = *state;
	struct pci_device *dev;

	dev = pci_device_new(AT(s->f.host, 9), "d", &subject_identity, &subject_ops, s, NULL);
	assert_int_equal(pci_add_bar(dev, 0, 32 * GIB, true, false, "a", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(dev, 2, MIB, true, false, "b", NULL, NULL, NULL), 0);
	/* 1 MiB is taken at the bottom: 32 GiB fit in the upper half only, 1 MiB right behind. */
	pci_host_reset(s->f.host);
	assert_int_equal(ecam_read(&s->f, 9, PCI_BAR0 + 4, 4), (WINDOW64_BASE + 32 * GIB) >> 32);
	assert_int_equal(ecam_read(&s->f, 9, PCI_BAR0 + 8, 4), MIB | PCI_BAR_64BIT);
	assert_int_equal(ecam_read(&s->f, 9, PCI_BAR0 + 12, 4), WINDOW64_BASE >> 32);
	pci_device_free(dev);
}

/* Without a high window 64-bit BARs live in the low one. A host without ports, too. */
static void test_fall_back_to_low_window(void **state)
{
	struct subject *s = *state;
	struct pci_host_config config = s->f.config;
	struct pci_host *host;
	struct pci_device *dev;
	uint64_t v;

	config.mmio = bus_new();
	config.pio = NULL;
	config.window64 = config.window_io = (struct range){0, 0};
	host = pci_host_new(&config, NULL);
	assert_non_null(host);
	dev = pci_device_new(AT(host, -1), "d", &subject_identity, &subject_ops, s, NULL);
	assert_int_equal(pci_add_bar(dev, 0, MIB, true, false, "a", NULL, NULL, NULL), 0);
	assert_int_equal(pci_host_assign(host, NULL), 0);
	pci_host_reset(host);
	assert_true(bus_read(config.mmio, ECAM_BASE + (1 << 15) + PCI_BAR0, 4, &v));
	assert_int_equal(v, WINDOW32_BASE | PCI_BAR_64BIT);
	pci_device_free(dev);
	pci_host_free(host);
	bus_free(config.mmio);
}

static void test_bad_bars(void **state)
{
	static const struct {
		unsigned int bar;
		uint64_t size;
		bool is_64bit;
	} bad[] = {
		{6, BAR_SIZE, false}, {0, BAR_SIZE, false},
		{3, BAR_SIZE, false}, {5, BAR_SIZE, true},
		{1, BAR_SIZE, true},  {4, 0, false},
		{4, 2048, false},     {4, 12288, true},
		{4, 4 * GIB, false},  {UINT32_MAX, BAR_SIZE, true},
	};
	struct subject *s = *state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err *err = NULL;

		assert_true(pci_add_bar(s->dev, bad[i].bar, bad[i].size, bad[i].is_64bit, false,
					"bad", NULL, NULL, &err) < 0);
		assert_non_null(strstr(err_message(err), "device 'subject': BAR"));
		err_free(err);
	}
}

/* Random addresses and decoding: mapped exactly when the rules say so. */
static void test_random_moves(void **state)
{
	static const uint64_t sizes[] = {BAR_SIZE, 2 * BAR_SIZE, MIB};
	struct subject *s = *state;
	uint64_t seed = 42;
	unsigned int round, i;

	for (round = 0; round < 20000; round++) {
		uint64_t r = test_random(&seed);
		bool decoding;

		switch (r & 7) {
		case 0:
			decoding_set(s, r & 8);
			break;
		case 1:
			ecam_write(&s->f, SLOT, PCI_BAR0 + 12, 4,
				   r & 8 ? 0x80 + (uint32_t)(r >> 60) : 0);
			break;
		default:
			ecam_write(&s->f, SLOT, PCI_BAR0 + 4 * (unsigned int)(r >> 4 & 3), 4,
				   (uint32_t)(r >> 32) >> (r & 1) * 8 | (r & 8 ? 0xc0000000 : 0));
		}
		decoding = ecam_read(&s->f, SLOT, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
		for (i = 0; i < 3; i++) {
			uint64_t at = ecam_read(&s->f, SLOT, PCI_BAR0 + 4 * i, 4) & ~15u;
			bool low, high;

			if (i == 2)
				at |= (uint64_t)ecam_read(&s->f, SLOT, PCI_BAR0 + 12, 4) << 32;
			low = at >= WINDOW32_BASE && at + sizes[i] <= WINDOW32_BASE + WINDOW32_SIZE;
			high = at >= WINDOW64_BASE &&
			       at - WINDOW64_BASE <= WINDOW64_SIZE - sizes[i];
			assert_int_equal(s->bars[i].mapped, decoding && (low || high));
			if (s->bars[i].mapped)
				assert_int_equal(s->bars[i].gpa, at);
		}
	}
	assert_true(s->bars[0].maps > 100 && s->bars[2].maps > 100);
}

/* Two vCPUs move the same BAR while a third is inside its handlers: no deadlock, no stray access. */
struct race {
	struct subject *s;
	uint64_t seed;
	atomic_bool *stop;
};

static void *race_mover(void *opaque)
{
	struct race *r = opaque;
	unsigned int i;

	for (i = 0; i < 1000; i++)
		ecam_write(&r->s->f, SLOT, PCI_BAR0, 4,
			   (uint32_t)WINDOW32_BASE + (uint32_t)(test_random(&r->seed) & 0x1c000));
	return NULL;
}

static void *race_reader(void *opaque)
{
	struct race *r = opaque;

	while (!atomic_load(r->stop))
		mmio_read32(&r->s->f, WINDOW32_BASE + (test_random(&r->seed) & 0x1fffc));
	return NULL;
}

static void test_concurrent_moves(void **state)
{
	struct subject *s = *state;
	atomic_bool stop = false;
	struct race a = {s, 1, &stop}, b = {s, 2, &stop}, c = {s, 3, &stop};
	pthread_t mover_a, mover_b, reader;

	decoding_set(s, true);
	pthread_create(&mover_a, NULL, race_mover, &a);
	pthread_create(&mover_b, NULL, race_mover, &b);
	pthread_create(&reader, NULL, race_reader, &c);
	pthread_join(mover_a, NULL);
	pthread_join(mover_b, NULL);
	atomic_store(&stop, true);
	pthread_join(reader, NULL);
	assert_true(s->bars[0].mapped);
	assert_int_equal(mmio_read32(&s->f, s->bars[0].gpa + 4), 0x1000004);
}

/* ---- BARs of ports ---- */

static uint64_t pio_read(struct subject *s, uint64_t port, unsigned int size)
{
	uint64_t value;

	bus_read(s->f.pio, port, size, &value);
	return value;
}

static void test_ports(void **state)
{
	struct subject *s = *state;

	assert_int_equal(ecam_read(&s->f, SLOT, PCI_COMMAND, 2), 0);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_int_equal(ecam_read(&s->f, SLOT, PCI_COMMAND, 2), 0); /* it has none */
	assert_int_equal(
		pci_add_io_bar(s->dev, 4, 32, "ports", &subject_bar_ops, &s->bars[4], NULL), 0);
	s->bars[4].number = 0x40;
	pci_host_reset(s->f.host);

	assert_int_equal(ecam_read(&s->f, SLOT, PCI_BAR0 + 16, 4), PCI_IO_FIRST | PCI_BAR_IO);
	assert_int_equal(pio_read(s, PCI_IO_FIRST, 1), 0xff);
	decoding_set(s, true);
	assert_true(s->bars[0].mapped);
	assert_false(s->bars[4].mapped);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_false(s->bars[0].mapped);
	assert_true(s->bars[4].mapped);
	assert_int_equal(pio_read(s, PCI_IO_FIRST + 6, 2), 0x46);
	assert_int_equal(pio_read(s, PCI_IO_FIRST + 31, 2), 0xffff);

	/* Its size, and a move; never to where the platform's ports are. */
	ecam_write(&s->f, SLOT, PCI_BAR0 + 16, 4, UINT32_MAX);
	assert_int_equal(ecam_read(&s->f, SLOT, PCI_BAR0 + 16, 4), 0xffffffe0 | PCI_BAR_IO);
	assert_false(s->bars[4].mapped);
	ecam_write(&s->f, SLOT, PCI_BAR0 + 16, 4, 0xd00);
	assert_int_equal(pio_read(s, 0xd00 + 2, 2), 0x42);
	assert_int_equal(pio_read(s, PCI_IO_FIRST + 2, 2), 0xffff);
	ecam_write(&s->f, SLOT, PCI_BAR0 + 16, 4, 0xce0);
	assert_false(s->bars[4].mapped);
}

static void test_ports_listed(void **state)
{
	struct subject *s = *state;
	struct pci_bar_info info;

	assert_int_equal(pci_add_io_bar(s->dev, 4, 32, "ports", NULL, NULL, NULL), 0);
	pci_host_reset(s->f.host);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_true(pci_device_bar(s->dev, 4, &info));
	assert_true(info.is_io && info.mapped && !info.is_64bit && !info.prefetchable);
	assert_int_equal(info.gpa.start, PCI_IO_FIRST);
	assert_int_equal(info.gpa.size, 32);
	assert_true(pci_device_bar(s->dev, 0, &info) && !info.is_io);
}

static void test_ports_run_out(void **state)
{
	struct subject *s = *state;
	struct pci_device *devs[5];
	struct err *err = NULL;

	for (unsigned int i = 0; i < 5; i++) {
		devs[i] = pci_device_new(AT(s->f.host, (int)(8 + i)), "p", &subject_identity,
					 &subject_ops, s, NULL);
		assert_int_equal(pci_add_io_bar(devs[i], 5, 256, "ports", NULL, NULL, NULL), 0);
	}
	assert_int_equal(pci_host_assign(s->f.host, &err), -ENOSPC);
	assert_string_equal(err_message(err),
			    "device 'p': BAR 5 ('ports') needs 256 ports, and none are left");
	err_free(err);
	pci_host_reset(s->f.host);
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(ecam_read(&s->f, 8 + i, PCI_BAR0 + 20, 4),
				 i < 4 ? PCI_IO_FIRST + 256 * i + 1 : 1);
		pci_device_free(devs[i]);
	}
}

static void test_bad_ports(void **state)
{
	static const uint64_t sizes[] = {0, 2, 33, 512};
	struct subject *s = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(pci_add_io_bar(s->dev, 4, sizes[i], "x", NULL, NULL, NULL),
				 -EINVAL);
	assert_int_equal(pci_add_io_bar(s->dev, 0, 32, "x", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(pci_add_io_bar(s->dev, 3, 32, "x", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(pci_add_io_bar(s->dev, 6, 32, "x", NULL, NULL, NULL), -EINVAL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_decoding_enable),
		T(test_move),
		T(test_never_outside_windows),
		T(test_overlapping_bars),
		T(test_assignment_order),
		T(test_windows_full),
		T(test_alignment_leaves_gaps),
		T(test_fall_back_to_low_window),
		T(test_bad_bars),
		T(test_random_moves),
		T(test_concurrent_moves),
		T(test_ports),
		T(test_ports_listed),
		T(test_ports_run_out),
		T(test_bad_ports),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
