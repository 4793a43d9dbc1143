# SPDX-License-Identifier: BSD-3-Clause
"""Processors by name: what libvirt offers, what it starts, and what it finds that guests got.

Hosts of tests have few features: of each model some are missing, which the emulator says.
"""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from domain import QEMU, Domain

if QEMU:
    pytest.skip("what ebb says of its own models", allow_module_level=True)

# Of QEMU's names, those that libvirt has others for.
LIBVIRT_NAMES = {"tsc-adjust": "tsc_adjust", "lahf-lm": "lahf_lm", "pclmulqdq": "pclmuldq"}


def cpu_domain(daemon, name, cpu, append="test=cpus cpus=2"):
    domain = Domain(daemon, name, "q35", append, small=True)
    for path in ("cpu", "maxMemory"):
        domain.xml.remove(domain.xml.find(path))
    for memory in domain.devices.findall("memory"):
        domain.devices.remove(memory)
    domain.xml.append(ElementTree.fromstring(cpu))
    return domain


def custom(model, disabled=(), check=""):
    features = "".join(f"<feature policy='disable' name='{f}'/>" for f in disabled)
    check = f"check='{check}'" if check else ""
    return f"""<cpu mode='custom' match='exact' {check}>
        <model fallback='forbid'>{model}</model>{features}</cpu>"""


def missing_of(daemon, model):
    """What the host lacks of MODEL, in libvirt's names; any machine tells."""
    asker = cpu_domain(daemon, "asker", "<cpu mode='host-passthrough'/>", "test=echo")
    asker.define()
    asker.virsh("start", "--paused")
    models = {d["name"]: d for d in asker.qmp("query-cpu-definitions")}
    asker.virsh("destroy")
    asker.virsh("undefine")
    names = models[model]["unavailable-features"]
    return [LIBVIRT_NAMES.get(n, n) for n in names if not n.startswith("kvm")]


def live_cpu(domain):
    """{feature: policy} of the processor that the guest has."""
    root = ElementTree.fromstring(domain.virsh("dumpxml", "--xpath", "//cpu"))
    assert root.get("check") == "full", "libvirt did not look at what the guest got"
    return {f.get("name"): f.get("policy") for f in root.iter("feature")}


def test_capabilities(daemon):
    """All models are listed, usable or not, and why not; all modes are there."""
    words = ["--emulatorbin", str(daemon.emulator), "--machine", "q35"]
    cpu = ElementTree.fromstring(daemon.virsh("domcapabilities", *words)).find("cpu")
    modes = {mode.get("name"): mode for mode in cpu.iter("mode")}
    assert all(mode.get("supported") == "yes" for mode in modes.values())
    usable = {m.text: m.get("usable") for m in modes["custom"].iter("model")}
    assert {"kvm64", "Skylake-Server", "EPYC-Milan", "Opteron_G5"} <= set(usable)
    assert set(usable.values()) <= {"yes", "no"}
    missing = set(missing_of(daemon, "Haswell"))
    assert (usable["Haswell"] == "no") == bool(missing)
    for blockers in modes["custom"].iter("blockers"):  # of 11.3
        assert usable[blockers.get("model")] == "no"
        if blockers.get("model") == "Haswell":
            assert {f.get("name") for f in blockers.iter("feature")} == missing


def test_exact(daemon):
    """A model without what the host lacks: the guest has the rest, and libvirt sees that it has."""
    missing = missing_of(daemon, "Westmere")
    domain = cpu_domain(daemon, "exact", custom("Westmere", missing), "test=cpus cpus=2 end=spin")
    domain.start(r"^told 206c1 \S+ Westmere E56xx")
    features = live_cpu(domain)
    assert all(features[name] == "disable" for name in missing)
    assert features["hypervisor"] == "require"
    assert not [f for f, policy in features.items() if policy == "disable" and f not in missing]
    domain.virsh("destroy")


def test_more_than_the_host(daemon):
    """A model that the host does not have all of: the guest goes without, or is not started."""
    domain = cpu_domain(daemon, "less", custom("IvyBridge", check="none"), "test=echo")
    lacks = missing_of(daemon, "IvyBridge")
    domain.define()
    domain.virsh("start", "--paused")
    features = live_cpu(domain)
    assert all(features[name] == "disable" for name in lacks)
    domain.virsh("destroy")
    if lacks:
        full = cpu_domain(daemon, "full", custom("IvyBridge", check="full"), "test=echo")
        full.define()
        words = full.refused("start")
        assert re.search("guest CPU doesn't match specification.*missing features", words), words


def test_host_model(daemon):
    """The host's features by way of the nearest model; none of them is missing in the guest."""
    domain = cpu_domain(daemon, "model", "<cpu mode='host-model'/>", "test=echo").define()
    domain.virsh("start", "--paused")
    log = daemon.guest_log(domain.name)
    assert re.search(r"^-cpu [A-Za-z0-9_-]+,", log, re.MULTILINE), log
    assert "goes without" not in log
    features = live_cpu(domain)
    assert "require" in features.values()
    domain.virsh("destroy")
