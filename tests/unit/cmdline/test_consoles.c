/* SPDX-License-Identifier: BSD-3-Clause */
/* Character devices, serial ports, monitors, and what is there by default. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

static struct vm_config *config_of(const char *base, const char *line)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s%s", base, line);
	return fixture_config(text);
}

/* "chardevs; serial index:chardev ...; monitors' chardevs", a '+' behind what is muxed. */
static void describe(const struct vm_config *config, char *buf, size_t size)
{
	static const char *const types[] = {"null", "stdio", "socket", "file", "pty"};
	FILE *out = fmemopen(buf, size, "w");

	assert_non_null(out);
	for (size_t i = 0; i < config->nr_chardevs; i++)
		fprintf(out, "%s=%s%s ", config->chardevs[i]->id, types[config->chardevs[i]->type],
			config->chardevs[i]->mux ? "+" : "");
	fprintf(out, ";");
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_isa_serial_config *serial = &config->devices[i]->isa_serial;

		if (config->devices[i]->type == VM_DEVICE_ISA_SERIAL)
			fprintf(out, " %u:%s", serial->index, serial->chardev->id);
	}
	fprintf(out, ";");
	for (size_t i = 0; i < config->nr_monitors; i++)
		fprintf(out, " %s", config->monitors[i]->chardev->id);
	fclose(out);
}

