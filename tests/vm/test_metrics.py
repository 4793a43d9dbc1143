# SPDX-License-Identifier: BSD-3-Clause
"""Metrics: every line of the text, figures against a guest that is known, hostile clients; and the
same figures by query-stats."""

import math
import os
import pathlib
import re
import socket
import subprocess
import time

import pytest

from ebbvm import EBB, GUEST, TIMEOUT_S, Machine, memory_devices

MIB = 1 << 20
CLIENTS_MAX = 8
CLIENT_S = 5  # so long a client has from connecting to having read its answer

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
VALUE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|Inf|NaN)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("",)}

ONE = ["-m", "128M,maxmem=4G", *memory_devices(("1G", "64M", "2M", 0))]


# ---- the text format, as its description has it ----


def parse_labels(text):
    """Labels of a sample, as a dict; the text is what stands between the braces."""
    labels, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"labels {text!r}"
        name, value = match.groups()
        assert name not in labels and not name.startswith("__"), text
        labels[name] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
        at = match.end()
        if at < len(text):
            assert text[at] == ",", text
            at += 1
            assert at < len(text), f"comma at the end: {text!r}"
    return labels


def parse_sample(line, family, kind):
    name = NAME.match(line)
    assert name, line
    assert name[0] in [family + suffix for suffix in SUFFIXES[kind]], f"{line!r} below {family}"
    rest, labels = line[name.end() :], {}
    if rest.startswith("{"):
        end = rest.rindex("}")
        labels, rest = parse_labels(rest[1:end]), rest[end + 1 :]
    assert rest.startswith(" ") and VALUE.fullmatch(rest[1:]), line
    return name[0], labels, float(rest[1:])


def parse(text):
    """Name -> {labels: value} of every sample; AssertionError where the text is wrong."""
    assert text.endswith("\n")
    samples, seen, family, kind, last_help = {}, set(), None, None, None
    for line in text[:-1].split("\n"):
        assert line == line.strip() and line, repr(line)
        if line.startswith("# HELP "):
            last_help, words = line.split(" ", 3)[2:]
            assert NAME.fullmatch(last_help) and words.endswith("."), line
            assert last_help not in seen, f"{last_help} stands in two places"
        elif line.startswith("# TYPE "):
            family, kind = line.split(" ")[2:]
            assert family == last_help and kind in SUFFIXES, line
            seen.add(family)
            assert (kind == "counter") == family.endswith("_total"), line
        else:
            assert not line.startswith("#"), line
            name, labels, value = parse_sample(line, family, kind)
            key = tuple(sorted(labels.items()))
            assert key not in samples.setdefault(name, {}), f"twice: {line!r}"
            samples[name][key] = value
            assert kind == "gauge" or value >= 0, line
    for family in seen:
        if family + "_bucket" in samples:
            check_histogram(family, samples)
    return samples


def check_histogram(family, samples):
    """Buckets that only grow, up to the count; a sum that can be."""
    series = {}
    for key, value in samples[family + "_bucket"].items():
        labels = dict(key)
        bound = math.inf if labels["le"] == "+Inf" else float(labels["le"])
        del labels["le"]
        series.setdefault(tuple(sorted(labels.items())), []).append((bound, value))
    assert set(series) == set(samples[family + "_sum"]) == set(samples[family + "_count"])
    for labels, buckets in series.items():
        assert buckets == sorted(buckets), "bounds out of order"
        bounds, counts = zip(*buckets)
        assert len(set(bounds)) == len(bounds) and bounds[-1] == math.inf
        assert list(counts) == sorted(counts)
        assert counts[-1] == samples[family + "_count"][labels]
        low, below = 0, 0
        least = most = 0
        for bound, count in buckets:
            least += (count - below) * low
            most += (count - below) * bound if count > below else 0
            low, below = bound, count
        assert least <= samples[family + "_sum"][labels] <= most


def one(samples, metric, **labels):
    """The value of the only sample of METRIC that has LABELS."""
    found = [v for key, v in samples[metric].items() if labels.items() <= dict(key).items()]
    assert len(found) == 1, (metric, labels, samples.get(metric))
    return found[0]


# ---- a client ----


def connect(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))
    sock.settimeout(TIMEOUT_S)
    return sock


def read_all(sock):
    """Everything until the other side ends."""
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def ask(path, request=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
    """(status, headers, content) of the answer to the bytes REQUEST."""
    with connect(path) as sock:
        sock.sendall(request)
        data = read_all(sock)
    head, _, content = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines)
    if not request.startswith(b"HEAD"):
        assert int(headers["Content-Length"]) == len(content)
    return int(status), headers, content.decode()


