# SPDX-License-Identifier: BSD-3-Clause
"""What test_schema.py asks and what it expects to differ: data only."""

MIB = 1 << 20

# What differs ("place what", "*" stands for anything), and why.
DIFFERENT = {
    "chardev-add.backend.data.addr.data.to missing": "a socket listens on the port that it is told",
    "human-monitor-command feature savevm-monitor-nodes": "there are no snapshots",
    "input *\\\\u0000*": "no name has a NUL: refused",
    "input *\\xc0\\x80*": "NUL in a spelling that UTF-8 does not allow: refused",
    "input *18446744073709551615*": "integers have 63 bits, larger ones are real numbers",
    "input *1e400*": "refused: QEMU repeats it in a spelling that is no JSON",
    "migrate-set-capabilities*xbzrle*True*gives GenericError*": "there is nothing of that kind",
    "migrate-set-parameters tls-0 gives GenericError*": "nothing is encrypted: not even the wish",
    "migrate-set-parameters -1 gives GenericError*": "less than nothing is no bandwidth",
    "migrate-set-parameters zlib gives GenericError*": "there is zstd",
    "object-add.loaded missing": "deprecated, and of objects that are not there",
    "object-add.opened missing": "deprecated",
    "object-add.offset extra": "where in a file the memory starts, as later versions have it",
    "object-add.rom extra": "as later versions have it",
    "object-add.max-size extra": "the largest size of a memory device's memory, our own",
    "object-add.aio-max-batch missing": "no device can be put on an iothread",
    "object-add.poll-* missing": "no device can be put on an iothread",
    "object-add.thread-pool-* missing": "no device can be put on an iothread",
    "property machine type *": "the version of the machine's name",
    "qmp_capabilities * CommandNotFound": "that it comes twice is told first",
    "qom-get.stats.stat-* missing": "what the guest did not say is left out",
    "qom-list-properties nosuch gives return*": "a client in use ends itself on an error here",
    "query-blockstats gives[].stats missing": "there are no disks: always an empty list",
    "query-cpu-model-expansion.model.props.* missing": "what has no name here",
    "query-cpus-fast gives[].cpu-state missing": "of another architecture",
    "query-jobs gives[].reason extra": "why a resize ended, for programs",
    "query-jobs gives[].type value dump-guest-memory": "our own kinds of jobs",
    "query-jobs gives[].type value migrate": "our own kinds of jobs",
    "query-jobs gives[].type value memory-resize": "our own kinds of jobs",
    "query-jobs gives[].type value virtio-mem-resize": "our own kinds of jobs",
    "query-machines[].default-cpu-type missing": "nobody shall store it: it is the host's",
    "query-migrate gives.ram.hinted extra": "free pages that were left out",
    "query-named-block-nodes gives[].*": "there are no disks: always an empty list",
    "query-stats* value virtio-mem": "our own figures, beside those of QEMU's providers",
}

MACHINE = """-name shape -uuid 01234567-89ab-cdef-0123-456789abcdef -machine q35
    -m 256M,maxmem=4G,slots=2 -smp 2,maxcpus=4,sockets=2,cores=2
    -object memory-backend-ram,id=ram0,size=128M -object memory-backend-ram,id=ram1,size=128M
    -numa node,nodeid=0,cpus=0-1,memdev=ram0 -numa node,nodeid=1,cpus=2-3,memdev=ram1
    -object memory-backend-ram,id=mem0,size=1G -object memory-backend-ram,id=mem1,size=64M
    -device virtio-mem-pci,id=reg0,memdev=mem0,requested-size=64M,node=1
    -device pcie-root-port,id=port0,chassis=1 -device pcie-root-port,id=port1,chassis=2
    -device virtio-mem-pci,id=reg1,memdev=mem1,bus=port0
    -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,id=noise,rng=rng0
    -device virtio-balloon-pci,id=ball0
    -object iothread,id=thread0 -chardev null,id=null0 -no-shutdown""".split()

REG0 = "/machine/peripheral/reg0"
BALL0 = "/machine/peripheral/ball0"

