/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reset, power and power button: see power.h for the contract.
 *
 * The requests go out with no lock held; only the GED's status needs one.
 */
#include "vmm/isa/power.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"
#include "vmm/machine/platform.h"

#define POWER_RESET_CPU 0x04 /* reset register: reset now */

/* all there are */
#define POWER_EVENTS (PLATFORM_GED_EVENT_POWER_BUTTON | PLATFORM_GED_EVENT_PCI_SLOTS)

#define POWER_KBD_DATA_PORT    0x60
#define POWER_KBD_COMMAND_PORT 0x64
#define POWER_KBD_STATUS       0x01 /* output buffer full, input buffer empty */
#define POWER_KBD_PULSE_RESET  0xFE

enum {
	POWER_RESET,
	POWER_SLEEP_CONTROL,
	POWER_SLEEP_STATUS,
	POWER_GED,
	POWER_KBD_DATA,
	POWER_KBD_COMMAND,
	POWER_REGIONS
};

struct power {
	struct hv *hv;
	struct bus *pio;
	const struct isa_ops *ops;
	void *opaque;
	struct bus_region region[POWER_REGIONS];
	pthread_mutex_t lock;
	uint8_t ged_status; /* guarded by lock */
};

static uint64_t power_zero_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return 0;
}

static void power_ignore_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)opaque;
	(void)offset;
	(void)size;
	(void)value;
}

static void power_reset_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct power *power = opaque;

	(void)offset;
	(void)size;
	if (value & POWER_RESET_CPU)
		power->ops->request_reset(power->opaque, ISA_RESET_CF9);
}

static void power_sleep_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct power *power = opaque;
	uint64_t type = (value >> PLATFORM_SLEEP_TYPE_SHIFT) & PLATFORM_SLEEP_TYPE_MASK;

	(void)offset;
	(void)size;
	if ((value & PLATFORM_SLEEP_ENABLE) && type == PLATFORM_SLEEP_TYPE_S5)
		power->ops->request_shutdown(power->opaque);
}

static uint64_t power_ged_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct power *power = opaque;
	uint8_t status;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&power->lock);
	status = power->ged_status;
	power->ged_status = 0;
	pthread_mutex_unlock(&power->lock);
	return status;
}

static uint64_t power_kbd_status_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return POWER_KBD_STATUS;
}

static void power_kbd_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct power *power = opaque;

	(void)offset;
	(void)size;
	if ((uint8_t)value == POWER_KBD_PULSE_RESET)
		power->ops->request_reset(power->opaque, ISA_RESET_I8042);
}

static const struct bus_ops power_reset_ops = {power_zero_read, power_reset_write};
static const struct bus_ops power_sleep_ops = {power_zero_read, power_sleep_write};
static const struct bus_ops power_none_ops = {power_zero_read, power_ignore_write};
static const struct bus_ops power_ged_ops = {power_ged_read, power_ignore_write};
static const struct bus_ops power_kbd_ops = {power_kbd_status_read, power_kbd_write};

static const struct {
	const char *name;
	uint16_t port;
	const struct bus_ops *ops;
} power_regions[POWER_REGIONS] = {
	[POWER_RESET] = {"reset", PLATFORM_RESET_PORT, &power_reset_ops},
	[POWER_SLEEP_CONTROL] = {"sleep-control", PLATFORM_SLEEP_CONTROL_PORT, &power_sleep_ops},
	[POWER_SLEEP_STATUS] = {"sleep-status", PLATFORM_SLEEP_STATUS_PORT, &power_none_ops},
	[POWER_GED] = {"ged", PLATFORM_GED_PORT, &power_ged_ops},
	[POWER_KBD_DATA] = {"keyboard-data", POWER_KBD_DATA_PORT, &power_none_ops},
	[POWER_KBD_COMMAND] = {"keyboard-command", POWER_KBD_COMMAND_PORT, &power_kbd_ops},
};

struct power *power_new(struct hv *hv, struct bus *pio, const struct isa_ops *ops, void *opaque,
			struct err **err)
{
	struct power *power = calloc(1, sizeof(*power));
	int i;

	if (!power) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	power->hv = hv;
	power->pio = pio;
	power->ops = ops;
	power->opaque = opaque;
	pthread_mutex_init(&power->lock, NULL);
	for (i = 0; i < POWER_REGIONS; i++) {
		power->region[i].name = power_regions[i].name;
		power->region[i].range = (struct range){power_regions[i].port, 1};
		power->region[i].ops = power_regions[i].ops;
		power->region[i].opaque = power;
		bus_add(pio, &power->region[i]);
	}
	return power;
}

void power_free(struct power *power)
{
	int i;

	if (!power)
		return;
	for (i = 0; i < POWER_REGIONS; i++)
		bus_remove(power->pio, &power->region[i]);
	pthread_mutex_destroy(&power->lock);
	free(power);
}

void power_reset(struct power *power)
{
	pthread_mutex_lock(&power->lock);
	power->ged_status = 0;
	pthread_mutex_unlock(&power->lock);
}

void power_notify(struct power *power, uint8_t bits)
{
	pthread_mutex_lock(&power->lock);
	power->ged_status |= bits;
	hv_line_set(power->hv, PLATFORM_GED_GSI, true);
	hv_line_set(power->hv, PLATFORM_GED_GSI, false);
	pthread_mutex_unlock(&power->lock);
}

void power_save(struct power *power, struct pack *out)
{
	pthread_mutex_lock(&power->lock);
	pack_u8(out, power->ged_status);
	pthread_mutex_unlock(&power->lock);
}

int power_load(struct power *power, uint32_t version, struct unpack *in, struct err **err)
{
	uint8_t status = unpack_u8(in);

	if (version != POWER_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, POWER_STATE_VERSION);
	if (!unpack_ended(in) || (status & ~POWER_EVENTS))
		return err_set(err, EINVAL, "the events that the guest was told of cannot be");
	pthread_mutex_lock(&power->lock);
	power->ged_status = status;
	pthread_mutex_unlock(&power->lock);
	return 0;
}