def scrape(path):
    status, headers, content = ask(path)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parse(content)


class Vm(Machine):
    def __init__(self, folder, args=None, append="test=vmem-follow", **more):
        self.path = pathlib.Path(folder, "metrics.sock")
        args = [*(args or ONE), "-metrics", self.path]
        super().__init__(folder, append, args, monitor=True, qmp=True, **more)


# ---- figures ----


def test_figures(folder):
    """Each is what the guest did."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        m = scrape(vm.path)
        assert one(m, "ebb_vm_state", state="running") == 1
        assert sum(m["ebb_vm_state"].values()) == 1
        assert one(m, "ebb_boot_memory_bytes", node="0") == 128 * MIB
        assert one(m, "ebb_vcpus") == 1
        for name, size in (("plugged", 64), ("requested", 64), ("region", 1024), ("block", 2)):
            value = one(m, f"ebb_memory_device_{name}_bytes", device="d0", node="0")
            assert value == size * MIB, name
        assert one(m, "ebb_memory_device_driver_ready") == 1
        assert one(m, "ebb_memory_device_request_status", status="done") == 1
        assert one(m, "ebb_memory_device_resident_bytes") == 0
        plugs = one(m, "ebb_memory_device_requests_total", request="plug", answer="ack")
        assert plugs >= 1
        vm.type("touch 0")
        vm.console.expect("^touched 0 pages=16384$")
        monitor = vm.monitor()
        monitor.run("virtio-mem d0 32 -w")
        monitor.run("stop")
        m = scrape(vm.path)
        assert one(m, "ebb_vm_state", state="paused") == 1
        assert one(m, "ebb_memory_device_plugged_bytes") == 32 * MIB
        assert one(m, "ebb_memory_device_plug_bytes_total") == 64 * MIB
        assert one(m, "ebb_memory_device_unplug_bytes_total") == 32 * MIB
        assert one(m, "ebb_memory_device_reset_bytes_total") == 0
        assert one(m, "process_resident_memory_bytes") >= 32 * MIB
        unplugs = one(m, "ebb_memory_device_requests_total", request="unplug", answer="ack")
        duration = "ebb_memory_device_request_duration_seconds"
        assert one(m, f"{duration}_count", request="unplug") == unplugs == 1
        assert one(m, f"{duration}_count", request="plug") == plugs
        assert one(m, f"{duration}_sum", request="plug") > 0
        # Memory is not counted more often than once a second.
        monitor.wait_for(
            lambda: one(scrape(vm.path), "ebb_memory_device_resident_bytes"),
            lambda size: size == 32 * MIB,
            "what the host holds is not what the guest touched and has",
        )


def schemas(ctl):
    """Target -> figure -> its schema."""
    answer = ctl.execute("query-stats-schemas")
    return {a["target"]: {s["name"]: s for s in a["stats"]} for a in answer}


def check_values(stats, schema):
    """Just the figures of the schema, each in the form that it has there."""
    assert set(stats) == set(schema)
    for name, value in stats.items():
        assert isinstance(value, list) == schema[name]["type"].endswith("histogram"), name
        assert isinstance(value, bool) == (schema[name].get("unit") == "boolean"), name


def test_stats_are_the_same(folder):
    """query-stats, its schema, and the text."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        ctl = vm.qmp()
        result = ctl.execute("query-stats", target="virtio-mem")
        assert [r["qom-path"] for r in result] == ["/machine/peripheral/d0/virtio-backend"]
        stats = {s["name"]: s["value"] for s in result[0]["stats"]}
        schema = schemas(ctl)["virtio-mem"]
        # The device takes no size requests.
        asked = ("size-", "request-", "owner-")
        check_values(stats, {n: s for n, s in schema.items() if not n.startswith(asked)})
        m = scrape(vm.path)
        for kind in ("plug", "unplug", "unplug-all", "state", "other"):
            answers = {}
            for answer in ("ack", "nack", "busy", "error", "broken"):
                answers[answer] = stats[f"{kind}-{answer}"]
                assert answers[answer] == one(
                    m, "ebb_memory_device_requests_total", request=kind, answer=answer
                )
            assert sum(stats[f"{kind}-latency"]) == sum(answers.values())
        picked = ctl.execute(
            "query-stats",
            target="virtio-mem",
            devices=["d0"],
            providers=[{"provider": "virtio-mem", "names": ["plugged-size"]}],
        )
        assert picked[0]["stats"] == [{"name": "plugged-size", "value": 64 * MIB}]
        other = [{"provider": "kvm"}]
        assert ctl.execute("query-stats", target="virtio-mem", providers=other) == []
        wrong = {"target": "virtio-mem", "devices": ["x"]}
        assert ctl.error("query-stats", wrong).error_class == "DeviceNotFound"


