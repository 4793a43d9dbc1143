/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wrong options: devices, character devices, consoles, the rest.
 * Each row: what is added to "-kernel K -nodefaults", and the error that follows, word for word.
 */
#include <errno.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

static const struct error_row rows[] = {
	{"-device", EINVAL, "-device: its argument is missing"},
	{"-device", EINVAL, "-device: its argument is missing"},
	{"-device foo", ENOENT,
	 "-device: there is no device foo; allowed: isa-serial, pcie-root-port, piix3-usb-uhci, "
	 "pvpanic, virtio-balloon-pci, virtio-mem-pci, virtio-rng-pci"},
	{"-device virtio-net-pci", ENOENT,
	 "-device virtio-net-pci: there is no network in this version"},
	{"-device virtio-balloon-pci,iothread=io9", ENOENT,
	 "-device virtio-balloon-pci: there is no object io9; iothread= takes the id of an -object "
	 "iothread"},
	{"-device virtio-balloon-pci -device virtio-balloon-pci,id=b", EEXIST,
	 "-device virtio-balloon-pci,id=b: there is one already"},
	{"-device virtio-balloon-pci,guest-stats-polling-interval=-1", EINVAL,
	 "-device virtio-balloon-pci: guest-stats-polling-interval=-1 is not a number; allowed: 0 "
	 "to 4294967295"},
	{"-device id=x", EINVAL, "-device: needs driver=, the name of the device"},
	{"-device virtio-mem-pci", EINVAL,
	 "-device virtio-mem-pci: needs memdev= (the id of its memory, a memory backend)"},
	{"-device virtio-mem-pci,memdev=a", ENOENT,
	 "-device virtio-mem-pci: there is no object a; memdev= takes the id of a memory "
	 "backend (-object)"},
	{"-device virtio-mem-pci,id=-x,memdev=a", EINVAL,
	 "-device virtio-mem-pci,id=-x: id=-x is not an id; allowed: a letter, then letters, "
	 "digits, '-', '.', '_'"},
	{"-device virtio-mem-pci,id=type,memdev=a", EINVAL,
	 "-device virtio-mem-pci,id=type: id=type is not possible: it is a property of every "
	 "object; allowed: any other"},
	{"-device virtio-mem-pci,memdev=a,foo=1", EINVAL,
	 "-device virtio-mem-pci: foo is unknown; allowed: memdev, node, requested-size, "
	 "block-size, memaddr, prealloc, unplugged-inaccessible, dynamic-memslots, guard, "
	 "memslot-size, on-violation, guest-requests, request-limit, request-rate, packed, "
	 "event_idx, indirect_desc, vectors, disable-legacy, "
	 "disable-modern, iommu_platform, ats, "
	 "page-per-vq, bus, addr, multifunction, id"},
	{"-device virtio-mem-pci,memdev=a,requested_size=1G", EINVAL,
	 "-device virtio-mem-pci: requested_size is unknown; did you mean requested-size?"},
	{"-device virtio-mem-pci,memdev=a,size=1G", EINVAL,
	 "-device virtio-mem-pci: size cannot be set: it is what the guest uses now"},
	{"-device virtio-mem-pci,memdev=a,node=64", ERANGE,
	 "-device virtio-mem-pci: node=64 is out of range; allowed: 0 to 63"},
	{"-device virtio-mem-pci,memdev=a,node=x", EINVAL,
	 "-device virtio-mem-pci: node=x is not a number; allowed: 0 to 63"},
	{"-device virtio-mem-pci,memdev=a,node=0,node=1", EINVAL,
	 "-device virtio-mem-pci: node takes a number, and only one"},
	{"-device virtio-mem-pci,memdev=a,block-size=3M", EINVAL,
	 "-device virtio-mem-pci: block-size=3M is not a power of two"},
	{"-device virtio-mem-pci,memdev=a,block-size=2K", ERANGE,
	 "-device virtio-mem-pci: block-size=2K is too small; allowed: at least 4 KiB"},
	{"-device virtio-mem-pci,memdev=a,block-size=0", ERANGE,
	 "-device virtio-mem-pci: block-size=0 is too small; allowed: at least 4 KiB"},
	{"-device virtio-mem-pci,memdev=a,prealloc=maybe", EINVAL,
	 "-device virtio-mem-pci: prealloc=maybe is neither yes nor no; allowed: on, off"},
	{"-device virtio-mem-pci,memdev=a,unplugged-inaccessible=maybe", EINVAL,
	 "-device virtio-mem-pci: unplugged-inaccessible=maybe is unknown; allowed: auto, on, off"},
	{"-device virtio-mem-pci,memdev=a,guard=auto", EINVAL,
	 "-device virtio-mem-pci: guard=auto is neither yes nor no; allowed: on, off"},
	{"-device virtio-mem-pci,memdev=a,memslot-size=3M", EINVAL,
	 "-device virtio-mem-pci: memslot-size=3M is not a power of two"},
	{"-device virtio-mem-pci,memdev=a,memslot-size=1M", ERANGE,
	 "-device virtio-mem-pci: memslot-size=1M is too small; allowed: at least 2 MiB"},
	{"-device virtio-mem-pci,memdev=a,memslot-size=0", ERANGE,
	 "-device virtio-mem-pci: memslot-size=0 is too small; allowed: at least 2 MiB"},
	{"-device virtio-mem-pci,memdev=a,on-violation=kill", EINVAL,
	 "-device virtio-mem-pci: on-violation=kill is unknown; allowed: deny, pause, shutdown"},
	{"-device virtio-mem-pci,memdev=a,disable-legacy=off", ENOTSUP,
	 "-device virtio-mem-pci: disable-legacy=off is not possible: devices speak VIRTIO 1 only"},
	{"-device virtio-mem-pci,memdev=a,disable-modern=on", ENOTSUP,
	 "-device virtio-mem-pci: disable-modern=on is not possible: devices speak VIRTIO 1 only"},
	{"-device virtio-mem-pci,memdev=a,iommu_platform=on", ENOTSUP,
	 "-device virtio-mem-pci: iommu_platform=on is not possible: there is no IOMMU"},
	{"-device virtio-mem-pci,memdev=a,iommu_platform=yes", ENOTSUP,
	 "-device virtio-mem-pci: iommu_platform=yes is not possible: there is no IOMMU"},
	{"-device virtio-mem-pci,memdev=a,addr=20", EINVAL,
	 "-device virtio-mem-pci: addr=20 is not a PCI address; allowed: SLOT or SLOT.FUNCTION in "
	 "hexadecimal, 0 to 1f and 0 to 7"},
	{"-device virtio-mem-pci,memdev=a,addr=2.8", EINVAL,
	 "-device virtio-mem-pci: addr=2.8 is not a PCI address; allowed: SLOT or SLOT.FUNCTION in "
	 "hexadecimal, 0 to 1f and 0 to 7"},
	{"-device virtio-mem-pci,memdev=a,addr=x", EINVAL,
	 "-device virtio-mem-pci: addr=x is not a PCI address; allowed: SLOT or SLOT.FUNCTION in "
	 "hexadecimal, 0 to 1f and 0 to 7"},
	{"-device virtio-mem-pci,memdev=a,vectors=2049", ERANGE,
	 "-device virtio-mem-pci: vectors=2049 is out of range; allowed: 0 to 2048"},
	{"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"a\",\"node\":\"x\"}", EINVAL,
	 "-device virtio-mem-pci: node=x is not a number; allowed: 0 to 63"},
	{"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":[\"a\"]}", EINVAL,
	 "-device virtio-mem-pci: memdev takes a string, and only one"},
	{"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"a\",\"addr\":{}}", EINVAL,
	 "-device virtio-mem-pci: addr takes a PCI address"},
	{"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"a\",\"packed\":\"maybe\"}", EINVAL,
	 "-device virtio-mem-pci: packed=maybe is neither yes nor no; allowed: on, off"},
	{"-device {\"driver\":\"virtio-mem-pci\",\"memdev\":\"a\",\"addr\":999}", EINVAL,
	 "-device virtio-mem-pci: addr=999 is not a PCI address; allowed: SLOT or SLOT.FUNCTION in "
	 "hexadecimal, 0 to 1f and 0 to 7"},
	{"-m 1G,maxmem=2G -object rng-builtin,id=a -device virtio-mem-pci,memdev=a", ENOENT,
	 "-device virtio-mem-pci: there is no object a; memdev= takes the id of a memory "
	 "backend (-object)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,node=1",
	 EINVAL, "-device virtio-mem-pci: there is no node 1; allowed: below 1"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,block-size=2G",
	 EINVAL,
	 "-device virtio-mem-pci: the size of a (1 GiB) is not a multiple of block-size (2 GiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1025M -device "
	 "virtio-mem-pci,memdev=a",
	 EINVAL,
	 "-device virtio-mem-pci: the size of a (1025 MiB) is not a multiple of block-size (2 "
	 "MiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,requested-size=1M",
	 EINVAL,
	 "-device virtio-mem-pci: requested-size (1 MiB) is not a multiple of block-size (2 MiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,requested-size=2G",
	 ERANGE, "-device virtio-mem-pci: requested-size (2 GiB) exceeds the size of a (1 GiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,block-size=4M,memslot-size=2M",
	 EINVAL, "-device virtio-mem-pci: memslot-size (2 MiB) is less than block-size (4 MiB)"},
	{"-object memory-backend-ram,id=a,size=1G -device virtio-mem-pci,memdev=a,request-limit=1G",
	 EINVAL, "-device virtio-mem-pci: request-limit needs guest-requests=on"},
	{"-object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,guest-requests=off,request-rate=1G",
	 EINVAL, "-device virtio-mem-pci: request-rate needs guest-requests=on"},
	{"-object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,guest-requests=on,request-limit=3M",
	 EINVAL,
	 "-device virtio-mem-pci: request-limit (3 MiB) is not a multiple of block-size (2 MiB)"},
	{"-object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,guest-requests=on,request-limit=2G",
	 ERANGE, "-device virtio-mem-pci: request-limit (2 GiB) exceeds the size of a (1 GiB)"},
	{"-device virtio-mem-pci,memdev=a,guest-requests=maybe", EINVAL,
	 "-device virtio-mem-pci: guest-requests=maybe is neither yes nor no; allowed: on, off"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,memaddr=0x100001000",
	 EINVAL,
	 "-device virtio-mem-pci: memaddr=0x100001000 is not a multiple of block-size (2 MiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,dynamic-memslots=on,unplugged-inaccessible=off",
	 EINVAL,
	 "-device virtio-mem-pci: dynamic-memslots=on and unplugged-inaccessible=off exclude each "
	 "other"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=1G,share=on -device "
	 "virtio-mem-pci,memdev=a,unplugged-inaccessible=off",
	 EINVAL,
	 "-device virtio-mem-pci: unplugged-inaccessible=off is not possible with the memory of a, "
	 "which is a file's, so that unplugged blocks cannot be read; allowed: auto, on, or "
	 "guard=off"},
	{"-m 1G,maxmem=2G -object memory-backend-memfd,id=a,size=1G -device "
	 "virtio-mem-pci,memdev=a,unplugged-inaccessible=off",
	 EINVAL,
	 "-device virtio-mem-pci: unplugged-inaccessible=off is not possible with the memory of a, "
	 "which is a file's, so that unplugged blocks cannot be read; allowed: auto, on, or "
	 "guard=off"},
	{"-m 1G,maxmem=2G -object "
	 "memory-backend-memfd,id=a,size=1G,share=off,hugetlb=on,hugetlbsize=2M -device "
	 "virtio-mem-pci,memdev=a,unplugged-inaccessible=off",
	 EINVAL,
	 "-device virtio-mem-pci: unplugged-inaccessible=off is not possible with the memory of a, "
	 "which is a file's, so that unplugged blocks cannot be read; allowed: auto, on, or "
	 "guard=off"},
	{"-m 1G,maxmem=2G -object memory-backend-file,id=a,size=1G,mem-path=. -device "
	 "virtio-mem-pci,memdev=a,unplugged-inaccessible=off",
	 EINVAL,
	 "-device virtio-mem-pci: unplugged-inaccessible=off is not possible with the memory of a, "
	 "which is a file's, so that unplugged blocks cannot be read; allowed: auto, on, or "
	 "guard=off"},
	{"-m 1G,maxmem=2G -object memory-backend-memfd,id=a,size=1G,hugetlb=on,hugetlbsize=1G "
	 "-device virtio-mem-pci,memdev=a,block-size=2M",
	 EINVAL, "-device virtio-mem-pci: block-size (2 MiB) is less than a page of a (1 GiB)"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=512M,max-size=1G -device "
	 "virtio-mem-pci,memdev=a,requested-size=1G",
	 EINVAL,
	 "-device virtio-mem-pci: requested-size contradicts size= next to max-size= of object a; "
	 "give one of the two"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=513M,max-size=1G -device "
	 "virtio-mem-pci,memdev=a",
	 EINVAL,
	 "-device virtio-mem-pci: requested-size (513 MiB) is not a multiple of block-size (2 "
	 "MiB)"},
	{"-m 1G -object memory-backend-ram,id=a,size=1G -device virtio-mem-pci,memdev=a", ENOSPC,
	 "-device virtio-mem-pci: a memory device needs -m maxmem=, the boot memory and all memory "
	 "devices together"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=a,size=2G -device virtio-mem-pci,memdev=a",
	 ENOSPC,
	 "-device virtio-mem-pci: 2 GiB do not fit: of what -m maxmem= exceeds the boot memory by, "
	 "1 GiB are left"},
	{"-m 1G,maxmem=3G -object memory-backend-ram,id=a,size=1G -object "
	 "memory-backend-ram,id=b,size=1536M -device virtio-mem-pci,id=x,memdev=a -device "
	 "virtio-mem-pci,id=y,memdev=b",
	 ENOSPC,
	 "-device virtio-mem-pci,id=y: 1536 MiB do not fit: of what -m maxmem= exceeds the boot "
	 "memory by, 1 GiB are left"},
	{"-m 1G,maxmem=3G -object memory-backend-ram,id=a,size=1G -device "
	 "virtio-mem-pci,id=x,memdev=a -device virtio-mem-pci,id=y,memdev=a",
	 EBUSY, "-device virtio-mem-pci,id=y: memdev=a is in use already"},
	{"-m 1G,maxmem=3G -object memory-backend-ram,id=a,size=1G -numa node,memdev=a -device "
	 "virtio-mem-pci,id=y,memdev=a",
	 EBUSY, "-device virtio-mem-pci,id=y: memdev=a is in use already"},
	{"-device virtio-rng-pci,rng=x", ENOENT,
	 "-device virtio-rng-pci: there is no object x; rng= takes the id of an -object rng-random "
	 "or rng-builtin"},
	{"-device virtio-rng-pci,max-bytes=0", ERANGE,
	 "-device virtio-rng-pci: max-bytes=0 is out of range; allowed: 1 to 18446744073709551615"},
	{"-device virtio-rng-pci,period=0", ERANGE,
	 "-device virtio-rng-pci: period=0 is out of range; allowed: 1 to 4294967295"},
	{"-device virtio-rng-pci,id=a -device virtio-rng-pci,id=a", EEXIST,
	 "-device: id=a is in use already"},
	{"-device virtio-rng-pci,addr=3 -device virtio-rng-pci,addr=0x3", EBUSY,
	 "-device virtio-rng-pci: addr=3 is in use already"},
	{"-device virtio-rng-pci,addr=0", EBUSY,
	 "-device virtio-rng-pci: addr=0 is the host bridge's; allowed: 1 to 1f"},
	{"-device virtio-rng-pci,bus=pcie.0", ENOENT,
	 "-device virtio-rng-pci: there is no bus pcie.0; allowed: pci.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"-machine q35 -device virtio-rng-pci,bus=pci.0", ENOENT,
	 "-device virtio-rng-pci: there is no bus pci.0; allowed: pcie.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"-device virtio-rng-pci,bus=p -device pcie-root-port,id=p", ENOENT,
	 "-device virtio-rng-pci: there is no bus p; allowed: pci.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"-device virtio-rng-pci,id=p -device virtio-rng-pci,bus=p", ENOENT,
	 "-device virtio-rng-pci: there is no bus p; allowed: pci.0, and the ids of "
	 "pcie-root-port devices in front of it"},
	{"-device pcie-root-port,id=p -device pcie-root-port,id=q,bus=p", EINVAL,
	 "-device pcie-root-port,id=q: bus=p is not possible: a root port is on the root bus"},
	{"-device pcie-root-port,id=p -device virtio-rng-pci,bus=p,addr=1", EINVAL,
	 "-device virtio-rng-pci: addr=1 is not possible behind a root port; allowed: 0 to 0.7"},
	{"-device pcie-root-port,id=p -device virtio-rng-pci,bus=p,addr=0.2", EINVAL,
	 "-device virtio-rng-pci: addr=0.2 is in a slot without function 0, which nobody would "
	 "find"},
	{"-device pcie-root-port,id=p -device virtio-rng-pci,bus=p -device "
	 "virtio-rng-pci,bus=p,addr=0.2",
	 EBUSY,
	 "-device virtio-rng-pci: addr=0.2 is in a slot with other functions: function 0 of it "
	 "needs multifunction=on"},
	{"-device pcie-root-port,id=p -device virtio-rng-pci,bus=p -device virtio-rng-pci,bus=p",
	 EBUSY,
	 "-device virtio-rng-pci: bus=p is in use already: behind a root port is room for one "
	 "device, or for the functions of one"},
	{"-device pcie-root-port,slot=8192", ERANGE,
	 "-device pcie-root-port: slot=8192 is out of range; allowed: 0 to 8191"},
	{"-device pcie-root-port,port=256", ERANGE,
	 "-device pcie-root-port: port=256 is out of range; allowed: 0 to 255"},
	{"-device pcie-root-port,addr=2.1,multifunction=on", EINVAL,
	 "-device pcie-root-port: addr=2.1 is in a slot without function 0, which nobody would "
	 "find"},
	{"-device pcie-root-port,addr=2 -device pcie-root-port,addr=2.1", EBUSY,
	 "-device pcie-root-port: addr=2.1 is in a slot with other functions: function 0 of it "
	 "needs multifunction=on"},
	{"-device pcie-root-port,addr=2.1 -device pcie-root-port,addr=2,id=p", EBUSY,
	 "-device pcie-root-port,id=p: addr=2 is in a slot with other functions: function 0 of it "
	 "needs multifunction=on"},
	{"-device pcie-root-port,addr=2,multifunction=on -device pcie-root-port,addr=2.1 -device "
	 "virtio-rng-pci,addr=2.1",
	 EBUSY, "-device virtio-rng-pci: addr=2.1 is in use already"},
	{"-device pvpanic,ioport=0x506", ERANGE,
	 "-device pvpanic: ioport=0x506 is out of range; allowed: 1285"},
	{"-device pvpanic -device pvpanic", EEXIST, "-device pvpanic: there is one already"},
	{"-device isa-serial", EINVAL,
	 "-device isa-serial: needs chardev= (the id of a character device)"},
	{"-device isa-serial,chardev=x", ENOENT,
	 "-device isa-serial: there is no character device x; chardev= takes the id of a -chardev"},
	{"-chardev null,id=n -device isa-serial,chardev=n,index=4", ERANGE,
	 "-device isa-serial: index=4 is out of range; allowed: 0 to 3"},
	{"-chardev null,id=n -chardev null,id=m -device isa-serial,chardev=n,index=1 -device "
	 "isa-serial,chardev=m,index=1",
	 EEXIST, "-device isa-serial: index=1 is in use already"},
	{"-chardev null,id=n -device isa-serial,chardev=n -device isa-serial,chardev=n", EBUSY,
	 "-device isa-serial: chardev=n is in use already; mux=on lets several share it"},
	{"-chardev null,id=n,mux=on -device isa-serial,chardev=n -device isa-serial,chardev=n "
	 "-device isa-serial,chardev=n -device isa-serial,chardev=n -device isa-serial,chardev=n",
	 ENOSPC, "-device isa-serial: too many serial ports; allowed: 4"},
	{"-chardev null,id=n,mux=on -device isa-serial,chardev=n -device isa-serial,chardev=n -mon "
	 "n -mon n -mon n",
	 EBUSY, "-mon: chardev=n has 4 users already"},
	{"-chardev null,id=n -device isa-serial,chardev=n,iobase=0x3f9", EINVAL,
	 "-device isa-serial: iobase=0x3f9 is not a multiple of 8"},
	{"-chardev null,id=n -chardev null,id=m -device isa-serial,chardev=n,iobase=0x2f8 -device "
	 "isa-serial,chardev=m,index=1",
	 EBUSY, "-device isa-serial: iobase=0x2f8 is in use already"},
	{"-chardev null,id=n -device isa-serial,chardev=n,irq=16", ERANGE,
	 "-device isa-serial: irq=16 is out of range; allowed: 3 to 15"},
	{"-chardev foo,id=a", EINVAL,
	 "-chardev: backend=foo is unknown; allowed: stdio, socket, file, pty, null"},
	{"-chardev id=a", EINVAL,
	 "-chardev: backend= is unknown; allowed: stdio, socket, file, pty, null"},
	{"-chardev null", EINVAL, "-chardev null: needs id= (the name that others refer to)"},
	{"-chardev null,id=a -chardev null,id=a", EEXIST, "-chardev: id=a is in use already"},
	{"-chardev null,id=a,path=x", EINVAL,
	 "-chardev null,id=a: path is unknown; allowed: id, mux, logfile, logappend"},
	{"-chardev null,id=a,logfile=/dev/fdset/x", EINVAL,
	 "-chardev null,id=a: logfile=/dev/fdset/x is no descriptor set; allowed: "
	 "/dev/fdset/NUMBER"},
	{"-chardev null,id=a,logfile=/dev/fdset/7", ENOENT,
	 "-chardev null,id=a: no -add-fd gave set 7 a descriptor that can be written to"},
	{"-chardev stdio,id=a -chardev stdio,id=b", EBUSY,
	 "-chardev stdio: a and b cannot both have standard input and output"},
	{"-chardev stdio,id=a -daemonize", EINVAL,
	 "-daemonize: a has standard input and output, which a daemon has not"},
	{"-chardev file,id=a", EINVAL, "-chardev file,id=a: needs path= (file to write to)"},
	{"-chardev file,id=a,path=", EINVAL, "-chardev file,id=a: path= is empty"},
	{"-chardev file,id=a,path=/dev/fdset/x", EINVAL,
	 "-chardev file,id=a: path=/dev/fdset/x is no descriptor set; allowed: /dev/fdset/NUMBER"},
	{"-add-fd set=1,fd=0", ERANGE, "-add-fd: fd=0 is out of range; allowed: 3 to 2147483647"},
	{"-add-fd set=1,fd=2000000000", EBADF, "-add-fd: fd=2000000000 is not open"},
	{"-chardev file,id=a,path=/dev/fdset/1", ENOENT,
	 "-chardev file,id=a: no -add-fd gave set 1 a descriptor that can be written to"},
	{"-chardev socket,id=a", EINVAL,
	 "-chardev socket,id=a: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"-chardev socket,id=a,path=x,port=1", EINVAL,
	 "-chardev socket,id=a: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"-chardev socket,id=a,path=x,fd=3", EINVAL,
	 "-chardev socket,id=a: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"-chardev socket,id=a,path=x,wait=off", EINVAL,
	 "-chardev socket,id=a: wait= needs server=on next to it"},
	{"-chardev socket,id=a,path=x,nowait", EINVAL,
	 "-chardev socket,id=a: wait= needs server=on next to it"},
	{"-chardev socket,id=a,path=x,server,reconnect=1", EINVAL,
	 "-chardev socket,id=a: reconnect= and server=on exclude each other"},
	{"-chardev socket,id=a,path=x,server=maybe", EINVAL,
	 "-chardev socket,id=a: server=maybe is neither yes nor no; allowed: on, off"},
	{"-chardev socket,id=a,path=x,ipv4", EINVAL,
	 "-chardev socket,id=a: ipv4= and ipv6= need port= next to them"},
	{"-chardev socket,id=a,port=1", EINVAL, "-chardev socket,id=a: needs host= to connect to"},
	{"-chardev socket,id=a,host=h", EINVAL,
	 "-chardev socket,id=a: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"-chardev socket,id=a,path=x,telnet", EINVAL,
	 "-chardev socket,id=a: telnet is unknown; allowed: path, host, port, fd, server, wait, "
	 "nodelay, ipv4, ipv6, reconnect, id, mux, logfile, logappend"},
	{"-chardev socket,id=a,host=h,port=1,ipv4=off,ipv6=off", EINVAL,
	 "-chardev socket,id=a: ipv4=off and ipv6=off exclude each other"},
	{"-chardev "
	 "socket,id=a,path="
	 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	 "xxxxxxxxxxxxxxxxxxx",
	 ENAMETOOLONG, "-chardev socket,id=a: path= is too long for a socket; allowed: 107 bytes"},
	{"-serial foo", EINVAL,
	 "-serial: 'foo' is unknown; allowed: none, null, stdio, pty, file:PATH, unix:PATH, "
	 "tcp:HOST:PORT, chardev:ID, mon:..."},
	{"-serial vc", EINVAL,
	 "-serial: 'vc' is unknown; allowed: none, null, stdio, pty, file:PATH, unix:PATH, "
	 "tcp:HOST:PORT, chardev:ID, mon:..."},
	{"-serial mon:none", EINVAL,
	 "-serial: 'none' is unknown; allowed: none, null, stdio, pty, file:PATH, unix:PATH, "
	 "tcp:HOST:PORT, chardev:ID, mon:..."},
	{"-serial tcp:host", EINVAL, "-serial: 'tcp:host' is no address; allowed: tcp:HOST:PORT"},
	{"-serial tcp::", EINVAL, "-serial: 'tcp::' is no address; allowed: tcp:HOST:PORT"},
	{"-serial tcp:host:1,foo=1", EINVAL,
	 "-serial socket,id=serial0: foo is unknown; allowed: path, host, port, fd, server, wait, "
	 "nodelay, ipv4, ipv6, reconnect, id, mux, logfile, logappend"},
	{"-serial unix:", EINVAL, "-serial: the argument is empty"},
	{"-serial file:", EINVAL, "-serial file,id=serial0: path= is empty"},
	{"-serial chardev:x", ENOENT,
	 "-device isa-serial: there is no character device x; chardev= takes the id of a -chardev"},
	{"-serial null -serial null -serial null -serial null -serial null", ENOSPC,
	 "-serial: too many serial ports; allowed: 4"},
	{"-serial stdio -serial stdio", EBUSY,
	 "-chardev stdio: serial0 and serial1 cannot both have standard input and output"},
	{"-serial stdio -monitor stdio", EBUSY,
	 "-chardev stdio: serial0 and compat_monitor0 cannot both have standard input and output"},
	{"-serial null -chardev null,id=serial0", EEXIST, "-chardev: id=serial0 is in use already"},
	{"-monitor foo", EINVAL,
	 "-monitor: 'foo' is unknown; allowed: none, null, stdio, pty, file:PATH, unix:PATH, "
	 "tcp:HOST:PORT, chardev:ID, mon:..."},
	{"-monitor chardev:x", ENOENT,
	 "-mon: there is no character device x; chardev= takes the id of a -chardev"},
	{"-mon", EINVAL, "-mon: its argument is missing"},
	{"-mon x", ENOENT,
	 "-mon: there is no character device x; chardev= takes the id of a -chardev"},
	{"-mon mode=readline", EINVAL, "-mon: needs chardev= (the id of a character device)"},
	{"-chardev null,id=c -mon chardev=c,mode=foo", EINVAL,
	 "-mon: mode=foo is unknown; allowed: readline, control"},
	{"-chardev null,id=c,mux=on -mon c,id=m -mon c,id=m", EEXIST, "-mon: id=m is given twice"},
	{"-chardev null,id=c -mon c -mon c", EBUSY,
	 "-mon: chardev=c is in use already; mux=on lets several share it"},
	{"-metrics", EINVAL, "-metrics: its argument is missing"},
	{"-metrics path=", EINVAL, "-metrics: path= is empty"},
	{"-metrics x,y=1", EINVAL, "-metrics: y is unknown; allowed: path"},
	{"-metrics "
	 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	 "xxxxxxxxxxxxxxxxxxx",
	 ENAMETOOLONG, "-metrics: path= is too long for a socket; allowed: 107 bytes"},
	{"-name guest=", EINVAL, "-name: guest= is empty"},
	{"-name x,foo=1", EINVAL, "-name: foo is unknown; allowed: guest, process, debug-threads"},
	{"-uuid x", EINVAL,
	 "-uuid: uuid=x is not a UUID; allowed: hexadecimal digits in groups of 8-4-4-4-12"},
	{"-uuid 12345678-1234-1234-1234-1234567890", EINVAL,
	 "-uuid: uuid=12345678-1234-1234-1234-1234567890 is not a UUID; allowed: hexadecimal "
	 "digits in groups of 8-4-4-4-12"},
	{"-uuid 12345678-1234-1234-1234-1234567890zz", EINVAL,
	 "-uuid: uuid=12345678-1234-1234-1234-1234567890zz is not a UUID; allowed: hexadecimal "
	 "digits in groups of 8-4-4-4-12"},
	{"-uuid 123456781234-1234-1234-12345678901234", EINVAL,
	 "-uuid: uuid=123456781234-1234-1234-12345678901234 is not a UUID; allowed: hexadecimal "
	 "digits in groups of 8-4-4-4-12"},
#define RTC_ALLOWED                                                                \
	" is unknown; allowed: utc, localtime, or a date from 1970 to 2099, like " \
	"2006-06-17T16:01:21"
	{"-rtc base=foo", EINVAL, "-rtc: base=foo" RTC_ALLOWED},
	{"-rtc base=2006-02-30", EINVAL, "-rtc: base=2006-02-30" RTC_ALLOWED},
	{"-rtc base=2006-06-17T25:00:00", EINVAL, "-rtc: base=2006-06-17T25:00:00" RTC_ALLOWED},
	{"-rtc base=2006-06-17T16:01:21Z", EINVAL, "-rtc: base=2006-06-17T16:01:21Z" RTC_ALLOWED},
	{"-rtc base=1969-12-31", EINVAL, "-rtc: base=1969-12-31" RTC_ALLOWED},
	{"-rtc base=2100-01-01", EINVAL, "-rtc: base=2100-01-01" RTC_ALLOWED},
	{"-rtc clock=rt", EINVAL, "-rtc: clock=rt is unknown; allowed: host"},
	{"-rtc clock=vm", ENOTSUP,
	 "-rtc: clock=vm is not possible: the clock goes on while the guest stands still, as with "
	 "a "
	 "battery"},
	{"-rtc utc", EINVAL, "-rtc: utc is unknown; allowed: base, clock, driftfix"},
	{"-action reboot=foo", EINVAL, "-action: reboot=foo is unknown; allowed: reset, shutdown"},
	{"-action panic=reset", EINVAL,
	 "-action: panic=reset is unknown; allowed: shutdown, pause, exit-failure, none"},
	{"-action foo=x", EINVAL,
	 "-action: foo is unknown; allowed: reboot, shutdown, panic, watchdog"},
	{"-watchdog-action foo", EINVAL,
	 "-watchdog-action: watchdog=foo is unknown; allowed: reset, shutdown, poweroff, pause, "
	 "debug, none, inject-nmi"},
	{"-boot menu=on", ENOTSUP,
	 "-boot: menu=on is not possible: there is no firmware to show one"},
	{"-boot splash=x", ENOTSUP,
	 "-boot: splash=x is not possible: there is no firmware to show it"},
	{"-boot foo=c", EINVAL,
	 "-boot: foo is unknown; allowed: order, once, strict, reboot-timeout, menu, splash, "
	 "splash-time"},
	{"-msg foo=on", EINVAL, "-msg: foo is unknown; allowed: timestamp, guest-name"},
	{"-m 1G,maxmem=2G -object memory-backend-ram,id=m,size=1G -device "
	 "virtio-mem-pci,id=d,memdev=m "
	 "-overcommit mem-lock=on",
	 EINVAL,
	 "-device virtio-mem-pci,id=d: is not possible with -overcommit mem-lock=on: memory that "
	 "is "
	 "locked does not go back to the host; libvirt writes that for <memoryBacking><locked/>"},
	{"-overcommit cpu-pm=on", ENOTSUP,
	 "-overcommit: cpu-pm=on is not possible: idle CPUs give the host its CPUs back"},
	{"-sandbox maybe", EINVAL,
	 "-sandbox: enable=maybe is neither yes nor no; allowed: on, off"},
	{"-sandbox on,obsolete=maybe", EINVAL,
	 "-sandbox: obsolete=maybe is unknown; allowed: deny, allow"},
	{"-sandbox on,elevateprivileges=maybe", EINVAL,
	 "-sandbox: elevateprivileges=maybe is unknown; allowed: allow, deny, children"},
	{"-sandbox on,spawn=children", EINVAL,
	 "-sandbox: spawn=children is unknown; allowed: deny, allow"},
	{"-sandbox on,foo=deny", EINVAL,
	 "-sandbox: foo is unknown; allowed: enable, obsolete, elevateprivileges, spawn, "
	 "resourcecontrol"},
	{"-sandbox on,spawn=deny -incoming exec:true", EPERM,
	 "-incoming: -sandbox spawn=deny lets the machine start no command; allowed: tcp:, unix:, "
	 "fd:, file:, defer"},
	{"-fw_cfg name=opt/x,string=y", ENOTSUP,
	 "-fw_cfg: there is no firmware, and so no channel for its files; allowed: -append"},
	{"-dtb x", ENOTSUP, "-dtb: a PC has no device tree"},
	{"-acpitable sig=SLIC,file=x", ENOTSUP,
	 "-acpitable: there are no other ACPI tables than the machine's own"},
	{"-fsdev local,id=x", ENOTSUP, "-fsdev: no folders of the host are shared in this version"},
	{"-blockdev {}", ENOTSUP, "-blockdev: there are no disks in this version"},
	{"-netdev user,id=x", ENOTSUP, "-netdev: there is no network in this version"},
	{"-k de", ENOTSUP, "-k: there is no display"},
	{"-display gtk", EINVAL, "-display: type=gtk is unknown; allowed: none"},
	{"-vga std", EINVAL, "-vga: 'std' is not there; allowed: none"},
	{"-net user", EINVAL, "-net: 'user' is not there; allowed: none"},
	{"-nic user", EINVAL, "-nic: 'user' is not there; allowed: none"},
	{"-parallel pty", EINVAL, "-parallel: 'pty' is not there; allowed: none"},
	{"-audiodev alsa,id=a", EINVAL, "-audiodev: driver=alsa is unknown; allowed: none"},
	{"-global foo", EINVAL, "-global: 'foo' sets nothing; allowed: DRIVER.PROPERTY=VALUE"},
	{"-global virtio-mem-pci.block-size=4M", EINVAL,
	 "-global: 'virtio-mem-pci.block-size=4M' is not there to be set; properties are set with "
	 "-device"},
	{"-global ICH9-LPC.disable_s3=0", ENOTSUP,
	 "-global ICH9-LPC: disable_s3=0 is not possible: guests cannot suspend to memory"},
	{"-global PIIX4_PM.disable_s4=0", ENOTSUP,
	 "-global PIIX4_PM: disable_s4=0 is not possible: guests cannot suspend to disk"},
	{"-global kvm-pit.lost_tick_policy=never", EINVAL,
	 "-global kvm-pit: lost_tick_policy=never is unknown; allowed: discard, delay, slew, "
	 "merge"},
	{"-global ICH9-LPC.foo=1", EINVAL,
	 "-global ICH9-LPC: foo is unknown; allowed: disable_s3, disable_s4, noreboot"},
	{"-global ICH9-LPC=1.0", EINVAL,
	 "-global: 'ICH9-LPC=1.0' sets nothing; allowed: DRIVER.PROPERTY=VALUE"},
	{"-device virtio-blk-pci,drive=x", ENOENT,
	 "-device virtio-blk-pci: there are no disks in this version"},
	{"-device {\"driver\":\"e1000e\",\"netdev\":\"n\"}", ENOENT,
	 "-device e1000e: there is no network in this version"},
	{"-device qemu-xhci,id=usb", ENOENT,
	 "-device qemu-xhci: of USB controllers there is one in this version, without devices; "
	 "allowed: piix3-usb-uhci"},
	{"-device ich9-usb-uhci1", ENOENT,
	 "-device ich9-usb-uhci1: of USB controllers there is one in this version, without "
	 "devices; allowed: piix3-usb-uhci"},
	{"-device usb-tablet,id=input0", ENOENT,
	 "-device usb-tablet: nothing can be connected to USB ports in this version; the serial "
	 "console takes input"},
	{"-M q35 -device pcie-root-port,id=p -device piix3-usb-uhci,bus=p", EINVAL,
	 "-device piix3-usb-uhci: bus=p is not possible: the controller is on the root bus"},
	{"-device piix3-usb-uhci,addr=3.2", EINVAL,
	 "-device piix3-usb-uhci: addr=3.2 is in a slot without function 0, which nobody would "
	 "find"},
	{"-M q35 -device piix3-usb-uhci,addr=1.2", EINVAL,
	 "-device piix3-usb-uhci: addr=1.2 is in a slot without function 0, which nobody would "
	 "find"},
	{"-usb -device virtio-rng-pci,addr=1", EBUSY,
	 "-device virtio-rng-pci: addr=1 is in a slot with other functions: function 0 of it "
	 "needs multifunction=on"},
	{"-usb -device piix3-usb-uhci,addr=1.2", EBUSY,
	 "-device piix3-usb-uhci: addr=1.2 is in use already"},
	{"-device virtio-serial-pci", ENOENT,
	 "-device virtio-serial-pci: there are no virtio consoles and no channels in this version; "
	 "allowed: isa-serial"},
	{"-global a.b", EINVAL, "-global: 'a.b' sets nothing; allowed: DRIVER.PROPERTY=VALUE"},
	{"-add-fd fd=3", EINVAL, "-add-fd: needs set= (number of the set)"},
	{"-add-fd set=1", EINVAL, "-add-fd: needs fd= (inherited descriptor)"},
	{"-add-fd set=1,fd=2", ERANGE, "-add-fd: fd=2 is out of range; allowed: 3 to 2147483647"},
	{"-add-fd set=1,fd=1000", EBADF, "-add-fd: fd=1000 is not open"},
	{"-pidfile ''", EINVAL, "-pidfile: the name of the file is empty"},
	{"-chardev socket,id=a,port=1,host=h,delay=maybe", EINVAL,
	 "-chardev socket,id=a: delay=maybe is neither yes nor no; allowed: on, off"},
	{"-chardev socket,id=a,port=1,fd=4", EINVAL,
	 "-chardev socket,id=a: needs one of path= (Unix), port= (TCP) and fd= (inherited)"},
	{"-chardev stdio,id=a,signal=maybe", EINVAL,
	 "-chardev stdio,id=a: signal=maybe is neither yes nor no; allowed: on, off"},
	{"-chardev pty,id=a,path=x", EINVAL,
	 "-chardev pty,id=a: path is unknown; allowed: id, mux, logfile, logappend"},
};

static void test_sentences(void **state)
{
	(void)state;
	fixture_check_errors(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sentences)};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
