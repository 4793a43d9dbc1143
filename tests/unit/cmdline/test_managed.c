/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Command lines as libvirt writes them for what a domain can say (versions 9.0 and 11.3): each part
 * next to what all of them have. What works does, and is looked at where it has a meaning; what does
 * not is refused by a sentence that names the thing, so that it can be read in virsh's error.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"

#define COMMON                                                                              \
	"-name guest=N,process=qemu:N,debug-threads=on -S "                                 \
	"-object {\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\","        \
	"\"file\":\"/x/master-key.aes\"} -accel kvm -overcommit mem-lock=off "              \
	"-smp 2,sockets=2,cores=1,threads=1 -uuid 00112233-4455-6677-8899-aabbccddeeff "    \
	"-display none -no-user-config -nodefaults -chardev socket,id=charmonitor,fd=27,"   \
	"server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control -no-shutdown " \
	"-kernel K -append quiet -audiodev {\"id\":\"audio1\",\"driver\":\"none\"} "        \
	"-msg timestamp=on "
#define MACHINE "-machine pc-q35-9.0,usb=off,dump-guest-core=off,memory-backend=pc.ram "
#define MEMORY                                                                   \
	"-m 512 -object {\"qom-type\":\"memory-backend-ram\",\"id\":\"pc.ram\"," \
	"\"size\":536870912} "
#define BASE    COMMON MACHINE MEMORY "-cpu host,migratable=on "
#define SANDBOX "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

