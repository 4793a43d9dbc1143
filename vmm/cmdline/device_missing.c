/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that QEMU has and this program has not: what a person is told who asks for one, which is
 * often a person whose management program wrote the command line. See device.h.
 */
#include <errno.h>

#include "base/num.h"
#include "qmp/words.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/internal.h"

/* A word stands for all names that begin with it, or, behind a '*', that have it somewhere. */
static const struct {
	const char *words, *reason;
} device_missing[] = {
	{"virtio-net e1000 rtl8139 ne2k pcnet vmxnet3 i8255 tulip igb rocker vhost-user-net "
	 "virtio-transitional-net",
	 "there is no network in this version"},
	{"virtio-blk virtio-scsi vhost-scsi vhost-user-blk vhost-user-scsi scsi- ide- nvme ahci "
	 "ich9-ahci lsi53c megasas mptsas pvscsi am53c974 dc390 isa-fdc floppy piix3-ide piix4-ide "
	 "sd-card sdhci isa-ide",
	 "there are no disks in this version"},
	{"nec-usb qemu-xhci ich9-usb piix4-usb pci-ohci *usb-uhci *usb-ehci sysbus-ohci",
	 "of USB controllers there is one in this version, without devices; allowed: "
	 "piix3-usb-uhci"},
	{"usb- ccid u2f",
	 "nothing can be connected to USB ports in this version; the serial console takes input"},
	{"VGA cirrus-vga qxl virtio-vga virtio-gpu vhost-user-vga vhost-user-gpu bochs-display "
	 "ramfb "
	 "secondary-vga vmware-svga isa-vga",
	 "there is no display in this version; allowed in libvirt: <video><model type='none'/>"},
	{"virtio-serial virtconsole virtserialport",
	 "there are no virtio consoles and no channels in this version; allowed: isa-serial"},
	{"pci-serial", "serial ports are on the ISA bus; allowed: isa-serial"},
	{"isa-parallel", "there is no parallel port"},
	{"vfio-", "devices of the host cannot be given to guests in this version"},
	{"vhost-user-fs virtio-9p", "there are no shared folders in this version"},
	{"vhost-vsock vhost-user-vsock", "there are no vsock sockets in this version"},
	{"AC97 ES1370 sb16 intel-hda ich9-intel-hda hda- virtio-sound adlib cs4231a gus",
	 "there is no sound in this version"},
	{"virtio-keyboard virtio-mouse virtio-tablet virtio-input virtio-multitouch "
	 "vhost-user-input",
	 "there are no keyboards and pointers in this version; the serial console takes input"},
	{"tpm-", "there is no TPM in this version"},
	{"i6300esb ib700 diag288", "there is no watchdog in this version"},
	{"ivshmem", "there is no memory shared with other guests in this version"},
	{"pc-dimm nvdimm virtio-pmem cxl-",
	 "memory that comes and goes is virtio-mem's; allowed: virtio-mem-pci"},
	{"intel-iommu amd-iommu virtio-iommu", "there is no IOMMU for guests in this version"},
	{"pcie-pci-bridge",
	 "there are no bridges to conventional PCI; libvirt adds this one for a device of the "
	 "domain that is not there in this version, such as a network card or a watchdog, or for "
	 "a USB controller; allowed there: <controller type='usb' model='none'/>, or machine pc"},
	{"pci-bridge i82801b11-bridge pxb x3130- xio3130- ioh3420",
	 "there are no bridges and switches; allowed: pcie-root-port"},
	{"virtio-crypto", "there is no virtio-crypto device in this version"},
	{"vmcoreinfo vmgenid", "there is no firmware that would tell guests of it"},
};

const char *device_missing_reason(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(device_missing); i++) {
		if (words_match(device_missing[i].words, name))
			return device_missing[i].reason;
	}
	return NULL;
}

int device_unknown(const char *option, const char *name, const char *allowed, struct err **err)
{
	const char *reason = device_missing_reason(name);

	if (reason)
		return err_set(err, ENOENT, "%s %s: %s", option, name, reason);
	return err_set(err, ENOENT, "%s: there is no device %s; allowed: %s", option, name,
		       allowed);
}