# Commands that answer from what is there: name and arguments, in the order they are sent.
QUERIES = [
    ("query-version", {}),
    ("query-commands", {}),
    ("query-qmp-schema", {}),
    ("query-status", {}),
    ("query-name", {}),
    ("query-uuid", {}),
    ("query-kvm", {}),
    ("query-target", {}),
    ("query-machines", {}),
    ("query-current-machine", {}),
    ("query-cpus-fast", {}),
    ("query-hotpluggable-cpus", {}),
    ("query-cpu-definitions", {}),
    ("query-cpu-model-expansion", {"type": "static", "model": {"name": "max"}}),
    ("query-cpu-model-expansion", {"type": "full", "model": {"name": "max"}}),
    ("query-memory-size-summary", {}),
    ("query-memory-devices", {}),
    ("query-memdev", {}),
    ("query-iothreads", {}),
    ("query-chardev", {}),
    ("query-pci", {}),
    ("query-block", {}),
    ("query-blockstats", {}),
    ("query-named-block-nodes", {}),
    ("query-jobs", {}),
    ("query-fdsets", {}),
    ("query-migrate", {}),
    ("query-dirty-rate", {}),
    ("query-dump", {}),
    ("query-dump-guest-memory-capability", {}),
    ("query-migrate-capabilities", {}),
    ("query-migrate-parameters", {}),
    ("query-stats", {"target": "vm"}),
    ("query-stats-schemas", {}),
    ("query-command-line-options", {}),
    ("query-command-line-options", {"option": "memory"}),
    ("human-monitor-command", {"command-line": "info status"}),
    ("human-monitor-command", {"command-line": "info nosuchthing"}),
    ("qom-list", {"path": "/"}),
    ("qom-list", {"path": "/machine"}),
    ("qom-list", {"path": "/objects"}),
    ("qom-list", {"path": "/machine/peripheral"}),
    ("qom-list", {"path": REG0}),
    ("qom-list", {"path": "reg0"}),
    ("qom-list-types", {}),
    ("qom-list-types", {"implements": "memory-backend"}),
    ("qom-list-properties", {"typename": "memory-backend-ram"}),
    ("device-list-properties", {"typename": "virtio-mem-pci"}),
    *[
        ("qom-get", {"path": REG0, "property": name})
        for name in (
            *("size", "requested-size", "block-size", "memaddr", "node", "memdev", "prealloc"),
            *("unplugged-inaccessible", "type", "hotplugged", "realized"),
        )
    ],
    ("query-balloon", {}),
    ("qom-list", {"path": BALL0}),
    ("device-list-properties", {"typename": "virtio-balloon-pci"}),
    *[
        ("qom-get", {"path": BALL0, "property": name})
        for name in (
            *("guest-stats", "guest-stats-polling-interval", "deflate-on-oom", "type"),
            *("free-page-reporting", "free-page-hint", "page-poison"),
        )
    ],
    *[
        ("qom-get", {"path": "/objects/mem0", "property": name})
        for name in ("size", "share", "policy", "prealloc", "merge", "dump", "host-nodes", "type")
    ],
]

# The same of what QEMU has not.
OWN_QUERIES = [
    ("query-stats", {"target": "virtio-mem"}),
    ("query-virtio-mem", {}),
    ("query-virtio-mem", {"device": "reg0"}),
    ("query-virtio-mem-blocks", {"device": "reg0"}),
    ("query-virtio-mem-blocks", {"device": "reg0", "cells": 7}),
]

