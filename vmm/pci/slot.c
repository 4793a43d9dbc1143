/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The slot of a root port, with attention button, power controller and two indicators: PCI Express
 * 5.0, 6.7 "PCI Express Hot-Plug Support", 7.5.3.9 to 7.5.3.11 "Slot Capabilities, Control,
 * Status".
 *
 * I1  Presence Detect State is port->plugged. Each change of it, of the link's state, each press of
 *     the button and each completed command sets its event bit, which the guest clears.
 * I2  port->interrupting is: the interrupt is enabled, and so is an event that is set. While it is,
 *     the wired interrupt is asserted; when it becomes so, a message is sent (6.7.3.4).
 * I3  What is plugged leaves the slot when the guest has switched the slot's power off and its
 *     power indicator as well: with the power alone it may come back. A guest that writes both once
 *     more where they are off already ejects nothing: it has not looked at the slot before.
 * I4  A slot without hot-plug is always powered, and no event of it is enabled.
 *
 * Threads: host->lock is held.
 * The guest controls: Slot Control and the events in Slot Status.
 */
#include "vmm/pci/internal.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/err.h"

#define PCI_SLOT_OFF (PCI_SLOT_POWER_OFF | PCI_SLOT_INDICATOR_OFF)

/* Each event and its enable. */
static const struct {
	uint16_t status, enable;
} pci_slot_events[] = {
	{PCI_SLOT_STATUS_BUTTON, PCI_SLOT_ENABLE_BUTTON},
	{PCI_SLOT_STATUS_PRESENCE, PCI_SLOT_ENABLE_PRESENCE},
	{PCI_SLOT_STATUS_COMMAND, PCI_SLOT_ENABLE_COMMAND},
	{PCI_SLOT_STATUS_LINK, PCI_SLOT_ENABLE_LINK},
};

void pci_slot_init(const struct pci_port_config *config, uint8_t *bytes, uint8_t *mask,
		   uint8_t *clear)
{
	uint32_t capabilities = PCI_SLOT_CAP_NUMBER(config->slot);
	uint16_t control = PCI_SLOT_ENABLE_INTERRUPT | PCI_SLOT_ATTENTION | PCI_SLOT_INDICATOR |
			   PCI_SLOT_POWER_OFF;
	uint16_t status = 0;

	if (config->hotplug) {
		capabilities |= PCI_SLOT_CAP_BUTTON | PCI_SLOT_CAP_POWER | PCI_SLOT_CAP_ATTENTION |
				PCI_SLOT_CAP_POWER_INDICATOR | PCI_SLOT_CAP_HOTPLUG;
		for (unsigned int i = 0; i < ARRAY_SIZE(pci_slot_events); i++) {
			control |= pci_slot_events[i].enable;
			status |= pci_slot_events[i].status;
		}
		bytes_put_le(mask + PCI_EXPRESS_SLOT_CONTROL, 2, control);
		bytes_put_le(clear + PCI_EXPRESS_SLOT_STATUS, 2, status);
	}
	bytes_put_le(bytes + PCI_EXPRESS_SLOT_CAPABILITIES, 4, capabilities);
}

void pci_slot_note(struct pci_port *port, uint16_t events)
{
	uint16_t status = pci_port_get(port, PCI_EXPRESS_SLOT_STATUS);

	if (port->config.hotplug)
		pci_port_set(port, PCI_EXPRESS_SLOT_STATUS, status | events);
}

bool pci_slot_wants_interrupt(const struct pci_port *port)
{
	uint16_t control = pci_port_get(port, PCI_EXPRESS_SLOT_CONTROL);
	uint16_t status = pci_port_get(port, PCI_EXPRESS_SLOT_STATUS);
	bool wanted = false;

	for (unsigned int i = 0; i < ARRAY_SIZE(pci_slot_events); i++)
		wanted |= (status & pci_slot_events[i].status) &&
			  (control & pci_slot_events[i].enable);
	return wanted && (control & PCI_SLOT_ENABLE_INTERRUPT);
}