static void test_frontends(void **state)
{
	static const struct {
		const char *line, *text;
	} rows[] = {
		{"-nodefaults", ";;"},
		{"-nodefaults -nographic", ";;"},
		{"-S", "serial0=stdio+ ; 0:serial0; serial0"},
		{"-nographic", "serial0=stdio+ ; 0:serial0; serial0"},
		{"-display none", "serial0=stdio+ ; 0:serial0; serial0"},
		{"-daemonize", "serial0=null ; 0:serial0;"},
		{"-serial none", "compat_monitor0=stdio ;; compat_monitor0"},
		{"-monitor none", "serial0=stdio ; 0:serial0;"},
		{"-serial none -monitor none", ";;"},
		{"-serial stdio", "serial0=stdio ; 0:serial0;"},
		{"-monitor stdio",
		 "compat_monitor0=stdio serial0=null ; 0:serial0; compat_monitor0"},
		{"-serial mon:stdio", "serial0=stdio+ ; 0:serial0; serial0"},
		{"-serial mon:stdio -nodefaults", "serial0=stdio+ ; 0:serial0; serial0"},
		{"-serial null -serial pty -monitor none",
		 "serial0=null serial1=pty ; 0:serial0 1:serial1;"},
		{"-serial none -serial pty -monitor none", "serial1=pty ; 1:serial1;"},
		{"-nodefaults -serial file:a,b=c", "serial0=file ; 0:serial0;"},
		{"-nodefaults -serial unix:s,server,nowait", "serial0=socket ; 0:serial0;"},
		{"-nodefaults -serial mon:tcp::4444,server=on,wait=off",
		 "serial0=socket+ ; 0:serial0; serial0"},
		{"-nodefaults -chardev pty,id=p -serial chardev:p", "p=pty ; 0:p;"},
		{"-nodefaults -chardev pty,id=p,mux=on -serial chardev:p -monitor chardev:p",
		 "p=pty+ ; 0:p; p"},
		{"-nodefaults -chardev pty,id=p,mux -serial mon:chardev:p", "p=pty+ ; 0:p; p"},
		{"-nodefaults -monitor pty -monitor pty",
		 "compat_monitor0=pty compat_monitor1=pty ;; compat_monitor0 compat_monitor1"},
		{"-chardev null,id=n -device isa-serial,chardev=n",
		 "n=null compat_monitor0=stdio ; 0:n; compat_monitor0"},
		{"-nodefaults -chardev null,id=a -chardev null,id=b -chardev null,id=c "
		 "-device isa-serial,chardev=a -device isa-serial,chardev=b,index=0 "
		 "-device isa-serial,chardev=c",
		 "a=null b=null c=null ; 1:a 0:b 2:c;"},
		{"-nodefaults -device isa-serial,chardev=a -chardev null,id=a -serial null",
		 "a=null serial0=null ; 1:a 0:serial0;"},
		{"-chardev stdio,id=a -mon a", "a=stdio serial0=null ; 0:serial0; a"},
		{"-nodefaults -chardev null,id=a -mon chardev=a,mode=readline,id=m,pretty=on",
		 "a=null ;; a"},
		/* A monitor for programs is a monitor: there is none on the terminal then. */
		{"-qmp unix:s,server,nowait",
		 "compat_monitor0=socket serial0=stdio ; 0:serial0; compat_monitor0"},
		{"-nodefaults -monitor pty -qmp tcp:localhost:4444,server=on,wait=off -qmp-pretty "
		 "pty",
		 "compat_monitor0=pty compat_monitor1=socket compat_monitor2=pty ;; "
		 "compat_monitor0 "
		 "compat_monitor1 compat_monitor2"},
		{"-nodefaults -qmp none", ";;"},
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of("-kernel K ", rows[i].line);

		print_message("%s\n", rows[i].line);
		describe(config, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
		vm_config_free(config);
	}
}

static void test_monitor_modes(void **state)
{
	static const struct {
		const char *line;
		enum vm_monitor_mode mode;
		bool pretty;
	} rows[] = {
		{"-monitor null", VM_MONITOR_READLINE, false},
		{"-serial mon:stdio", VM_MONITOR_READLINE, false},
		{"-chardev null,id=a -mon a", VM_MONITOR_READLINE, false},
		{"-qmp null", VM_MONITOR_CONTROL, false},
		{"-qmp-pretty null", VM_MONITOR_CONTROL, true},
		{"-chardev null,id=a -mon a,mode=control", VM_MONITOR_CONTROL, false},
		{"-chardev null,id=a -mon a,mode=control,pretty=on", VM_MONITOR_CONTROL, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_config *config = config_of("-kernel K -nodefaults ", rows[i].line);

		assert_int_equal(config->nr_monitors, 1);
		assert_int_equal(config->monitors[0]->mode, rows[i].mode);
		assert_int_equal(config->monitors[0]->pretty, rows[i].pretty);
		vm_config_free(config);
	}
}

static void test_serial_places(void **state)
{
	static const uint16_t ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
	static const uint8_t irqs[] = {4, 3, 4, 3};
	struct vm_config *config;

	(void)state;
	config = config_of("-kernel K ", "-nodefaults -serial null -serial null -serial null "
					 "-chardev null,id=c -device isa-serial,chardev=c");
	assert_int_equal(config->nr_devices, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(config->devices[i]->isa_serial.iobase, ports[i]);
		assert_int_equal(config->devices[i]->isa_serial.irq, irqs[i]);
	}
	vm_config_free(config);

	config = config_of("-kernel K ", "-nodefaults -chardev null,id=c "
					 "-device isa-serial,chardev=c,iobase=0x300,irq=5");
	assert_int_equal(config->devices[0]->isa_serial.iobase, 0x300);
	assert_int_equal(config->devices[0]->isa_serial.irq, 5);
	vm_config_free(config);
}

/* One character device; what it says of sockets and files. */
static void check_chardev(const char *line, const struct vm_chardev_config *want)
{
	struct vm_config *config = config_of("-kernel K -nodefaults ", line);
	const struct vm_chardev_config *chardev = config->chardevs[0];

	print_message("%s\n", line);
	assert_int_equal(chardev->type, want->type);
	assert_int_equal(chardev->mux, want->mux);
	assert_int_equal(chardev->signal, want->signal);
	assert_string_equal(chardev->path ? chardev->path : "-", want->path ? want->path : "-");
	assert_string_equal(chardev->host ? chardev->host : "-", want->host ? want->host : "-");
	assert_string_equal(chardev->port ? chardev->port : "-", want->port ? want->port : "-");
	assert_int_equal(chardev->append, want->append);
	assert_int_equal(chardev->fd, want->fd);
	assert_int_equal(chardev->server, want->server);
	assert_int_equal(chardev->wait, want->wait);
	assert_int_equal(chardev->nodelay, want->nodelay);
	assert_int_equal(chardev->ipv4, want->ipv4);
	assert_int_equal(chardev->ipv6, want->ipv6);
	assert_int_equal(chardev->reconnect_s, want->reconnect_s);
	vm_config_free(config);
}

static void test_chardevs(void **state)
{
#define SOCKET .type = VM_CHARDEV_SOCKET, .fd = -1
#define TCP    SOCKET, .host = "h", .port = "1"
	static const struct {
		const char *line;
		struct vm_chardev_config want;
	} rows[] = {
		{"-chardev null,id=a", {.type = VM_CHARDEV_NULL, .fd = -1}},
		{"-chardev pty,id=a", {.type = VM_CHARDEV_PTY, .fd = -1}},
		{"-chardev stdio,id=a", {.type = VM_CHARDEV_STDIO, .signal = true, .fd = -1}},
		{"-chardev stdio,id=a,signal=off,mux=on",
		 {.type = VM_CHARDEV_STDIO, .mux = true, .fd = -1}},
		{"-serial mon:stdio", {.type = VM_CHARDEV_STDIO, .mux = true, .fd = -1}},
		{"-serial stdio", {.type = VM_CHARDEV_STDIO, .signal = true, .fd = -1}},
		{"-chardev file,id=a,path=x,,y",
		 {.type = VM_CHARDEV_FILE, .path = "x,y", .fd = -1}},
		{"-chardev file,id=a,path=x,append",
		 {.type = VM_CHARDEV_FILE, .path = "x", .append = true, .fd = -1}},
		{"-serial file:x,y", {.type = VM_CHARDEV_FILE, .path = "x,y", .fd = -1}},
		{"-chardev socket,id=a,path=s", {SOCKET, .path = "s"}},
		{"-chardev socket,id=a,path=s,reconnect=5",
		 {SOCKET, .path = "s", .reconnect_s = 5}},
		{"-chardev socket,id=a,path=s,server",
		 {SOCKET, .path = "s", .server = true, .wait = true}},
		{"-chardev socket,id=a,path=s,server,nowait",
		 {SOCKET, .path = "s", .server = true}},
		{"-chardev socket,id=a,path=s,server=on,wait=off",
		 {SOCKET, .path = "s", .server = true}},
		{"-chardev socket,id=a,fd=7,server=on,wait=off",
		 {.type = VM_CHARDEV_SOCKET, .fd = 7, .server = true}},
		{"-chardev socket,id=a,host=h,port=1", {TCP}},
		{"-chardev socket,id=a,host=h,port=1,nodelay", {TCP, .nodelay = true}},
		{"-chardev socket,id=a,host=h,port=1,nodelay=on", {TCP, .nodelay = true}},
		{"-chardev socket,id=a,host=h,port=1,delay=off", {TCP, .nodelay = true}},
		{"-chardev socket,id=a,host=h,port=1,delay=on", {TCP}},
		{"-chardev socket,id=a,host=h,port=1,ipv4", {TCP, .ipv4 = true}},
		{"-chardev socket,id=a,host=h,port=1,ipv6=off", {TCP, .ipv4 = true}},
		{"-chardev socket,id=a,host=h,port=1,noipv4", {TCP, .ipv6 = true}},
		{"-chardev socket,id=a,host=h,port=1,ipv4,ipv6", {TCP}},
		{"-chardev socket,id=a,host=,port=1,server",
		 {SOCKET, .port = "1", .server = true, .wait = true}},
		{"-serial unix:s,server=on", {SOCKET, .path = "s", .server = true, .wait = true}},
		{"-serial tcp:h:1,nodelay", {TCP, .nodelay = true}},
		{"-serial tcp::1,server,nowait", {SOCKET, .port = "1", .server = true}},
		{"-serial tcp:[::1]:1", {SOCKET, .host = "::1", .port = "1"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_chardev(rows[i].line, &rows[i].want);
}

static void test_fd_set(void **state)
{
	char line[256];
	int pipes[2];
	struct vm_config *config;
	struct err *err = NULL;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	snprintf(line, sizeof(line),
		 "-chardev file,id=a,path=/dev/fdset/2,append=on -add-fd set=2,fd=%d,opaque=rd:x "
		 "-add-fd set=2,fd=%d",
		 pipes[0], pipes[1]);
	config = config_of("-kernel K -nodefaults ", line);
	assert_int_equal(config->nr_fds, 2);
	assert_string_equal(config->fds[0].opaque, "rd:x");
	assert_true(config->chardevs[0]->has_fdset);
	assert_int_equal(config->chardevs[0]->fdset, 2);
	assert_int_equal(config->chardevs[0]->fd, -1);
	vm_config_free(config);
	snprintf(line, sizeof(line), "-kernel K -add-fd set=1,fd=%d -add-fd set=2,fd=%d", pipes[0],
		 pipes[0]);
	assert_int_equal(fixture_parse(line, &config, &err), -EEXIST);
	snprintf(line, sizeof(line), "-add-fd: fd=%d is given twice", pipes[0]);
	assert_string_equal(err_message(err), line);
	err_free(err);
	close(pipes[0]);
	close(pipes[1]);
}

/* The scenario that virtio-mem was first shown with, word for word. */
static void test_scenario(void **state)
{
	static const char line[] = "--enable-kvm -m 4G,maxmem=20G -smp sockets=2,cores=2 "
				   "-numa node,nodeid=0,cpus=0-1 -numa node,nodeid=1,cpus=2-3 "
				   "-machine pc -kernel K -nodefaults "
				   "-chardev stdio,id=serial -device isa-serial,chardev=serial "
				   "-append console=ttyS0 -initrd I "
				   "-chardev socket,id=monitor,path=SOCKET,server,nowait "
				   "-mon chardev=monitor,mode=readline "
				   "-object memory-backend-ram,id=mem0,size=4G,max-size=8G "
				   "-device virtio-mem-pci,id=reg0,memdev=mem0,node=0 "
				   "-object memory-backend-ram,id=mem1,size=3G,max-size=8G "
				   "-device virtio-mem-pci,id=reg1,memdev=mem1,node=1";
	struct vm_config *config = fixture_config(line);
	char text[256];

	(void)state;
	describe(config, text, sizeof(text));
	assert_string_equal(text, "serial=stdio monitor=socket ; 0:serial; monitor");
	assert_true(config->chardevs[1]->server);
	assert_false(config->chardevs[1]->wait);
	assert_int_equal(config->numa.nr_nodes, 2);
	assert_int_equal(config->numa.nodes[0].mem_bytes, 2 * GIB);
	assert_int_equal(config->numa.nodes[1].mem_bytes, 2 * GIB);
	assert_int_equal(config->numa.nodes[0].cpus, 3);
	assert_int_equal(config->numa.nodes[1].cpus, 12);
	assert_int_equal(config->memory.max_bytes - config->memory.ram_bytes, 16 * GIB);
	assert_int_equal(config->nr_devices, 3);
	for (unsigned int i = 0; i < 2; i++) {
		const struct vm_device_config *device = config->devices[1 + i];

		assert_string_equal(device->id, i ? "reg1" : "reg0");
		assert_int_equal(device->virtio_mem.node, i);
		assert_int_equal(device->virtio_mem.region_size_bytes, 8 * GIB);
		assert_int_equal(device->virtio_mem.requested_size_bytes, (i ? 3 : 4) * GIB);
	}
	vm_config_free(config);
}

/* What a management library writes; test_managed.c has what it writes in other cases. */
#define MANAGED                                                                                   \
	"-name guest=N,debug-threads=on -S "                                                      \
	"-object {\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\","              \
	"\"file\":\"/x/master-key.aes\"} "                                                        \
	"-machine pc-q35-9.0,usb=off,dump-guest-core=off -accel kvm -cpu host,migratable=on "     \
	"-m size=2097152k,slots=4,maxmem=16777216k -overcommit mem-lock=off "                     \
	"-smp 2,sockets=2,cores=1,threads=1 "                                                     \
	"-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"ram-node0\",\"size\":2147483648} " \
	"-numa node,nodeid=0,cpus=0-1,memdev=ram-node0 "                                          \
	"-uuid 00112233-4455-6677-8899-aabbccddeeff -display none -no-user-config -nodefaults "   \
	"-chardev socket,id=charmonitor,fd=27,server=on,wait=off "                                \
	"-rtc base=utc -no-shutdown -boot strict=on -kernel K -initrd I -append quiet "           \
	"-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"memua-vmem0\",\"reserve\":false,"  \
	"\"size\":4294967296} "                                                                   \
	"-device {\"driver\":\"pcie-root-port\",\"port\":8,\"chassis\":1,\"id\":\"pci.1\","       \
	"\"bus\":\"pcie.0\",\"multifunction\":true,\"addr\":\"0x1\"} "                            \
	"-device {\"driver\":\"pcie-root-port\",\"port\":9,\"chassis\":2,\"id\":\"pci.2\","       \
	"\"bus\":\"pcie.0\",\"addr\":\"0x1.0x1\"} "                                               \
	"-device {\"driver\":\"virtio-mem-pci\",\"node\":0,\"block-size\":2097152,"               \
	"\"requested-size\":1073741824,\"memdev\":\"memua-vmem0\",\"id\":\"ua-vmem0\","           \
	"\"bus\":\"pci.2\",\"addr\":\"0x0\"} "                                                    \
	"-chardev pty,id=charserial0 "                                                            \
	"-device {\"driver\":\"isa-serial\",\"chardev\":\"charserial0\",\"id\":\"serial0\","      \
	"\"index\":0} "                                                                           \
	"-audiodev {\"id\":\"audio1\",\"driver\":\"none\"} "                                      \
	"-global ICH9-LPC.noreboot=off -watchdog-action reset -msg timestamp=on "

static void test_managed(void **state)
{
	struct vm_config *config =
		fixture_config(MANAGED "-mon chardev=charmonitor,id=monitor,mode=control "
				       "-incoming defer");
	const struct vm_virtio_mem_config *mem = &config->devices[2]->virtio_mem;

	(void)state;
	assert_int_equal(config->chardevs[0]->fd, 27);
	assert_int_equal(config->memory.ram_bytes, 2 * GIB);
	assert_int_equal(config->memory.max_bytes, 16 * GIB);
	assert_string_equal(config->numa.nodes[0].memdev->id, "ram-node0");
	assert_int_equal(config->numa.nodes[0].memdev->user, VM_MEMDEV_BOOT);
	assert_int_equal(config->monitors[0]->mode, VM_MONITOR_CONTROL);
	assert_int_equal(config->nr_devices, 4);
	assert_true(config->devices[0]->pci.multifunction);
	assert_int_equal(config->devices[0]->root_port.port, 8);
	assert_false(config->devices[0]->root_port.has_slot);
	assert_true(config->devices[0]->root_port.hotplug);
	assert_int_equal(config->devices[0]->root_port.memory_reserve, UINT64_MAX);
	assert_int_equal(config->devices[1]->pci.slot, 1);
	assert_int_equal(config->devices[1]->pci.function, 1);
	assert_null(config->devices[1]->pci.port);
	assert_string_equal(config->devices[2]->id, "ua-vmem0");
	assert_ptr_equal(config->devices[2]->pci.port, config->devices[1]);
	assert_int_equal(mem->requested_size_bytes, GIB);
	assert_false(mem->memdev->reserve);
	assert_int_equal(config->action.shutdown, VM_SHUTDOWN_PAUSE);
	assert_string_equal(config->machine.name, "pc-q35-9.0");
	assert_string_equal(config->incoming, "defer");
	vm_config_free(config);
}

static void test_without_kernel(void **state)
{
	struct vm_config *config = NULL;
	struct err *err = NULL;

	(void)state;
	assert_true(fixture_parse("-m 4G", &config, &err) < 0);
	assert_string_equal(err_message(err),
			    "-kernel: is missing; ebb starts a Linux kernel directly (bzImage or "
			    "ELF vmlinux) and has no firmware to start from disks");
	err_free(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frontends),      cmocka_unit_test(test_monitor_modes),
		cmocka_unit_test(test_serial_places),  cmocka_unit_test(test_chardevs),
		cmocka_unit_test(test_fd_set),         cmocka_unit_test(test_scenario),
		cmocka_unit_test(test_managed),        cmocka_unit_test(test_without_kernel),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