# Commands that change something, and what is done wrong with them; "fd": one is sent along.
ACTIONS = [
    *[("balloon", {"value": value}) for value in (64 * MIB, 0, -1, 1, 1 << 60)],
    ("query-balloon", {}),
    *[
        ("qom-set", {"path": BALL0, "property": "guest-stats-polling-interval", "value": value})
        for value in (3, 0, -1, 1 << 32, "1", None)
    ],
    ("qom-get", {"path": BALL0, "property": "guest-stats-polling-interval"}),
    ("qom-set", {"path": BALL0, "property": "guest-stats", "value": 1}),
    ("qom-set", {"path": BALL0, "property": "deflate-on-oom", "value": True}),
    ("device_add", {"driver": "virtio-balloon-pci", "id": "ball1"}),
    ("qom-set", {"path": REG0, "property": "requested-size", "value": 128 * MIB}),
    ("qom-get", {"path": REG0, "property": "requested-size"}),
    ("qom-set", {"path": REG0, "property": "requested-size", "value": 1}),
    ("qom-set", {"path": REG0, "property": "requested-size", "value": 2 << 30}),
    ("qom-set", {"path": REG0, "property": "requested-size", "value": "x"}),
    ("qom-set", {"path": REG0, "property": "requested-size", "value": -1}),
    ("qom-set", {"path": REG0, "property": "size", "value": 0}),
    ("qom-set", {"path": REG0, "property": "node", "value": 0}),
    ("qom-set", {"path": REG0, "property": "nosuch", "value": 0}),
    ("qom-set", {"path": "/machine/peripheral/nosuch", "property": "size", "value": 0}),
    ("qom-get", {"path": "/machine/peripheral/nosuch", "property": "size"}),
    ("qom-get", {"path": REG0, "property": "nosuch"}),
    ("qom-list", {"path": "/nosuch"}),
    ("qom-list", {"path": ""}),
    ("qom-list-properties", {"typename": "nosuch"}),
    ("device-list-properties", {"typename": "nosuch"}),
    ("device-list-properties", {"typename": "memory-backend-ram"}),
    ("query-command-line-options", {"option": "nosuch"}),
    ("set-action", {"reboot": "reset", "panic": "pause"}),
    ("set-action", {"reboot": "nosuch"}),
    ("job-cancel", {"id": "nosuch"}),
    ("job-dismiss", {"id": "nosuch"}),
    ("getfd", {"fdname": "f0"}),
    ("getfd", {"fdname": "f0"}, "fd"),
    ("getfd", {"fdname": "0"}, "fd"),
    ("closefd", {"fdname": "f0"}),
    ("closefd", {"fdname": "f0"}),
    ("add-fd", {}),
    ("add-fd", {"fdset-id": 7, "opaque": "seven"}, "fd"),
    ("add-fd", {"fdset-id": -1}, "fd"),
    ("query-fdsets", {}),
    ("remove-fd", {"fdset-id": 7}),
    ("remove-fd", {"fdset-id": 8}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 64 * MIB}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 64 * MIB}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "0", "size": 64 * MIB}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m"}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": "x"}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 0}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": MIB, "nosuch": 1}),
    ("object-add", {"qom-type": "nosuch", "id": "m"}),
    ("object-del", {"id": "nosuch"}),
    ("object-del", {"id": "mem0"}),
    ("device_add", {"driver": "nosuch"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "bus": "port1"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "memdev": "mem0", "bus": "port1"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg0", "memdev": "more", "bus": "port1"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "memdev": "more", "bus": "nosuch"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "memdev": "nosuch"}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "memdev": "more", "x": 1}),
    ("device_add", {"driver": "virtio-mem-pci", "id": "reg2", "memdev": "more", "bus": "port1"}),
    ("query-memory-devices", {}),
    ("qom-list", {"path": "/machine/peripheral/reg2"}),
    ("object-del", {"id": "more"}),
    ("device_del", {"id": "nosuch"}),
    ("device_del", {"id": "/machine/peripheral/nosuch"}),
    ("chardev-add", {"id": "null1", "backend": {"type": "null", "data": {}}}),
    ("chardev-add", {"id": "null1", "backend": {"type": "null", "data": {}}}),
    ("chardev-add", {"id": "null2", "backend": {"type": "nosuch", "data": {}}}),
    ("chardev-add", {"id": "null2", "backend": {"type": "null"}}),
    ("chardev-add", {"id": "pty1", "backend": {"type": "pty", "data": {}}}),
    ("chardev-remove", {"id": "null1"}),
    ("chardev-remove", {"id": "null1"}),
    ("chardev-remove", {"id": "qmp"}),
    ("chardev-remove", {"id": "pty1"}),
    *[
        ("migrate-set-capabilities", {"capabilities": [{"capability": name, "state": state}]})
        for name, state in (
            *(("events", True), ("multifd", True), ("multifd", False), ("nosuch", True)),
            *(("xbzrle", False), ("xbzrle", True), ("postcopy-preempt", True)),
        )
    ],
    ("migrate-set-capabilities", {"capabilities": []}),
    ("query-migrate-capabilities", {}),
    *[
        ("migrate-set-parameters", {name: value})
        for name, value in (
            *(("max-bandwidth", 1 << 40), ("max-bandwidth", -1), ("max-bandwidth", "1")),
            *(("downtime-limit", 2000000), ("downtime-limit", 2000001)),
            *(("multifd-channels", 255), ("multifd-channels", 0), ("multifd-channels", 256)),
            *(("multifd-compression", "zstd"), ("multifd-compression", "lz4")),
            *(("compress-level", 9), ("compress-level", 10), ("x-checkpoint-delay", 1)),
            *(("xbzrle-cache-size", 4096), ("xbzrle-cache-size", 4097)),
            *(("cpu-throttle-initial", 99), ("cpu-throttle-initial", 100)),
            *(("max-cpu-throttle", 50), ("cpu-throttle-tailslow", True)),
            *(("announce-rounds", 1001), ("throttle-trigger-threshold", 101)),
            *(("tls-creds", ""), ("tls-creds", None), ("tls-creds", "tls-0")),
            ("multifd-compression", "zlib"),
        )
    ],
    ("migrate-set-parameters", {}),
    ("query-migrate-parameters", {}),
    ("migrate", {"uri": "nowhere"}),
    ("migrate", {"uri": "tcp:"}),
    ("migrate", {"uri": "fd:nosuch"}),
    ("migrate", {"uri": "nowhere", "blk": True}),
    ("migrate", {"uri": "nowhere", "resume": True}),
    ("migrate_cancel", {}),
    ("migrate-continue", {"state": "pre-switchover"}),
    ("migrate-continue", {"state": "colo"}),
    ("migrate-continue", {"state": "nosuch"}),
    ("migrate-start-postcopy", {}),
    ("migrate-pause", {}),
    ("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}),
    ("migrate-recover", {"uri": "tcp:127.0.0.1:0"}),
    ("dump-guest-memory", {"paging": False, "protocol": "tcp:x"}),
    ("dump-guest-memory", {"paging": False, "protocol": "fd:nosuch"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/nosuch/file"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/dev/null", "begin": 0}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/dev/null", "length": 1}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/dev/null", "format": "nosuch"}),
    ("calc-dirty-rate", {"calc-time": 0}),
    ("calc-dirty-rate", {"calc-time": 1, "sample-pages": 1}),
    ("calc-dirty-rate", {"calc-time": 1, "mode": "nosuch"}),
    ("announce-self", {"initial": 1}),
    ("stop", {}),
    ("system_powerdown", {}),
    ("no-such-command", {}),
    ("qmp_capabilities", {}),
]

# Commands that must be there, besides those above.
OTHERS = ["inject-nmi", "stop", "cont", "system_reset", "system_powerdown", "quit", "closefd", "device_del"]
COMMANDS = list(dict.fromkeys([q[0] for q in QUERIES] + [a[0] for a in ACTIONS[:-2]] + OTHERS))
COMMANDS.append("qmp_capabilities")
EVENTS = """STOP RESUME RESET SHUTDOWN POWERDOWN GUEST_PANICKED DEVICE_DELETED JOB_STATUS_CHANGE
    BALLOON_CHANGE MEMORY_DEVICE_SIZE_CHANGE MIGRATION MIGRATION_PASS""".split()

# Answers that list properties, and those that QEMU has not.
PROPERTIES = [
    ("qom-list", {"path": "/"}),
    ("qom-list", {"path": "/machine"}),
    ("qom-list", {"path": REG0}),
    ("qom-list-properties", {"typename": "memory-backend-ram"}),
    ("device-list-properties", {"typename": "virtio-mem-pci"}),
    ("qom-list", {"path": BALL0}),
    ("device-list-properties", {"typename": "virtio-balloon-pci"}),
]
OWN_PROPERTIES = {
    "dynamic-memslots",  # of later versions
    *("guard", "guard-mechanism", "guard-memslots", "memslot-size", "on-violation"),
    *("max-size", "region-size", "usable-region-size", "vectors"),
    *("request-status", "request-explanation"),
    *("guest-requests", "request-limit", "request-rate", "granted-size"),
    *("violation-reads", "violation-writes"),
}

# Input that is no command, or no JSON, after negotiation without capabilities.
BROKEN = [
    b"[1]",
    b"3",
    b'"text"',
    b"null",
    b"true",
    b"tru",
    b"{}",
    b"}",
    b"]",
    b":",
    b'{"execute":1,"id":3}',
    b'{"id":[3,{"a":null}]}',
    b'{"execute":"query-status","id":null}',
    b'{"execute":"query-status","id":{"a":[1.5,true]}}',
    b'{"execute":"query-status","nosuch":1,"id":1}',
    b'{"execute":"query-status","arguments":{},"id":""}',
    b'{"execute":"query-status","arguments":[],"id":1}',
    b'{"execute":"query-status","arguments":null}',
    b'{"execute":"query-status","execute":"stop"}',
    b'{"execute":"qom-get","arguments":{"path":"a","path":"b"},"id":1}',
    b"{'execute':'query-name','id':'single \\' quotes'}",
    b'{"exec-oob":"query-name","id":2}',
    b'{"execute":"query-name","exec-oob":"query-name","id":2}',
    b'{"execute":"query-name"}{"execute":"query-name","id":2}',
    b'{"execute":\n"query-name",\t"id"\r\n:2}',
    b'{"execute":"query-\\u006eame","id":"\\ud83d\\ude00"}',
    b'{"execute":"query-name","id":"\\ud83d"}',
    b'{"execute":"query-name","id":"\\u0000"}',
    b'{"execute":"query-name","id":"\\x"}',
    b'{"execute":"query-name","id":01}',
    b'{"execute":"query-name","id":-}',
    b'{"execute":"query-name","id":1.}',
    b'{"execute":"query-name","id":9223372036854775807}',
    b'{"execute":"query-name","id":18446744073709551615}',
    b'{"execute":"query-name","id":1e400}',
    b'{"execute":"query-name","id":"\xc3\xa9"}',
    b'{"execute":"query-name","id":"\xc3"}',
    b'{"execute":"query-name","id":"\xed\xa0\x80"}',
    b'{"execute":"query-name","id":"\xc0\x80"}',
    b"\xff",
    b'{"execute":\xff',
    b'{"execute":"\xff',
    b"\x00",
    b"\x01\x02\x03",
    b"",
    b"   \t \r\n  ",
    b'{"execute":"query-name","arguments":{"a":1},"id":1}',
]
