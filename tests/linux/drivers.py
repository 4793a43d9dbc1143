# SPDX-License-Identifier: BSD-3-Clause
"""Guests whose driver is chosen, under a monitor that is chosen: what tests of drivers share.

Both monitors take the same command line and the same words; sizes are asked of
"info memory-devices", and what is true is read in the guest.
"""

import re
import time

import attack
import initrd
import nest
import scenario
from guests import APPEND, DRIVER_DISK, MIB, QEMU, machine, power_off

EBB_MEM, STOCK = "ebb_mem", "virtio_mem"
MONITORS = {"ebb": "ebb", "qemu": QEMU}
MEMORY_MIB = 768
REGION_MIB = 2048
RESIZE_TIMEOUT_S = 120
STILL_S = 3  # nothing changed for so long: the guest did what it could
LOOK_EVERY_S = 0.1  # a monitor cannot be waited on: look again
# What a kernel says when something is wrong in it.
COMPLAINTS = (
    "BUG:|Oops|WARNING:|Call Trace|lockup|stalls on|orrupt|blocked for more|Bad page"
    "|ebb_mem.*refused"
)
BLOCKS = "/sys/devices/system/memory"
DRIVER_STATE = (
    "cd /sys/bus/virtio/drivers; grep . *_mem/virtio*/* *_mem/virtio*/s*/* 2>/dev/null; cd; "
    f"grep . {BLOCKS}/memory*/state {BLOCKS}/memory*/valid_zones"
)


class Guest:
    """A machine of KERNEL with DRIVER under MONITOR, and a device, reg0. Leave it as a context."""

    def __init__(self, host, kernel, driver=EBB_MEM, monitor="ebb", append=APPEND):
        self.driver = driver
        self.kernel = kernel
        self.append = append + (f" module_blacklist={EBB_MEM}" if driver == STOCK else "")
        words = ["-object", f"memory-backend-ram,id=mem0,size={REGION_MIB}M", "-device"]
        words += ["virtio-mem-pci,id=reg0,memdev=mem0,requested-size=0"]
        if monitor == "qemu":
            words += ["-cpu", "host", "-display", "none"]
        self.vm = machine(
            host,
            kernel,
            *words,
            memory=f"{MEMORY_MIB}M,maxmem=4G",
            append=self.append,
            disk=DRIVER_DISK,
            program=MONITORS[monitor],
        )
        self.base = None
        self.stress = None

    def __enter__(self):
        self.vm.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, nest.NestInfraError):
            self.tell()
        self.vm.__exit__(kind, error, trace)

    def tell(self):
        """What the driver knows, and what the guest's kernel said last."""
        try:
            for command in (DRIVER_STATE, "dmesg | tail -60"):
                print(self.vm.console.run(command, 30).output)
        except (nest.NestTimeout, nest.StreamEnded) as silent:
            print(f"the guest does not answer: {silent}")
            print(self.vm.process.output[-4000:].decode(errors="replace"))

    def run(self, command, timeout=60):
        """The output of COMMAND in the guest, which must end well."""
        done = self.vm.console.run(command, timeout)
        assert done.status == 0, f"{command}: {done.output}"
        return done.output

    def load(self):
        """Load the driver."""
        name = initrd.STOCK_DRIVER if self.driver == STOCK else initrd.DRIVER
        self.run(f"insmod /{name}")

    def boot(self):
        """Wait for the guest and its driver; what it has besides the device is known since the
        first time, when nothing is plugged."""
        self.vm.boot()
        if self.driver == STOCK:
            self.load()
        assert self.run("lsmod").count(f"{self.driver} ") == 1
        if self.base is None:
            self.base = self.total()

    def total(self):
        return self.vm.mem_total()[0]

    def plugged(self):
        """Bytes, as the monitor says."""
        return scenario.parse_devices(self.vm.hmp("info memory-devices"))["reg0"].size

    def ask(self, mib):
        """Ask for another size."""
        assert self.vm.hmp(f"qom-set reg0 requested-size {mib}M") == ""

    def follow(self, mib, seconds):
        """Wait until MIB MiB are plugged, SECONDS at most: all the sizes seen meanwhile."""
        begin = time.monotonic()
        seen = [self.plugged()]
        while seen[-1] != mib * MIB and time.monotonic() - begin < seconds:
            time.sleep(LOOK_EVERY_S)
            seen.append(self.plugged())
        return seen

    def await_most(self, mib):
        """Wait until no more than MIB MiB are plugged."""
        begin = time.monotonic()
        while (size := self.plugged()) > mib * MIB:
            assert time.monotonic() - begin < RESIZE_TIMEOUT_S, f"{size // MIB} MiB stay"
            time.sleep(LOOK_EVERY_S)

    def resize(self, mib):
        """Ask, wait, and see that the guest uses just that."""
        self.ask(mib)
        seen = self.follow(mib, RESIZE_TIMEOUT_S)
        assert seen[-1] == mib * MIB, f"{seen[-1] // MIB} MiB instead of {mib}"
        self.agree(mib)

    def agree(self, mib):
        """Monitor and guest have MIB MiB of the device."""
        plugged, total = self.vm.await_agreement({0: self.base})
        assert (plugged[0], total[0] - self.base) == (mib * MIB, mib * MIB)

    def await_still(self):
        """Wait until what is plugged is requested, or changes no more: bytes."""
        text = self.vm.hmp("qom-get reg0 requested-size")
        requested = int(re.search(r"\d+", text)[0])
        size, still = self.plugged(), time.monotonic()
        while size != requested and time.monotonic() - still < STILL_S:
            time.sleep(LOOK_EVERY_S)
            if self.plugged() != size:
                size, still = self.plugged(), time.monotonic()
        return size

    def start_load(self, words):
        """stress-ng with WORDS, which checks what it wrote."""
        self.run(f"/stress-ng/run {words} --verify --temp-path /tmp >/tmp/load 2>&1 & load=$!")

    def end_load(self):
        """It found nothing wrong."""
        done = self.vm.console.run("kill -INT $load; wait $load; echo $?; cat /tmp/load", 120)
        assert "successful run" in done.output and "fail:" not in done.output, done.output

    def second_kernel(self, mib):
        """Start the same kernel again, from memory, with the same driver: what is plugged then is
        not what it asks for. It comes to the MIB MiB that are requested, and gives them back."""
        words = f"/{attack.SECOND_KERNEL} /{attack.SECOND_INITRD} '{self.append}'"
        self.ask(mib)
        self.vm.process.write(f"kexec_load run {words}\n")
        self.boot()
        assert self.follow(mib, RESIZE_TIMEOUT_S)[-1] == mib * MIB
        self.ask(0)
        assert self.follow(0, RESIZE_TIMEOUT_S)[-1] == 0
        self.base = self.total()  # not what the first kernel had, to the page
        self.resize(mib)

    def finish(self):
        """The kernel complained of nothing, and the guest ends as guests do."""
        log = self.vm.console.run(f"dmesg | grep -E '{COMPLAINTS}'").output
        assert log.strip() == "", log
        power_off(self.vm)