void pci_slot_interrupt(struct pci_port *port)
{
	bool interrupting = pci_slot_wants_interrupt(port);

	if (interrupting == port->interrupting)
		return;
	port->interrupting = interrupting;
	pci_intx_set(port->dev, interrupting);
	if (interrupting)
		pci_msix_trigger(port->dev, 0);
}

static void pci_slot_set_present(struct pci_port *port, bool present)
{
	uint16_t status = pci_port_get(port, PCI_EXPRESS_SLOT_STATUS);

	port->plugged = present;
	status &= (uint16_t)~PCI_SLOT_STATUS_PRESENT;
	pci_port_set(port, PCI_EXPRESS_SLOT_STATUS,
		     present ? status | PCI_SLOT_STATUS_PRESENT : status);
	pci_slot_note(port, PCI_SLOT_STATUS_PRESENCE);
}

static void pci_slot_eject(struct pci_port *port)
{
	pci_slot_set_present(port, false);
	if (port->config.ejected)
		port->config.ejected(port->config.opaque);
}

void pci_slot_command(struct pci_port *port)
{
	uint16_t control = pci_port_get(port, PCI_EXPRESS_SLOT_CONTROL);
	uint16_t before = port->control;

	port->control = control;
	pci_slot_note(port, PCI_SLOT_STATUS_COMMAND);
	if (!port->plugged)
		return;
	if ((control & PCI_SLOT_OFF) == PCI_SLOT_OFF && (before & PCI_SLOT_OFF) != PCI_SLOT_OFF)
		pci_slot_eject(port);
	else if ((before & PCI_SLOT_INDICATOR) == PCI_SLOT_INDICATOR_BLINK &&
		 (control & (PCI_SLOT_INDICATOR | PCI_SLOT_POWER_OFF)) == PCI_SLOT_INDICATOR_ON &&
		 port->config.kept)
		port->config.kept(port->config.opaque);
}

void pci_slot_emptied(struct pci_port *port)
{
	if (!port->plugged)
		return;
	pci_slot_set_present(port, false);
	pci_port_update(port);
}

void pci_slot_reset(struct pci_port *port)
{
	uint16_t control =
		PCI_SLOT_ATTENTION_OFF | (port->plugged ? PCI_SLOT_INDICATOR_ON : PCI_SLOT_OFF);

	port->control = port->config.hotplug ? control : 0;
	port->interrupting = false;
	pci_port_set(port, PCI_EXPRESS_SLOT_CONTROL, port->control);
	pci_port_set(port, PCI_EXPRESS_SLOT_STATUS, port->plugged ? PCI_SLOT_STATUS_PRESENT : 0);
}

int pci_port_plug(struct pci_port *port, struct err **err)
{
	if (!port->config.hotplug)
		return err_set(err, ENOTSUP, "Bus '%s' does not support hotplugging",
			       port->config.id);
	pthread_mutex_lock(&port->bus.host->lock);
	pci_slot_set_present(port, true);
	pci_slot_note(port, PCI_SLOT_STATUS_BUTTON);
	pci_port_update(port);
	pthread_mutex_unlock(&port->bus.host->lock);
	return 0;
}

int pci_port_request_unplug(struct pci_port *port, struct err **err)
{
	int rc = 0;

	if (!port->config.hotplug)
		return err_set(err, ENOTSUP, "Bus '%s' does not support hotplugging",
			       port->config.id);
	pthread_mutex_lock(&port->bus.host->lock);
	if ((port->control & PCI_SLOT_INDICATOR) == PCI_SLOT_INDICATOR_BLINK) {
		rc = err_set(err, EBUSY,
			     "the guest is busy with slot '%s' (its power indicator blinks); try "
			     "again when it is done",
			     port->config.id);
	} else if ((port->control & PCI_SLOT_OFF) == PCI_SLOT_OFF) {
		if (port->plugged)
			pci_slot_eject(port);
		pci_port_update(port);
	} else {
		pci_slot_note(port, PCI_SLOT_STATUS_BUTTON);
		pci_slot_interrupt(port);
	}
	pthread_mutex_unlock(&port->bus.host->lock);
	return rc;
}