/* What has an effect is looked at below; the others are there, and change nothing. */
static void test_accepted(void **state)
{
	static const char *const lines[] = {
		BASE "-rtc base=utc -boot strict=on " SANDBOX,
		/* clocks: <timer name='rtc' tickpolicy='catchup'/>, 'pit', 'hpet' */
		BASE "-rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-hpet",
		BASE "-rtc base=localtime -global kvm-pit.lost_tick_policy=discard",
		/* <bootmenu enable='no'/>, <bios rebootTimeout='5000'/> */
		BASE "-boot menu=off,strict=on",
		BASE "-boot reboot-timeout=5000,strict=on",
		/* <pm>, machines of 11.3 */
		BASE "-global ICH9-LPC.disable_s3=1 -global ICH9-LPC.disable_s4=1",
		BASE "-global ICH9-LPC.noreboot=off -watchdog-action reset",
		COMMON
		"-machine pc-i440fx-9.0,usb=off,dump-guest-core=off,memory-backend=pc.ram " MEMORY
		"-global PIIX4_PM.disable_s3=1 -global PIIX4_PM.disable_s4=1 "
		"-global PIIX4_PM.acpi-root-pci-hotplug=off",
		/* USB on pc, without being asked */
		COMMON
		"-machine pc-i440fx-9.0,usb=off,dump-guest-core=off,memory-backend=pc.ram " MEMORY
		"-device {\"driver\":\"piix3-usb-uhci\",\"id\":\"usb\",\"bus\":\"pci.0\","
		"\"addr\":\"0x1.0x2\"}",
		/* <iothreads> with a pool */
		BASE "-object {\"qom-type\":\"iothread\",\"id\":\"iothread1\","
		     "\"thread-pool-min\":1,\"thread-pool-max\":8}",
		/* <memoryBacking><locked/> */
		BASE "-overcommit mem-lock=on",
		/* <panic/> */
		BASE "-device {\"driver\":\"pvpanic\"}",
		/* <smbios mode='sysinfo'/>, <sysinfo type='smbios'> with all that it may have */
		BASE
		"-smbios type=0,vendor=V,version=1.0,date=01/02/2003,release=4.5 "
		"-smbios type=1,manufacturer=M,product=P,version=7,serial=S,"
		"uuid=00112233-4455-6677-8899-aabbccddeeff,sku=K,family=F "
		"-smbios type=2,manufacturer=M,product=P,version=7,serial=S,asset=A,location=L "
		"-smbios type=3,manufacturer=M,version=7,serial=S,asset=A,sku=K "
		"-smbios type=11,value=first,value=second",
		/* serial ports of each kind that there is */
		BASE "-chardev pty,id=charserial0 -device {\"driver\":\"isa-serial\","
		     "\"chardev\":\"charserial0\",\"id\":\"serial0\",\"index\":1}",
		BASE "-chardev file,id=charserial0,path=/tmp/s,append=on",
		BASE "-chardev socket,id=charserial0,path=/tmp/u,server=on,wait=off",
		BASE "-chardev socket,id=charserial0,path=/tmp/u,reconnect=10",
		BASE "-chardev socket,id=charserial0,host=127.0.0.1,port=4555,server=on,wait=off",
		BASE "-chardev socket,id=charserial0,host=127.0.0.1,port=4555",
		BASE "-chardev null,id=charserial0",
		BASE "-chardev pty,id=charserial0,logfile=/tmp/log,logappend=on",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		vm_config_free(fixture_config(lines[i]));
}

static void test_clock(void **state)
{
	struct vm_config *config = fixture_config(BASE "-rtc base=2023-11-14T22:13:20");

	(void)state;
	assert_int_equal(config->rtc.base, VM_RTC_DATE);
	assert_int_equal(config->rtc.date_s, 1700000000);
	vm_config_free(config);
	config = fixture_config(BASE "-rtc base=2099-12-31");
	assert_int_equal(config->rtc.date_s, 4102358400);
	vm_config_free(config);
	config = fixture_config(BASE "-rtc base=2023-11-14 -rtc base=localtime -rtc driftfix=none");
	assert_int_equal(config->rtc.base, VM_RTC_LOCALTIME);
	vm_config_free(config);
}

static void test_sandbox(void **state)
{
	struct vm_config *config = fixture_config(BASE SANDBOX);

	(void)state;
	assert_true(config->sandbox.enable);
	assert_false(config->sandbox.obsolete);
	assert_int_equal(config->sandbox.elevate, VM_SANDBOX_ELEVATE_DENY);
	assert_false(config->sandbox.spawn);
	assert_false(config->sandbox.resource_control);
	vm_config_free(config);
	config = fixture_config(BASE "-sandbox on");
	assert_true(config->sandbox.enable);
	assert_false(config->sandbox.obsolete);
	assert_int_equal(config->sandbox.elevate, VM_SANDBOX_ELEVATE_ALLOW);
	assert_true(config->sandbox.spawn);
	assert_true(config->sandbox.resource_control);
	vm_config_free(config);
	config = fixture_config(BASE "-sandbox on,spawn=deny -sandbox enable=on,obsolete=allow "
				     "-sandbox on,elevateprivileges=children");
	assert_true(config->sandbox.obsolete);
	assert_false(config->sandbox.spawn);
	assert_int_equal(config->sandbox.elevate, VM_SANDBOX_ELEVATE_CHILDREN);
	vm_config_free(config);
	config = fixture_config(BASE "-S");
	assert_false(config->sandbox.enable);
	vm_config_free(config);
}

static void test_refused(void **state)
{
	static const struct error_row rows[] = {
		{BASE "-rtc base=utc,clock=vm", ENOTSUP,
		 "-rtc: clock=vm is not possible: the clock goes on while the guest stands still, "
		 "as with a battery"},
		{BASE "-boot menu=on,splash-time=3000,strict=on", ENOTSUP,
		 "-boot: menu=on is not possible: there is no firmware to show one"},
		{BASE "-blockdev {\"driver\":\"file\",\"filename\":\"/x\"}", ENOTSUP,
		 "-blockdev: there are no disks in this version"},
		{BASE "-netdev {\"type\":\"tap\",\"fd\":\"24\",\"id\":\"hostnet0\"}", ENOTSUP,
		 "-netdev: there is no network in this version"},
		{BASE "-vnc 127.0.0.1:0,audiodev=audio1", ENOTSUP, "-vnc: there is no display"},
		{BASE "-spice port=5900", ENOTSUP, "-spice: there is no display"},
		{BASE "-usb", ENOTSUP,
		 "-machine: usb=on (and -usb) is not possible with pc-q35-9.0: only the machine pc "
		 "has a USB controller in this version"},
		{BASE "-no-acpi", ENOTSUP,
		 "-no-acpi: guests learn of CPUs, NUMA nodes and memory devices from ACPI; libvirt "
		 "gives them ACPI with <features><acpi/></features>"},
		{BASE "-bios /usr/share/seabios/bios.bin", ENOTSUP,
		 "-bios: there is no firmware; allowed: -kernel"},
		{BASE "-fw_cfg name=opt/x,string=y", ENOTSUP,
		 "-fw_cfg: there is no firmware, and so no channel for its files; allowed: "
		 "-append"},
		{BASE "-fsdev local,security_model=passthrough,id=fsdev-fs0,path=/tmp", ENOTSUP,
		 "-fsdev: no folders of the host are shared in this version"},
		{BASE "-tpmdev emulator,id=tpm0", ENOTSUP,
		 "-tpmdev: there is no TPM in this version"},
		{BASE "-chardev udp,id=charserial0,host=127.0.0.1,port=4555", EINVAL,
		 "-chardev: backend=udp is unknown; allowed: stdio, socket, file, pty, null"},
	};

	(void)state;
	fixture_check_errors(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
