/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The object tree of a machine that is only a command line: its configuration is real, what runs of
 * it (memory devices, PCI functions, character devices) is made up here. Commands go through real
 * sessions, so that arguments and answers have the shapes of the tables.
 */
#ifndef TESTS_UNIT_CONTROL_QOM_RIG_H
#define TESTS_UNIT_CONTROL_QOM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>

#include "vmm/control/internal.h"
#include "vmm/control/qom.h"

#define RIG_BLOCK_BYTES (UINT64_C(2) << 20)

/* One of everything. */
#define RIG_LINE                                                                                 \
	"-kernel K -initrd I -nodefaults -machine q35,memory-backend=boot -m 256M,maxmem=8G "    \
	"-smp 4,sockets=2,cores=2 -numa node,cpus=0-1,mem=128M -numa node,cpus=2-3,mem=128M "    \
	"-object memory-backend-memfd,id=boot,size=256M "                                        \
	"-object memory-backend-ram,id=mem0,size=1G,reserve=off "                                \
	"-object memory-backend-ram,id=mem1,size=64M,max-size=2G,host-nodes=0,policy=preferred " \
	"-object memory-backend-ram,id=mem2,size=512M "                                          \
	"-object rng-random,id=rnd0,filename=/dev/urandom -object rng-builtin,id=rnd1 "          \
	"-object iothread,id=io0 -object secret,id=sec0,data=x "                                 \
	"-chardev null,id=chr0 -chardev socket,id=chr1,path=c,server=on,wait=off "               \
	"-chardev socket,id=chr2,host=localhost,port=1234,server=on,wait=off "                   \
	"-device pcie-root-port,id=port0,addr=3 -device virtio-mem-pci,id=vm0,memdev=mem0,"      \
	"requested-size=64M,bus=port0 -device virtio-mem-pci,id=vm1,memdev=mem1,node=1 "         \
	"-device virtio-mem-pci,memdev=mem2,on-violation=pause -device virtio-rng-pci,rng=rnd0 " \
	"-device virtio-rng-pci,id=rng1 -device isa-serial,id=com1,chardev=chr0 -device pvpanic"

struct rig;

/*
 * For cmocka: *state is a struct rig of RIG_LINE. The process is in the folder of its rig: one at a
 * time.
 */
int rig_setup(void **state);
int rig_teardown(void **state);
struct rig *rig_new(const char *line);
void rig_free(struct rig *rig);

struct vm *rig_vm(struct rig *rig);
/* What virtio_mem_resize() accepted last of the memory device. */
uint64_t rig_requested(struct rig *rig, const char *memdev_id);

/*
 * A command of programs; @args is JSON with ' for ", and format directives. A new reference to the
 * whole answer, {"return": ...} or {"error": ...}.
 */
__attribute__((format(printf, 3, 4))) json_t *rig_ask(struct rig *rig, const char *command,
						      const char *args, ...);
/* What it returns; it has to succeed. */
__attribute__((format(printf, 3, 4))) json_t *rig_get(struct rig *rig, const char *command,
						      const char *args, ...);
/* It has to be refused like that. */
__attribute__((format(printf, 5, 6))) void rig_refused(struct rig *rig, const char *class,
						       const char *desc, const char *command,
						       const char *args, ...);
/* A client that says @text to either monitor, may be dropped, and leaves. */
void rig_visit(struct rig *rig, const char *text);
void rig_visit_human(struct rig *rig, const char *text);
/* What a person's line prints; to be freed. */
char *rig_line(struct rig *rig, const char *line);
/* What a person who types @keys sees. */
char *rig_type(struct rig *rig, const char *keys);

#endif
