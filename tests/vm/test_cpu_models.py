# SPDX-License-Identifier: BSD-3-Clause
"""CPU models by name: what a guest is told of one, what the host lacks, and QEMU's answers."""

import re

import pytest

import qemu
from ebbvm import Machine, passed, run_guest
from qmp import QmpError

SMALL = ["-m", "64M"]
FIRST = re.compile(r"^told ([0-9a-f]+) (\S+) (.*?)\s*$", re.MULTILINE)
# Of what both know: model numbers, not those of this host. Debian's QEMU has no others.
IDENTITY = ("family", "model", "stepping", "model-id")
# What is QEMU's alone: of VIA's processors, and an MSR that KVM does not offer.
NOT_OURS = {"split-lock-detect"}


def told(folder, model):
    """(signature, maker, name) as a guest reads them."""
    text = run_guest(folder, "test=cpus cpus=1", [*SMALL, "-cpu", model])
    passed(text)
    return FIRST.search(text).groups()


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    place = tmp_path_factory.mktemp("definitions")
    with Machine(place, "test=none", [*SMALL, "-S"], qmp=True) as machine:
        session = machine.qmp()
        models = {d["name"]: d for d in session.execute("query-cpu-definitions")}
        expanded = {
            name: session.call(
                "query-cpu-model-expansion", {"type": "static", "model": {"name": name}}
            )["model"]
            for name in models
        }
        yield models, expanded


@pytest.mark.parametrize(
    "model,signature,name",
    [
        ("Haswell-noTSX", "306c1", "Intel Core Processor (Haswell, no TSX)"),
        ("Skylake-Server,stepping=7,model-id=Mine", "50657", "Mine"),
        ("EPYC-Milan", "a00f11", "AMD EPYC-Milan Processor"),
        ("kvm64", "f61", "Common KVM processor"),
    ],
)
def test_guest_is_told(folder, model, signature, name):
    """The maker is the host's, unless another one is asked for."""
    assert told(folder, model)[::2] == (signature, name)
    assert told(folder, "host")[1] == told(folder, model)[1]
    for vendor in ("GenuineIntel", "AuthenticAMD"):
        assert told(folder, f"{model},vendor={vendor}") == (signature, vendor, name)


def test_warned_and_refused(folder, definitions):
    """What the host lacks: one line of it, none with check=off, and the end with enforce=on."""
    models, _ = definitions
    model = "SapphireRapids"
    missing = models[model]["unavailable-features"]
    assert "amx-tile" in missing, "no host of tests has that"
    for word, warned, status in (("", True, 0), (",check=off", False, 0), (",enforce", False, 1)):
        with Machine(folder, "test=none end=off", [*SMALL, "-cpu", model + word]) as machine:
            assert machine.wait() == status
            text = machine.errors.finish()
        assert ("the guest goes without" in text) == warned, text
        assert ("enforce=on, and this host's KVM does not offer" in text) == bool(status), text
        assert (", amx-tile" in text) == (warned or bool(status)), text


def test_words_of_features(folder, definitions):
    """What a guest has and what it goes without, as words: together they are the model's."""
    models, expanded = definitions
    args = [*SMALL, "-S", "-cpu", "Broadwell"]
    with Machine(folder, "test=none", args, qmp=True) as machine:
        session = machine.qmp()
        path = session.execute("query-cpus-fast")[0]["qom-path"]

        def get(name):
            return session.call("qom-get", {"path": path, "property": name})

        keys = ("cpuid-input-eax", "cpuid-input-ecx", "cpuid-register")
        has, lacks = (
            {tuple(w.get(k) for k in keys): w["features"] for w in get(name)}
            for name in ("feature-words", "filtered-features")
        )
        assert has.keys() == lacks.keys() and not any(has[k] & lacks[k] for k in has)
        assert get("model-id") == expanded["Broadwell"]["props"]["model-id"]
        assert (get("family"), get("model"), get("stepping")) == (6, 61, 2)
        bits = sum(bin(word).count("1") for word in lacks.values())
        again = {"kvmclock"} & set(models["Broadwell"]["unavailable-features"])
        assert bits == len(models["Broadwell"]["unavailable-features"]) + len(again)
        # leaf 7, EBX: fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap
        leaf = (7, 0, "EBX")
        assert has[leaf] | lacks[leaf] == 0x1C0FB9
        assert session.execute("query-hotpluggable-cpus")[0]["type"] == "Broadwell-x86_64-cpu"


def test_base_of_names(definitions):
    models, expanded = definitions
    for name, model in models.items():
        assert model["typename"] == f"{name}-x86_64-cpu"
        assert model["migration-safe"] == (name not in ("host", "max"))
        version = model.get("alias-of", name)
        assert expanded[name]["props"] == expanded[version]["props"]
        assert model["unavailable-features"] == models[version]["unavailable-features"]


def test_unknown_model(folder):
    with Machine(folder, "test=none", [*SMALL, "-S"], qmp=True) as machine:
        with pytest.raises(QmpError, match="there is no model Skylake"):
            machine.qmp().call(
                "query-cpu-model-expansion", {"type": "full", "model": {"name": "Skylake"}}
            )


def test_like_qemu(folder, definitions):
    """Each model that QEMU has: the same versions, numbers and features, but for KVM's defaults."""
    if qemu.missing():
        pytest.skip(qemu.missing())
    models, expanded = definitions
    with qemu.Qemu(folder, ["-machine", "none,accel=tcg"]) as machine, machine.qmp() as session:
        theirs = {d["name"]: d for d in session.execute("query-cpu-definitions")}
        common = set(theirs) & set(models) - {"host", "max"}
        assert len(common) > 100
        for name in sorted(common):
            assert theirs[name].get("alias-of") == models[name].get("alias-of"), name
            model = {"type": "static", "model": {"name": name}}
            their = session.call("query-cpu-model-expansion", model)["model"]["props"]
            our = expanded[name]["props"]
            assert {k: our[k] for k in IDENTITY} == {k: their[k] for k in IDENTITY}, name
            own = {k for k, v in our.items() if v is True}
            other = {k for k, v in their.items() if v is True} - NOT_OURS
            # What TCG leaves out, and KVM's guests have; what KVM's guests have to ask for.
            extra = {k for k in own - other if not k.startswith("kvm")} - {"vme", "x2apic"}
            fewer = other - own - {"svm", "npt", "nrip-save", "svme-addr-chk", "monitor", "acpi"}
            assert not extra and not fewer, (name, extra, fewer)
