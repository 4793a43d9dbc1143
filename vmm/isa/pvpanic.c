/* SPDX-License-Identifier: BSD-3-Clause */
/* pvpanic: see pvpanic.h for the contract. */
#include "vmm/isa/pvpanic.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/core/bus.h"
#include "vmm/machine/platform.h"

#define PVPANIC_EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)

struct pvpanic {
	struct bus *pio;
	struct bus_region region;
	const struct isa_ops *ops;
	void *opaque;
};

static uint64_t pvpanic_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return PVPANIC_EVENTS;
}

/* Unknown bits are for later devices and mean nothing here. */
static void pvpanic_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pvpanic *pvpanic = opaque;
	uint8_t bits = (uint8_t)value & PVPANIC_EVENTS;

	(void)offset;
	(void)size;
	if (bits)
		pvpanic->ops->guest_panicked(pvpanic->opaque, bits);
}

static const struct bus_ops pvpanic_bus_ops = {pvpanic_read, pvpanic_write};

struct pvpanic *pvpanic_new(struct bus *pio, const struct isa_ops *ops, void *opaque,
			    struct err **err)
{
	struct pvpanic *pvpanic = calloc(1, sizeof(*pvpanic));

	if (!pvpanic) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pvpanic->pio = pio;
	pvpanic->ops = ops;
	pvpanic->opaque = opaque;
	pvpanic->region.name = "pvpanic";
	pvpanic->region.range = (struct range){PLATFORM_PVPANIC_PORT, 1};
	pvpanic->region.ops = &pvpanic_bus_ops;
	pvpanic->region.opaque = pvpanic;
	bus_add(pio, &pvpanic->region);
	return pvpanic;
}

void pvpanic_free(struct pvpanic *pvpanic)
{
	if (!pvpanic)
		return;
	bus_remove(pvpanic->pio, &pvpanic->region);
	free(pvpanic);
}

void pvpanic_save(struct pvpanic *pvpanic, struct pack *out)
{
	(void)pvpanic;
	(void)out;
}

int pvpanic_load(struct pvpanic *pvpanic, uint32_t version, struct unpack *in, struct err **err)
{
	(void)pvpanic;
	if (version != PVPANIC_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, PVPANIC_STATE_VERSION);
	if (!unpack_ended(in))
		return err_set(err, EINVAL, "its state is not empty, as it should be");
	return 0;
}