def test_stats_of_kvm(folder):
    """What the kernel counts, of the machine and of each vCPU, while they run."""
    with Vm(folder, ["-m", "64M", "-smp", "3"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        ctl = vm.qmp()
        schema = schemas(ctl)
        if "vcpu" not in schema:
            pytest.skip("this kernel does not tell what it counts")
        result = ctl.execute("query-stats", target="vm")
        assert len(result) == 1 and "qom-path" not in result[0]
        check_values({s["name"]: s["value"] for s in result[0]["stats"]}, schema["vm"])
        paths = [cpu["qom-path"] for cpu in ctl.execute("query-cpus-fast")]
        result = ctl.execute("query-stats", target="vcpu")
        assert [r["qom-path"] for r in result] == paths and len(paths) == 3
        for r in result:
            check_values({s["name"]: s["value"] for s in r["stats"]}, schema["vcpu"])
        picked = ctl.execute(
            "query-stats",
            target="vcpu",
            vcpus=paths[:1],
            providers=[{"provider": "kvm", "names": ["exits"]}],
        )
        assert [r["qom-path"] for r in picked] == paths[:1]
        assert [s["name"] for s in picked[0]["stats"]] == ["exits"]
        assert picked[0]["stats"][0]["value"] > 0
        assert ctl.execute("query-stats", target="vcpu", vcpus=["/nowhere"]) == []
        human = vm.monitor()
        assert "exits (cumulative): " in human.run("info stats vcpu")
        assert "allowed are vm, vcpu" in human.run("info stats disk")


def test_blocks(folder):
    """The map of blocks: what is plugged is where the guest put it."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        ctl = vm.qmp()
        blocks = ctl.execute("query-virtio-mem-blocks", device="d0", cells=512)
        assert blocks["block-size"] == blocks["cell-size"] == 2 * MIB
        assert blocks["region-size"] == 1024 * MIB
        assert blocks["cells"] == [2 * MIB] * 32 + [0] * 480
        for cells in (1, 3, 100, 4096):
            blocks = ctl.execute("query-virtio-mem-blocks", device="d0", cells=cells)
            assert len(blocks["cells"]) <= cells
            assert len(blocks["cells"]) * blocks["cell-size"] == 1024 * MIB
            assert sum(blocks["cells"]) == 64 * MIB
        for cells in (0, -1, 4097):
            wrong = {"device": "d0", "cells": cells}
            assert "4096" in ctl.error("query-virtio-mem-blocks", wrong).desc
        assert ctl.error("query-virtio-mem-blocks", {"device": "x"}).error_class == (
            "DeviceNotFound"
        )
        assert "####" in vm.monitor().run("info virtio-mem-blocks d0 64")


def test_devices_and_nodes(folder):
    """Each series is there once, also of devices without an id."""
    args = ["-m", "128M,maxmem=6G", "-smp", "2"]
    args += ["-numa", "node,nodeid=0,cpus=0", "-numa", "node,nodeid=1,cpus=1"]
    args += memory_devices(*[("256M", "0", "2M", i % 2) for i in range(3)])
    args += ["-object", "memory-backend-ram,id=d1x,size=64M"]
    args += ["-device", "virtio-mem-pci,memdev=d1x,node=1"]
    with Vm(folder, args, "test=vmem-follow devices=4") as vm:
        vm.console.expect("^follow: ready$")
        m = scrape(vm.path)
        labels = [dict(key) for key in m["ebb_memory_device_plugged_bytes"]]
        assert [(d["device"], d["node"]) for d in labels] == [
            ("d0", "0"),
            ("d1", "1"),
            ("d2", "0"),
            ("memdev:d1x", "1"),
        ]


def test_no_devices(folder):
    """A name that has to be escaped."""
    name = 'a "guest"\\n'
    with Vm(folder, ["-m", "64M", "-name", f"guest={name}"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        m = scrape(vm.path)
        assert one(m, "ebb_guest_info", name=name) == 1
        assert "ebb_memory_device_plugged_bytes" not in m


# ---- requests ----


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\nHost: x\n\n", 200),
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1 x\r\n\r\n", 400),
        (b"GET /met\0rics HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\n\n", 400),
        (b"\xff\xfe\xfd\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 20000, 431),
    ],
)
def test_requests(folder, request_bytes, status):
    with Vm(folder, ["-m", "64M"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        got, headers, content = ask(vm.path, request_bytes)
        assert got == status
        assert bool(content) == (status == 200 and not request_bytes.startswith(b"HEAD"))
        assert headers["Connection"] == "close"
        scrape(vm.path)


def test_curl(folder):
    """A client that everybody has."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        words = ["curl", "-sS", "--fail", "--unix-socket", vm.path, "http://localhost/metrics"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
        except FileNotFoundError:
            pytest.skip("there is no curl")
        assert done.returncode == 0, done.stderr
        assert one(parse(done.stdout), "ebb_memory_device_plugged_bytes") == 64 * MIB


def test_byte_by_byte(folder):
    """A request that comes in pieces is one."""
    with Vm(folder, ["-m", "64M"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        with connect(vm.path) as sock:
            for byte in b"GET /metrics HTTP/1.1\r\n\r\n":
                sock.sendall(bytes([byte]))
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")


def test_half_closed(folder):
    """A client that has said all is answered nevertheless."""
    with Vm(folder, ["-m", "64M"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        with connect(vm.path) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")


# ---- hostile clients ----


def descriptors(vm):
    return len(os.listdir(f"/proc/{vm.process.pid}/fd"))


def test_silent_clients(folder):
    """They are dropped when their time is over, and those behind them have their turn; meanwhile the
    monitor answers, and afterwards nothing is left of them."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        monitor = vm.monitor()
        before = descriptors(vm)
        silent = [connect(vm.path) for _ in range(CLIENTS_MAX)]
        # Halves of a request, and none.
        for sock in silent[::2]:
            sock.sendall(b"GET /metr")
        start = time.monotonic()
        with connect(vm.path) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert "running" in monitor.run("info status")
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - start > CLIENT_S / 2
        for sock in silent:
            assert read_all(sock) == b""
            sock.close()
        monitor.wait_for(lambda: descriptors(vm), lambda n: n == before, "descriptors are left")


def test_clients_that_never_read(folder):
    """Their answers stay with them; others get theirs."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        monitor = vm.monitor()
        before = descriptors(vm)
        deaf = []
        for _ in range(CLIENTS_MAX - 1):
            sock = connect(vm.path)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            deaf.append(sock)
        for _ in range(5):
            scrape(vm.path)
            assert "running" in monitor.run("info status")
        for sock in deaf:
            sock.close()
        monitor.wait_for(lambda: descriptors(vm), lambda n: n == before, "descriptors are left")


def test_clients_that_leave(folder):
    """In the middle of a request, and of an answer."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        monitor = vm.monitor()
        before = descriptors(vm)
        for turn in range(100):
            with connect(vm.path) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n"[: turn % 30])
        # They are in the queue in front of this one.
        scrape(vm.path)
        monitor.wait_for(lambda: descriptors(vm), lambda n: n == before, "descriptors are left")


def test_ends_with_clients(folder):
    """Clients in every state do not keep a machine from its end; the socket goes with it."""
    with Vm(folder) as vm:
        vm.console.expect("^follow: ready$")
        socks = [connect(vm.path) for _ in range(4)]
        socks[0].sendall(b"GET /met")
        socks[1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        vm.monitor().send("quit")
        assert vm.wait() == 0
        assert not vm.path.exists()
        for sock in socks:
            sock.close()


# ---- the socket ----


def test_stale_socket(folder):
    """One that a process left behind is replaced; one that is in use is not, nor is a file."""
    path = pathlib.Path(folder, "metrics.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(1)
        argv = [EBB, "-enable-kvm", "-nodefaults", "-display", "none", "-S", "-m", "64M"]
        argv += ["-kernel", GUEST, "-metrics", path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 1 and f"listens on '{path}'" in done.stderr
        assert path.exists()
    with Vm(folder, ["-m", "64M"], "test=echo") as vm:
        vm.console.expect("^echo: ready$")
        scrape(vm.path)
    path.unlink()
    path.write_text("precious")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1 and "not a socket" in done.stderr
    assert path.read_text() == "precious"


def test_off_by_default(folder):
    with Machine(folder, "test=echo", ["-m", "64M"]) as machine:
        machine.console.expect("^echo: ready$")
        assert not list(pathlib.Path(folder).iterdir())
