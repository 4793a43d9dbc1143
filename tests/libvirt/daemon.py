# SPDX-License-Identifier: BSD-3-Clause
"""A libvirtd of a test's own: its configuration, sockets, guests and logs lie in one folder.

Daemon(version, folder) is qemu:///system when the tests run as root: libvirtd with mounts of its
own (warden.py), in which FOLDER's folders lie over /etc/libvirt, /run/libvirt, /var/lib/libvirt and
the like, so neither the machine's libvirt nor another test's has anything to do with it. With
session=True, and always without root, it is qemu:///session of an unprivileged user.

I1. Everything started is ended when the `with` block ends, and also when the test's process is
    killed: the warden sees to it.
I2. Waits are for events and have a time limit. What went wrong is said in virsh's words, with the
    end of the guest's log.
I3. A virsh of the daemon's own version speaks to it.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import uuid

import ebbcache
from console import Console
from ebbvm import EBB, GUEST, TIMEOUT_S
from events import Events
from shell import Shell, Terminal

HERE = pathlib.Path(__file__).resolve().parent
# Debian's libvirt, which is installed, and that of its backports, which is fetched.
VERSIONS = ("9.0", "11.3")
INSTALLED = "9.0"
# Another emulator under the same libvirt, to see what a test means by QEMU's answer to it.
EMULATOR = pathlib.Path(os.environ.get("EBB_EMULATOR", EBB))
# What libvirt starts guests as, where it is told to: its user has this number in all of Debian.
USER = "libvirt-qemu"
USER_ID = 64055
PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
SHOWN_LINES = 12


class VirshError(AssertionError):
    """A command of virsh that failed; `words` is what virsh said."""

    def __init__(self, text, words):
        super().__init__(text)
        self.words = words


class Warden:
    """The process in which all of a daemon's lie; see warden.py."""

    def __init__(self, folder, private):
        words = ["unshare", "--mount", "--uts", "--propagation", "private"] if private else []
        self._process = subprocess.Popen(
            [*words, sys.executable, "-B", str(HERE / "warden.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._answer("its start")

    @property
    def pid(self):
        return self._process.pid

    def _answer(self, what):
        ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"the warden does not answer to {what}")
        line = self._process.stdout.readline()
        if not line:
            raise ConnectionError(f"the warden ended at {what}")
        answer = json.loads(line)
        if answer[0] == "error":
            raise OSError(f"{what}: {answer[1]}")
        return answer[1:]

    def order(self, *words):
        self._process.stdin.write(json.dumps(words, default=str).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer(words[:2])

    def close(self):
        self._process.stdin.close()
        self._process.wait(TIMEOUT_S)
        self._process.stdout.close()


def wait_gone(pid, what, timeout=TIMEOUT_S):
    """Wait until process PID ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout)[0], f"{what} (process {pid}) does not end"
    finally:
        os.close(fd)


def fetched(version):
    """The folder of VERSION where it is not the installed one (tools/nest/libvirt_run.sh is its run)."""
    return None if version == INSTALLED else ebbcache.part_dir(f"libvirt/{version}")


def conf_text(settings):
    """SETTINGS in the form of libvirt's configuration files."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


class Daemon:
    """A libvirtd. `uri` is its address, `events` what it told since it was started."""

    def __init__(self, version, folder, user=None, session=False, qemu_conf=(), libvirtd_conf=()):
        self.version = version
        self.folder = pathlib.Path(folder)
        self.session = session or os.geteuid() != 0
        self.user = user
        self.events = None
        self._part = fetched(version)
        self._virsh = [str(self._part / "run"), "virsh"] if self._part else ["/usr/bin/virsh"]
        self._qemu_conf = dict(qemu_conf)
        self._libvirtd_conf = dict(libvirtd_conf)
        self._consoles = []
        self._warden = None
        self._pid = None
        self.folder.chmod(0o711)
        for name in (*PLACES, "bin", "home", "images"):
            (self.folder / name).mkdir(exist_ok=True)
        # QEMU looks for its parts beside itself.
        self.emulator = self._copy(EBB) if EMULATOR == EBB else EMULATOR
        self.guest = self._copy(GUEST)
        self._configure()

    def _copy(self, program):
        """PROGRAM within the folder: guests of other users reach it, and a test may change it."""
        path = self.folder / "bin" / program.name
        shutil.copy2(program, path)
        path.chmod(0o755)
        return path

    def _configure(self):
        owner = self.user or "root"
        qemu = {"stdio_handler": "file", "cgroup_controllers": []}
        if not self.session:
            qemu.update(user=owner, group=owner)
        libvirtd = {
            "host_uuid": str(uuid.uuid4()),
            "log_filters": "1:qemu 1:util.command 4:object 4:json 4:event",
            "log_outputs": f"1:file:{self.folder}/log/libvirtd.log",
        }
        if not self.session:
            libvirtd["auth_unix_rw"] = "none"
        etc = self.folder / ("home/config/libvirt" if self.session else "etc")
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "qemu.conf").write_text(conf_text({**qemu, **self._qemu_conf}))
        (etc / "libvirtd.conf").write_text(conf_text({**libvirtd, **self._libvirtd_conf}))
        self._conf = etc / "libvirtd.conf"

    # Paths.

    @property
    def home(self):
        return self.folder / "home"

    @property
    def socket(self):
        if self.session:
            return self.home / "run/libvirt/libvirt-sock"
        return self.folder / "run/libvirt-sock"

    @property
    def uri(self):
        kind = "session" if self.session else "system"
        return f"qemu:///{kind}?socket={self.socket}"

    @property
    def guest_logs(self):
        """The folder of what guests' emulators said: one file a guest, NAME.log."""
        return self.home / "cache/libvirt/qemu/log" if self.session else self.folder / "log/qemu"

    def guest_log(self, name):
        path = self.guest_logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def guest_pid(self, name):
        """The emulator's process of guest NAME."""
        run = self.home / "run/libvirt/qemu/run" if self.session else self.folder / "run/qemu"
        return int((run / f"{name}.pid").read_text())

    def emulators(self):
        """The emulators that run, whatever libvirtd knows of them."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if os.readlink(entry / "exe").startswith(str(self.emulator)):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    @property
    def pid(self):
        """libvirtd's process."""
        return self._pid

    # The daemon.

    def __enter__(self):
        private = os.geteuid() == 0
        self._warden = Warden(self.folder, private)
        try:
            if private:
                self._mount()
            self.start()
        except BaseException:
            self._warden.close()
            raise
        return self

    def __exit__(self, *_):
        self._leave()
        self._warden.close()

    def _mount(self):
        order = self._warden.order
        for name, path in PLACES.items():
            pathlib.Path(path).mkdir(parents=True, exist_ok=True)
            order("mount", self.folder / name, path)
        if self._part:
            self._mount_part()
        # Guests move between hosts of different names only.
        order("hostname", self.folder.name)
        self._add_host(self.folder.name)
        self._add_user("passwd", f"{USER}:x:{USER_ID}:{USER_ID}::/nonexistent:/usr/sbin/nologin")
        self._add_user("group", f"{USER}:x:{USER_ID}:")
        order("kvm")
        if self.session:
            for path in (self.home, *self.home.rglob("*"), self.folder / "log"):
                os.chown(path, USER_ID, USER_ID)

    def _mount_part(self):
        """A fetched libvirt where every user reaches it, and where it looks for its parts."""
        order = self._warden.order
        place = self.folder / "libvirt"
        place.mkdir()
        order("mount", self._part, place)
        order("mount", self._part, "/usr/lib/libvirt")
        order("mount", self._part / "share", "/usr/share/libvirt")
        if pathlib.Path("/usr/sbin/virtlogd").exists():
            order("mount", self._part / "run", "/usr/sbin/virtlogd")

    def _libvirtd(self):
        if not self._part:
            return ["/usr/sbin/libvirtd"]
        inside = self.folder / "libvirt"
        return [(inside if inside.exists() else self._part) / "run", "libvirtd"]

    def _add_user(self, file, line):
        lines = pathlib.Path("/etc", file).read_text().splitlines()
        if not any(have.startswith(f"{USER}:") for have in lines):
            lines.append(line)
        path = self.folder / file
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        self._warden.order("mount", path, f"/etc/{file}")

    def _add_host(self, name):
        """NAME is this host's, which is looked up nowhere else."""
        path = self.folder / "hosts"
        path.write_text(pathlib.Path("/etc/hosts").read_text() + f"\n127.0.0.1 {name}\n")
        path.chmod(0o644)
        self._warden.order("mount", path, "/etc/hosts")

    def _environment(self):
        env = {**os.environ, "LC_ALL": "C", "XDG_DATA_HOME": str(self.home / "data")}
        if self.session:
            env["HOME"] = str(self.home)
            for name in ("CONFIG", "CACHE"):
                env[f"XDG_{name}_HOME"] = str(self.home / name.lower())
            env["XDG_RUNTIME_DIR"] = str(self.home / "run")
        return env

    def start(self):
        """Returns once libvirtd serves its socket, and guests that it had before are its again."""
        if self.session:
            (self.home / "run").mkdir(mode=0o700, exist_ok=True)
        owner = USER_ID if self.session and os.geteuid() == 0 else None
        if owner:
            os.chown(self.home / "run", owner, owner)
        pid_file = self.home / "libvirtd.pid" if self.session else self.folder / "run/libvirtd.pid"
        argv = [*self._libvirtd(), "--daemon", "--config", self._conf, "--pid-file", pid_file]
        log = self.folder / "start.log"
        order = [list(map(str, argv)), self._environment(), owner, owner, str(log)]
        (status,) = self._warden.order("run", *order)
        assert status == 0, f"libvirtd ended with status {status}: {log.read_text()}"
        self._pid = int(pid_file.read_text())
        self.events = Events(self.uri)

    def host_starts(self):
        """What a start of the host means to libvirtd, which is ended: /run does not say that domains
        were started already."""
        for note in (self.socket.parent / "qemu").rglob("autostarted"):
            note.unlink()

    def _leave(self):
        for console in self._consoles:
            console.close()
        self._consoles = []
        if self.events:
            self.events.close()
        self.events = None

    def kill(self, signo):
        """End libvirtd by a signal; its guests stay."""
        os.kill(self._pid, signo)
        wait_gone(self._pid, "libvirtd")
        self._leave()

    # Its client.

    def _run(self, words, timeout):
        argv = [*self._virsh, "-q", "-c", self.uri, *map(str, words)]
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=timeout or TIMEOUT_S,
            check=False,
        )

    @contextlib.contextmanager
    def spawn(self, *words):
        """`virsh WORDS` as a process, for those who do something meanwhile."""
        process = subprocess.Popen(
            [*self._virsh, "-q", "-c", self.uri, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def virsh(self, *words, timeout=None):
        """What `virsh WORDS` printed; VirshError when it failed."""
        done = self._run(words, timeout)
        if done.returncode == 0:
            return done.stdout
        logs = "".join(
            f"\n----- the end of {path.name}\n"
            + "\n".join(line[:1000] for line in path.read_text().splitlines()[-SHOWN_LINES:])
            for path in sorted(self.guest_logs.glob("*.log"))
            if path.stem in map(str, words)
        )
        said = " ".join(line for line in done.stderr.splitlines() if line)
        raise VirshError(f"virsh {' '.join(map(str, words))}: {said}{logs}", said)

    def refused(self, *words, timeout=None):
        """What virsh said of WORDS, which must fail."""
        try:
            out = self.virsh(*words, timeout=timeout)
        except VirshError as error:
            return error.words
        raise AssertionError(f"virsh {' '.join(map(str, words))} was not refused: {out}")

    def names(self, *words):
        """The names of the domains that there are; WORDS as of `virsh list`."""
        return self.virsh("list", "--name", *(words or ("--all",))).split()

    def clear(self):
        """End and forget all domains, by force."""
        for console in self._consoles:
            console.close()
        self._consoles = []
        active = ("--state-running", "--state-paused", "--state-other")
        for name in self.names(*active):
            self._run(("destroy", name), None)  # which may have ended by itself
        left = self.names(*active)
        assert not left, f"{', '.join(left)} cannot be ended"
        for name in self.names():
            self.virsh("undefine", name, "--managed-save")
        self.events.mark()

    def shell(self):
        """One virsh for many commands, over one connection."""
        return Shell([*self._virsh, "-q", "-c", self.uri])

    def terminal(self, *words):
        """`virsh WORDS` on a terminal."""
        return Terminal([*self._virsh, "-c", self.uri, *map(str, words)])

    def console(self, name):
        """The console of guest NAME, closed with the daemon at the latest."""
        console = Console(self.uri, name)
        self._consoles.append(console)
        return console
